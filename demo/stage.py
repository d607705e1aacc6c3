"""The processes of the play, in a folder of their own: broker, database, two workers, projector.

All are real and are run as an operator runs them; nothing of them lives in the play's process. The
folder is a home like any other (`REALNAME_HOME`), so every command of `realname` works on it.
"""

import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import aiohttp
import asyncpg
import psutil

from demo.cast import Cast
from deployment.catalog import Catalog, load_catalog
from deployment.secrets import FILE, Secrets
from deployment.settings import PREFIX
from deployment.topics import apply
from local import ports, processes
from local.broker import Broker
from local.database import Database
from projector.migrate import migrate
from schemas.limits import DEMO_POLL_MS, DEMO_START_MS_MAX, DEMO_STOP_MS_MAX, SECOND_MS

WORKERS: Final = ("worker-1", "worker-2")
PROJECTOR: Final = "projector"
PROGRAM: Final = Path(sys.executable).with_name("realname")


class StageError(RuntimeError):
    """A process of the play did not start; the message ends with the tail of its log."""


class Stage:
    """What the play runs on. `close` may be called at any time, also before or during a start."""

    def __init__(self, home: Path, cast: Cast) -> None:
        self.home = home.resolve()
        self._cast = cast
        self.broker = Broker(self.home)
        self.server = Database(self.home)
        self.catalog: Catalog = load_catalog()

    # --- servers ---------------------------------------------------------------------------------

    def make_home(self) -> None:
        """An empty home with the cast's secrets; what an earlier play left in it is ended."""
        self.close()
        self.home.mkdir(parents=True)
        secrets = Secrets(
            person_secret=self._cast.person_secret,
            code_keys=dict(self._cast.code_keys),
            sealing_key=self._cast.sealing.public,
            sealing_private_key=self._cast.sealing.private,
        )
        file = self.home / FILE
        file.touch(mode=0o600)
        file.write_text(secrets.model_dump_json(indent=2) + "\n", "utf-8")

    async def start_servers(self) -> None:
        """Broker and database, side by side. Raises BrokerError, ArtifactError, DatabaseError."""
        await asyncio.gather(
            asyncio.to_thread(self.broker.start), asyncio.to_thread(self.server.start)
        )

    async def prepare(self) -> tuple[int, int]:
        """Topics and tables; returns how many topics there are and migrations were applied."""
        plan = await apply(self.brokers, self.catalog, replication=1)
        connection = await asyncpg.connect(self.database)
        try:
            applied = await migrate(connection)
        finally:
            await connection.close()
        return len(plan.changes), len(applied)

    @property
    def brokers(self) -> str:
        return self.broker.bootstrap

    @property
    def database(self) -> str:
        """The tables' URI, with a password."""
        return self.server.uri

    def environment(self) -> Iterator[tuple[str, str]]:
        """The variables that tell a shell, or another program, of this deployment."""
        cast = self._cast
        keys = ",".join(f"{number}:{key.hex()}" for number, key in cast.code_keys.items())
        yield f"{PREFIX}HOME", str(self.home)
        yield f"{PREFIX}BROKERS", self.brokers
        yield f"{PREFIX}DATABASE", self.database
        yield f"{PREFIX}PERSON_SECRET", cast.person_secret.hex()
        yield f"{PREFIX}CODE_KEYS", keys
        yield f"{PREFIX}SEALING_KEY", cast.sealing.public.hex()

    # --- workers and projector -------------------------------------------------------------------

    def start(self, name: str) -> None:
        """Start one of `WORKERS` or `PROJECTOR`."""
        environment = {
            variable: value
            for variable, value in os.environ.items()
            if not variable.startswith(PREFIX)
        }
        environment[f"{PREFIX}HOME"] = str(self.home)
        environment[f"{PREFIX}METRICS_PORT"] = str(self._port(name))
        with self.log(name).open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, str(PROGRAM), name.partition("-")[0]],
                env=environment,
                # No realname.toml of the caller's folder is read there.
                cwd=self.home,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # A Ctrl-C is for the play, which ends them in order.
                start_new_session=True,
            )
        self._pid_file(name).write_text(f"{process.pid}\n", "ascii")
        processes.await_arguments(process.pid)

    async def await_well(self, name: str) -> None:
        """Wait until a process says that it is. Raises StageError."""
        deadline = time.monotonic() + DEMO_START_MS_MAX / SECOND_MS
        timeout = aiohttp.ClientTimeout(total=2)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            while True:
                with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                    async with session.get(self.url(name, "health")) as answer:
                        if answer.status == 200:
                            return
                if self.process(name) is None or time.monotonic() > deadline:
                    tail = processes.log_tail(self.log(name))
                    raise StageError(f"{name} did not start; its log ends:\n{tail}")
                await asyncio.sleep(DEMO_POLL_MS / SECOND_MS)

    def process(self, name: str) -> psutil.Process | None:
        """A running worker or projector."""
        return processes.find(self._pid_file(name), PROGRAM)

    def kill(self, name: str) -> None:
        """SIGKILL, as a crash would."""
        process = self.process(name)
        if process is not None:
            processes.kill([process])

    def url(self, name: str, page: str) -> str:
        return f"http://{ports.LOOPBACK}:{self._port(name)}/{page}"

    def log(self, name: str) -> Path:
        return self.home / f"{name}.log"

    def close(self) -> None:
        """End everything in order and remove the folder."""
        running = [one for name in (*WORKERS, PROJECTOR) if (one := self.process(name))]
        for process in running:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.terminate()
        _, alive = psutil.wait_procs(running, timeout=DEMO_STOP_MS_MAX / SECOND_MS)
        processes.kill(alive)
        self.broker.stop()
        self.server.stop()
        shutil.rmtree(self.home, ignore_errors=True)

    def log_tails(self) -> Iterator[tuple[str, str]]:
        """(process, the last lines of its log), of those that have one."""
        for name in (*WORKERS, PROJECTOR):
            if self.log(name).exists():
                yield name, processes.log_tail(self.log(name))

    def _port(self, name: str) -> int:
        return ports.remembered(self.home / "pages.json", (*WORKERS, PROJECTOR))[name]

    def _pid_file(self, name: str) -> Path:
        return self.home / f"{name}.pid"
