"""How many turns are in hand, and how large: what adapts by itself to a backlog."""

import asyncio

from agents.ledger.ledger import Permits
from schemas import limits


async def test_a_turn_waits_for_the_first_permit_that_is_given_back() -> None:
    permits = Permits(2)
    first = await permits.take()
    await permits.take()
    third = asyncio.create_task(permits.take())
    await asyncio.sleep(0)
    assert not third.done()
    first.give_back()
    await third


async def test_a_permit_given_back_twice_lets_one_in() -> None:
    permits = Permits(1)
    permit = await permits.take()
    permit.give_back()
    permit.give_back()
    await permits.take()
    another = asyncio.create_task(permits.take())
    await asyncio.sleep(0)
    assert not another.done()
    another.cancel()


async def test_turns_are_large_while_nobody_is_live_and_short_for_a_while_after_somebody_was() -> (
    None
):
    permits = Permits(1)
    assert permits.records_max == limits.TURN_RECORDS_MAX
    permits.caught_up()
    assert permits.records_max == limits.TURN_RECORDS_LIVE_MAX
    await asyncio.sleep(limits.LIVE_MS / 1000 + 0.01)
    assert permits.records_max == limits.TURN_RECORDS_MAX
