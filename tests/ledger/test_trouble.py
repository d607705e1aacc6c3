"""Inputs and dependencies that are not as they should be: nothing is lost, and it is said."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import struct
from pathlib import Path
from typing import Any

import pytest
import zstandard
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete
from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from aiokafka.structs import TopicPartition

from agents.ledger.batches import batches
from deployment import topics
from local.broker import Broker
from schemas import limits


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
async def test_every_compression_is_read(deployment: Any, codec: str) -> None:
    commands = [
        ("scan-events", b"p%d" % (number % 9), b"%d" % number * 50) for number in range(500)
    ]
    await deployment.send(commands, compression_type=codec, linger_ms=50)
    deployment.start()
    await deployment.outcomes()


@pytest.mark.parametrize("codec", ["gzip", "zstd", "lz4", "snappy"])
async def test_a_bomb_costs_an_outcome_and_no_memory(deployment: Any, codec: str) -> None:
    """30 MB in some ten KB, in one record; and behind it the next command."""
    bomb = b"\0" * (15 << 20 if codec == "snappy" else 30 << 20)
    limits_ = {"max_request_size": 64 << 20, "max_batch_size": 64 << 20}
    await deployment.send([("scan-events", b"p", bomb)], compression_type=codec, **limits_)
    await deployment.send([("scan-events", b"p", b"after")])
    worker = deployment.start()
    outcomes = await deployment.outcomes()
    assert [outcome["length"] for outcome in outcomes] == [len(bomb), 5]
    status = await asyncio.to_thread(Path(f"/proc/{worker.pid}/status").read_text)
    peak_kb = int(status.split("VmHWM:")[1].split()[0])
    assert peak_kb < 300_000


async def test_an_agent_that_raises_costs_a_rebuild_and_nothing_else(
    deployment: Any, tmp_path: Path
) -> None:
    trap = tmp_path / "trap"
    trap.touch()
    deployment.start(TOY_TRAP=str(trap))
    await deployment.send([("scan-events", b"p%d" % number, b"x") for number in range(100)])
    await deployment.send([("scan-events", b"p3", b"raise")])
    await deployment.until(lambda: "the decision failed" in deployment.said())
    trap.unlink()
    await deployment.send([("scan-events", b"p%d" % number, b"x") for number in range(100)])
    await deployment.outcomes()


async def test_a_decision_that_always_fails_stops_its_partition_alone(
    deployment: Any, tmp_path: Path
) -> None:
    trap = tmp_path / "trap"
    trap.touch()
    deployment.start(TOY_TRAP=str(trap))
    (poison,) = await deployment.send([("scan-events", b"p3", b"raise")])
    await deployment.until(lambda: "cannot be decided" in deployment.said())
    deployment.sent.clear()
    others = [("scan-events", b"p%d" % number, b"x") for number in range(100)]
    for place, command in zip(await deployment.send(others), others, strict=True):
        if place[1] == poison[1]:
            deployment.sent.remove(place)
        assert command
    await deployment.outcomes()
    # Nothing was skipped: repaired, the worker that comes next decides all of it.
    trap.unlink()
    deployment.workers[0].terminate()
    deployment.start(TOY_TRAP=str(trap))
    await deployment.until(lambda: deployment.said().count("deciding: 0, 1, 2, 3") >= 2)


async def test_a_foreign_open_transaction_is_waited_for(deployment: Any) -> None:
    deployment.start()
    await deployment.until(lambda: "deciding: 0, 1, 2, 3" in deployment.said())
    async with AIOKafkaProducer(
        bootstrap_servers=deployment.broker,
        transactional_id=f"foreign {deployment.prefix}",
        transaction_timeout_ms=30_000,
    ) as foreign:
        await foreign.begin_transaction()
        meta = await foreign.send_and_wait(deployment.wire("hire-requests"), b"first", key=b"p")
        await deployment.send([("scan-events", b"p", b"second")])
        await deployment.until(lambda: "a foreign transaction?" in deployment.said())
        assert await deployment.read() == []
        await foreign.commit_transaction()
        deployment.sent.append(("hire-requests", meta.partition, meta.offset))
        outcomes = await deployment.outcomes()
        assert [outcome["said"] for outcome in outcomes] == ["first", "second"]
        await foreign.begin_transaction()
        await foreign.send_and_wait(deployment.wire("hire-requests"), b"never", key=b"p")
        await foreign.abort_transaction()
    await deployment.send([("scan-events", b"p", b"third")])
    outcomes = await deployment.outcomes()
    assert [outcome["said"] for outcome in outcomes] == ["first", "second", "third"]


async def _decide_some(deployment: Any) -> None:
    worker = deployment.start()
    await deployment.send([("scan-events", b"p%d" % number, b"x") for number in range(50)])
    await deployment.outcomes()
    worker.terminate()
    worker.wait()


async def test_a_topic_made_anew_stops(deployment: Any) -> None:
    await _decide_some(deployment)
    admin = AIOKafkaAdminClient(bootstrap_servers=deployment.broker)
    await admin.start()
    try:
        await admin.delete_topics([deployment.wire("scan-events")])
        await asyncio.sleep(1)
        await admin.create_topics([NewTopic(deployment.wire("scan-events"), 4, 1)])
    finally:
        await admin.close()
    await deployment.send([("scan-events", b"p%d" % number, b"x") for number in range(100)])
    deployment.start()
    await deployment.until(lambda: "scan-events was deleted and made anew" in deployment.said())
    assert len(await deployment.read()) == 50


async def test_a_topic_truncated_behind_the_progress_stops(deployment: Any) -> None:
    await _decide_some(deployment)
    await deployment.send([("scan-events", b"p%d" % number, b"x") for number in range(100)])
    await _delete_all(deployment)
    deployment.start()
    await deployment.until(lambda: "records were lost" in deployment.said())
    assert len(await deployment.read()) == 50


async def test_markers_that_retention_left_behind_the_last_command_are_no_loss(
    deployment: Any,
) -> None:
    """A client with transactions, and then a site that is quiet for longer than the retention."""
    wire = deployment.wire("scan-events")
    async with (
        AIOKafkaProducer(
            bootstrap_servers=deployment.broker, transactional_id=f"client {deployment.prefix}"
        ) as client,
        client.transaction(),
    ):
        for number in range(50):
            meta = await client.send_and_wait(wire, b"x", key=b"p%d" % number)
            deployment.sent.append(("scan-events", meta.partition, meta.offset))
    worker = deployment.start()
    await deployment.outcomes()
    worker.terminate()
    worker.wait()
    await _delete_all(deployment)
    deployment.start()
    await deployment.send([("scan-events", b"p%d" % number, b"x") for number in range(50)])
    await deployment.outcomes()


async def _delete_all(deployment: Any) -> None:
    """As retention does when all segments are old."""
    admin = AIOKafkaAdminClient(bootstrap_servers=deployment.broker)
    await admin.start()
    try:
        wire = deployment.wire("scan-events")
        await admin.delete_records(
            {TopicPartition(wire, number): RecordsToDelete(before_offset=-1) for number in range(4)}
        )
    finally:
        await admin.close()


async def test_state_lost_but_outcomes_there_stops(deployment: Any) -> None:
    await _decide_some(deployment)
    admin = AIOKafkaAdminClient(bootstrap_servers=deployment.broker)
    await admin.start()
    try:
        await admin.delete_topics([deployment.wire("person-state")])
        await asyncio.sleep(1)
        await admin.create_topics([NewTopic(deployment.wire("person-state"), 4, 1)])
    finally:
        await admin.close()
    deployment.start()
    await deployment.until(
        lambda: "beginning anew would decide commands twice" in deployment.said()
    )
    assert len(await deployment.read()) == 50


async def test_one_more_topic_in_a_rolling_deploy(deployment: Any) -> None:
    """The newer worker begins the topic at its start; the older one does not guess its order."""
    older = deployment.start(TOY_WITHOUT="exit-requests")
    await deployment.send([("scan-events", b"p%d" % number, b"x") for number in range(50)])
    await deployment.outcomes()
    await deployment.send([("exit-requests", b"p%d" % number, b"x") for number in range(50)])
    newer = deployment.start()
    await deployment.until(lambda: deployment.said().count("assigned") >= 3)
    older.terminate()
    older.wait()
    await deployment.outcomes()
    deployment.start(TOY_WITHOUT="exit-requests")
    newer.terminate()
    newer.wait()
    await deployment.until(lambda: "Upgrade this worker" in deployment.said())


async def test_goes_on_when_the_broker_was_killed(tmp_path: Path, prefix: str) -> None:
    from tests.ledger.conftest import Deployment

    server = Broker(tmp_path / "own", heap_mb=320)
    try:
        deployment = Deployment(server.start(), prefix, tmp_path / "workers.log")
        await topics.apply(deployment.broker, deployment.catalog, 1)
        worker = deployment.start()
        commands = [("scan-events", b"p%d" % number, b"x") for number in range(300)]
        await deployment.send(commands)
        await deployment.until(lambda: "deciding: 0, 1, 2, 3" in deployment.said())
        server.kill()
        await asyncio.sleep(1)
        other = deployment.start()
        await deployment.until(lambda: "no broker answers" in deployment.said())
        await asyncio.to_thread(server.start)
        await deployment.send(commands)
        await deployment.outcomes(60)
        assert other.poll() is None
        other.terminate()
        assert await asyncio.to_thread(other.wait, 5) == 0
        # Asked to stop while the broker is away, it does not wait for it.
        server.kill()
        await asyncio.sleep(1)
        worker.terminate()
        assert await asyncio.to_thread(worker.wait, 5) == 0
    finally:
        server.kill()


# --- batches, without a broker -------------------------------------------------------------------


def test_headers_that_are_no_text_cost_nothing() -> None:
    """The broker takes any bytes for a header's name; a library that decodes them raises."""
    odd = "名".encode("utf-16")  # not UTF-8
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, 0, 1 << 20)
    builder.append(0, 7, b"p", b"value", [("x" * len(odd), b"")])
    data = bytes(builder.build())[61:].replace(b"x" * len(odd), odd)
    (batch,) = batches("t", 0, _packed(0, data, 1))
    (piece,) = batch.pieces(0)
    assert [(record.key, record.value) for record in piece] == [(b"p", b"value")]


def _packed(codec: int, payload: bytes, records: int) -> bytes:
    head = bytearray(DefaultRecordBatchBuilder(2, 0, 0, -1, -1, 0, 1 << 20).build())
    head += payload
    struct.pack_into(">i", head, 8, len(head) - 12)
    struct.pack_into(">h", head, 21, codec)
    struct.pack_into(">i", head, 23, records - 1)
    struct.pack_into(">i", head, 57, records)
    return bytes(head)


def _plain(values: list[bytes]) -> tuple[bytes, list[Any]]:
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, 0, 1 << 30)
    for number, value in enumerate(values):
        builder.append(number, 7, b"k%d" % number, value, [("h", b"v" * number)])
    data = bytes(builder.build())
    return data[61:], list(DefaultRecordBatch(data))


@pytest.mark.parametrize("codec", [1, 4])
def test_a_large_batch_is_read_like_a_small_one(codec: int) -> None:
    sizes = [10, 0, 70_000, 65_536, 65_537, 5 << 20] + [100_000] * 30 + [3] * 3000
    values = [bytes([number % 251]) * size for number, size in enumerate(sizes)]
    payload, wanted = _plain(values)
    packed = gzip.compress(payload) if codec == 1 else zstandard.compress(payload)
    (batch,) = batches("t", 0, _packed(codec, packed, len(values)))
    pieces = list(batch.pieces(2))
    assert max(map(len, pieces)) <= limits.PIECE_RECORDS_MAX
    found = [record for piece in pieces for record in piece]
    assert [record.offset for record in found] == list(range(2, len(values)))
    for record, plain in zip(found, wanted[2:], strict=True):
        assert record.key == plain.key
        assert record.value == plain.value[: limits.VALUE_BYTES_MAX]
        if len(plain.value) > limits.VALUE_BYTES_MAX:
            assert record.value_cut == (
                len(plain.value),
                hashlib.sha256(plain.value).hexdigest(),
            )
        else:
            assert record.value_cut is None
