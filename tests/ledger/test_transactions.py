"""What Kafka does with the transactions of a writer, where it is more than any log must do."""

from __future__ import annotations

from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError

from agents.ledger import kafka
from agents.ledger.client import Client
from agents.ledger.kafka import KafkaLog
from agents.ledger.log import Entry, Fenced, LogUnavailable
from agents.ledger.wire import EndTxn, Produce
from deployment import topics
from deployment.catalog import load_catalog
from tests.ledger.reading_back import committed
from tests.ledger.writing import A, B, both, write

INVALID_PRODUCER_EPOCH = 47
PRODUCER_FENCED = 90


@pytest.fixture
async def log(broker: str, prefix: str) -> KafkaLog:
    catalog = load_catalog(prefix, partitions=1)
    await topics.apply(broker, catalog, 1)
    return KafkaLog(broker, catalog)


async def test_each_transaction_has_an_epoch_of_its_own(started: Any) -> None:
    writer = await started()
    first = writer._epoch
    for number in range(3):
        await write(writer, both(b"%d" % number))
        assert writer._epoch == first + number + 1


async def test_what_is_late_of_a_transaction_that_is_over_is_refused(
    log: KafkaLog, started: Any
) -> None:
    writer = await started()
    sent: list[Any] = []
    ask = Client.ask

    async def noting(self: Client, node: int, request: Any) -> Any:
        sent.append((node, request))
        return await ask(self, node, request)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Client, "ask", noting)
        await write(writer, both(b"1"))
    await write(writer, {A: [Entry(b"k", b"2")]})
    late = [(node, one) for node, one in sent if isinstance(one, Produce | EndTxn)]
    assert [type(one) for _, one in late] == [Produce, EndTxn]
    (node, batches), (_, end) = late
    for _, partitions in await writer._client.ask(node, batches):
        assert [code for _, code, *_ in partitions] == [INVALID_PRODUCER_EPOCH]
    code, _, _ = await writer._client.ask(node, end)
    assert code == PRODUCER_FENCED
    await write(writer, both(b"3"))
    assert await committed(log, A) == [b"1", b"2", b"3"]
    assert await committed(log, B) == [b"1", b"3"]


async def test_after_the_last_epoch_a_producer_goes_on(
    log: KafkaLog, started: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = await started()
    monkeypatch.setattr(kafka, "EPOCH_MAX", writer._epoch + 2)
    for number in range(5):
        await write(writer, both(b"%d" % number))
    assert await committed(log, A) == await committed(log, B) == [b"%d" % n for n in range(5)]


async def test_one_that_was_fenced_gets_no_further_epoch(
    log: KafkaLog, started: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    zombie = await started()
    await write(zombie, both(b"1"))
    heir = await started()
    monkeypatch.setattr(kafka, "EPOCH_MAX", zombie._epoch)
    with pytest.raises(Fenced):
        await write(zombie, both(b"never"))
    monkeypatch.undo()
    await write(heir, both(b"2"))
    assert await committed(log, A) == [b"1", b"2"]


@pytest.mark.parametrize("executed", [True, False])
async def test_batches_are_not_sent_again_after_a_lost_connection(
    log: KafkaLog, started: Any, executed: bool
) -> None:
    writer = await started()
    await write(writer, both(b"1"))
    ask, lost = Client.ask, []

    async def lossy(self: Client, node: int, request: Any) -> Any:
        if isinstance(request, Produce):
            lost.append(request)
            if executed:
                await ask(self, node, request)
            raise KafkaConnectionError("lost")
        return await ask(self, node, request)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Client, "ask", lossy)
        with pytest.raises(LogUnavailable):
            await write(writer, both(b"never"))
    assert len(lost) == 1
    heir = await started()
    await write(heir, both(b"2"))
    assert await committed(log, A) == await committed(log, B) == [b"1", b"2"]
