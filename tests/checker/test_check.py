"""`realname check` on a real broker and database: worker and projector keep the promises, and what
is broken behind their backs is found."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.structs import TopicPartition

from checker.history import Record
from checker.read import Logs
from deployment import topics
from deployment.catalog import Catalog, load_catalog
from schemas.identifiers import partition_for
from tests.checker.village import KEYS, LI, PARTITIONS, Village

WAIT = object()


@dataclass
class Script(Village):
    """The village's play, only written down: what is sent, and where to wait for answers."""

    steps: list[Any] = field(default_factory=list)

    def append(self, topic: str, partition: int, key: Any, value: Any, headers: Any = ()) -> Record:
        if topic in ("employers", "sites"):
            self.steps.append((topic, 0, key, value, None))
        return super().append(topic, partition, key, value, headers)

    def send_raw(self, topic: str, key: bytes, value: bytes | None, command: str | None) -> Record:
        self.steps.append((topic, partition_for(key, PARTITIONS), key, value, command))
        return super().send_raw(topic, key, value, command)

    def turn(self, partition: int, **broken: Any) -> None:
        self.steps.append(WAIT)


@dataclass
class Running:
    """A deployment with worker and projector."""

    brokers: str
    database: str
    catalog: Catalog
    home: Path
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        keys = ",".join(f"{number}:{key.hex()}" for number, key in KEYS.items())
        return {
            **os.environ,
            "REALNAME_BROKERS": self.brokers,
            "REALNAME_DATABASE": self.database,
            "REALNAME_TOPIC_PREFIX": self.catalog.prefix,
            "REALNAME_PARTITIONS": str(PARTITIONS),
            "REALNAME_CODE_KEYS": keys,
            "REALNAME_HOME": str(self.home),
        }

    def start(self, name: str, module: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        with (self.home / f"{name}.log").open("wb") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", module],
                stdout=log,
                stderr=log,
                env={**self.environment, "REALNAME_METRICS_PORT": str(port)},
            )

    def stop(self, name: str) -> None:
        process = self.processes.pop(name)
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def said(self) -> str:
        logs = [path.read_text(errors="replace") for path in self.home.glob("*.log")]
        return "\n".join(log[-2_000:] for log in logs)

    async def check(self, *options: str) -> tuple[int, str]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "cli.main", "check", *options),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=self.environment,
        )
        said, _ = await process.communicate()
        assert process.returncode is not None
        return process.returncode, said.decode()

    async def decided(self) -> None:
        """Until the worker has decided all that was sent."""
        deadline = time.monotonic() + 60
        async with Logs.open(self.brokers, self.catalog, {}) as logs:
            while await logs.undecided(range(PARTITIONS)):
                assert time.monotonic() < deadline, self.said()
                await asyncio.sleep(0.1)

    async def play(self, steps: list[Any], acks: Path) -> None:
        """Send everything, one after the other, and note what was acknowledged when."""
        async with AIOKafkaProducer(bootstrap_servers=self.brokers, acks="all") as producer:
            with acks.open("a") as file:
                for step in steps:
                    if step is WAIT:
                        await self.decided()
                        continue
                    topic, partition, key, value, command = step
                    wire = self.catalog.topics[topic].wire
                    sent = time.time() * 1000
                    meta = await producer.send_and_wait(wire, value, key, partition)
                    line = {
                        "topic": wire,
                        "partition": partition,
                        "offset": meta.offset,
                        "id": command,
                        "sent_ms": sent,
                        "acked_ms": time.time() * 1000,
                    }
                    file.write(json.dumps(line) + "\n")


@pytest.fixture
async def running(
    broker: str, database: str, prefix: str, tmp_path: Path
) -> AsyncIterator[Running]:
    catalog = load_catalog(prefix, partitions=PARTITIONS)
    await topics.apply(broker, catalog, replication=1)
    one = Running(broker, database, catalog, tmp_path)
    one.start("worker", "agents.worker")
    one.start("projector", "projector.main")
    try:
        yield one
    finally:
        for name in list(one.processes):
            one.stop(name)


async def note_sightings(running: Running, seen: Path) -> None:
    """What a committed reader sees of all results, as it comes."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=running.brokers,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
    )
    await consumer.start()
    try:
        consumer.assign(
            [
                TopicPartition(topic.wire, number)
                for topic in running.catalog.outputs
                for number in range(PARTITIONS)
            ]
        )
        with seen.open("a") as file:
            async for record in consumer:
                line = {
                    "topic": record.topic,
                    "partition": record.partition,
                    "offset": record.offset,
                    "sha256": hashlib.sha256(record.value or b"").hexdigest(),
                    "seen_ms": time.time() * 1000,
                }
                file.write(json.dumps(line) + "\n")
    finally:
        await consumer.stop()


async def test_promises_kept_and_broken(running: Running) -> None:
    now = int(time.time() * 1000)
    script = Script(now_ms=now).play()
    acks, seen = running.home / "acks.jsonl", running.home / "seen.jsonl"
    reading = asyncio.create_task(note_sightings(running, seen))
    await running.play(script.steps, acks)
    await running.decided()
    await asyncio.sleep(0.5)
    reading.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await reading

    code, said = await running.check("--probe", "--acks", str(acks), "--seen", str(seen))
    assert code == 0, said + running.said()
    assert "nothing is broken" in said

    # A row is lost.
    running.stop("projector")
    connection = await asyncpg.connect(running.database)
    await connection.execute("delete from realname.outcomes where person = $1", LI)
    await connection.close()
    code, said = await running.check("--wait", "1")
    assert code == 1, said
    assert "P5 broken (tables)" in said
    assert "the row is missing" in said

    # Nobody decides: that is no pass, and no violation.
    running.stop("worker")
    await running.play([step for step in script.steps if step is not WAIT][-3:], acks)
    code, said = await running.check("--no-tables", "--wait", "1", "--acks", str(acks))
    assert code == 2, said
    assert "not decided yet" in said

    # An outcome is written a second time, outside the ledger; a transaction stays open.
    wire = running.catalog.topics["outcomes"].wire
    consumer = AIOKafkaConsumer(
        bootstrap_servers=running.brokers, auto_offset_reset="earliest", group_id=None
    )
    await consumer.start()
    consumer.assign([TopicPartition(wire, 0)])
    first = await consumer.getone()
    await consumer.stop()
    async with AIOKafkaProducer(bootstrap_servers=running.brokers) as stranger:
        await stranger.send_and_wait(wire, first.value, first.key, 0, headers=list(first.headers))
    async with AIOKafkaProducer(
        bootstrap_servers=running.brokers, transactional_id=f"{running.catalog.prefix}stranger"
    ) as stranger:
        await stranger.begin_transaction()
        await stranger.send_and_wait(wire, b"half", b"half", 1)
        code, said = await running.check("--no-tables", "--wait", "1")
        await stranger.abort_transaction()
    assert code == 1, said
    assert "P1 broken (answers)" in said
    assert "has 2 answers" in said
    assert "P4 broken (transactions)" in said
