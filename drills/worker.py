"""A worker as it is deployed, with hooks that only drills know (`python -m drills.worker`).

By the environment:
DRILL_KILL=point:n      SIGKILL to itself when, from its n-th commit on, one comes to a point:
                        `decided`, `sent` (before EndTxn), `ending` (EndTxn is sent), `committed`,
                        or `staff` (right after a commit, the n-th that wrote staff records)
DRILL_RAISE=n:times     the n-th decision raises, this many times
DRILL_RESTORE_S=s       a restore takes this much longer
DRILL_BARRIER_S=s       an answer to a barrier takes this much longer
DRILL_CLOCK=s[,jump]    this process's clock is so many seconds ahead; `jump`: now ahead, now behind
DRILL_WITHOUT=topic     a version that does not know this topic
DRILL_LAG=seed          every fetch leaves out half of the partitions
DRILL_PLANT=name        an error of `drills.planted`
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from random import Random
from typing import Any


def _clock(spec: str) -> None:
    """Before anything else is imported: some keep a reference to the clock."""
    ahead, _, jumps = spec.partition(",")
    ahead_s = float(ahead)
    real, real_ns = time.time, time.time_ns
    chance = Random(1)

    def offset() -> float:
        return chance.choice((-ahead_s, 0.0, ahead_s)) if jumps else ahead_s

    time.time = lambda: real() + offset()
    time.time_ns = lambda: real_ns() + int(offset() * 1e9)


def _kill(spec: str) -> None:
    from agents.ledger.kafka import KafkaDraft, KafkaWriter
    from agents.ledger.log import Draft
    from agents.ledger.wire import EndTxn

    point, _, number = spec.partition(":")
    left = int(number)
    due = False
    commit, coordinated = KafkaWriter.commit, KafkaWriter._coordinated

    def die() -> None:
        print(f"killed: {spec}", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

    async def committing(self: KafkaWriter, draft: Draft) -> None:
        nonlocal left, due
        assert isinstance(draft, KafkaDraft)
        counts = point != "staff" or ("staff", 0) in draft.records
        left -= counts
        due = left <= 0
        if due and point == "decided":
            die()
        await commit(self, draft)
        if due and counts and point in ("committed", "staff"):
            die()

    async def coordinating(self: KafkaWriter, request: Any, code_of: Any, **options: Any) -> Any:
        if due and isinstance(request, EndTxn) and point in ("sent", "ending"):
            if point == "sent":
                die()
            asked = asyncio.ensure_future(coordinated(self, request, code_of, **options))
            # The request is written as soon as the loop gets to it, the answer takes longer.
            for _ in range(3):
                await asyncio.sleep(0)
            die()
            await asked
        return await coordinated(self, request, code_of, **options)

    KafkaWriter.commit = committing  # type: ignore[method-assign]
    KafkaWriter._coordinated = coordinating  # type: ignore[method-assign]


def _raise(spec: str) -> None:
    from agents.deciding import Decider

    number, _, times = spec.partition(":")
    count, left = 0, int(times)
    decide = Decider.decide

    def deciding(self: Decider, turn: Any) -> Any:
        nonlocal count, left
        count += 1
        if count >= int(number) and left:
            left -= 1
            raise RuntimeError("a drill: this decision raises")
        return decide(self, turn)

    Decider.decide = deciding  # type: ignore[method-assign]


def _slow_restore(seconds: float) -> None:
    from agents.ledger.ledger import Owner

    restore = Owner._restore

    async def restoring(self: Owner) -> None:
        await self._idle(asyncio.sleep(seconds))
        await restore(self)

    Owner._restore = restoring  # type: ignore[method-assign]


def _slow_barrier(seconds: float) -> None:
    from agents.ledger.ledger import Barriers

    ask = Barriers.ask

    async def asking(self: Barriers, places: Any) -> Any:
        found = await ask(self, places)
        await asyncio.sleep(seconds)
        return found

    Barriers.ask = asking  # type: ignore[method-assign]


def _without(topic: str) -> None:
    from agents import worker
    from deployment.catalog import Catalog, load_catalog

    def older(prefix: str = "", **options: Any) -> Catalog:
        catalog = load_catalog(prefix, **options)
        return Catalog(prefix, {n: one for n, one in catalog.topics.items() if n != topic})

    worker.load_catalog = older  # type: ignore[attr-defined]


def lag(chance: Random) -> None:
    """Make every fetch leave out half of the partitions, as brokers of different speed would."""
    from agents.ledger.reading import KafkaReader

    wanted = KafkaReader._wanted

    def half(self: KafkaReader, *arguments: Any) -> Any:
        all_of_it, full = wanted(self, *arguments)
        out = {key for key in all_of_it if chance.random() < 0.5}
        return {key: at for key, at in all_of_it.items() if key not in out}, full | out

    def everything(self: KafkaReader, session: Any) -> Any:
        return self._feeds.keys() | session.told.keys()

    KafkaReader._wanted = half  # type: ignore[assignment,method-assign]
    KafkaReader._due = everything  # type: ignore[method-assign]


def main() -> None:
    """Apply the hooks, then be a worker."""
    env = os.environ.get
    if spec := env("DRILL_CLOCK"):
        _clock(spec)
    if spec := env("DRILL_KILL"):
        _kill(spec)
    if spec := env("DRILL_RAISE"):
        _raise(spec)
    if spec := env("DRILL_RESTORE_S"):
        _slow_restore(float(spec))
    if spec := env("DRILL_BARRIER_S"):
        _slow_barrier(float(spec))
    if spec := env("DRILL_WITHOUT"):
        _without(spec)
    if spec := env("DRILL_LAG"):
        lag(Random(spec))
    if spec := env("DRILL_PLANT"):
        from drills import planted

        planted.in_worker(spec)
    from agents import worker

    worker.main()


if __name__ == "__main__":
    main()
