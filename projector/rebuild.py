"""All tables anew from the topics, and how far the tables are behind them."""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition

from deployment.catalog import Catalog
from deployment.topics import verify
from projector.main import run
from projector.migrate import migrate
from projector.store import Place, connect, read_progress, reset
from schemas.limits import PROJECTOR_POLL_MS_MAX

log = structlog.get_logger("projector")


async def committed_ends(
    brokers: str, catalog: Catalog, options: Mapping[str, Any] | None = None
) -> dict[Place, int]:
    """Where the committed records of the output topics end, by topic-partition.

    Raises `TopicsError`, `KafkaError`.
    """
    await verify(brokers, catalog, options=options)
    consumer = AIOKafkaConsumer(
        bootstrap_servers=brokers,
        group_id=None,
        isolation_level="read_committed",
        **(options or {}),
    )
    try:
        await consumer.start()
        places = [
            TopicPartition(topic.wire, partition)
            for topic in catalog.outputs
            for partition in range(topic.partitions)
        ]
        # Assigned, so that the client knows the topics' leaders.
        consumer.assign(places)
        ends = await consumer.end_offsets(places)
    finally:
        await consumer.stop()
    return {(place.topic, place.partition): end for place, end in ends.items()}


async def lag(
    brokers: str, database: str, catalog: Catalog, options: Mapping[str, Any] | None = None
) -> dict[str, int]:
    """Offsets between what the tables hold and the ends of the topics, by logical topic name.

    The tables must be there (any projector makes them). Raises as `committed_ends`, and asyncpg's
    errors.
    """
    ends = await committed_ends(brokers, catalog, options)
    connection = await connect(database)
    try:
        progress = await read_progress(connection)
    finally:
        await connection.close()
    lags = dict.fromkeys((topic.name for topic in catalog.outputs), 0)
    for place, end in ends.items():
        there = progress[place].next_offset if place in progress else 0
        lags[catalog.by_wire[place[0]].name] += max(0, end - there)
    return lags


async def rebuild(
    brokers: str,
    database: str,
    catalog: Catalog,
    *,
    options: Mapping[str, Any] | None = None,
    told: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Empties the tables and returns when they are back at the ends that the topics had then.

    `told` hears of offsets done and in total. A projector at work goes on and does the reading;
    where none is, this does. The emptying is one transaction with the progress: after a crash at
    any point, any projector, or a second rebuild, completes it. Readers see tables that fill up
    again. Raises `ProjectorStopped`, `TopicsError`, `KafkaError`, asyncpg's errors.
    """
    ends = await committed_ends(brokers, catalog, options)
    total = sum(ends.values())
    connection = await connect(database)
    stop = asyncio.Event()
    try:
        await migrate(connection)
        await reset(connection)
        log.info("tables emptied, reading the topics again", offsets=total)
        projecting = asyncio.create_task(run(brokers, database, catalog, stop, options=options))
        try:
            while True:
                progress = await read_progress(connection)
                done = sum(
                    min(progress[place].next_offset, end)
                    for place, end in ends.items()
                    if place in progress
                )
                told(done, total)
                if done == total:
                    break
                await asyncio.wait({projecting}, timeout=PROJECTOR_POLL_MS_MAX / 1000)
                if projecting.done():
                    break
        finally:
            stop.set()
            await projecting
        log.info("tables rebuilt", offsets=total)
    finally:
        with contextlib.suppress(TimeoutError):
            await connection.close(timeout=1)
