"""Kafka's record batches (format 2), decoded without trusting their size.

An uncompressed batch is as large as it is sent. A compressed one may unpack to thousands of times
its size: it is unpacked as a stream, whole only where it stays small, else record by record, and
of a key or value past its limit only the beginning is kept, with length and SHA-256.
"""

from __future__ import annotations

import hashlib
import io
import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import Final, Protocol

import cramjam
import lz4.frame
import zstandard
from aiokafka.record.default_records import DefaultRecordBatch
from google_crc32c import value as crc32c
from msgspec.structs import replace

from agents.ledger.log import Unreadable
from agents.ledger.record import Cut, Record
from schemas import limits

_HEADER: Final = struct.Struct(">qiibIhiqqqhii")
_ATTRIBUTES_AT: Final = 21
_LENGTH_AT: Final = 8
BEFORE_LENGTH: Final = 12
_CODEC: Final = 0x07
_APPEND_TIME: Final = 0x08
TRANSACTIONAL: Final = 0x10
_CONTROL: Final = 0x20


class KafkaBatch:
    """One record batch, still encoded."""

    __slots__ = (
        "_attributes",
        "_crc",
        "_data",
        "_partition",
        "_topic",
        "base_offset",
        "next_offset",
        "pid",
    )

    def __init__(self, topic: str, partition: int, data: bytes) -> None:
        self._topic = topic
        self._partition = partition
        self._data = data
        header = _HEADER.unpack_from(data)
        if header[3] != 2:
            raise Unreadable(f"record batch format {header[3]} is not read, only 2")
        self.base_offset: int = header[0]
        self._crc: int = header[4]
        self._attributes: int = header[5]
        self.next_offset: int = header[0] + header[6] + 1
        self.pid: int = header[9]

    @property
    def size(self) -> int:
        return len(self._data)

    @property
    def transactional(self) -> bool:
        return bool(self._attributes & TRANSACTIONAL)

    @property
    def control(self) -> bool:
        """A transaction's marker, no records."""
        return bool(self._attributes & _CONTROL)

    @property
    def aborts(self) -> bool:
        """Of a control batch: whether it ends its transaction by aborting it."""
        for record in DefaultRecordBatch(self._data):
            return bool(record.key is not None and record.key[2:4] == b"\0\0")
        return False

    def check(self) -> None:
        """Raises Unreadable where the checksum does not fit."""
        if crc32c(self._data[_ATTRIBUTES_AT:]) != self._crc:
            raise Unreadable(f"wrong checksum in the batch at offset {self.base_offset}")

    def pieces(self, first: int) -> Iterator[list[Record]]:
        try:
            yield from self._pieces(first)
        except (zlib.error, zstandard.ZstdError, cramjam.DecompressionError, RuntimeError) as error:
            raise Unreadable(
                f"{self._topic}: the batch at {self.base_offset} cannot be unpacked: {error}"
            ) from error

    def _pieces(self, first: int) -> Iterator[list[Record]]:
        codec = self._attributes & _CODEC
        if codec:
            stream = _unpacking(codec, memoryview(self._data)[_HEADER.size :])
            payload = stream.read(limits.UNPACKED_BYTES_MAX + 1)
            if len(payload) > limits.UNPACKED_BYTES_MAX:
                yield from self._streamed(_Parser(payload, stream), first)
                return
            head = bytearray(self._data[: _HEADER.size])
            struct.pack_into(">h", head, _ATTRIBUTES_AT, self._attributes & ~_CODEC)
            struct.pack_into(">i", head, _LENGTH_AT, _HEADER.size - BEFORE_LENGTH + len(payload))
            data = bytes(head) + payload
        else:
            data = self._data
        try:
            records = self._records(data, first)
        except ValueError:
            # The library also decodes the headers, in which a sender may write what it likes.
            yield from self._streamed(_Parser(data[_HEADER.size :], io.BytesIO()), first)
        else:
            yield records

    def _records(self, data: bytes, first: int) -> list[Record]:
        topic, partition = self._topic, self._partition
        records = [
            Record(topic, partition, one.offset, one.timestamp, one.key, one.value)
            for one in DefaultRecordBatch(data)
        ]
        if records and records[0].offset < first:
            records = [record for record in records if record.offset >= first]
        if len(data) > limits.KEY_BYTES_MAX:
            records = [
                record
                if record.key is None or len(record.key) <= limits.KEY_BYTES_MAX
                else _with_cut_key(record, record.key)
                for record in records
            ]
        return records

    def _streamed(self, parser: _Parser, first: int) -> Iterator[list[Record]]:
        header = _HEADER.unpack_from(self._data)
        base, append_time = header[0], bool(self._attributes & _APPEND_TIME)
        first_timestamp, max_timestamp = header[7], header[8]
        piece: list[Record] = []
        held = 0
        for _ in range(header[12]):
            parser.varint()  # the record's length
            parser.take(1)  # its attributes
            timestamp = max_timestamp if append_time else first_timestamp + parser.varint()
            if append_time:
                parser.varint()
            offset = base + parser.varint()
            key, key_cut = parser.blob(limits.KEY_BYTES_MAX)
            value, value_cut = parser.blob(limits.VALUE_BYTES_MAX)
            for _ in range(parser.varint()):
                parser.skip(parser.varint())
                parser.skip(max(0, parser.varint()))
            if offset < first:
                continue
            piece.append(
                Record(
                    self._topic, self._partition, offset, timestamp, key, value, key_cut, value_cut
                )
            )
            held += len(key or b"") + len(value or b"")
            if len(piece) >= limits.PIECE_RECORDS_MAX or held >= limits.UNPACKED_BYTES_MAX:
                yield piece
                piece, held = [], 0
        if piece:
            yield piece


def _with_cut_key(record: Record, key: bytes) -> Record:
    cut = Cut(len(key), hashlib.sha256(key).hexdigest())
    return replace(record, key=key[: limits.KEY_BYTES_MAX], key_cut=cut)


def batches(topic: str, partition: int, data: bytes | memoryview) -> Iterator[KafkaBatch]:
    """The whole batches in a fetch's answer; an incomplete last one is left out. Each has its own
    copy of its bytes: it may be kept for longer than the others."""
    position, end = 0, len(data)
    while position + _HEADER.size <= end:
        (length,) = struct.unpack_from(">i", data, position + _LENGTH_AT)
        after = position + BEFORE_LENGTH + length
        if after > end:
            return
        yield KafkaBatch(topic, partition, bytes(data[position:after]))
        position = after


def committed(
    found: Iterator[KafkaBatch], aborted: Sequence[tuple[int, int]]
) -> Iterator[tuple[KafkaBatch, bool]]:
    """Each batch, and whether it holds records that a committed reader may see.

    `aborted` is what the fetch's answer says: (producer id, first offset) of aborted transactions.
    """
    ahead = sorted(aborted or (), key=lambda one: one[1], reverse=True)
    open_: set[int] = set()
    for batch in found:
        while ahead and ahead[-1][1] <= batch.base_offset:
            open_.add(ahead.pop()[0])
        if batch.control:
            if batch.aborts:
                open_.discard(batch.pid)
            yield batch, False
        else:
            yield batch, not (batch.transactional and batch.pid in open_)


# --- unpacking as a stream -----------------------------------------------------------------------


class _Stream(Protocol):
    def read(self, size: int, /) -> bytes:
        """The next at most `size` bytes; fewer only at the end."""


class _Parser:
    """Reads Kafka's primitive types from what is unpacked, a window at a time."""

    def __init__(self, start: bytes, stream: _Stream) -> None:
        self._window = start
        self._at = 0
        self._stream = stream

    def take(self, size: int) -> bytes:
        """The next `size` bytes; `size` must be small."""
        while len(self._window) - self._at < size:
            more = self._stream.read(256 << 10)
            if not more:
                raise Unreadable("a compressed batch ends too early")
            self._window = self._window[self._at :] + more
            self._at = 0
        taken = self._window[self._at : self._at + size]
        self._at += size
        return taken

    def varint(self) -> int:
        shift = value = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return (value >> 1) ^ -(value & 1)
            shift += 7
            if shift > 63:
                raise Unreadable("a number in a compressed batch is too long")

    def skip(self, size: int) -> None:
        while size > 0:
            size -= len(self.take(min(size, 64 << 10)))

    def blob(self, kept_max: int) -> tuple[bytes | None, Cut | None]:
        """A key or value: whole, or its beginning and what was cut."""
        length = size = self.varint()
        if size < 0:
            return None, None
        if size <= kept_max:
            return self.take(size), None
        kept = self.take(kept_max)
        digest = hashlib.sha256(kept)
        size -= kept_max
        while size > 0:
            part = self.take(min(size, 64 << 10))
            digest.update(part)
            size -= len(part)
        return kept, Cut(length, digest.hexdigest())


class _Gzip:
    def __init__(self, packed: memoryview) -> None:
        self._rest: bytes = bytes(packed)
        self._member = zlib.decompressobj(31)

    def read(self, size: int, /) -> bytes:
        out = bytearray()
        while len(out) < size:
            if self._member.eof:
                self._rest = self._member.unused_data
                if not self._rest:
                    break
                self._member = zlib.decompressobj(31)
            got = self._member.decompress(self._rest, size - len(out))
            self._rest = self._member.unconsumed_tail
            out += got
            if not got and not self._rest and not self._member.eof:
                break
        return bytes(out)


class _Lz4:
    def __init__(self, packed: memoryview) -> None:
        self._rest: bytes = bytes(packed)
        self._frame = lz4.frame.LZ4FrameDecompressor()

    def read(self, size: int, /) -> bytes:
        out = bytearray()
        while len(out) < size and not self._frame.eof:
            got = self._frame.decompress(self._rest, max_length=size - len(out))
            self._rest = b""
            out += got
            if not got and self._frame.needs_input:
                break
        return bytes(out)


class _Snappy:
    """Xerial's framing, as Java writes it, or one bare block. A block says what it unpacks to."""

    _MAGIC: Final = b"\x82SNAPPY\x00"

    def __init__(self, packed: memoryview) -> None:
        self._data = bytes(packed)
        self._framed = self._data.startswith(self._MAGIC)
        self._at = 16 if self._framed else 0
        self._ready = io.BytesIO()

    def read(self, size: int, /) -> bytes:
        out = bytearray(self._ready.read(size))
        while len(out) < size and self._at < len(self._data):
            if self._framed:
                (length,) = struct.unpack_from(">i", self._data, self._at)
                begin, self._at = self._at + 4, self._at + 4 + length
            else:
                begin, self._at = 0, len(self._data)
            block = self._data[begin : self._at]
            self._ready = io.BytesIO(bytes(cramjam.snappy.decompress_raw(block)))
            out += self._ready.read(size - len(out))
        return bytes(out)


class _Zstd:
    def __init__(self, packed: memoryview) -> None:
        unpacker = zstandard.ZstdDecompressor(max_window_size=limits.ZSTD_WINDOW_BYTES_MAX)
        self._reader = unpacker.stream_reader(bytes(packed), read_across_frames=True)

    def read(self, size: int, /) -> bytes:
        out = bytearray()
        while len(out) < size:
            got = self._reader.read(size - len(out))
            if not got:
                break
            out += got
        return bytes(out)


def _unpacking(codec: int, packed: memoryview) -> _Stream:
    streams: dict[int, type[_Gzip | _Snappy | _Lz4 | _Zstd]] = {
        1: _Gzip,
        2: _Snappy,
        3: _Lz4,
        4: _Zstd,
    }
    if codec not in streams:
        raise Unreadable(f"compression {codec} is not known")
    return streams[codec](packed)
