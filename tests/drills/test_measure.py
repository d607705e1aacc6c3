"""What is said of pauses is what the histories say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from drills.load import Plan
from drills.measure import measure
from drills.stage import Fault


def write(home: Path, commands: list[tuple[int, float, float | None]]) -> Plan:
    """(partition, acknowledged, answered) of each command; ms."""
    plan = Plan("", "", 2, str(home), 1, "")
    acks, seen = [], []
    for offset, (partition, acked, answered) in enumerate(commands):
        place = {"topic": "hire-requests", "partition": partition, "offset": offset}
        acks.append({**place, "id": "x", "sent_ms": acked - 1, "acked_ms": acked})
        if answered is not None:
            origin = ["hire-requests", partition, offset]
            seen.append({"partition": partition, "origin": origin, "seen_ms": answered})
    plan.acks.write_text("".join(json.dumps(line) + "\n" for line in acks))
    plan.seen.write_text("".join(json.dumps(line) + "\n" for line in seen) + '{"cut off')
    return plan


def test_a_pause_is_of_one_partition_while_a_command_waits(tmp_path: Path) -> None:
    plan = write(
        tmp_path,
        [
            (0, 100, 110),
            *((1, at, at + 10) for at in range(100, 9_000, 100)),
            (0, 2_000, 5_000),
            (0, 8_900, 8_910),
        ],
    )
    times = measure(plan, [Fault(1_000, "a fault")])
    assert times.pause_s == pytest.approx(3.0)
    assert times.back_s == pytest.approx(4.0)
    assert times.wait_max_s == pytest.approx(3.0)
    assert times.before == 10
    assert times.acknowledged == times.answered == 92


def test_it_is_counted_back_from_the_mending(tmp_path: Path) -> None:
    plan = write(tmp_path, [(0, 100, 110), (0, 1_500, 4_500), (0, 4_600, 4_610)])
    times = measure(plan, [Fault(1_000, "down"), Fault(4_000, "up", mends=True)])
    assert times.back_s == pytest.approx(0.5)
    assert times.sent_after == 2
