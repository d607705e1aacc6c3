"""A feed: what has been fetched of one partition and not yet been taken.

Fetched batches stay as they came until they are needed; one batch at a time is decoded, and a
batch that unpacks to more than it should is decoded piece by piece. So a feed holds about as much
as was sent, whatever it unpacks to.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Protocol

from agents.ledger.record import Record


class Batch(Protocol):
    """Consecutive records, not decoded yet."""

    @property
    def next_offset(self) -> int: ...
    @property
    def size(self) -> int:
        """Bytes as it is held."""

    def pieces(self, first: int) -> Iterator[list[Record]]:
        """The records from offset `first` on, in pieces of bounded size."""


class Feed:
    """Fetched and not yet taken records of one partition, in offset order."""

    __slots__ = (
        "_batches",
        "_pieces",
        "buffered",
        "error",
        "high_watermark",
        "index",
        "partition",
        "reached",
        "records",
        "stable",
        "topic",
        "wake",
    )

    def __init__(self, topic: str, partition: int, offset: int, wake: Callable[[], None]) -> None:
        self.topic = topic
        self.partition = partition
        self.reached = offset
        """Everything below is in the feed or was taken; the next fetch begins here."""
        self.stable = -1
        """The last stable offset as last fetched; -1: not known yet."""
        self.high_watermark = -1
        self.error: BaseException | None = None
        """Why this feed cannot go on; raised where its records are asked for."""
        self.buffered = 0
        """Bytes of the batches not decoded yet."""
        self.records: list[Record] = []
        """The decoded ones; those from `index` on are not taken yet."""
        self.index = 0
        self.wake = wake
        self._batches: deque[tuple[Batch, int]] = deque()
        self._pieces: Iterator[list[Record]] | None = None

    def append(self, batch: Batch) -> None:
        """A batch that was fetched. Offsets below `reached` in it are skipped."""
        self._batches.append((batch, self.reached))
        self.buffered += batch.size
        self.reached = batch.next_offset

    def skip_to(self, offset: int) -> None:
        """Nothing to take below `offset`: markers, aborted or compacted records."""
        self.reached = offset

    def head(self) -> Record | None:
        """The next record, or None where nothing is buffered. Raises what stops the feed."""
        while self.index >= len(self.records):
            if self._pieces is not None:
                piece = next(self._pieces, None)
                if piece is None:
                    self._pieces = None
                else:
                    self.records = piece
                    self.index = 0
                continue
            if not self._batches:
                if self.records:
                    self.records = []
                    self.index = 0
                if self.error is not None:
                    raise self.error
                return None
            batch, first = self._batches.popleft()
            self.buffered -= batch.size
            self._pieces = batch.pieces(first)
        return self.records[self.index]

    @property
    def taken_to(self) -> int:
        """Of all below nothing is left to take; when `head` has looked for what is."""
        if self.index < len(self.records):
            return self.records[self.index].offset
        return self._batches[0][1] if self._batches else self.reached

    def take_all(self) -> Iterator[list[Record]]:
        """Everything buffered, piece by piece."""
        while self.head() is not None:
            records = self.records[self.index :] if self.index else self.records
            self.index = len(self.records)
            yield records
