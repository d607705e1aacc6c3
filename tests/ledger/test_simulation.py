"""The ledger on a log in memory, in simulated time, in bad weather: seed by seed the same."""

from __future__ import annotations

import asyncio
import random
import selectors
from collections import defaultdict
from collections.abc import Coroutine
from typing import Any

import orjson
import pytest

from agents.app import answer
from agents.ledger.ledger import Ledger
from agents.ledger.log import Layout
from agents.ledger.memory import MemoryCluster, MemoryLog, MemoryMembership, Weather
from agents.ledger.turn import Turn
from agents.references import References
from tests.ledger.toy import count, parse

LAYOUT = Layout(
    commands=("first", "second", "third"),
    references=("employers", "sites", "staff"),
    state="person-state",
    outcomes="outcomes",
    staff="staff",
    partitions=3,
)


class _Selector(selectors.SelectSelector):
    """Never waits: the clock jumps to where the loop would have waited to."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        ready = super().select(0)
        if not ready:
            assert timeout is not None, "everything waits, and nothing will come"
            self.now += timeout
        return ready


class SimulatedLoop(asyncio.SelectorEventLoop):
    """An event loop whose time passes only where nothing is to be done."""

    def __init__(self) -> None:
        self._selector_of_mine = _Selector()
        super().__init__(self._selector_of_mine)

    def time(self) -> float:
        return self._selector_of_mine.now


def simulate(run: Coroutine[Any, Any, None]) -> None:
    """Run to the end in simulated time."""
    loop = SimulatedLoop()
    try:
        loop.run_until_complete(run)
    finally:
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()


class Worker:
    """A ledger and its deciding agent, which can be killed."""

    def __init__(self, cluster: MemoryCluster, raises: float = 0.0) -> None:
        self._chance, self._raises = cluster.weather.chance, raises
        references = References(LAYOUT.references, parse)
        self.ledger = Ledger(MemoryLog(cluster), references, "toy", self._ask)
        assert isinstance(self.ledger.membership, MemoryMembership)
        self.membership = self.ledger.membership

    async def _ask(self, turn: Turn) -> None:
        def decide(turn: Turn) -> Any:
            if self._chance.random() < self._raises:
                raise RuntimeError("a bug that comes and goes")
            return count(turn)

        asyncio.get_running_loop().call_later(0.001, answer, turn, decide)

    async def kill(self) -> None:
        """As SIGKILL: nothing is finished, the group notices after the session."""
        tasks = [owner.task for owner in self.ledger.owners.values()]
        for task in [*tasks, *self.ledger._tasks]:
            if task is not None:
                task.cancel()
        self.membership.deaf = True
        asyncio.get_running_loop().call_later(6, self.membership.expel)


async def _story(seed: int) -> None:
    chance = random.Random(seed)
    weather = Weather(random.Random(seed + 1), failures=0.01, lag=0.5)
    cluster = MemoryCluster(LAYOUT, weather)
    sent: dict[bytes, list[str]] = defaultdict(list)
    workers = [Worker(cluster, raises=0.02), Worker(cluster, raises=0.02)]
    for worker in workers:
        await worker.ledger.start()

    async def person(number: int) -> None:
        key, mine = b"person %d" % number, random.Random(seed * 1000 + number)
        for step in range(25):
            topic, partition = mine.choice(LAYOUT.commands), number % LAYOUT.partitions
            value = b"staff" if mine.random() < 0.2 else b"%d" % step
            offset = cluster.append((topic, partition), key, value)
            sent[key].append(f"{topic}/{partition}/{offset}")
            # The acknowledgement takes its time; brokers stamp whole milliseconds.
            await asyncio.sleep(mine.choice((0.002, 0.02, 1.5)))

    persons = [asyncio.create_task(person(number)) for number in range(9)]
    for _ in range(chance.randint(2, 5)):
        await asyncio.sleep(chance.uniform(0.5, 6))
        what, worker = chance.choice(("kill", "zombie", "stop", "join")), chance.choice(workers)
        if what == "zombie":
            worker.membership.expel()
            asyncio.get_running_loop().call_later(chance.uniform(1, 8), worker.membership.hear)
            continue
        if what == "kill":
            await worker.kill()
        elif what == "stop":
            await worker.ledger.stop()
        if what != "join":
            workers.remove(worker)
        workers.append(Worker(cluster, raises=0.02))
        await workers[-1].ledger.start()
    await asyncio.gather(*persons)
    weather.failures = 0
    total = sum(map(len, sent.values()))
    for _ in range(600):
        await asyncio.sleep(0.2)
        outcomes = [
            orjson.loads(record.value or b"") | {"key": record.key}
            for number in range(LAYOUT.partitions)
            for record in cluster.committed(("outcomes", number))
        ]
        if len(outcomes) >= total:
            break
    assert len(outcomes) == total, [worker.ledger.health() for worker in workers]
    decided: dict[bytes, list[str]] = defaultdict(list)
    for outcome in outcomes:
        decided[outcome["key"]].append(outcome["origin"])
        assert outcome["n"] == len(decided[outcome["key"]])
    assert decided == sent
    for number in range(LAYOUT.partitions):
        turns = [record.key for record in cluster.committed(("person-state", number))]
        assert turns.count(b"_progress") >= 1
    for worker in workers:
        await worker.ledger.stop()


@pytest.mark.parametrize("seed", range(24))
def test_one_total_order_for_each_person_whatever_happens(seed: int) -> None:
    simulate(_story(seed))
