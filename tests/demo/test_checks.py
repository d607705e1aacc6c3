"""Checks that cannot fail check nothing: each is shown what it is there to find."""

import asyncpg
import pytest

from demo.checks import INVARIANTS
from demo.picture import of_model, of_tables
from projector.migrate import migrate
from tests.demo.rehearsing import rehearse

PLANTED = {
    "one active employment a person": [
        "drop index realname.employments_one_active",
        "insert into realname.employments (person, since, version, employer, status, started_at) "
        "values ('p', 1, 1, 'a', 'active', now()), ('p', 2, 2, 'b', 'active', now())",
    ],
    "one live assignment a person": [
        "drop index realname.assignments_one_live",
        "insert into realname.assignments (person, since, version, assignment, site, employer, "
        "status, requested_at) values ('p', 1, 1, 'a', 's', 'e', 'requested', now()), "
        "('p', 2, 2, 'b', 't', 'e', 'confirmed', now())",
    ],
    "present only where employed and confirmed": [
        "insert into realname.assignments (person, since, version, assignment, site, employer, "
        "status, requested_at) values ('p', 1, 1, 'a', 's', 'e', 'confirmed', now())",
        "insert into realname.presences (person, since, version, entry, site, employer, "
        "started_at) values ('p', 2, 2, 'x', 's', 'e', now())",
    ],
    "versions without gaps": [
        "insert into realname.persons (person, version) values ('p', 2)",
        "insert into realname.events values ('p', 1, 't', now(), 'c', '{}', 't', 0, 0), "
        "('p', 3, 't', now(), 'c', '{}', 't', 0, 1)",
    ],
    "every event is named by one accepted outcome": [
        "insert into realname.events values ('p', 1, 't', now(), 'c', '{}', 't', 0, 0)",
    ],
    "rejected and duplicate make no events": [
        "insert into realname.outcomes values ('t', 0, 0, 'p', 'c', 's', 't', 'rejected', 'x', 1, "
        "'{p:1}', null, 1, now(), now())",
    ],
    "attendance only while present": [
        "insert into realname.presences (person, since, version, entry, site, employer, "
        "started_at, ended_at) values ('p', 1, 1, 'x', 's', 'e', '2026-01-01', '2026-01-02')",
        "insert into realname.attendance values ('p', 2, '2026-01-03', '2026-01-03', 's', 'e', "
        "null, 'self', null)",
    ],
    "operators are managers with a confirmed assignment": [
        "insert into realname.assignments (person, since, version, assignment, site, employer, "
        "status, requested_at, operator_since) "
        "values ('p', 1, 1, 'a', 's', 'e', 'confirmed', now(), now())",
    ],
}


@pytest.mark.parametrize("name", INVARIANTS)
async def test_an_invariant_that_is_broken_is_found(database: str, name: str) -> None:
    connection = await asyncpg.connect(database)
    try:
        await migrate(connection)
        assert await connection.fetch(INVARIANTS[name]) == []
        for statement in PLANTED[name]:
            await connection.execute(statement)
        assert await connection.fetch(INVARIANTS[name]) != []
    finally:
        await connection.close()


async def test_the_pictures_ask_the_same_questions(database: str) -> None:
    """Every table of the picture is in the story, so an empty database fails each of them."""
    play, model = await rehearse()
    cast = play.cast
    expected = of_model(model, play.played.values(), cast)
    assert all(counts.total() > 0 for counts in expected.values())
    connection = await asyncpg.connect(database)
    try:
        await migrate(connection)
        picture = await of_tables(connection, cast)
    finally:
        await connection.close()
    assert picture.keys() == expected.keys()
    assert all(counts.total() == 0 for counts in picture.values())
