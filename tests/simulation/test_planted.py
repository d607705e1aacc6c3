"""The simulation finds what it is there to find: each planted bug, within few histories."""

from __future__ import annotations

from pathlib import Path

import pytest

from simulation.world import run
from tests.simulation.planted import BUGS, Bug


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_planted_bug_is_caught(bug: Bug) -> None:
    for seed in range(bug.histories_max):
        if run(seed, planted=bug.planted).violations:
            return
    pytest.fail(f"{bug.name}: not caught in {bug.histories_max} histories")


def test_the_page_names_every_planted_bug() -> None:
    page = (Path(__file__).parents[2] / "docs" / "simulation.md").read_text()
    rows = [line.split("|")[1].strip() for line in page.splitlines() if line.startswith("| ")]
    assert {bug.name for bug in BUGS} <= set(rows)
