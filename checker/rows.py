"""Brings the rows from PostgreSQL: all as of one moment, in one read-only transaction."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import islice
from typing import Any, Final, TypeAlias

import asyncpg
import orjson

from checker.report import Report
from checker.tables import COLUMNS, KEYS, Row, Stored, Tables
from schemas.limits import CHECK_PERSONS_MAX, CHECK_STALL_MS_MAX

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

_SCHEMA: Final = "realname"
_OF_PERSONS: Final = tuple(table for table, key in KEYS.items() if key[0] == "person")
_OF_ORIGINS: Final = tuple(table for table, key in KEYS.items() if key[0] == "origin_topic")


class Rows:
    """The tables as of when they were opened."""

    def __init__(self, connection: Connection, stored: Mapping[tuple[str, int], Stored]) -> None:
        self._connection = connection
        self.stored = stored
        self.fetched = dict.fromkeys(COLUMNS, 0)
        self._persons: set[str] = set()

    @classmethod
    @asynccontextmanager
    async def open(cls, uri: str) -> AsyncIterator[Rows]:
        connection = await connect(uri)
        try:
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                yield cls(connection, await stored_offsets(connection))
        finally:
            await connection.close()

    async def of(self, number: int, persons: Collection[str], topics: Sequence[str]) -> Tables:
        """The rows of these persons, and of the commands of partition `number` of `topics` (the
        broker's names)."""
        rows: dict[str, list[Row]] = {table: [] for table in COLUMNS}
        for some in _chunks(persons):
            for table in _OF_PERSONS:
                query = f"{_select(table)} where person = any($1::text[])"
                rows[table] += map(_row, await self._connection.fetch(query, some))
        for table in _OF_ORIGINS:
            query = f"{_select(table)} where origin_topic = $1 and origin_partition = $2"
            for topic in topics:
                rows[table] += map(_row, await self._connection.fetch(query, topic, number))
        for table, found in rows.items():
            self.fetched[table] += len(found)
        self._persons.update(persons)
        return Tables(rows, self.stored)

    async def judge_others(self, report: Report, wire: Collection[str]) -> None:
        """Once all partitions were fetched: rows that are of none of them come from no record."""
        for table, fetched in self.fetched.items():
            count = await self._connection.fetchval(f"select count(*) from {_SCHEMA}.{table}")
            if count > fetched:
                report.judged("tables", count - fetched)
                examples = await self._strangers() if table in _OF_PERSONS else []
                who = f", such as {', '.join(examples)}" if examples else ""
                report.broken(
                    "tables",
                    f"{table} has {count - fetched} rows of persons or commands that are in no "
                    f"topic{who}",
                )
        for topic in sorted({topic for topic, _ in self.stored} - set(wire)):
            report.judged("positions")
            report.broken("positions", f"progress is stored of {topic}, which is no result topic")

    async def _strangers(self, most: int = 3) -> list[str]:
        found = []
        async for row in self._connection.cursor(f"select person from {_SCHEMA}.persons"):
            if row[0] not in self._persons:
                found.append(row[0])
                if len(found) == most:
                    break
        return found


async def connect(uri: str) -> Connection:
    return await asyncpg.connect(
        uri,
        timeout=CHECK_STALL_MS_MAX / 1000,
        server_settings={"application_name": "realname check", "timezone": "UTC"},
    )


async def stored_offsets(connection: Connection) -> dict[tuple[str, int], Stored]:
    """How far the tables are, by topic (the broker's name) and partition."""
    rows = await connection.fetch(
        f"select topic, partition, next_offset, last_offset from {_SCHEMA}.progress"
    )
    return {(row[0], row[1]): Stored(row[2], row[3]) for row in rows}


def _select(table: str) -> str:
    columns = ", ".join(f'"{column}"' for column in COLUMNS[table])
    return f"select {columns} from {_SCHEMA}.{table}"


def _row(found: asyncpg.Record) -> Row:
    row = dict(found)
    if isinstance(row.get("data"), str):
        row["data"] = orjson.loads(row["data"])
    return row


def _chunks(persons: Collection[str]) -> Iterator[list[str]]:
    rest: Iterator[Any] = iter(persons)
    while some := list(islice(rest, CHECK_PERSONS_MAX)):
        yield some
