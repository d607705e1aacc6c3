"""Deployments with few partitions on the session's broker, and workers as processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.structs import TopicPartition

from agents.ledger.kafka import KafkaLog, KafkaWriter
from deployment import topics
from deployment.catalog import Catalog, load_catalog

TOY = Path(__file__).with_name("toy.py")
PARTITIONS = 4


class Deployment:
    """Topics of one's own on a broker, what was sent to them, and the workers on them."""

    def __init__(self, broker: str, prefix: str, log: Path) -> None:
        self.broker = broker
        self.catalog: Catalog = load_catalog(prefix, partitions=PARTITIONS)
        self.prefix = prefix
        self.sent: list[tuple[str, int, int]] = []
        self.workers: list[subprocess.Popen[bytes]] = []
        self.log = log

    def wire(self, topic: str) -> str:
        return self.catalog.topics[topic].wire

    def start(self, **env: str) -> subprocess.Popen[bytes]:
        """A worker process."""
        with self.log.open("ab") as log:
            worker = subprocess.Popen(
                [sys.executable, str(TOY), self.broker, self.prefix, str(PARTITIONS)],
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **env},
            )
        self.workers.append(worker)
        return worker

    def said(self) -> str:
        """All that the workers wrote."""
        return self.log.read_text(errors="replace")

    async def until(self, holds: Callable[[], bool], seconds: float = 30) -> None:
        """Wait until something holds."""
        deadline = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < deadline, self.said()[-3000:]
            await asyncio.sleep(0.05)

    async def send(
        self, records: Sequence[tuple[str, bytes, bytes]], **options: Any
    ) -> list[tuple[str, int, int]]:
        """(topic, key, value) records, each acknowledged; returns where they stand."""
        async with AIOKafkaProducer(
            bootstrap_servers=self.broker, acks="all", **options
        ) as producer:
            sent = [
                await producer.send(self.wire(topic), value, key=key)
                for topic, key, value in records
            ]
            done = [await one for one in sent]
        places = [
            (topic, meta.partition, meta.offset)
            for (topic, _, _), meta in zip(records, done, strict=True)
        ]
        self.sent += places
        return places

    async def read(self, topic: str = "outcomes") -> list[Any]:
        """All committed records there are now, each partition in order."""
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self.broker,
            isolation_level="read_committed",
            auto_offset_reset="earliest",
        )
        await consumer.start()
        try:
            count = self.catalog.topics[topic].partitions
            places = [TopicPartition(self.wire(topic), number) for number in range(count)]
            consumer.assign(places)
            ends = await consumer.end_offsets(places)
            found: list[Any] = []
            while True:
                for batch in (await consumer.getmany(timeout_ms=100)).values():
                    found += batch
                positions = [await consumer.position(place) for place in places]
                if all(at >= ends[place] for at, place in zip(positions, places, strict=True)):
                    return sorted(found, key=lambda one: (one.partition, one.offset))
        finally:
            await consumer.stop()

    async def outcomes(self, seconds: float = 40) -> list[dict[str, Any]]:
        """The outcomes, once there is one for each record sent. Checks that each has exactly one
        and that each key counted 1, 2, 3, ..."""
        deadline = time.monotonic() + seconds
        while True:
            outcomes = [
                {**orjson.loads(one.value), "key": one.key} for one in await self.read("outcomes")
            ]
            if len(outcomes) >= len(self.sent) or time.monotonic() > deadline:
                break
            await asyncio.sleep(0.2)
        origins = [outcome["origin"] for outcome in outcomes]
        wanted = [f"{topic}/{partition}/{offset}" for topic, partition, offset in self.sent]
        missing = set(wanted) - set(origins)
        assert not missing, f"{len(missing)} have no outcome\n{self.said()[-3000:]}"
        assert sorted(origins) == sorted(wanted)
        counts: dict[bytes, list[int]] = defaultdict(list)
        for outcome in outcomes:
            counts[outcome["key"]].append(outcome["n"])
        for key, numbers in counts.items():
            assert numbers == list(range(1, len(numbers) + 1)), key
        return outcomes


@pytest.fixture
async def deployment(broker: str, prefix: str, tmp_path: Path) -> AsyncIterator[Deployment]:
    """Fresh topics on the session's broker."""
    made = Deployment(broker, prefix, tmp_path / "workers.log")
    await topics.apply(broker, made.catalog, 1)
    with _ended(made.workers):
        yield made


@pytest.fixture
async def started(log: KafkaLog) -> AsyncIterator[Callable[[], Any]]:
    """Makes started writers of partition 0 of the test's own `log`."""
    made: list[KafkaWriter] = []

    async def start() -> KafkaWriter:
        made.append(log.writer(0))
        async with asyncio.timeout(20):
            await made[-1].start()
        return made[-1]

    yield start
    for writer in made:
        await writer.close()


@contextlib.contextmanager
def _ended(workers: list[subprocess.Popen[bytes]]) -> Iterator[None]:
    try:
        yield
    finally:
        for worker in workers:
            if worker.poll() is None:
                worker.kill()
            worker.wait()
