"""The tables' side: what is loaded, and the one transaction that writes a batch.

Histories are written by COPY, current rows by `unnest` upserts that only a higher version passes.
The progress rows of a batch are locked first, in key order, and must stand exactly where the batch
began: then the rows are what lies between, once.
"""

from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

import asyncpg

from projector.fold import (
    COLUMNS,
    TABLES,
    Assignment,
    Employment,
    Entry,
    Offer,
    Person,
    Presence,
    Rows,
)
from projector.migrate import PROJECTOR_LOCK, SCHEMA
from schemas.limits import (
    PROJECTOR_CONNECT_MS_MAX,
    PROJECTOR_COPY_LINES_MAX,
    PROJECTOR_STATEMENT_MS_MAX,
)

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
Place = tuple[str, int]
"""A topic (wire name) and a partition."""


class Overtaken(Exception):
    """Progress in the database is not what this projector left there: another one, or a rebuild,
    was at work, or the database lost commits. Read the progress again and go on from there."""


class Progress(NamedTuple):
    """A row of `progress`: the next record to read, and the last one that is in the tables."""

    next_offset: int
    last_offset: int | None
    last_digest: bytes | None


START: Final = Progress(0, None, None)


class Move(NamedTuple):
    """What a batch does to one row of `progress`."""

    before: Progress
    after: Progress


async def connect(uri: str) -> Connection:
    """A connection whose statements end within a limit, and which the server drops soon after
    this process is gone or frozen, so that a standby gets the lock."""
    return await asyncpg.connect(
        uri,
        timeout=PROJECTOR_CONNECT_MS_MAX / 1000,
        command_timeout=PROJECTOR_STATEMENT_MS_MAX / 1000,
        server_settings={
            "application_name": "realname projector",
            "timezone": "UTC",
            "idle_in_transaction_session_timeout": str(PROJECTOR_STATEMENT_MS_MAX),
            "tcp_keepalives_idle": "10",
            "tcp_keepalives_interval": "5",
            "tcp_keepalives_count": "3",
        },
    )


async def try_lock(connection: Connection) -> bool:
    """Whether this connection is now the one that writes; it stays so until it ends."""
    return bool(await connection.fetchval("select pg_try_advisory_lock($1)", PROJECTOR_LOCK))


async def read_progress(connection: Connection) -> dict[Place, Progress]:
    rows = await connection.fetch(
        f"select topic, partition, next_offset, last_offset, last_digest from {SCHEMA}.progress"
    )
    return {(row[0], row[1]): Progress(row[2], row[3], row[4]) for row in rows}


async def begin_progress(connection: Connection, places: Iterable[Place]) -> None:
    """Gives topic-partitions that are not in the tables yet their first row."""
    ordered = sorted(places)
    await connection.execute(
        f"insert into {SCHEMA}.progress (topic, partition, next_offset) "
        "select topic, partition, 0 from unnest($1::text[], $2::int[]) as n (topic, partition) "
        "on conflict do nothing",
        [topic for topic, _ in ordered],
        [partition for _, partition in ordered],
    )


# --- loading -------------------------------------------------------------------------------------

_OPEN: Final[Mapping[type[Any], str]] = {
    Offer: "status in ('parked', 'made')",
    Employment: "status = 'active'",
    Assignment: "status in ('requested', 'confirmed')",
    Entry: "status = 'waiting'",
    Presence: "ended_at is null",
}


def _select(kind: type[Any], where: str) -> str:
    return (
        f"select {', '.join(COLUMNS[kind])} from {SCHEMA}.{TABLES[kind]} "
        f"where person = any($1::text[]) and {where}"
    )


_LOAD_PERSONS: Final = _select(Person, "true")
_LOAD_OPEN: Final = {kind: _select(kind, where) for kind, where in _OPEN.items()}


async def load(connection: Connection, persons: Collection[str]) -> dict[str, Person]:
    """The persons with their open rows; those not in the tables at version 0."""
    people = {person: Person(person) for person in persons}
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        known = []
        for row in await connection.fetch(_LOAD_PERSONS, list(persons)):
            people[row[0]] = Person(*row)
            known.append(row[0])
        if known:
            for row in await connection.fetch(_LOAD_OPEN[Offer], known):
                offer = Offer(*row)
                people[offer.person].offers[offer.offer] = offer
            for row in await connection.fetch(_LOAD_OPEN[Employment], known):
                people[row[0]].employment = Employment(*row)
            for row in await connection.fetch(_LOAD_OPEN[Assignment], known):
                people[row[0]].assignment = Assignment(*row)
            for row in await connection.fetch(_LOAD_OPEN[Entry], known):
                people[row[0]].entry = Entry(*row)
            for row in await connection.fetch(_LOAD_OPEN[Presence], known):
                people[row[0]].presence = Presence(*row)
    return people


# --- writing -------------------------------------------------------------------------------------

_TYPES: Final = {
    "since": "bigint",
    "version": "bigint",
    **dict.fromkeys(
        (
            "identity_at",
            "parked_at",
            "made_at",
            "closed_at",
            "started_at",
            "registered_at",
            "dismissal_requested_at",
            "departure_requested_at",
            "ended_at",
            "requested_at",
            "confirmed_at",
            "operator_since",
            "scanned_at",
            "exit_registered_at",
        ),
        "timestamptz",
    ),
}
"""Column types that are not text."""


def _upsert(kind: type[Any]) -> str:
    table, columns = TABLES[kind], COLUMNS[kind]
    key = ("person",) if kind is Person else ("person", "since")
    arrays = ", ".join(
        f"${number}::{_TYPES.get(column, 'text')}[]" for number, column in enumerate(columns, 1)
    )
    changes = ", ".join(f"{column} = excluded.{column}" for column in columns if column not in key)
    return (
        f"insert into {SCHEMA}.{table} as now ({', '.join(columns)}) "
        f"select * from unnest({arrays}) "
        f"on conflict ({', '.join(key)}) do update set {changes} "
        "where now.version < excluded.version"
    )


_UPSERT: Final = {TABLES[kind]: _upsert(kind) for kind in TABLES}
# A presence refers to its assignment, so assignments come before presences.
_CURRENT: Final = ("persons", "offers", "employments", "assignments", "entries", "presences")
_COPIED: Final[Mapping[str, Sequence[str]]] = {
    "events": (
        "person",
        "version",
        "type",
        "time",
        "command",
        "data",
        "topic",
        "partition",
        "offset",
    ),
    "attendance": (
        "person",
        "version",
        "day",
        "time",
        "site",
        "employer",
        "direction",
        "method",
        "scanner",
    ),
    "outcomes": (
        "origin_topic",
        "origin_partition",
        "origin_offset",
        "person",
        "command",
        "command_source",
        "command_type",
        "status",
        "code",
        "version",
        "events",
        "batch",
        "rules_version",
        "time",
        "answered_at",
    ),
    "dead_letters": (
        "origin_topic",
        "origin_partition",
        "origin_offset",
        "code",
        "detail",
        "encoding",
        "key",
        "value",
        "length",
        "sha256",
        "answered_at",
    ),
}

ROW_TABLES: Final = (*_CURRENT, *_COPIED)
"""The tables that are rebuilt from the topics."""

_LOCK_PROGRESS: Final = f"""
    select p.topic, p.partition, p.next_offset
    from {SCHEMA}.progress p
    join unnest($1::text[], $2::int[]) as batch (topic, partition) using (topic, partition)
    order by p.topic, p.partition
    for update of p
"""
_MOVE_PROGRESS: Final = f"""
    update {SCHEMA}.progress p
    set next_offset = batch.after, last_offset = batch.last, last_digest = batch.digest
    from unnest($1::text[], $2::int[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bytea[])
        as batch (topic, partition, before, after, last, digest)
    where p.topic = batch.topic and p.partition = batch.partition
      and p.next_offset = batch.before
"""


async def commit(connection: Connection, rows: Rows, moves: Mapping[Place, Move]) -> None:
    """Writes rows and progress in one transaction.

    Raises `Overtaken`, having written nothing, when progress is not at each move's `before`.
    """
    places = sorted(moves)
    topics = [topic for topic, _ in places]
    partitions = [partition for _, partition in places]
    before = [moves[place].before.next_offset for place in places]
    after = [moves[place].after for place in places]
    async with connection.transaction():
        locked = await connection.fetch(_LOCK_PROGRESS, topics, partitions)
        there = {(row[0], row[1]): row[2] for row in locked}
        if there != dict(zip(places, before, strict=True)):
            raise Overtaken
        for table, columns in _COPIED.items():
            if lines := rows.history.get(table):
                await connection.copy_to_table(
                    table, schema_name=SCHEMA, columns=columns, source=_chunks(lines)
                )
        for table in _CURRENT:
            if fresh := rows.current.get(table):
                written = await connection.execute(_UPSERT[table], *zip(*fresh, strict=True))
                if int(written.rpartition(" ")[2]) != len(fresh):
                    raise Overtaken
        moved = await connection.execute(
            _MOVE_PROGRESS,
            topics,
            partitions,
            before,
            [one.next_offset for one in after],
            [one.last_offset for one in after],
            [one.last_digest for one in after],
        )
        if moved != f"UPDATE {len(places)}":
            raise Overtaken


async def _chunks(lines: Sequence[str]) -> AsyncIterator[bytes]:
    """Pieces for the server to begin with while the next ones are made."""
    for begin in range(0, len(lines), PROJECTOR_COPY_LINES_MAX):
        yield "".join(lines[begin : begin + PROJECTOR_COPY_LINES_MAX]).encode()


async def reset(connection: Connection) -> None:
    """Empties the tables and forgets the progress, in one transaction: the next batch of whatever
    projector runs finds its progress gone, and it begins at the beginning."""
    tables = ", ".join(f"{SCHEMA}.{table}" for table in (*ROW_TABLES, "progress"))
    async with connection.transaction():
        # Progress first, as `commit` does: waiting for a batch must not end in a deadlock.
        await connection.execute(f"lock table {SCHEMA}.progress in access exclusive mode")
        await connection.execute(f"truncate {tables}")
