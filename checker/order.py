"""The order of decisions against time: by offsets, by the brokers' clocks, by the clients'.

All of it is linear: going through the decisions from the last to the first, it is enough to know
the earliest time of those after. A decision that was sent later than that is out of order.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Generic, NamedTuple, TypeVar

from checker.answers import Answer
from checker.history import Ack

T = TypeVar("T")


class Inversion(NamedTuple, Generic[T]):
    """`second` was decided after `first`, but must have been before it, by `gap_ms`."""

    first: T
    second: T
    gap_ms: float


class Timed(NamedTuple, Generic[T]):
    """A decision, when its command began to be, and when it was surely there."""

    decision: T
    begun: float
    done: float


def inversions(decided: Sequence[Timed[T]], slack_ms: float) -> Iterator[Inversion[T]]:
    """Of one person's decisions, in their order: those before another whose command was there more
    than `slack_ms` before theirs began to be. Each that stands too early is told once."""
    earliest: Timed[T] | None = None
    for one in reversed(decided):
        if earliest is not None and earliest.done + slack_ms < one.begun:
            yield Inversion(one.decision, earliest.decision, one.begun - earliest.done)
        if earliest is None or one.done < earliest.done:
            earliest = one


def merge_inversions(
    decided: Sequence[Answer],
    times: Mapping[tuple[str, int], tuple[int, int]],
    ranks: Mapping[str, int],
) -> Iterator[Inversion[Answer]]:
    """Of one person's decisions in one turn: those that a merge by (broker time, rank) cannot have
    taken before a later one.

    `times`: by topic and offset, the broker's time, and the latest one up to there in that
    partition, since a record after a step back of the clock comes no earlier than those before it.
    """
    least: tuple[int, int] | None = None
    least_answer: Answer | None = None
    for answer in reversed(decided):
        time, latest = times[answer.topic, answer.offset]
        rank = ranks[answer.topic]
        if least is not None and least_answer is not None and least < (time, rank):
            yield Inversion(answer, least_answer, time - least[0])
        if least is None or (latest, rank) < least:
            least, least_answer = (latest, rank), answer


class Clocks:
    """How the clients' clocks stand to the brokers'.

    A record got its broker time between being sent and being acknowledged. So what the brokers'
    clock is ahead of a client's lies between the greatest (broker time - acknowledged) and the
    least (broker time - sent) of its records.
    """

    def __init__(self, clients: Collection[str]) -> None:
        """`clients`: all whose times are compared. Of a single one they are taken as they are."""
        self.single = len(clients) <= 1
        self.bounds: dict[str, tuple[float, float]] = {}

    def observe(self, ack: Ack, timestamp: int) -> None:
        low, high = self.bounds.get(ack.client, (float("-inf"), float("inf")))
        # The broker cuts its time off to whole milliseconds.
        self.bounds[ack.client] = (
            max(low, timestamp - ack.acked_ms),
            min(high, timestamp + 1 - ack.sent_ms),
        )

    def knows(self, client: str) -> bool:
        """Whether the client's times can be compared with others."""
        return self.single or client in self.bounds

    def at_latest(self, client: str, time_ms: float) -> float:
        """A client's time, as late as it can have been by the brokers' clock."""
        return time_ms if self.single else time_ms + max(self.bounds[client])

    def at_earliest(self, client: str, time_ms: float) -> float:
        """A client's time, as early as it can have been by the brokers' clock."""
        return time_ms if self.single else time_ms + min(self.bounds[client])

    def words(self) -> Iterator[str]:
        for client, (low, high) in sorted(self.bounds.items()):
            who = f"client {client}" if client else "the clients' clock"
            if low > high:
                yield (
                    f"{who}: stepped or drifted by {low - high:.1f} ms against the brokers', "
                    f"which were ahead by {high:.1f} to {low:.1f} ms"
                )
            else:
                yield f"{who}: the brokers' is ahead by {low:.1f} to {high:.1f} ms"


class Floors:
    """For a time, the offset that every view asked for later must have reached."""

    def __init__(self, known: Iterable[tuple[float, int]]) -> None:
        """`known`: (when a record was known to be there, its offset)."""
        self._times: list[float] = []
        self._offsets: list[int] = []
        highest = 0
        for time, offset in sorted(known):
            highest = max(highest, offset + 1)
            self._times.append(time)
            self._offsets.append(highest)

    def at(self, time: float) -> int:
        """The least offset of a view of something sent at `time`."""
        at = bisect_left(self._times, time)
        return self._offsets[at - 1] if at else 0
