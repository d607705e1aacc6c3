"""`python -m drills`: plays drills, prints what came of them, and keeps a file of it."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from drills.faults import DRILLS, Drill
from drills.planted import PLANTED, Plant
from drills.run import Result, forget, run
from drills.stage import Server, Skipped

VOID_AGAIN_MAX: Final = 2
"""A void run is played again with another seed, this often."""

PLANTED_TRIES_MAX: Final = 4
"""So often a planted error may do no harm."""

SHARED_RUNS_MAX: Final = 8
"""After so many runs the shared servers are replaced: topics pile up on them."""

console: Final = Console(width=None if os.isatty(1) else 140, highlight=False)


@dataclass(frozen=True)
class Job:
    drill: Drill
    seed: int
    plant: str = ""


class Session:
    """Plays jobs one after another; what was not held leaves its home behind."""

    def __init__(self, home: Path, keep: bool) -> None:
        self._home = home
        self._keep = keep
        self._shared: Server | None = None
        self._shared_runs = 0
        self._count = 0
        self.results: list[tuple[Job, Result]] = []

    async def play(self, job: Job) -> Result:
        """One run, on the shared servers or on its own."""
        self._count += 1
        drill = job.drill
        name = f"{self._count:03}-{(job.plant or drill.name).replace('_', '-')}-{job.seed}"
        home = self._home / name
        again = f"--planted {job.plant}" if job.plant else f"--only {drill.name}"
        console.print(Text(f"▶ {drill.name}: {drill.words}", "bold"))
        console.print(Text(f"  seed {job.seed}: python -m drills {again} --seed {job.seed}", "dim"))
        plant = PLANTED.get(job.plant)
        env = {"DRILL_PLANT": job.plant, **plant.env} if plant else {}
        in_worker = plant is not None and plant.where == "worker"
        try:
            with self._servers(drill, name) as server:
                await asyncio.to_thread(server.start)
                result = await run(
                    drill,
                    job.seed,
                    server,
                    home,
                    lambda words: console.print(Text(f"  {words}", "bright_black")),
                    worker_env=env if in_worker else None,
                    projector_env=None if in_worker else env,
                )
        except Skipped as error:
            result = Result(drill.name, job.seed, "skipped", [str(error)])
        self.results.append((job, result))
        _tell(result, plant)
        if result.verdict in ("held", "skipped", "void") and not self._keep:
            forget(home)
        return result

    @contextmanager
    def _servers(self, drill: Drill, name: str) -> Iterator[Server]:
        if not drill.own:
            if self._shared is None or self._shared_runs >= SHARED_RUNS_MAX:
                self.close()
                self._shared = Server(self._home / f"shared-{self._count}")
                self._shared_runs = 0
            self._shared_runs += 1
            yield self._shared
            return
        home = self._home / f"own-{name}"
        home.mkdir(parents=True)
        with _small_disk(home / drill.disk, drill.disk_mb):
            server = Server(home, drill.nodes)
            try:
                yield server
            finally:
                server.stop()
        forget(home)

    def close(self) -> None:
        """End the shared servers."""
        if self._shared is not None:
            self._shared.stop()
            forget(self._shared.home)
            self._shared = None


@contextmanager
def _small_disk(home: Path, megabytes: int) -> Iterator[None]:
    """A disk of this size at `home`; 0: the machine's. Raises Skipped."""
    if not megabytes:
        yield
        return
    home.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=0755", "tmpfs", str(home)],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode:
        raise Skipped(f"no small disk can be mounted here: {made.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(home)], check=True)


# --- what is told ---------------------------------------------------------------------------------

_COLOURS: Final = {"held": "green", "broken": "bold red", "unjudged": "red"}


def _tell(result: Result, plant: Plant | None) -> None:
    if plant is not None:
        found = caught(result, plant)
        style = "green" if found else "yellow"
        console.print(Text(f"  {'caught' if found else 'not caught'}", style), end="")
    else:
        style = _COLOURS.get(result.verdict, "yellow")
        console.print(Text(f"  {result.verdict}", style), end="")
    times = result.times
    if times is not None:
        console.print(
            f": {times.acknowledged} commands, {result.judged} judgements, "
            f"longest pause {times.pause_s:.1f} s, back after {times.back_s:.1f} s, "
            f"waits {times.wait_median_s:.2f} s "
            f"(at most {times.wait_max_s:.1f} s)",
            end="",
        )
    notes = "".join(f", {name} {value:.4g}" for name, value in result.notes.items())
    console.print(f"{notes}; took {result.seconds:.0f} s")
    for words in result.words[: 2 if plant else 20]:
        console.print(Text(f"    {words}"), soft_wrap=True)
    if result.verdict in ("broken", "unjudged") and plant is None:
        console.print(f"    logs and report: {result.home}")


def caught(result: Result, plant: Plant) -> bool:
    """Whether a run told of the planted error: by a promise that it breaks, or by the drill."""
    if result.verdict != "broken" or any("the harness:" in words for words in result.words):
        return False
    return not plant.promises or bool(plant.promises & set(result.promises))


def _summary(results: Sequence[tuple[Job, Result]]) -> Table:
    table = Table(header_style="bold", box=None, pad_edge=False)
    table.add_column("drill")
    for title in ("runs", "void", "skipped", "broken", "commands", "longest pause"):
        table.add_column(title, justify="right")
    by_drill: dict[str, list[Result]] = {}
    for job, result in results:
        by_drill.setdefault(job.plant or job.drill.name, []).append(result)
    for name, of_it in by_drill.items():
        verdicts = [one.verdict for one in of_it]
        broken = verdicts.count("broken") + verdicts.count("unjudged")
        timed = [one.times for one in of_it if one.times is not None]
        table.add_row(
            name,
            str(len(of_it)),
            str(verdicts.count("void")),
            str(verdicts.count("skipped")),
            Text(str(broken), "bold red" if broken else ""),
            str(sum(one.acknowledged for one in timed)),
            f"{max(one.pause_s for one in timed):.1f} s" if timed else "",
        )
    return table


# --- the command ----------------------------------------------------------------------------------


async def _play_all(session: Session, drills: Sequence[Drill], seed: int, runs: int) -> bool:
    """Whether everything held."""
    well = True
    for number in range(runs):
        drill = drills[number % len(drills)]
        for again in range(1 + VOID_AGAIN_MAX):
            job = Job(drill, seed + number // len(drills) + 1_000 * again)
            result = await session.play(job)
            if result.verdict != "void":
                break
        # A drill that never gets to its fault is broken too.
        well &= result.verdict in ("held", "skipped")
    return well


async def _play_planted(session: Session, names: Sequence[str], seed: int) -> bool:
    """Whether each planted error was caught."""
    well = True
    for name in names:
        plant = PLANTED[name]
        console.print(Text(f"planted: {plant.words}", "bold"))
        for again in range(PLANTED_TRIES_MAX):
            job = Job(DRILLS[plant.drill], seed + 1_000 * again, name)
            if caught(await session.play(job), plant):
                break
        else:
            well = False
    return well


async def _main(session: Session, play: Coroutine[None, None, bool]) -> bool:
    loop = asyncio.get_running_loop()
    task = asyncio.create_task(play)
    loop.add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        return await task
    finally:
        await asyncio.to_thread(session.close)


def command(
    only: Annotated[list[str] | None, typer.Option(help="A drill; may be repeated.")] = None,
    planted: Annotated[
        list[str] | None, typer.Option(help="A planted error, or `all`; may be repeated.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of the first run; without: by chance.")] = None,
    runs: Annotated[
        int, typer.Option(help="So many runs, of all drills in turn; 0: the short set, once.")
    ] = 0,
    results: Annotated[Path, typer.Option(help="The file that gets all results, as JSON.")] = Path(
        "drills.json"
    ),
    keep: Annotated[
        bool, typer.Option(help="Keep what all runs leave, not the broken only.")
    ] = False,
    list_: Annotated[bool, typer.Option("--list", help="What drills there are.")] = False,
) -> None:
    """Play drills; ends with 1 when something broke, or a planted error was not caught."""
    if list_:
        for drill in DRILLS.values():
            console.print(f"{drill.name:22}{'*' if drill.short else ' '} {drill.words}")
        for name, plant in PLANTED.items():
            console.print(f"planted {name:15} {plant.words} ({plant.drill})")
        return
    seed = secrets.randbelow(100_000) if seed is None else seed
    home = Path(tempfile.mkdtemp(prefix="realname-drills-"))
    session = Session(home, keep)
    try:
        if planted:
            names = list(PLANTED) if "all" in planted else planted
            play = _play_planted(session, names, seed)
        else:
            chosen = [DRILLS[name] for name in only or ()] or [
                one for one in DRILLS.values() if one.short or runs
            ]
            play = _play_all(session, chosen, seed, runs or len(chosen))
        well = asyncio.run(_main(session, play))
    finally:
        results.write_text(
            json.dumps(
                [
                    {
                        "planted": job.plant,
                        "caught": caught(one, PLANTED[job.plant]),
                        **one.document(),
                    }
                    if job.plant
                    else one.document()
                    for job, one in session.results
                ],
                indent=1,
            )
        )
        if not any(home.iterdir()):
            shutil.rmtree(home)
    console.print(_summary(session.results))
    console.print(f"results: {results}")
    if not well:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(command)
