"""Engines that are compared give the same answers, on a real broker."""

import os
from pathlib import Path

import pytest

from bench.engines import ENGINES
from bench.stage import prepare
from bench.throughput import measure
from bench.work import Shape


@pytest.mark.parametrize("name", ["realname"])
async def test_an_engine_answers_as_the_rules_do(name: str, broker: str, tmp_path: Path) -> None:
    engine = next(engine for engine in ENGINES if engine.name == name)
    prepared = prepare(Shape(3_000, partitions=4))
    found = await measure(broker, os.getpid(), engine, prepared, 500, tmp_path)
    assert found.compared == len(prepared.messages)
    assert found.different == 0, found.example
    assert (found.missing, found.twice) == (0, 0)
    assert found.events == prepared.events
