"""From the bytes of a result record to what the tables need.

The records are our own and were checked when they were written, so only what the tables need is
looked at: what cannot be read raises `Unreadable`, and the projector stops rather than skip it.

A row of a history never changes, so it is made once, as a line of COPY's text format.
"""

import base64
import hashlib
import re
from collections.abc import Callable
from datetime import UTC, date, datetime
from functools import lru_cache
from typing import Any, Final, Protocol

import orjson
from msgspec import Struct, convert
from msgspec.json import Decoder

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


class Event(Struct, gc=False):
    """A state change of a person; `data` is without `version` and `command`."""

    person: str
    version: int
    type: str
    at: datetime
    time: str
    """`at`, as a table takes it."""
    command: str
    data: dict[str, Any]
    record: Record


class _Event(Struct, gc=False):
    type: str
    time: str
    subject: str
    data: dict[str, Any]


class _Scan(Struct, gc=False):
    day: date
    site: str
    employer: str
    method: str
    direction: str | None = None
    scanner: str | None = None


class _Origin(Struct, gc=False):
    topic: str
    partition: int
    offset: int


class _Answer(Struct, gc=False):
    command: str
    command_source: str
    command_type: str
    status: str
    code: str
    version: int
    events: list[str]
    origin: _Origin
    rules_version: int
    batch: str | None = None


class _Outcome(Struct, gc=False):
    type: str
    time: str
    subject: str
    data: _Answer


_decode_event: Final = Decoder(_Event).decode
_decode_outcome: Final = Decoder(_Outcome).decode

EVENT_TOPICS: Final = frozenset(topic for topic, _ in EVENTS.values())
"""The logical topics whose records are events."""

_TOPIC_OF: Final = {name: topic for name, (topic, _) in EVENTS.items()}
_EARLIEST: Final = datetime(1, 1, 1, tzinfo=UTC)
_LATEST: Final = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)


_USUAL_TIME: Final = re.compile(
    r"[12][0-9]{3}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?"
    r"(Z|[+-](0[0-9]|1[0-4]):[0-5][0-9])"
).fullmatch
"""Times that PostgreSQL reads as we do, where they are times at all."""


def moment(text: str) -> tuple[datetime, str]:
    """An RFC 3339 time, as UTC and as a table takes it; what UTC's calendar cannot hold becomes
    its first or last second."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        at = datetime.fromisoformat(text.upper())
    try:
        at = at.astimezone(UTC)
    except OverflowError:
        at = _EARLIEST if at.year == 1 else _LATEST
    # Writing a time costs as much as all else that is done with it.
    return at, text if _USUAL_TIME(text) else at.isoformat()


def digest(record: Record) -> bytes:
    """Tells a record from any other that might stand at its offset in a recreated topic."""
    return hashlib.blake2b(
        b"%d %b %b" % (record.timestamp, record.key or b"", record.value or b""), digest_size=16
    ).digest()


def read_event(topic: str, record: Record) -> Event:
    """A record of the event topic `topic` (logical name)."""
    try:
        document = _decode_event(_without_nul(record))
        data, kind = document.data, document.type
        if _TOPIC_OF[kind] != topic:
            raise Unreadable(f"{where(record)}: {kind} does not belong here")
        version, command = data.pop("version"), data.pop("command")
        if type(version) is not int or type(command) is not str:
            raise Unreadable(f"{where(record)}: version is no number, or command no text")
        at, time = moment(document.time)
        return Event(document.subject, version, kind, at, time, command, data, record)
    except (KeyError, TypeError, ValueError) as error:
        raise _unreadable(record, error) from error


def read_outcome(record: Record) -> str:
    """A record of `outcomes` as a line of the table."""
    try:
        value = _without_nul(record)
        if _to_escape(record):
            value = orjson.dumps(_all_escaped(orjson.loads(value)))
        document = _decode_outcome(value)
        if document.type != OUTCOME_TYPE:
            raise Unreadable(f"{where(record)}: not an outcome")
        data = document.data
        origin = data.origin
        events = '","'.join(data.events)
        return (
            f"{origin.topic}\t{origin.partition}\t{origin.offset}\t{document.subject}\t"
            f"{data.command}\t{data.command_source}\t{data.command_type}\t{data.status}\t"
            f"{data.code}\t{data.version}\t"
            + (f'{{"{events}"}}' if data.events else "{}")
            + f"\t{_or_null(data.batch)}\t{data.rules_version}\t{moment(document.time)[1]}\t"
            f"{_broker_time(record.timestamp)}\n"
        )
    except (AttributeError, TypeError, ValueError) as error:
        raise _unreadable(record, error) from error


def read_dead_letter(record: Record) -> str:
    """A record of `dead-letters` as a line of the table, key and value as the bytes they were."""
    try:
        # Not cleaned of NUL: key and value are stored as bytes, and have to come back whole.
        letter = orjson.loads(record.value or b"")
        origin = letter["origin"]
        unpack: Callable[[str], bytes] = (
            base64.b64decode if letter["encoding"] == "base64" else str.encode
        )
        key, value = letter["key"], letter["value"]
        values = (
            origin["topic"],
            str(origin["partition"]),
            str(origin["offset"]),
            letter["code"],
            letter["detail"].replace("\0", "\ufffd"),
            letter["encoding"],
            None if key is None else rf"\x{unpack(key).hex()}",
            None if value is None else rf"\x{unpack(value).hex()}",
            str(letter["length"]),
            letter["sha256"],
            _broker_time(record.timestamp),
        )
        return "\t".join(_or_null(value and _escaped(value)) for value in values) + "\n"
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _unreadable(record, error) from error


READ_LINE: Final[dict[str, Callable[[Record], str]]] = {
    OUTCOMES_TOPIC: read_outcome,
    DEAD_LETTERS_TOPIC: read_dead_letter,
}
"""The topics whose records become lines one by one, in whatever order."""


def attendance_line(event: Event) -> str:
    """The `attendance` line of an attendance.recorded event."""
    person, data = event.person, event.data
    if _to_escape(event.record):
        person, data = _escaped(person), _all_escaped(data)
    scan = convert(data, _Scan)
    return (
        f"{person}\t{event.version}\t{scan.day}\t{event.time}\t{scan.site}\t{scan.employer}\t"
        f"{_or_null(scan.direction)}\t{scan.method}\t{_or_null(scan.scanner)}\n"
    )


def event_line(event: Event) -> str:
    """The `events` line of an event."""
    person, command, record = event.person, event.command, event.record
    data = orjson.dumps(event.data).decode()
    if _to_escape(record):
        person, command, data = _escaped(person), _escaped(command), _escaped(data)
    return (
        f"{person}\t{event.version}\t{event.type}\t{event.time}\t{command}\t{data}\t"
        f"{record.topic}\t{record.partition}\t{record.offset}\n"
    )


# --- COPY's text format --------------------------------------------------------------------------

_ESCAPES: Final = str.maketrans({"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"})


def _to_escape(record: Record) -> bool:
    """Whether texts of `record` may have to be escaped: what COPY does not take as it is, JSON
    writes with a backslash."""
    return b"\\" in (record.value or b"")


def _escaped(text: str) -> str:
    return text.translate(_ESCAPES)


def _all_escaped(value: Any) -> Any:
    """`value` with all its texts escaped, those of a list as items of a text[] in double quotes."""
    if isinstance(value, str):
        return _escaped(value)
    if isinstance(value, list):
        return [_escaped(one.replace("\\", r"\\").replace('"', r"\"")) for one in value]
    if isinstance(value, dict):
        return {key: _all_escaped(one) for key, one in value.items()}
    return value


def _or_null(text: str | None) -> str:
    return r"\N" if text is None else text


_NUL: Final = re.compile(rb"(?<!\\)((?:\\\\)*)\\u0000")


def _without_nul(record: Record) -> bytes:
    """The JSON of a record. PostgreSQL's text cannot hold NUL. The commands' forms refuse it, so
    this is for what an older or newer writer let through."""
    value = record.value or b""
    return _NUL.sub(rb"\1\\ufffd", value) if _to_escape(record) else value


@lru_cache(maxsize=1_024)
def _broker_time(timestamp_ms: int) -> str:
    """Records that were written together have the same."""
    return datetime.fromtimestamp(timestamp_ms / 1000, UTC).isoformat()


def where(record: Record) -> str:
    """The record's place, for messages."""
    return f"{record.topic}/{record.partition}/{record.offset}"


def _unreadable(record: Record, error: Exception) -> Unreadable:
    # The kind of the error only: its text may quote the record.
    return Unreadable(f"{where(record)} cannot be read ({type(error).__name__})")
