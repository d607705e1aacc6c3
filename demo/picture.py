"""The closing picture: what there is to see at the end, by the model and by the tables.

A picture is tables of counts whose rows are the same in every play: firms by their short names,
days as days of the play. `of_model` folds the model's events by itself, `of_tables` asks SQL, and
neither knows of the other.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable
from typing import Any, Final, TypeAlias

import asyncpg
import orjson

from demo.acting import Played
from demo.cast import Cast
from demo.client import DEAD_LETTER
from demo.model import Model, ModelEvent

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
Row: TypeAlias = tuple[str | int | None, ...]
Picture = dict[str, Counter[Row]]

_QUERIES: Final = {
    "identities": "select identity, count(*) from realname.persons group by 1",
    "offers": "select employer, status, cause, count(*) from realname.offers group by 1, 2, 3",
    "open offers": "select employer, status, count(*) from realname.open_offers group by 1, 2",
    "employments": (
        "select employer, status, role, end_cause, count(*) from realname.employments "
        "group by 1, 2, 3, 4"
    ),
    "pending ends": "select employer, kind, count(*) from realname.pending_ends group by 1, 2",
    "assignments": (
        "select site, status, end_cause, count(*) from realname.assignments group by 1, 2, 3"
    ),
    "operators": (
        "select site, employer, count(*) from realname.assignments "
        "where operator_since is not null group by 1, 2"
    ),
    "entries": "select site, status, count(*) from realname.entries group by 1, 2",
    "pending entries": "select site, count(*) from realname.pending_entries group by 1",
    "presences": (
        "select site, employer, end_cause, count(*) from realname.presences group by 1, 2, 3"
    ),
    "on site now": (
        "select site, employer, role, trade, sum(persons)::bigint from realname.on_site_counts "
        "group by 1, 2, 3, 4"
    ),
    "pending exits": "select site, count(*) from realname.pending_exits group by 1",
    "attendance": (
        "select site, day::text, method, direction, count(*) from realname.attendance "
        "group by 1, 2, 3, 4"
    ),
    "people a day": (
        "select site, day::text, count(distinct person) from realname.attendance group by 1, 2"
    ),
    "attendance days": (
        "select employer, days::bigint, count(*) from (select employer, person, sum(days) as days "
        "from realname.attendance_days group by 1, 2) each_person group by 1, 2"
    ),
    "answers": "select status, code, count(*) from realname.outcomes group by 1, 2",
    "batches": (
        "select batch, status, count(*) from realname.outcomes where batch is not null "
        "group by 1, 2"
    ),
    "rejections": "select code, sum(commands)::bigint from realname.rejections group by 1",
    "dead letters": "select code, count(*) from realname.dead_letters group by 1",
}


async def of_tables(connection: Connection, cast: Cast) -> Picture:
    """The picture that PostgreSQL shows."""
    shorten = _shortener(cast)
    picture: Picture = {}
    for name, query in _QUERIES.items():
        counts: Counter[Row] = Counter()
        for record in await connection.fetch(query):
            *row, count = record
            counts[shorten(row)] += count
        picture[name] = counts
    return picture


def of_model(model: Model, played: Iterable[Played], cast: Cast) -> Picture:
    """The picture that the model expects."""
    picture: Picture = {name: Counter() for name in _QUERIES}
    for history in model.events.values():
        if history:
            _Life(picture).live(history)
    for one in played:
        assert one.answer is not None
        status, code, *_ = one.answer
        if status == DEAD_LETTER:
            picture["dead letters"][code,] += 1
            continue
        picture["answers"][status, code] += 1
        if status == "rejected":
            picture["rejections"][code,] += 1
        if batch := one.envelope["data"].get("batch"):
            picture["batches"][batch, status] += 1
    shorten = _shortener(cast)
    short: Picture = {}
    for name, counts in picture.items():
        short[name] = Counter()
        for row, count in counts.items():
            short[name][shorten(row)] += count
    return short


def digest(cast: Cast, picture: Picture, history: Iterable[tuple[str, ModelEvent]]) -> str:
    """Stands for the picture and every event (person, event) behind it; the same for every play of
    a seed, on whatever day: people by their handles, times from the play's beginning."""
    handles = {person.id: person.handle for person in cast.people}
    lines = []
    for person, event in history:
        data = dict(event.data)
        if "scanner" in data:
            data["scanner"] = handles[data["scanner"]]
        if "day" in data:
            data["day"] = cast.calendar.day_of(data["day"])
        since_ms = event.at_ms - cast.calendar.start_ms
        lines.append(
            [handles.get(person), event.version, event.type, since_ms, event.command, data]
        )
    lines.sort(key=lambda line: (str(line[0]), line[1]))
    counts = {
        name: sorted([*map(str, row), count] for row, count in rows.items())
        for name, rows in picture.items()
    }
    written = orjson.dumps([counts, lines], option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(written).hexdigest()[:16]


def _shortener(cast: Cast) -> Any:
    firms = {firm.uscc: firm.short for firm in (*cast.firms.values(), *cast.fair)}

    def shorten(row: Iterable[Any]) -> Row:
        return tuple(_short(value) for value in row)

    def _short(value: Any) -> Any:
        if isinstance(value, str):
            if value in firms:
                return firms[value]
            if len(value) == 10 and value[4] == value[7] == "-" and value[:4].isdigit():
                return f"day {cast.calendar.day_of(value)}"
        return value

    return shorten


class _Life:
    """One person's events, followed from the first to the last into the counts of a picture."""

    def __init__(self, picture: Picture) -> None:
        self._picture = picture
        self._identity: str | None = None
        self._offers: dict[str, tuple[str, str]] = {}
        self._employer: str | None = None
        self._role: str | None = None
        self._trade: str | None = None
        self._pending: set[str] = set()
        self._assignment: tuple[str, str, str] | None = None
        self._operator = False
        self._entry: str | None = None
        self._presence: tuple[str, str] | None = None
        self._exiting = False
        self._days: dict[str, set[str]] = {}
        self._seen: set[tuple[str, str]] = set()

    def live(self, history: Iterable[ModelEvent]) -> None:
        for event in history:
            family, _, step = event.type.partition(".")
            getattr(self, f"_{family}_event")(step, event.data)
        self._rest()

    def _count(self, table: str, *row: str | int | None) -> None:
        self._picture[table][row] += 1

    def _identity_event(self, step: str, data: Any) -> None:
        self._identity = step

    def _offer_event(self, step: str, data: Any) -> None:
        if step in ("parked", "made"):
            self._offers[data["offer"]] = data["employer"], step
        else:
            employer, _ = self._offers.pop(data["offer"])
            self._count("offers", employer, step, data.get("cause"))

    def _employment_event(self, step: str, data: Any) -> None:
        if step == "started":
            self._employer, self._role, self._trade = data["employer"], None, None
        elif step == "registered":
            self._role, self._trade = data["role"], data.get("trade")
        else:
            self._count("employments", self._employer, "ended", self._role, data["cause"])
            self._employer = None
            self._pending.clear()

    def _dismissal_event(self, step: str, data: Any) -> None:
        (self._pending.add if step == "requested" else self._pending.discard)("dismissal")

    def _departure_event(self, step: str, data: Any) -> None:
        (self._pending.add if step == "requested" else self._pending.discard)("departure")

    def _assignment_event(self, step: str, data: Any) -> None:
        if step in ("requested", "confirmed"):
            self._assignment = data["site"], data["employer"], step
        else:
            self._count("assignments", data["site"], step, data.get("cause"))
            self._assignment, self._operator = None, False

    def _operator_event(self, step: str, data: Any) -> None:
        self._operator = step == "authorized"

    def _entry_event(self, step: str, data: Any) -> None:
        if step == "scanned":
            self._entry = data["site"]
        else:
            self._count("entries", self._entry, "lapsed")
            self._entry = None

    def _presence_event(self, step: str, data: Any) -> None:
        if step == "started":
            self._presence, self._exiting = (data["site"], data["employer"]), False
            if self._entry is not None:
                self._count("entries", self._entry, "processed")
                self._entry = None
        else:
            self._count("presences", *self._presence or (), data["cause"])
            self._presence = None

    def _exit_event(self, step: str, data: Any) -> None:
        self._exiting = True

    def _attendance_event(self, step: str, data: Any) -> None:
        site, day = data["site"], data["day"]
        self._count("attendance", site, day, data["method"], data.get("direction"))
        if (site, day) not in self._seen:
            self._seen.add((site, day))
            self._count("people a day", site, day)
        self._days.setdefault(data["employer"], set()).add(day)

    def _rest(self) -> None:
        """What is open at the end."""
        self._count("identities", self._identity)
        for employer, status in self._offers.values():
            self._count("offers", employer, status, None)
            self._count("open offers", employer, status)
        if self._employer:
            self._count("employments", self._employer, "active", self._role, None)
            for kind in self._pending:
                self._count("pending ends", self._employer, kind)
        if self._assignment:
            site, employer, status = self._assignment
            self._count("assignments", site, status, None)
            if self._operator:
                self._count("operators", site, employer)
        if self._entry:
            self._count("entries", self._entry, "waiting")
            self._count("pending entries", self._entry)
        if self._presence:
            site, employer = self._presence
            self._count("presences", site, employer, None)
            self._count("on site now", site, employer, self._role, self._trade)
            if self._exiting:
                self._count("pending exits", site)
        for employer, days in self._days.items():
            self._count("attendance days", employer, len(days))
