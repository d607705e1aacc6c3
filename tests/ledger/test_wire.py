"""Requests written by hand: the same bytes, and the same answers, as aiokafka's own structs."""

from __future__ import annotations

import struct
from io import BytesIO
from typing import Any

import pytest
from aiokafka.protocol import fetch, offset, produce, transaction

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
        transaction.InitProducerIdRequest_v0("realname-3", 10_000),
    ),
    (
        wire.AddPartitionsToTxn("realname-3", 1 << 40, 9, dict(TOPICS)),
        transaction.AddPartitionsToTxnRequest_v0("realname-3", 1 << 40, 9, TOPICS),
    ),
    (
        wire.Produce("realname-3", 8_000, PARTS),
        produce.ProduceRequest_v7("realname-3", -1, 8_000, BATCHES),
    ),
    (
        wire.EndTxn("realname-3", 1 << 40, 9, commit=True),
        transaction.EndTxnRequest_v0("realname-3", 1 << 40, 9, True),
    ),
    (
        wire.EndTxn("realname-3", 1, 0, commit=False),
        transaction.EndTxnRequest_v0("realname-3", 1, 0, False),
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


def offsets(answer: Any) -> Any:
    return answer.topics


def errors(answer: Any) -> Any:
    return answer.errors


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


ANSWERS: list[tuple[wire.Written[Any], Any, Any]] = [
    (wire.ListOffsets(0, {}, -1), offset.OffsetResponse_v3(3, ENDS), offsets),
    (wire.ListOffsets(0, {}, -1), offset.OffsetResponse_v3(0, []), offsets),
    (wire.Fetch(0, 0, 0, 0, 0, 0, {}, {}), fetch.FetchResponse_v11(0, 0, 77, FETCHED), fetched),
    (wire.Fetch(0, 0, 0, 0, 0, 0, {}, {}), fetch.FetchResponse_v11(9, 71, 0, []), fetched),
    (
        wire.InitProducerId("", 0),
        transaction.InitProducerIdResponse_v0(0, 51, -1, -1),
        lambda answer: (answer.error_code, answer.producer_id, answer.producer_epoch),
    ),
    (
        wire.AddPartitionsToTxn("", 0, 0, {}),
        transaction.AddPartitionsToTxnResponse_v0(0, [("a", [(3, 0), (4, 47)]), ("b", [])]),
        errors,
    ),
    (
        wire.Produce("", 0, {}),
        produce.ProduceResponse_v7([("a", [(3, 0, 1 << 40, -1, 5), (4, 46, -1, -1, -1)])], 3),
        offsets,
    ),
    (
        wire.EndTxn("", 0, 0, commit=True),
        transaction.EndTxnResponse_v0(0, 90),
        lambda answer: answer.error_code,
    ),
]


@pytest.mark.parametrize(("request_", "theirs"), REQUESTS)
def test_requests_are_the_bytes_that_aiokafka_sends(
    request_: wire.Written[Any], theirs: Any
) -> None:
    assert b"".join(request_.encode()) == theirs.encode()
    assert (request_.key, request_.version) == (theirs.API_KEY, theirs.API_VERSION)
    assert not theirs.FLEXIBLE_VERSION


@pytest.mark.parametrize(("request_", "theirs", "of"), ANSWERS)
def test_answers_are_read_as_aiokafka_reads_them(
    request_: wire.Written[Any], theirs: Any, of: Any
) -> None:
    sent = theirs.encode()
    found = request_.decode(b"head" + sent, 4)
    if isinstance(found, wire.Fetched):
        found = listed(found)
    assert found == of(type(theirs).decode(BytesIO(sent)))


@pytest.mark.parametrize(("request_", "theirs", "of"), ANSWERS)
def test_an_answer_cut_off_is_no_answer(request_: wire.Written[Any], theirs: Any, of: Any) -> None:
    sent = theirs.encode()
    for size in range(len(sent)):
        with pytest.raises((ValueError, struct.error)):
            request_.decode(sent[:size], 0)


def test_all_kinds_are_known() -> None:
    """A connection looks whether the broker knows them."""
    assert set(wire.WRITTEN) == set(wire.Written.__subclasses__())
    assert {type(one) for one, _ in REQUESTS} == {type(one) for one, _, _ in ANSWERS}
    assert {type(one) for one, _ in REQUESTS} == set(wire.WRITTEN)
