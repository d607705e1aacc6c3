"""What the histories of a run say of time: how long decisions paused, how long commands waited."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from drills.load import Plan
from drills.stage import Fault

Place = tuple[str, int, int]


@dataclass(frozen=True)
class Times:
    """Of one run; seconds."""

    acknowledged: int
    """Commands that the brokers took."""
    answered: int
    """Outcomes and dead letters that were seen."""
    before: int
    """Answers seen before the first fault."""
    sent_after: int
    """Commands acknowledged after the last fault began."""
    pause_s: float
    """After the first fault, while the load ran: the longest time in which some partition, with a
    command waiting, answered nothing."""
    back_s: float
    """From the end of an outage, or else the last fault, until a partition answered again: the
    longest, without those that another fault cut short."""
    wait_median_s: float
    wait_max_s: float
    """From a command's acknowledgement to its answer at a reader, of all of the run."""


def measure(plan: Plan, faults: Sequence[Fault]) -> Times:
    """Read the histories of a run with these faults."""
    acked: dict[Place, float] = {}
    commands = set()
    for line in _lines(plan.acks):
        if line["offset"] is not None:
            acked[line["topic"], line["partition"], line["offset"]] = line["acked_ms"]
    seen: dict[Place, float] = {}
    answers: dict[int, list[float]] = {}
    for line in _lines(plan.seen):
        if "origin" in line:
            topic, partition, offset = line["origin"]
            seen[topic, partition, offset] = line["seen_ms"]
            commands.add(topic)
            answers.setdefault(line["partition"], []).append(line["seen_ms"])
    acked = {place: at for place, at in acked.items() if place[0] in commands}
    first = min((fault.at_ms for fault in faults), default=float("inf"))
    last = max((fault.at_ms for fault in faults if not fault.mends), default=float("inf"))
    ends = [fault.at_ms for fault in faults if fault.mends] or [last]
    end = max(acked.values(), default=0.0)
    waits = sorted(max(0.0, seen[place] - at) for place, at in acked.items() if place in seen)
    longest = back = 0.0
    for partition, times in answers.items():
        came = sorted(at for place, at in acked.items() if place[1] == partition)
        longest = max(longest, _longest(came, sorted(times), first, end))
        for mended in ends:
            until = min((fault.at_ms for fault in faults if fault.at_ms > mended), default=end)
            back = max(
                back, min((at for at in times if mended < at < until), default=mended) - mended
            )
    return Times(
        acknowledged=len(acked),
        answered=len(seen),
        before=sum(1 for at in seen.values() if at < first),
        sent_after=sum(1 for at in acked.values() if at >= last),
        pause_s=longest / 1000,
        back_s=back / 1000,
        wait_median_s=waits[len(waits) // 2] / 1000 if waits else 0.0,
        wait_max_s=waits[-1] / 1000 if waits else 0.0,
    )


def _longest(came: Sequence[float], answers: Sequence[float], first: float, end: float) -> float:
    """The longest time between answers, counted from when a command was waiting for the next."""
    longest, index, before = 0.0, 0, first
    for at in answers:
        if at <= first:
            continue
        if before >= end:
            break
        while index < len(came) and came[index] < before:
            index += 1
        begun = max(before, came[index]) if index < len(came) else at
        longest = max(longest, min(at, end) - begun)
        before = at
    return longest


def _lines(path: Path) -> list[dict[str, Any]]:
    # A line may have been cut by the end of the process that wrote it.
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    return [orjson.loads(line) for line in lines]
