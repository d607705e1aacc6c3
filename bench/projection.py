"""The projector: events a second from topics into tables, beside nothing but COPY of the same rows.

The histories are whole lives, from the first upload on: the tables take no version without the one
before it.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, cast
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import orjson
import psutil

from agents.deciding import Decider
from agents.ledger.log import Entry
from agents.ledger.record import Record
from bench import latency
from bench.engines import OURS
from bench.stage import (
    ROOT,
    Failed,
    cpu_seconds,
    drop_topics,
    free_port,
    new_producer,
    produce,
)
from bench.work import CODE_KEYS, PAPERS, Seed, Shape, Work, boss_of, gate_of, moment
from deployment import topics
from deployment.catalog import load_catalog
from local.database import Database
from rules.codes import issue_person_code
from rules.decide import decide
from rules.person import Person
from schemas.commands import COMMANDS
from schemas.identifiers import partition_for
from schemas.limits import DAY_MS, MINUTE_MS
from schemas.reading import Refusal

PARTITIONS: Final = 16
SCANS: Final = 16
"""Attendance a person, after the nine commands that lead to it."""

LOG: Final = "projector.log"
HISTORY: Final = ("events", "attendance", "outcomes")


def life(seed: Seed, at_ms: int) -> Iterator[tuple[str, str, dict[str, Any], int]]:
    """(type, source, data, time) of a person's commands, all of which are accepted."""
    me, firm, site = f"/persons/{seed.person}", seed.employer, seed.site
    staff = f"/sites/{site}/staff/{boss_of(site)}"
    own = {"employer": firm}
    made = {"assignment": f"{seed.person}-5", "site": site}
    for kind, source, data in (
        ("identity.upload", me, PAPERS),
        ("identity.verify", "/centre", {"batch": "b", "result": "verified"}),
        ("hire.offer", f"/employers/{firm}", {**own, "name_tag": "0" * 32}),
        ("hire.confirm", me, {"offer": f"{seed.person}-2"}),
        ("hire.complete", f"/employers/{firm}", {**own, "role": "worker", "trade": "102"}),
        ("assignment.request", f"/employers/{firm}", {**own, "site": site}),
        ("assignment.approve", staff, made),
    ):
        yield kind, source, data, at_ms
    keys = CODE_KEYS
    code = issue_person_code(keys, seed.person, at_ms // 1000)
    device = f"/devices/gate-{site}"
    yield "scan.entry", device, {"site": site, "code": code, "scanner": boss_of(site)}, at_ms
    yield "entry.process", staff, {"site": site, "entry": f"{seed.person}-7"}, at_ms
    for number in range(SCANS):
        at_ms += 60 * MINUTE_MS
        code = issue_person_code(keys, seed.person, at_ms // 1000)
        data = {"site": site, "code": code, "scanner": gate_of(site), "direction": "in"}
        yield "scan.attendance", device, data, at_ms + number


def write(brokers: str, prefix: str, persons: int) -> tuple[int, int]:
    """Write outcomes and events of whole lives; how many outcomes, how many events."""
    work = Work(Shape(1, persons=persons, partitions=PARTITIONS), int(time.time() * 1000))
    catalog = load_catalog(prefix, partitions=PARTITIONS)
    wire = {name: topic.wire for name, topic in catalog.topics.items()}
    decider = Decider(wire, PARTITIONS, CODE_KEYS)
    world = work.world()
    producer = new_producer(brokers)
    offsets: dict[tuple[str, int], int] = {}
    outcomes = events = 0
    at_ms = work.now_ms - DAY_MS
    # Many persons at once, a command of each in turn, as it is on a living log.
    for begin in range(0, persons, 1_000):
        people = work.seeds[begin : begin + 1_000]
        lives = [life(seed, at_ms) for seed in people]
        states = [Person()] * len(people)
        for step in range(9 + SCANS):
            for number, seed in enumerate(people):
                kind, source, data, then_ms = next(lives[number])
                key = seed.person.encode()
                topic, home = COMMANDS[kind][0], partition_for(key, PARTITIONS)
                offset = offsets.get((topic, home), 0)
                offsets[topic, home] = offset + 1
                value = orjson.dumps(
                    {
                        "specversion": "1.0", "id": f"{seed.person}-{step}", "source": source,
                        "type": kind, "time": moment(then_ms), "subject": seed.person,
                        "data": data,
                    }
                )  # fmt: skip
                record = Record(topic, home, offset, work.now_ms, key, value)
                command = decider._read(record)
                if isinstance(command, Refusal):
                    raise TypeError(command)
                decision = decide(states[number], command, work.now_ms, world)
                if decision.status != "accepted":
                    raise TypeError(f"{kind}: {decision.code}")
                states[number] = decision.person
                made: defaultdict[str, list[Entry]] = defaultdict(list)
                decider._answer(record, command, decision, (), made)
                for topic, entries in made.items():
                    for entry in entries:
                        produce(producer, wire[topic], cast(bytes, entry.value), key, home)
                outcomes += 1
                events += len(decision.events)
    producer.flush()
    return outcomes, events


async def measure(
    brokers: str, broker_pid: int, database: Database, home: Path, full: bool
) -> dict[str, Any]:
    """Project the lives of many persons into an empty database, and look how long it takes."""
    persons = 40_000 if full else 4_000
    async with _waiting(brokers, database, home, persons) as (start, tables, events, total):
        process = start()
        seen = await _watch(tables, process, database, total, home)
        # The first tenth is warm-up.
        first = next(i for i, one in enumerate(seen) if one[1] >= total / 10)
        begin, end = seen[first], next(one for one in seen if one[1] >= total)
        part = (end[1] - begin[1]) / total
        took_s = end[0] - begin[0]
        process.terminate()
        await asyncio.to_thread(process.wait)
        copied = await _copy_only(tables)
    measured_events = events * part
    return {
        "events": events,
        "records": total,
        "projected_per_s": measured_events / took_s,
        "records_per_s": total * part / took_s,
        "projector_cpu_us_per_event": (end[2] - begin[2]) / measured_events * 1e6,
        "postgres_cpu_us_per_event": (end[3] - begin[3]) / measured_events * 1e6,
        "copy_only_events_per_s": events / copied[1],
        "copy_only_rows_per_s": copied[0] / copied[1],
        "share_of_copy": measured_events / took_s / (events / copied[1]),
    }


async def beside(brokers: str, broker_pid: int, database: Database, home: Path) -> dict[str, Any]:
    """500 scans a second, first alone, then while a projector catches up with a long history."""
    shape = Shape(1_000, persons=latency.PERSONS, moving=False)
    others = latency.other_topics()
    async with (
        _waiting(brokers, database, home, 20_000) as (start, tables, _, total),
        latency.up(brokers, broker_pid, OURS, shape, home) as live,
    ):
        await live.send(500, 0, 10, others)
        calm = await live.send(500, 3, 15, others)

        async def catch_up(first: float) -> None:
            await asyncio.sleep(max(0.0, first + 1 - time.monotonic()))
            start()
            await asyncio.sleep(max(0.0, first + 18 - time.monotonic()))
            done.append(await tables.fetchval("select sum(next_offset) from realname.progress"))

        done: list[int] = []
        busy = await live.send(500, 3, 15, others, catch_up)
    return {
        "alone_p50_ms": calm.p50_ms,
        "alone_p99_ms": calm.p99_ms,
        "beside_p50_ms": busy.p50_ms,
        "beside_p99_ms": busy.p99_ms,
        "records": total,
        "projected_meanwhile": int(done[0]),
    }


@asynccontextmanager
async def _waiting(
    brokers: str, database: Database, home: Path, persons: int
) -> AsyncIterator[tuple[Callable[[], subprocess.Popen[bytes]], asyncpg.Connection, int, int]]:
    """Whole lives that wait to be projected into an empty database.

    Gives what starts a projector, the database, and how many events and records there are.
    """
    prefix = f"p{uuid.uuid4().hex[:8]}."
    catalog = load_catalog(prefix, partitions=PARTITIONS)
    await topics.apply(brokers, catalog, 1)
    outcomes, events = await asyncio.to_thread(write, brokers, prefix, persons)
    database.start()
    name = f"bench_{uuid.uuid4().hex[:8]}"
    admin = await asyncpg.connect(database.uri)
    await admin.execute(f"create database {name}")
    uri = urlunsplit(urlsplit(database.uri)._replace(path=f"/{name}"))
    environment = {
        **{key: value for key, value in os.environ.items() if "REALNAME" not in key},
        "REALNAME_BROKERS": brokers,
        "REALNAME_DATABASE": uri,
        "REALNAME_TOPIC_PREFIX": prefix,
        "REALNAME_PARTITIONS": str(PARTITIONS),
        "REALNAME_METRICS_PORT": str(free_port()),
        "REALNAME_LOG_LEVEL": "warning",
        "REALNAME_HOME": str(home),
    }
    connection = await asyncpg.connect(uri)
    processes: list[subprocess.Popen[bytes]] = []

    def start() -> subprocess.Popen[bytes]:
        with (home / LOG).open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "projector.main"], cwd=ROOT, env=environment, stdout=out,
                stderr=out, start_new_session=True,
            )  # fmt: skip
        processes.append(process)
        return process

    try:
        # Every record was written without a transaction: no markers lie between them.
        yield start, connection, events, outcomes + events
    finally:
        for process in processes:
            process.kill()
            process.wait()
        await connection.close()
        await admin.execute(f"drop database {name} with (force)")
        await admin.close()
        drop_topics(brokers, prefix)


async def _watch(
    connection: asyncpg.Connection,
    process: subprocess.Popen[bytes],
    database: Database,
    total: int,
    home: Path,
) -> list[tuple[float, int, float, float]]:
    """(moment, offsets in the tables, CPU of the projector, CPU of the database), until all are."""
    server = psutil.Process(database.pid)
    projector = psutil.Process(process.pid)
    # A backend's time counts with its parent only once it has ended, so all are asked.
    seen: list[tuple[float, int, float, float]] = []
    deadline = time.monotonic() + 600
    while not seen or seen[-1][1] < total:
        await asyncio.sleep(0.1)
        if process.poll() is not None or time.monotonic() > deadline:
            raise Failed(f"the projector: {(home / LOG).read_text()[-2_000:]}")
        try:
            done = await connection.fetchval("select sum(next_offset) from realname.progress")
        except asyncpg.PostgresError:
            continue  # the tables are not there yet
        seen.append((time.monotonic(), int(done or 0), cpu_seconds(projector), cpu_seconds(server)))
    return seen


async def _copy_only(connection: asyncpg.Connection) -> tuple[int, float]:
    """Put the history's rows into the same tables again with COPY alone; rows, and seconds."""
    rows = {table: await connection.fetch(f"select * from realname.{table}") for table in HISTORY}
    await connection.execute(f"truncate {', '.join(f'realname.{table}' for table in HISTORY)}")
    began = time.monotonic()
    for table, records in rows.items():
        for at in range(0, len(records), 20_000):
            await connection.copy_records_to_table(
                table, records=map(tuple, records[at : at + 20_000]), schema_name="realname"
            )
    return sum(map(len, rows.values())), time.monotonic() - began
