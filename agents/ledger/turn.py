"""A turn: what the ledger asks the deciding agent, and what it gets back.

The ledger hands one `Turn` of a partition at a time to the deciding agent and waits for its
`Verdict`. Nothing of a verdict is visible before the ledger has committed all of it together
with the progress of the turn; a verdict that never comes (the agent raised) costs the partition a
rebuild from its committed state, after which the same records come again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from agents.ledger.log import Draft, Entry
from agents.ledger.record import Cut, Headers, Record
from agents.references import References

__all__ = ["Cut", "Decide", "Entry", "Headers", "Record", "Turn", "Verdict", "answer"]


@dataclass(slots=True)
class Verdict:
    """All that a turn changes. Written in one transaction."""

    outputs: Draft
    """One that the turn's `draft` made, with all outputs in it, in the partition of the turn's
    commands. The ledger adds the rest and commits it."""
    states: Mapping[bytes, bytes]
    """Record key -> the new state, encoded."""
    staff: Mapping[bytes, bytes | None] = field(default_factory=dict)
    """Records of the reference topic `staff`; None removes one."""
    answers: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """(status or "dead_letter", code) -> how many, counted as metrics when committed."""


@dataclass(slots=True)
class Turn:
    """Records of one partition to decide, in order, on the state left by the turn before."""

    number: int
    """Counts the turns of this partition since its first; the committed ones have no gap."""
    partition: int
    records: Sequence[Record]
    """Merged by (broker timestamp, topic rank, offset); offsets ascend per topic."""
    states: Mapping[bytes, bytes]
    """Committed states of this partition by record key, encoded. Read only."""
    references: References
    """Employers, sites and staff, at least as of this turn's barrier. Live: read it only while it
    is `held`, as `answer` does. The turn's own staff writes are not in it."""
    rules_version: str
    draft: Callable[[], Draft]
    """A new one, to be given outputs as they are made."""
    answer: asyncio.Future[Verdict]
    """To be set once, by the agent; not if it is done already (the ledger gave up waiting)."""
    used: Mapping[str, int] = field(default_factory=dict)
    """Reference topic -> offset of the view that the decision used; `witness` notes it."""

    @property
    def witness(self) -> bytes:
        """Which turn and which offsets of the reference topics the decision used (for a replay).

        ASCII, such as ``t=123;employers=12;sites=4;staff=33;rules=1``; belongs into a header of
        each outcome. Read it within the same decision as `references`.
        """
        self.used = dict(self.references.offsets)
        offsets = "".join(f"{topic}={next_};" for topic, next_ in self.used.items())
        return f"t={self.number};{offsets}rules={self.rules_version}".encode()


Decide = Callable[[Turn], Iterator[Verdict | None]]
"""Decides a turn: None after each step, which should be short, and the verdict at the end. Changes
nothing it is given; the same verdict for the same turn."""


async def answer(turn: Turn, decide: Decide, rest_s: float = 0) -> None:
    """Answer a turn with the verdict, or with what the decision raised: the ledger then rebuilds.

    Between the steps the loop goes round, in a simulation for `rest_s` seconds, so that a large
    turn does not hold up what others are to read and to write. References stand still meanwhile.
    """
    async with turn.references.held:
        if turn.answer.done():
            return
        try:
            for verdict in decide(turn):
                if verdict is not None:
                    turn.answer.set_result(verdict)
                    return
                await asyncio.sleep(rest_s)
                if turn.answer.done():
                    return
        except Exception as error:  # noqa: BLE001 - told to the ledger, which logs and rebuilds
            turn.answer.set_exception(error)
