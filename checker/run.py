"""The whole check of a deployment: probe, wait until all is quiet, read, judge."""

from __future__ import annotations

import asyncio
import itertools
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from checker.answers import Deployment, read_answer
from checker.history import Ack, Clients, Sighting, collect
from checker.judge import WAITING, Judge
from checker.read import Logs
from checker.report import Report
from checker.rows import Rows, connect, stored_offsets
from deployment.catalog import Catalog
from deployment.topics import verify
from schemas.events import EVENTS
from schemas.identifiers import partition_for
from schemas.limits import (
    CHECK_APPEND_MS_MAX,
    CHECK_EPSILON_MS,
    CHECK_POLL_MS,
    CHECK_QUIET_MS_MAX,
)
from schemas.outcomes import OUTCOMES_TOPIC

_PROBE_TOPIC = "identity-verifications"


@dataclass(frozen=True)
class Options:
    """How to check."""

    probe: bool = False
    """Send one command to each partition first and wait for its outcome."""
    acks: Iterable[Ack] | None = None
    sightings: Iterable[Sighting] = ()
    epsilon_ms: float = CHECK_EPSILON_MS
    append_ms: float = CHECK_APPEND_MS_MAX
    quiet_ms: int = CHECK_QUIET_MS_MAX


async def check(
    brokers: str,
    database: str | None,
    catalog: Catalog,
    code_keys: Mapping[int, bytes],
    options: Options | None = None,
    kafka: Mapping[str, Any] | None = None,
    told: Callable[[str], None] = lambda words: None,
) -> Report:
    """Judge a deployment; nothing but a probe is written.

    `database` None leaves the tables out. `kafka` goes to the Kafka clients. `told` hears what is
    done now. Raises `CannotRead`, `deployment.topics.TopicsError`, and what the clients raise.
    """
    options, kafka = options or Options(), kafka or {}
    await verify(brokers, catalog, options=kafka)
    numbers = range(catalog.partitions)
    wire = {name: topic.wire for name, topic in catalog.topics.items()}
    deployment = Deployment(
        wire, tuple(topic.name for topic in catalog.commands), catalog.partitions, code_keys
    )
    clients: Clients = collect(options.acks, options.sightings)
    async with AsyncExitStack() as stack:
        logs = await stack.enter_async_context(Logs.open(brokers, catalog, kafka))
        judge = Judge(
            deployment,
            logs.references,
            clients,
            epsilon_ms=options.epsilon_ms,
            append_ms=options.append_ms,
        )
        if options.probe:
            told("sending a probe to each partition")
            await _probe(brokers, kafka, deployment, logs, judge.report, options.quiet_ms)
        told("waiting until all commands are decided")
        await _until_decided(logs, numbers, options.quiet_ms)
        rows = None
        if database is not None:
            told("waiting until all results are in the tables")
            await _until_projected(logs, database, catalog, options.quiet_ms)
            rows = await stack.enter_async_context(Rows.open(database))
        outputs = [topic.wire for topic in catalog.outputs]
        event_topics = {topic for topic, _ in EVENTS.values()}
        for number in numbers:
            told(f"reading and judging partition {number} of {len(numbers)}")
            partition = await logs.partition(number, options.quiet_ms)
            tables = None
            if rows is not None:
                persons = {
                    (record.key or b"").decode("utf-8", "replace")
                    for topic in event_topics
                    for record in partition.outputs[topic].records
                }
                commands = [topic.wire for topic in catalog.commands]
                tables = await rows.of(number, persons, commands)
            judge.partition(partition, tables)
        await logs.extend_references(options.quiet_ms)
        report = judge.finish()
        if rows is not None:
            await rows.judge_others(report, outputs)
    report.note(
        f"by the clients' clocks closer than {options.epsilon_ms:g} ms, by the brokers' closer "
        f"than {options.append_ms:g} ms, is not judged"
    )
    return report


async def _until_decided(logs: Logs, numbers: Iterable[int], quiet_ms: int) -> None:
    """Until nothing waits, or the deadline; what waits then is told of by the judge."""
    deadline = time.monotonic() + quiet_ms / 1000
    waiting = list(numbers)
    while waiting and time.monotonic() < deadline:
        waiting = list(await logs.undecided(waiting))
        if waiting:
            await asyncio.sleep(CHECK_POLL_MS / 1000)


async def _until_projected(logs: Logs, uri: str, catalog: Catalog, quiet_ms: int) -> None:
    """Until the tables are where the result topics end now, or the deadline."""
    deadline = time.monotonic() + quiet_ms / 1000
    places = [
        (topic.name, number) for topic in catalog.outputs for number in range(topic.partitions)
    ]
    ends = await logs.bounds(places)
    connection = await connect(uri)
    try:
        while time.monotonic() < deadline:
            stored = await stored_offsets(connection)
            if all(
                (known := stored.get((catalog.topics[topic].wire, number))) is not None
                and known.next_offset >= bounds.end
                for (topic, number), bounds in ends.items()
            ):
                return
            await asyncio.sleep(CHECK_POLL_MS / 1000)
    finally:
        await connection.close()


async def _probe(
    brokers: str,
    kafka: Mapping[str, Any],
    deployment: Deployment,
    logs: Logs,
    report: Report,
    quiet_ms: int,
) -> None:
    """A verification for a person whom nobody knows, to each partition: it is rejected, which shows
    that the partition is decided, written and readable."""
    numbers = range(deployment.partitions)
    begin = {
        number: bounds.end
        for (_, number), bounds in (
            await logs.bounds([(OUTCOMES_TOPIC, number) for number in numbers])
        ).items()
    }
    waiting: dict[int, int] = {}
    producer = AIOKafkaProducer(
        bootstrap_servers=brokers, acks="all", enable_idempotence=True, **kafka
    )
    await producer.start()
    try:
        for number in numbers:
            subject = _nobody(number, deployment.partitions)
            try:
                sent = await asyncio.wait_for(
                    producer.send_and_wait(
                        deployment.wire[_PROBE_TOPIC],
                        _verification(subject),
                        subject.encode(),
                        number,
                    ),
                    quiet_ms / 1000,
                )
                waiting[number] = sent.offset
            except (KafkaError, TimeoutError) as error:
                report.judged("probes")
                report.broken("probes", f"partition {number} takes no command: {error!r}")
    finally:
        await producer.stop()
    report.judged("probes", len(waiting))
    deadline = time.monotonic() + quiet_ms / 1000
    while waiting and time.monotonic() < deadline:
        begin, records = await logs.outcomes_after(begin, OUTCOMES_TOPIC)
        for record in records:
            try:
                answer = read_answer(record, deployment.logical)
            except ValueError:
                continue  # told of by the judge
            if answer.topic == _PROBE_TOPIC and waiting.get(answer.partition) == answer.offset:
                del waiting[answer.partition]
        await asyncio.sleep(CHECK_POLL_MS / 1000)
    for number, offset in waiting.items():
        report.broken(
            "probes",
            f"{_PROBE_TOPIC}/{number}/{offset} had no readable outcome after {quiet_ms} ms: "
            f"{WAITING}, or an open transaction",
        )


def _nobody(number: int, partitions: int) -> str:
    """A person id of that partition, random, so that it is nobody's."""
    for _ in itertools.count():
        subject = uuid.uuid4().hex
        if partition_for(subject.encode(), partitions) == number:
            return subject
    raise AssertionError


def _verification(subject: str) -> bytes:
    return orjson.dumps(
        {
            "specversion": "1.0",
            "id": f"probe-{uuid.uuid4()}",
            "source": "/centre",
            "type": "identity.verify",
            "time": datetime.now(UTC).isoformat(),
            "subject": subject,
            "data": {"batch": "probe", "result": "verified"},
        }
    )
