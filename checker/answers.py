"""Outcomes, dead letters and events, read back from their records."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, NamedTuple

import orjson

from checker.history import Record
from schemas.forms import time_ms

WITNESS: Final = "witness"

_OUTCOME_FIELDS: Final = (
    *("command", "command_source", "command_type", "status", "code", "version", "events"),
    *("origin", "rules_version"),
)
_LETTER_FIELDS: Final = ("code", "detail", "origin", "encoding", "length", "sha256")


@dataclass(frozen=True)
class Deployment:
    """What the judge needs to know of a deployment."""

    wire: Mapping[str, str]
    """Logical topic name -> the broker's."""
    commands: tuple[str, ...]
    """Logical names, in rank order."""
    partitions: int
    code_keys: Mapping[int, bytes]

    @cached_property
    def logical(self) -> Mapping[str, str]:
        return {wire: name for name, wire in self.wire.items()}


class Answer(NamedTuple):
    """An outcome, with what its witness says."""

    record: Record
    subject: str
    topic: str
    """Logical name of the topic its command is on; the broker's where it is none of ours."""
    partition: int
    offset: int
    turn: int
    seen: Mapping[str, int]
    """Reference topic -> the offset of the view that was used."""
    rules: str
    document: dict[str, Any]

    @property
    def data(self) -> dict[str, Any]:
        data: dict[str, Any] = self.document["data"]
        return data

    @property
    def command(self) -> str:
        """The place of the command."""
        return f"{self.topic}/{self.partition}/{self.offset}"


class Letter(NamedTuple):
    """A dead letter."""

    record: Record
    topic: str
    partition: int
    offset: int
    document: dict[str, Any]

    @property
    def command(self) -> str:
        return f"{self.topic}/{self.partition}/{self.offset}"


class Event(NamedTuple):
    record: Record
    person: str
    version: int
    type: str
    document: dict[str, Any]

    @property
    def data(self) -> dict[str, Any]:
        data: dict[str, Any] = self.document["data"]
        return data

    @property
    def told(self) -> str:
        """The event in a story."""
        named = (self.data.get(name) for name in ("employer", "site", "cause"))
        words = (f"v{self.version}", self.type, *named, f"({self.record.place})")
        return " ".join(one for one in words if one)


def read_answer(record: Record, logical: Mapping[str, str]) -> Answer:
    """Raises ValueError where the record is no outcome with a witness."""
    try:
        document = _object(record)
        data, origin = document["data"], document["data"]["origin"]
        witness = dict(record.headers)[WITNESS].decode()
        said = dict(part.split("=", 1) for part in witness.split(";"))
        turn, rules = int(said.pop("t")), said.pop("rules")
        _need(data, _OUTCOME_FIELDS)
        time_ms(document["time"])
        if not isinstance(data["events"], list):
            raise TypeError
        return Answer(
            record,
            str(document["subject"]),
            logical.get(origin["topic"], origin["topic"]),
            int(origin["partition"]),
            int(origin["offset"]),
            turn,
            {topic: int(offset) for topic, offset in said.items()},
            rules,
            document,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"not an outcome with a witness ({type(error).__name__})") from error


def read_letter(record: Record, logical: Mapping[str, str]) -> Letter:
    """Raises ValueError where the record is no dead letter."""
    try:
        document = _object(record)
        origin = document["origin"]
        _need(document, _LETTER_FIELDS)
        for name in ("key", "value"):
            letter_bytes(document, name)
        return Letter(
            record,
            logical.get(origin["topic"], origin["topic"]),
            int(origin["partition"]),
            int(origin["offset"]),
            document,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"not a dead letter ({type(error).__name__})") from error


def read_event(record: Record) -> Event:
    """Raises ValueError where the record is no event."""
    try:
        document = _object(record)
        version = document["data"]["version"]
        _need(document["data"], ("command",))
        time_ms(document["time"])
        if type(version) is not int:
            raise TypeError
        return Event(record, str(document["subject"]), version, str(document["type"]), document)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"not an event ({type(error).__name__})") from error


def letter_bytes(document: Mapping[str, Any], name: str) -> bytes | None:
    """The `key` or `value` of a dead letter, as the bytes it stands for. Raises ValueError."""
    text = document[name]
    if text is None:
        return None
    if document["encoding"] == "base64":
        return base64.b64decode(text, validate=True)
    return bytes(text.encode())


def _need(document: Mapping[str, Any], fields: Iterable[str]) -> None:
    for name in fields:
        document[name]


def _object(record: Record) -> dict[str, Any]:
    document = orjson.loads(record.value or b"")
    if not isinstance(document, dict):
        raise TypeError
    return document
