"""How many turns are in hand, and how large: what adapts by itself to a backlog."""

import asyncio

import pytest

from agents.ledger.ledger import Ledger, Permit, Permits
from agents.ledger.log import Entry, Layout
from agents.ledger.memory import Cluster, MemoryLog, Weather
from agents.ledger.turn import Turn, answer
from agents.references import References
from deployment.catalog import load_catalog
from schemas import limits
from tests.ledger import toy


async def taken(permits: Permits) -> Permit:
    permit = permits.permit()
    await permit.take()
    return permit


async def waiting(permit: Permit) -> asyncio.Task[None]:
    """It waits for its turn, behind those that wait already."""
    task = asyncio.create_task(permit.take())
    await asyncio.sleep(0)
    assert not task.done()
    return task


async def test_a_turn_waits_for_the_first_permit_that_is_given_back() -> None:
    permits = Permits(2)
    first, _ = await taken(permits), await taken(permits)
    third = await waiting(permits.permit())
    first.give_back()
    await third


async def test_a_permit_given_back_twice_lets_one_in() -> None:
    permits = Permits(1)
    permit = await taken(permits)
    permit.give_back()
    permit.give_back()
    await taken(permits)
    (await waiting(permits.permit())).cancel()


async def test_those_that_wait_are_served_in_order_but_formed_turns_before_all() -> None:
    permits = Permits(2)
    formed, deciding = await taken(permits), await taken(permits)
    formed.give_back()
    await taken(permits)
    served: list[str] = []

    async def serve(name: str, permit: Permit, **how: bool) -> None:
        await permit.take(**how)
        served.append(name)
        permit.give_back()

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(serve("second", permits.permit()))
        tasks.create_task(serve("third", permits.permit()))
        tasks.create_task(serve("first", formed, formed=True))
        await asyncio.sleep(0)
        assert not served
        deciding.give_back()
    assert served == ["first", "second", "third"]


async def test_who_gives_up_waiting_passes_the_permit_on() -> None:
    permits = Permits(1)
    permit = await taken(permits)
    early, late, last = [await waiting(permits.permit()) for _ in range(3)]
    early.cancel()
    await asyncio.sleep(0)
    permit.give_back()
    late.cancel()  # just as it is its turn
    await last
    assert early.cancelled()
    assert late.cancelled()


async def test_a_permit_runs_out_while_the_broker_is_asked_but_not_in_a_decision(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "PERMIT_MS_MAX", 10)
    permits = Permits(1)
    permit = await taken(permits)
    permit.limit()
    await permit.take()
    other = await waiting(permits.permit())
    await asyncio.sleep(0.03)
    assert not other.done(), "it is being decided"
    permit.limit()
    async with asyncio.timeout(1):
        await other


async def test_turns_are_large_while_nobody_is_live_and_short_for_a_while_after_somebody_was() -> (
    None
):
    permits = Permits(1)
    assert permits.records_max == limits.TURN_RECORDS_MAX
    permits.caught_up()
    assert permits.records_max == limits.TURN_RECORDS_LIVE_MAX
    await asyncio.sleep(limits.LIVE_MS / 1000 + 0.01)
    assert permits.records_max == limits.TURN_RECORDS_MAX


async def test_partitions_take_turns_also_where_one_barrier_covers_a_backlog(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "TURN_RECORDS_MAX", 1)
    monkeypatch.setattr(limits, "TURNS_IN_HAND_MAX", 1)
    catalog = load_catalog("", partitions=2)
    layout = Layout.of(catalog)
    cluster = Cluster(layout, [topic.name for topic in catalog.outputs], Weather())
    entries = [Entry(b"k", b"%d" % number) for number in range(10)]
    for place in (("scan-events", 0), ("scan-events", 1)):
        await cluster.request("test", 0, lambda done, to=place: cluster.produce(to, entries, done))
    order: list[int] = []
    all_decided = asyncio.Event()

    async def ask(turn: Turn) -> None:
        order.append(turn.partition)
        if len(order) == 20:
            all_decided.set()
        await answer(turn, toy.count)

    ledger = Ledger(
        MemoryLog(cluster, "worker"), References(layout.references, toy.parse), "1", ask
    )
    await ledger.start()
    async with asyncio.timeout(10):
        await all_decided.wait()
    await ledger.stop()
    both = order[max(order.index(0), order.index(1)) :]
    assert both[:10] in ([0, 1] * 5, [1, 0] * 5)
