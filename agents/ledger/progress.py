"""How far a partition has come: the record `_progress` in its partition of `person-state`.

It is written in the transaction of every turn, next to the states and outputs of that turn, so
that input positions, states and outputs are one fact. No consumer group offsets exist.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

PROGRESS_KEY: Final = b"_progress"
FORMAT: Final = 1
"""Raised when an older worker could misread the record; older formats stay readable."""


class UnreadableProgress(ValueError):
    """The record is not one that this worker can go on from; the text says why."""


class Position:
    """A partition's progress as of a turn."""

    __slots__ = ("offsets", "references", "rules", "topic_ids", "turn")

    def __init__(
        self,
        turn: int,
        offsets: Mapping[str, int],
        topic_ids: Mapping[str, str],
        references: Mapping[str, int],
        rules: str,
    ) -> None:
        self.turn = turn
        self.offsets = offsets
        """Command topic -> the offset after the last one decided."""
        self.topic_ids = topic_ids
        """Command topic -> the broker's identity of the topic these offsets belong to."""
        self.references = references
        """Reference topic -> the offset of the view that the turn used."""
        self.rules = rules

    def encode(self) -> bytes:
        """The record's value."""
        return orjson.dumps(
            {
                "format": FORMAT,
                "turn": self.turn,
                "offsets": self.offsets,
                "topics": self.topic_ids,
                "references": self.references,
                "rules": self.rules,
            }
        )


def decode(value: bytes) -> Position:
    """Raises UnreadableProgress."""
    try:
        read: dict[str, Any] = orjson.loads(value)
        form = read["format"]
        if form > FORMAT:
            raise UnreadableProgress(
                f"the progress was written by a newer version (format {form}, this one reads up to "
                f"{FORMAT}): upgrade this worker"
            )
        return Position(
            read["turn"], read["offsets"], read["topics"], read["references"], read["rules"]
        )
    except UnreadableProgress:
        raise
    except (ValueError, KeyError, TypeError) as error:
        raise UnreadableProgress(f"the progress record cannot be read: {error!r}") from error
