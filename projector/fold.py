"""What each event does to the current tables. Pure: values in, rows out.

A `Person` holds the person's version and the rows that later events can still change. Rows are
mutable and are collected in a `Changes` the first time an event of a batch touches them, so a batch
writes each row once. `APPLY` is the whole table of transitions; an event that does not fit what is
there raises `Misfit`, and nothing of its batch is written.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from datetime import datetime
from operator import attrgetter
from typing import Any, Final, NamedTuple, TypeVar

from projector.records import (
    READ_LINE,
    Event,
    Record,
    attendance_line,
    event_line,
    where,
)
from schemas.outcomes import DEAD_LETTERS_TOPIC, OUTCOMES_TOPIC

Row = tuple[Any, ...]


class Rows(NamedTuple):
    """What a batch writes, by table."""

    current: dict[str, list[Row]]
    history: dict[str, list[str]]
    """Lines of COPY's text format."""


class Misfit(Exception):
    """An event that cannot follow the ones before it: the topics break a promise of the ledger."""


@dataclass(slots=True)
class Offer:
    person: str
    since: int
    version: int
    offer: str
    employer: str
    status: str
    parked_at: datetime | None = None
    made_at: datetime | None = None
    closed_at: datetime | None = None
    cause: str | None = None


@dataclass(slots=True)
class Employment:
    person: str
    since: int
    version: int
    employer: str
    status: str
    started_at: datetime
    role: str | None = None
    trade: str | None = None
    position: str | None = None
    registered_at: datetime | None = None
    dismissal_requested_at: datetime | None = None
    dismissal_reason: str | None = None
    departure_requested_at: datetime | None = None
    ended_at: datetime | None = None
    end_cause: str | None = None


@dataclass(slots=True)
class Assignment:
    person: str
    since: int
    version: int
    assignment: str
    site: str
    employer: str
    position: str | None
    status: str
    requested_at: datetime
    confirmed_at: datetime | None = None
    closed_at: datetime | None = None
    end_cause: str | None = None
    operator_since: datetime | None = None


@dataclass(slots=True)
class Entry:
    person: str
    since: int
    version: int
    entry: str
    site: str
    employer: str
    status: str
    scanned_at: datetime
    closed_at: datetime | None = None


@dataclass(slots=True)
class Presence:
    person: str
    since: int
    version: int
    entry: str
    assignment: str | None
    site: str
    employer: str
    started_at: datetime
    exit_registered_at: datetime | None = None
    ended_at: datetime | None = None
    end_cause: str | None = None


_Row = TypeVar("_Row", Offer, Employment, Assignment, Entry, Presence)
Current = Offer | Employment | Assignment | Entry | Presence


_OPEN_ROWS: Final = {"open_rows": True}


@dataclass(slots=True)
class Person:
    """A row of `persons`, and the person's open rows of the other current tables."""

    person: str
    version: int = 0
    identity: str | None = None
    identity_at: datetime | None = None
    identity_reason: str | None = None
    offers: dict[str, Offer] = field(default_factory=dict, metadata=_OPEN_ROWS)
    employment: Employment | None = field(default=None, metadata=_OPEN_ROWS)
    assignment: Assignment | None = field(default=None, metadata=_OPEN_ROWS)
    entry: Entry | None = field(default=None, metadata=_OPEN_ROWS)
    presence: Presence | None = field(default=None, metadata=_OPEN_ROWS)


class Changes:
    """The rows of one batch. Rows of a current table stand in the order they were first touched."""

    __slots__ = ("attendance", "current", "events", "last", "persons", "plain")

    def __init__(self) -> None:
        self.persons: dict[str, Person] = {}
        self.current: dict[type[Current], dict[tuple[str, int], Current]] = {
            kind: {} for kind in (Offer, Employment, Assignment, Entry, Presence)
        }
        self.events: list[str] = []
        self.attendance: list[str] = []
        self.plain: dict[str, list[str]] = {topic: [] for topic in READ_LINE}
        """Lines of the topics that need no fold."""
        self.last: dict[tuple[str, int], Record] = {}
        """The last record taken in, by topic (wire name) and partition."""

    def apply(self, person: Person, event: Event) -> None:
        """Folds `event`, which must be the next version of `person`.

        Raises `Misfit`; then person and changes are of no more use.
        """
        if event.version != person.version + 1:
            raise Misfit(f"{_named(event)}: version {event.version} after {person.version}")
        try:
            APPLY[event.type](self, person, event)
            self.events.append(event_line(event))
        except (KeyError, ValueError, TypeError) as error:
            # The kind of the error only: its text may quote the record.
            raise Misfit(f"{_named(event)}: bad field ({type(error).__name__})") from error
        person.version = event.version
        self.persons[event.person] = person
        record = event.record
        self.last[record.topic, record.partition] = record

    def touch(self, row: Current, event: Event) -> None:
        row.version = event.version
        self.current[type(row)][row.person, row.since] = row

    def freeze(self) -> Rows:
        """The batch by table: what is written no longer follows later events.

        Closed rows come first, so that the unique indexes over open rows hold at every row. Lines
        begin with their keys and are sorted: an index takes neighbours for half the price.
        """
        current = {"persons": list(map(_VALUES[Person], self.persons.values()))}
        for kind, touched in self.current.items():
            ordered = sorted(touched.values(), key=is_open)
            current[TABLES[kind]] = list(map(_VALUES[kind], ordered))
        history = {
            "events": self.events,
            "attendance": self.attendance,
            "outcomes": self.plain[OUTCOMES_TOPIC],
            "dead_letters": self.plain[DEAD_LETTERS_TOPIC],
        }
        return Rows(current, {table: sorted(lines) for table, lines in history.items()})


def is_open(row: Current) -> bool:
    """Whether later events can still change the row."""
    if isinstance(row, Employment | Presence):
        return row.ended_at is None
    return row.closed_at is None


TABLES: Final[dict[type[Any], str]] = {
    Person: "persons",
    Offer: "offers",
    Employment: "employments",
    Assignment: "assignments",
    Entry: "entries",
    Presence: "presences",
}

COLUMNS: Final[dict[type[Any], tuple[str, ...]]] = {
    kind: tuple(one.name for one in fields(kind) if not one.metadata.get("open_rows"))
    for kind in TABLES
}
"""The columns of each kind of row, in the order of its fields."""

_VALUES: Final[dict[type[Any], Callable[[Any], Row]]] = {
    kind: attrgetter(*names) for kind, names in COLUMNS.items()
}

# --- what each event does ------------------------------------------------------------------------

Step = Callable[[Changes, Person, Event], None]


def _identity(status: str) -> Step:
    def step(changes: Changes, person: Person, event: Event) -> None:
        person.identity = status
        person.identity_at = event.at
        person.identity_reason = event.data.get("reason")

    return step


def _offer_parked(changes: Changes, person: Person, event: Event) -> None:
    _new_offer(changes, person, event, "parked").parked_at = event.at


def _offer_made(changes: Changes, person: Person, event: Event) -> None:
    offer = person.offers.get(event.data["offer"])
    if offer is None:
        offer = _new_offer(changes, person, event, "made")
    offer.status = "made"
    offer.made_at = event.at
    changes.touch(offer, event)


def _new_offer(changes: Changes, person: Person, event: Event, status: str) -> Offer:
    data = event.data
    if data["offer"] in person.offers:
        raise Misfit(f"{_named(event)}: the offer is open already")
    offer = Offer(
        person.person, event.version, event.version, data["offer"], data["employer"], status
    )
    person.offers[offer.offer] = offer
    changes.touch(offer, event)
    return offer


def _offer_closed(status: str) -> Step:
    def step(changes: Changes, person: Person, event: Event) -> None:
        offer = _there(person.offers.pop(event.data["offer"], None), event)
        offer.status = status
        offer.closed_at = event.at
        offer.cause = event.data.get("cause")
        changes.touch(offer, event)

    return step


def _employment_started(changes: Changes, person: Person, event: Event) -> None:
    # One that is still active is left to the table's unique index, which refuses the second.
    person.employment = Employment(
        person.person, event.version, event.version, event.data["employer"], "active", event.at
    )
    changes.touch(person.employment, event)


def _employment_registered(changes: Changes, person: Person, event: Event) -> None:
    employment = _there(person.employment, event)
    employment.role = event.data.get("role")
    employment.trade = event.data.get("trade")
    employment.position = event.data.get("position")
    employment.registered_at = event.at
    changes.touch(employment, event)


def _employment_ended(changes: Changes, person: Person, event: Event) -> None:
    employment = _there(person.employment, event)
    employment.status = "ended"
    employment.ended_at = event.at
    employment.end_cause = event.data.get("cause")
    changes.touch(employment, event)
    person.employment = None


def _dismissal(pending: bool) -> Step:
    def step(changes: Changes, person: Person, event: Event) -> None:
        employment = _there(person.employment, event)
        employment.dismissal_requested_at = event.at if pending else None
        employment.dismissal_reason = event.data.get("reason") if pending else None
        changes.touch(employment, event)

    return step


def _departure(pending: bool) -> Step:
    def step(changes: Changes, person: Person, event: Event) -> None:
        employment = _there(person.employment, event)
        employment.departure_requested_at = event.at if pending else None
        changes.touch(employment, event)

    return step


def _assignment_requested(changes: Changes, person: Person, event: Event) -> None:
    # A second live one is left to the table's unique index.
    data = event.data
    person.assignment = Assignment(
        person.person,
        event.version,
        event.version,
        data["assignment"],
        data["site"],
        data["employer"],
        data.get("position"),
        "requested",
        event.at,
    )
    changes.touch(person.assignment, event)


def _assignment_confirmed(changes: Changes, person: Person, event: Event) -> None:
    assignment = _there(person.assignment, event, "assignment")
    assignment.status = "confirmed"
    assignment.confirmed_at = event.at
    changes.touch(assignment, event)


def _assignment_closed(status: str) -> Step:
    def step(changes: Changes, person: Person, event: Event) -> None:
        assignment = _there(person.assignment, event, "assignment")
        assignment.status = status
        assignment.closed_at = event.at
        assignment.end_cause = event.data.get("cause")
        assignment.operator_since = None
        changes.touch(assignment, event)
        person.assignment = None

    return step


def _operator(authorized: bool) -> Step:
    def step(changes: Changes, person: Person, event: Event) -> None:
        assignment = _there(person.assignment, event, "site")
        assignment.operator_since = event.at if authorized else None
        changes.touch(assignment, event)

    return step


def _entry_scanned(changes: Changes, person: Person, event: Event) -> None:
    # A second waiting one is left to the table's unique index.
    data = event.data
    person.entry = Entry(
        person.person,
        event.version,
        event.version,
        data["entry"],
        data["site"],
        data["employer"],
        "waiting",
        event.at,
    )
    changes.touch(person.entry, event)


def _entry_lapsed(changes: Changes, person: Person, event: Event) -> None:
    entry = _there(person.entry, event, "entry")
    entry.status = "lapsed"
    entry.closed_at = event.at
    changes.touch(entry, event)
    person.entry = None


def _presence_started(changes: Changes, person: Person, event: Event) -> None:
    # A second open one is left to the table's unique index, a missing confirmed assignment at the
    # site to its foreign key.
    data = event.data
    entry = person.entry
    if entry is not None and entry.entry == data["entry"]:
        entry.status = "processed"
        entry.closed_at = event.at
        changes.touch(entry, event)
        person.entry = None
    person.presence = Presence(
        person.person,
        event.version,
        event.version,
        data["entry"],
        person.assignment.assignment if person.assignment else None,
        data["site"],
        data["employer"],
        event.at,
    )
    changes.touch(person.presence, event)


def _presence_ended(changes: Changes, person: Person, event: Event) -> None:
    presence = _there(person.presence, event, "site")
    presence.ended_at = event.at
    presence.end_cause = event.data.get("cause")
    changes.touch(presence, event)
    person.presence = None


def _exit_registered(changes: Changes, person: Person, event: Event) -> None:
    presence = _there(person.presence, event, "site")
    presence.exit_registered_at = event.at
    changes.touch(presence, event)


def _attendance(changes: Changes, person: Person, event: Event) -> None:
    changes.attendance.append(attendance_line(event))


APPLY: Final[dict[str, Step]] = {
    "identity.submitted": _identity("submitted"),
    "identity.verified": _identity("verified"),
    "identity.failed": _identity("failed"),
    "offer.parked": _offer_parked,
    "offer.made": _offer_made,
    "offer.withdrawn": _offer_closed("withdrawn"),
    "offer.refused": _offer_closed("refused"),
    "offer.accepted": _offer_closed("accepted"),
    "offer.superseded": _offer_closed("superseded"),
    "offer.expired": _offer_closed("expired"),
    "employment.started": _employment_started,
    "employment.registered": _employment_registered,
    "employment.ended": _employment_ended,
    "dismissal.requested": _dismissal(True),
    "dismissal.withdrawn": _dismissal(False),
    "dismissal.refused": _dismissal(False),
    "departure.requested": _departure(True),
    "departure.withdrawn": _departure(False),
    "departure.refused": _departure(False),
    "assignment.requested": _assignment_requested,
    "assignment.confirmed": _assignment_confirmed,
    "assignment.withdrawn": _assignment_closed("withdrawn"),
    "assignment.rejected": _assignment_closed("rejected"),
    "assignment.ended": _assignment_closed("ended"),
    "operator.authorized": _operator(True),
    "operator.revoked": _operator(False),
    "entry.scanned": _entry_scanned,
    "entry.lapsed": _entry_lapsed,
    "presence.started": _presence_started,
    "presence.ended": _presence_ended,
    "exit.registered": _exit_registered,
    "attendance.recorded": _attendance,
}


def _there(row: _Row | None, event: Event, field_name: str = "employer") -> _Row:
    """The open row the event speaks of."""
    if row is None or getattr(row, field_name) != event.data[field_name]:
        raise Misfit(f"{_named(event)}: nothing open that it could change")
    return row


def _named(event: Event) -> str:
    return f"{event.type} at {where(event.record)}"
