"""Engines that are compared give the same answers, on a real broker, and can be started."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bench.engines import ENGINES
from bench.stage import ROOT, prepare, waiting
from bench.throughput import measure, middle
from bench.work import Shape


@pytest.mark.parametrize("name", ["realname"])
async def test_an_engine_answers_as_the_rules_do(name: str, broker: str, tmp_path: Path) -> None:
    engine = next(engine for engine in ENGINES if engine.name == name)
    prepared = prepare(Shape(3_000, partitions=4))
    async with waiting(broker, prepared) as loaded:
        found = await measure(broker, os.getpid(), engine, loaded, 500, tmp_path)
    assert found.compared == len(prepared.messages)
    assert found.different == 0, found.example
    assert (found.missing, found.twice) == (0, 0)
    assert found.events == prepared.events
    assert found.events_as_named


def test_what_is_counted_is_what_came_between_two_moments() -> None:
    """A turn's outcomes have one time: those of the first moment were made before it."""
    times_ms = [1_000] * 4 + [2_000] * 4 + [3_000] * 4 + [4_000] * 4
    assert middle(times_ms, 0) == (1_000, 4_000, 12)
    assert middle(times_ms, 3) == (1_000, 4_000, 12)
    assert middle(times_ms, 4) == (2_000, 3_000, 4)
    assert middle(times_ms, 5) == (2_000, 3_000, 4)


def test_a_peer_needs_no_package_that_its_environment_has_not() -> None:
    """The peers that have an environment of their own call our rules, and with them what these
    import."""
    lock = (ROOT / "bench" / "peers" / "requirements.lock").read_text("utf-8")
    locked = set(re.findall(r"^([a-z0-9.-]+)==", lock, re.MULTILINE))
    script = """
import importlib.metadata, re, sys
homes = importlib.metadata.packages_distributions()
before = set(sys.modules)
import bench.peers.job
for module in {name.partition(".")[0] for name in sys.modules.keys() - before}:
    for home in homes.get(module, ()):
        print(re.sub("[-_.]+", "-", home).lower())
"""
    needed = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.split()
    assert "msgspec" in needed
    assert set(needed) - locked - {"realname"} == set()
