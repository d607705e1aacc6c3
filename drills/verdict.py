"""The checker's verdict on a run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

from checker.history import read_acks, read_sightings
from checker.report import Report
from checker.run import Options, check
from checker.story import tell
from drills.stage import Stage


async def judge(stage: Stage) -> Report:
    """Probe, wait, read and judge the deployment of a run; the report is printed to its home."""
    logical = {topic.wire: topic.name for topic in stage.catalog.topics.values()}
    report = await check(
        stage.server.brokers,
        stage.database_uri,
        stage.catalog,
        {1: bytes.fromhex(stage.code_key)},
        Options(
            probe=True,
            acks=read_acks(_whole_lines(stage.plan.acks), logical),
            sightings=read_sightings(_whole_lines(stage.plan.seen), logical),
        ),
    )
    with (stage.home / "report.txt").open("w") as out:
        tell(report, Console(file=out, width=140))
    return report


def _whole_lines(path: Path) -> Iterator[bytes]:
    """The last line may have been cut off with the process that wrote it."""
    with path.open("rb") as lines:
        for line in lines:
            if line.endswith(b"\n"):
                yield line
