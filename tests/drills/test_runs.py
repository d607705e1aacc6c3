"""Whole runs, on real servers: one that holds, and one with an error in it that is caught."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from drills.__main__ import caught
from drills.faults import DRILLS
from drills.planted import PLANTED
from drills.run import Result, run
from drills.stage import Server

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    home = tmp_path_factory.mktemp("drills")
    server = Server(home / "servers")
    try:
        server.start()
        yield server
    finally:
        server.stop()


async def play(drill: str, server: Server, home: Path, **env: str) -> Result:
    result = None
    for seed in range(3):
        told: list[str] = []
        name = f"{drill.replace('_', '-')}-{seed}"
        result = await run(DRILLS[drill], seed, server, home / name, told.append, worker_env=env)
        if result.verdict != "void":
            break
    assert result is not None
    return result


async def test_a_kill_between_sending_and_ending_breaks_nothing(
    server: Server, tmp_path: Path
) -> None:
    result = await play("kill_sent", server, tmp_path)
    assert result.verdict == "held", result.words
    assert result.judged > 1_000
    assert [words for _, words in result.faults] == ["a worker killed itself: sent"]


async def test_what_is_planted_is_caught(server: Server, tmp_path: Path) -> None:
    result = await play("calm", server, tmp_path, DRILL_PLANT="no_memory")
    assert caught(result, PLANTED["no_memory"]), result.words
    assert "P2" in result.promises
