"""What is judged: logs as they were read, reference records by version, and what clients saw.

Topics are named by their logical names. Times are Unix milliseconds: a record's `timestamp` is the
broker's, those of an `Ack` or a `Sighting` are of the client's clock.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import orjson

from schemas.references import parse_reference

PROGRESS_KEY: Final = b"_progress"
STAFF: Final = "staff"


class Cut(NamedTuple):
    """What an oversized value was before it was cut: bytes, and SHA-256 in hex."""

    length: int
    sha256: str


class Record(NamedTuple):
    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()
    value_cut: Cut | None = None
    """Set where `value` holds only the beginning of an oversized command."""

    @property
    def place(self) -> str:
        return f"{self.topic}/{self.partition}/{self.offset}"


@dataclass
class Log:
    """The committed records of one topic-partition, from `start` up to `end`."""

    records: list[Record] = field(default_factory=list)
    start: int = 0
    """The first offset that the broker still has."""
    end: int = 0
    """A committed reader came this far."""
    high: int = 0
    """The high watermark then; above `end` while a transaction is open."""


@dataclass(frozen=True)
class Progress:
    """A partition's `_progress` record: what the ledger says it has decided."""

    turn: int
    offsets: Mapping[str, int]
    """Command topic -> the offset after the last one decided."""


def read_progress(value: bytes) -> Progress:
    """Raises ValueError where it is none."""
    try:
        document = orjson.loads(value)
        return Progress(int(document["turn"]), dict(document["offsets"]))
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a progress record: {type(error).__name__}") from error


@dataclass
class Partition:
    """All that one partition number holds. States, outputs and commands of a person are in one."""

    number: int
    commands: Mapping[str, Log]
    outputs: Mapping[str, Log]
    state: Log
    """Bounds only; the records are folded into `states`."""
    states: Mapping[bytes, bytes]
    """The last state of each person, as stored."""
    progress: Progress | None
    quiet: bool = True
    """Nothing was written while it was read: what is there is exactly what `progress` speaks of.
    Else what lies beyond the progress is left to the next check."""


# --- reference records ---------------------------------------------------------------------------


class Version(NamedTuple):
    offset: int
    record: object | None
    """None: removed."""


class View:
    """A reference topic as of an offset: the records below it."""

    __slots__ = ("_keys", "_offset")

    def __init__(self, keys: Mapping[str, list[Version]], offset: int) -> None:
        self._keys = keys
        self._offset = offset

    def get(self, key: str, /) -> Any:
        versions = self._keys.get(key)
        if not versions:
            return None
        at = bisect_left(versions, self._offset, key=lambda one: one.offset)
        return versions[at - 1].record if at else None


class Versions:
    """All versions of the records of one reference topic.

    `settled_ms`: what the broker got earlier may have been compacted, so that a view of then may
    lack versions that were in force.
    """

    def __init__(self, topic: str, settled_ms: int = 0) -> None:
        self.topic = topic
        self.end = 0
        self.high = 0
        self._settled_ms = settled_ms
        self._keys: dict[str, list[Version]] = {}
        self._offsets: list[int] = []
        self._times: list[int] = []
        self._latest: list[int] = []
        """Running maximum of the timestamps, so that it can be searched."""
        self._gap = False
        self._exact_from = 0

    def extend(self, records: Iterable[Record], end: int) -> None:
        """Take in the next records, up to `end`."""
        for record in records:
            self._note_compaction(record)
            self._offsets.append(record.offset)
            self._times.append(record.timestamp)
            self._latest.append(max(record.timestamp, self._latest[-1] if self._latest else 0))
            try:
                if record.key is None:
                    continue
                name = record.key.decode()
                meaning = (
                    None
                    if record.value is None
                    else parse_reference(self.topic, record.key, record.value)
                )
            except ValueError:
                continue  # unreadable: the last good one stays in force
            self._keys.setdefault(name, []).append(Version(record.offset, meaning))
        self.end = max(self.end, end)

    def _note_compaction(self, record: Record) -> None:
        """Compaction removes a record only for a later one of its key, and both of some age. So
        views at offsets past what is that old are exact, whatever gaps there are before."""
        gap = record.offset > (self._offsets[-1] + 1 if self._offsets else 0)
        self._gap |= gap
        # Of `staff` the transactions' markers make gaps too, also before its first record.
        after_old = self._latest[-1] < self._settled_ms if self._latest else self.topic != STAFF
        if self._gap and record.timestamp < self._settled_ms:
            self._exact_from = record.offset + 1
        elif gap and after_old and self._settled_ms:
            self._exact_from = record.offset

    def at(self, offset: int) -> View:
        return View(self._keys, offset)

    def exact(self, offset: int) -> bool:
        """Whether the view at `offset` surely lacks nothing that was compacted since."""
        return offset >= self._exact_from

    def of(self, key: str) -> Sequence[Version]:
        return self._keys.get(key, ())

    def names(self) -> Iterable[str]:
        """The keys of all records there are or were."""
        return self._keys

    def time_of(self, offset: int) -> int | None:
        """The broker's time of a record; None where there is none."""
        at = bisect_left(self._offsets, offset)
        there = at < len(self._offsets) and self._offsets[at] == offset
        return self._times[at] if there else None

    def before(self, time_ms: float) -> int:
        """The offset after the last record that, with all before it, was got before `time_ms`."""
        at = bisect_left(self._latest, time_ms)
        return self._offsets[at - 1] + 1 if at else 0

    @property
    def compacted(self) -> bool:
        """Whether versions may be missing."""
        return self._exact_from > 0


# --- what clients saw ----------------------------------------------------------------------------


class HistoryError(ValueError):
    """A history file that cannot be used; the text names the line."""


class Ack(NamedTuple):
    """A record that a producer saw acknowledged."""

    topic: str
    partition: int
    offset: int | None
    """None when the acknowledgement did not tell (a repeated batch)."""
    id: str | None
    """The command's id; None where it had none (a bad record)."""
    sent_ms: float
    acked_ms: float
    client: str = ""
    """Whose clock; times of one client are compared as they are."""


class Sighting(NamedTuple):
    """A record that a live committed reader saw."""

    topic: str
    partition: int
    offset: int
    sha256: str | None = None
    """Of the value, hex."""
    seen_ms: float | None = None
    client: str = ""


@dataclass
class Clients:
    """What was noted on the clients' side, by topic and partition."""

    acks: dict[tuple[str, int], list[Ack]] = field(default_factory=dict)
    sightings: dict[tuple[str, int], list[Sighting]] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)


def read_acks(lines: Iterable[bytes], logical: Mapping[str, str]) -> Iterator[Ack]:
    """A producers' history: JSON lines with topic (as the broker names it), partition, offset, id,
    sent_ms, acked_ms and, optional, client. `logical` maps the broker's names. Raises
    HistoryError."""
    for number, document in _lines(lines):
        try:
            offset, command = document["offset"], document["id"]
            yield Ack(
                logical[document["topic"]],
                int(document["partition"]),
                None if offset is None or offset < 0 else int(offset),
                None if command is None else str(command),
                float(document["sent_ms"]),
                float(document["acked_ms"]),
                str(document.get("client", "")),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise HistoryError(f"line {number}: {error!r}") from error


def read_sightings(lines: Iterable[bytes], logical: Mapping[str, str]) -> Iterator[Sighting]:
    """A reader's history: JSON lines with topic, partition, offset and, optional, sha256 of the
    value, seen_ms, client. Raises HistoryError."""
    for number, document in _lines(lines):
        try:
            seen = document.get("seen_ms")
            yield Sighting(
                logical[document["topic"]],
                int(document["partition"]),
                int(document["offset"]),
                document.get("sha256"),
                None if seen is None else float(seen),
                str(document.get("client", "")),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise HistoryError(f"line {number}: {error!r}") from error


def _lines(lines: Iterable[bytes]) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            document = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise HistoryError(f"line {number}: {error}") from error
        if not isinstance(document, dict):
            raise HistoryError(f"line {number}: not an object")
        yield number, document


def collect(acks: Iterable[Ack] | None, sightings: Iterable[Sighting] = ()) -> Clients:
    """`acks` None: no producer's history."""
    clients = Clients()
    for ack in acks or ():
        clients.acks.setdefault((ack.topic, ack.partition), []).append(ack)
        clients.names.add(ack.client)
    for sighting in sightings:
        key = (sighting.topic, sighting.partition)
        clients.sightings.setdefault(key, []).append(sighting)
        if sighting.seen_ms is not None:
            clients.names.add(sighting.client)
    return clients
