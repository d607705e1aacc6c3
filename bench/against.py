"""This checkout against others, without a broker: who decides a backlog for less CPU?

A machine of somebody else's is half as fast in one second as in the next, so runs one after the
other tell differences of a tenth at best. Here the checkouts take turns every 50 ms, on the same
processor, and are compared turn by turn: that tells one of a hundredth.

This checkout's `bench.backlog` runs the others' agents, rules and schemas.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bench.backlog import LARGE, PARTITIONS
from bench.stage import ROOT, Failed

_PROGRAM: Final = """
import sys
here, there, now_ms = sys.argv[1:]
sys.path.insert(0, here)
import bench
sys.path[0] = there
from bench.backlog import pieces
import rules
assert rules.__path__ == [f"{there}/rules"], rules.__path__
work = pieces(int(now_ms))
next(work)
print("ready", flush=True)
for _ in sys.stdin:
    _, seconds, inputs = next(work)
    print(seconds, inputs, flush=True)
"""


@dataclass
class _Runner:
    root: Path
    process: subprocess.Popen[str]
    turns: list[float] = field(default_factory=list)
    """CPU of each, in microseconds an input."""
    _begun_s: float = 0

    def told(self) -> str:
        """The next line. Raises Failed."""
        assert self.process.stdout is not None
        if line := self.process.stdout.readline():
            return line
        raise Failed(f"{self.root} does not run")

    def ends_turn(self) -> bool:
        """Do one more piece; whether it was the last one of a turn. Raises Failed."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        seconds, inputs = self.told().split()
        self._begun_s += float(seconds)
        if not int(inputs):
            return False
        self.turns.append(self._begun_s / int(inputs) * 1e6)
        self._begun_s = 0
        return True


def compare(others: Sequence[Path]) -> list[str]:
    """For each of these checkouts, what this one's cost is to theirs. Raises Failed."""
    now_ms = str(int(time.time() * 1000))
    processor = {max(os.sched_getaffinity(0))}
    runners = []
    try:
        for root in (ROOT, *others):
            command = [sys.executable, "-c", _PROGRAM, str(ROOT), str(root.resolve()), now_ms]
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            runners.append(_Runner(root, process))
        for runner in runners:
            runner.told()
        for runner in runners:
            os.sched_setaffinity(runner.process.pid, processor)
        for _ in range(LARGE.turns * PARTITIONS):
            going = runners
            while going:
                going = [runner for runner in reversed(going) if not runner.ends_turn()]
    finally:
        for runner in runners:
            runner.process.kill()
            runner.process.wait()
    ours, *theirs = [runner.turns[PARTITIONS:] for runner in runners]
    return [f"to {root}: {words(ours, one)}" for root, one in zip(others, theirs, strict=True)]


def words(ours: Sequence[float], theirs: Sequence[float]) -> str:
    """The ratio of both costs turn by turn: its mean, and how far that may be off."""
    ratios = [one / other for one, other in zip(ours, theirs, strict=True)]
    error = statistics.stdev(ratios) / len(ratios) ** 0.5
    return (
        f"{statistics.geometric_mean(ratios):.3f} ± {error:.3f} of {len(ratios)} turns,"
        f" median {statistics.median(ours):.1f} and {statistics.median(theirs):.1f} µs an input"
    )
