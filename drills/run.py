"""One run of a drill: from its seed to its verdict."""

from __future__ import annotations

import asyncio
import shutil
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from checker.report import Report
from drills.faults import Drill
from drills.measure import Times, measure
from drills.stage import Broken, Server, Skipped, Stage, Void
from drills.verdict import judge

WARM_ANSWERS: Final = 300
"""So many outputs are seen before the fault begins."""

AFTER_S: Final = 1.5
"""How long the load goes on when decisions have come again."""

STORIES_MAX: Final = 5
"""Violations told in the summary; all are in the run's report."""

FEW: Final = 20
"""With fewer answers before the fault, or commands after it, a run says nothing."""


@dataclass
class Result:
    """What came of a run."""

    drill: str
    seed: int
    verdict: str
    """held, broken, unjudged, void, skipped"""
    words: list[str] = field(default_factory=list)
    faults: list[tuple[float, str]] = field(default_factory=list)
    """Seconds after the first, and what was done."""
    promises: list[str] = field(default_factory=list)
    """Those broken, by the checker."""
    judged: int = 0
    """By the checker: commands, decisions, rows and so on, all together."""
    times: Times | None = None
    notes: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    home: str = ""

    def find(self, verdict: str, *words: str) -> None:
        """Something speaks against it; what is broken stays broken."""
        if self.verdict != "broken":
            self.verdict = verdict
        self.words += words

    def document(self) -> dict[str, Any]:
        """For the file of all results."""
        return asdict(self)


async def run(
    drill: Drill,
    seed: int,
    server: Server,
    home: Path,
    tell: Callable[[str], None],
    *,
    worker_env: dict[str, str] | None = None,
    projector_env: dict[str, str] | None = None,
) -> Result:
    """Play a drill on a stage of its own in `home` and judge it; what it finds is in the result."""
    result = Result(drill.name, seed, "held", home=str(home))
    began = time.monotonic()
    stage = Stage(server, home, seed, tell, **drill.load)
    stage.worker_env.update(worker_env or {})
    stage.projector_env.update(projector_env or {})
    try:
        await _play(drill, stage)
        result.times = measure(stage.plan, stage.faults)
        _look_at_processes(stage, result)
        if stage.judged:
            _look_at_times(result.times)
            _take_in(result, await judge(stage))
    except Broken as error:
        result.find("broken", str(error))
    except Void as error:
        result.find("void", str(error))
    except Skipped as error:
        result.find("skipped", str(error))
    except Exception as error:  # noqa: BLE001 - one run must not take the others with it
        result.find("broken", f"the harness: {error!r}", traceback.format_exc())
    finally:
        result.faults = [
            (round((fault.at_ms - stage.faults[0].at_ms) / 1000, 3), fault.words)
            for fault in stage.faults
        ]
        result.notes = dict(stage.notes)
        await stage.clear()
        result.seconds = time.monotonic() - began
    return result


async def _play(drill: Drill, stage: Stage) -> None:
    await stage.set()
    if drill.early:
        await stage.begin_load()
        await stage.until(lambda: stage.sent() > WARM_ANSWERS, "the first acknowledgements")
    for number in range(drill.workers):
        proxied = drill.proxied == "all" or (drill.proxied == "first" and number == 0)
        await stage.worker(**drill.first_env, **(stage.through_proxy if proxied else {}))
    if drill.projects:
        await stage.projector()
    await stage.deciding()
    if not drill.early:
        await stage.begin_load()
    await stage.until(lambda: stage.seen() > WARM_ANSWERS, "the first answers", 60)
    await drill.play(stage)
    if not stage.judged:
        return
    await asyncio.sleep(AFTER_S)
    await stage.end_load()
    for worker in stage.alive:
        stage.note_most("worker_peak_mb", worker.peak_mb)
        for what in ("fences", "forgotten_ends"):
            stage.notes.setdefault(what, 0)
            stage.notes[what] += await worker.counter(f"realname_ledger_{what}_total")
    for projector in stage.projectors:
        stage.note_most("projector_peak_mb", projector.peak_mb)


def _look_at_processes(stage: Stage, result: Result) -> None:
    """Nobody ends who was not told to."""
    for process in [*stage.workers, *stage.projectors]:
        if not process.running and not process.dying:
            words = process.said()[-1000:]
            if "address already in use" in words:
                raise Void(f"{process.name} found its port taken")
            code = process.process.returncode
            result.find("broken", f"{process.name} ended by itself with {code}: {words}")


def _look_at_times(times: Times) -> None:
    if times.before < FEW or times.sent_after < FEW:
        raise Void(f"{times.before} answers before the fault, {times.sent_after} commands after it")


def _take_in(result: Result, report: Report) -> None:
    result.promises = report.broken_promises
    result.judged = sum(one.judged for one in report.tallies.values())
    for violation in report.violations[:STORIES_MAX]:
        result.words.append(f"{violation.promise} {violation.judgement}: {violation.words}")
    for name, tally in report.tallies.items():
        for reason, count in tally.unjudged.items():
            result.words.append(f"not judged: {name}: {count} x {reason}")
    if report.exit_code:
        result.find("broken" if report.exit_code == 1 else "unjudged")


def forget(home: Path) -> None:
    """Remove what a run left that needs no look."""
    shutil.rmtree(home, ignore_errors=True)
