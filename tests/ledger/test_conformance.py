"""One suite for the real broker and for the log in memory: what the ledger relies on.

The simulation is worth what the log in memory is: where these tests tell the two apart, it is the
memory's that is wrong.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, contextmanager
from random import Random
from typing import Any, Protocol

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete
from aiokafka.errors import KafkaConnectionError
from aiokafka.structs import TopicPartition

from agents.ledger.client import Client
from agents.ledger.feed import Feed
from agents.ledger.kafka import KafkaLog
from agents.ledger.log import (
    EndOffsets,
    Entry,
    Fenced,
    Layout,
    Log,
    LogUnavailable,
    Membership,
    OutOfLog,
    Place,
    Reader,
)
from agents.ledger.memory import Cluster, Fate, MemoryLog, Weather
from agents.ledger.record import Record
from agents.ledger.wire import EndTxn
from deployment import topics
from deployment.catalog import load_catalog
from tests.ledger.writing import write

PARTITIONS = 4
SCANS: Place = ("scan-events", 0)
OUTCOMES: Place = ("outcomes", 0)
STATE: Place = ("person-state", 0)


class Stranger(Protocol):
    """A transactional producer that is not the ledger's."""

    async def begin(self) -> None: ...
    async def send(self, place: Place, value: bytes) -> int: ...
    async def commit(self) -> None: ...
    async def abort(self) -> None: ...


class Side(Protocol):
    """A log with its topics made, and ways to act on it from outside."""

    def log(self, name: str) -> Log: ...
    async def send(self, place: Place, value: bytes) -> int:
        """Plainly, acknowledged; the offset."""

    def unanswered_ends(self) -> AbstractContextManager[list[str]]:
        """Meanwhile the ends of transactions are executed, but their answers are lost; what was."""

    async def stranger(self) -> Stranger: ...
    async def delete_records(self, place: Place, before: int) -> None: ...
    async def make_anew(self, topic: str) -> None: ...


# --- in memory -----------------------------------------------------------------------------------


class Breeze(Weather):
    """Short delays, so that things overlap."""

    def __init__(self) -> None:
        self._chance = Random(1)
        self.unanswered: list[str] | None = None

    def fate(self, what: str, broker: int) -> Fate:
        lost = ""
        if self.unanswered is not None and what == "end":
            self.unanswered.append(what)
            lost = "answer"
        return Fate(self._chance.random() / 1000, self._chance.random() / 1000, lost)

    def replication_s(self, place: Place) -> float:
        return self._chance.random() / 1000

    def marker_s(self, place: Place) -> float:
        return self._chance.random() / 500


class MemoryStranger:
    def __init__(self, cluster: Cluster, name: str) -> None:
        self._cluster = cluster
        self._name = name
        self._producer, self._epoch = cluster.begin_producer(name, 10_000)
        self._batch = 0

    async def begin(self) -> None:
        await until(lambda: not self._cluster.open_transactions)

    async def send(self, place: Place, value: bytes) -> int:
        self._batch += 1
        transaction = (self._name, self._producer, self._epoch)
        offset: int = await self._cluster.request(
            "stranger",
            0,
            lambda done: self._cluster.produce(
                place, [Entry(b"k", value)], done, transaction, self._batch
            ),
        )
        return offset

    async def commit(self) -> None:
        self._epoch = self._cluster.end(self._name, self._epoch, commit=True)

    async def abort(self) -> None:
        self._epoch = self._cluster.end(self._name, self._epoch, commit=False)


class MemorySide:
    def __init__(self) -> None:
        catalog = load_catalog("", partitions=PARTITIONS)
        outputs = [topic.name for topic in catalog.outputs]
        self._breeze = Breeze()
        self._cluster = Cluster(Layout.of(catalog), outputs, self._breeze)

    def log(self, name: str) -> Log:
        return MemoryLog(self._cluster, name)

    async def send(self, place: Place, value: bytes) -> int:
        offset: int = await self._cluster.request(
            "send", 0, lambda done: self._cluster.produce(place, [Entry(b"k", value)], done)
        )
        return offset

    @contextmanager
    def unanswered_ends(self) -> Iterator[list[str]]:
        self._breeze.unanswered = lost = []
        yield lost
        self._breeze.unanswered = None

    async def stranger(self) -> Stranger:
        return MemoryStranger(self._cluster, "stranger")

    async def delete_records(self, place: Place, before: int) -> None:
        self._cluster.delete_records(place, before)

    async def make_anew(self, topic: str) -> None:
        self._cluster.create(topic, PARTITIONS)


# --- on the broker -------------------------------------------------------------------------------


class KafkaStranger:
    def __init__(self, producer: AIOKafkaProducer, wire: dict[str, str]) -> None:
        self._producer = producer
        self._wire = wire

    async def begin(self) -> None:
        await self._producer.begin_transaction()

    async def send(self, place: Place, value: bytes) -> int:
        topic, partition = place
        meta = await self._producer.send_and_wait(
            self._wire[topic], value, key=b"k", partition=partition
        )
        offset: int = meta.offset
        return offset

    async def commit(self) -> None:
        await self._producer.commit_transaction()

    async def abort(self) -> None:
        await self._producer.abort_transaction()


class KafkaSide:
    def __init__(self, broker: str, prefix: str, stack: AsyncExitStack) -> None:
        self._broker = broker
        self._catalog = load_catalog(prefix, partitions=PARTITIONS)
        self._wire = {name: topic.wire for name, topic in self._catalog.topics.items()}
        self._stack = stack
        self._producer: AIOKafkaProducer | None = None

    async def start(self) -> None:
        await topics.apply(self._broker, self._catalog, 1)

    def log(self, name: str) -> Log:
        return KafkaLog(self._broker, self._catalog)

    async def send(self, place: Place, value: bytes) -> int:
        if self._producer is None:
            self._producer = AIOKafkaProducer(bootstrap_servers=self._broker, acks="all")
            await self._stack.enter_async_context(self._producer)
        topic, partition = place
        meta = await self._producer.send_and_wait(
            self._wire[topic], value, key=b"k", partition=partition
        )
        offset: int = meta.offset
        return offset

    @contextmanager
    def unanswered_ends(self) -> Iterator[list[str]]:
        lost: list[str] = []
        ask = Client.ask

        async def lossy(self: Client, node: int, request: Any) -> Any:
            answer = await ask(self, node, request)
            if isinstance(request, EndTxn):
                lost.append("end")
                raise KafkaConnectionError("the answer is lost")
            return answer

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Client, "ask", lossy)
            yield lost

    async def stranger(self) -> Stranger:
        producer = AIOKafkaProducer(
            bootstrap_servers=self._broker, transactional_id=f"stranger {self._wire['outcomes']}"
        )
        await self._stack.enter_async_context(producer)
        return KafkaStranger(producer, self._wire)

    async def delete_records(self, place: Place, before: int) -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=self._broker)
        await admin.start()
        try:
            wire = TopicPartition(self._wire[place[0]], place[1])
            await admin.delete_records({wire: RecordsToDelete(before_offset=before)})
        finally:
            await admin.close()

    async def make_anew(self, topic: str) -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=self._broker)
        await admin.start()
        try:
            await admin.delete_topics([self._wire[topic]])
            await asyncio.sleep(1)
            await admin.create_topics([NewTopic(self._wire[topic], PARTITIONS, 1)])
        finally:
            await admin.close()


@pytest.fixture(params=["memory", "kafka"])
async def side(request: pytest.FixtureRequest, prefix: str) -> AsyncIterator[Side]:
    """Each test runs on both."""
    if request.param == "memory":
        yield MemorySide()
        return
    async with AsyncExitStack() as stack:
        made = KafkaSide(request.getfixturevalue("broker"), prefix, stack)
        await made.start()
        yield made


# --- helpers -------------------------------------------------------------------------------------


async def until(holds: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)


class Reading:
    """A feed, and all that came out of it."""

    def __init__(self, reader: Reader, place: Place, offset: int = 0) -> None:
        self._reader = reader
        self.feed: Feed = reader.open(place, offset, lambda: None)
        self.records: list[Record] = []

    def values(self) -> list[bytes | None]:
        for piece in self.feed.take_all():
            self.records += piece
        return [record.value for record in self.records]

    async def reach(self, offset: int) -> list[bytes | None]:
        await until(lambda: self.feed.reached >= offset)
        assert self.feed.reached == offset
        return self.values()


@pytest.fixture
async def log(side: Side) -> Log:
    return side.log("a")


@pytest.fixture
async def reader(log: Log) -> AsyncIterator[Reader]:
    reader = log.reader()
    yield reader
    await reader.close()


@pytest.fixture
async def ends(log: Log) -> AsyncIterator[EndOffsets]:
    ends = log.end_offsets()
    async with asyncio.timeout(20):
        while True:
            try:
                await ends.log_starts([SCANS, OUTCOMES, STATE])
                break
            except LogUnavailable:  # topics just made: their leaders are still on their way
                await asyncio.sleep(0.05)
    yield ends
    await ends.close()


async def high(ends: EndOffsets, place: Place) -> int:
    return (await ends.high_watermarks([place]))[place]


def some(*values: bytes) -> Sequence[Entry]:
    return [Entry(b"k", value) for value in values]


# --- committing ----------------------------------------------------------------------------------


async def test_a_commit_turns_visible_in_order_and_its_marker_takes_an_offset(
    side: Side, log: Log, reader: Reader, ends: EndOffsets
) -> None:
    writer = log.writer(0)
    await writer.start()
    await write(writer, {OUTCOMES: some(b"1", b"2", b"3"), STATE: some(b"s")})
    outcomes, state = Reading(reader, OUTCOMES), Reading(reader, STATE)
    assert await outcomes.reach(4) == [b"1", b"2", b"3"]
    assert await state.reach(2) == [b"s"]
    assert [record.offset for record in outcomes.records] == [0, 1, 2]
    await write(writer, {OUTCOMES: some(b"4")})
    assert await outcomes.reach(6) == [b"1", b"2", b"3", b"4"]
    assert outcomes.records[-1].offset == 4
    assert await high(ends, OUTCOMES) == 6
    assert await high(ends, STATE) == 2
    await writer.close()


async def test_records_have_the_brokers_time(side: Side, reader: Reader) -> None:
    before_ms = time.time() * 1000
    await side.send(SCANS, b"x")
    after_ms = time.time() * 1000
    scans = Reading(reader, SCANS)
    await scans.reach(1)
    assert int(before_ms) <= scans.records[0].timestamp <= after_ms


async def test_what_is_acknowledged_is_below_the_high_watermark(
    side: Side, ends: EndOffsets
) -> None:
    for number in range(20):
        offset = await side.send(SCANS, b"x")
        assert offset == number
        assert await high(ends, SCANS) > offset


async def test_log_starts(side: Side, ends: EndOffsets) -> None:
    for _ in range(3):
        await side.send(SCANS, b"x")
    await side.delete_records(SCANS, 2)
    assert await ends.log_starts([SCANS, OUTCOMES]) == {SCANS: 2, OUTCOMES: 0}


# --- fencing -------------------------------------------------------------------------------------


async def test_a_later_producer_fences_the_earlier_one(
    side: Side, log: Log, reader: Reader, ends: EndOffsets
) -> None:
    zombie, heir = log.writer(0), log.writer(0)
    await zombie.start()
    await write(zombie, {OUTCOMES: some(b"1")})
    await heir.start()
    with pytest.raises(Fenced):
        await write(zombie, {OUTCOMES: some(b"never"), STATE: some(b"never")})
    await write(heir, {OUTCOMES: some(b"2")})
    assert await Reading(reader, OUTCOMES).reach(4) == [b"1", b"2"]
    assert await high(ends, STATE) == 0
    await zombie.close()
    await heir.close()


async def test_producers_of_two_partitions_do_not_fence_each_other(
    log: Log, reader: Reader
) -> None:
    one, other = log.writer(0), log.writer(1)
    await one.start()
    await other.start()
    await write(one, {OUTCOMES: some(b"1"), ("staff", 0): some(b"1")})
    await write(other, {("outcomes", 1): some(b"2"), ("staff", 0): some(b"2")})
    assert sorted(await Reading(reader, ("staff", 0)).reach(4)) == [b"1", b"2"]
    await one.close()
    await other.close()


@pytest.mark.parametrize("steps", [0, 1, 2, 4, 8, 16])
async def test_a_commit_cut_off_is_there_whole_or_not_at_all(
    side: Side, log: Log, reader: Reader, ends: EndOffsets, steps: int
) -> None:
    """Its sender ends at any time; the next producer ends what it left open."""
    zombie, heir = log.writer(0), log.writer(0)
    await zombie.start()
    cut = asyncio.create_task(write(zombie, {OUTCOMES: some(b"1", b"2"), STATE: some(b"s")}))
    await asyncio.sleep(steps / 2000)
    cut.cancel()
    await asyncio.wait([cut])
    await heir.start()
    # From here on nothing of it is open, and nothing of it can come.
    before = [await high(ends, OUTCOMES), await high(ends, STATE)]
    outcomes, state = Reading(reader, OUTCOMES), Reading(reader, STATE)
    there = await outcomes.reach(before[0]), await state.reach(before[1])
    assert there in (([b"1", b"2"], [b"s"]), ([], []))
    await write(heir, {OUTCOMES: some(b"3"), STATE: some(b"t")})
    there[0].append(b"3")
    assert await outcomes.reach(before[0] + 2) == there[0]
    await zombie.close()
    await heir.close()


async def test_the_end_of_a_transaction_is_asked_for_once(
    side: Side, log: Log, reader: Reader, ends: EndOffsets
) -> None:
    """What happened, only the next producer says."""
    unsure, heir = log.writer(0), log.writer(0)
    await unsure.start()
    with side.unanswered_ends() as lost, pytest.raises(LogUnavailable):
        await write(unsure, {OUTCOMES: some(b"1")})
    assert len(lost) == 1
    await heir.start()
    assert await Reading(reader, OUTCOMES).reach(await high(ends, OUTCOMES)) == [b"1"]
    await unsure.close()
    await heir.close()


# --- open and aborted transactions ---------------------------------------------------------------


async def test_an_aborted_transaction_is_passed_over(side: Side, reader: Reader) -> None:
    stranger = await side.stranger()
    await side.send(SCANS, b"1")
    await stranger.begin()
    await stranger.send(SCANS, b"never")
    await stranger.send(SCANS, b"never")
    await side.send(SCANS, b"2")
    await stranger.abort()
    assert await Reading(reader, SCANS).reach(5) == [b"1", b"2"]
    # Also from within it.
    assert await Reading(reader, SCANS, 2).reach(5) == [b"2"]


async def test_an_open_transaction_holds_readers_but_not_the_high_watermark(
    side: Side, reader: Reader, ends: EndOffsets
) -> None:
    stranger = await side.stranger()
    scans = Reading(reader, SCANS)
    await side.send(SCANS, b"1")
    await stranger.begin()
    await stranger.send(SCANS, b"2")
    await side.send(SCANS, b"3")
    assert await high(ends, SCANS) == 3
    await until(lambda: scans.feed.reached >= 1)
    await asyncio.sleep(0.3)
    assert (scans.feed.reached, scans.values()) == (1, [b"1"])
    await stranger.commit()
    assert await scans.reach(4) == [b"1", b"2", b"3"]
    assert [record.offset for record in scans.records] == [0, 1, 2]
    assert (scans.feed.stable, scans.feed.high_watermark) == (4, 4)


async def test_a_stranger_can_go_on_after_its_transaction(side: Side, reader: Reader) -> None:
    stranger = await side.stranger()
    for value, commit in ((b"1", True), (b"never", False), (b"2", True)):
        await stranger.begin()
        await stranger.send(SCANS, value)
        await (stranger.commit() if commit else stranger.abort())
    assert await Reading(reader, SCANS).reach(6) == [b"1", b"2"]


# --- outside the log -----------------------------------------------------------------------------


@pytest.mark.parametrize("offset", [0, 1, 7])
async def test_an_offset_outside_the_log_is_told(side: Side, reader: Reader, offset: int) -> None:
    for _ in range(5):
        await side.send(SCANS, b"x")
    await side.delete_records(SCANS, 2)
    scans = Reading(reader, SCANS, offset)
    await until(lambda: scans.feed.error is not None)
    with pytest.raises(OutOfLog):
        scans.values()


@pytest.mark.parametrize("offset", [2, 4, 5])
async def test_the_ends_of_the_log_are_in_it(side: Side, reader: Reader, offset: int) -> None:
    for _ in range(5):
        await side.send(SCANS, b"x")
    await side.delete_records(SCANS, 2)
    scans = Reading(reader, SCANS, offset)
    await side.send(SCANS, b"y")
    assert await scans.reach(6) == [b"x"] * (5 - offset) + [b"y"]


async def test_a_topic_made_anew_has_another_identity(side: Side, log: Log) -> None:
    before = await log.topic_ids(["scan-events", "exit-requests"])
    assert await log.topic_ids(["scan-events", "exit-requests"]) == before
    await side.make_anew("scan-events")
    after = await log.topic_ids(["scan-events", "exit-requests"])
    assert after["scan-events"] != before["scan-events"]
    assert after["exit-requests"] == before["exit-requests"]


# --- who owns what -------------------------------------------------------------------------------


async def test_members_share_the_partitions_and_take_over(side: Side) -> None:
    first, second = side.log("a").membership(), side.log("b").membership()
    everything = frozenset(range(PARTITIONS))
    await first.start()
    await until(lambda: first.wished == everything)
    before = first.generation
    assert before >= 1
    assert first.changed.is_set()
    await second.start()
    try:
        await until(lambda: len(first.wished) == len(second.wished) == PARTITIONS // 2)
        assert first.wished | second.wished == everything
        assert first.generation > before
    finally:
        await second.stop()
    await until(lambda: first.wished == everything, 5)
    await first.stop()


async def test_who_joins_again_is_assigned_again(side: Side) -> None:
    members: list[Membership] = [side.log(name).membership() for name in ("a", "b")]
    for member in members:
        await member.start()
    await until(lambda: all(len(member.wished) == PARTITIONS // 2 for member in members))
    before: list[Any] = [(member.generation, member.wished) for member in members]
    members[0].rejoin()
    await until(
        lambda: all(
            member.generation > generation
            for member, (generation, _) in zip(members, before, strict=True)
        )
    )
    await until(lambda: [member.wished for member in members] == [one for _, one in before])
    for member in members:
        await member.stop()
