"""How fast a waiting stream is worked off, and what that costs."""

from __future__ import annotations

import os
import shutil
import statistics
import uuid
from bisect import bisect_right
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.engines import Engine
from bench.stage import (
    Failed,
    Found,
    Loaded,
    Prepared,
    Run,
    Sampler,
    drop_topics,
    pour,
    read_back,
    read_times,
    waiting,
)


@dataclass(frozen=True)
class Measured:
    """One run of one engine. Rates are inputs a second, costs microseconds of CPU an input."""

    engine: str
    inputs: int
    per_s: float
    cpu_us: float
    broker_us: float
    rss_mb: float
    compared: int
    different: int
    example: str
    missing: int
    twice: int
    events: int
    events_as_named: bool
    load_average: float
    others: float
    """Cores that neither engine nor broker took: the harness, and whatever else ran."""


async def measure(
    brokers: str, broker_pid: int, engine: Engine, loaded: Loaded, warm: int, home: Path
) -> Measured:
    """Let the engine work off a stream that is there before it starts, and count in the middle.

    The first `warm` inputs and as many of the last are not counted. Nothing is loaded meanwhile.
    Raises Failed when the engine does not do its work.
    """
    load_average = os.getloadavg()[0]
    messages = loaded.prepared.messages
    async with _begun(brokers, broker_pid, engine, loaded, home) as (run, sampler):
        sampler.until_done(len(messages) * engine.answers)
        sampler.stop()
        run.stop()
        found = read_back(run) if engine.judged else None
        times_ms = found.times_ms if found is not None else read_times(run)
    samples = sampler.samples
    began_ms, end_ms, inputs = middle(times_ms, len(times_ms) * warm // len(messages))
    if began_ms == end_ms:
        raise Failed(f"{len(messages)} inputs are one transaction: too few to count a middle of")
    spent = [
        samples.cpu(column, end_ms / 1000) - samples.cpu(column, began_ms / 1000)
        for column in (samples.engine_s, samples.broker_s, samples.busy_s)
    ]
    took_s = (end_ms - began_ms) / 1000
    return Measured(
        engine=engine.name,
        inputs=inputs,
        per_s=inputs / took_s,
        cpu_us=spent[0] / inputs * 1e6,
        broker_us=spent[1] / inputs * 1e6,
        rss_mb=samples.rss_max / (1 << 20),
        compared=found.compared if found else 0,
        different=found.different if found else 0,
        example=found.example if found else "",
        missing=len(messages) - found.distinct if found else 0,
        twice=len(found.times_ms) - found.distinct if found else 0,
        events=found.events if found else 0,
        events_as_named=found is None or found.events_as_named,
        load_average=load_average,
        others=(spent[2] - spent[0] - spent[1]) / took_s,
    )


def middle(times_ms: Sequence[int], part: int) -> tuple[int, int, int]:
    """When it begins and ends, and how many outcomes come after the one and up to the other.

    `times_ms` are the broker's, in order; many outcomes have one time. About `part` at each end
    are left out: at both moments the engine is in full work, neither warming up nor running dry.
    """
    began_ms, end_ms = times_ms[part], times_ms[-part - 1]
    return began_ms, end_ms, bisect_right(times_ms, end_ms) - bisect_right(times_ms, began_ms)


async def check(
    brokers: str, broker_pid: int, engine: Engine, prepared: Prepared, home: Path
) -> Found:
    """What the engine answers to a stream that arrives while it works: still as the rules do?

    Raises Failed.
    """
    messages = prepared.messages
    there = len(messages) // 10
    async with (
        waiting(brokers, prepared, there) as loaded,
        _begun(brokers, broker_pid, engine, loaded, home) as (run, sampler),
    ):
        sampler.until_done(1)
        pour(brokers, loaded.prefix, messages[there:])
        sampler.until_done(len(messages) * engine.answers)
        sampler.stop()
        run.stop()
        return read_back(run)


@asynccontextmanager
async def _begun(
    brokers: str, broker_pid: int, engine: Engine, loaded: Loaded, home: Path
) -> AsyncIterator[tuple[Run, Sampler]]:
    """The engine at work, with output topics of its own."""
    outputs = f"{loaded.prefix}{uuid.uuid4().hex[:8]}."
    run = Run(brokers, loaded, outputs, home / engine.name.replace(" ", "-"))
    try:
        async with engine.at_work(run):
            sampler = Sampler(run, broker_pid)
            try:
                yield run, sampler
            finally:
                sampler.stop()
    finally:
        drop_topics(brokers, outputs)
        shutil.rmtree(run.home / "state", ignore_errors=True)


def summary(runs: list[Measured]) -> dict[str, Any]:
    """Min, median and max of what repeats."""
    out: dict[str, Any] = {"runs": [asdict(one) for one in runs]}
    for name in ("per_s", "cpu_us", "broker_us", "rss_mb", "others"):
        values = [getattr(one, name) for one in runs]
        out[name] = {
            "min": min(values),
            "median": statistics.median(values),
            "max": max(values),
        }
    return out
