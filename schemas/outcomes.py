"""The answers: an outcome for each command, a dead letter for what cannot be one."""

from typing import Final, Literal

from schemas.forms import Absentable, Form, Id, Name, Sha256
from schemas.reasons import DEAD_LETTER_CODES, OUTCOME_CODES

RULES_VERSION: Final = 1
"""Counts changes of what the rules decide. Past decisions are facts and are never decided again."""

OUTCOMES_TOPIC: Final = "outcomes"
DEAD_LETTERS_TOPIC: Final = "dead-letters"
OUTCOME_TYPE: Final = "outcome"

# Literals of computed values.
OutcomeCode = Literal[*OUTCOME_CODES]  # type: ignore[valid-type]
DeadLetterCode = Literal[*DEAD_LETTER_CODES]  # type: ignore[valid-type]


class Origin(Form):
    """The record that was answered."""

    topic: str
    partition: int
    offset: int


class Outcome(Form):
    """`data` of an outcome (contract: Topics out).

    `version` is the person's after the command, 0 when it has none. A duplicate repeats the code
    and version of the first answer and has no events.
    """

    command: Id
    command_source: Name
    command_type: str
    status: Literal["accepted", "rejected", "duplicate"]
    code: OutcomeCode
    version: int
    events: tuple[str, ...]
    batch: Absentable[Id] = None
    origin: Origin
    rules_version: int


class DeadLetter(Form):
    """A record that cannot be a command. Plain JSON, not an event.

    `encoding` tells how `key` and `value` are written; `value` holds at most the first 64 KiB,
    `length` and `sha256` (hex) are of the whole value. A null key or value is null, a null value
    has length 0 and the hash of nothing.
    """

    code: DeadLetterCode
    detail: str
    origin: Origin
    encoding: Literal["utf-8", "base64"]
    key: str | None
    value: str | None
    length: int
    sha256: Sha256
