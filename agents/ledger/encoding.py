"""Kafka's record batches (format 2), as a ledger's producer writes them: not compressed, in a
transaction, all records of one time.

Written by hand, in some 0.6 of the time that the client library's builder takes, which computes the
checksum without the processor's instruction for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import reduce
from struct import Struct
from typing import Final

from google_crc32c import extend
from google_crc32c import value as crc32c

from agents.ledger.batches import BEFORE_LENGTH, TRANSACTIONAL
from agents.ledger.log import Entry
from agents.ledger.record import Headers
from schemas import limits

_HEAD: Final = Struct(">qiibI")
"""Base offset, length of what follows it, leader epoch, format, checksum of what follows that."""
_FORMAT: Final = 2
_NO_LEADER_EPOCH: Final = -1

_FIELDS: Final = Struct(">hiqqqhii")
"""Attributes, last offset delta, first and last time (ms), producer and its epoch, first sequence,
number of records, which follow."""

_NO_DELTA: Final = b"\0\0"
"""What a record begins with: no attributes, the time of the batch."""
_FRAME_BYTES_MAX: Final = 5 + len(_NO_DELTA) + 5
"""Of a record: what is not its contents, with the longest length and offset (int32)."""

_EMPTY_BYTES: Final = _HEAD.size + _FIELDS.size

Batch = Sequence[bytes]
"""A record batch, in parts that follow each other: of a large one they are never put together here,
which would go through all of its memory once more."""


def varint(number: int) -> bytes:
    """A number that is not negative: seven bits a byte, the lowest first."""
    made = bytearray()
    while number > 0x7F:
        made.append(number & 0x7F | 0x80)
        number >>= 7
    made.append(number)
    return bytes(made)


def _zigzag(number: int) -> bytes:
    """A signed number."""
    return varint(number << 1 ^ number >> 63)


_MADE: Final = [_zigzag(number) for number in range(1 << 13)]
"""Made before: all up to two bytes long, as most lengths and offsets are. Whoever uses it looks
first whether it is long enough: there are four a record, too many for a call each."""
_NULL: Final = _zigzag(-1)
"""The length of a key or value that is not there."""


class Records:
    """Entries of one place on their way into record batches.

    A batch has at most `limits.WRITE_BATCH_BYTES_MAX` bytes, or one record that is larger.
    """

    __slots__ = ("_count", "_full", "_pieces", "_size")

    def __init__(self) -> None:
        self._full: list[tuple[int, list[bytes]]] = []
        """Of each batch that has no more room: how many records, and their bytes in pieces."""
        self._pieces: list[bytes] = []
        """Of the batch that is begun."""
        self._count = 0
        self._size = _EMPTY_BYTES

    def add(self, entries: Iterable[Entry]) -> None:
        """Encode further ones."""
        made, made_max = _MADE, len(_MADE)
        shared: Headers | None = None
        headers = b""
        records: list[bytes] = []
        size, count = self._size, self._count
        for entry in entries:
            key, value = entry.key, entry.value
            if entry.headers is not shared:  # all outcomes of a turn have the same
                shared, headers = entry.headers, _headers(entry.headers)
            if key is None:
                key, key_length = b"", _NULL
            else:
                number = len(key)
                key_length = made[number] if number < made_max else _zigzag(number)
            if value is None:
                value, value_length = b"", _NULL
            else:
                number = len(value)
                value_length = made[number] if number < made_max else _zigzag(number)
            contents = len(key_length) + len(key) + len(value_length) + len(value) + len(headers)
            needed = _FRAME_BYTES_MAX + contents
            if count and size + needed > limits.WRITE_BATCH_BYTES_MAX:
                self._pieces.append(b"".join(records))
                self._full.append((count, self._pieces))
                self._pieces, records = [], []
                size, count = _EMPTY_BYTES, 0
            offset = made[count] if count < made_max else _zigzag(count)
            number = len(_NO_DELTA) + len(offset) + contents
            length = made[number] if number < made_max else _zigzag(number)
            records += (length, _NO_DELTA, offset, key_length, key, value_length, value, headers)
            size += needed
            count += 1
        self._pieces.append(b"".join(records))
        self._size, self._count = size, count

    def batches(self, time_ms: int, producer: int, epoch: int) -> Iterator[Batch]:
        """All that were added, as batches whose records are numbered from 0 on."""
        begun = [(self._count, self._pieces)] if self._count else []
        sequence = 0
        for count, pieces in self._full + begun:
            yield _batch(pieces, count, time_ms, producer, epoch, sequence)
            sequence += count


def _batch(
    pieces: list[bytes], count: int, time_ms: int, producer: int, epoch: int, sequence: int
) -> Batch:
    fields = _FIELDS.pack(
        TRANSACTIONAL, count - 1, time_ms, time_ms, producer, epoch, sequence, count
    )
    length = _EMPTY_BYTES - BEFORE_LENGTH + sum(map(len, pieces))
    checksum = reduce(extend, pieces, crc32c(fields))
    return (_HEAD.pack(0, length, _NO_LEADER_EPOCH, _FORMAT, checksum), fields, *pieces)


def _headers(headers: Headers) -> bytes:
    made = [_zigzag(len(headers))]
    for name, value in headers:
        raw = name.encode()
        made += (_zigzag(len(raw)), raw, _zigzag(len(value)), value)
    return b"".join(made)
