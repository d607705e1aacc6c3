"""Brings a database to this program's tables: numbered SQL files, each applied once.

A file is applied in one transaction with the row in `realname.migrations` that remembers its
number, name and SHA-256. A database that has other files than this program, or more of them, is
refused.
"""

import hashlib
import re
from dataclasses import dataclass
from importlib.resources import files
from typing import Final

import asyncpg

from schemas.reasons import REASONS

SCHEMA: Final = "realname"

# Two advisory locks of the database; the numbers are arbitrary and must never change.
MIGRATION_LOCK: Final = 7_265_616_001
PROJECTOR_LOCK: Final = 7_265_616_002

_NAME: Final = re.compile(r"([0-9]{4})_[a-z_]+\.sql").fullmatch


class MigrationRefused(Exception):
    """The database's tables are not the ones this program knows."""


@dataclass(frozen=True, slots=True)
class Migration:
    number: int
    name: str
    sha256: str
    sql: str


def migrations() -> tuple[Migration, ...]:
    """The files of this program, in order; their numbers are 1, 2, 3 and so on."""
    found = []
    for file in files("projector").joinpath("migrations").iterdir():
        match = _NAME(file.name)
        if match:
            sql = file.read_text("utf-8")
            sha256 = hashlib.sha256(sql.encode()).hexdigest()
            found.append(Migration(int(match[1]), file.name, sha256, sql))
    found.sort(key=lambda one: one.number)
    if [one.number for one in found] != list(range(1, len(found) + 1)):
        raise RuntimeError("migration files are not numbered 1, 2, 3 ...")
    return tuple(found)


async def migrate(
    connection: asyncpg.Connection, known: tuple[Migration, ...] | None = None
) -> list[str]:
    """Applies what is missing and refreshes the words of the reason codes.

    Returns the names of the files applied. Raises `MigrationRefused` when the database has a file
    that this program lacks or has otherwise. Safe to run from several processes at once.
    """
    known = migrations() if known is None else known
    applied = []
    await connection.execute("select pg_advisory_lock($1)", MIGRATION_LOCK)
    try:
        await _prepare(connection)
        rows = await connection.fetch(
            f"select number, name, sha256 from {SCHEMA}.migrations order by number"
        )
        for row, migration in zip(rows, known, strict=False):
            if (row["number"], row["sha256"]) != (migration.number, migration.sha256):
                raise MigrationRefused(
                    f"migration {row['number']} was applied as {row['name']} with other contents "
                    f"than {migration.name} has; applied files must not change"
                )
        if len(rows) > len(known):
            raise MigrationRefused(
                f"the database is at migration {rows[-1]['number']} and this program knows "
                f"{len(known)}; run the newer program"
            )
        for migration in known[len(rows) :]:
            async with connection.transaction():
                await connection.execute(migration.sql)
                await connection.execute(
                    f"insert into {SCHEMA}.migrations (number, name, sha256) values ($1, $2, $3)",
                    migration.number,
                    migration.name,
                    migration.sha256,
                )
            applied.append(migration.name)
        await _fill_reason_codes(connection)
    finally:
        if not connection.is_closed():
            await connection.execute("select pg_advisory_unlock($1)", MIGRATION_LOCK)
    return applied


async def _prepare(connection: asyncpg.Connection) -> None:
    # Looked up first: creating, even if not exists, asks for rights that a prepared database need
    # not give.
    if await connection.fetchval("select to_regclass($1)", f"{SCHEMA}.migrations") is None:
        async with connection.transaction():
            if await connection.fetchval("select to_regnamespace($1)", SCHEMA) is None:
                await connection.execute(f"create schema {SCHEMA}")
            await connection.execute(
                f"create table {SCHEMA}.migrations (number int primary key, name text not null, "
                "sha256 text not null, applied_at timestamptz not null default now())"
            )


async def _fill_reason_codes(connection: asyncpg.Connection) -> None:
    wanted = sorted((code, reason.zh, reason.en) for code, reason in REASONS.items())
    async with connection.transaction():
        there = await connection.fetch(f"select code, zh, en from {SCHEMA}.reason_codes")
        if sorted(map(tuple, there)) != wanted:
            await connection.execute(f"delete from {SCHEMA}.reason_codes")
            await connection.copy_records_to_table(
                "reason_codes", schema_name=SCHEMA, records=wanted
            )
