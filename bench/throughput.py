"""How fast a waiting stream is worked off, and what that costs."""

from __future__ import annotations

import os
import shutil
import statistics
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.engines import Engine
from bench.stage import Loaded, Run, Sampler, drop_topics, read_back, read_times


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
    load_average: float


async def measure(
    brokers: str, broker_pid: int, engine: Engine, loaded: Loaded, warm: int, home: Path
) -> Measured:
    """Let the engine work the stream off; the first `warm` answers do not count.

    Raises Failed when it does not.
    """
    run = Run(brokers, loaded, f"r{uuid.uuid4().hex[:8]}.", home / engine.name.replace(" ", "-"))
    shutil.rmtree(run.home, ignore_errors=True)
    load_average = os.getloadavg()[0]
    try:
        await engine.begin(run)  # type: ignore[misc]
        sampler = Sampler(run, broker_pid)
        try:
            sampler.until_done(loaded.total)
        finally:
            sampler.stop()
            run.stop()
        found = read_back(run) if engine.judged else None
        times = found.times_ms if found is not None else read_times(run)
        warm_at, end_at, inputs = times[warm] / 1000, times[-1] / 1000, len(times) - warm
        samples = sampler.samples
        spent = [
            samples.cpu(column, end_at) - samples.cpu(column, warm_at)
            for column in (samples.engine_s, samples.broker_s)
        ]
    finally:
        run.stop()
        drop_topics(brokers, run.outputs)
        shutil.rmtree(run.home / "state", ignore_errors=True)
    return Measured(
        engine=engine.name,
        inputs=inputs,
        per_s=inputs / max(1e-9, end_at - warm_at),
        cpu_us=spent[0] / inputs * 1e6,
        broker_us=spent[1] / inputs * 1e6,
        rss_mb=samples.rss_max / (1 << 20),
        compared=found.compared if found else 0,
        different=found.different if found else 0,
        example=found.example if found else "",
        missing=loaded.total - found.distinct if found else 0,
        twice=len(found.times_ms) - found.distinct if found else 0,
        events=found.events_written if found else 0,
        load_average=load_average,
    )


def summary(runs: list[Measured]) -> dict[str, Any]:
    """Min, median and max of what repeats."""
    out: dict[str, Any] = {"runs": [asdict(one) for one in runs]}
    for name in ("per_s", "cpu_us", "broker_us", "rss_mb"):
        values = [getattr(one, name) for one in runs]
        out[name] = {
            "min": min(values),
            "median": statistics.median(values),
            "max": max(values),
        }
    return out
