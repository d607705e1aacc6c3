"""Where it is measured: topics, loaded streams, processes, and what they took.

A stream is loaded once into input topics of its own and read there by every engine in turn; each
run has output topics of its own. What an engine answered is read back when it has ended, and
compared with what the pure rules say.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from array import array
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import orjson
import psutil
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec  # type: ignore[attr-defined]

from agents.ledger.kafka import KafkaLog
from agents.ledger.progress import PROGRESS_KEY, Position
from bench import work as stream
from bench.work import Answer, Message, Oracle, Shape, Work
from deployment import topics
from deployment.catalog import Catalog, load_catalog
from rules.person import encode
from schemas.identifiers import partition_for
from schemas.outcomes import RULES_VERSION

ROOT: Final = Path(__file__).parent.parent
SEEDS: Final = "seeds"
EVENT_TOPICS: Final = ("presence-changes", "attendance-records", "assignment-changes")
QUIET_S: Final = 3.0
"""An engine that has answered enough and adds nothing for this long is done."""

STALL_S: Final = 60.0
"""An engine that adds nothing for this long without having answered enough has failed."""


def catalog_of(inputs: str, outputs: str, partitions: int) -> Catalog:
    """The deployment's topics with commands and references under one prefix, the rest under
    another: so that many runs read one loaded stream."""
    made = load_catalog(outputs, partitions=partitions)
    shared = {
        name: replace(topic, wire=inputs + name)
        if topic.kind in ("command", "reference")
        else topic
        for name, topic in made.topics.items()
    }
    return Catalog(outputs, shared)


@dataclass
class Prepared:
    """A stream as it is to be loaded, and what must be answered."""

    work: Work
    messages: list[Message]
    answers: dict[tuple[str, int, int], Answer]
    """Of a sample of the commands."""
    events: int | None
    """How many events the whole stream makes, where the sample is all of it."""


def prepare(shape: Shape, sample: int = 1) -> Prepared:
    """Make a stream, and decide the commands of every `sample`-th person by the pure rules."""
    work = Work(shape, int(time.time() * 1000))
    oracle = Oracle(work, sample)
    offsets: Counter[tuple[str, int]] = Counter()
    messages = []
    for message in work.messages():
        place = (message.topic, message.partition)
        oracle.follow(message, offsets[place], work.now_ms)
        offsets[place] += 1
        messages.append(message)
    return Prepared(work, messages, oracle.answers, oracle.events if sample == 1 else None)


@dataclass
class Loaded:
    """A stream's topics."""

    prefix: str
    prepared: Prepared

    @property
    def work(self) -> Work:
        return self.prepared.work

    @property
    def partitions(self) -> int:
        return self.work.shape.partitions


@asynccontextmanager
async def waiting(
    brokers: str, prepared: Prepared, inputs: int | None = None
) -> AsyncIterator[Loaded]:
    """The stream, or its first inputs, in topics of its own, which are deleted in the end."""
    prefix = f"w{uuid.uuid4().hex[:8]}."
    loaded = await _open_topics(brokers, prefix, prepared)
    try:
        pour(brokers, prefix, prepared.messages[:inputs])
        yield loaded
    finally:
        drop_topics(brokers, prefix)


async def _open_topics(brokers: str, prefix: str, prepared: Prepared) -> Loaded:
    """Make a stream's topics, with references and seeds in them and no command yet."""
    work = prepared.work
    catalog = catalog_of(prefix, prefix + "unused.", work.shape.partitions)
    inputs = {name: one for name, one in catalog.topics.items() if one.kind in IN}
    await topics.apply(brokers, Catalog(prefix, inputs | {"person-state": catalog.state}), 1)
    make_topics(brokers, {prefix + SEEDS: work.shape.partitions})
    producer = new_producer(brokers)
    for topic, key, value in stream.references(work):
        produce(producer, prefix + topic, value, key, 0)
    for seed in work.seeds:
        key = seed.person.encode()
        home = partition_for(key, work.shape.partitions)
        produce(producer, prefix + SEEDS, stream.seed_json(seed), key, home)
    producer.flush()
    return Loaded(prefix, prepared)


def pour(brokers: str, prefix: str, messages: Sequence[Message]) -> None:
    """Send messages as fast as it goes, round by round."""
    producer = new_producer(brokers)
    loaded_round = -1
    for message in messages:
        if message.round != loaded_round:
            producer.flush()
            # The broker's clock has moved on before the next round.
            time.sleep(0.003)
            loaded_round = message.round
        produce(producer, prefix + message.topic, message.value, message.key, message.partition)
    producer.flush()


def new_producer(brokers: str) -> Producer:
    """Sends much at once."""
    return Producer(
        {
            "bootstrap.servers": brokers,
            "enable.idempotence": True,
            "linger.ms": 5,
            "batch.size": 512 << 10,
            "queue.buffering.max.messages": 1_000_000,
        }
    )


IN: Final = ("command", "reference")


def produce(producer: Producer, topic: str, value: bytes, key: bytes, partition: int) -> None:
    """Send when there is room."""
    while True:
        try:
            producer.produce(topic, value, key, partition)
            return
        except BufferError:
            producer.poll(0.1)


def make_topics(
    brokers: str, counts: Mapping[str, int], config: Mapping[str, str] | None = None
) -> None:
    admin = AdminClient({"bootstrap.servers": brokers})
    settings = {"message.timestamp.type": "LogAppendTime", **(config or {})}
    made = admin.create_topics(
        [NewTopic(name, count, 1, config=settings) for name, count in counts.items()]
    )
    for future in made.values():
        future.result()


def drop_topics(brokers: str, prefix: str) -> None:
    """Delete what a run made: disk, and work for the broker's cleaner."""
    admin = AdminClient({"bootstrap.servers": brokers})
    names = [name for name in admin.list_topics(timeout=30).topics if name.startswith(prefix)]
    if names:
        for future in admin.delete_topics(names, operation_timeout=30).values():
            future.result()


def write_states(
    brokers: str, topic: str, work: Work, more: tuple[bytes, bytes] | None = None
) -> None:
    """Write the persons' states to a topic, and one more record to each partition."""
    producer = new_producer(brokers)
    partitions = work.shape.partitions
    for seed in work.seeds:
        key = seed.person.encode()
        produce(producer, topic, encode(stream.state_of(seed)), key, partition_for(key, partitions))
    if more is not None:
        for partition in range(partitions):
            produce(producer, topic, more[1], more[0], partition)
    producer.flush()


async def seed_states(brokers: str, catalog: Catalog, work: Work) -> None:
    """Write the persons' states, and the progress that makes a partition theirs, as a worker that
    decided all that led to them would have left it."""
    progress = await first_progress(brokers, catalog)
    write_states(brokers, catalog.state.wire, work, (PROGRESS_KEY, progress))


async def first_progress(brokers: str, catalog: Catalog) -> bytes:
    """The progress of a partition before its first command."""
    log = KafkaLog(brokers, catalog)
    topic_ids = await log.topic_ids(log.layout.commands)
    offsets = dict.fromkeys(log.layout.commands, 0)
    return Position(0, offsets, topic_ids, {}, str(RULES_VERSION)).encode()


# --- processes -----------------------------------------------------------------------------------


@dataclass
class Run:
    """One engine on one stream."""

    brokers: str
    loaded: Loaded
    outputs: str
    home: Path
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    ports: list[int] = field(default_factory=list)
    """Of each process: where a worker of ours has its metrics."""

    @property
    def catalog(self) -> Catalog:
        return catalog_of(self.loaded.prefix, self.outputs, self.loaded.partitions)

    def environment(self) -> dict[str, str]:
        """What the engines written in Python are told."""
        port = str(free_port())
        self.ports.append(int(port))
        return {
            **{name: value for name, value in os.environ.items() if "REALNAME" not in name},
            "REALNAME_BROKERS": self.brokers,
            "REALNAME_TOPIC_PREFIX": self.outputs,
            "REALNAME_PARTITIONS": str(self.loaded.partitions),
            "REALNAME_CODE_KEYS": f"1:{stream.CODE_KEY.hex()}",
            "REALNAME_HOME": str(self.home),
            "REALNAME_METRICS_PORT": port,
            "REALNAME_LOG_LEVEL": "warning",
            "BENCH_INPUTS": self.loaded.prefix,
            "BENCH_HOME": str(self.home),
            "PYTHONPATH": str(ROOT),
        }

    def start(self, command: Sequence[str], **more: str) -> subprocess.Popen[bytes]:
        self.home.mkdir(parents=True, exist_ok=True)
        with (self.home / f"{len(self.processes)}.log").open("wb") as log:
            process = subprocess.Popen(
                command, cwd=ROOT, env={**self.environment(), **more}, stdout=log, stderr=log,
                stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        self.processes.append(process)
        return process

    def stop(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def complain(self) -> str:
        """The last words of the processes."""
        return "\n".join(
            path.read_text("utf-8", "replace")[-2_000:] for path in sorted(self.home.glob("*.log"))
        )


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def python(module: str) -> list[str]:
    return [sys.executable, "-m", module]


class Failed(RuntimeError):
    """An engine did not do its work: there is nothing to compare."""


@dataclass
class Samples:
    """CPU and progress over time."""

    at_s: array[float] = field(default_factory=lambda: array("d"))
    engine_s: array[float] = field(default_factory=lambda: array("d"))
    broker_s: array[float] = field(default_factory=lambda: array("d"))
    busy_s: array[float] = field(default_factory=lambda: array("d"))
    """All cores, whoever it was."""
    answered: array[int] = field(default_factory=lambda: array("q"))
    rss_max: int = 0

    def cpu(self, column: Sequence[float], at_s: float) -> float:
        """CPU seconds spent until a moment, between two samples by a straight line."""
        times = self.at_s
        for i in range(1, len(times)):
            if times[i] >= at_s:
                part = (at_s - times[i - 1]) / max(1e-9, times[i] - times[i - 1])
                return column[i - 1] + part * (column[i] - column[i - 1])
        return column[-1]


def cpu_seconds(process: psutil.Process) -> float:
    """User and system time of a process and what it started."""
    total = 0.0
    for one in (process, *process.children(recursive=True)):
        with contextlib.suppress(psutil.Error):
            times = one.cpu_times()
            total += times.user + times.system
    return total


class Sampler:
    """Looks at the processes and at the ends of `outcomes` until told to stop."""

    def __init__(self, run: Run, broker_pid: int) -> None:
        self._run = run
        self._broker = psutil.Process(broker_pid)
        self._engines = [psutil.Process(process.pid) for process in run.processes]
        self._admin = AdminClient({"bootstrap.servers": run.brokers})
        topic = run.outputs + "outcomes"
        self._places = {
            TopicPartition(topic, partition): OffsetSpec.latest()  # type: ignore[no-untyped-call]
            for partition in range(run.loaded.partitions)
        }
        self.samples = Samples()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look_on, daemon=True)
        self._thread.start()

    def answered(self) -> int:
        """The end offsets of `outcomes`, added up: records and transaction markers."""
        found = self._admin.list_offsets(self._places)
        return sum(future.result().offset for future in found.values())

    def _look_on(self) -> None:
        samples = self.samples
        answered = 0
        while not self._stop.wait(0.1):
            # A topic that was just made has no leader yet.
            with contextlib.suppress(KafkaException):
                answered = self.answered()
            engine = rss = 0.0
            for process in self._engines:
                with contextlib.suppress(psutil.Error):
                    engine += cpu_seconds(process)
                    rss += process.memory_info().rss
            samples.at_s.append(time.time())
            samples.engine_s.append(engine)
            samples.broker_s.append(cpu_seconds(self._broker))
            times = psutil.cpu_times()
            samples.busy_s.append(sum(times) - times.idle - times.iowait - times.guest)
            samples.answered.append(answered)
            samples.rss_max = max(samples.rss_max, int(rss))

    def until_done(self, wanted: float) -> None:
        """Raises Failed when the engine ends or stalls."""
        moved, before = time.time(), -1
        while True:
            time.sleep(0.1)
            now = self.samples.answered[-1] if self.samples.answered else 0
            if now != before:
                moved, before = time.time(), now
            still_s = time.time() - moved
            if now >= wanted and still_s > QUIET_S:
                return
            dead = [one for one in self._run.processes if one.poll() is not None]
            if dead or still_s > STALL_S:
                self.stop()
                raise Failed(f"{now} of {wanted:.0f} answered\n{self._run.complain()}")

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()


# --- what came out -------------------------------------------------------------------------------


@dataclass
class Found:
    """What an engine wrote."""

    times_ms: list[int]
    """The broker's times of the outcomes, in order."""
    distinct: int
    """Commands answered."""
    compared: int
    different: int
    example: str
    events: int
    """Written, wherever."""
    events_as_named: bool
    """Whether these are the ones that the outcomes name, each once."""


def read_all(
    brokers: str, names: Iterable[str], take: Callable[[Any], None], committed: bool = True
) -> None:
    """Every record of these topics up to their ends."""
    consumer = Consumer(
        {
            "bootstrap.servers": brokers,
            "group.id": "bench-reader",
            "isolation.level": "read_committed" if committed else "read_uncommitted",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
            "fetch.wait.max.ms": 50,
        }
    )
    known = consumer.list_topics(timeout=30).topics
    places = [
        TopicPartition(name, partition, 0) for name in names for partition in known[name].partitions
    ]
    consumer.assign(places)
    open_places = len(places)
    while open_places:
        for message in consumer.consume(20_000, 1.0):
            if message.error() is not None:
                open_places -= 1
            else:
                take(message)
    consumer.close()


def read_times(run: Run) -> list[int]:
    """The broker's times of the outcomes, in order, Unix milliseconds."""
    times = array("q")
    read_all(
        run.brokers,
        [run.outputs + "outcomes"],
        lambda message: times.append(message.timestamp()[1]),
    )
    return sorted(times)


def read_back(run: Run) -> Found:
    """Read what the engine wrote and compare it with the pure rules."""
    loaded, prefix = run.loaded, run.loaded.prefix
    topic_number = {prefix + topic: number for number, topic in enumerate(stream.TOPICS)}
    times = array("q")
    seen: set[int] = set()
    found = Found([], 0, 0, 0, "", 0, True)
    # Of many ids, which both sides have in an order of their own, only the sums of the hashes.
    named = written = 0

    def outcome(message: Any) -> None:
        nonlocal named
        times.append(message.timestamp()[1])
        data = orjson.loads(message.value())["data"]
        origin = data["origin"]
        topic, partition, offset = origin["topic"], origin["partition"], origin["offset"]
        seen.add(topic_number[topic] << 56 | partition << 40 | offset)
        named += sum(map(hash, data["events"]))
        right = loaded.prepared.answers.get((topic[len(prefix) :], partition, offset))
        if right is not None:
            found.compared += 1
            answer = Answer(data["status"], data["code"], data["version"])
            if answer != right:
                found.different += 1
                found.example = found.example or f"{data['command']}: {answer}, not {right}"

    def event(message: Any) -> None:
        nonlocal written
        found.events += 1
        written += hash(orjson.loads(message.value())["id"])

    read_all(run.brokers, [run.outputs + "outcomes"], outcome)
    read_all(run.brokers, [run.outputs + topic for topic in EVENT_TOPICS], event)
    found.times_ms = sorted(times)
    found.distinct = len(seen)
    found.events_as_named = named == written
    return found
