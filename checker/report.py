"""What was judged, what is broken, and what could not be judged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from schemas.limits import CHECK_STORIES_MAX

PROMISES: Final = {
    "P1": "every command gets exactly one outcome or dead letter; its effects happen once",
    "P2": "a person's decisions are one order, equal to what the rules give for it",
    "P3": "what was acknowledged before a command was sent is decided, or seen, before it",
    "P4": "a decision is visible whole or not at all",
    "P5": "the tables equal the fold of the topics up to the offsets they store",
    "P6": "a bad record costs one dead letter, and nothing stands still",
}

JUDGEMENTS: Final[dict[str, tuple[str, str]]] = {
    "answers": ("P1", "commands with exactly one answer, answers with a command"),
    "acknowledged": ("P1", "acknowledged records that are in the log, and answered"),
    "effects": ("P1", "events that are there once"),
    "rules": ("P2", "decisions equal to those of the rules"),
    "versions": ("P2", "persons whose versions run from 1 without gaps"),
    "employers": ("P2", "persons with never two employers at once"),
    "offsets": ("P3", "decisions in the order of their topic-partition"),
    "broker time": ("P3", "decisions in the order of the brokers' clocks"),
    "real time": ("P3", "decisions after all that was acknowledged before they were sent"),
    "references": ("P3", "decisions that saw the references of before they were sent"),
    "halves": ("P4", "decisions whose events and outcome are all there"),
    "states": ("P4", "states and staff records equal to the decisions"),
    "progress": ("P4", "progress records just behind the last answer"),
    "transactions": ("P4", "partitions without an open transaction at their end"),
    "sightings": ("P4", "records seen by readers that are in the log"),
    "tables": ("P5", "rows equal to the fold of the topics"),
    "positions": ("P5", "stored offsets that fit topics and rows"),
    "dead letters": ("P6", "dead letters with the right code and contents"),
    "probes": ("P6", "probe commands answered"),
}
"""Name -> (promise, what is counted)."""


class Violation(NamedTuple):
    judgement: str
    words: str
    """One sentence: what is there, and what should be."""
    person: str | None = None
    story: Sequence[str] = ()
    """What happened around it, in order."""

    @property
    def promise(self) -> str:
        return JUDGEMENTS[self.judgement][0]


@dataclass
class Tally:
    judged: int = 0
    """Broken ones included."""
    broken: int = 0
    unjudged: Counter[str] = field(default_factory=Counter)
    """Reason -> how many."""


class Report:
    """Collects the findings of all partitions."""

    def __init__(self) -> None:
        self.tallies = {name: Tally() for name in JUDGEMENTS}
        self.violations: list[Violation] = []
        """At most CHECK_STORIES_MAX a judgement; the tallies count all."""
        self.notes: list[str] = []

    def judged(self, judgement: str, count: int = 1) -> None:
        self.tallies[judgement].judged += count

    def unjudged(self, judgement: str, reason: str, count: int = 1) -> None:
        if count:
            self.tallies[judgement].unjudged[reason] += count

    def broken(
        self, judgement: str, words: str, person: str | None = None, story: Sequence[str] = ()
    ) -> None:
        """Count a violation; what is broken must be counted by `judged` too."""
        tally = self.tallies[judgement]
        tally.broken += 1
        if tally.broken <= CHECK_STORIES_MAX:
            self.violations.append(Violation(judgement, words, person, story))

    def note(self, words: str) -> None:
        self.notes.append(words)

    @property
    def broken_promises(self) -> list[str]:
        return sorted({JUDGEMENTS[name][0] for name, one in self.tallies.items() if one.broken})

    @property
    def exit_code(self) -> int:
        """0: all judged, nothing broken. 1: something is broken. 2: not all could be judged."""
        tallies = self.tallies.values()
        if any(one.broken for one in tallies):
            return 1
        if any(one.unjudged for one in tallies) or not self.tallies["answers"].judged:
            return 2
        return 0
