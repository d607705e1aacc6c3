"""A reader that tells brokers only what changed, against brokers that hold it to what it told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from random import Random
from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.structs import TopicPartition

from agents.ledger.batches import KafkaBatch
from agents.ledger.feed import Feed
from agents.ledger.log import Unreadable
from agents.ledger.reading import KafkaReader
from agents.ledger.wire import Fetch, Fetched, FetchedPartition
from schemas import limits

TOPICS = ("a", "b", "c")
PARTITIONS = 4
SESSION_LOST, NOT_LEADER = 70, 6


def batch(offset: int, value: bytes) -> bytes:
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 1 << 20)
    builder.append(0, 0, b"k", value, [])
    data = bytearray(builder.build())
    data[:8] = offset.to_bytes(8, "big")  # the checksum begins behind it
    return bytes(data)


class Brokers:
    """Two brokers with a fetch session each, in the place of a client and its cluster."""

    def __init__(self) -> None:
        self.cluster = self
        self.logs: dict[TopicPartition, list[bytes]] = {
            TopicPartition(topic, partition): []
            for topic in TOPICS
            for partition in range(PARTITIONS)
        }
        self.leaders = {key: key.partition % 2 for key in self.logs}
        self.known = dict(self.leaders)
        self.sessions: dict[int, tuple[int, int, dict[TopicPartition, int]]] = {}
        self.chance = Random(1)
        self.asked: list[Fetch] = []
        self.trouble = 0.0
        self._listeners: list[Callable[[Any], None]] = []
        self._last_session = 0

    def leader_for_partition(self, key: TopicPartition) -> int:
        return self.known[key]

    def add_listener(self, listener: Callable[[Any], None]) -> None:
        self._listeners.append(listener)

    async def force_metadata_update(self) -> None:
        self.known = dict(self.leaders)
        for listener in self._listeners:
            listener(self)

    async def close(self) -> None:
        pass

    async def ask(self, broker: int, request: Fetch) -> Fetched:
        await asyncio.sleep(0)
        self.asked.append(request)
        if self.chance.random() < self.trouble:
            raise KafkaConnectionError("lost")
        if self.chance.random() < self.trouble:
            self.sessions.pop(broker, None)
        if request.epoch == 0:
            self._last_session += 1
            session, wanted = self._last_session, {}
        else:
            session, epoch, wanted = self.sessions.get(broker, (0, 0, {}))
            if (session, epoch) != (request.session, request.epoch):
                return Fetched(SESSION_LOST, 0, [])
        for topic, group in request.topics.items():
            wanted.update({TopicPartition(topic, one): offset for one, offset in group})
        for topic, forgotten in request.forgotten.items():
            for one in forgotten:
                del wanted[TopicPartition(topic, one)]
        self.sessions[broker] = session, request.epoch + 1, wanted
        found = []
        for key, offset in wanted.items():
            log = self.logs[key]
            error = 0 if self.leaders[key] == broker else NOT_LEADER
            if error or offset < len(log):
                data = b"" if error else b"".join(log[offset : offset + 3])
                one = FetchedPartition(key.partition, error, len(log), len(log), (), data)
                found.append((key.topic, [one]))
        await asyncio.sleep(0 if found else 0.002)
        return Fetched(0, session, found)


@pytest.fixture
def brokers(monkeypatch: pytest.MonkeyPatch) -> Brokers:
    monkeypatch.setattr(limits, "FETCH_WAIT_FULL_MS", 1)
    monkeypatch.setattr(limits, "BROKER_RETRY_MS_MIN", 1)
    monkeypatch.setattr(limits, "BROKER_RETRY_MS_MAX", 2)
    return Brokers()


@pytest.fixture
async def reader(brokers: Brokers) -> AsyncIterator[KafkaReader]:
    async def connect(client: Any) -> None:
        pass

    made: Any = lambda: brokers  # noqa: E731
    reader = KafkaReader(made, {topic: topic for topic in TOPICS}, connect)
    yield reader
    await reader.close()


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110 - there is nothing to be told by
            await asyncio.sleep(0.001)


async def test_what_did_not_change_is_not_told_again(brokers: Brokers, reader: KafkaReader) -> None:
    feeds = [
        reader.open((topic, partition), 0, lambda: None)
        for topic in TOPICS
        for partition in range(0, PARTITIONS, 2)
    ]
    await until(lambda: len(brokers.asked) > 3)
    told = sum(len(group) for one in brokers.asked for group in one.topics.values())
    assert told == len(feeds)
    del brokers.asked[:]
    brokers.logs[TopicPartition("b", 2)].append(batch(0, b"x"))
    await until(lambda: any(feed.reached == 1 for feed in feeds))
    count = len(brokers.asked)
    await until(lambda: len(brokers.asked) > count + 3)
    assert [one.topics for one in brokers.asked if one.topics] == [{"b": [(2, 1)]}]
    assert not any(one.forgotten for one in brokers.asked)


async def test_a_full_feed_is_left_out_until_some_is_taken(
    brokers: Brokers, reader: KafkaReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "FEED_BYTES_MAX", 1)
    key = TopicPartition("a", 0)
    brokers.logs[key] += [batch(number, b"%d" % number) for number in range(9)]
    feed = reader.open(("a", 0), 0, lambda: None)
    other = reader.open(("b", 0), 0, lambda: None)
    await until(lambda: feed.reached == 3)
    brokers.logs[TopicPartition("b", 0)].append(batch(0, b"x"))
    await until(lambda: other.reached == 1)
    assert feed.reached == 3
    for reached in (6, 9):
        assert sum(len(piece) for piece in feed.take_all()) == 3
        await until(lambda reached=reached: feed.reached == reached)  # type: ignore[misc]


async def test_past_the_limit_of_all_only_empty_feeds_are_fetched_for(
    brokers: Brokers, reader: KafkaReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "FEEDS_BYTES_MAX", 1)
    for topic in ("a", "b"):
        brokers.logs[TopicPartition(topic, 0)] += [batch(number, b"x") for number in range(6)]
    feeds = [reader.open((topic, 0), 0, lambda: None) for topic in ("a", "b")]
    await until(lambda: [feed.reached for feed in feeds] == [3, 3])
    await asyncio.sleep(0.02)
    assert [feed.reached for feed in feeds] == [3, 3]
    list(feeds[0].take_all())
    await until(lambda: feeds[0].reached == 6)
    assert feeds[1].reached == 3


async def test_one_that_has_something_is_left_out_when_others_reach_the_limit_of_all(
    brokers: Brokers, reader: KafkaReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "FEEDS_BYTES_MAX", 2 * len(batch(0, b"x")))
    some, more = (brokers.logs[TopicPartition(topic, 0)] for topic in ("a", "b"))
    some.append(batch(0, b"x"))
    feed, other = (reader.open((topic, 0), 0, lambda: None) for topic in ("a", "b"))
    await until(lambda: feed.reached == 1)
    more.append(batch(0, b"x"))
    await until(lambda: other.reached == 1)
    some.append(batch(1, b"x"))
    await asyncio.sleep(0.02)
    assert feed.reached == 1
    list(other.take_all())
    await until(lambda: feed.reached == 2)


async def test_a_closed_feed_is_not_fetched_for(brokers: Brokers, reader: KafkaReader) -> None:
    gone, left = (reader.open((topic, 0), 0, lambda: None) for topic in ("a", "b"))
    await until(lambda: len(brokers.asked) > 1)
    reader.close_feed(gone)
    await until(lambda: any(one.forgotten == {"a": [0]} for one in brokers.asked))
    reader.close_feed(left)
    await asyncio.sleep(0.02)
    count = len(brokers.asked)
    await asyncio.sleep(0.02)
    assert len(brokers.asked) == count, "nothing is wanted"
    brokers.logs[TopicPartition("b", 0)].append(batch(0, b"x"))
    again = reader.open(("b", 0), 0, lambda: None)
    await until(lambda: again.reached == 1)


@pytest.mark.parametrize("error", [Unreadable, ZeroDivisionError])
async def test_what_is_wrong_with_a_batch_reaches_whom_the_feed_is(
    brokers: Brokers,
    reader: KafkaReader,
    monkeypatch: pytest.MonkeyPatch,
    error: type[Exception],
) -> None:
    def check(self: KafkaBatch) -> None:
        if self.next_offset == 1:
            raise error

    monkeypatch.setattr(KafkaBatch, "check", check)
    good, bad = reader.open(("a", 0), 1, lambda: None), reader.open(("b", 0), 0, lambda: None)
    brokers.logs[TopicPartition("b", 0)].append(batch(0, b"x"))
    await until(lambda: bad.error is not None)
    brokers.logs[TopicPartition("a", 0)] += [batch(0, b"x"), batch(1, b"y")]
    await until(lambda: good.reached == 2)
    with pytest.raises(error):
        bad.head()


async def test_a_broker_is_asked_on_whatever_ended_that(
    brokers: Brokers, reader: KafkaReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed = reader.open(("a", 0), 0, lambda: None)
    await until(lambda: len(brokers.asked) > 1)

    def broken(_: Any) -> Any:
        monkeypatch.undo()
        monkeypatch.setattr(limits, "BROKER_RETRY_MS_MAX", 2)
        raise ZeroDivisionError

    monkeypatch.setattr(reader, "_due", broken)
    brokers.logs[TopicPartition("a", 0)].append(batch(0, b"x"))
    await until(lambda: feed.reached == 1)


async def test_who_reads_is_told_that_reading_ended(
    brokers: Brokers, reader: KafkaReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    woken = asyncio.Event()
    feed = reader.open(("a", 0), 0, woken.set)
    await until(lambda: len(brokers.asked) > 1)
    monkeypatch.setattr(brokers, "leader_for_partition", lambda _: 1 / 0)
    later = reader.open(("b", 0), 0, lambda: None)
    await asyncio.wait_for(woken.wait(), 10)
    for one in (feed, later, reader.open(("c", 0), 0, lambda: None)):
        with pytest.raises(ZeroDivisionError):
            one.head()


@pytest.mark.parametrize("seed", range(20))
async def test_whatever_happens_all_is_read_once_and_in_order(
    brokers: Brokers, reader: KafkaReader, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    chance = brokers.chance = Random(seed)
    monkeypatch.setattr(limits, "FEED_BYTES_MAX", chance.choice((1, 150, 1 << 20)))
    monkeypatch.setattr(limits, "FEEDS_BYTES_MAX", chance.choice((200, 1 << 20)))
    brokers.trouble = chance.choice((0.0, 0.02, 0.2))
    feeds: dict[TopicPartition, Feed] = {}
    read: dict[TopicPartition, int] = dict.fromkeys(brokers.logs, 0)

    def take(key: TopicPartition) -> None:
        for piece in feeds[key].take_all():
            for record in piece:
                assert (record.offset, record.value) == (read[key], b"%d" % read[key])
                read[key] += 1

    for _ in range(400):
        key = chance.choice(list(brokers.logs))
        what = chance.random()
        if what < 0.4:
            log = brokers.logs[key]
            log.append(batch(len(log), b"%d" % len(log)))
        elif what < 0.6:
            if key not in feeds:
                feeds[key] = reader.open((key.topic, key.partition), read[key], lambda: None)
        elif what < 0.7:
            if key in feeds:
                reader.close_feed(feeds.pop(key))
        elif what < 0.75:
            brokers.leaders[key] = 1 - brokers.leaders[key]
        elif key in feeds:
            take(key)
        if chance.random() < 0.5:
            await asyncio.sleep(0)
    brokers.trouble = 0.0
    for key in brokers.logs:
        if key not in feeds:
            feeds[key] = reader.open((key.topic, key.partition), read[key], lambda: None)

    def all_read() -> bool:
        for key in feeds:
            take(key)
        return all(read[key] == len(log) for key, log in brokers.logs.items())

    await until(all_read)
