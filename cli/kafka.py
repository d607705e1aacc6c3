"""Reading topics to their present end, for commands that show what is there."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Literal, TypeAlias

from aiokafka import AIOKafkaConsumer, ConsumerRecord
from aiokafka import TopicPartition as Place

from cli.context import Deployment
from cli.errors import Trouble
from deployment.catalog import Topic
from deployment.topics import verify
from schemas.limits import CLI_POLL_MS, CLI_STALL_MS_MAX, SECOND_MS

Record: TypeAlias = "ConsumerRecord[bytes | None, bytes | None]"


@asynccontextmanager
async def reading(
    deployment: Deployment,
    isolation: Literal["read_committed", "read_uncommitted"] = "read_committed",
) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer without a group; offsets outside a topic raise instead of jumping."""
    consumer = AIOKafkaConsumer(
        **deployment.kafka,
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="none",
        isolation_level=isolation,
        client_id="realname-cli",
    )
    try:
        await consumer.start()
        yield consumer
    finally:
        await consumer.stop()


async def places_of(deployment: Deployment, topics: Iterable[Topic]) -> list[Place]:
    """All partitions of the topics, which are there: asking for others would wait for ever.

    Raises TopicsUnfit.
    """
    await verify(deployment.brokers, deployment.catalog, options=deployment.options)
    return [Place(topic.wire, one) for topic in topics for one in range(topic.partitions)]


async def whole(
    consumer: AIOKafkaConsumer,
    places: list[Place],
    *,
    since_ms: int | None = None,
    told: Callable[[int], None] = lambda records: None,
) -> AsyncIterator[Record]:
    """Every record of these places up to their present ends, in order a place.

    `since_ms` (Unix milliseconds) leaves out what the broker got earlier; `told` hears how many
    records came with each fetch. Raises Trouble when nothing comes for too long.
    """
    consumer.assign(places)
    ends = await consumer.end_offsets(places)
    for place, offset in (await starts(consumer, places, since_ms, ends)).items():
        consumer.seek(place, offset)
    async for record in until(consumer, ends, told):
        yield record


async def starts(
    consumer: AIOKafkaConsumer,
    places: list[Place],
    since_ms: int | None,
    ends: Mapping[Place, int],
) -> dict[Place, int]:
    """Where to begin: at a broker time, or where each place begins."""
    if since_ms is None:
        return dict(await consumer.beginning_offsets(places))
    found = await consumer.offsets_for_times(dict.fromkeys(places, since_ms))
    return {place: one.offset if one else ends[place] for place, one in found.items()}


async def until(
    consumer: AIOKafkaConsumer,
    ends: Mapping[Place, int],
    told: Callable[[int], None] = lambda records: None,
) -> AsyncIterator[Record]:
    """From where the consumer stands to `ends`; see `whole`."""

    async def unread() -> dict[Place, int]:
        at = {place: await consumer.position(place) for place in ends}
        return {place: offset for place, offset in at.items() if offset < ends[place]}

    left = await unread()
    heard = time.monotonic()
    while left:
        fetched = await consumer.getmany(*left, timeout_ms=CLI_POLL_MS)
        for place, records in fetched.items():
            told(len(records))
            for record in records:
                if record.offset < ends[place]:
                    yield record
        before, left = left, await unread()
        if left != before:
            heard = time.monotonic()
        elif time.monotonic() - heard > CLI_STALL_MS_MAX / SECOND_MS:
            place = next(iter(left))
            raise Trouble(
                f"{place.topic}/{place.partition} cannot be read to its end: nothing came for "
                f"{CLI_STALL_MS_MAX // SECOND_MS} s",
                "look at the broker's log",
            )
