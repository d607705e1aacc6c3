"""The ledger's log on Kafka.

Metadata and group protocol are aiokafka's, as is the way in; the transactional producer is written
out here, because its errors must surface where they happen: every request of a transaction is
awaited in its place, and whatever is not plainly a success ends the producer.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict, deque
from collections.abc import (
    Awaitable,
    Callable,
    Collection,
    Coroutine,
    Iterable,
    Mapping,
    Sequence,
)
from typing import Any, Final, TypeVar

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener
from aiokafka.client import CoordinationType
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.errors import KafkaConnectionError, KafkaError, for_code
from aiokafka.structs import TopicPartition

from agents.ledger.backoff import Backoff
from agents.ledger.client import Client, Connection
from agents.ledger.encoding import Batch, Records
from agents.ledger.forgotten import Forgotten, Producer
from agents.ledger.log import Draft, Entry, Fenced, Layout, LogUnavailable, Place, Refused
from agents.ledger.reading import KafkaReader
from agents.ledger.wire import (
    EndTxn,
    InitProducerId,
    ListOffsets,
    Produce,
    TopicIdsRequest,
    Written,
)
from deployment.catalog import Catalog
from schemas import limits

T = TypeVar("T")

log: Final = structlog.get_logger("ledger.kafka")

EPOCH_MAX: Final = (1 << 15) - 2
"""A producer's last epoch. With the end of a transaction in it the coordinator would change the
producer's id too, and who looks for a forgotten end would not know the old one."""

_READ_UNCOMMITTED: Final = 0
_LATEST: Final = -1
_EARLIEST: Final = -2

_OK: Final = 0
_FENCED: Final = frozenset({47, 90})
"""An old epoch of this producer, or: fenced."""
_CONCURRENT: Final = 51
"""The coordinator still writes the markers of the transaction before."""
_COORDINATOR_MOVED: Final = frozenset({14, 15, 16})
_NO_LEADER: Final = 5
_DUPLICATE_SEQUENCE: Final = 46
_TRY_AGAIN: Final = frozenset({3, 5, 6, 7, 9, 13, 14, 15, 16, 19, 20, 51, 56, 74, 75, 78, 89})
_NEVER: Final = frozenset({2, 10, 17, 18, 29, 31, 42, 43, 44, 53, 66, 87})
"""Corrupt, too large, not authorised, invalid: the same request gets the same answer again."""


class KafkaLog:
    """Implements `agents.ledger.log.Log`.

    `options` are those of `aiokafka.AIOKafkaClient` that concern security. Many clients are made:
    one per reader, one for end offsets, one per owned partition, so that none waits for another.
    """

    def __init__(
        self,
        brokers: str,
        catalog: Catalog,
        options: Mapping[str, Any] | None = None,
        *,
        session_timeout_ms: int = limits.SESSION_MS_MAX,
        transaction_timeout_ms: int = limits.TRANSACTION_MS_MAX,
    ) -> None:
        self._session_timeout_ms = session_timeout_ms
        self._transaction_timeout_ms = transaction_timeout_ms
        self.layout = Layout.of(catalog)
        self._catalog = catalog
        self._brokers = brokers
        self._options = dict(options or {})
        self._wire = {name: topic.wire for name, topic in catalog.topics.items()}

    def _client(self) -> Client:
        return Client(self._brokers, self._catalog.group, self._options)

    async def _connect(self, client: Client) -> None:
        """Wait until a broker answers and knows all topics."""
        pause = Backoff()
        wire = set(self._wire.values())
        while True:
            try:
                await client.bootstrap()
                client.set_topics(wire)
                await client.force_metadata_update()
                missing = wire - client.cluster.topics()
                if not missing:
                    return
                log.warning("topics are missing: waiting for them", topics=sorted(missing))
            except KafkaError as error:
                log.warning("no broker answers: waiting", brokers=self._brokers, error=str(error))
            await pause.sleep()

    def membership(self) -> KafkaMembership:
        return KafkaMembership(
            self._brokers, self._catalog, self._options, self._session_timeout_ms
        )

    def reader(self) -> KafkaReader:
        return KafkaReader(self._client, self._wire, self._connect)

    def end_offsets(self) -> KafkaEndOffsets:
        return KafkaEndOffsets(self._client(), self._wire, self._connect)

    def writer(self, partition: int) -> KafkaWriter:
        return KafkaWriter(
            self._client(),
            self._wire,
            self._catalog.transactional_id(partition),
            self._transaction_timeout_ms,
            self._connect,
            [
                *((topic.name, partition) for topic in self._catalog.outputs),
                (self.layout.state, partition),
                (self.layout.staff, 0),
            ],
        )

    async def topic_ids(self, topics: Collection[str]) -> Mapping[str, str]:
        wire = {self._wire[topic]: topic for topic in topics}
        client = self._client()
        try:
            await client.bootstrap()
            node = client.get_random_node()
            answer = await client.send(node, TopicIdsRequest(list(wire)))
        except KafkaError as error:
            raise LogUnavailable(str(error)) from error
        finally:
            await client.close()
        ids: dict[str, str] = {}
        for code, name, identity, *_ in answer.topics:
            if code:
                raise LogUnavailable(f"{name}: {for_code(code).__name__}")
            ids[wire[name]] = identity.hex()
        return ids


# --- end offsets ---------------------------------------------------------------------------------


class KafkaEndOffsets:
    """Implements `agents.ledger.log.EndOffsets`."""

    def __init__(
        self,
        client: Client,
        wire: Mapping[str, str],
        connect: Callable[[Client], Any],
    ) -> None:
        self._client = client
        self._wire = wire
        self._logical = {name: topic for topic, name in wire.items()}
        self._connect = connect
        self._connected: asyncio.Task[None] | None = None

    async def high_watermarks(self, places: Collection[Place]) -> Mapping[Place, int]:
        return await self._ask(places, _LATEST)

    async def log_starts(self, places: Collection[Place]) -> Mapping[Place, int]:
        return await self._ask(places, _EARLIEST)

    async def _ask(self, places: Collection[Place], when: int) -> Mapping[Place, int]:
        if self._connected is None:
            self._connected = asyncio.create_task(self._connect(self._client))
        if not self._connected.done():
            await asyncio.shield(self._connected)
        cluster = self._client.cluster
        by_broker: dict[int, dict[str, list[int]]] = {}
        for topic, partition in places:
            wire = self._wire[topic]
            leader = cluster.leader_for_partition(TopicPartition(wire, partition))
            if leader is None or leader < 0:
                self._client.force_metadata_update()
                raise LogUnavailable(f"{topic}-{partition} has no leader")
            by_broker.setdefault(leader, {}).setdefault(wire, []).append(partition)
        try:
            answers = await _all(
                self._client.ask(broker, ListOffsets(_READ_UNCOMMITTED, topics, when))
                for broker, topics in by_broker.items()
            )
        except KafkaError as error:
            self._client.force_metadata_update()
            raise LogUnavailable(f"end offsets: {error}") from error
        found: dict[Place, int] = {}
        for answer in answers:
            for wire, partitions in answer:
                topic = self._logical[wire]
                for partition, code, _, offset in partitions:
                    if code:
                        self._client.force_metadata_update()
                        raise LogUnavailable(f"{topic}-{partition}: {for_code(code).__name__}")
                    found[topic, partition] = offset
        return found

    async def close(self) -> None:
        if self._connected is not None:
            self._connected.cancel()
        await self._client.close()


# --- the transactional producer ------------------------------------------------------------------


class KafkaWriter:
    """Implements `agents.ledger.log.Writer`. Not to be used by two tasks at once.

    Requests that the broker answers with "not now" are sent again for ever: the caller's deadline
    ends that. A batch is sent again as it was, under its sequence number, so the broker knows it.

    A transaction begins where a batch of it is first taken, in an epoch of its own: what is late
    of one that is over is refused.

    `places`: all it may ever write to. Before a transaction can begin there, the last one must have
    ended there (see `forgotten`): before every request that begins a producer, and before those
    that begin a transaction unless the coordinator was there without a break since the last one.
    """

    def __init__(
        self,
        client: Client,
        wire: Mapping[str, str],
        transactional_id: str,
        timeout_ms: int,
        connect: Callable[[Client], Any],
        places: Collection[Place],
    ) -> None:
        self._client = client
        self._wire = wire
        self._id = transactional_id
        self._forgotten = Forgotten(
            client,
            transactional_id,
            [TopicPartition(wire[topic], partition) for topic, partition in places],
        )
        self._timeout_ms = timeout_ms
        self._connect = connect
        self._coordinator: int | None = None
        self._unbroken: Connection | None = None
        """The connection on which the coordinator has answered all requests, none of them late."""
        self._pid = -1
        self._epoch = -1

    async def start(self) -> None:
        await self._connect(self._client)
        await self._begin()

    def draft(self) -> KafkaDraft:
        return KafkaDraft()

    async def commit(self, draft: Draft) -> None:
        assert isinstance(draft, KafkaDraft)
        if self._epoch >= EPOCH_MAX:
            await self._begin()
        # The broker replaces the time on topics with LogAppendTime, that is on all of ours.
        now_ms = int(time.time() * 1000)
        queues: dict[TopicPartition, deque[Batch]] = {}
        for (topic, partition), added in draft.records.items():
            key = TopicPartition(self._wire[topic], partition)
            queues[key] = self._batches(key, added, now_ms)
        await self._produce(queues)
        _, self._pid, self._epoch = await self._coordinated(
            EndTxn(self._id, self._pid, self._epoch, commit=True),
            lambda answer: answer[0],
            again=False,
        )

    async def end_forgotten(self) -> None:
        await self._forgotten.end(Producer(self._pid, self._epoch))

    async def close(self) -> None:
        await self._client.close()

    async def _begin(self) -> None:
        """Become the producer, or the next one after oneself, unless another has come between."""
        _, self._pid, self._epoch = await self._coordinated(
            InitProducerId(self._id, self._timeout_ms, self._pid, self._epoch),
            lambda answer: answer[0],
            before=self._forgotten.end,
        )
        await self._forgotten.refuse_unknown(Producer(self._pid, self._epoch))

    async def _before_transaction(self) -> None:
        unbroken = self._unbroken
        if unbroken is None or self._client.connection(self._coordinator) is not unbroken:
            await self.end_forgotten()

    async def _coordinated(
        self,
        request: Written[T],
        code_of: Callable[[T], int],
        *,
        before: Callable[[], Awaitable[None]] | None = None,
        again: bool = True,
    ) -> T:
        """Send to the transaction coordinator until it takes the request.

        `before` is awaited each time before it is sent.

        `again`: also after a lost connection. Not so an `EndTxn`: what became of its transaction,
        the next producer finds out.
        """
        loop = asyncio.get_running_loop()
        pause = Backoff()
        late_at = loop.time() + limits.MARKERS_MS_MAX / 1000
        smooth = True
        while True:
            sent = False
            try:
                if self._coordinator is None:
                    self._coordinator = await self._client.coordinator_lookup(
                        CoordinationType.TRANSACTION, self._id
                    )
                if before is not None:
                    await before()
                sent = True
                answer = await self._client.ask(self._coordinator, request)
                code = code_of(answer)
                if code == _OK:
                    connection = self._client.connection(self._coordinator)
                    self._unbroken = connection if smooth else None
                    return answer
                if code == _CONCURRENT:
                    if loop.time() > late_at:
                        self._unbroken, smooth = None, False
                    await asyncio.sleep(limits.TRANSACTION_RETRY_MS / 1000)
                    continue
                _raise_for(code, "transaction")
                self._unbroken, smooth = None, False
                if code in _COORDINATOR_MOVED:
                    self._coordinator = None
            except KafkaError as error:
                lost = isinstance(error, KafkaConnectionError) or error.retriable
                if not lost or (sent and not again):
                    raise LogUnavailable(f"transaction coordinator: {error!r}") from error
                self._coordinator = None
            await pause.sleep()

    def _batches(self, key: TopicPartition, records: Records, now_ms: int) -> deque[Batch]:
        made = deque(records.batches(now_ms, self._pid, self._epoch))
        for batch in made:
            size = sum(map(len, batch))
            if size > limits.WRITE_RECORD_BYTES_MAX:
                raise Refused(f"a record of {size} bytes for {key.topic}: too large")
        return made

    async def _produce(self, queues: dict[TopicPartition, deque[Batch]]) -> None:
        """Write all batches, those of one partition one after another.

        Not again after a lost connection: the broker that is connected to next may just have
        forgotten to end the transaction before.
        """
        loop = asyncio.get_running_loop()
        pause = Backoff()
        late_at = loop.time() + limits.MARKERS_MS_MAX / 1000
        begun = False
        while queues:
            if not begun:
                await self._before_transaction()
            by_leader: dict[int, list[TopicPartition]] = {}
            codes: set[int] = set()
            for key in queues:
                leader = self._client.cluster.leader_for_partition(key)
                if leader is None or leader < 0:
                    codes.add(_NO_LEADER)
                else:
                    by_leader.setdefault(leader, []).append(key)
            try:
                answers = await _all(
                    self._produce_to(leader, keys, queues) for leader, keys in by_leader.items()
                )
            except KafkaError as error:
                raise LogUnavailable(f"a batch: {error!r}") from error
            codes.update(*answers)
            begun = begun or _OK in codes
            for key in [key for key, left in queues.items() if not left]:
                del queues[key]
            codes.discard(_OK)
            if codes == {_CONCURRENT}:
                if loop.time() > late_at:
                    self._unbroken = None
                await asyncio.sleep(limits.TRANSACTION_RETRY_MS / 1000)
            elif codes:
                self._unbroken = None
                await self._client.force_metadata_update()
                await pause.sleep()

    async def _produce_to(
        self, leader: int, keys: list[TopicPartition], queues: dict[TopicPartition, deque[Batch]]
    ) -> set[int]:
        """Send the next batch of each partition, and take off those that were taken; what the
        leader said of them."""
        topics: dict[str, list[tuple[int, Batch]]] = {}
        for key in keys:
            topics.setdefault(key.topic, []).append((key.partition, queues[key][0]))
        answer = await self._client.ask(leader, Produce(self._id, limits.COMMIT_MS_MAX, topics))
        codes = set()
        for topic, partitions in answer:
            for partition, code, *_ in partitions:
                if code in (_OK, _DUPLICATE_SEQUENCE):
                    queues[TopicPartition(topic, partition)].popleft()
                    codes.add(_OK)
                else:
                    _raise_for(code, topic)
                    codes.add(code)
        return codes


class KafkaDraft:
    """Implements `agents.ledger.log.Draft`: encodes what it is given."""

    def __init__(self) -> None:
        self.records: defaultdict[Place, Records] = defaultdict(Records)

    def add(self, place: Place, entries: Sequence[Entry]) -> None:
        self.records[place].add(entries)


async def _all(asked: Iterable[Coroutine[Any, Any, T]]) -> Sequence[T]:
    """All answers; of one, which is the rule, without a task for it."""
    waits = list(asked)
    return [await waits[0]] if len(waits) == 1 else await asyncio.gather(*waits)


def _raise_for(code: int, what: str) -> None:
    """Raise unless the request may simply be sent again."""
    if code in _FENCED:
        raise Fenced(what)
    if code in _NEVER:
        raise Refused(f"{what}: {for_code(code).__name__}")
    if code not in _TRY_AGAIN:
        raise LogUnavailable(f"{what}: {for_code(code).__name__}")


# --- who owns what -------------------------------------------------------------------------------


class KafkaMembership(ConsumerRebalanceListener):  # type: ignore[misc]
    """Implements `agents.ledger.log.Membership`: a group consumer that never reads.

    It subscribes to `person-state` alone, so that workers of different versions, which may know
    different command topics, still share the partitions by one list.
    """

    def __init__(
        self, brokers: str, catalog: Catalog, options: Mapping[str, Any], session_timeout_ms: int
    ) -> None:
        self._session_timeout_ms = session_timeout_ms
        self.wished: frozenset[int] = frozenset()
        self.generation = 0
        self.changed = asyncio.Event()
        self._brokers = brokers
        self._catalog = catalog
        self._options = options
        self._consumer: AIOKafkaConsumer | None = None
        self._running: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._running = asyncio.create_task(self._run())

    async def _run(self) -> None:
        """Be a member, and become one again where the consumer's own tasks gave up."""
        pause = Backoff()
        assignor = type("Assignor", (StickyPartitionAssignor,), {})  # it keeps memory on the class
        while True:
            consumer = self._consumer = AIOKafkaConsumer(
                bootstrap_servers=self._brokers,
                client_id=self._catalog.group,
                group_id=self._catalog.group,
                session_timeout_ms=self._session_timeout_ms,
                heartbeat_interval_ms=min(limits.HEARTBEAT_MS, self._session_timeout_ms // 3),
                rebalance_timeout_ms=limits.REBALANCE_MS_MAX,
                request_timeout_ms=limits.REBALANCE_MS_MAX + self._session_timeout_ms,
                enable_auto_commit=False,
                auto_offset_reset="latest",  # it never reads: every partition is paused
                partition_assignment_strategy=(assignor,),
                **self._options,
            )
            try:
                await consumer.start()
                consumer.subscribe([self._catalog.state.wire], listener=self)
                pause.reset()
                while True:
                    # A member that does not poll is idle, and an idle one is expelled.
                    await consumer.getmany(timeout_ms=limits.HEARTBEAT_MS)
            except KafkaError as error:
                log.warning("no group: waiting", brokers=self._brokers, error=str(error))
            except Exception:
                log.exception("the group consumer failed: it is made anew")
            await consumer.stop()
            await pause.sleep()

    def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        """Owners go on: only a new assignment, or a fence, takes a partition away."""

    def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        assert self._consumer is not None
        self._consumer.pause(*assigned)
        self.wished = frozenset(key.partition for key in assigned)
        self.generation += 1
        log.info("assigned", partitions=sorted(self.wished), generation=self.generation)
        self.changed.set()

    def rejoin(self) -> None:
        # The consumer has no public way to ask for this; before it has joined, it is about to.
        coordinator = self._consumer._coordinator if self._consumer is not None else None
        if coordinator is not None:
            coordinator.request_rejoin()

    async def stop(self) -> None:
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)
        if self._consumer is not None:
            await self._consumer.stop()
