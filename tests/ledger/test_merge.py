"""The merge: its order, what it waits for, and that neither chunks nor caps change it."""

from __future__ import annotations

import heapq
from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from agents.ledger.feed import Feed
from agents.ledger.merge import Merged, merge
from agents.ledger.record import Record


class _Batch:
    size = 1

    def __init__(self, records: list[Record]) -> None:
        self._records = records
        self.next_offset = records[-1].offset + 1

    def pieces(self, first: int) -> Iterator[list[Record]]:
        yield [record for record in self._records if record.offset >= first]


def _head_by_head(topics: list[list[Record]]) -> list[Record]:
    """The definition: the earliest head, ties by rank, until nothing is left."""
    heads = [(topic[0].timestamp, rank, 0) for rank, topic in enumerate(topics) if topic]
    heapq.heapify(heads)
    out = []
    while heads:
        _, rank, index = heapq.heappop(heads)
        out.append(topics[rank][index])
        if index + 1 < len(topics[rank]):
            heapq.heappush(heads, (topics[rank][index + 1].timestamp, rank, index + 1))
    return out


@st.composite
def _situations(draw: st.DrawFn) -> tuple[list[list[Record]], list[int], list[int]]:
    """Topics (with gaps in the offsets, and clocks that may step back), cuts and limits."""
    topics, cuts, limits = [], [], []
    for rank in range(draw(st.integers(1, 4))):
        steps = draw(st.lists(st.tuples(st.integers(1, 3), st.integers(-1, 4)), max_size=12))
        offset, time, records = -1, 100, []
        for gap, later in steps:
            offset, time = offset + gap, time + later
            records.append(Record(str(rank), 0, offset, time, b"k", b"v" * 10))
        limit = draw(st.integers(0, offset + 1))
        topics.append(records)
        limits.append(limit)
        cuts.append(draw(st.integers(0, limit)))
    return topics, cuts, limits


@given(_situations(), st.data())
def test_order_cut_and_limit(
    situation: tuple[list[list[Record]], list[int], list[int]], data: st.DataObject
) -> None:
    topics, cuts, limits = situation
    below = [
        [record for record in topic if record.offset < limit]
        for topic, limit in zip(topics, limits, strict=True)
    ]
    wanted = _head_by_head(below)
    last = max(
        (at for at, one in enumerate(wanted) if one.offset < cuts[int(one.topic)]), default=-1
    )
    feeds = [Feed(str(rank), 0, 0, lambda: None) for rank in range(len(topics))]
    waiting = [list(topic) for topic in topics]
    for feed, cut, records in zip(feeds, cuts, waiting, strict=True):
        while records and records[0].offset < cut:
            feed.append(_Batch([records.pop(0)]))
        feed.skip_to(max(cut, feed.reached))
    out: list[Record] = []
    while True:
        cap = data.draw(st.integers(1, 4))
        piece: list[Record] = []
        merged = merge(feeds, cuts, limits, piece, cap, data.draw(st.integers(1, 40)))
        assert len(piece) <= cap
        out += piece
        if merged is Merged.DONE:
            break
        if merged is Merged.BLOCKED:
            arrives = [
                rank
                for rank, feed in enumerate(feeds)
                if waiting[rank] or feed.reached < limits[rank]
            ]
            rank = data.draw(st.sampled_from(arrives))
            if waiting[rank]:
                count = data.draw(st.integers(1, len(waiting[rank])))
                feeds[rank].append(_Batch(waiting[rank][:count]))
                del waiting[rank][:count]
            else:
                feeds[rank].skip_to(limits[rank])
    assert out == wanted[: last + 1]
