"""A restore that is overtaken, on the log in memory."""

import asyncio
from collections.abc import AsyncGenerator

import pytest

from agents.ledger.ledger import Ledger, Owner
from agents.ledger.log import Entry, Layout, Place
from agents.ledger.memory import Cluster, MemoryLog, Weather
from agents.ledger.record import Record
from agents.ledger.turn import Turn, answer
from agents.references import References
from deployment.catalog import load_catalog
from schemas import limits
from tests.ledger import toy

SCANS: Place = ("scan-events", 0)
STATE: Place = ("person-state", 0)


async def test_what_an_heir_wrote_and_compaction_took_away_is_not_held_for_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    catalog = load_catalog("", partitions=1)
    layout = Layout.of(catalog)
    cluster = Cluster(layout, [topic.name for topic in catalog.outputs], Weather())

    async def send(value: bytes) -> None:
        await cluster.request(
            "test", 0, lambda done: cluster.produce(SCANS, [Entry(b"k", value)], done)
        )

    turns: asyncio.Queue[int] = asyncio.Queue()

    async def ask(turn: Turn) -> None:
        await answer(turn, toy.count)
        turns.put_nowait(turn.number)

    def worker(name: str) -> Ledger:
        references = References(layout.references, toy.parse)
        return Ledger(MemoryLog(cluster, name), references, "1", ask)

    await send(b"first")
    first = worker("first")
    await first.start()
    async with asyncio.timeout(10):
        assert await turns.get() == 1
    await first.stop()

    read, stages = Owner._read, []

    async def overtaken(
        self: Owner, place: Place, start: int, end: int
    ) -> AsyncGenerator[list[Record], None]:
        if place == STATE and not stages:
            stages.append(self.stage)
            name = "realname-0"
            producer, epoch = cluster.begin_producer(name, limits.TRANSACTION_MS_MAX)
            partition = cluster.partitions[STATE]
            entries = [Entry(one.key, one.value) for one in partition.visible(0, partition.stable)]
            await cluster.request(
                "heir",
                0,
                lambda done: cluster.produce(STATE, entries, done, (name, producer, epoch)),
            )
            cluster.end(name, epoch, commit=True)
            await asyncio.sleep(0.05)
            assert not cluster.open_transactions
            cluster.compact(STATE)
        async for piece in read(self, place, start, end):
            yield piece

    monkeypatch.setattr(Owner, "_read", overtaken)

    second = worker("second")
    await second.start()
    await send(b"second")
    async with asyncio.timeout(10):
        assert await turns.get() == 2
    await second.stop()
    assert stages == ["restoring"]
