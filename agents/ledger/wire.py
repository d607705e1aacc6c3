"""Requests of Kafka's protocol: those of every turn, and those that aiokafka does not have.

They say what Kafka's own message definitions say. The ones of every turn are written and read by
hand, in one version each, and go over connections of our own (`client`): through aiokafka's structs
they cost a live turn 0.4 ms. The others are aiokafka's structs; it picks the version a broker
knows, and raises `IncompatibleBrokerVersion` or `NotImplementedError` where there is none.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from struct import Struct
from typing import Any, ClassVar, Final, Generic, NamedTuple, TypeVar

from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Int64,
    Schema,
    TaggedFields,
)
from aiokafka.structs import TopicPartition

from agents.ledger.encoding import varint

_TEXT: Final = CompactString("utf-8")
_TAGS: Final = ("tags", TaggedFields)
_NO_TAGS: Final[Mapping[int, bytes]] = {}
_PLACES: Final = CompactArray(("name", _TEXT), ("partitions", CompactArray(Int32)), _TAGS)
"""Partitions by topic."""


def by_topic(places: Iterable[TopicPartition]) -> dict[str, list[int]]:
    """Partitions by topic, as requests name them."""
    topics: dict[str, list[int]] = {}
    for topic, partition in places:
        topics.setdefault(topic, []).append(partition)
    return topics


def _places(places: Iterable[TopicPartition]) -> list[tuple[str, list[int], Mapping[int, bytes]]]:
    return [(topic, partitions, _NO_TAGS) for topic, partitions in by_topic(places).items()]


# --- the requests of every turn ------------------------------------------------------------------

T = TypeVar("T")

Answers = list[tuple[str, list[tuple[int, ...]]]]
"""What partitions came to: (topic, fields of fixed size of each of its partitions)."""

_INT16: Final = Struct(">h")
_INT32: Final = Struct(">i")


class Written(Generic[T]):
    """A request that is written by hand, and its answer, read by hand."""

    key: ClassVar[int]
    version: ClassVar[int]
    """Of a *flexible* version, request and answer begin with the tags of their headers."""

    def encode(self) -> Sequence[bytes]:
        """What follows the client's id, in parts: records are many bytes, and are never joined."""
        raise NotImplementedError

    def decode(self, answer: memoryview, at: int) -> T:
        """The answer, whose correlation id ends at `at`. Raises ValueError or struct.error."""
        raise NotImplementedError


@cache
def _text(value: str) -> bytes:
    """A string: length (int16), UTF-8. Remembered: they are topics and transactional ids."""
    raw = value.encode()
    return _INT16.pack(len(raw)) + raw


def _topics(topics: Mapping[str, Sequence[Sequence[bytes]]]) -> list[bytes]:
    """An array of topics: count (int32), then each name and the array of its partitions, each
    of them in parts."""
    parts = [_INT32.pack(len(topics))]
    for topic, partitions in topics.items():
        parts += (_text(topic), _INT32.pack(len(partitions)))
        for partition in partitions:
            parts += partition
    return parts


def _read_text(answer: memoryview, at: int) -> tuple[str, int]:
    (size,) = _INT16.unpack_from(answer, at)
    at += 2
    return str(_part(answer, at, size), "utf-8"), at + size


def _part(answer: memoryview, at: int, size: int) -> memoryview:
    part = answer[at : at + size]
    if size < 0 or len(part) != size:
        raise ValueError("an answer ends too early")
    return part


def _read_topics(answer: memoryview, at: int, form: Struct) -> tuple[Answers, int]:
    """An array of topics whose partitions have a fixed form; and where it ends."""
    (count,) = _INT32.unpack_from(answer, at)
    at += 4
    topics = []
    for _ in range(count):
        topic, at = _read_text(answer, at)
        (partitions,) = _INT32.unpack_from(answer, at)
        at += 4
        size = max(0, partitions) * form.size
        topics.append((topic, list(form.iter_unpack(_part(answer, at, size)))))
        at += size
    return topics, at


# Flexible versions: lengths are varints and one more than they are, 0 is null; every struct ends
# with tags, of which none is sent and none is looked at.

_UNTAGGED: Final = b"\0"


@cache
def _compact_text(value: str) -> bytes:
    """As `_text`, for flexible versions."""
    raw = value.encode()
    return varint(len(raw) + 1) + raw


def _read_varint(answer: memoryview, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        (byte,) = _part(answer, at, 1)
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
        shift += 7


def _read_compact(answer: memoryview, at: int) -> tuple[memoryview, int]:
    """A string or bytes, empty where it is null; and where it ends."""
    size, at = _read_varint(answer, at)
    size = max(0, size - 1)
    return _part(answer, at, size), at + size


def _read_count(answer: memoryview, at: int) -> tuple[int, int]:
    """How many an array has, and where they begin."""
    count, at = _read_varint(answer, at)
    return max(0, count - 1), at


def _skip_tags(answer: memoryview, at: int) -> int:
    count, at = _read_varint(answer, at)
    for _ in range(count):
        _, at = _read_varint(answer, at)
        size, at = _read_varint(answer, at)
        _part(answer, at, size)
        at += size
    return at


_PRODUCER: Final = Struct(">ihqh")


def _read_producer(answer: memoryview, at: int) -> tuple[int, int, int]:
    """What the coordinator says of a producer, after the throttle time: (error, id, epoch)."""
    at = _skip_tags(answer, at)
    _, error, producer, epoch = _PRODUCER.unpack_from(answer, at)
    _skip_tags(answer, at + _PRODUCER.size)
    return error, producer, epoch


@dataclass
class ListOffsets(Written[Answers]):
    """The ends of partitions; answers (topic, [(partition, error, -1, offset)]).

    replica -1 (int32), isolation level (int8), topics with (partition int32, time int64); answered
    by the throttle time (int32) and topics with (partition int32, error int16, time int64, offset
    int64).
    """

    key = 2
    version = 3

    isolation: int
    topics: Mapping[str, Sequence[int]]
    """Partitions by topic."""
    when: int

    _HEAD: ClassVar = Struct(">ib")
    _ASKED: ClassVar = Struct(">iq")
    _FOUND: ClassVar = Struct(">ihqq")

    def encode(self) -> Sequence[bytes]:
        asked, when = self._ASKED.pack, self.when
        topics = {
            topic: [(asked(one, when),) for one in group] for topic, group in self.topics.items()
        }
        return (self._HEAD.pack(-1, self.isolation), *_topics(topics))

    def decode(self, answer: memoryview, at: int) -> Answers:
        return _read_topics(answer, at + 4, self._FOUND)[0]


class FetchedPartition(NamedTuple):
    partition: int
    error: int
    high_watermark: int
    stable: int
    """Last stable offset."""
    aborted: Sequence[tuple[int, int]]
    """(producer, first offset)"""
    data: memoryview
    """Record batches, the last one perhaps cut off."""


class Fetched(NamedTuple):
    error: int
    session: int
    topics: Sequence[tuple[str, Sequence[FetchedPartition]]]


@dataclass
class Fetch(Written[Fetched]):
    """Records of partitions, of which a fetch session is told only what changed.

    replica -1, longest wait, least bytes 1, most bytes (int32 each), isolation level (int8),
    session and its epoch (int32 each), topics with (partition int32, leader epoch -1 int32, offset
    int64, log start -1 int64, most bytes int32), forgotten topics with (partition int32), no rack
    (string); answered by the throttle time (int32), an error (int16), the session (int32) and
    topics with (partition int32, error int16, high watermark, last stable offset, log start (int64
    each), array of aborted transactions (producer int64, first offset int64), preferred replica
    (int32), record batches (length int32)).
    """

    key = 1
    version = 11

    wait_ms: int
    bytes_max: int
    partition_bytes_max: int
    isolation: int
    session: int
    epoch: int
    topics: Mapping[str, Sequence[tuple[int, int]]]
    """(partition, offset) by topic."""
    forgotten: Mapping[str, Sequence[int]]

    _HEAD: ClassVar = Struct(">iiiibii")
    _ASKED: ClassVar = Struct(">iiqqi")
    _ANSWER: ClassVar = Struct(">ihii")
    _FOUND: ClassVar = Struct(">ihqqqi")
    _ABORTED: ClassVar = Struct(">qq")
    _DATA: ClassVar = Struct(">ii")

    def encode(self) -> Sequence[bytes]:
        asked, most = self._ASKED.pack, self.partition_bytes_max
        topics = {
            topic: [(asked(partition, -1, offset, -1, most),) for partition, offset in group]
            for topic, group in self.topics.items()
        }
        forgotten = {
            topic: [(_INT32.pack(one),) for one in group] for topic, group in self.forgotten.items()
        }
        return (
            self._HEAD.pack(
                -1, self.wait_ms, 1, self.bytes_max, self.isolation, self.session, self.epoch
            ),
            *_topics(topics),
            *_topics(forgotten),
            _text(""),
        )

    def decode(self, answer: memoryview, at: int) -> Fetched:
        _, error, session, count = self._ANSWER.unpack_from(answer, at)
        at += self._ANSWER.size
        topics = []
        for _ in range(count):
            topic, at = _read_text(answer, at)
            (partitions,) = _INT32.unpack_from(answer, at)
            at += 4
            group = []
            for _ in range(partitions):
                found, at = self._partition(answer, at)
                group.append(found)
            topics.append((topic, group))
        return Fetched(error, session, topics)

    def _partition(self, answer: memoryview, at: int) -> tuple[FetchedPartition, int]:
        partition, error, high, stable, _, count = self._FOUND.unpack_from(answer, at)
        at += self._FOUND.size
        # Null where there are no committed readers, or nothing aborted.
        size = max(0, count) * self._ABORTED.size
        aborted = list(self._ABORTED.iter_unpack(_part(answer, at, size))) if size else ()
        at += size
        _, length = self._DATA.unpack_from(answer, at)
        at += self._DATA.size
        size = max(0, length)
        found = FetchedPartition(partition, error, high, stable, aborted, _part(answer, at, size))
        return found, at + size


@dataclass
class InitProducerId(Written[tuple[int, int, int]]):
    """Begins a producer and fences those before it; answers (error, id, epoch).

    Flexible: transactional id (string), timeout (int32), the id (int64) and epoch (int16) to go on
    from, or -1; answered by the throttle time (int32), error (int16), id (int64), epoch (int16).
    """

    key = 22
    version = 4

    transactional_id: str
    timeout_ms: int
    producer: int = -1
    epoch: int = -1
    """Where a producer asks for its own next epoch: one that was fenced gets none."""

    _ASKED: ClassVar = Struct(">iqh")

    def encode(self) -> Sequence[bytes]:
        return (
            _UNTAGGED,
            _compact_text(self.transactional_id),
            self._ASKED.pack(self.timeout_ms, self.producer, self.epoch),
            _UNTAGGED,
        )

    def decode(self, answer: memoryview, at: int) -> tuple[int, int, int]:
        return _read_producer(answer, at)


@dataclass
class Produce(Written[Answers]):
    """Writes record batches, acknowledged by all in-sync replicas; answers (topic, [(partition,
    error, offset, time, log start)]).

    Of this version on, the leader itself adds a partition to the producer's transaction, and so
    begins it (KIP-890).

    Flexible: transactional id (string), acknowledgements -1 (int16), timeout (int32), topics with
    (partition int32, batch); answered by topics with (partition int32, error int16, offset, time,
    log start (int64 each), array of refused records (index int32, words), words) and the throttle
    time (int32).
    """

    key = 0
    version = 12

    transactional_id: str
    timeout_ms: int
    topics: Mapping[str, Sequence[tuple[int, Sequence[bytes]]]]
    """(partition, batch in parts) by topic."""

    _HEAD: ClassVar = Struct(">hi")
    _FOUND: ClassVar = Struct(">ihqqq")

    def encode(self) -> Sequence[bytes]:
        parts = [
            _UNTAGGED,
            _compact_text(self.transactional_id),
            self._HEAD.pack(-1, self.timeout_ms),
            varint(len(self.topics) + 1),
        ]
        for topic, group in self.topics.items():
            parts += (_compact_text(topic), varint(len(group) + 1))
            for partition, batch in group:
                size = varint(sum(map(len, batch)) + 1)
                parts += (_INT32.pack(partition), size, *batch, _UNTAGGED)
            parts.append(_UNTAGGED)
        parts.append(_UNTAGGED)
        return parts

    def decode(self, answer: memoryview, at: int) -> Answers:
        topics: Answers = []
        count, at = _read_count(answer, _skip_tags(answer, at))
        for _ in range(count):
            topic, at = _read_compact(answer, at)
            partitions, at = _read_count(answer, at)
            group = []
            for _ in range(partitions):
                group.append(self._FOUND.unpack_from(answer, at))
                at = self._skip_words(answer, at + self._FOUND.size)
            topics.append((str(topic, "utf-8"), group))
            at = _skip_tags(answer, at)
        _INT32.unpack_from(answer, at)
        _skip_tags(answer, at + _INT32.size)
        return topics

    @staticmethod
    def _skip_words(answer: memoryview, at: int) -> int:
        """Past what a partition's answer says of its error in words."""
        refused, at = _read_count(answer, at)
        for _ in range(refused):
            _, at = _read_compact(answer, at + _INT32.size)
            at = _skip_tags(answer, at)
        _, at = _read_compact(answer, at)
        return _skip_tags(answer, at)


@dataclass
class EndTxn(Written[tuple[int, int, int]]):
    """Ends the producer's transaction; answers (error, id, epoch): those of its next one.

    Of this version on, each transaction has an epoch of its own, so that nothing of one that is
    over can get into the next (KIP-890).

    Flexible: transactional id (string), producer (int64) and epoch (int16), whether to commit
    (int8); answered by the throttle time (int32), error (int16), id (int64) and epoch (int16).
    """

    key = 26
    version = 5

    transactional_id: str
    producer: int
    epoch: int
    commit: bool

    _ASKED: ClassVar = Struct(">qh?")

    def encode(self) -> Sequence[bytes]:
        return (
            _UNTAGGED,
            _compact_text(self.transactional_id),
            self._ASKED.pack(self.producer, self.epoch, self.commit),
            _UNTAGGED,
        )

    def decode(self, answer: memoryview, at: int) -> tuple[int, int, int]:
        return _read_producer(answer, at)


WRITTEN: Final[tuple[type[Written[Any]], ...]] = (
    Produce,
    Fetch,
    ListOffsets,
    InitProducerId,
    EndTxn,
)
"""All of them, in the order of their keys."""


# --- topic identities ----------------------------------------------------------------------------


class _Uuid:
    @staticmethod
    def encode(value: bytes) -> bytes:
        return value

    @staticmethod
    def decode(data: Any) -> bytes:
        return bytes(data.read(16))


class TopicIdsResponse(Response):  # type: ignore[misc]
    API_KEY = 3
    API_VERSION = 12
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32), ("host", _TEXT), ("port", Int32), ("rack", _TEXT), _TAGS
            ),
        ),
        ("cluster_id", _TEXT),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("name", _TEXT),
                ("topic_id", _Uuid),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("isr", CompactArray(Int32)),
                        ("offline_replicas", CompactArray(Int32)),
                        _TAGS,
                    ),
                ),
                ("authorized_operations", Int32),
                _TAGS,
            ),
        ),
        _TAGS,
    )


class _TopicIdsRequest_v12(RequestStruct):  # type: ignore[misc]
    FLEXIBLE_VERSION = True
    API_KEY = 3
    API_VERSION = 12
    RESPONSE_TYPE = TopicIdsResponse
    SCHEMA = Schema(
        ("topics", CompactArray(("topic_id", _Uuid), ("name", _TEXT), _TAGS)),
        ("allow_auto_topic_creation", Boolean),
        ("include_topic_authorized_operations", Boolean),
        _TAGS,
    )


class TopicIdsRequest(Request[_TopicIdsRequest_v12]):  # type: ignore[misc]
    """Metadata in a version that names topics by identity; aiokafka stops short of it."""

    API_KEY = 3

    def __init__(self, topics: Sequence[str]) -> None:
        self._topics = topics

    def build(self, request_struct_class: type[_TopicIdsRequest_v12]) -> _TopicIdsRequest_v12:
        topics = [(bytes(16), topic, _NO_TAGS) for topic in self._topics]
        return request_struct_class(topics, False, False, _NO_TAGS)


# --- who writes to a partition -------------------------------------------------------------------


class DescribeProducersResponse(Response):  # type: ignore[misc]
    API_KEY = 61
    API_VERSION = 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "topics",
            CompactArray(
                ("name", _TEXT),
                (
                    "partitions",
                    CompactArray(
                        ("partition", Int32),
                        ("error_code", Int16),
                        ("error_message", _TEXT),
                        (
                            "active_producers",
                            CompactArray(
                                ("producer_id", Int64),
                                ("producer_epoch", Int32),
                                ("last_sequence", Int32),
                                ("last_timestamp", Int64),
                                ("coordinator_epoch", Int32),
                                ("current_txn_start_offset", Int64),
                                _TAGS,
                            ),
                        ),
                        _TAGS,
                    ),
                ),
                _TAGS,
            ),
        ),
        _TAGS,
    )


class _DescribeProducersRequest_v0(RequestStruct):  # type: ignore[misc]
    FLEXIBLE_VERSION = True
    API_KEY = 61
    API_VERSION = 0
    RESPONSE_TYPE = DescribeProducersResponse
    SCHEMA = Schema(("topics", _PLACES), _TAGS)


class DescribeProducersRequest(Request[_DescribeProducersRequest_v0]):  # type: ignore[misc]
    """The producers that a partition remembers. Needs the right to read the topic."""

    API_KEY = 61

    def __init__(self, places: Collection[TopicPartition]) -> None:
        self._asked = places

    def build(
        self, request_struct_class: type[_DescribeProducersRequest_v0]
    ) -> _DescribeProducersRequest_v0:
        return request_struct_class(_places(self._asked), _NO_TAGS)


# --- what a transaction came to ------------------------------------------------------------------


class DescribeTransactionsResponse(Response):  # type: ignore[misc]
    API_KEY = 65
    API_VERSION = 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "transaction_states",
            CompactArray(
                ("error_code", Int16),
                ("transactional_id", _TEXT),
                ("transaction_state", _TEXT),
                ("transaction_timeout_ms", Int32),
                ("transaction_start_time_ms", Int64),
                ("producer_id", Int64),
                ("producer_epoch", Int16),
                ("topics", _PLACES),
                _TAGS,
            ),
        ),
        _TAGS,
    )


class _DescribeTransactionsRequest_v0(RequestStruct):  # type: ignore[misc]
    FLEXIBLE_VERSION = True
    API_KEY = 65
    API_VERSION = 0
    RESPONSE_TYPE = DescribeTransactionsResponse
    SCHEMA = Schema(("transactional_ids", CompactArray(_TEXT)), _TAGS)


class DescribeTransactionsRequest(Request[_DescribeTransactionsRequest_v0]):  # type: ignore[misc]
    """What a coordinator knows of transactional ids. Needs the right to describe them."""

    API_KEY = 65

    def __init__(self, transactional_ids: Sequence[str]) -> None:
        self._transactional_ids = transactional_ids

    def build(
        self, request_struct_class: type[_DescribeTransactionsRequest_v0]
    ) -> _DescribeTransactionsRequest_v0:
        return request_struct_class(self._transactional_ids, _NO_TAGS)


# --- ending a transaction in a partition ---------------------------------------------------------


class Marker(NamedTuple):
    """The end of one producer's transaction in some partitions."""

    producer_id: int
    producer_epoch: int
    commit: bool
    places: Collection[TopicPartition]
    coordinator_epoch: int


class WriteTxnMarkersResponse(Response):  # type: ignore[misc]
    API_KEY = 27
    API_VERSION = 1
    SCHEMA = Schema(
        (
            "markers",
            CompactArray(
                ("producer_id", Int64),
                (
                    "topics",
                    CompactArray(
                        ("name", _TEXT),
                        (
                            "partitions",
                            CompactArray(("partition", Int32), ("error_code", Int16), _TAGS),
                        ),
                        _TAGS,
                    ),
                ),
                _TAGS,
            ),
        ),
        _TAGS,
    )


class _WriteTxnMarkersRequest_v1(RequestStruct):  # type: ignore[misc]
    FLEXIBLE_VERSION = True
    API_KEY = 27
    API_VERSION = 1
    RESPONSE_TYPE = WriteTxnMarkersResponse
    SCHEMA = Schema(
        (
            "markers",
            CompactArray(
                ("producer_id", Int64),
                ("producer_epoch", Int16),
                ("transaction_result", Boolean),
                ("topics", _PLACES),
                ("coordinator_epoch", Int32),
                _TAGS,
            ),
        ),
        _TAGS,
    )


class WriteTxnMarkersRequest(Request[_WriteTxnMarkersRequest_v1]):  # type: ignore[misc]
    """What coordinators send to leaders. Needs the right to alter the cluster, or to act for it."""

    API_KEY = 27

    def __init__(self, markers: Sequence[Marker]) -> None:
        self._markers = markers

    def build(
        self, request_struct_class: type[_WriteTxnMarkersRequest_v1]
    ) -> _WriteTxnMarkersRequest_v1:
        markers = [
            (
                marker.producer_id,
                marker.producer_epoch,
                marker.commit,
                _places(marker.places),
                marker.coordinator_epoch,
                _NO_TAGS,
            )
            for marker in self._markers
        ]
        return request_struct_class(markers, _NO_TAGS)
