"""A producer as the contract wants clients to be: idempotent, acknowledged by all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaProducer
from aiokafka.structs import RecordMetadata

from cli.console import remark
from cli.context import Deployment
from cli.errors import Trouble
from schemas.limits import CLI_ACK_MS_MAX, SECOND_MS


@asynccontextmanager
async def producing(deployment: Deployment) -> AsyncIterator[AIOKafkaProducer]:
    """A started producer, stopped at the end; partitions are chosen by its callers."""
    producer = AIOKafkaProducer(
        **deployment.kafka,
        client_id="realname-cli",
        acks="all",
        enable_idempotence=True,
        request_timeout_ms=CLI_ACK_MS_MAX,
    )
    try:
        await producer.start()
        yield producer
    finally:
        # A stop waits for what was not acknowledged, and that may be for ever.
        try:
            async with asyncio.timeout(CLI_ACK_MS_MAX / SECOND_MS):
                await producer.stop()
        except TimeoutError:
            remark("the broker did not answer to the end; some records may yet arrive")


async def acknowledged(sent: Awaitable[RecordMetadata]) -> RecordMetadata:
    """Where a record was written. Raises Trouble when no acknowledgement comes in time."""
    try:
        async with asyncio.timeout(CLI_ACK_MS_MAX / SECOND_MS):
            return await sent
    except TimeoutError:
        raise Trouble(
            f"the broker has not acknowledged a record within {CLI_ACK_MS_MAX // SECOND_MS} s",
            "see `realname status`; the same ids may be sent again, they count once",
        ) from None
