"""How long an answer takes: an open loop, from the moment a scan was to be sent until a reader of
committed records has its outcome."""

from __future__ import annotations

import asyncio
import pickle
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import psutil

from bench.engines import Engine, streams
from bench.stage import (
    ROOT,
    Failed,
    Run,
    cpu_seconds,
    prepare,
    python,
    waiting,
)
from bench.work import TOPICS, Shape, Work
from deployment.catalog import load_catalog

PERSONS: Final = 20_000
LEAD_S: Final = 4.0
"""Between making a stream and sending its first."""

STREAMS_MIN: Final = Engine(
    "streams-memory 10 ms", "Kafka Streams, EOS v2, in memory, commits every 10 ms",
    streams("memory", 1, 10),
)  # fmt: skip


@contextmanager
def _helper(module: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process of the harness. It ends with the block, also one that is left halfway."""
    process = subprocess.Popen([*python(module), *arguments], cwd=ROOT, stdout=subprocess.PIPE)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def other_topics() -> tuple[str, ...]:
    """Every command topic that the scan stream leaves out."""
    return tuple(topic.name for topic in load_catalog().commands if topic.name != TOPICS[0])


@dataclass(frozen=True)
class Latency:
    """One rate of one engine; milliseconds."""

    engine: str
    per_s: int
    measured: int
    unanswered: int
    p50_ms: float
    p99_ms: float
    p999_ms: float
    max_ms: float
    cpu: float
    """Cores that the engine took."""
    broker_cpu: float
    sender_late_ms: float
    """How late the sender was at worst: past a few ms the rate was not kept."""
    curve_ms: list[float]
    """Percentiles 1 to 99, then 99.9."""


class Live:
    """An engine that is up, with streams that can be sent to it one after another."""

    def __init__(self, engine: str, brokers: str, broker_pid: int, run: Run) -> None:
        self.engine = engine
        self.brokers = brokers
        self.run = run
        self._broker = psutil.Process(broker_pid)
        self._segment = 0
        self.noted: list[tuple[float, float]] = []
        """Of the last stream: (due, answered), in monotonic seconds."""

    async def send(
        self,
        per_s: int,
        warm_s: float,
        seconds: float,
        others: tuple[str, ...],
        meanwhile: Callable[[float], Coroutine[Any, Any, None]] | None = None,
    ) -> Latency:
        """Send for a while and see when the answers come.

        `meanwhile` is told when the first is due (monotonic seconds), and runs beside.
        """
        run, home = self.run, self.run.home
        self._segment += 1
        span_s = warm_s + seconds
        shape = replace(
            run.loaded.work.shape, inputs=int(per_s * span_s), span_ms=int(span_s * 1000),
            segment=self._segment, moving=False, others=others,
        )  # fmt: skip
        # Made for a moment that is then waited for; it takes as long as it takes.
        lead_s = LEAD_S + shape.inputs * 60e-6
        start = time.monotonic() + lead_s
        work = Work(shape, int((time.time() + lead_s + span_s) * 1000))
        due: dict[bytes, float] = {}
        messages = []
        prefix = run.loaded.prefix
        for number, message in enumerate(work.messages()):
            at = number / per_s
            command_id = message.value[message.value.index(b'"id":"') + 6 :]
            due.setdefault(command_id[: command_id.index(b'"')], at)
            messages.append(
                (at, prefix + message.topic, message.partition, message.key, message.value)
            )
        plan, notes = home / "plan.pickle", home / "notes.pickle"
        plan.write_bytes(pickle.dumps((self.brokers, start, messages)))
        del messages
        topic = run.outputs + "outcomes"
        with _helper(
            "bench.reading", self.brokers, topic, str(shape.partitions), str(notes)
        ) as reader:
            assert reader.stdout is not None
            await asyncio.to_thread(reader.stdout.readline)
            if time.monotonic() > start:
                raise Failed("the stream was made too slowly for its own start")
            with _helper("bench.sending", str(plan)) as sender:
                beside = asyncio.create_task(meanwhile(start)) if meanwhile is not None else None
                await asyncio.sleep(start + warm_s - time.monotonic())
                before = self._cpu()
                await asyncio.sleep(seconds)
                after = self._cpu()
                said, _ = await asyncio.to_thread(sender.communicate)
            if beside is not None:
                await beside
            await asyncio.sleep(3)
            reader.send_signal(signal.SIGTERM)
            await asyncio.to_thread(reader.wait)
        if sender.returncode:
            raise Failed("the sender failed")
        answered: dict[bytes, float] = {}
        for command_id, at in pickle.loads(notes.read_bytes()):
            answered.setdefault(command_id, at)
        self.noted = [
            (start + at, answered[command_id])
            for command_id, at in due.items()
            if at >= warm_s and command_id in answered
        ]
        wanted = sum(at >= warm_s for at in due.values())
        took = sorted((seen - at) * 1000 for at, seen in self.noted)
        if not took:
            raise Failed(f"nothing was answered\n{run.complain()}")

        def quantile(part: float) -> float:
            return took[min(len(took) - 1, int(part * len(took)))]

        return Latency(
            engine=self.engine, per_s=per_s, measured=len(took), unanswered=wanted - len(took),
            p50_ms=quantile(0.5), p99_ms=quantile(0.99), p999_ms=quantile(0.999), max_ms=took[-1],
            cpu=(after[0] - before[0]) / seconds, broker_cpu=(after[1] - before[1]) / seconds,
            sender_late_ms=float(said) * 1000,
            curve_ms=[quantile(part / 100) for part in range(1, 100)] + [quantile(0.999)],
        )  # fmt: skip

    def _cpu(self) -> tuple[float, float]:
        engines = 0.0
        for process in self.run.processes:
            if process.poll() is None:
                engines += cpu_seconds(psutil.Process(process.pid))
        return engines, cpu_seconds(self._broker)


@asynccontextmanager
async def up(
    brokers: str, broker_pid: int, engine: Engine, shape: Shape, home: Path
) -> AsyncIterator[Live]:
    """The engine at work, on topics that begin with a short stream."""
    async with waiting(brokers, prepare(shape)) as loaded:
        run = Run(brokers, loaded, loaded.prefix + "out.", home / "latency")
        async with engine.at_work(run):
            await asyncio.sleep(5)
            yield Live(engine.name, brokers, broker_pid, run)


async def measure(
    brokers: str,
    broker_pid: int,
    engine: Engine,
    rates: Sequence[int],
    home: Path,
    seconds: float,
    warm_s: float,
    partitions: int = 16,
    others: tuple[str, ...] = (),
) -> list[Latency]:
    """All rates, one after another, on one running engine.

    `warm_s`: how long it runs before; the broker and the engines in Java get faster all the while.
    """
    # A few inputs, so that there is a stream to begin with.
    shape = Shape(1_000, persons=PERSONS, moving=False, partitions=partitions)
    found = []
    async with up(brokers, broker_pid, engine, shape, home) as live:
        await live.send(2_000, 0, warm_s, others)
        for per_s in rates:
            found.append(await live.send(per_s, 3, seconds, others))
    return found
