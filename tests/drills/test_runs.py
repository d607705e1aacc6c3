"""A whole run on real servers, with an error in it that is caught."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from drills.__main__ import caught
from drills.faults import DRILLS
from drills.planted import PLANTED
from drills.run import run
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


async def test_what_is_planted_is_caught(server: Server, tmp_path: Path) -> None:
    """That a drill without an error is held, `make drills` shows."""
    result = await run(
        DRILLS["calm"], 0, server, tmp_path / "run", print, worker_env={"DRILL_PLANT": "no_memory"}
    )
    assert caught(result, PLANTED["no_memory"]), result.words
    assert "P2" in result.promises
