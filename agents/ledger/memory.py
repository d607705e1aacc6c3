"""The ledger's log in memory, with Kafka's semantics as far as the ledger can tell.

`Cluster` is the broker's side: partitions with offsets and broker times, transactions with control
markers, fencing by epochs, a group with sessions and generations. `MemoryLog` is a worker's side
and implements `agents.ledger.log`. Between the two lies a network, where every request and every
answer takes the time, and meets the fate, that a `Weather` gives it; the plain one is calm.

Requests live apart from who sent them. They are executed in the cluster's own context and answered
in the sender's, so a sender that is cancelled, ended or held up meanwhile takes nothing back.

`tests/ledger/test_conformance.py` runs the same tests on this and on a real broker. Not kept here:
replicas (a high watermark only lags), the group protocol's two phases, sizes, quotas, retention.
"""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import time
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from agents.ledger.backoff import Backoff
from agents.ledger.feed import Feed
from agents.ledger.log import (
    Draft,
    Entry,
    Fenced,
    Headers,
    Layout,
    LogError,
    LogUnavailable,
    OutOfLog,
    Place,
)
from agents.ledger.record import Record
from schemas import limits

T = TypeVar("T")

Answer = Callable[[Any, Exception | None], None]
"""Takes what a request came to: a result, or an error."""


# --- the weather ---------------------------------------------------------------------------------


class Fate(NamedTuple):
    """What a request meets. Times in seconds."""

    there: float = 0.0
    back: float = 0.0
    lost: str = ""
    """"": nothing is lost; "request" or "answer": the sender is told LogUnavailable instead."""
    late: float | None = None
    """A lost request is executed nonetheless, this long after its sender was told."""


class Weather:
    """Times, delays and losses. This one has none; a simulation draws them from a seed."""

    def fate(self, what: str, broker: int) -> Fate:
        """What a request of this name to this broker meets."""
        return Fate()

    def replication_s(self, place: Place) -> float:
        """How long an append stays above the high watermark."""
        return 0.0

    def marker_s(self, place: Place) -> float:
        """How long a decided transaction stays open in a partition."""
        return 0.0

    def clock_ms(self, broker: int) -> int:
        """The broker's clock, Unix milliseconds."""
        return int(time.time() * 1000)

    def groups(self, places: Sequence[Place]) -> Sequence[Sequence[Place]]:
        """Which end offsets are read at one moment."""
        return [places]

    def fetch_records_max(self) -> int:
        """How many offsets one fetch gets."""
        return 10_000

    def assignment(self, partitions: int, kept: Mapping[str, Collection[int]]) -> dict[str, int]:
        """How many partitions each member gets, by member."""
        members = sorted(kept, key=lambda member: (-len(kept[member]), member))
        least, more = divmod(partitions, len(members))
        return {member: least + (at < more) for at, member in enumerate(members)}

    def note(self, text: str, *about: object) -> None:
        """Something happened on the cluster."""


# --- the broker's side ---------------------------------------------------------------------------


class Stored(NamedTuple):
    """A record or control marker as the log has it."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    producer: int
    """-1 where it was written outside a transaction."""
    control: bool


class Span(NamedTuple):
    """An ended transaction in a partition, whose marker is not replicated yet."""

    first: int
    marker: int


class Partition:
    """One partition's log. Offsets are positions in `records`."""

    def __init__(self, place: Place, broker: int) -> None:
        self.place = place
        self.broker = broker
        self.start = 0
        self.high = 0
        """High watermark."""
        self.records: list[Stored] = []
        self.hidden: set[int] = set()
        """Offsets that a committed reader does not get: markers, aborted, compacted."""
        self.open: dict[int, int] = {}
        """Producer -> the first offset of its transaction under way."""
        self.ended: list[Span] = []
        self.epochs: dict[int, int] = {}
        self.sequences: dict[int, tuple[int, int]] = {}
        """Producer -> (epoch, number of its last batch)."""
        self.waiting: list[Callable[[], None]] = []
        """Fetches that found nothing."""
        self.stable_since: list[tuple[int, float]] = []
        """(last stable offset, loop time) as it moved."""

    @property
    def end(self) -> int:
        return len(self.records)

    @property
    def stable(self) -> int:
        """Last stable offset."""
        return min(itertools.chain((self.high,), self.open.values(), (s.first for s in self.ended)))

    def readable_at(self, offset: int) -> float:
        """When a committed reader could first get this offset; infinity if not yet."""
        at = bisect_right(self.stable_since, offset, key=lambda one: one[0])
        return self.stable_since[at][1] if at < len(self.stable_since) else float("inf")

    def visible(self, offset: int, end: int) -> Iterator[Stored]:
        """Committed records of [offset, end)."""
        for record in self.records[offset:end]:
            if record.offset not in self.hidden:
                yield record


class _Concurrent(LogError):
    """The coordinator still ends the transaction before."""


@dataclass
class _Transactions:
    """What the coordinator knows of one transactional id."""

    producer: int
    epoch: int = -1
    state: str = "empty"
    places: set[Place] = field(default_factory=set)
    timeout_s: float = 0.0
    round: int = 0


@dataclass
class _Member:
    seen: float
    partitions: frozenset[int] = frozenset()
    joining: Answer | None = None


class _Rejoin(LogError):
    """The group is being put together anew."""


class _Unknown(LogError):
    """The group does not know this member (any more)."""


class Cluster:
    """Brokers with the topics of a layout; `topics` maps further ones to their partition count."""

    def __init__(
        self,
        layout: Layout,
        outputs: Collection[str],
        weather: Weather | None = None,
        brokers: int = 1,
        session_ms: int = limits.SESSION_MS_MAX,
        rebalance_ms: int = limits.REBALANCE_MS_MAX,
    ) -> None:
        self.layout = layout
        self.weather = weather or Weather()
        self.brokers = brokers
        self.session_s = session_ms / 1000
        self.rebalance_s = rebalance_ms / 1000
        self.context = contextvars.Context()
        self.partitions: dict[Place, Partition] = {}
        self.topic_ids: dict[str, str] = {}
        self._ids = itertools.count(1)
        counts = dict.fromkeys((*layout.commands, *outputs, layout.outcomes), layout.partitions)
        counts |= {layout.state: layout.partitions} | dict.fromkeys(layout.references, 1)
        for topic, count in counts.items():
            self.create(topic, count)
        self._transactions: dict[str, _Transactions] = {}
        self._members: dict[str, _Member] = {}
        self._round = 0
        self._forming = False
        self._formed = 0
        self.over = False
        """The end of everything: requests fail at once. For ending what still runs."""

    # --- topics ----------------------------------------------------------------------------------

    def create(self, topic: str, partitions: int) -> None:
        """Make a topic, anew if it is there."""
        self.topic_ids[topic] = f"{next(self._ids):032x}"
        for number in range(partitions):
            broker = (number + len(self.partitions)) % self.brokers
            before = self.partitions.get((topic, number))
            self.partitions[topic, number] = Partition((topic, number), broker)
            if before is not None:
                self._wake(before)

    def delete_records(self, place: Place, before: int) -> None:
        """Delete what lies below an offset."""
        partition = self.partitions[place]
        partition.start = max(partition.start, min(before, partition.high))
        self._wake(partition)

    def compact(self, place: Place) -> None:
        """Remove what later committed records of the same key supersede."""
        partition = self.partitions[place]
        latest: dict[bytes | None, int] = {}
        for record in partition.visible(partition.start, partition.stable):
            if record.key in latest:
                partition.hidden.add(latest[record.key])
            latest[record.key] = record.offset

    # --- requests --------------------------------------------------------------------------------

    def send(
        self, what: str, broker: int, execute: Callable[[Answer], None], answered: Answer
    ) -> None:
        """Have the cluster execute something, and the sender told what it came to."""
        loop = asyncio.get_running_loop()
        here = contextvars.copy_context()
        if self.over:
            loop.call_soon(answered, None, LogUnavailable("over"), context=here)
            return
        fate = self.weather.fate(what, broker)

        def done(result: Any, error: Exception | None) -> None:
            if fate.lost:
                result, error = None, LogUnavailable(f"{what}: the connection was lost")
            if fate.back:
                loop.call_later(fate.back, answered, result, error, context=here)
            else:
                loop.call_soon(answered, result, error, context=here)

        def arrive() -> None:
            if self.over:
                return
            try:
                execute(done)
            except LogError as error:
                done(None, error)

        def arrive_late() -> None:
            if not self.over:
                self.weather.note("a lost request arrives late", what)
                try:
                    execute(lambda *_: None)
                except LogError:
                    return

        if fate.lost == "request":
            loop.call_later(fate.there, done, None, None, context=self.context)
            if fate.late is not None:
                late = fate.there + fate.back + fate.late
                loop.call_later(late, arrive_late, context=self.context)
        elif fate.there:
            loop.call_later(fate.there, arrive, context=self.context)
        else:
            loop.call_soon(arrive, context=self.context)

    def request(
        self, what: str, broker: int, execute: Callable[[Answer], None]
    ) -> asyncio.Future[Any]:
        """As `send`, with a future for what it comes to."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def answered(result: Any, error: Exception | None) -> None:
            if future.done():
                return
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)

        self.send(what, broker, execute, answered)
        return future

    async def call(self, what: str, broker: int, execute: Callable[[], T]) -> T:
        """As `request`, of something that is answered at once."""
        answer: T = await self.request(what, broker, lambda done: done(execute(), None))
        return answer

    def _later(self, seconds: float, run: Callable[..., object], *args: Any) -> None:
        loop = asyncio.get_running_loop()
        if seconds:
            loop.call_later(seconds, run, *args, context=self.context)
        else:
            loop.call_soon(run, *args, context=self.context)

    # --- reading and writing ---------------------------------------------------------------------

    def partition(self, place: Place) -> Partition:
        partition = self.partitions.get(place)
        if partition is None:
            raise LogUnavailable(f"{place} is unknown")
        return partition

    def fetch(self, place: Place, offset: int) -> tuple[list[Record], int, int, int] | None:
        """Committed records from `offset` on, the offset behind them, the last stable offset and
        the high watermark; None where there is nothing yet. Raises OutOfLog."""
        partition = self.partition(place)
        if not partition.start <= offset <= partition.end:
            raise OutOfLog(f"{place[0]}: offset {offset} is outside the log: records were lost")
        stable = partition.stable
        end = min(stable, offset + self.weather.fetch_records_max())
        if end <= offset:
            return None
        records = [
            Record(*place, one.offset, one.timestamp, one.key, one.value)
            for one in partition.visible(offset, end)
        ]
        return records, end, stable, partition.high

    def append(self, place: Place, entries: Sequence[Entry], producer: int = -1) -> int:
        """Append a batch; the offset of its first record."""
        partition = self.partition(place)
        first = partition.end
        now_ms = self.weather.clock_ms(partition.broker)
        for entry in entries:
            partition.records.append(
                Stored(
                    partition.end, now_ms, entry.key, entry.value, entry.headers, producer, False
                )
            )
        self._later(self.weather.replication_s(place), self._replicated, partition, partition.end)
        return first

    def _replicated(self, partition: Partition, end: int) -> None:
        if end > partition.high:
            partition.high = end
            partition.ended = [span for span in partition.ended if span.marker >= end]
        self._wake(partition)

    def _wake(self, partition: Partition) -> None:
        stable = partition.stable
        if not partition.stable_since or partition.stable_since[-1][0] < stable:
            partition.stable_since.append((stable, asyncio.get_running_loop().time()))
        waiting, partition.waiting = partition.waiting, []
        for wake in waiting:
            wake()

    def produce(
        self,
        place: Place,
        entries: Sequence[Entry],
        done: Answer,
        transaction: tuple[str, int, int] | None = None,
        batch: int = 0,
    ) -> None:
        """A produce request with acks=all: answered with the first offset once replicated.

        `transaction`: transactional id, producer and epoch; `batch`: the producer's number for it,
        by which a repeated one is known.
        """
        partition = self.partition(place)
        producer = -1
        if transaction is not None:
            name, producer, epoch = transaction
            self._join(partition, name, producer, epoch)
            if partition.sequences.get(producer, (-1, -1)) >= (epoch, batch):
                done(-1, None)
                return
            partition.sequences[producer] = (epoch, batch)
            partition.epochs[producer] = epoch
            partition.open.setdefault(producer, partition.end)
        first = self.append(place, entries, producer)
        end = partition.end

        def replicated() -> None:
            if partition.high >= end:
                done(first, None)
            else:
                partition.waiting.append(replicated)

        replicated()

    def _join(self, partition: Partition, name: str, producer: int, epoch: int) -> None:
        """The leader adds its partition to the transaction of a batch, which begins it. Once it
        knows the transaction, only the transaction's marker tells it of a newer epoch."""
        known_epoch = partition.epochs.get(producer, -1)
        if epoch < known_epoch:
            raise Fenced(partition.place[0])
        if producer in partition.open and epoch == known_epoch:
            return
        known = self._known(name, epoch)
        if known.state != "ongoing":
            known.state = "ongoing"
            known.places = set()
            known.round += 1
            self._later(known.timeout_s, self._timed_out, known, known.round)
        known.places.add(partition.place)

    # --- transactions ----------------------------------------------------------------------------

    def begin_producer(self, name: str, timeout_ms: int) -> tuple[int, int]:
        """InitProducerId: (producer, epoch); fences earlier ones and ends what they left open."""
        known = self._transactions.get(name)
        if known is None:
            known = self._transactions[name] = _Transactions(next(self._ids))
        self._settled(known)
        known.epoch += 1
        if known.state == "ongoing":
            self._end(known, "abort")
            raise _Concurrent(name)
        known.state = "empty"
        known.timeout_s = timeout_ms / 1000
        self.weather.note("producer", name, "epoch", known.epoch)
        return known.producer, known.epoch

    def _known(self, name: str, epoch: int) -> _Transactions:
        known = self._transactions[name]
        if epoch < known.epoch:
            raise Fenced(name)
        self._settled(known)
        return known

    @staticmethod
    def _settled(known: _Transactions) -> None:
        if known.state.startswith("ending"):
            raise _Concurrent("a transaction is being ended")

    def _timed_out(self, known: _Transactions, number: int) -> None:
        if known.round == number and known.state == "ongoing" and not self.over:
            self.weather.note("a transaction timed out")
            known.epoch += 1
            self._end(known, "abort")

    def end(self, name: str, epoch: int, commit: bool) -> int:
        """EndTxn: answered, with the next transaction's epoch, once it is decided; the markers
        follow."""
        known = self._known(name, epoch)
        outcome = "commit" if commit else "abort"
        if known.state != "ongoing":
            raise LogUnavailable(f"{name}: no transaction to {outcome}, but {known.state}")
        known.epoch += 1
        self._end(known, outcome)
        return known.epoch

    def _end(self, known: _Transactions, outcome: str) -> None:
        known.state = f"ending {outcome}"
        left = set(known.places)

        def mark(place: Place) -> None:
            partition = self.partitions[place]
            offset, producer = partition.end, known.producer
            now_ms = self.weather.clock_ms(partition.broker)
            partition.records.append(Stored(offset, now_ms, None, None, (), producer, True))
            partition.hidden.add(offset)
            partition.epochs[producer] = known.epoch
            first = partition.open.pop(producer, None)
            if first is not None:
                partition.ended.append(Span(first, offset))
                if outcome == "abort":
                    partition.hidden.update(
                        one.offset for one in partition.records[first:] if one.producer == producer
                    )
            self._later(
                self.weather.replication_s(place), self._replicated, partition, partition.end
            )
            left.discard(place)
            if not left:
                known.state = f"ended {outcome}"

        if not left:
            known.state = f"ended {outcome}"
        for place in sorted(left):
            self._later(self.weather.marker_s(place), mark, place)

    @property
    def open_transactions(self) -> list[Place]:
        """Where a committed reader is held up."""
        return [place for place, one in self.partitions.items() if one.stable < one.end]

    # --- the group -------------------------------------------------------------------------------

    def join(self, name: str, done: Answer) -> None:
        """JoinGroup, answered with (round, partitions) when all members joined or were given up."""
        now = asyncio.get_running_loop().time()
        member = self._members.get(name)
        if member is None:
            member = self._members[name] = _Member(now)
            self._later(self.session_s, self._check_session, name)
        member.seen = now
        member.joining = done
        if not self._forming:
            self._forming = True
            self._formed += 1
            self._later(self.rebalance_s, self._form, self._formed)
        self._form_if_all()

    def _form_if_all(self) -> None:
        if self._forming and all(one.joining is not None for one in self._members.values()):
            self._form(self._formed)

    def _form(self, number: int) -> None:
        if not self._forming or number != self._formed or self.over:
            return
        self._forming = False
        members = {name: one for name, one in self._members.items() if one.joining is not None}
        self._members = members
        self._round += 1
        self._assign(members)
        self.weather.note(
            "group", self._round, {name: sorted(one.partitions) for name, one in members.items()}
        )
        for member in members.values():
            member.seen = asyncio.get_running_loop().time()
            answer, member.joining = member.joining, None
            if answer is not None:
                answer((self._round, member.partitions), None)

    def _assign(self, members: Mapping[str, _Member]) -> None:
        """Evenly, and as before where that can be."""
        if not members:
            return
        kept = {name: member.partitions for name, member in members.items()}
        counts = self.weather.assignment(self.layout.partitions, kept)
        free = set(range(self.layout.partitions))
        given: dict[str, set[int]] = {}
        for name, count in counts.items():
            given[name] = set(sorted(kept[name] & free)[:count])
            free -= given[name]
        for name, count in counts.items():
            more = sorted(free)[: count - len(given[name])]
            given[name].update(more)
            free.difference_update(more)
            members[name].partitions = frozenset(given[name])

    def heartbeat(self, name: str, number: int) -> None:
        member = self._members.get(name)
        if member is None:
            raise _Unknown(name)
        member.seen = asyncio.get_running_loop().time()
        if self._forming or number != self._round:
            raise _Rejoin(name)

    def leave(self, name: str) -> None:
        if self._members.pop(name, None) is not None:
            self.weather.note("left", name)
            self._lost_one()

    def _lost_one(self) -> None:
        if self._members and not self._forming:
            self._forming = True
            self._formed += 1
            self._later(self.rebalance_s, self._form, self._formed)
        self._form_if_all()

    def _check_session(self, name: str) -> None:
        member = self._members.get(name)
        if member is None or self.over:
            return
        now = asyncio.get_running_loop().time()
        if member.joining is not None:
            member.seen = now
        due = member.seen + self.session_s
        if now >= due:
            self.weather.note("session ended", name)
            del self._members[name]
            self._lost_one()
        else:
            self._later(due - now, self._check_session, name)


# --- the worker's side ---------------------------------------------------------------------------


class MemoryLog:
    """Implements `agents.ledger.log.Log`. `name` tells workers apart."""

    def __init__(
        self,
        cluster: Cluster,
        name: str = "worker",
        layout: Layout | None = None,
        transaction_timeout_ms: int = limits.TRANSACTION_MS_MAX,
    ) -> None:
        self.cluster = cluster
        self.name = name
        self.layout = layout or cluster.layout
        self._transaction_timeout_ms = transaction_timeout_ms

    def membership(self) -> MemoryMembership:
        return MemoryMembership(self.cluster, self.name)

    def reader(self) -> MemoryReader:
        return MemoryReader(self.cluster)

    def end_offsets(self) -> MemoryEndOffsets:
        return MemoryEndOffsets(self.cluster)

    def writer(self, partition: int) -> MemoryWriter:
        return MemoryWriter(self.cluster, f"realname-{partition}", self._transaction_timeout_ms)

    async def topic_ids(self, topics: Collection[str]) -> Mapping[str, str]:
        names = sorted(topics)
        return await self.cluster.call(
            "topic ids", 0, lambda: {name: self.cluster.topic_ids[name] for name in names}
        )


class _Batch:
    """Implements `agents.ledger.feed.Batch`."""

    __slots__ = ("next_offset", "records", "size")

    def __init__(self, records: list[Record], next_offset: int) -> None:
        self.records = records
        self.next_offset = next_offset
        self.size = sum(len(record.value or b"") for record in records)

    def pieces(self, first: int) -> Iterator[list[Record]]:
        yield [record for record in self.records if record.offset >= first]


class MemoryReader:
    """Implements `agents.ledger.log.Reader`: one fetch a feed is always under way."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._feeds: dict[Place, Feed] = {}

    def open(self, place: Place, offset: int, wake: Callable[[], None]) -> Feed:
        feed = Feed(*place, offset, wake)
        self._feeds[place] = feed
        self._fetch(place, feed)
        return feed

    def close_feed(self, feed: Feed) -> None:
        if self._feeds.get((feed.topic, feed.partition)) is feed:
            del self._feeds[feed.topic, feed.partition]

    async def close(self) -> None:
        self._feeds.clear()

    def _fetch(self, place: Place, feed: Feed) -> None:
        cluster, offset = self._cluster, feed.reached

        def execute(done: Answer) -> None:
            def look() -> None:
                if self._feeds.get(place) is not feed:
                    return
                try:
                    found = cluster.fetch(place, offset)
                except LogError as error:
                    done(None, error)
                    return
                if found is None:
                    cluster.partition(place).waiting.append(look)
                else:
                    done(found, None)

            look()

        def answered(found: Any, error: Exception | None) -> None:
            if self._feeds.get(place) is not feed or cluster.over:
                return
            if isinstance(error, OutOfLog):
                feed.error = error
                feed.wake()
                return
            if error is not None:
                loop = asyncio.get_running_loop()
                loop.call_later(limits.BROKER_RETRY_MS_MIN / 1000, self._fetch, place, feed)
                return
            records, end, feed.stable, feed.high_watermark = found
            if records:
                feed.append(_Batch(records, end))
            else:
                feed.skip_to(end)
            feed.wake()
            self._fetch(place, feed)

        partition = cluster.partitions.get(place)
        cluster.send("fetch", partition.broker if partition else 0, execute, answered)


class MemoryEndOffsets:
    """Implements `agents.ledger.log.EndOffsets`."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    async def high_watermarks(self, places: Collection[Place]) -> Mapping[Place, int]:
        return await self._ask(places, lambda partition: partition.high)

    async def log_starts(self, places: Collection[Place]) -> Mapping[Place, int]:
        return await self._ask(places, lambda partition: partition.start)

    async def _ask(
        self, places: Collection[Place], which: Callable[[Partition], int]
    ) -> Mapping[Place, int]:
        cluster = self._cluster

        def ask(number: int, group: Sequence[Place]) -> asyncio.Future[Any]:
            return cluster.request(
                "end offsets",
                number,
                lambda done: done(
                    {place: which(cluster.partition(place)) for place in group}, None
                ),
            )

        groups = cluster.weather.groups(sorted(places))
        found: dict[Place, int] = {}
        for answer in await asyncio.gather(*map(ask, range(len(groups)), groups)):
            found.update(answer)
        return found

    async def close(self) -> None:
        """Nothing is open."""


class MemoryWriter:
    """Implements `agents.ledger.log.Writer`."""

    def __init__(self, cluster: Cluster, name: str, timeout_ms: int) -> None:
        self._cluster = cluster
        self._name = name
        self._timeout_ms = timeout_ms
        self._producer = -1
        self._epoch = -1
        self._batches = itertools.count()

    async def start(self) -> None:
        self._producer, self._epoch = await self._coordinated(
            "start producer",
            lambda: self._cluster.begin_producer(self._name, self._timeout_ms),
        )

    def draft(self) -> MemoryDraft:
        return MemoryDraft()

    async def commit(self, draft: Draft) -> None:
        assert isinstance(draft, MemoryDraft)
        entries = draft.entries
        await asyncio.gather(
            *(self._produce(place, group, next(self._batches)) for place, group in entries.items())
        )
        self._epoch = await self._coordinated(
            "end", lambda: self._cluster.end(self._name, self._epoch, commit=True), again=False
        )

    async def end_forgotten(self) -> None:
        """This log forgets nothing."""

    async def close(self) -> None:
        """Nothing is open."""

    async def _produce(self, place: Place, group: Sequence[Entry], batch: int) -> None:
        cluster = self._cluster
        transaction = (self._name, self._producer, self._epoch)
        while True:
            try:
                await cluster.request(
                    "produce",
                    cluster.partition(place).broker,
                    lambda done: cluster.produce(place, group, done, transaction, batch),
                )
                return
            except _Concurrent:
                await asyncio.sleep(limits.TRANSACTION_RETRY_MS / 1000)

    async def _coordinated(self, what: str, execute: Callable[[], T], again: bool = True) -> T:
        """Ask the coordinator until it answers; `again`: also after a lost connection."""
        pause = Backoff()
        while True:
            try:
                return await self._cluster.call(what, 0, execute)
            except _Concurrent:
                await asyncio.sleep(limits.TRANSACTION_RETRY_MS / 1000)
            except LogUnavailable:
                if not again:
                    raise
                await pause.sleep()


class MemoryDraft:
    """Implements `agents.ledger.log.Draft`: keeps what it is given."""

    def __init__(self) -> None:
        self.entries: dict[Place, list[Entry]] = {}

    def add(self, place: Place, entries: Sequence[Entry]) -> None:
        self.entries.setdefault(place, []).extend(entries)


class MemoryMembership:
    """Implements `agents.ledger.log.Membership`."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.wished: frozenset[int] = frozenset()
        self.generation = 0
        self.changed = asyncio.Event()
        self._cluster = cluster
        self._base = name
        self._times = itertools.count(1)
        self._name = ""
        self._rejoin = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    def rejoin(self) -> None:
        self._rejoin.set()

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        try:
            await self._cluster.call("leave", 0, lambda: self._cluster.leave(self._name))
        except LogUnavailable:
            return  # the session ends by itself

    async def _run(self) -> None:
        pause = Backoff()
        while True:
            if not self._name:
                self._name = f"{self._base}#{next(self._times)}"
            self._rejoin.clear()
            try:
                async with asyncio.timeout(self._cluster.rebalance_s + self._cluster.session_s):
                    number, partitions = await self._cluster.request(
                        "join", 0, lambda done: self._cluster.join(self._name, done)
                    )
            except (LogUnavailable, TimeoutError):
                await pause.sleep()
                continue
            self.wished = partitions
            self.generation += 1
            self.changed.set()
            await self._beat(number)

    async def _beat(self, number: int) -> None:
        """Until there is a reason to join again."""
        while not self._rejoin.is_set():
            try:
                async with asyncio.timeout(limits.HEARTBEAT_MS / 1000):
                    await self._rejoin.wait()
            except TimeoutError:
                pass
            try:
                await self._cluster.call(
                    "heartbeat", 0, lambda: self._cluster.heartbeat(self._name, number)
                )
            except _Rejoin:
                return
            except _Unknown:
                self._name = ""
                return
            except LogUnavailable:
                continue
