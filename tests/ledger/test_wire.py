"""Requests written by hand: the same bytes, and the same answers, as aiokafka's own structs, or as
structs made of its types where it does not have the version."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from aiokafka.protocol import fetch, offset
from aiokafka.protocol.types import (
    Boolean,
    CompactArray,
    CompactBytes,
    CompactString,
    Int16,
    Int32,
    Int64,
    Schema,
    TaggedFields,
)

from agents.ledger import wire

TOPICS = [("a.scan-events", [3, 0]), ("工地", [1])]
ENDS = [
    ("a.scan-events", [(3, 0, -1, 5), (0, 6, -1, -1)]),
    ("工地", []),
    ("c", [(1, 0, 9, 1 << 40)]),
]
PARTS = {"a": [(0, (b"bat", b"ch")), (7, ())], "b": [(1, (b"x" * 300,))]}
BATCHES = [
    (topic, [(one, b"".join(parts)) for one, parts in group]) for topic, group in PARTS.items()
]

TEXT = CompactString("utf-8")
TAGS = ("tags", TaggedFields)


class Struct:
    """A flexible version: the tags of the header, the fields, the tags."""

    FLEXIBLE_VERSION = True

    def __init__(self, form: Schema, version: tuple[int, int], *values: Any) -> None:
        self.API_KEY, self.API_VERSION = version
        self._form = form
        self._values = values

    def encode(self) -> bytes:
        sent: bytes = self._form.encode(({}, *self._values, {}))
        return sent


def flexible(*fields: tuple[str, Any]) -> Schema:
    return Schema(TAGS, *fields, TAGS)


def topics(of: Any) -> CompactArray:
    return CompactArray(("name", TEXT), ("partitions", of), TAGS)


INIT = flexible(("id", TEXT), ("timeout", Int32), ("producer", Int64), ("epoch", Int16))
INIT_ANSWER = flexible(("throttle", Int32), ("error", Int16), ("producer", Int64), ("epoch", Int16))
PRODUCE = flexible(
    ("id", TEXT), ("acks", Int16), ("timeout", Int32),
    ("topics", topics(CompactArray(("partition", Int32), ("batch", CompactBytes), TAGS))),
)  # fmt: skip
PRODUCE_ANSWER = flexible(
    ("topics", topics(CompactArray(
        ("partition", Int32), ("error", Int16), ("offset", Int64), ("time", Int64),
        ("start", Int64),
        ("refused", CompactArray(("index", Int32), ("words", TEXT), TAGS)), ("words", TEXT), TAGS,
    ))),
    ("throttle", Int32),
)  # fmt: skip
END = flexible(("id", TEXT), ("producer", Int64), ("epoch", Int16), ("commit", Boolean))
END_ANSWER = INIT_ANSWER

REQUESTS: list[tuple[wire.Written[Any], Any]] = [
    (
        wire.ListOffsets(1, dict(TOPICS), -2),
        offset.OffsetRequest_v3(-1, 1, [(t, [(one, -2) for one in group]) for t, group in TOPICS]),
    ),
    (wire.ListOffsets(0, {}, -1), offset.OffsetRequest_v3(-1, 0, [])),
    (
        wire.Fetch(250, 8 << 20, 1 << 20, 1, 77, 5, {"a": [(3, 1 << 40), (4, 0)]}, dict(TOPICS)),
        fetch.FetchRequest_v11(
            -1, 250, 1, 8 << 20, 1, 77, 5,
            [("a", [(3, -1, 1 << 40, -1, 1 << 20), (4, -1, 0, -1, 1 << 20)])], TOPICS, "",
        ),
    ),
    (
        wire.Fetch(5, 1, 1, 0, 0, 0, {}, {}),
        fetch.FetchRequest_v11(-1, 5, 1, 1, 0, 0, 0, [], [], ""),
    ),
    (
        wire.InitProducerId("realname-3", 10_000),
        Struct(INIT, (22, 4), "realname-3", 10_000, -1, -1),
    ),
    (
        wire.InitProducerId("r" * 300, 10_000, 1 << 40, 32_766),
        Struct(INIT, (22, 4), "r" * 300, 10_000, 1 << 40, 32_766),
    ),
    (
        wire.Produce("realname-3", 8_000, PARTS),
        Struct(PRODUCE, (0, 12), "realname-3", -1, 8_000, [
            (topic, [(*one, {}) for one in group], {}) for topic, group in BATCHES
        ]),
    ),
    (
        wire.EndTxn("realname-3", 1 << 40, 9, commit=True),
        Struct(END, (26, 5), "realname-3", 1 << 40, 9, True),
    ),
    (
        wire.EndTxn("realname-3", 1, 0, commit=False),
        Struct(END, (26, 5), "realname-3", 1, 0, False),
    ),
]  # fmt: skip

FETCHED = [
    (
        "a",
        [
            (3, 0, 100, 90, 1, [(7, 40), (8, 1 << 40)], -1, b"batches"),
            (4, 1, -1, -1, -1, None, -1, b""),
            (5, 0, 7, 7, 0, [], -1, None),
        ],
    ),
    ("工地", []),
]


def fetched(answer: Any) -> Any:
    topics = [
        (topic, [(p, code, high, stable, aborted or [], data or b"")
                 for p, code, high, stable, _, aborted, _, data in group])
        for topic, group in answer.topics
    ]  # fmt: skip
    return answer.error_code, answer.session_id, topics


def listed(answer: wire.Fetched) -> Any:
    topics = [
        (topic, [(*one[:4], list(one.aborted), one.data) for one in group])
        for topic, group in answer.topics
    ]
    return answer.error, answer.session, topics


ANSWERS: list[tuple[wire.Written[Any], bytes, Any]] = [
    (wire.ListOffsets(0, {}, -1), offset.OffsetResponse_v3(3, ENDS).encode(), ENDS),
    (wire.ListOffsets(0, {}, -1), offset.OffsetResponse_v3(0, []).encode(), []),
    (
        wire.Fetch(0, 0, 0, 0, 0, 0, {}, {}),
        fetch.FetchResponse_v11(0, 0, 77, FETCHED).encode(),
        fetched(fetch.FetchResponse_v11(0, 0, 77, FETCHED)),
    ),
    (
        wire.Fetch(0, 0, 0, 0, 0, 0, {}, {}),
        fetch.FetchResponse_v11(9, 71, 0, []).encode(),
        (71, 0, []),
    ),
    (
        wire.InitProducerId("", 0),
        INIT_ANSWER.encode(({}, 0, 51, -1, -1, {})),
        (51, -1, -1),
    ),
    (
        wire.Produce("", 0, {}),
        PRODUCE_ANSWER.encode((
            {},
            [
                ("a" * 200, [
                    (3, 0, 1 << 40, -1, 5, [], None, {}),
                    (4, 46, -1, -1, -1, [(7, "wrong", {}), (8, None, {})], "words" * 40, {}),
                ], {}),
                ("工地", [], {}),
            ],
            3,
            {},
        )),
        [("a" * 200, [(3, 0, 1 << 40, -1, 5), (4, 46, -1, -1, -1)]), ("工地", [])],
    ),
    (
        # Whose partition, and the answer itself, say with tags who leads: id 0, five bytes.
        wire.Produce("", 0, {}),
        b"\0" b"\2\2a\2" + struct.pack(">ihqqq", 1, 6, -1, -1, -1) + b"\1\0" b"\1\0\5lead." b"\0"
        + struct.pack(">i", 0) + b"\2\0\1!\1\x81\1" + b"x" * 129,
        [("a", [(1, 6, -1, -1, -1)])],
    ),
    (
        wire.EndTxn("", 0, 0, commit=True),
        END_ANSWER.encode(({}, 0, 90, 1 << 40, 7, {})),
        (90, 1 << 40, 7),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("request_", "theirs"), REQUESTS)
def test_requests_are_the_bytes_that_aiokafka_sends(
    request_: wire.Written[Any], theirs: Any
) -> None:
    assert b"".join(request_.encode()) == theirs.encode()
    assert (request_.key, request_.version) == (theirs.API_KEY, theirs.API_VERSION)


@pytest.mark.parametrize(("request_", "sent", "says"), ANSWERS)
def test_answers_say_what_was_sent(request_: wire.Written[Any], sent: bytes, says: Any) -> None:
    found = request_.decode(memoryview(b"head" + sent), 4)
    assert (listed(found) if isinstance(found, wire.Fetched) else found) == says


@pytest.mark.parametrize(("request_", "sent", "says"), ANSWERS)
def test_an_answer_cut_off_is_no_answer(
    request_: wire.Written[Any], sent: bytes, says: Any
) -> None:
    for size in range(len(sent)):
        with pytest.raises((ValueError, struct.error)):
            request_.decode(memoryview(sent[:size]), 0)


def test_all_kinds_are_known() -> None:
    """A connection looks whether the broker knows them."""
    assert set(wire.WRITTEN) == set(wire.Written.__subclasses__())
    assert {type(one) for one, _ in REQUESTS} == {type(one) for one, _, _ in ANSWERS}
    assert {type(one) for one, _ in REQUESTS} == set(wire.WRITTEN)
