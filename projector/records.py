"""From the bytes of a result record to what the tables need.

The records are our own and were checked when they were written, so there are no models here: what
cannot be read raises `Unreadable`, and the projector stops rather than skip it.
"""

import base64
import hashlib
from collections.abc import Callable
from datetime import UTC, date, datetime
from functools import lru_cache
from typing import Any, Final, NamedTuple, Protocol

import orjson

from schemas.events import EVENTS
from schemas.outcomes import DEAD_LETTERS_TOPIC, OUTCOME_TYPE, OUTCOMES_TOPIC


class Record(Protocol):
    """One record of a topic-partition, as aiokafka hands it over."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...


class Unreadable(Exception):
    """A result record that this program cannot read: made by a newer one, or by a stranger."""


class Event(NamedTuple):
    """A state change of a person; `data` is without `version` and `command`."""

    person: str
    version: int
    type: str
    at: datetime
    command: str
    data: dict[str, Any]
    record: Record


Row = tuple[Any, ...]

EVENT_TOPICS: Final = frozenset(topic for topic, _ in EVENTS.values())
"""The logical topics whose records are events."""

_TOPIC_OF: Final = {name: topic for name, (topic, _) in EVENTS.items()}
_EARLIEST: Final = datetime(1, 1, 1, tzinfo=UTC)
_LATEST: Final = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)


def moment(text: str) -> datetime:
    """An RFC 3339 time as UTC; what UTC's calendar cannot hold becomes its first or last second."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        at = datetime.fromisoformat(text.upper())
    try:
        return at.astimezone(UTC)
    except OverflowError:
        return _EARLIEST if at.year == 1 else _LATEST


def digest(record: Record) -> bytes:
    """Tells a record from any other that might stand at its offset in a recreated topic."""
    return hashlib.blake2b(
        b"%d %b %b" % (record.timestamp, record.key or b"", record.value or b""), digest_size=16
    ).digest()


def read_event(topic: str, record: Record) -> Event:
    """A record of the event topic `topic` (logical name)."""
    try:
        document = _document(record)
        data = document["data"]
        kind = document["type"]
        if _TOPIC_OF[kind] != topic:
            raise Unreadable(f"{where(record)}: {kind} does not belong here")
        version, command = data.pop("version"), data.pop("command")
        if type(version) is not int:
            raise Unreadable(f"{where(record)}: version is not a number")
        return Event(
            document["subject"],
            version,
            kind,
            moment(document["time"]),
            command,
            data,
            record,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _unreadable(record, error) from error


def read_outcome(record: Record) -> Row:
    """A record of `outcomes` as a row of the table."""
    try:
        document = _document(record)
        if document["type"] != OUTCOME_TYPE:
            raise Unreadable(f"{where(record)}: not an outcome")
        data = document["data"]
        origin = data["origin"]
        return (
            origin["topic"],
            origin["partition"],
            origin["offset"],
            document["subject"],
            data["command"],
            data["command_source"],
            data["command_type"],
            data["status"],
            data["code"],
            data["version"],
            data["events"],
            data.get("batch"),
            data["rules_version"],
            moment(document["time"]),
            _broker_time(record.timestamp),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _unreadable(record, error) from error


def read_dead_letter(record: Record) -> Row:
    """A record of `dead-letters` as a row of the table, key and value as the bytes they were."""
    try:
        # Not cleaned of NUL: key and value are stored as bytes, and have to come back whole.
        letter = orjson.loads(record.value or b"")
        origin = letter["origin"]
        unpack: Callable[[str], bytes] = (
            base64.b64decode if letter["encoding"] == "base64" else str.encode
        )
        key, value = letter["key"], letter["value"]
        return (
            origin["topic"],
            origin["partition"],
            origin["offset"],
            letter["code"],
            letter["detail"].replace("\0", "\ufffd"),
            letter["encoding"],
            None if key is None else unpack(key),
            None if value is None else unpack(value),
            letter["length"],
            letter["sha256"],
            _broker_time(record.timestamp),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _unreadable(record, error) from error


READ_ROW: Final[dict[str, Callable[[Record], Row]]] = {
    OUTCOMES_TOPIC: read_outcome,
    DEAD_LETTERS_TOPIC: read_dead_letter,
}
"""The topics whose records become rows one by one, in whatever order."""


def attendance_row(event: Event) -> Row:
    """The `attendance` row of an attendance.recorded event."""
    data = event.data
    return (
        event.person,
        event.version,
        date.fromisoformat(data["day"]),
        event.at,
        data["site"],
        data["employer"],
        data.get("direction"),
        data["method"],
        data.get("scanner"),
    )


def event_row(event: Event) -> Row:
    """The `events` row of an event."""
    record = event.record
    return (
        event.person,
        event.version,
        event.type,
        event.at,
        event.command,
        orjson.dumps(event.data).decode(),
        record.topic,
        record.partition,
        record.offset,
    )


def _document(record: Record) -> Any:
    value = record.value or b""
    document = orjson.loads(value)
    # PostgreSQL's text cannot hold NUL. The commands' forms refuse it, so this is for what an
    # older or newer writer let through.
    return _without_nul(document) if b"\\u0000" in value else document


def _without_nul(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("\0", "\ufffd")
    if isinstance(value, list):
        return [_without_nul(one) for one in value]
    if isinstance(value, dict):
        return {_without_nul(key): _without_nul(one) for key, one in value.items()}
    return value


@lru_cache(maxsize=1_024)
def _broker_time(timestamp_ms: int) -> datetime:
    """Records that were written together have the same."""
    return datetime.fromtimestamp(timestamp_ms / 1000, UTC)


def where(record: Record) -> str:
    """The record's place, for messages."""
    return f"{record.topic}/{record.partition}/{record.offset}"


def _unreadable(record: Record, error: Exception) -> Unreadable:
    # The kind of the error only: its text may quote the record.
    return Unreadable(f"{where(record)} cannot be read ({type(error).__name__})")
