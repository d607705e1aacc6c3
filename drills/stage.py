"""The stage of a run: servers, processes, the load, and a note of every fault.

Everything is real: brokers, database, workers and projectors are processes, ended by signals.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random, SystemRandom
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import aiohttp
import asyncpg
import psutil

from deployment import topics
from deployment.catalog import Catalog, load_catalog
from drills.load import Plan
from drills.proxy import Proxy
from local import ports
from local.broker import Broker, Cluster
from local.database import Database

HEAP_MB: Final = 384
START_S_MAX: Final = 60
"""Until workers decide, servers serve and probes are answered; past it the run has failed."""

METRICS_PORTS: Final = range(10_000, 20_000)
"""Where nothing else that is embedded listens."""

RESUME_S_MAX: Final = 60
"""Until something is decided again after a fault."""


class Broken(Exception):
    """A promise that the drill itself saw broken: no business of the checker's."""


class Void(Exception):
    """The fault did not happen as it was meant to: the run says nothing."""


class Skipped(Exception):
    """This machine cannot give what the drill needs; the text says what."""


@dataclass
class Server:
    """Brokers and a database, shared by the runs that leave them alone."""

    home: Path
    nodes: int = 1

    def __post_init__(self) -> None:
        chosen = ports.remembered(self.home / "proxy.json", ("behind", "told"))
        self.behind, self.told = chosen["behind"], chosen["told"]
        """The broker's second way in, and what it says of it: where a proxy is to listen."""
        self.broker: Broker | None = None
        self.cluster: Cluster | None = None
        if self.nodes == 1:
            listeners = {"DRILL": (self.behind, self.told)}
            self.broker = Broker(self.home, heap_mb=HEAP_MB, listeners=listeners)
        else:
            self.cluster = Cluster(self.home, nodes=self.nodes, heap_mb=HEAP_MB)
        self.database = Database(self.home)

    @property
    def brokers(self) -> str:
        return (self.broker or self.cluster).bootstrap  # type: ignore[union-attr]

    def start(self) -> None:
        (self.broker or self.cluster).start()  # type: ignore[union-attr]
        self.database.start()

    def stop(self) -> None:
        for node in self.cluster.nodes if self.cluster else (self.broker,):
            assert node is not None
            node.kill()
        self.database.kill()


@dataclass
class Process:
    """A worker, a projector or the load."""

    name: str
    process: asyncio.subprocess.Process
    port: int
    log: Path
    dying: bool = False
    """It was told to end, or is about to kill itself."""

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def running(self) -> bool:
        return self.process.returncode is None

    def signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)

    def kill(self) -> None:
        self.dying = True
        self.signal(signal.SIGKILL)

    async def stop(self, seconds: float = 15) -> float:
        """SIGTERM; how long it took. Raises Broken when it does not end."""
        self.dying = True
        began = time.monotonic()
        self.signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(self.process.wait(), seconds)
        except TimeoutError:
            raise Broken(f"{self.name} did not end within {seconds} s of SIGTERM") from None
        return time.monotonic() - began

    @property
    def peak_mb(self) -> float:
        """The most memory it ever had."""
        try:
            status = Path(f"/proc/{self.pid}/status").read_text()
        except OSError:
            return 0
        return int(status.partition("VmHWM:")[2].split()[0]) / 1024 if "VmHWM" in status else 0

    def said(self) -> str:
        return self.log.read_text("utf-8", "replace")

    async def page(self, path: str) -> str | None:
        """`/health` or `/metrics`; None when it does not answer."""
        with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError):
            timeout = aiohttp.ClientTimeout(total=2)
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.get(f"http://{ports.LOOPBACK}:{self.port}{path}") as answer,
            ):
                return await answer.text()
        return None

    async def counter(self, name: str) -> float:
        """The sum of a metric over its labels."""
        page = await self.page("/metrics") or ""
        return sum(
            float(line.rpartition(" ")[2])
            for line in page.splitlines()
            if line.startswith((f"{name} ", f"{name}{{"))
        )


@dataclass(frozen=True)
class Fault:
    at_ms: float
    words: str
    mends: bool = False
    """It ends an outage instead."""


class Stage:
    """One run's deployment: topics of its own, a database of its own, its processes."""

    def __init__(
        self, server: Server, home: Path, seed: int, tell: Callable[[str], None], **plan: Any
    ) -> None:
        self.server = server
        self.home = home
        self.seed = seed
        self.random = Random(seed)
        self.tell = tell
        self.prefix = f"{home.name}."
        self.partitions = 8
        self.catalog: Catalog = load_catalog(self.prefix, partitions=self.partitions)
        self.code_key = Random(seed).randbytes(32).hex()
        self.plan = Plan(
            server.brokers, self.prefix, self.partitions, str(home), seed, self.code_key, **plan
        )
        self.database_uri = ""
        self.worker_env: dict[str, str] = {}
        """For every worker, beside what one is given."""
        self.projector_env: dict[str, str] = {}
        self.workers: list[Process] = []
        self.projectors: list[Process] = []
        self.load: Process | None = None
        self.faults: list[Fault] = []
        self.notes: dict[str, float] = {}
        """Measured on the way, for the summary."""
        self.judged = True
        """False where the drill ends in a stop, which it has looked at itself."""
        self.proxy = Proxy(server.told, server.behind, self.random)
        """Between the broker and whoever is started with `through_proxy`."""
        self._cleanups: list[Callable[[], Awaitable[None]]] = []

    @property
    def through_proxy(self) -> dict[str, str]:
        """The environment of a process that speaks to the broker through the proxy."""
        return {"REALNAME_BROKERS": f"{ports.LOOPBACK}:{self.server.told}"}

    # --- begin and end ---------------------------------------------------------------------------

    async def set(self) -> None:
        """Topics and tables."""
        (self.home / "logs").mkdir(parents=True)
        replication = min(3, self.server.nodes)
        await topics.apply(self.server.brokers, self.catalog, replication)
        admin = await asyncpg.connect(self.server.database.uri)
        name = f"drill_{self.home.name.replace('-', '_')}"
        try:
            await admin.execute(f"create database {name}")
        finally:
            await admin.close()
        if self.server.broker is not None:
            await self.proxy.start()
            self.afterwards(self.proxy.stop)
        parts = urlsplit(self.server.database.uri)
        self.database_uri = urlunsplit(parts._replace(path=f"/{name}"))

    async def clear(self) -> None:
        """End every process of the run."""
        processes = [*self.workers, *self.projectors, *([self.load] if self.load else [])]
        for process in processes:
            process.dying = True
            process.signal(signal.SIGCONT)
            process.signal(signal.SIGKILL)
        for process in processes:
            await process.process.wait()
        for cleanup in reversed(self._cleanups):
            await cleanup()

    def afterwards(self, cleanup: Callable[[], Awaitable[None]]) -> None:
        """Something to do when the run is over, whatever came of it."""
        self._cleanups.append(cleanup)

    # --- processes -------------------------------------------------------------------------------

    def settings(self) -> dict[str, str]:
        """The environment of the deployment's processes."""
        return {
            **{name: value for name, value in os.environ.items() if "REALNAME" not in name},
            "REALNAME_BROKERS": self.server.brokers,
            "REALNAME_DATABASE": self.database_uri,
            "REALNAME_TOPIC_PREFIX": self.prefix,
            "REALNAME_PARTITIONS": str(self.partitions),
            "REALNAME_CODE_KEYS": f"1:{self.code_key}",
            "REALNAME_PERSON_SECRET": self.code_key,
            "REALNAME_HOME": str(self.home),
        }

    async def _start(
        self, name: str, module: str, env: Mapping[str, str], arguments: tuple[str, ...] = ()
    ) -> Process:
        port = _free_port()
        log = self.home / "logs" / f"{name}.log"
        with log.open("ab") as out:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                module,
                *arguments,
                env={**self.settings(), "REALNAME_METRICS_PORT": str(port), **env},
                cwd=Path(__file__).parent.parent,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )
        return Process(name, process, port, log)

    async def worker(self, **env: str) -> Process:
        """Start a worker; `env` are the hooks of `drills.worker`."""
        name = f"worker-{len(self.workers) + 1}"
        worker = await self._start(name, "drills.worker", {**self.worker_env, **env})
        self.workers.append(worker)
        return worker

    async def projector(self, **env: str) -> Process:
        name = f"projector-{len(self.projectors) + 1}"
        projector = await self._start(name, "drills.projector", {**self.projector_env, **env})
        self.projectors.append(projector)
        return projector

    async def begin_load(self) -> None:
        self.load = await self._start("load", "drills.load", {}, (str(self.plan.write()),))

    async def end_load(self) -> None:
        """No more commands; returns when all that were acknowledged are answered, or none comes."""
        assert self.load is not None
        if not self.load.running:
            raise Void(f"the load ended by itself: {self.load.said()[-500:]}")
        await self.load.stop(90)

    @property
    def alive(self) -> list[Process]:
        """Workers that run and were not told to end."""
        return [one for one in self.workers if one.running and not one.dying]

    async def deciding(self, seconds: float = START_S_MAX) -> None:
        """Wait until every partition is decided on by some worker."""
        wanted = set(range(self.partitions))
        deadline = time.monotonic() + seconds
        while True:
            decided: set[int] = set()
            for worker in self.alive:
                decided |= stage_of(await worker.page("/health"), "deciding")
            if decided >= wanted:
                return
            if time.monotonic() > deadline:
                raise Broken(f"after {seconds} s nobody decides {sorted(wanted - decided)}")
            await asyncio.sleep(0.1)

    async def settled(self, seconds: float = START_S_MAX) -> None:
        """Wait until every partition is decided on by exactly one worker, and none has nothing."""
        deadline = time.monotonic() + seconds
        while True:
            held = [stage_of(await one.page("/health"), "deciding") for one in self.alive]
            numbers = [number for numbers in held for number in numbers]
            if all(held) and sorted(numbers) == list(range(self.partitions)):
                return
            if time.monotonic() > deadline:
                raise Broken(f"after {seconds} s the workers decide {[*map(sorted, held)]}")
            await asyncio.sleep(0.1)

    # --- the course of a run ---------------------------------------------------------------------

    def fault(self, words: str) -> None:
        """Note that something is done now."""
        self.faults.append(Fault(time.time() * 1000, words))
        self.tell(words)

    def mended(self, words: str) -> None:
        """Note that what was done is undone now."""
        self.faults.append(Fault(time.time() * 1000, words, mends=True))
        self.tell(words)

    async def pause(self, least_s: float, most_s: float | None = None) -> None:
        """Let things go on for a while, by chance."""
        await asyncio.sleep(self.random.uniform(least_s, most_s or least_s))

    async def until(self, holds: Callable[[], bool], words: str, seconds: float = 30) -> None:
        """Wait for something that must come. Raises Broken."""
        deadline = time.monotonic() + seconds
        while not holds():
            if time.monotonic() > deadline:
                raise Broken(f"after {seconds} s still not: {words}")
            await asyncio.sleep(0.05)

    def seen(self) -> int:
        """How many output records the reader has seen so far."""
        path = self.plan.seen
        return path.read_bytes().count(b"\n") if path.exists() else 0

    def sent(self) -> int:
        """How many records were acknowledged so far."""
        path = self.plan.acks
        return path.read_bytes().count(b"\n") if path.exists() else 0

    def note_most(self, name: str, value: float) -> None:
        """Keep the greatest value under a name."""
        self.notes[name] = max(self.notes.get(name, 0), value)

    async def resumed(self, seconds: float = RESUME_S_MAX) -> None:
        """Wait until all partitions are decided on, and some more answers have come."""
        await self.deciding(seconds)
        before = self.seen()
        await self.until(lambda: self.seen() > before + 100, "decided again", seconds)

    @contextlib.asynccontextmanager
    async def frozen(self, process: Process) -> AsyncIterator[None]:
        """SIGSTOP to begin with, SIGCONT at the end."""
        process.signal(signal.SIGSTOP)
        while psutil.Process(process.pid).status() != psutil.STATUS_STOPPED:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        try:
            yield
        finally:
            process.signal(signal.SIGCONT)


def _free_port() -> int:
    """Not by the run's seed: runs of one seed may go on side by side."""
    while True:
        port = SystemRandom().choice(METRICS_PORTS)
        with contextlib.suppress(OSError), socket.create_server((ports.LOOPBACK, port)):
            return port


def stage_of(health: str | None, stage: str) -> set[int]:
    """The partitions that a worker's health page lists under a stage."""
    found: set[int] = set()
    for line in (health or "").splitlines():
        name, _, numbers = line.partition(": ")
        if name == stage:
            found.update(int(number) for number in numbers.split(", "))
    return found
