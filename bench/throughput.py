"""How fast a waiting stream is worked off, and what that costs."""

from __future__ import annotations

import os
import shutil
import statistics
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.engines import Engine
from bench.stage import (
    Found,
    Prepared,
    Run,
    Sampler,
    drop_topics,
    open_topics,
    pour,
    read_back,
    read_times,
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
    poured_s: float
    """How long the loading took, while the engine worked already."""
    load_average: float
    others: float
    """Cores that neither engine nor broker took: the harness, and whatever else ran."""


async def measure(
    brokers: str, broker_pid: int, engine: Engine, prepared: Prepared, warm: int, home: Path
) -> Measured:
    """Let the engine work off the first `warm` inputs, then, and this counts, all the others.

    These are loaded within a second or two while it begins on them; it ends with the last
    outcome's time at the broker. Raises Failed when the engine does not do its work.
    """
    load_average = os.getloadavg()[0]
    messages = prepared.messages
    inputs = len(messages) - warm
    async with _begun(brokers, broker_pid, engine, prepared, warm, home) as (run, sampler):
        sampler.until_done(warm * engine.answers)
        began_at = time.time()
        pour(brokers, run.loaded.prefix, messages[warm:])
        poured_s = time.time() - began_at
        sampler.until_done(len(messages) * engine.answers)
        sampler.stop()
        run.stop()
        found = read_back(run) if engine.judged else None
        times = found.times_ms if found is not None else read_times(run)
    samples, end_at = sampler.samples, times[-1] / 1000
    spent = [
        samples.cpu(column, end_at) - samples.cpu(column, began_at)
        for column in (samples.engine_s, samples.broker_s, samples.busy_s)
    ]
    return Measured(
        engine=engine.name,
        inputs=inputs,
        per_s=inputs / (end_at - began_at),
        cpu_us=spent[0] / inputs * 1e6,
        broker_us=spent[1] / inputs * 1e6,
        rss_mb=samples.rss_max / (1 << 20),
        compared=found.compared if found else 0,
        different=found.different if found else 0,
        example=found.example if found else "",
        missing=len(messages) - found.distinct if found else 0,
        twice=len(found.times_ms) - found.distinct if found else 0,
        events=found.events_written if found else 0,
        poured_s=poured_s,
        load_average=load_average,
        others=(spent[2] - spent[0] - spent[1]) / (end_at - began_at),
    )


async def check(
    brokers: str, broker_pid: int, engine: Engine, prepared: Prepared, home: Path
) -> Found:
    """What the engine answers to a stream that is there before it starts: the same rules?

    Raises Failed.
    """
    inputs = len(prepared.messages)
    async with _begun(brokers, broker_pid, engine, prepared, inputs, home) as (run, sampler):
        sampler.until_done(inputs * engine.answers)
        sampler.stop()
        run.stop()
        return read_back(run)


@asynccontextmanager
async def _begun(
    brokers: str, broker_pid: int, engine: Engine, prepared: Prepared, inputs: int, home: Path
) -> AsyncIterator[tuple[Run, Sampler]]:
    """The engine on topics of its own, where so many inputs wait for it."""
    prefix = f"w{uuid.uuid4().hex[:8]}."
    loaded = await open_topics(brokers, prefix, prepared)
    run = Run(brokers, loaded, prefix + "out.", home / engine.name.replace(" ", "-"))
    shutil.rmtree(run.home, ignore_errors=True)
    try:
        pour(brokers, prefix, prepared.messages[:inputs])
        await engine.begin(run)  # type: ignore[misc]
        sampler = Sampler(run, broker_pid)
        try:
            yield run, sampler
        finally:
            sampler.stop()
    finally:
        run.stop()
        drop_topics(brokers, prefix)
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
