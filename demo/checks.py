"""Whether the tables say what was played: all answers, all events, the picture, the invariants."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

import orjson

from demo.acting import Play, Played
from demo.cast import Cast
from demo.client import DEAD_LETTER, Origin
from demo.model import Model, ModelEvent
from demo.picture import Connection, Picture, digest, of_model, of_tables
from demo.wire import Wire
from schemas.forms import time_ms
from schemas.limits import SECOND_MS

SHOWN: Final = 5
"""Differences that a failed check shows; their number it always tells."""


class Check(NamedTuple):
    """`wrong` has what differs, and is empty where all is as it must be."""

    zh: str
    en: str
    wrong: tuple[str, ...]


INVARIANTS: Final = {
    "one active employment a person": (
        "select person from realname.employments where status = 'active' "
        "group by 1 having count(*) > 1"
    ),
    "one live assignment a person": (
        "select person from realname.assignments where status in ('requested', 'confirmed') "
        "group by 1 having count(*) > 1"
    ),
    "present only where employed and confirmed": (
        "select person from realname.presences p where ended_at is null and not exists ("
        "select from realname.assignments a join realname.employments e using (person) "
        "where a.person = p.person and a.site = p.site and a.status = 'confirmed' "
        "and e.status = 'active' and e.employer = p.employer)"
    ),
    "versions without gaps": (
        "select person from realname.persons join realname.events using (person) "
        "group by person, persons.version "
        "having count(*) <> persons.version or max(events.version) <> persons.version"
    ),
    "every event is named by one accepted outcome": (
        "select coalesce(e.person, o.person) from realname.events e full join ("
        "select person, command, unnest(events) as id from realname.outcomes "
        "where status = 'accepted') o "
        "on o.id = e.person || ':' || e.version and o.command = e.command "
        "where o.id is null or e.person is null"
    ),
    "rejected and duplicate make no events": (
        "select person from realname.outcomes where status <> 'accepted' and events <> '{}'"
    ),
    "attendance only while present": (
        "select person from realname.attendance a where not exists ("
        "select from realname.presences p where p.person = a.person and p.site = a.site "
        "and a.time between p.started_at and coalesce(p.ended_at, 'infinity'))"
    ),
    "operators are managers with a confirmed assignment": (
        "select a.person from realname.assignments a left join realname.employments e "
        "on e.person = a.person and e.status = 'active' where a.operator_since is not null "
        "and (a.status <> 'confirmed' or e.role is distinct from 'manager')"
    ),
}
"""What can never be, as queries for those for whom it is."""


async def check(
    connection: Connection, play: Play, rehearsal: Play, model: Model, wire: Wire
) -> tuple[Picture, str, list[Check]]:
    """The closing picture, its digest, and all checks. `rehearsal` is the play on the model."""
    cast = play.cast
    picture = await of_tables(connection, cast)
    outcomes = await connection.fetch("select * from realname.outcomes")
    letters = await connection.fetch("select * from realname.dead_letters")
    events = await connection.fetch("select * from realname.events")
    handles = {person.id: person.handle for person in cast.people}

    def who(row: Any) -> str:
        return handles.get(row[0], str(row[0]))

    checks = [
        Check("按剧本应答", "answers as the script says", tuple(play.surprises)),
        Check("按规则应答", "answers as the rules say", tuple(_answers(play, rehearsal))),
        Check("不丢不重", "each answered once", tuple(_once(play, wire, outcomes, letters))),
        Check("事件一致", "events as the rules make them", tuple(_events(cast, model, events))),
        Check("统计一致", "the closing picture", tuple(_pictures(picture, rehearsal, model))),
        *[
            Check("不变量", name, tuple(who(row) for row in await connection.fetch(query)))
            for name, query in INVARIANTS.items()
        ],
        Check("不泄露个人信息", "no name, no ID number", tuple(_leaks(cast, outcomes, events))),
    ]
    history = (
        (
            row["person"],
            ModelEvent(
                row["version"],
                row["type"],
                _ms(row["time"]),
                row["command"],
                orjson.loads(row["data"]),
            ),
        )
        for row in events
    )
    return picture, digest(cast, picture, history), checks


def _answers(play: Play, rehearsal: Play) -> Iterator[str]:
    for label in play.played.keys() | rehearsal.played.keys():
        here, there = play.played.get(label), rehearsal.played.get(label)
        if here is None or there is None:
            yield f"{label} was not sent {'at all' if here is None else 'in the rehearsal'}"
        elif here.answer != there.answer:
            yield f"{label} {here.message.topic}: {here.answer}, by the rules {there.answer}"


def _once(play: Play, wire: Wire, outcomes: Sequence[Any], letters: Sequence[Any]) -> Iterator[str]:
    """Every message has its one row, with the answer that its sender got; there are no others."""
    yield from (f"answered twice: {origin}" for origin in wire.twice)
    yield from (f"answered and not sent: {origin}" for origin in wire.unasked)
    rows = {_origin(row): row for row in (*outcomes, *letters)}
    for one in play.played.values():
        row = rows.pop(one.origin, None)
        if row is None:
            yield f"{one.label} is not in the tables"
            continue
        stored = _as_stored(row)
        for name, value in _as_played(one).items():
            if stored[name] != value:
                yield f"{one.label}: {name} is {stored[name]} in the tables, not {value}"
    yield from (f"in the tables and not sent: {place}" for place in rows)


def _origin(row: Any) -> Origin:
    # The play's topics have no prefix.
    return Origin(row["origin_topic"], row["origin_partition"], row["origin_offset"])


def _as_played(one: Played) -> dict[str, Any]:
    assert one.answer is not None
    if one.answer.status == DEAD_LETTER:
        value = one.message.value or b""
        return {
            "code": one.answer.code,
            "key": one.message.key,
            "length": len(value),
            "sha256": hashlib.sha256(value).hexdigest(),
        }
    envelope = one.envelope
    return {
        **one.answer._asdict(),
        "person": envelope["subject"],
        "command": envelope["id"],
        "command_source": envelope["source"],
        "command_type": envelope["type"],
        "batch": envelope["data"].get("batch"),
        "time": time_ms(envelope["time"]),
    }


def _as_stored(row: Any) -> dict[str, Any]:
    stored = dict(row)
    if "time" in stored:
        stored |= {"time": _ms(stored["time"]), "events": tuple(stored["events"])}
    return stored


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * SECOND_MS)


def _events(cast: Cast, model: Model, events: Iterable[Any]) -> Iterator[str]:
    expected = {
        (person, event.version): (event.type, event.at_ms, event.command, dict(event.data))
        for person, event in model.history()
    }
    handles = {person.id: person.handle for person in cast.people}
    for row in events:
        data = orjson.loads(row["data"])
        wanted = expected.pop((row["person"], row["version"]), None)
        found = (row["type"], _ms(row["time"]), row["command"], data)
        if found != wanted:
            who = handles.get(row["person"], "somebody else")
            yield f"{who}, version {row['version']}: {found}, by the rules {wanted}"
    for person, version in expected:
        yield f"{handles[person]}, version {version}: not in the tables"


def _pictures(picture: Picture, rehearsal: Play, model: Model) -> Iterator[str]:
    wanted = of_model(model, rehearsal.played.values(), rehearsal.cast)
    for name, counts in picture.items():
        for row in counts.keys() | wanted[name].keys():
            if counts[row] != wanted[name][row]:
                yield f"{name}, {row}: {counts[row]}, by the rules {wanted[name][row]}"


def _leaks(cast: Cast, outcomes: Iterable[Any], events: Iterable[Any]) -> Iterator[str]:
    text = "\n".join(str(tuple(row)) for row in (*outcomes, *events))
    for person in cast.people:
        if person.name in text or person.id_number in text:
            yield f"{person.handle}'s details are in the tables"


async def all_rows(connection: Connection) -> dict[str, list[str]]:
    """Every row of every table that a rebuild makes, as text in the order of its key."""
    tables = await connection.fetch(
        "select tablename from pg_tables where schemaname = 'realname' "
        "and tablename not in ('migrations', 'progress')"
    )
    return {
        name: [
            row[0]
            for row in await connection.fetch(f"select t::text from realname.{name} t order by 1")
        ]
        for (name,) in tables
    }
