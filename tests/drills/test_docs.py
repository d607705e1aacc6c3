"""The page tells of every drill and of every planted error, and of no others."""

from __future__ import annotations

from pathlib import Path

from drills.faults import DRILLS
from drills.planted import _IN_PROJECTOR, _IN_WORKER, PLANTED

PAGE = Path(__file__).parents[2] / "docs" / "drills.md"


def _first_cells(title: str) -> list[list[str]]:
    section = PAGE.read_text("utf-8").partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    rows = [line.split("|") for line in section.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in row[1:-1]] for row in rows]


def test_every_drill_is_on_the_page() -> None:
    told = [name for row in _first_cells("The drills") for name in row[0].split(", ")]
    assert sorted(told) == sorted(DRILLS)


def test_every_planted_error_is_on_the_page() -> None:
    told = {(row[0], row[1], row[2]) for row in _first_cells("Errors that must be caught")}
    assert told == {(name, plant.words, plant.drill) for name, plant in PLANTED.items()}


def test_every_planted_error_has_a_drill_and_a_process() -> None:
    for name, plant in PLANTED.items():
        assert plant.drill in DRILLS
        assert name in (_IN_WORKER if plant.where == "worker" else _IN_PROJECTOR)
    assert len(PLANTED) == len(_IN_WORKER) + len(_IN_PROJECTOR)
