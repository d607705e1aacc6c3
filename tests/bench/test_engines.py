"""Engines that are compared give the same answers, on a real broker."""

import os
from pathlib import Path

import pytest

from bench.engines import ENGINES
from bench.stage import prepare
from bench.throughput import check, measure
from bench.work import Shape


@pytest.mark.parametrize("name", ["realname", "streams-memory"])
async def test_an_engine_answers_as_the_rules_do(name: str, broker: str, tmp_path: Path) -> None:
    engine = next(engine for engine in ENGINES if engine.name == name)
    prepared = prepare(Shape(3_000, partitions=4))
    found = await check(broker, os.getpid(), engine, prepared, tmp_path)
    assert found.compared == found.distinct == len(prepared.messages) == len(found.times_ms)
    assert found.different == 0, found.example
    assert found.events == found.events_written == prepared.events


async def test_a_run_counts_what_comes_after_the_warm_up(broker: str, tmp_path: Path) -> None:
    engine = next(engine for engine in ENGINES if engine.name == "realname")
    prepared = prepare(Shape(3_000, partitions=4))
    found = await measure(broker, os.getpid(), engine, prepared, 500, tmp_path)
    assert found.inputs == 2_500
    assert (found.different, found.missing, found.twice) == (0, 0, 0)
