"""Fetches committed records of many partitions, one incremental fetch session a broker.

A client of its own, not aiokafka's consumer, for four reasons: a consumer decodes what it fetches
at once, whatever that unpacks to; it names every partition in every fetch; it holds up all
partitions of a broker while one is full; and it cannot say how far an idle partition was read
while records are still undecoded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

import structlog
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from agents.ledger.batches import batches, committed
from agents.ledger.client import Client
from agents.ledger.feed import Feed
from agents.ledger.log import OutOfLog, Place, Refused
from agents.ledger.wire import Fetch, FetchedPartition, by_topic
from schemas import limits

log: Final = structlog.get_logger("ledger.reading")

_READ_COMMITTED: Final = 1
_OFFSET_OUT_OF_RANGE: Final = 1
_STALE: Final = frozenset({3, 5, 6, 9, 56, 74, 75, 76, 78, 100})
"""Errors of a partition that newer metadata may cure: unknown, no leader, not the leader, ..."""
_SESSION_LOST: Final = frozenset({70, 71})
_NOT_AUTHORISED: Final = 29


class _Session:
    """What one broker has been told of the partitions wanted from it."""

    __slots__ = ("changed", "epoch", "id", "told", "wake")

    def __init__(self, feeds: Collection[TopicPartition]) -> None:
        self.wake = asyncio.Event()
        self.begin(feeds)

    def begin(self, feeds: Collection[TopicPartition]) -> None:
        """The broker knows nothing, or not any more."""
        self.id = self.epoch = 0
        self.told: dict[TopicPartition, int] = {}
        self.changed = set(feeds)
        """What may be wanted otherwise than the broker was told. All else is not looked at, for
        most of many partitions have nothing to tell of."""


class KafkaReader:
    """Implements `agents.ledger.log.Reader`."""

    def __init__(
        self,
        client: Callable[[], Client],
        wire: Mapping[str, str],
        connect: Callable[[Client], Any],
    ) -> None:
        self._new_client = client
        self._connect = connect
        self._wire = wire
        self._client: Client | None = None
        self._feeds: dict[TopicPartition, Feed] = {}
        self._holding: set[TopicPartition] = set()
        """Feeds with something buffered; some of it may have been taken meanwhile."""
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._failure: BaseException | None = None
        """What ended it: nothing is read any more."""
        self._brokers: dict[int, asyncio.Task[None]] = {}
        self._sessions: dict[int, _Session] = {}

    def open(self, place: Place, offset: int, wake: Callable[[], None]) -> Feed:
        topic, partition = place
        feed = Feed(topic, partition, offset, wake)
        feed.error = self._failure
        key = TopicPartition(self._wire[topic], partition)
        self._feeds[key] = feed
        self._look_again((key,))
        if self._task is None:
            self._task = asyncio.create_task(self._run())
            self._task.add_done_callback(self._ended)
        self._changed.set()
        return feed

    def close_feed(self, feed: Feed) -> None:
        key = TopicPartition(self._wire[feed.topic], feed.partition)
        if self._feeds.get(key) is feed:
            del self._feeds[key]
            self._look_again((key,))

    def _look_again(self, keys: Collection[TopicPartition]) -> None:
        for session in self._sessions.values():
            session.changed.update(keys)

    async def close(self) -> None:
        tasks = [task for task in (self._task, *self._brokers.values()) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._client is not None:
            await self._client.close()

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Whatever ended it, those who wait for what it read shall not wait for ever."""
        if not task.cancelled():
            self._failure = task.exception()
            for feed in self._feeds.values():
                feed.error = self._failure
                feed.wake()

    async def _run(self) -> None:
        """Keep a fetching task for every broker that leads something wanted."""
        client = self._client = self._new_client()
        await self._connect(client)
        # Leaders may be others now.
        client.cluster.add_listener(lambda _: self._look_again(self._feeds))
        while True:
            self._changed.clear()
            pause = False
            for key in self._feeds:
                leader = client.cluster.leader_for_partition(key)
                if leader is None or leader < 0:
                    pause = True
                elif leader not in self._brokers:
                    session = self._sessions[leader] = _Session(self._feeds)
                    task = asyncio.create_task(self._fetch_from(client, leader, session))
                    task.add_done_callback(lambda _: self._changed.set())
                    self._brokers[leader] = task
            for session in self._sessions.values():
                session.wake.set()
            for leader, task in list(self._brokers.items()):
                if task.done():
                    del self._brokers[leader]
                    log.error("fetching ended and begins anew", error=repr(task.exception()))
                    pause = True
            if pause:
                await client.force_metadata_update()
                await asyncio.sleep(limits.BROKER_RETRY_MS_MAX / 1000)
            else:
                await self._changed.wait()

    def _due(self, session: _Session) -> set[TopicPartition]:
        """What to look at before the next fetch."""
        due, session.changed = session.changed | self._holding, set()
        return due

    def _wanted(
        self, client: Client, broker: int, due: Collection[TopicPartition]
    ) -> tuple[dict[TopicPartition, int], set[TopicPartition]]:
        """Of those due, where to fetch what from, and what is left out because it is full."""
        total = 0
        for key in list(self._holding):
            feed = self._feeds.get(key)
            if feed is None or not feed.buffered:
                self._holding.remove(key)
            else:
                total += feed.buffered
        full_at = limits.FEED_BYTES_MAX if total < limits.FEEDS_BYTES_MAX else 1
        wanted: dict[TopicPartition, int] = {}
        full: set[TopicPartition] = set()
        leader_of = client.cluster.leader_for_partition
        for key in due:
            feed = self._feeds.get(key)
            if feed is None or feed.error is not None or leader_of(key) != broker:
                continue
            if feed.buffered >= full_at:
                full.add(key)
            else:
                wanted[key] = feed.reached
        return wanted, full

    async def _fetch_from(self, client: Client, broker: int, session: _Session) -> None:
        pause_ms = limits.BROKER_RETRY_MS_MIN
        while True:
            session.wake.clear()
            due = self._due(session)
            wanted, full = self._wanted(client, broker, due)
            left_out = [key for key in due if key in session.told and key not in wanted]
            if not wanted and len(left_out) == len(session.told):
                session.changed |= due
                if full:
                    await asyncio.sleep(limits.FETCH_WAIT_FULL_MS / 1000)
                else:
                    await session.wake.wait()
                continue
            session.changed |= full
            request = self._request(session, wanted, left_out)
            if full:
                request.wait_ms = limits.FETCH_WAIT_FULL_MS
            try:
                answer = await client.ask(broker, request)
            except KafkaError as error:
                log.warning("a fetch failed", broker=broker, error=str(error))
                session.begin(self._feeds)
                await asyncio.sleep(pause_ms / 1000)
                pause_ms = min(pause_ms * 2, limits.BROKER_RETRY_MS_MAX)
                self._changed.set()
                continue
            if answer.error:
                session.begin(self._feeds)
                if answer.error not in _SESSION_LOST:
                    log.warning("a fetch was refused", broker=broker, error=answer.error)
                    await asyncio.sleep(pause_ms / 1000)
                continue
            pause_ms = limits.BROKER_RETRY_MS_MIN
            stale = False
            for topic, partitions in answer.topics:
                for found in partitions:
                    stale |= self._take(session, TopicPartition(topic, found.partition), found)
            if stale:
                session.begin(self._feeds)
                await client.force_metadata_update()
                await asyncio.sleep(limits.BROKER_RETRY_MS_MIN / 1000)
                self._changed.set()
            elif answer.session:
                session.id = answer.session
                session.epoch = session.epoch % 0x7FFFFFFF + 1
            else:
                session.begin(self._feeds)

    def _request(
        self,
        session: _Session,
        wanted: Mapping[TopicPartition, int],
        left_out: Collection[TopicPartition],
    ) -> Fetch:
        """Tell the broker what changed since it was last told."""
        topics: dict[str, list[tuple[int, int]]] = {}
        for key, offset in wanted.items():
            if session.told.get(key) != offset:
                session.told[key] = offset
                topics.setdefault(key.topic, []).append((key.partition, offset))
        for key in left_out:
            del session.told[key]
        return Fetch(
            wait_ms=limits.FETCH_WAIT_MS,
            bytes_max=limits.FETCH_BYTES_MAX,
            partition_bytes_max=limits.FETCH_PARTITION_BYTES_MAX,
            isolation=_READ_COMMITTED,
            session=session.id,
            epoch=session.epoch,
            topics=topics,
            forgotten=by_topic(left_out),
        )

    def _take(self, session: _Session, key: TopicPartition, found: FetchedPartition) -> bool:
        """Put a partition's answer into its feed; True where metadata seems stale."""
        feed = self._feeds.get(key)
        if feed is None or session.told.get(key) != feed.reached:
            return False  # closed, or opened anew elsewhere, while the fetch was under way
        if found.error == _OFFSET_OUT_OF_RANGE:
            feed.error = OutOfLog(
                f"{feed.topic}: offset {feed.reached} is outside the log: records were lost"
            )
        elif found.error == _NOT_AUTHORISED:
            feed.error = Refused(f"{feed.topic}: this worker may not read it")
        elif found.error:
            if found.error not in _STALE:
                log.warning("a partition was not fetched", topic=feed.topic, error=found.error)
            return True
        else:
            feed.high_watermark, feed.stable = found.high_watermark, found.stable
            if not found.data:
                return False
            fetched = batches(feed.topic, key.partition, found.data)
            try:
                for batch, visible in committed(fetched, found.aborted):
                    batch.check()
                    if batch.next_offset <= feed.reached:
                        continue
                    if visible:
                        feed.append(batch)
                    else:
                        feed.skip_to(batch.next_offset)
            except Exception as error:  # noqa: BLE001 - raised to whom the feed is
                feed.error = error
            if feed.buffered:
                self._holding.add(key)
        session.changed.add(key)
        feed.wake()
        return False
