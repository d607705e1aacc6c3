"""The load: an open loop that sends whatever happens, and a reader that notes what it sees.

A process of its own (`python -m drills.load FILE`, FILE: a `Plan` in JSON), so that neither the
harness nor what is drilled slows its clock down. It writes two histories, JSON lines as the checker
takes them: `acks.jsonl`, every record that a producer saw acknowledged, with the times of sending
and of the acknowledgement; `seen.jsonl`, every output record that a committed reader saw.

The loop is open: what is to be sent now is sent now, also while nothing is answered. Besides, some
of the persons wait for each acknowledgement and act again at once: they are those whom a wrong
order hurts.

SIGUSR1 lets it begin with the topics that the plan holds back. SIGTERM ends the sending; the reader
goes on until all that was acknowledged is answered, or nothing has come for a while.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import signal
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Final, TextIO

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from deployment.catalog import Catalog, load_catalog
from drills.people import Message, Population
from rules.person import decode
from schemas.identifiers import partition_for

CHAINED: Final = 0.5
"""Of the messages, those whose person acts again as soon as they are acknowledged."""

CHAIN_MAX: Final = 6


@dataclass
class Plan:
    """What is sent to whom, and where it is noted."""

    brokers: str
    prefix: str
    partitions: int
    home: str
    seed: int
    code_key: str
    """Hex; key id 1."""
    rate: float = 200
    """Messages a second, chains included."""
    bad: float = 0.02
    """Of the messages, those that are no commands."""
    flood: float = 0
    """Messages a second beside, each to a subject that was never heard of."""
    held: list[str] = field(default_factory=list)
    """Topics that nothing is sent to before SIGUSR1."""
    codecs: list[str | None] = field(default_factory=lambda: [None])
    """Compression, one producer each."""

    @property
    def acks(self) -> Path:
        return Path(self.home) / "acks.jsonl"

    @property
    def seen(self) -> Path:
        return Path(self.home) / "seen.jsonl"

    @property
    def file(self) -> Path:
        return Path(self.home) / "load.json"

    def write(self) -> Path:
        self.file.write_text(json.dumps(asdict(self)))
        return self.file


class Load:
    def __init__(self, plan: Plan, acks: TextIO, seen: TextIO) -> None:
        self._plan = plan
        self._catalog: Catalog = load_catalog(plan.prefix, partitions=plan.partitions)
        self._acks, self._seen = acks, seen
        self._people = Population(
            plan.seed,
            {1: bytes.fromhex(plan.code_key)},
            plan.partitions,
            int(time.time() * 1000),
            plan.bad,
        )
        self._people.held = frozenset(plan.held)
        self._random = Random(plan.seed)
        self._producers: list[AIOKafkaProducer] = []
        self._stop = asyncio.Event()
        self._owed = 0.0
        """How many messages the open loop is behind its rate; chains pay into it."""
        self._ways: set[asyncio.Task[None]] = set()
        self._undecided: set[tuple[str, int, int]] = set()
        self._early: set[tuple[str, int, int]] = set()
        """Answers that were seen before their command's acknowledgement."""
        self._last_seen = 0.0

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._stop.set)
        loop.add_signal_handler(signal.SIGUSR1, self._release)
        for codec in self._plan.codecs:
            producer = AIOKafkaProducer(
                bootstrap_servers=self._plan.brokers,
                enable_idempotence=True,
                acks="all",
                linger_ms=0,
                compression_type=codec,
                request_timeout_ms=5_000,
                retry_backoff_ms=50,
                max_request_size=64 << 20,
            )
            await producer.start()
            self._producers.append(producer)
        reading = asyncio.create_task(self._read())
        for message in self._people.references():
            await self._send(message)
        await self._loop()
        if self._ways:
            await asyncio.wait(self._ways, timeout=30)
        for way in self._ways:
            way.cancel()
        await self._quiet()
        reading.cancel()
        await asyncio.gather(reading, *self._ways, return_exceptions=True)
        print(json.dumps({"undecided": len(self._undecided)}), flush=True)
        for producer in self._producers:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(producer.stop(), 5)

    def _release(self) -> None:
        self._people.held = frozenset()

    # --- sending ---------------------------------------------------------------------------------

    async def _loop(self) -> None:
        began = last = time.monotonic()
        flooded, changed = 0, began
        while not self._stop.is_set():
            await asyncio.sleep(0.004)
            now = time.monotonic()
            self._owed += (now - last) * self._plan.rate
            last = now
            while self._owed >= 1:
                self._owed -= 1
                message = self._people.next(int(time.time() * 1000))
                chain = CHAIN_MAX if self._random.random() < CHAINED / CHAIN_MAX else 0
                self._begin(message, chain)
            while flooded < (now - began) * self._plan.flood:
                flooded += 1
                self._begin(_stranger(self._plan.seed, flooded))
            if now - changed > 1.5:
                changed = now
                self._begin(self._people.change_reference())

    def _begin(self, message: Message, chain: int = 0) -> None:
        way = asyncio.create_task(self._way(message, chain))
        self._ways.add(way)
        way.add_done_callback(self._ways.discard)

    async def _way(self, message: Message, chain: int) -> None:
        """Send, and where the person waits for it, send the person's next one."""
        while await self._send(message):
            if not chain or message.person is None or self._stop.is_set():
                return
            chain -= 1
            self._owed -= 1
            message = self._people.next(int(time.time() * 1000), message.person)

    async def _send(self, message: Message) -> bool:
        topic = self._catalog.topics[message.topic]
        partition = message.partition
        if partition is None:
            partition = 0 if message.key is None else partition_for(message.key, topic.partitions)
        producer = self._random.choice(self._producers)
        sent_ms = time.time() * 1000
        try:
            meta = await (
                await producer.send(topic.wire, message.value, key=message.key, partition=partition)
            )
        except KafkaError as error:
            print(f"not acknowledged: {error!r}", file=sys.stderr, flush=True)
            return False
        acked_ms = time.time() * 1000
        offset = meta.offset if meta.offset >= 0 else None
        self._acks.write(
            json.dumps(
                {
                    "topic": topic.wire,
                    "partition": partition,
                    "offset": offset,
                    "id": message.id,
                    "sent_ms": sent_ms,
                    "acked_ms": acked_ms,
                }
            )
            + "\n"
        )
        if topic.kind == "command" and offset is not None:
            place = (topic.wire, partition, offset)
            if place in self._early:
                self._early.discard(place)
            else:
                self._undecided.add(place)
        return True

    async def _quiet(self) -> None:
        """Until all is answered, or nothing comes any more."""
        self._last_seen = time.monotonic()
        while self._undecided and time.monotonic() - self._last_seen < 15:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        await asyncio.sleep(0.5)

    # --- reading ---------------------------------------------------------------------------------

    async def _read(self) -> None:
        outputs = {topic.wire: topic.name for topic in self._catalog.outputs}
        state = self._catalog.state.wire
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._plan.brokers,
            isolation_level="read_committed",
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            fetch_max_wait_ms=100,
            request_timeout_ms=5_000,
            retry_backoff_ms=50,
        )
        await consumer.start()
        try:
            consumer.assign(
                [
                    TopicPartition(topic, partition)
                    for topic in (*outputs, state)
                    for partition in range(self._plan.partitions)
                ]
            )
            while True:
                try:
                    found = await consumer.getmany(timeout_ms=200)
                except KafkaError as error:
                    print(f"not read: {error!r}", file=sys.stderr, flush=True)
                    await asyncio.sleep(0.1)
                    continue
                now_ms = time.time() * 1000
                for place, records in found.items():
                    if place.topic == state:
                        self._learn(records)
                    else:
                        self._note(outputs[place.topic], records, now_ms)
        finally:
            await consumer.stop()

    def _learn(self, records: list[Any]) -> None:
        for record in records:
            if record.key != b"_progress" and record.value is not None:
                self._people.learn(record.key.decode(), decode(record.value))

    def _note(self, topic: str, records: list[Any], now_ms: float) -> None:
        for record in records:
            line: dict[str, Any] = {
                "topic": record.topic,
                "partition": record.partition,
                "offset": record.offset,
                "sha256": hashlib.sha256(record.value).hexdigest(),
                "seen_ms": now_ms,
            }
            if topic in ("outcomes", "dead-letters"):
                self._last_seen = time.monotonic()
                document = orjson.loads(record.value)
                origin = (document["data"] if topic == "outcomes" else document)["origin"]
                line["origin"] = [origin["topic"], origin["partition"], origin["offset"]]
                place = (origin["topic"], origin["partition"], origin["offset"])
                if place in self._undecided:
                    self._undecided.discard(place)
                else:
                    self._early.add(place)
                if topic == "outcomes":
                    self._people.answered(document["subject"])
            self._seen.write(json.dumps(line) + "\n")


def _stranger(seed: int, number: int) -> Message:
    """The centre's verdict on somebody nobody knows."""
    subject = hashlib.md5(f"stranger {seed} {number}".encode()).hexdigest()
    now_ms = int(time.time() * 1000)
    moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now_ms // 1000))
    value = orjson.dumps(
        {
            "specversion": "1.0",
            "id": f"flood-{seed}-{number}",
            "source": "/centre",
            "type": "identity.verify",
            "time": moment,
            "subject": subject,
            "data": {"batch": "flood", "result": "verified"},
        }
    )
    return Message("identity-verifications", subject.encode(), value, f"flood-{seed}-{number}")


def main() -> None:
    """Run the plan in the file that is named."""
    plan = Plan(**json.loads(Path(sys.argv[1]).read_text()))
    # Line by line, so that what was seen outlives whoever saw it.
    with plan.acks.open("w", buffering=1) as acks, plan.seen.open("w", buffering=1) as seen:
        asyncio.run(Load(plan, acks, seen).run())


if __name__ == "__main__":
    main()
