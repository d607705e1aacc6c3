"""The embedded PostgreSQL: found again, stopped, killed, and its rows kept."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import psutil
import pytest

from local.database import Database, DatabaseError


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """A server that a test may end."""
    database = Database(tmp_path_factory.mktemp("database"))
    database.start()
    yield database
    database.kill()


async def execute(uri: str, statement: str) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(uri)
    try:
        return await connection.fetch(statement)
    finally:
        await connection.close()


async def test_rows_survive_stop_and_kill_at_the_same_address(own: Database) -> None:
    address = own.uri
    await execute(address, "CREATE TABLE kept (what text)")
    await execute(address, "INSERT INTO kept VALUES ('before the stop')")
    own.stop()
    assert own.pid is None

    assert own.start() == address
    await execute(address, "INSERT INTO kept VALUES ('before the kill')")
    own.kill()
    assert own.pid is None

    assert own.start() == address
    rows = await execute(address, "SELECT what FROM kept")
    assert [row["what"] for row in rows] == ["before the stop", "before the kill"]


def test_the_same_home_attaches_to_the_running_server(own: Database) -> None:
    again = Database(own.log.parent.parent)
    assert (again.start(), again.pid) == (own.start(), own.pid)


async def test_a_wrong_password_is_refused(own: Database) -> None:
    password = (own.log.parent / "password").read_text("ascii")
    with pytest.raises(asyncpg.InvalidPasswordError):
        await execute(own.uri.replace(password, "guessed"), "SELECT 1")


def test_another_programs_pid_is_not_the_server(own: Database) -> None:
    own.stop()
    pid_file = own.log.parent / "data" / "postmaster.pid"
    pid_file.write_text(f"{os.getpid()}\n", "ascii")
    assert own.pid is None
    own.start()
    assert own.pid not in (None, os.getpid())


def test_a_server_that_cannot_start_says_why(tmp_path: Path, own: Database) -> None:
    home = tmp_path / "database"
    home.mkdir()
    (home / "ports.json").write_bytes((own.log.parent / "ports.json").read_bytes())
    with pytest.raises(DatabaseError, match=r"(?s)failed.*Address already in use"):
        Database(tmp_path).start()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gets a system user")
def test_root_needs_no_sbin_on_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    user = f"realname_{os.getpid()}"
    monkeypatch.setattr("local.database.SYSTEM_USER", user)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    database = Database(tmp_path)
    try:
        database.start()
        assert database.pid is not None
        assert psutil.Process(database.pid).username() == user
    finally:
        database.kill()
        subprocess.run(["/usr/sbin/userdel", user], check=True)


async def test_each_test_has_a_fresh_database(database: str, database_server: str) -> None:
    assert database != database_server
    assert not await execute(
        database, "SELECT 1 FROM pg_class WHERE relnamespace = 'public'::regnamespace"
    )
