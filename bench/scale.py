"""What grows with what: persons, partitions, backlogs, workers."""

from __future__ import annotations

import asyncio
import re
import signal
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any, Final
from urllib.error import URLError
from urllib.request import urlopen

import psutil
from rich.console import Console

from agents.ledger.progress import PROGRESS_KEY
from bench import latency
from bench.engines import OURS
from bench.stage import (
    Failed,
    Loaded,
    Prepared,
    Run,
    cpu_seconds,
    drop_topics,
    first_progress,
    new_producer,
    pour,
    prepare,
    produce,
    python,
    waiting,
)
from bench.throughput import measure
from bench.work import Shape, Work, state_of
from deployment import topics
from rules.person import encode
from schemas.identifiers import partition_for

REMEMBERED: Final = 14
"""Commands in each restored person's memory: two a day for a week."""


def page(run: Run, number: int, path: str) -> str:
    """A page of the run's worker; empty when it does not answer."""
    port = run.ports[number]
    try:
        with urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return str(answer.read().decode())
    except (URLError, OSError) as error:
        # 503 carries the page of a worker that is not well.
        return str(error.read().decode()) if hasattr(error, "read") else ""


def deciding(run: Run, number: int = 0) -> int:
    """How many partitions a worker decides on."""
    found = re.search(r"^deciding: (.*)$", page(run, number, "/health"), re.MULTILINE)
    return len(found[1].split(",")) if found else 0


async def until(holds: Callable[[], bool], run: Run, seconds: float = 300) -> float:
    """Wait; the seconds it took."""
    began = time.monotonic()
    while not await asyncio.to_thread(holds):
        if time.monotonic() - began > seconds:
            raise Failed(run.complain())
        await asyncio.sleep(0.05)
    return time.monotonic() - began


async def restore(brokers: str, broker_pid: int, home: Path, full: bool) -> dict[str, Any]:
    """Start a worker on many persons, and on few: the difference is the restore and its memory."""
    persons = 1_000_000 if full else 200_000
    found = {}
    for count in (1_000, persons):
        prefix = f"s{uuid.uuid4().hex[:8]}."
        # The world alone: nothing is sent.
        work = Work(Shape(1, persons=1_000), int(time.time() * 1000))
        loaded = Loaded(prefix, Prepared(work, [], {}, 0))
        run = Run(brokers, loaded, prefix + "out.", home / "restore")
        catalog = run.catalog
        await topics.apply(brokers, catalog, 1)
        size = await asyncio.to_thread(
            _states, brokers, catalog, count, await first_progress(brokers, catalog)
        )
        run.start(python("bench.peers.ours"))
        try:
            process = psutil.Process(run.processes[0].pid)
            began = time.monotonic()
            await until(lambda run=run: deciding(run) == 16, run)  # type: ignore[misc]
            found[count] = (
                time.monotonic() - began,
                cpu_seconds(process),
                process.memory_info().rss,
                size,
            )
        finally:
            run.stop()
            drop_topics(brokers, prefix)
    few, many = found[1_000], found[persons]
    took_s, more = many[0] - few[0], persons - 1_000
    return {
        "persons": persons,
        "state_bytes_a_person": many[3] / persons,
        "start_s": many[0],
        "start_s_without_persons": few[0],
        "restore_s": took_s,
        "restore_per_s": more / took_s,
        "restore_mb_per_s": (many[3] - few[3]) / took_s / 1e6,
        "restore_cpu_us_a_person": (many[1] - few[1]) / more * 1e6,
        "memory_bytes_a_person": (many[2] - few[2]) / more,
    }


def _states(brokers: str, catalog: Any, persons: int, progress: bytes) -> int:
    """Write states of persons who have been at work for a week; bytes of keys and values."""
    template = state_of(Work(Shape(1, persons=200), int(time.time() * 1000)).seeds[0])
    random = Random(1)
    producer = new_producer(brokers)
    size = 0
    for number in range(persons):
        template.seen = random.randbytes(32 * REMEMBERED)
        template.version = number % 100 + 10
        key, value = f"{random.getrandbits(128):032x}".encode(), encode(template)
        size += len(key) + len(value)
        home = partition_for(key, catalog.partitions)
        produce(producer, catalog.state.wire, value, key, home)
    for partition in range(catalog.partitions):
        produce(producer, catalog.state.wire, progress, PROGRESS_KEY, partition)
    producer.flush()
    return size


async def scale(brokers: str, broker_pid: int, home: Path, console: Console) -> dict[str, Any]:
    """All of it but the restore; each part says what it does."""
    parts: dict[str, Callable[[], Awaitable[Any]]] = {
        "persons": lambda: _cost(brokers, broker_pid, home, [(n, 16) for n in PERSONS]),
        "partitions": lambda: _cost(brokers, broker_pid, home, [(10_000, n) for n in PARTITIONS]),
        "idle": lambda: _transactions(brokers, broker_pid, home),
        "backlog": lambda: _backlog(brokers, broker_pid, home),
        "handover": lambda: _handover(brokers, broker_pid, home),
    }
    found = {}
    for name, part in parts.items():
        try:
            found[name] = await part()
        except Failed as error:
            found[name] = {"failed": str(error)[-500:]}
        console.print(name, found[name])
    return found


PERSONS: Final = (1_000, 10_000, 100_000, 1_000_000)
PARTITIONS: Final = (1, 4, 16, 64)


async def _cost(
    brokers: str, broker_pid: int, home: Path, shapes: list[tuple[int, int]]
) -> list[dict[str, Any]]:
    """Working off the same number of scans with more persons or partitions."""
    found = []
    for persons, partitions in shapes:
        shape = Shape(180_000, persons=persons, partitions=partitions, moving=False)
        prepared = prepare(shape, max(1, persons // 2_000))
        async with waiting(brokers, prepared) as loaded:
            one = await measure(brokers, broker_pid, OURS, loaded, 30_000, home / "runs")
        found.append(
            {
                "persons": persons,
                "partitions": partitions,
                "per_s": one.per_s,
                "cpu_us": one.cpu_us,
                "broker_us": one.broker_us,
                "rss_mb": one.rss_mb,
                "different": one.different,
            }
        )
    return found


async def _transactions(brokers: str, broker_pid: int, home: Path) -> list[dict[str, Any]]:
    """500 scans a second on more partitions: smaller transactions, and more of them."""
    found = []
    others = latency.other_topics()
    for partitions in (4, 16, 64):
        shape = Shape(1_000, persons=latency.PERSONS, moving=False, partitions=partitions)
        async with latency.up(brokers, broker_pid, OURS, shape, home) as live:
            await live.send(500, 0, 6, others)
            before = turns(live.run)
            one = await live.send(500, 3, 15, others)
            per_s = (turns(live.run) - before) / 18
        figures = asdict(one)
        del figures["curve_ms"]
        found.append({**figures, "partitions": partitions, "transactions_per_s": per_s})
    return found


def turns(run: Run) -> float:
    """Transactions that the run's first worker has committed."""
    match = re.search(
        r"^\w*turn_records_count(?:\{[^}]*\})? ([0-9.e+]+)$", page(run, 0, "/metrics"), re.MULTILINE
    )
    return float(match[1]) if match else float("nan")


async def _backlog(brokers: str, broker_pid: int, home: Path) -> dict[str, Any]:
    """500 scans a second while one partition has 100,000 to work off: what the others notice."""
    shape = Shape(1_000, persons=latency.PERSONS, moving=False)
    others = latency.other_topics()
    async with latency.up(brokers, broker_pid, OURS, shape, home) as live:
        await live.send(500, 0, 6, others)
        calm = await live.send(500, 3, 10, others)
        late = replace(shape, inputs=100_000, segment=99, home=0)
        work = Work(late, int(time.time() * 1000))
        prefix = live.run.loaded.prefix
        messages = list(work.messages())

        async def at_once(start: float) -> None:
            await asyncio.sleep(max(0.0, start + 3 - time.monotonic()))
            await asyncio.to_thread(pour, brokers, prefix, messages)

        busy = await live.send(500, 3, 15, others, at_once)
        slow = sorted((seen - due) * 1000 for due, seen in live.noted)
    # The sixteenth part of the live scans is on the partition with the backlog, and waits.
    return {
        "calm_p50_ms": calm.p50_ms,
        "calm_p99_ms": calm.p99_ms,
        "busy_p50_ms": busy.p50_ms,
        "busy_p90_ms": slow[int(0.90 * len(slow))],
        "busy_max_ms": busy.max_ms,
    }


async def _handover(brokers: str, broker_pid: int, home: Path) -> dict[str, Any]:
    """Two workers at 500 scans a second: one joins, stops, joins again, is killed."""
    shape = Shape(1_000, persons=latency.PERSONS, moving=False)
    moments: dict[str, float] = {}
    async with latency.up(brokers, broker_pid, OURS, shape, home) as live:
        run = live.run

        async def at(start: float, second: float, name: str) -> None:
            await asyncio.sleep(max(0.0, start + second - time.monotonic()))
            moments[name] = time.monotonic()

        async def events(start: float) -> None:
            await at(start, 5, "join")
            run.start(python("bench.peers.ours"))
            await at(start, 17, "stop")
            run.processes[1].send_signal(signal.SIGTERM)
            await at(start, 27, "join again")
            run.start(python("bench.peers.ours"))
            await at(start, 39, "kill")
            run.processes[2].kill()
            await at(start, 54, "end")

        await live.send(500, 0, 6, latency.other_topics())
        await live.send(500, 3, 52, latency.other_topics(), events)
        noted = live.noted
    names = list(moments)
    found: dict[str, Any] = {}
    for name, after in pairwise(names):
        took = [
            seen - due for due, seen in noted if moments[name] - 0.5 <= due < moments[after] - 0.5
        ]
        found[f"{name}: longest wait s"] = max(took, default=float("nan"))
    return found
