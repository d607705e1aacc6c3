"""A record as read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from schemas.value import Value

Headers = Sequence[tuple[str, bytes]]


class Cut(NamedTuple):
    """What an oversized key or value was before it was cut: its length in bytes and SHA-256."""

    length: int
    sha256: str
    """Lower-case hex."""


class Record(Value, frozen=True):
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
