"""Transactions whose end the broker forgot: readers get past them, and nothing of them is lost.

The broker here does not check which partitions belong to a transaction. So a partition that is
written to without the coordinator's knowing is passed over when the transaction ends: the same as
what Kafka leaves behind when such a partition had no leader at that moment.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaConnectionError
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.structs import TopicPartition

from agents.ledger.client import Client
from agents.ledger.encoding import Records
from agents.ledger.kafka import KafkaLog, KafkaWriter
from agents.ledger.ledger import Ledger
from agents.ledger.log import Entry, LogUnavailable, Place, Refused
from agents.ledger.turn import Turn, answer
from agents.ledger.wire import (
    DescribeProducersRequest,
    DescribeTransactionsRequest,
    EndTxn,
    InitProducerId,
    Produce,
    WriteTxnMarkersRequest,
)
from agents.references import References
from deployment import metrics, topics
from deployment.catalog import load_catalog
from local.broker import Broker
from schemas import limits
from tests.ledger import toy
from tests.ledger.reading_back import committed
from tests.ledger.writing import A, B, both, write

STAFF: Place = ("staff", 0)


@pytest.fixture(scope="module")
def careless(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A broker that takes what is written outside of its transaction."""
    with Broker(
        tmp_path_factory.mktemp("careless"),
        heap_mb=320,
        more={"transaction.partition.verification.enable": "false"},
    ) as server:
        yield server.bootstrap


@pytest.fixture
async def log(careless: str) -> KafkaLog:
    catalog = load_catalog(f"t{uuid.uuid4().hex[:12]}.", partitions=2)
    await topics.apply(careless, catalog, 1)
    return KafkaLog(careless, catalog)


async def unnoticed(client: AIOKafkaClient, request: Produce) -> None:
    """Write it as older clients do, who tell the coordinator themselves; this one does not."""
    await client.send(
        client.get_random_node(),
        ProduceRequest(
            transactional_id=request.transactional_id,
            required_acks=-1,
            timeout=request.timeout_ms,
            topics=[
                (topic, [(partition, b"".join(batch)) for partition, batch in group])
                for topic, group in request.topics.items()
            ],
        ),
    )


async def begin(writer: KafkaWriter, value: bytes, places: tuple[Place, ...] = (B,)) -> None:
    """A transaction on A and `places`, of which the coordinator knows only A."""
    known = TopicPartition(writer._wire[A[0]], A[1])
    await writer._produce({known: writer._batches(known, one(value), 0)})
    for topic, partition in places:
        key = TopicPartition(writer._wire[topic], partition)
        (batch,) = writer._batches(key, one(value), 0)
        await unnoticed(
            writer._client, Produce(writer._id, 1_000, {key.topic: [(partition, batch)]})
        )


async def forget(
    writer: KafkaWriter, value: bytes, *, commit: bool, places: tuple[Place, ...] = (B,)
) -> None:
    """It is over for the coordinator, which ended only A."""
    await begin(writer, value, places)
    _, writer._pid, writer._epoch = await writer._coordinated(
        EndTxn(writer._id, writer._pid, writer._epoch, commit),
        lambda answer: answer[0],
        again=False,
    )


def one(value: bytes) -> Records:
    records = Records()
    records.add([Entry(b"k", value)])
    return records


async def cut_off(writer: KafkaWriter, entries: dict[Place, list[Entry]]) -> None:
    """A transaction whose end is never asked for."""
    ask = Client.ask

    async def failing(self: Client, node: int, request: Any) -> Any:
        if isinstance(request, EndTxn):
            raise KafkaConnectionError("cut")
        return await ask(self, node, request)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Client, "ask", failing)
        with pytest.raises(LogUnavailable):
            await write(writer, entries)


@contextmanager
def forgetting(topic: str) -> Iterator[None]:
    """Transactions that leave `topic` (its name on the broker) open."""
    ask = Client.ask

    async def silent(self: Client, node: int, request: Any) -> Any:
        if not isinstance(request, Produce) or topic not in request.topics:
            return await ask(self, node, request)
        hidden = {topic: request.topics[topic]}
        others = {one: group for one, group in request.topics.items() if one != topic}
        answer = await ask(self, node, Produce(request.transactional_id, 1_000, others))
        await unnoticed(self, Produce(request.transactional_id, 1_000, hidden))
        return [*answer, (topic, [(partition, 0) for partition, _ in hidden[topic]])]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Client, "ask", silent)
        yield


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while True:
            if holds():
                return
            await asyncio.sleep(0.05)


@asynccontextmanager
async def deciding(log: KafkaLog) -> AsyncIterator[None]:
    """A ledger that owns all partitions and counts."""

    async def ask(turn: Turn) -> None:
        await answer(turn, toy.count)

    ledger = Ledger(log, References(log.layout.references, toy.parse), "1", ask)
    await ledger.start()
    try:
        await until(lambda: [one.stage for one in ledger.owners.values()] == ["deciding"] * 2)
        yield
    finally:
        await ledger.stop()


async def decided(log: KafkaLog, careless: str, partition: int, value: bytes) -> None:
    """A command is sent to the partition, and its outcome becomes readable."""
    place = ("outcomes", partition)
    before = await committed(log, place)
    async with AIOKafkaProducer(bootstrap_servers=careless) as producer:
        topic = log._catalog.topics["hire-requests"].wire
        await producer.send_and_wait(topic, value, key=b"k%d" % partition, partition=partition)
    async with asyncio.timeout(15):
        while await committed(log, place) == before:
            pass


async def end_of(log: KafkaLog, place: Place) -> int:
    ends = log.end_offsets()
    try:
        return (await ends.high_watermarks([place]))[place]
    finally:
        await ends.close()


def counted() -> dict[str, float]:
    return {
        result: metrics.LEDGER_FORGOTTEN_ENDS.labels(result)._value.get()
        for result in ("commit", "abort")
    }


@contextmanager
def requests() -> Iterator[list[str]]:
    """The kinds of requests that are sent."""
    sent: list[str] = []
    send = AIOKafkaClient.send

    async def noting(self: AIOKafkaClient, node: int, request: Any, **options: Any) -> Any:
        sent.append(type(request).__name__)
        return await send(self, node, request, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AIOKafkaClient, "send", noting)
        yield sent


async def test_it_hangs_without_us(log: KafkaLog, started: Any) -> None:
    """The broker does what these tests are about."""
    await forget(await started(), b"1", commit=True)
    assert await committed(log, A) == [b"1"]
    with pytest.raises(TimeoutError):
        await committed(log, B)


@pytest.mark.parametrize("commit", [True, False])
async def test_the_next_producer_ends_it_as_it_was_decided(
    log: KafkaLog, started: Any, commit: bool
) -> None:
    first = await started()
    await write(first, both(b"0"))
    await forget(first, b"1", commit=commit, places=(B, STAFF))
    before = counted()
    heir = await started()
    wanted = [b"0", b"1"] if commit else [b"0"]
    assert await committed(log, A) == wanted
    assert await committed(log, B) == wanted
    assert await committed(log, STAFF) == wanted[1:]
    result = "commit" if commit else "abort"
    assert counted() == {**before, result: before[result] + 2}
    await write(heir, both(b"2"))
    assert await committed(log, B) == [*wanted, b"2"]


async def test_the_next_producer_ends_what_was_aborted_for_it(log: KafkaLog, started: Any) -> None:
    await begin(await started(), b"never")
    before = counted()
    heir = await started()
    assert counted() == {**before, "abort": before["abort"] + 1}
    await write(heir, both(b"1"))
    assert await committed(log, A) == await committed(log, B) == [b"1"]


async def test_what_was_forgotten_survives_the_abort_of_the_next(
    log: KafkaLog, started: Any
) -> None:
    """The same producer goes on over another connection, and then fails."""
    writer = await started()
    await forget(writer, b"1", commit=True)
    writer._client.connection(writer._coordinator).close()
    await cut_off(writer, both(b"never"))
    await started()
    assert await committed(log, B) == [b"1"]
    assert await committed(log, A) == [b"1"]


async def test_the_same_producer_goes_on(log: KafkaLog, started: Any) -> None:
    writer = await started()
    await forget(writer, b"never", commit=False)
    writer._client.connection(writer._coordinator).close()
    await write(writer, both(b"2"))
    assert await committed(log, B) == [b"2"]
    with requests() as sent:
        await write(writer, both(b"3"))
    assert await committed(log, B) == [b"2", b"3"]
    assert "DescribeProducersRequest" not in sent


@pytest.mark.parametrize("goes_on", [False, True])
async def test_what_nobody_can_know_is_not_guessed(
    log: KafkaLog, started: Any, goes_on: bool
) -> None:
    """Another producer was begun without looking: the result is gone."""
    first = await started()
    await forget(first, b"1", commit=True)
    _, _, epoch = await first._coordinated(
        InitProducerId(first._id, 10_000), lambda answer: answer[0]
    )
    if goes_on:
        first._epoch = epoch
        await write(first, {A: [Entry(b"k", b"2")]})
    for _ in range(2):
        with pytest.raises(Refused, match=r"kafka-transactions\.sh"):
            await started()


async def test_the_abort_of_the_next_is_not_the_end_of_the_last(
    log: KafkaLog, started: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next one began elsewhere, without looking: of what was committed nothing is aborted."""
    writer = await started()
    await forget(writer, b"1", commit=True)

    async def nothing() -> None:
        """As if the coordinator had been there all the time."""

    monkeypatch.setattr(writer, "_before_transaction", nothing)
    await cut_off(writer, {A: [Entry(b"k", b"never")]})
    with pytest.raises(Refused, match=r"kafka-transactions\.sh"):
        await started()
    assert await committed(log, A) == [b"1"]


async def test_in_health_nothing_is_written(log: KafkaLog, started: Any) -> None:
    with requests() as sent:
        writer = await started()
        # A broker just begun has no coordinator at once, and then the first one looks again.
        await write(writer, {A: [Entry(b"k", b"0")], B: [Entry(b"k", b"x")]})
        looks = sent.count("DescribeProducersRequest")
        for number in range(1, 5):
            await write(writer, {A: [Entry(b"k", b"%d" % number)], B: [Entry(b"k", b"x")]})
        assert sent.count("DescribeProducersRequest") == looks
        heir = await started()
        assert [await end_of(log, place) for place in (A, B)] == [10, 10]
        await write(heir, {A: [Entry(b"k", b"5")]})
    assert "WriteTxnMarkersRequest" not in sent
    assert await committed(log, A) == [b"%d" % number for number in range(6)]


async def test_an_open_transaction_is_the_coordinators_to_abort(
    log: KafkaLog, started: Any
) -> None:
    zombie = await started()
    await write(zombie, both(b"1"))
    await cut_off(zombie, both(b"never"))
    with requests() as sent:
        await started()
    assert "WriteTxnMarkersRequest" not in sent
    assert await committed(log, A) == await committed(log, B) == [b"1"]


async def test_another_producers_open_transaction_is_left_alone(
    log: KafkaLog, started: Any
) -> None:
    """`staff` is written by the producers of all partitions."""
    other = log.writer(1)
    await other.start()
    key = TopicPartition(other._wire["staff"], 0)
    await other._produce({key: other._batches(key, one(b"open"), 0)})
    with requests() as sent:
        writer = await started()
        await write(writer, {STAFF: [Entry(b"k", b"1")]})
    assert "WriteTxnMarkersRequest" not in sent
    assert await end_of(log, STAFF) == 3
    await other.close()


async def test_who_waits_at_the_barrier_for_its_own_forgotten_end_ends_it(
    log: KafkaLog, careless: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "BARRIER_ALARM_MS", 500)
    monkeypatch.setattr(limits, "QUIET_MS_MAX", 60_000)
    async with deciding(log):
        with forgetting(log._catalog.topics["staff"].wire):
            await decided(log, careless, 0, b"staff")
        await decided(log, careless, 0, b"next")


@pytest.mark.parametrize("topic", ["staff", "person-state"])
async def test_a_quiet_partition_ends_what_was_forgotten_of_it(
    log: KafkaLog, careless: str, monkeypatch: pytest.MonkeyPatch, topic: str
) -> None:
    """Nobody else would: others may wait for it, and it has nothing to decide."""
    monkeypatch.setattr(limits, "QUIET_MS_MAX", 500)
    before = counted()
    async with deciding(log):
        with forgetting(log._catalog.topics[topic].wire):
            await decided(log, careless, 0, b"staff")
        await decided(log, careless, 1, b"other")
        await until(lambda: counted()["commit"] == before["commit"] + 1)
        assert len(await committed(log, (topic, 0))) > 0
        await asyncio.sleep(1)  # the other partition looks too
        with requests() as sent:
            await asyncio.sleep(1)
        assert "DescribeProducersRequest" not in sent, "once is enough"


@pytest.mark.parametrize("what", [DescribeProducersRequest, DescribeTransactionsRequest])
async def test_who_may_not_look_goes_on(
    log: KafkaLog, started: Any, what: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    send = AIOKafkaClient.send

    async def refusing(self: AIOKafkaClient, node: int, request: Any, **options: Any) -> Any:
        if isinstance(request, what):
            if what is DescribeProducersRequest:
                return SimpleNamespace(topics=[("outcomes", [(0, 29, None, [], {})], {})])
            return SimpleNamespace(transaction_states=[(53, "", "", 0, 0, -1, -1, [], {})])
        return await send(self, node, request, **options)

    monkeypatch.setattr(AIOKafkaClient, "send", refusing)
    with structlog.testing.capture_logs() as said:
        writer = await started()
    assert [one["event"] for one in said].count("cannot look for forgotten transactions") == 1
    await write(writer, {A: [Entry(b"k", b"1")]})
    assert await committed(log, A) == [b"1"]


async def test_who_may_not_write_stops_and_says_what_to_do(
    log: KafkaLog, started: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    send = AIOKafkaClient.send
    await forget(await started(), b"1", commit=True)

    async def refusing(self: AIOKafkaClient, node: int, request: Any, **options: Any) -> Any:
        if isinstance(request, WriteTxnMarkersRequest):
            (marker,) = request._markers
            ((topic, partition),) = marker.places
            return SimpleNamespace(markers=[(7, [(topic, [(partition, 31, {})], {})], {})])
        return await send(self, node, request, **options)

    with monkeypatch.context() as patch:
        patch.setattr(AIOKafkaClient, "send", refusing)
        with pytest.raises(Refused, match=r"was committed.* let it Alter the cluster"):
            await started()
    # Given the right, the next one does it.
    await started()
    assert await committed(log, B) == [b"1"]
