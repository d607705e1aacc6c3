"""A turn: what the ledger asks the deciding agent, and what it gets back.

The ledger hands one `Turn` of a partition at a time to the deciding agent and waits for its
`Verdict`. Nothing of a verdict is visible before the ledger has committed all of it together
with the progress of the turn; a verdict that never comes (the agent raised) costs the partition a
rebuild from its committed state, after which the same records come again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from agents.ledger.log import Entry
from agents.ledger.record import Cut, Headers, Record
from agents.references import References

__all__ = ["Cut", "Entry", "Headers", "Record", "Turn", "Verdict"]


@dataclass(slots=True)
class Verdict:
    """All that a turn changes. Written in one transaction, each topic in the order given."""

    outputs: Mapping[str, Sequence[Entry]]
    """By logical topic; written to the partition number that the turn's commands came from."""
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
    """Employers, sites and staff, at least as of this turn's barrier. Live: read it only within
    one synchronous decision. The turn's own staff writes are not in it."""
    rules_version: str
    answer: asyncio.Future[Verdict]
    """To be set once, by the agent; not if it is done already (the ledger gave up waiting)."""
    used: Mapping[str, int] = field(default_factory=dict)
    """Reference topic -> offset of the view that the decision used; `witness` notes it."""

    @property
    def witness(self) -> bytes:
        """Which turn and which offsets of the reference topics the decision used (for a replay).

        ASCII, such as ``t=123;employers=12;sites=4;staff=33;rules=1``; belongs into a header of
        each outcome. Read it within the same synchronous decision as `references`.
        """
        self.used = dict(self.references.offsets)
        offsets = "".join(f"{topic}={next_};" for topic, next_ in self.used.items())
        return f"t={self.number};{offsets}rules={self.rules_version}".encode()
