"""Where our CPU goes, stage by stage, without a broker (`python -m bench profile`).

CPU time, not time: it says the same on a busy machine, or nearly so.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, Final
from unittest.mock import patch

from agents import deciding
from bench.backlog import DECIDING, LARGE, PARTITIONS, Backlog, pieces
from rules.decide import codes_of

SMALL: Final = Backlog(persons=2_000, turn_records=500, turns=10)
"""All of it in the processor's caches."""

BACKLOGS: Final = {"small turns, warm": SMALL, "a backlog": LARGE}

_PARTS: Final = ("read", "codes", "world", "decide, states read and written", "answer")
"""Of a step, in its order."""


def costs(of: Backlog) -> list[tuple[str, float]]:
    """(stage, microseconds of CPU an input), in the order of the way. Of each partition the first
    turn is not counted."""
    spent: defaultdict[str, float] = defaultdict(float)
    parts: defaultdict[str, float] = defaultdict(float)
    turns = counted = 0
    with _told_apart(parts):
        for stage, seconds, inputs in pieces(int(time.time() * 1000), of):
            spent[stage] += seconds
            counted += inputs
            turns += inputs > 0
            if inputs and turns == PARTITIONS:
                spent.clear()
                parts.clear()
                counted = 0
    rows = [("ALL OF IT", sum(spent.values()))]
    for stage, seconds in spent.items():
        rows.append((stage, seconds))
        if stage == DECIDING:
            rows += [(f"    {part}", seconds) for part, seconds in parts.items()]
    return [(stage, seconds / counted * 1e6) for stage, seconds in rows]


@contextmanager
def _told_apart(parts: defaultdict[str, float]) -> Iterator[None]:
    """Adds what each part of a step takes: one ends where a function begins that it has not."""
    marks: list[float] = []

    def marked(function: Callable[..., Any]) -> Callable[..., Any]:
        def marking(*arguments: Any) -> Any:
            marks.append(time.process_time())
            result = function(*arguments)
            marks.append(time.process_time())
            return result

        return marking

    step = marked(deciding.Decider._step)

    def whole(*arguments: Any) -> None:
        marks.clear()
        step(*arguments)
        for part, (began, ended) in zip(_PARTS, pairwise(marks), strict=True):
            parts[part] += ended - began

    with (
        patch.object(deciding.Decider, "_step", whole),
        patch.object(deciding, "codes_of", marked(codes_of)),
        patch.object(deciding, "_judge", marked(deciding._judge)),
    ):
        yield
