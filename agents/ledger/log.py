"""What the ledger needs of a log: value types, errors and the narrow interfaces.

`agents.ledger.kafka` implements them on Kafka, `agents.ledger.memory` in memory. All topic names
here are logical ones (those of topics.yaml); an implementation maps them to wire names.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

Headers = Sequence[tuple[str, bytes]]


class Cut(NamedTuple):
    """What was cut from an oversized key or value: its full length in bytes, and its SHA-256."""

    length: int
    sha256: str


class Record(NamedTuple):
    """One record as read."""

    topic: str
    """Logical topic name."""
    partition: int
    offset: int
    timestamp: int
    """Broker time of the append, in ms since 1970."""
    key: bytes | None
    value: bytes | None
    key_cut: Cut | None = None
    """Set where `key` holds only the first part of an oversized key."""
    value_cut: Cut | None = None
    """Set where `value` holds only the first part of an oversized value."""
