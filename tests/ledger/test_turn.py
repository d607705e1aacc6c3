"""How a turn is answered: in steps, between which others have their turn at the loop."""

import asyncio
from collections.abc import Iterator
from unittest.mock import Mock

import pytest

from agents.ledger.turn import Turn, Verdict, answer
from agents.references import References

VERDICT = Verdict(Mock(), {})


def made(references: References) -> Turn:
    loop = asyncio.get_running_loop()
    return Turn(1, 0, [], {}, references, "1", Mock(), loop.create_future())


def references() -> References:
    return References(("staff",), lambda *_: None)


async def test_the_loop_goes_round_between_the_steps() -> None:
    steps = []
    seen = []

    def decide(_: Turn) -> Iterator[Verdict | None]:
        for step in range(3):
            steps.append(step)
            yield None
        yield VERDICT

    async def other() -> None:
        while not turn.answer.done():
            seen.append(len(steps))
            await asyncio.sleep(0)

    turn = made(references())
    await asyncio.gather(answer(turn, decide), other())
    assert await turn.answer is VERDICT
    assert seen == [1, 2, 3]


async def test_references_are_not_folded_between_the_steps() -> None:
    offsets = []

    def decide(turn: Turn) -> Iterator[Verdict | None]:
        for _ in range(3):
            yield None
            offsets.append(turn.references.offsets["staff"])
        yield VERDICT

    async def fold() -> None:
        async with turn.references.held:
            turn.references.fold("staff", (), 7)

    turn = made(references())
    await asyncio.gather(answer(turn, decide), fold())
    assert offsets == [0, 0, 0]
    assert turn.references.offsets["staff"] == 7


async def test_a_turn_that_was_given_up_is_left_at_the_next_step() -> None:
    steps = []

    def decide(turn: Turn) -> Iterator[Verdict | None]:
        for step in range(3):
            steps.append(step)
            if step == 1:
                turn.answer.cancel()
            yield None
        yield VERDICT

    turn = made(references())
    await answer(turn, decide)
    assert steps == [0, 1]
    await answer(turn, decide)
    assert steps == [0, 1], "not begun again"


async def test_what_a_step_raises_is_the_answer_and_references_go_on() -> None:
    def decide(_: Turn) -> Iterator[Verdict | None]:
        yield None
        raise RuntimeError("the rules are wrong")

    turn = made(references())
    await answer(turn, decide)
    with pytest.raises(RuntimeError, match="the rules are wrong"):
        await turn.answer
    assert not turn.references.held.locked()
