"""What the tables must hold: a plain fold of the result topics, and its comparison with the rows.

Independent of the projector on purpose: it knows the tables from their definition only.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

from checker.answers import Answer, Event, Letter, letter_bytes
from checker.history import Log
from checker.report import Report
from schemas.limits import CHECK_STORY_LINES_MAX

Row = dict[str, Any]
Key = tuple[Any, ...]

COLUMNS: Final[dict[str, tuple[str, ...]]] = {
    "persons": ("person", "version", "identity", "identity_at", "identity_reason"),
    "offers": (
        *("person", "since", "version", "offer", "employer", "status"),
        *("parked_at", "made_at", "closed_at", "cause"),
    ),
    "employments": (
        *("person", "since", "version", "employer", "status", "started_at", "role", "trade"),
        *("position", "registered_at", "dismissal_requested_at", "dismissal_reason"),
        *("departure_requested_at", "ended_at", "end_cause"),
    ),
    "assignments": (
        *("person", "since", "version", "assignment", "site", "employer", "position", "status"),
        *("requested_at", "confirmed_at", "closed_at", "end_cause", "operator_since"),
    ),
    "entries": (
        *("person", "since", "version", "entry", "site", "employer", "status"),
        *("scanned_at", "closed_at"),
    ),
    "presences": (
        *("person", "since", "version", "entry", "assignment", "site", "employer"),
        *("started_at", "exit_registered_at", "ended_at", "end_cause"),
    ),
    "events": (
        *("person", "version", "type", "time", "command", "data"),
        *("topic", "partition", "offset"),
    ),
    "attendance": (
        *("person", "version", "day", "time", "site", "employer"),
        *("direction", "method", "scanner"),
    ),
    "outcomes": (
        *("origin_topic", "origin_partition", "origin_offset", "person", "command"),
        *("command_source", "command_type", "status", "code", "version", "events", "batch"),
        *("rules_version", "time", "answered_at"),
    ),
    "dead_letters": (
        *("origin_topic", "origin_partition", "origin_offset", "code", "detail", "encoding"),
        *("key", "value", "length", "sha256", "answered_at"),
    ),
}

KEYS: Final[dict[str, tuple[str, ...]]] = {
    "persons": ("person",),
    **dict.fromkeys(
        ("offers", "employments", "assignments", "entries", "presences"), ("person", "since")
    ),
    **dict.fromkeys(("events", "attendance"), ("person", "version")),
    **dict.fromkeys(
        ("outcomes", "dead_letters"), ("origin_topic", "origin_partition", "origin_offset")
    ),
}

_PRIVATE: Final = {"identity_reason", "dismissal_reason", "data", "key", "value", "detail"}
"""Columns whose contents are not told."""

_FIRST: Final = datetime(1, 1, 1, tzinfo=UTC)
_LAST: Final = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)


@dataclass(frozen=True)
class Stored:
    """A row of `progress`."""

    next_offset: int
    last_offset: int | None


@dataclass
class Tables:
    """Rows by table name, as dicts by column, and the offsets stored with them."""

    rows: Mapping[str, Iterable[Row]]
    stored: Mapping[tuple[str, int], Stored]
    """(the broker's topic name, partition) -> its row of `progress`."""


class Misfit(Exception):
    """Events that cannot follow each other."""


@dataclass
class Fold:
    """Rows by table and key."""

    rows: dict[str, dict[Key, Row]] = field(
        default_factory=lambda: {table: {} for table in COLUMNS}
    )

    def put(self, table: str, **values: Any) -> Row:
        row = dict.fromkeys(COLUMNS[table]) | values
        self.rows[table][tuple(row[column] for column in KEYS[table])] = row
        return row


def fold_person(fold: Fold, events: Sequence[Event], wire: Mapping[str, str]) -> None:
    """One person's events, in the order of their versions. Raises Misfit."""
    open_: dict[str, Row] = {}
    offers: dict[str, Row] = {}

    def there(table: str) -> Row:
        if table not in open_:
            raise Misfit(f"{event.type} v{event.version}, but the person has none in {table}")
        return open_[table]

    def begin(table: str, **values: Any) -> Row:
        if table in open_:
            raise Misfit(f"{event.type} v{event.version}, but another is open in {table}")
        row = fold.put(table, **about, **values)
        open_[table] = row
        return row

    person: Row = {}
    for event in events:
        at, data = moment(event.document["time"]), event.data
        about = {"person": event.person, "since": event.version, "version": event.version}
        family, step = event.type.split(".")
        if not person:
            person = fold.put("persons", person=event.person)
        person["version"] = event.version
        fold.put(
            "events",
            person=event.person,
            version=event.version,
            type=event.type,
            time=at,
            command=data["command"],
            data={name: data[name] for name in data if name not in ("version", "command")},
            topic=wire[event.record.topic],
            partition=event.record.partition,
            offset=event.record.offset,
        )
        changed: Row | None = None
        cause = data.get("cause")
        if family == "identity":
            person |= {"identity": step, "identity_at": at, "identity_reason": data.get("reason")}
        elif family == "offer":
            row = offers.get(data["offer"])
            if row is None:
                if step not in ("parked", "made"):
                    raise Misfit(f"{event.type} v{event.version} of an offer that is not open")
                row = offers[data["offer"]] = fold.put(
                    "offers", **about, offer=data["offer"], employer=data["employer"]
                )
            elif step == "parked":
                raise Misfit(f"{event.type} v{event.version} of an offer that is open")
            row |= {"status": step, "version": event.version}
            if step in ("parked", "made"):
                row[f"{step}_at"] = at
            else:
                row |= {"closed_at": at, "cause": cause}
                del offers[data["offer"]]
        elif event.type == "employment.started":
            begin("employments", employer=data["employer"], status="active", started_at=at)
        elif event.type == "employment.registered":
            changed = there("employments")
            changed |= {"registered_at": at, **_some(data, "role", "trade", "position")}
        elif event.type == "employment.ended":
            changed = there("employments")
            changed |= {"status": "ended", "ended_at": at, "end_cause": cause}
            del open_["employments"]
        elif family in ("dismissal", "departure"):
            changed = there("employments")
            pending = step == "requested"
            changed[f"{family}_requested_at"] = at if pending else None
            if family == "dismissal":
                changed["dismissal_reason"] = data.get("reason") if pending else None
        elif event.type == "assignment.requested":
            begin(
                "assignments",
                status="requested",
                requested_at=at,
                **_some(data, "assignment", "site", "employer", "position"),
            )
        elif event.type == "assignment.confirmed":
            changed = there("assignments")
            changed |= {"status": "confirmed", "confirmed_at": at}
        elif family == "assignment":
            changed = there("assignments")
            changed |= {"status": step, "closed_at": at, "end_cause": cause, "operator_since": None}
            del open_["assignments"]
        elif family == "operator":
            changed = there("assignments")
            changed["operator_since"] = at if step == "authorized" else None
        elif event.type == "entry.scanned":
            begin(
                "entries",
                status="waiting",
                scanned_at=at,
                **_some(data, "entry", "site", "employer"),
            )
        elif event.type == "entry.lapsed":
            changed = there("entries")
            changed |= {"status": "lapsed", "closed_at": at}
            del open_["entries"]
        elif event.type == "presence.started":
            waiting = open_.get("entries")
            if waiting is not None and waiting["entry"] == data["entry"]:
                waiting |= {"status": "processed", "closed_at": at, "version": event.version}
                del open_["entries"]
            begin(
                "presences",
                assignment=there("assignments")["assignment"],
                started_at=at,
                **_some(data, "entry", "site", "employer"),
            )
        elif event.type == "presence.ended":
            changed = there("presences")
            changed |= {"ended_at": at, "end_cause": cause}
            del open_["presences"]
        elif event.type == "exit.registered":
            changed = there("presences")
            changed["exit_registered_at"] = at
        elif event.type == "attendance.recorded":
            fold.put(
                "attendance",
                person=event.person,
                version=event.version,
                day=date.fromisoformat(data["day"]),
                time=at,
                **_some(data, "site", "employer", "direction", "method", "scanner"),
            )
        else:
            raise Misfit(f"an event of the unknown type {event.type}")
        if changed is not None:
            changed["version"] = event.version


def _some(data: Mapping[str, Any], *names: str) -> Row:
    return {name: data.get(name) for name in names}


def fold_answer(fold: Fold, answer: Answer, wire: Mapping[str, str]) -> None:
    data = answer.data
    fold.put(
        "outcomes",
        origin_topic=wire.get(answer.topic, answer.topic),
        origin_partition=answer.partition,
        origin_offset=answer.offset,
        person=answer.subject,
        command=data["command"],
        command_source=data["command_source"],
        command_type=data["command_type"],
        status=data["status"],
        code=data["code"],
        version=data["version"],
        events=data["events"],
        batch=data.get("batch"),
        rules_version=data["rules_version"],
        time=moment(answer.document["time"]),
        answered_at=_broker_time(answer.record.timestamp),
    )


def fold_letter(fold: Fold, letter: Letter, wire: Mapping[str, str]) -> None:
    document = letter.document
    fold.put(
        "dead_letters",
        origin_topic=wire.get(letter.topic, letter.topic),
        origin_partition=letter.partition,
        origin_offset=letter.offset,
        code=document["code"],
        detail=document["detail"],
        encoding=document["encoding"],
        key=letter_bytes(document, "key"),
        value=letter_bytes(document, "value"),
        length=document["length"],
        sha256=document["sha256"],
        answered_at=_broker_time(letter.record.timestamp),
    )


def moment(text: str) -> datetime:
    """An RFC 3339 time; the first or last second of the calendar where UTC has no such date."""
    at = datetime.fromisoformat(text.upper())
    try:
        return at.astimezone(UTC)
    except OverflowError:
        return _FIRST if at.year == 1 else _LAST


def _broker_time(timestamp: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=timestamp)


# --- comparing -----------------------------------------------------------------------------------


def judge_tables(
    report: Report,
    number: int,
    outputs: Mapping[str, Log],
    events: Mapping[str, Sequence[Event]],
    answers: Sequence[Answer],
    letters: Sequence[Letter],
    misfits: Collection[str],
    tables: Tables,
    wire: Mapping[str, str],
) -> None:
    """Compare the rows of one partition number with the fold of its topics, up to the stored
    offsets.

    `events` by person, in the order of versions; `misfits` are persons whose events fit no fold.
    `tables.rows` are the rows of these persons, and
    the outcomes and dead letters of this partition.
    """
    upto = _judge_positions(report, number, outputs, tables, wire)
    fold, beyond = Fold(), Fold()
    skipped = set()
    for person, history in events.items():
        held = [one for one in history if one.record.offset < upto[one.record.topic]]
        report.judged("positions")
        if [one.version for one in held] != list(range(1, len(held) + 1)):
            versions = ", ".join(str(one.version) for one in held[:20])
            report.broken(
                "positions",
                f"the stored offsets hold versions {versions} of this person, which is no prefix",
                person,
            )
            skipped.add(person)
            continue
        if person in misfits:
            # Told of as a broken promise of the topics; no fold can say what the rows must be.
            report.unjudged("tables", "the person's events do not fit each other")
            skipped.add(person)
            continue
        fold_person(fold, held, wire)
        if len(held) < len(history):
            fold_person(beyond, history, wire)
    for answer in answers:
        known = answer.record.offset < upto[answer.record.topic]
        fold_answer(fold if known else beyond, answer, wire)
    for letter in letters:
        known = letter.record.offset < upto[letter.record.topic]
        fold_letter(fold if known else beyond, letter, wire)
    for table, expected in fold.rows.items():
        rows = tables.rows.get(table, ())
        if KEYS[table][0] == "person":
            rows = [row for row in rows if row["person"] not in skipped]
        _compare(report, table, expected, beyond.rows[table], rows, events)
    late = sum(
        1
        for topic, log in outputs.items()
        for record in log.records
        if record.offset >= upto[topic]
    )
    report.unjudged("tables", "records that are not in the tables yet", late)


def _judge_positions(
    report: Report, number: int, outputs: Mapping[str, Log], tables: Tables, wire: Mapping[str, str]
) -> dict[str, int]:
    upto = {}
    for topic, log in outputs.items():
        stored = tables.stored.get((wire[topic], number), Stored(0, None))
        upto[topic] = stored.next_offset
        held = [one.offset for one in log.records if one.offset < stored.next_offset]
        last = held[-1] if held else None
        report.judged("positions")
        if stored.next_offset > log.end:
            report.broken(
                "positions",
                f"progress of {topic}/{number} is {stored.next_offset}, but it ends at {log.end}",
            )
        elif stored.last_offset != last:
            report.broken(
                "positions",
                f"progress of {topic}/{number} says that the last record in the tables is "
                f"{stored.last_offset}; below {stored.next_offset} the last one is {last}",
            )
    return upto


def _compare(
    report: Report,
    table: str,
    expected: Mapping[Key, Row],
    beyond: Mapping[Key, Row],
    rows: Iterable[Row],
    events: Mapping[str, Sequence[Event]],
) -> None:
    def broken(key: Key, words: str, person: str | None) -> None:
        story = [one.told for one in events.get(person or "", ())][-CHECK_STORY_LINES_MAX:]
        report.broken("tables", f"{table} {_named(key)}: {words}", person, story)

    key_columns = KEYS[table]
    missing = dict(expected)
    for row in rows:
        key = tuple(row[column] for column in key_columns)
        report.judged("tables")
        wanted = missing.pop(key, None)
        if wanted is None:
            if key in expected:
                words = "stands there twice"
            elif key in beyond:
                words = "comes from a record that the stored offsets do not hold yet"
            else:
                words = "comes from no record"
            broken(key, f"the row {words}", row.get("person"))
        elif any(row[column] != wanted[column] for column in COLUMNS[table]):
            later = beyond.get(key)
            ahead = later is not None and all(row[one] == later[one] for one in COLUMNS[table])
            told = "; ".join(_differences(table, row, wanted))
            told += " (as after records that the stored offsets do not hold yet)" if ahead else ""
            broken(key, told, row.get("person"))
    for key, wanted in missing.items():
        report.judged("tables")
        broken(key, "the row is missing", wanted.get("person"))


def _differences(table: str, row: Row, wanted: Row) -> Iterator[str]:
    for column in COLUMNS[table]:
        if row[column] != wanted[column]:
            if column in _PRIVATE:
                yield f"{column} differs"
            else:
                yield f"{column} is {_shown(row[column])}, must be {_shown(wanted[column])}"


def _shown(value: Any) -> str:
    return value.isoformat() if isinstance(value, date) else repr(value)


def _named(key: Key) -> str:
    return "/".join(map(str, key))
