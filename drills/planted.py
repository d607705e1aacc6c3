"""Errors that must be found out: each is planted in one process of a run and lives nowhere else.

They are the mistakes that this kind of system is usually made with. `PLANTED` says which drill
gives each a chance to do harm, and which promises it then breaks. A run in which an error did no
harm is played again, a few times.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final


@dataclass(frozen=True)
class Plant:
    words: str
    drill: str
    promises: frozenset[str]
    """Of these at least one must be told of as broken; empty: the drill itself tells."""
    where: str = "worker"
    env: Mapping[str, str] = field(default_factory=dict)
    """Hooks of `drills.worker` that help it to do harm."""


def _plant(words: str, drill: str, *promises: str, **more: Any) -> Plant:
    return Plant(words, drill, frozenset(promises), **more)


PLANTED: Final[dict[str, Plant]] = {
    "commit_first": _plant("the progress is committed before the decision", "kill", "P1", "P4"),
    "no_barrier": _plant(
        "a turn is what happens to be fetched", "calm", "P3", env={"DRILL_LAG": "1"}
    ),
    "no_memory": _plant("ids that were seen are not remembered", "calm", "P2", "P4"),
    "state_kept": _plant("memory is kept after a fence", "fenced", "P1", "P2", "P4"),
    "group_offsets": _plant("positions are the group's, not the progress", "kill", "P1", "P4"),
    "sends_not_awaited": _plant("a batch that was not written counts as sent", "cut", "P1", "P4"),
    "barrier_on_stable": _plant(
        "the barrier is the last stable offset", "foreign_transaction", "P3"
    ),
    "sorted": _plant("what is there is sorted, not merged", "restore", "P3"),
    "no_rejoin": _plant("a fenced worker starts a new producer at once", "deaf"),
    "staff_late": _plant("a turn does not see its own staff records", "restore", "P2"),
    "from_latest": _plant("without progress it begins at the end", "begin", "P1"),
    "uncommitted": _plant(
        "the projector reads what was aborted", "kill_sent", "P5", where="projector"
    ),
    "rows_apart": _plant(
        "offsets and rows are two transactions", "two_projectors", "P5", where="projector"
    ),
    "no_guard": _plant(
        "upserts without the version guard, of a batch that is written once more",
        "calm",
        "P5",
        where="projector",
    ),
}


def in_worker(name: str) -> None:
    """Plant one of the worker's errors in this process."""
    _IN_WORKER[name]()


def in_projector(name: str) -> None:
    """Plant one of the projector's errors in this process."""
    _IN_PROJECTOR[name]()


# --- the worker's -------------------------------------------------------------------------------


def _commit_first() -> None:
    from agents.ledger.ledger import Owner
    from agents.ledger.progress import Position
    from agents.ledger.turn import Turn, Verdict

    answer = Owner._answer

    async def committing(self: Owner, turn: Turn) -> Verdict:
        offsets = dict(self._offsets)
        for record in turn.records:
            offsets[record.topic] = record.offset + 1
        early = Position(turn.number, offsets, self._topic_ids, turn.used, turn.rules_version)
        await self._commit(Verdict(turn.draft(), {}), early)
        return await answer(self, turn)

    Owner._answer = committing  # type: ignore[method-assign]


def _no_barrier() -> None:
    from aiokafka.structs import TopicPartition

    from agents.ledger.ledger import Ledger

    make = Ledger.__init__

    def making(self: Ledger, *arguments: Any) -> None:
        make(self, *arguments)
        ask, reader, layout = self.barriers.ask, self.feeds_reader, self.layout

        async def fetched(places: Any) -> Any:
            if any(topic not in layout.commands for topic, _ in places):
                return await ask(places)  # a restore needs the ends
            await asyncio.sleep(0)
            feeds = reader._feeds  # type: ignore[attr-defined]
            wire = reader._wire  # type: ignore[attr-defined]
            ends = {
                (topic, p): feeds[TopicPartition(wire[topic], p)].reached for topic, p in places
            }
            return ends | {(topic, 0): at for topic, at in self.references.offsets.items()}

        self.barriers.ask = fetched  # type: ignore[method-assign]

    Ledger.__init__ = making  # type: ignore[assignment,method-assign]


def _no_memory() -> None:
    from rules import decide

    decide.recall = lambda *_: None  # type: ignore[attr-defined]


def _state_kept() -> None:
    from agents.ledger.ledger import Owner

    restore, let_go = Owner._restore, Owner._let_go
    kept: dict[int, Any] = {}

    async def restoring(self: Owner) -> None:
        await restore(self)
        if self.partition in kept:
            self._states = kept.pop(self.partition)

    async def letting_go(self: Owner) -> None:
        if self._states:
            kept[self.partition] = self._states
        await let_go(self)

    Owner._restore, Owner._let_go = restoring, letting_go  # type: ignore[method-assign]


def _group_offsets() -> None:
    from aiokafka import AIOKafkaConsumer
    from aiokafka.structs import TopicPartition

    from agents.ledger.kafka import KafkaLog
    from agents.ledger.ledger import Owner

    live, restore = Owner._live, Owner._restore
    consumers: dict[int, AIOKafkaConsumer] = {}

    def place(owner: Owner, topic: str) -> TopicPartition:
        source = owner._ledger.source
        assert isinstance(source, KafkaLog)
        return TopicPartition(source._wire[topic], owner.partition)

    async def living(self: Owner) -> None:
        source = self._ledger.source
        assert isinstance(source, KafkaLog)
        consumer = consumers[self.partition] = AIOKafkaConsumer(
            bootstrap_servers=source._brokers,
            group_id=f"{source._catalog.group}-positions-{self.partition}",
            enable_auto_commit=False,
        )
        await consumer.start()
        consumer.assign([place(self, topic) for topic in self._ledger.layout.commands])
        saving = asyncio.create_task(save(self, consumer))
        try:
            await live(self)
        finally:
            saving.cancel()
            await consumer.stop()

    async def save(self: Owner, consumer: AIOKafkaConsumer) -> None:
        # As often as clients do by default, only faster.
        while True:
            await asyncio.sleep(0.5)
            if self._offsets:
                await consumer.commit({place(self, t): at for t, at in self._offsets.items()})

    async def restoring(self: Owner) -> None:
        await restore(self)
        for feed in self._feeds:
            saved = await consumers[self.partition].committed(place(self, feed.topic))
            if saved is not None:
                self._offsets[feed.topic] = saved
        for feed in self._feeds:
            self._ledger.feeds_reader.close_feed(feed)
        self._feeds = [
            self._ledger.feeds_reader.open(at, self._offsets[at[0]], self._wake.set)
            for at in self._places
        ]

    Owner._live, Owner._restore = living, restoring  # type: ignore[method-assign]


def _sends_not_awaited() -> None:
    from aiokafka.errors import KafkaError

    from agents.ledger.kafka import KafkaWriter
    from agents.ledger.wire import Produce

    async def produced(self: KafkaWriter, queues: Any) -> None:
        await self._before_transaction()
        for key, batches in queues.items():
            leader = self._client.cluster.leader_for_partition(key)
            for batch in batches:
                topics = {key.topic: [(key.partition, batch)]}
                try:
                    await self._client.ask(leader, Produce(self._id, 1000, topics))
                except KafkaError:
                    break

    KafkaWriter._produce = produced  # type: ignore[method-assign]


def _barrier_on_stable() -> None:
    from agents.ledger import kafka

    kafka._READ_UNCOMMITTED = 1  # type: ignore[misc]


def _sorted() -> None:
    from agents.ledger import ledger
    from agents.ledger.merge import Merged

    def take(
        feeds: Any, cuts: Any, ends: Any, out: list[Any], records_max: int, bytes_max: int
    ) -> Merged:
        ranks = {feed.topic: rank for rank, feed in enumerate(feeds)}
        for feed, end in zip(feeds, ends, strict=True):
            while len(out) < 40 and (head := feed.head()) is not None and head.offset < end:
                out.append(head)
                feed.index += 1
        out.sort(key=lambda record: (record.timestamp, ranks[record.topic], record.offset))
        return Merged.FULL if len(out) >= 40 else Merged.DONE

    ledger.merge = take  # type: ignore[assignment,attr-defined]


def _no_rejoin() -> None:
    from agents.ledger.ledger import Owner

    async def at_once(self: Owner) -> None:
        await asyncio.sleep(0)

    Owner._assigned_anew = at_once  # type: ignore[method-assign]


def _staff_late() -> None:
    from agents import deciding

    def committed(self: Any, person: str, /) -> Any:
        return self.committed.get(person)

    deciding._StaffBefore.get = committed  # type: ignore[method-assign]


def _from_latest() -> None:
    from agents.ledger.kafka import KafkaEndOffsets

    async def ends(self: KafkaEndOffsets, places: Any) -> Mapping[Any, int]:
        found = await self.high_watermarks(places)
        outputs = {place: 0 for place in places if place[0] in ("outcomes", "person-state")}
        return {**found, **outputs}

    KafkaEndOffsets.log_starts = ends  # type: ignore[method-assign]


# --- the projector's ----------------------------------------------------------------------------


def _uncommitted() -> None:
    from projector import source

    consumer = source.AIOKafkaConsumer  # type: ignore[attr-defined]

    def dirty(**options: Any) -> Any:
        return consumer(**{**options, "isolation_level": "read_uncommitted"})

    source.AIOKafkaConsumer = dirty  # type: ignore[attr-defined]


def _rows_apart() -> None:
    from projector import main
    from projector.fold import Rows

    commit = main.commit  # type: ignore[attr-defined]

    async def apart(connection: Any, rows: Any, moves: Any) -> None:
        await commit(connection, Rows({}, {}), moves)
        await asyncio.sleep(0.2)
        await commit(connection, rows, {})

    main.commit = apart  # type: ignore[attr-defined]


def _no_guard() -> None:
    from projector import main, store
    from projector.fold import Rows

    commit = main.commit  # type: ignore[attr-defined]
    store._UPSERT["persons"] = store._UPSERT["persons"].partition(" where now.")[0]
    count = 0
    before = Rows({}, {})

    async def again(connection: Any, rows: Any, moves: Any) -> None:
        nonlocal count, before
        await commit(connection, rows, moves)
        await commit(connection, before, {})
        count += 1
        # Not each: the next would mend what the last one spoilt.
        persons = rows.current["persons"] if count % 4 == 0 else []
        before = Rows({"persons": persons}, {})

    main.commit = again  # type: ignore[attr-defined]


_IN_WORKER: Final[dict[str, Callable[[], None]]] = {
    "commit_first": _commit_first,
    "no_barrier": _no_barrier,
    "no_memory": _no_memory,
    "state_kept": _state_kept,
    "group_offsets": _group_offsets,
    "sends_not_awaited": _sends_not_awaited,
    "barrier_on_stable": _barrier_on_stable,
    "sorted": _sorted,
    "no_rejoin": _no_rejoin,
    "staff_late": _staff_late,
    "from_latest": _from_latest,
}
_IN_PROJECTOR: Final[dict[str, Callable[[], None]]] = {
    "uncommitted": _uncommitted,
    "rows_apart": _rows_apart,
    "no_guard": _no_guard,
}
