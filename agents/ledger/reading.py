"""Fetches committed records of many partitions, one incremental fetch session a broker.

A client of its own, not aiokafka's consumer, for four reasons: a consumer decodes what it fetches
at once, whatever that unpacks to; it names every partition in every fetch; it holds up all
partitions of a broker while one is full; and it cannot say how far an idle partition was read
while records are still undecoded. The connections and the protocol's structs are aiokafka's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final

import structlog
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError
from aiokafka.protocol.api import Request
from aiokafka.protocol.fetch import FetchRequest_v11
from aiokafka.structs import TopicPartition

from agents.ledger.batches import batches, committed
from agents.ledger.feed import Feed
from agents.ledger.log import OutOfLog, Place, Refused, Unreadable
from schemas import limits

log: Final = structlog.get_logger("ledger.reading")

_READ_COMMITTED: Final = 1
_OFFSET_OUT_OF_RANGE: Final = 1
_STALE: Final = frozenset({3, 5, 6, 9, 56, 74, 75, 76, 78, 100})
"""Errors of a partition that newer metadata may cure: unknown, no leader, not the leader, ..."""
_SESSION_LOST: Final = frozenset({70, 71})
_NOT_AUTHORISED: Final = 29


class _Fetch(Request[FetchRequest_v11]):  # type: ignore[misc]
    """A fetch as built: aiokafka's own builder knows no sessions."""

    API_KEY = 1

    def __init__(self, *fields: Any) -> None:
        self._fields = fields

    def build(self, request_struct_class: type[FetchRequest_v11]) -> FetchRequest_v11:
        return request_struct_class(*self._fields)


class _Session:
    """What one broker has been told of the partitions wanted from it."""

    __slots__ = ("epoch", "id", "told")

    def __init__(self) -> None:
        self.id = 0
        self.epoch = 0
        self.told: dict[TopicPartition, int] = {}

    def reset(self) -> None:
        self.id = self.epoch = 0
        self.told = {}


class KafkaReader:
    """Implements `agents.ledger.log.Reader`."""

    def __init__(
        self,
        client: Callable[[], AIOKafkaClient],
        wire: Mapping[str, str],
        connect: Callable[[AIOKafkaClient], Any],
    ) -> None:
        self._new_client = client
        self._connect = connect
        self._wire = wire
        self._client: AIOKafkaClient | None = None
        self._feeds: dict[TopicPartition, Feed] = {}
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._brokers: dict[int, asyncio.Task[None]] = {}
        self._wakes: dict[int, asyncio.Event] = {}

    def open(self, place: Place, offset: int, wake: Callable[[], None]) -> Feed:
        topic, partition = place
        feed = Feed(topic, partition, offset, wake)
        self._feeds[TopicPartition(self._wire[topic], partition)] = feed
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        self._changed.set()
        return feed

    def close_feed(self, feed: Feed) -> None:
        key = TopicPartition(self._wire[feed.topic], feed.partition)
        if self._feeds.get(key) is feed:
            del self._feeds[key]

    async def close(self) -> None:
        tasks = [task for task in (self._task, *self._brokers.values()) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._client is not None:
            await self._client.close()

    async def _run(self) -> None:
        """Keep a fetching task for every broker that leads something wanted."""
        client = self._client = self._new_client()
        await self._connect(client)
        while True:
            self._changed.clear()
            leaderless = False
            for key in self._feeds:
                leader = client.cluster.leader_for_partition(key)
                if leader is None or leader < 0:
                    leaderless = True
                elif leader not in self._brokers:
                    self._wakes[leader] = asyncio.Event()
                    self._brokers[leader] = asyncio.create_task(self._fetch_from(client, leader))
            for wake in self._wakes.values():
                wake.set()
            for leader, task in list(self._brokers.items()):
                if task.done():
                    del self._brokers[leader]
                    log.error("fetching ended and begins anew", error=repr(task.exception()))
                    self._changed.set()
            if leaderless:
                await client.force_metadata_update()
                await asyncio.sleep(limits.BROKER_RETRY_MS_MAX / 1000)
            else:
                await self._changed.wait()

    def _wanted(
        self, client: AIOKafkaClient, broker: int
    ) -> tuple[dict[TopicPartition, int], bool]:
        """Where to fetch what from, and whether something is left out because it is full."""
        total = sum(feed.buffered for feed in self._feeds.values())
        full_at = limits.FEED_BYTES_MAX if total < limits.FEEDS_BYTES_MAX else 1
        wanted: dict[TopicPartition, int] = {}
        full = False
        leader_of = client.cluster.leader_for_partition
        for key, feed in self._feeds.items():
            if feed.error is not None:
                continue
            if feed.buffered >= full_at:
                full = True
            elif leader_of(key) == broker:
                wanted[key] = feed.reached
        return wanted, full

    async def _fetch_from(self, client: AIOKafkaClient, broker: int) -> None:
        session, wake = _Session(), self._wakes[broker]
        pause_ms = limits.BROKER_RETRY_MS_MIN
        while True:
            wake.clear()
            wanted, full = self._wanted(client, broker)
            if not wanted:
                if full:
                    await asyncio.sleep(limits.FETCH_WAIT_FULL_MS / 1000)
                else:
                    await wake.wait()
                continue
            try:
                answer = await client.send(broker, self._request(session, wanted, full))
            except KafkaError as error:
                log.warning("a fetch failed", broker=broker, error=str(error))
                session.reset()
                await asyncio.sleep(pause_ms / 1000)
                pause_ms = min(pause_ms * 2, limits.BROKER_RETRY_MS_MAX)
                self._changed.set()
                continue
            if answer.error_code:
                session.reset()
                if answer.error_code not in _SESSION_LOST:
                    log.warning("a fetch was refused", broker=broker, error=answer.error_code)
                    await asyncio.sleep(pause_ms / 1000)
                continue
            pause_ms = limits.BROKER_RETRY_MS_MIN
            session.id = answer.session_id
            session.epoch = session.epoch + 1 if answer.session_id else 0
            if not answer.session_id:
                session.told = {}
            stale = False
            for topic, partitions in answer.topics:
                for found in partitions:
                    stale |= self._take(TopicPartition(topic, found[0]), wanted, found)
            if stale:
                session.reset()
                await client.force_metadata_update()
                await asyncio.sleep(limits.BROKER_RETRY_MS_MIN / 1000)
                self._changed.set()

    def _request(
        self, session: _Session, wanted: Mapping[TopicPartition, int], full: bool
    ) -> _Fetch:
        """Tell the broker what changed since it was last told."""
        told = session.told
        topics: dict[str, list[tuple[int, int, int, int, int]]] = {}
        for key, offset in wanted.items():
            if told.get(key) != offset:
                topics.setdefault(key.topic, []).append(
                    (key.partition, -1, offset, -1, limits.FETCH_PARTITION_BYTES_MAX)
                )
        forgotten: dict[str, list[int]] = {}
        for key in told:
            if key not in wanted:
                forgotten.setdefault(key.topic, []).append(key.partition)
        session.told = dict(wanted)
        return _Fetch(
            -1,
            limits.FETCH_WAIT_FULL_MS if full else limits.FETCH_WAIT_MS,
            1,
            limits.FETCH_BYTES_MAX,
            _READ_COMMITTED,
            session.id,
            session.epoch,
            list(topics.items()),
            list(forgotten.items()),
            "",
        )

    def _take(self, key: TopicPartition, wanted: Mapping[TopicPartition, int], found: Any) -> bool:
        """Put a partition's answer into its feed; True where metadata seems stale."""
        _, code, high_watermark, stable, _, aborted, _, data = found
        feed = self._feeds.get(key)
        if feed is None or wanted.get(key) != feed.reached:
            return False  # closed, or opened anew elsewhere, while the fetch was under way
        if code == _OFFSET_OUT_OF_RANGE:
            feed.error = OutOfLog(
                f"{feed.topic}: offset {feed.reached} is outside the log: records were lost"
            )
        elif code == _NOT_AUTHORISED:
            feed.error = Refused(f"{feed.topic}: this worker may not read it")
        elif code:
            if code not in _STALE:
                log.warning("a partition was not fetched", topic=feed.topic, error=code)
            return True
        else:
            feed.high_watermark, feed.stable = high_watermark, stable
            if not data:
                return False
            try:
                for batch, visible in committed(batches(feed.topic, key.partition, data), aborted):
                    batch.check()
                    if batch.next_offset <= feed.reached:
                        continue
                    if visible:
                        feed.append(batch)
                    else:
                        feed.skip_to(batch.next_offset)
            except Unreadable as error:
                feed.error = error
        feed.wake()
        return False
