"""The order of a turn: a k-way merge of a partition's command topics by broker time.

Offsets of one topic keep their order whatever their timestamps say; between topics the earlier
timestamp goes first, and ties go by the topics' rank.

A barrier is two offsets a topic. `cut`: what had been fetched when the high watermarks were asked
for. `limit`: the high watermark that was answered. A record below the cut was sent before the
question, so all that was acknowledged before it was sent lies below the limits: once the merge
knows every topic up to its limit, nothing can come that belongs before it. For a record between
cut and limit that is so only while a record of some cut comes after it; beyond, it waits for the
next barrier. (The high watermarks are not one snapshot of the log: they are read one by one.)
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from heapq import heapify, heappop, heapreplace
from sys import maxsize

from agents.ledger.feed import Feed
from agents.ledger.record import Record


class Merged(enum.Enum):
    """Why a merge stopped."""

    DONE = enum.auto()
    """Everything the barrier allows has been taken."""
    FULL = enum.auto()
    """As much as was asked for; more may be taken under the same barrier."""
    BLOCKED = enum.auto()
    """A topic has nothing buffered but lies below its limit: wait for it."""


def merge(
    feeds: Sequence[Feed],
    cuts: Sequence[int],
    limits: Sequence[int],
    out: list[Record],
    records_max: int,
    bytes_max: int,
) -> Merged:
    """Take records off `feeds` (in rank order) and append them to `out`, in order.

    Every feed has been fetched up to its cut at least, and no cut lies above its limit.
    At most `records_max` records in `out`, and no further one once `bytes_max` bytes of values were
    taken. Answers why it stopped.
    """
    heap: list[tuple[int, int]] = []
    open_cuts = 0
    for rank, feed in enumerate(feeds):
        head = feed.head()
        if head is None:
            if feed.reached < limits[rank]:
                return Merged.BLOCKED
        elif head.offset < limits[rank]:
            heap.append((head.timestamp, rank))
            open_cuts += head.offset < cuts[rank]
    heapify(heap)
    room = records_max - len(out)
    taken = 0
    append = out.append
    while open_cuts:
        _, rank = heap[0]
        feed = feeds[rank]
        cut, limit = cuts[rank], limits[rank]
        # The run of this topic goes on until another topic's head comes first.
        until_ms = maxsize
        if len(heap) > 1:
            rival = min(heap[1], heap[2]) if len(heap) > 2 else heap[1]
            until_ms = rival[0] if rank < rival[1] else rival[0] - 1
        while True:
            records, index = feed.records, feed.index
            record = records[index]
            if room <= 0 or taken >= bytes_max:
                return Merged.FULL
            append(record)
            room -= 1
            if record.value is not None:
                taken += len(record.value)
            in_cut = record.offset < cut
            feed.index = index + 1
            if index + 1 < len(records):
                head = records[index + 1]
            else:
                head = feed.head()
            if head is None or head.offset >= limit:
                open_cuts -= in_cut
                if head is None and feed.reached < limit:
                    return Merged.BLOCKED if open_cuts else Merged.DONE
                heappop(heap)
                break
            if in_cut and head.offset >= cut:
                open_cuts -= 1
                if not open_cuts:
                    break
            if head.timestamp > until_ms:
                heapreplace(heap, (head.timestamp, rank))
                break
    return Merged.DONE
