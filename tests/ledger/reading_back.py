"""What a committed reader sees."""

import asyncio

from agents.ledger.kafka import KafkaLog
from agents.ledger.log import Place


async def committed(log: KafkaLog, place: Place, seconds: float = 5) -> list[bytes | None]:
    """The committed records up to the high watermark; TimeoutError where it is not reached."""
    reader, ends = log.reader(), log.end_offsets()
    try:
        end = (await ends.high_watermarks([place]))[place]
        feed = reader.open(place, 0, lambda: None)
        values: list[bytes | None] = []
        async with asyncio.timeout(seconds):
            while feed.reached < end:
                await asyncio.sleep(0.005)
                values += [record.value for piece in feed.take_all() for record in piece]
        return values
    finally:
        await reader.close()
        await ends.close()
