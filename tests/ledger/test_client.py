"""The connections for requests written by hand: whatever comes, or does not, all who wait learn."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Iterable
from typing import Any

import pytest
from aiokafka.errors import IncompatibleBrokerVersion, KafkaConnectionError

from agents.ledger.client import Client, Connection
from agents.ledger.wire import EndTxn, ListOffsets
from schemas import limits

END = EndTxn("realname-0", 1, 0, commit=True)


class Wire:
    """Both aiokafka's side of a connection and its transport; what was sent, and its end."""

    host, port = "broker", 1

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.open = True
        self.protocol: Any = None

    def connected(self) -> bool:
        return self.open

    def is_closing(self) -> bool:
        return not self.open

    def close(self) -> None:
        self.open = False

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol

    def writelines(self, parts: Iterable[bytes]) -> None:
        self.sent.append(b"".join(parts))


class Side:
    def __init__(self) -> None:
        self.wire = Wire()
        self.losses = 0
        self.connection = Connection(self.wire, self.wire, "realname", self.lost)  # type: ignore[arg-type]

    def lost(self) -> None:
        self.losses += 1

    def receive(self, data: bytes) -> None:
        self.wire.protocol.data_received(data)


@pytest.fixture
async def side() -> Side:
    return Side()


def frame(correlation: int, code: int) -> bytes:
    return struct.pack(">iibihqhb", 22, correlation, 0, 0, code, -1, -1, 0)


async def test_a_request_has_size_header_and_body(side: Side) -> None:
    answers = [side.connection.send(END) for _ in range(2)]
    body = b"".join(END.encode())
    for number, sent in enumerate(side.wire.sent, 1):
        header = struct.pack(">ihhih", len(sent) - 4, 26, 5, number, 8) + b"realname"
        assert sent == header + body
    for one in answers:
        one.cancel()


@pytest.mark.parametrize("size", [1, 3, 5, 25, 26, 27, 51, 52, 53, 1000])
async def test_answers_come_in_pieces_of_any_size(side: Side, size: int) -> None:
    answers = [side.connection.send(END) for _ in range(20)]
    stream = b"".join(frame(number, number) for number in range(1, 21))
    for at in range(0, len(stream), size):
        side.receive(stream[at : at + size])
    assert [(await one)[0] for one in answers] == list(range(1, 21))
    assert not side.connection.lost


async def test_who_does_not_wait_any_more_holds_up_nobody(side: Side) -> None:
    gone, still = side.connection.send(END), side.connection.send(END)
    gone.cancel()
    side.receive(frame(1, 5) + frame(2, 6))
    assert await still == (6, -1, -1)


@pytest.mark.parametrize(
    "answer",
    [
        frame(2, 0),  # to another question
        struct.pack(">iii", 8, 1, 0),  # too short for what it answers
        struct.pack(">i", -1),
    ],
)
async def test_what_is_not_understood_ends_the_connection(side: Side, answer: bytes) -> None:
    answers = [side.connection.send(END) for _ in range(2)]
    side.receive(answer)
    assert side.connection.lost
    assert not side.wire.open
    assert side.losses == 1
    for one in answers:
        with pytest.raises(KafkaConnectionError, match="not understood"):
            await one
    with pytest.raises(KafkaConnectionError):
        side.connection.send(END)


async def test_an_answer_to_nothing_ends_the_connection(side: Side) -> None:
    side.receive(frame(1, 0))
    assert side.connection.lost


async def test_a_lost_connection_fails_all_who_wait(side: Side) -> None:
    answers = [side.connection.send(END) for _ in range(3)]
    side.wire.protocol.connection_lost(None)
    for one in answers:
        with pytest.raises(KafkaConnectionError, match="was lost"):
            await one
    assert side.losses == 1


async def test_an_answer_that_is_late_ends_the_connection(
    side: Side, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "COMMIT_MS_MAX", 100)
    answered = side.connection.send(END)
    await asyncio.sleep(0.06)
    waits = side.connection.send(END)
    side.receive(frame(1, 0))
    assert await answered == (0, -1, -1)
    await asyncio.sleep(0.06)
    assert not side.connection.lost, "the later one has time yet"
    with pytest.raises(KafkaConnectionError, match="no answer within"):
        await asyncio.wait_for(waits, 1)
    assert side.losses == 1


async def test_closing_is_no_loss(side: Side) -> None:
    answer = side.connection.send(END)
    side.connection.close()
    side.wire.protocol.connection_lost(None)
    with pytest.raises(KafkaConnectionError, match="closed"):
        await answer
    assert side.losses == 0


async def test_a_connection_that_is_closed_already_is_none(side: Side) -> None:
    side.wire.open = False
    with pytest.raises(KafkaConnectionError):
        Connection(side.wire, side.wire, "realname", side.lost)  # type: ignore[arg-type]


async def test_a_client_connects_again_and_names_what_a_broker_lacks(
    broker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = Client(broker, "realname", {})
    await client.bootstrap()
    node = client.get_random_node()
    nothing = ListOffsets(0, {}, -1)
    try:
        assert await asyncio.gather(*[client.ask(node, nothing) for _ in range(3)]) == [[]] * 3
        first = client.connection(node)
        assert first is not None
        first.close()
        assert client.connection(node) is None
        assert await client.ask(node, nothing) == []
        second = client.connection(node)
        assert second is not None
        second.close()
        monkeypatch.setattr(ListOffsets, "version", 99)
        with pytest.raises(IncompatibleBrokerVersion, match="ListOffsets 99"):
            await client.ask(node, nothing)
        monkeypatch.undo()
        monkeypatch.setattr(client.cluster, "broker_metadata", lambda node: None)
        with pytest.raises(KafkaConnectionError, match="StaleMetadata"):
            await client.ask(node, nothing)
    finally:
        await client.close()
