"""The simulation itself, and a short run of it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from hashlib import sha256

import pytest

from simulation.loop import PROCESS, Deadlock, Endless, SimulatedLoop
from simulation.people import Message, play
from simulation.world import Result, run
from tests.simulation.planted import BUGS

HISTORIES = 80


def test_no_promise_is_broken() -> None:
    for seed in range(HISTORIES):
        result = run(seed)
        assert not result.violations, result.story()


def _digest(result: Result) -> str:
    return sha256("\n".join(result.trace).encode()).hexdigest()


def test_a_seed_gives_the_same_history_in_any_process() -> None:
    digests = {_digest(run(7, traced=True)), _digest(run(7, traced=True))}
    code = (
        "from simulation.world import run; from hashlib import sha256; "
        "print(sha256('\\n'.join(run(7, traced=True).trace).encode()).hexdigest())"
    )
    for hash_seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        said = subprocess.run(
            [sys.executable, "-c", code],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        digests.add(said.stdout.strip())
    assert len(digests) == 1


def test_another_seed_gives_another_history() -> None:
    assert _digest(run(7, traced=True)) != _digest(run(8, traced=True))


def test_the_story_of_a_violation_says_how_to_see_it_again() -> None:
    bug = next(bug for bug in BUGS if bug.name == "no memory of duplicates")
    story = next(
        result.story()
        for seed in range(20)
        if (result := run(seed, planted=bug.planted)).violations
    )
    assert "python -m simulation --seed" in story
    assert "faults:" in story
    assert "violation: P" in story


def test_plays_are_plausible() -> None:
    """Most commands get somewhere, all topics are used, and some messages come twice."""
    messages = [
        act for seed in range(20) for act in play(seed, 2, 5, 60).acts if isinstance(act, Message)
    ]
    assert len({message.topic for message in messages}) == 11
    assert len({(message.topic, message.value) for message in messages}) < len(messages)
    assert any(message.value is None for message in messages)


# --- the loop ------------------------------------------------------------------------------------


@contextmanager
def simulated(seed: int = 0) -> Iterator[SimulatedLoop]:
    with closing(SimulatedLoop(seed)) as loop:
        yield loop
        loop.run_until_complete(_ended(loop))


async def _ended(loop: SimulatedLoop) -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    loop.bury()
    await asyncio.gather(*tasks, return_exceptions=True)


def test_time_jumps_and_nothing_waits() -> None:
    async def long() -> float:
        await asyncio.sleep(86_400)
        return asyncio.get_running_loop().time()

    with simulated() as loop:
        assert loop.run_until_complete(long()) == 86_400


def test_what_is_ready_at_once_runs_in_an_order_of_the_seed() -> None:
    async def order() -> list[int]:
        ran: list[int] = []

        async def one(number: int) -> None:
            ran.append(number)

        await asyncio.gather(*map(one, range(6)))
        return ran

    def order_of(seed: int) -> tuple[int, ...]:
        with simulated(seed) as loop:
            return tuple(loop.run_until_complete(order()))

    assert len({order_of(seed) for seed in range(10)}) > 5
    assert order_of(3) == order_of(3)


def test_a_killed_process_runs_nothing_more_not_even_its_finally() -> None:
    said: list[str] = []

    async def live() -> None:
        PROCESS.set("w")
        try:
            while True:
                await asyncio.sleep(1)
                said.append("alive")
        finally:
            said.append("finally")

    async def main(loop: SimulatedLoop) -> None:
        task = asyncio.create_task(live())
        await asyncio.sleep(2.5)
        loop.kill("w")
        await asyncio.sleep(10)
        assert not task.done()

    with simulated() as loop:
        loop.run_until_complete(main(loop))
        assert said == ["alive", "alive"]
    # Only the end of the simulation itself gets there.
    assert said[-1] == "finally"


def test_a_paused_process_goes_on_where_it_was() -> None:
    said: list[float] = []

    async def live() -> None:
        PROCESS.set("w")
        for _ in range(3):
            await asyncio.sleep(1)
            said.append(asyncio.get_running_loop().time())

    async def main(loop: SimulatedLoop) -> None:
        task = asyncio.create_task(live())
        await asyncio.sleep(1.5)
        loop.pause("w")
        await asyncio.sleep(8)
        loop.resume("w")
        await task

    with simulated() as loop:
        loop.run_until_complete(main(loop))
    assert said == [1, 9.5, 10.5]


def test_where_nothing_can_happen_any_more_is_told() -> None:
    async def forever() -> None:
        await asyncio.Event().wait()

    with simulated() as loop, pytest.raises(Deadlock):
        loop.run_until_complete(forever())


def test_a_loop_that_does_not_let_time_pass_is_told() -> None:
    def again() -> None:
        loop.call_soon(again)

    async def busy() -> None:
        again()
        await asyncio.sleep(1)

    with simulated() as loop, pytest.raises(Endless):
        loop.run_until_complete(busy())
