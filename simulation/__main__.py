"""`python -m simulation`: many histories, or one again.

python -m simulation --runs 2000            the histories of the seeds 0 to 1999
python -m simulation --seed 4711 --trace    one of them, with everything that happened
"""

from __future__ import annotations

import multiprocessing
import os
import time
from typing import Annotated

import typer
from rich.console import Console

from simulation.world import run

SEEDS_A_CHUNK = 20


def main(
    runs: Annotated[int, typer.Option(help="How many histories.")] = 1_000,
    first: Annotated[int, typer.Option(help="The first seed.")] = 0,
    jobs: Annotated[int, typer.Option(help="Processes; 0: one a processor.")] = 0,
    stop_after: Annotated[int, typer.Option(help="End after so many violated histories.")] = 3,
    seed: Annotated[int | None, typer.Option(help="Only this history.")] = None,
    trace: Annotated[bool, typer.Option(help="Print all that happened (with --seed).")] = False,
) -> None:
    """Simulate the ledger under seeded schedules and faults, and judge each history.

    Ends with 0 if no promise was broken, else with 1 and the story of each broken one.
    """
    console = Console(soft_wrap=True, highlight=False, markup=False)
    if seed is not None:
        result = run(seed, trace)
        for line in result.trace:
            console.print(line)
        console.print(result.story())
        raise typer.Exit(1 if result.violations else 0)
    began = time.monotonic()
    seeds = range(first, first + runs)
    done = commands = callbacks = violated = 0
    simulated_s = 0.0
    # Fresh processes: a fork would share what the parent's imports started.
    with multiprocessing.get_context("spawn").Pool(jobs or os.cpu_count()) as pool:
        for result in pool.imap_unordered(run, seeds, SEEDS_A_CHUNK):
            done += 1
            commands += result.commands
            callbacks += result.steps
            simulated_s += result.seconds
            if result.violations:
                violated += 1
                console.print(result.story(), style="red")
                if violated == stop_after:
                    break
    took_s = time.monotonic() - began
    console.print(
        f"{done} histories ({commands} commands, {callbacks} callbacks, "
        f"{simulated_s / 3600:.1f} simulated hours) in {took_s:.0f} s, "
        f"{done / took_s * 60:.0f} a minute: {violated} violated"
    )
    raise typer.Exit(1 if violated else 0)


if __name__ == "__main__":
    typer.run(main)
