"""What is written: record batches, byte for byte those of the client library's builder."""

from collections.abc import Sequence

import pytest
from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from hypothesis import given
from hypothesis import strategies as st

from agents.ledger.batches import KafkaBatch
from agents.ledger.encoding import Batch, Records
from agents.ledger.log import Entry, Unreadable
from schemas import limits

NOW_MS, PRODUCER, EPOCH = 1_795_000_000_123, 4_711, 3
CRC_AT = 17

BLOBS = st.none() | st.binary(max_size=70) | st.integers(8_180, 8_200).map(bytes)
"""Also those at which a length takes a byte more."""
HEADERS = st.lists(st.tuples(st.text(max_size=70), st.binary(max_size=70)), max_size=2).map(tuple)


def batches(entries: Sequence[Entry], at_once: int = 1_000_000) -> list[Batch]:
    """Of entries that are added so many at once."""
    records = Records()
    for at in range(0, len(entries), at_once):
        records.add(entries[at : at + at_once])
    return list(records.batches(NOW_MS, PRODUCER, EPOCH))


def by_the_library(entries: list[Entry]) -> bytes:
    builder = DefaultRecordBatchBuilder(
        magic=2, compression_type=0, is_transactional=1, producer_id=PRODUCER,
        producer_epoch=EPOCH, base_sequence=0, batch_size=limits.WRITE_BATCH_BYTES_MAX,
    )  # fmt: skip
    for number, entry in enumerate(entries):
        assert builder.append(number, NOW_MS, entry.key, entry.value, list(entry.headers))
    return bytes(builder.build())


@given(
    st.lists(st.builds(Entry, BLOBS, BLOBS, HEADERS), min_size=1, max_size=30), st.integers(1, 30)
)
def test_a_batch_is_that_of_the_library(entries: list[Entry], at_once: int) -> None:
    (batch,) = batches(entries, at_once)
    assert b"".join(batch) == by_the_library(entries)


def test_a_batch_of_more_records_than_fit_two_bytes_of_offset() -> None:
    entries = [Entry(b"k", None)] * 8_200
    (batch,) = batches(entries)
    assert b"".join(batch) == by_the_library(entries)


def test_nothing_is_no_batch() -> None:
    assert batches([]) == []


@pytest.mark.parametrize("at_once", [1, 100, 1_000_000])
@pytest.mark.parametrize("size", [0, 100, 20_000, limits.WRITE_BATCH_BYTES_MAX * 2])
def test_much_is_several_batches_numbered_on(size: int, at_once: int) -> None:
    number = max(3, 3 * limits.WRITE_BATCH_BYTES_MAX // (size + 20))
    entries = [Entry(b"%d" % at, bytes(size), (("at", b"%d" % at),)) for at in range(number)]
    made = batches(entries, at_once)
    assert len(made) > 2
    found = []
    sequence = 0
    for batch in made:
        data = b"".join(batch)
        KafkaBatch("topic", 0, data).check()
        read = DefaultRecordBatch(data)
        records = list(read)
        assert len(data) <= limits.WRITE_BATCH_BYTES_MAX or len(records) == 1
        assert (read.producer_id, read.producer_epoch) == (PRODUCER, EPOCH)
        assert read.base_sequence == sequence
        assert [record.offset for record in records] == list(range(len(records)))
        sequence += len(records)
        found += [Entry(one.key, one.value, tuple(one.headers)) for one in records]
    assert found == entries


@given(st.data())
def test_a_changed_bit_is_seen(data: st.DataObject) -> None:
    (batch,) = batches([Entry(b"key", b"value")])
    damaged = bytearray(b"".join(batch))
    bit = data.draw(st.integers(CRC_AT * 8, len(damaged) * 8 - 1))
    damaged[bit // 8] ^= 1 << bit % 8
    with pytest.raises(Unreadable, match="checksum"):
        KafkaBatch("topic", 0, bytes(damaged)).check()
