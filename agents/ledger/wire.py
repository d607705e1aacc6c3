"""Requests of Kafka's protocol that aiokafka does not have, or not in these versions.

They say what Kafka's own message definitions say. aiokafka picks the version a broker knows, and
raises `IncompatibleBrokerVersion` or `NotImplementedError` where there is none.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

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
