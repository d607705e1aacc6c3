"""What tests share: one real broker and one real PostgreSQL a session, both started on first use
and ended with the session, and names of one's own on them."""

import os
import shutil
import signal
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import psutil
import pytest

from local.broker import Broker
from local.database import Database

HOMES = Path(tempfile.gettempdir()) / f"realname-tests-{os.getuid()}"
HEAP_MB = 320


def pytest_configure() -> None:
    # A terminated session ends its processes like an interrupted one.
    signal.signal(signal.SIGTERM, signal.default_int_handler)


@pytest.fixture(scope="session")
def home() -> Iterator[Path]:
    """Where this session's servers live. What a killed session left behind ends here too."""
    for left in HOMES.glob("*"):
        if not psutil.pid_exists(int(left.name)):
            Broker(left).kill()
            Database(left).kill()
            shutil.rmtree(left, ignore_errors=True)
    home = HOMES / str(os.getpid())
    home.mkdir(parents=True)
    yield home
    shutil.rmtree(home)


@pytest.fixture(scope="session")
def broker(home: Path) -> Iterator[str]:
    """`host:port` of a real broker; isolate topics by `prefix`."""
    with Broker(home, heap_mb=HEAP_MB) as server:
        yield server.bootstrap


@pytest.fixture(scope="session")
def database_server(home: Path) -> Iterator[str]:
    """The URI of a real PostgreSQL's `postgres` database."""
    with Database(home) as server:
        yield server.uri


@pytest.fixture
async def database(database_server: str) -> AsyncIterator[str]:
    """The URI of a fresh, empty database."""
    name = f"test_{uuid.uuid4().hex}"
    admin = await asyncpg.connect(database_server)
    try:
        await admin.execute(f"CREATE DATABASE {name}")
        yield database_server.rpartition("/")[0] + f"/{name}"
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        await admin.close()


@pytest.fixture
def prefix() -> str:
    """A topic prefix that no other test uses."""
    return f"t{uuid.uuid4().hex[:12]}."
