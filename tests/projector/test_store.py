"""The tables on a real PostgreSQL: migrations, constraints, the transaction of a batch."""

import asyncio
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncpg
import orjson
import pytest

from projector import store
from projector.fold import Changes, Person
from projector.migrate import MigrationRefused, migrate, migrations
from projector.records import digest, read_dead_letter, read_event, read_outcome
from projector.store import START, Move, Overtaken, Progress, commit, load, read_progress
from projector.tables import describe
from schemas.reasons import REASONS
from tests.projector import model, writing
from tests.projector.histories import Decision, Histories
from tests.projector.test_fold import Record, event, topics_of

ONE, TWO = "1" * 32, "2" * 32
EMPLOYER = {"employer": "91350100M000100Y43"}
PLACE = ("identity-changes", 0)


def folded(*records: Record, people: dict[str, Person] | None = None) -> Changes:
    people = {} if people is None else people
    changes = Changes()
    for record in records:
        made = read_event(record.topic, record)
        changes.apply(people.setdefault(made.person, Person(made.person)), made)
    return changes


async def write(connection: Any, changes: Changes) -> None:
    await commit(connection, changes.freeze(), {})


# --- migrations ----------------------------------------------------------------------------------


async def test_migrations_are_applied_once_even_by_two_at_a_time(database: str) -> None:
    connections = [await writing.connect(database) for _ in range(3)]
    applied = await asyncio.gather(*map(migrate, connections))
    names = [one.name for one in migrations()]
    assert Counter(name for each in applied for name in each) == Counter(names)
    words = await connections[0].fetch("select * from realname.reason_codes")
    assert {row["code"]: (row["zh"], row["en"]) for row in words} == REASONS
    for connection in connections:
        await connection.close()


async def test_a_changed_file_is_refused(tables: Any) -> None:
    first, *others = migrations()
    with pytest.raises(MigrationRefused, match="must not change"):
        await migrate(tables, (replace(first, sha256="0" * 64), *others))


async def test_an_older_program_is_refused(tables: Any) -> None:
    with pytest.raises(MigrationRefused, match="newer program"):
        await migrate(tables, migrations()[:1])


async def test_a_failing_file_leaves_nothing(tables: Any) -> None:
    number = len(migrations()) + 1
    bad = replace(migrations()[0], number=number, sql="create table realname.half (); select 1 / 0")
    with pytest.raises(asyncpg.DivisionByZeroError):
        await migrate(tables, (*migrations(), bad))
    assert await tables.fetchval("select to_regclass('realname.half')") is None
    assert await tables.fetchval("select max(number) from realname.migrations") == number - 1
    await migrate(tables)  # and the lock is free again


async def test_everything_that_analysts_see_is_explained(tables: Any) -> None:
    silent = await tables.fetch(
        "select c.relname from pg_class c where c.relnamespace = 'realname'::regnamespace "
        "and c.relkind in ('r', 'v') and obj_description(c.oid, 'pg_class') is null"
    )
    assert {row[0] for row in silent} <= {"migrations"}


# --- constraints ---------------------------------------------------------------------------------


async def test_two_active_employments_are_refused(tables: Any) -> None:
    double = [
        event(ONE, 1, "identity.submitted"),
        event(ONE, 2, "employment.started", **EMPLOYER),
        event(ONE, 3, "employment.started", **EMPLOYER),
    ]
    people: dict[str, Person] = {}
    with pytest.raises(asyncpg.UniqueViolationError, match="employments_one_active"):
        await write(tables, folded(*double))  # within a batch
    await write(tables, folded(*double[:2], people=people))
    with pytest.raises(asyncpg.UniqueViolationError, match="employments_one_active"):
        await write(tables, folded(double[2], people=people))  # and across batches
    assert await tables.fetchval("select count(*) from realname.employments") == 1


async def test_two_live_assignments_and_two_presences_are_refused(tables: Any) -> None:
    there = {**EMPLOYER, "site": "s1"}
    requested = event(ONE, 1, "assignment.requested", assignment="a", **there)
    confirmed = event(ONE, 2, "assignment.confirmed", assignment="a", **there)
    present = event(ONE, 3, "presence.started", entry="e", **there)
    people: dict[str, Person] = {}
    await write(tables, folded(requested, confirmed, present, people=people))
    with pytest.raises(asyncpg.UniqueViolationError, match="presences_one_present"):
        await write(
            tables, folded(event(ONE, 4, "presence.started", entry="f", **there), people=people)
        )
    people = await load(tables, [ONE])
    again = event(ONE, 4, "assignment.requested", assignment="b", **there)
    with pytest.raises(asyncpg.UniqueViolationError, match="assignments_one_live"):
        await write(tables, folded(again, people=people))


async def test_presence_needs_a_confirmed_assignment_at_its_site(tables: Any) -> None:
    there = {**EMPLOYER, "site": "s1"}
    requested = event(ONE, 1, "assignment.requested", assignment="a", **there)
    confirmed = event(ONE, 2, "assignment.confirmed", assignment="a", **there)
    elsewhere = {**EMPLOYER, "site": "s2"}
    for history in (
        [event(ONE, 1, "presence.started", entry="e", **there)],
        [requested, event(ONE, 2, "presence.started", entry="e", **there)],
        [requested, confirmed, event(ONE, 3, "presence.started", entry="e", **elsewhere)],
    ):
        with pytest.raises(asyncpg.ForeignKeyViolationError):
            await write(tables, folded(*history))
    present = event(ONE, 3, "presence.started", entry="e", **there)
    people: dict[str, Person] = {}
    await write(tables, folded(requested, confirmed, present, people=people))
    ended = folded(event(ONE, 4, "assignment.ended", assignment="a", **there), people=people)
    with pytest.raises(asyncpg.ForeignKeyViolationError):
        await write(tables, ended)


async def test_a_version_and_an_origin_stand_once(tables: Any) -> None:
    submitted = event(ONE, 1, "identity.submitted")
    await write(tables, folded(submitted))
    with pytest.raises((asyncpg.UniqueViolationError, Overtaken)):
        await write(tables, folded(submitted))
    letter = read_dead_letter(
        Record("dead-letters", 0, 0, 5, b"\0", writing.dead_letter(7, b"\0\xff", "base64"))
    )
    changes = Changes()
    changes.plain["dead-letters"].append(letter)
    await write(tables, changes)
    assert await tables.fetchval("select value from realname.dead_letters") == b"\0\xff"
    with pytest.raises(asyncpg.UniqueViolationError, match="dead_letters"):
        await write(tables, changes)


# --- the transaction -----------------------------------------------------------------------------


async def test_rows_and_progress_are_one(tables: Any) -> None:
    await store.begin_progress(tables, [PLACE])
    record = event(ONE, 1, "identity.submitted")
    rows = folded(record).freeze()
    after = Progress(2, 1, digest(record))
    await commit(tables, rows, {PLACE: Move(START, after)})
    assert await read_progress(tables) == {PLACE: after}
    more = folded(event(TWO, 1, "identity.submitted")).freeze()
    with pytest.raises(Overtaken):
        await commit(tables, more, {PLACE: Move(START, Progress(3, 2, b"x"))})
    assert await tables.fetchval("select count(*) from realname.events") == 1
    assert await read_progress(tables) == {PLACE: after}


async def test_whatever_a_text_holds_comes_back(tables: Any) -> None:
    """Tabs and newlines part COPY's values, backslashes escape, braces and quotes make an array."""
    text = "\\N\\.\t\r\n\\t\b\v\x7f'\"{,}\u2028工地\\"
    event_ = event(ONE, 1, "identity.failed", reason=text)
    decision = Decision(ONE, text, text, "2026-03-01T00:00:00Z", "rejected", text, 0, [], text)
    outcome = orjson.loads(decision.outcome((text, 0, 0)))
    outcome["data"]["events"] = [text, "", "null", "a,b"]
    plain = decision.outcome(("t", 0, 0)).replace(orjson.dumps(text), b'"\\\\N"')
    changes = folded(event_)
    changes.plain["outcomes"] += [
        read_outcome(Record("outcomes", 0, 0, 0, None, value))
        for value in (orjson.dumps(outcome), plain)
    ]
    await write(tables, changes)
    data = await tables.fetchval("select data from realname.events")
    assert orjson.loads(data) == {"reason": text}
    columns = "origin_topic, command, command_type, code, batch, events"
    rows = await tables.fetch(f"select {columns} from realname.outcomes order by events desc")
    assert tuple(rows[0]) == (text, text, text, text, text, outcome["data"]["events"])
    assert tuple(rows[1]) == ("t", r"\N", r"\N", r"\N", r"\N", [])


async def test_a_version_that_is_not_higher_never_overwrites(tables: Any) -> None:
    await write(tables, folded(event(ONE, 1, "identity.submitted")))
    late = folded(event(ONE, 1, "identity.failed")).freeze()
    with pytest.raises(Overtaken):
        await commit(tables, late._replace(history={}), {})
    assert await tables.fetchval("select identity from realname.persons") == "submitted"


async def test_persons_come_back_as_they_were_written(tables: Any) -> None:
    """In small batches, everybody read again before each: the tables are all the memory."""
    decisions = list(Histories(11, 8).decisions(400))
    made = [event for decision in decisions for event in decision.events]
    records = {(e.person, e.version): e for e in made}
    assert len(records) == len(made)
    offsets = topics_of(decisions)
    for begin in range(0, len(made), 37):
        batch = made[begin : begin + 37]
        people = await load(tables, {one.person for one in batch})
        changes = Changes()
        for one in batch:
            record = offsets[one.topic].popleft()
            changes.apply(people[one.person], read_event(one.topic, record))
        await write(tables, changes)
    held = await writing.tables(tables)
    for name, rows in model.tables(decisions).items():
        assert held[name] == rows, name


async def test_reset_forgets_rows_and_progress_together(tables: Any) -> None:
    await store.begin_progress(tables, [PLACE])
    await write(tables, folded(event(ONE, 1, "identity.submitted")))
    await store.reset(tables)
    assert await read_progress(tables) == {}
    assert await tables.fetchval("select count(*) from realname.events") == 0
    assert await tables.fetchval("select count(*) from realname.reason_codes") == len(REASONS)


async def test_the_page_about_the_tables_is_true(tables: Any) -> None:
    page = Path(__file__).parents[2] / "docs" / "tables.md"
    assert page.read_text("utf-8") == await describe(tables)
