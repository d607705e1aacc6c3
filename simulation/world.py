"""One history: workers, clients, strangers and faults over a cluster in memory, and the judgement.

    result = run(seed)
    result.violations        what is wrong, each as a short story; empty: nothing

Everything is drawn from the seed, and nothing else goes in: the same seed gives the same history,
callback by callback. First comes a time of faults; then the weather clears, whoever is paused goes
on, and at least one worker lives: within QUIET_S_MAX everything must be decided.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cache
from random import Random
from typing import Any

import structlog

from agents.deciding import Decider
from agents.ledger.ledger import Ledger
from agents.ledger.log import Entry, Layout, LogError, LogUnavailable, Membership, Place
from agents.ledger.memory import Cluster, MemoryLog, Partition
from agents.ledger.progress import PROGRESS_KEY, decode
from agents.ledger.turn import Turn, Verdict, answer
from agents.references import References
from checker.history import Ack
from deployment.catalog import Catalog, load_catalog
from schemas import limits
from schemas.outcomes import RULES_VERSION
from schemas.references import parse_reference
from simulation.judging import judge
from simulation.loop import PROCESS, Deadlock, Endless, SimulatedLoop
from simulation.people import BEGIN_MS, KEYS, Change, Message, Play, play
from simulation.weather import Climate, SimulatedWeather

PLAYS = 256
"""Different plays; the faults and the weather differ with every seed."""

QUIET_S_MAX = 120.0
"""Longer than sessions, rebalances, transactions and back-offs together."""

REQUESTS = (
    "start producer",
    "end offsets",
    "topic ids",
    "fetch",
    "produce",
    "end",
    "join",
    "heartbeat",
)
"""What workers ask of the cluster."""

FAULTS = (
    "ambush",
    "crash",
    "stop",
    "pause",
    "outage",
    "slow",
    "fence",
    "rejoin",
    "worker",
    "raise",
    "silence",
    "clock",
    "compact",
    "foreign",
)
"""What may befall a history. Each history draws some of them, so that a few kinds come thick."""

RAISES_MAX = limits.DECISION_TRIES_MAX - 1
"""Decisions that raise in one history: one more might stop a partition, as it should."""


@dataclass
class Result:
    """What became of a history."""

    seed: int
    violations: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    trace: list[str] = field(default_factory=list)
    """Everything that happened, if it was asked for."""
    commands: int = 0
    seconds: float = 0.0
    """Simulated."""
    steps: int = 0
    """Callbacks run."""

    def story(self) -> str:
        """For a person: the seed, what befell, and what is wrong."""
        lines = [f"seed {self.seed}: {self.commands} commands in {self.seconds:.1f} s", "faults:"]
        lines += [f"  {fault}" for fault in self.faults]
        lines += [f"violation: {one}" for one in self.violations]
        lines.append(f"again: python -m simulation --seed {self.seed} --trace")
        return "\n".join(lines)


@cache
def _catalog(partitions: int) -> Catalog:
    return load_catalog("", partitions=partitions)


@cache
def _layout(partitions: int) -> Layout:
    return Layout.of(_catalog(partitions))


class _Log(MemoryLog):
    """Watches when producers are started."""

    def __init__(self, cluster: Cluster, name: str, wrong: Callable[[str], None]) -> None:
        super().__init__(cluster, name)
        self._wrong = wrong
        self._membership: Membership | None = None
        self._claims: dict[int, int] = {}

    def membership(self) -> Any:
        self._membership = super().membership()
        return self._membership

    def writer(self, partition: int) -> Any:
        assert self._membership is not None
        generation = self._membership.generation
        if self._claims.get(partition) == generation:
            self._wrong(
                f"P6 {self.name} starts a producer for partition {partition} twice "
                "under one assignment"
            )
        self._claims[partition] = generation
        return super().writer(partition)


class _Ledger(Ledger):
    """Watches for partitions that stop: nothing in a simulated history is a reason to."""

    def __init__(self, wrong: Callable[[str], None], source: _Log, *more: Any) -> None:
        super().__init__(source, *more)
        self.wrong = wrong
        self.log = source

    def tell_stages(self) -> None:
        super().tell_stages()
        for owner in self.owners.values():
            if owner.stage == "stopped":
                self.wrong(f"P6 {self.log.name} stops partition {owner.partition}: {owner.why}")


@dataclass
class _Worker:
    name: str
    context: contextvars.Context
    ledger: _Ledger | None = None
    state: str = "up"
    """up, paused, stopping, or gone."""


@dataclass
class _Ambush:
    """A fault that waits for a worker's request of a kind; `left` of them pass first."""

    request: str
    left: int
    fault: Callable[[_Worker], None]


class World:
    """What lives and happens in one history."""

    def __init__(self, seed: int, loop: SimulatedLoop, traced: bool) -> None:
        self.result = Result(seed)
        self._loop = loop
        self._traced = traced
        chance = self._chance = Random(f"world {seed}")
        self._partitions = chance.randint(1, 3)
        brokers = chance.randint(1, 3)
        self._play: Play = play(
            seed % PLAYS, self._partitions, chance.choice((4, 6)), chance.choice((20, 40, 60))
        )
        self._tempo = chance.choice((0.3, 1.0, 3.0, 10.0))
        self.weather = SimulatedWeather(
            Random(f"weather {seed}"), Climate.drawn(chance), brokers, self.note, self._sent
        )
        catalog = _catalog(self._partitions)
        self.layout = _layout(self._partitions)
        self.outputs = [name for name, topic in catalog.topics.items() if topic.kind == "output"]
        self.wire = {name: topic.wire for name, topic in catalog.topics.items()}
        self.cluster = Cluster(self.layout, self.outputs, self.weather, brokers)
        self._decider = Decider(self.wire, self._partitions, KEYS)
        self._workers: list[_Worker] = []
        self._outside = contextvars.copy_context()
        self._ambushes: list[_Ambush] = []
        self._raises_left = 0
        self._raised = 0
        self._silences_left = 0
        self.acks: list[Ack] = []
        self._clients: list[asyncio.Task[Any]] = []

    # --- telling ---------------------------------------------------------------------------------

    def note(self, text: str) -> None:
        if self._traced:
            process = PROCESS.get() or "-"
            self.result.trace.append(f"{self._loop.time():10.4f} {process:4} {text}")

    def _fault(self, text: str) -> None:
        self.result.faults.append(f"{self._loop.time():8.3f} s  {text}")
        self.note(f"FAULT {text}")

    def wrong(self, text: str) -> None:
        self.result.violations.append(text)
        self.note(f"WRONG {text}")

    # --- the course of it ------------------------------------------------------------------------

    async def run(self) -> None:
        for change in self._play.begin:
            await self._put(change)
        for _ in range(self._chance.randint(1, 3)):
            # Late ones find that commands have piled up.
            self._after(self._chance.choice((0.0, 0.0, 4.0)) * self._tempo, self._start_worker)
        acting = asyncio.create_task(self._act())
        nemesis = asyncio.create_task(self._befall())
        await acting
        await nemesis
        await asyncio.gather(*self._clients)
        self._clear_up()
        await self._until_decided()
        self.result.seconds = self._loop.time()

    async def _act(self) -> None:
        """The play, at the times it says."""
        last: dict[str, asyncio.Task[None]] = {}
        for act in self._play.acts:
            if act.pause_s:
                await asyncio.sleep(act.pause_s * self._tempo)
            if isinstance(act, Change):
                task = asyncio.create_task(self._put(act))
            else:
                before = last.get(act.person) if act.after else None
                task = last[act.person] = asyncio.create_task(self._send(act, before))
            self._clients.append(task)

    def _clear_up(self) -> None:
        self.note("QUIET")
        self.weather.quiet = True
        self._raises_left = self._silences_left = 0
        for worker in self._workers:
            if worker.state == "paused":
                worker.state = "up"
                self._loop.resume(worker.name)
        if not any(worker.state == "up" for worker in self._workers):
            self._start_worker()

    async def _until_decided(self) -> None:
        deadline = self._loop.time() + QUIET_S_MAX
        while True:
            left = self._undecided() or [
                f"{topic}/{number} has an open transaction"
                for topic, number in self.cluster.open_transactions
            ]
            if not left:
                return
            if self._loop.time() > deadline:
                health = [
                    f"{worker.name}: {worker.ledger.health()[1]!r}"
                    for worker in self._workers
                    if worker.state == "up" and worker.ledger is not None
                ]
                self.wrong(
                    f"P6 not everything is decided {QUIET_S_MAX:.0f} s after the faults: "
                    f"{'; '.join(left[:4])}; {'; '.join(health)}"
                )
                return
            await asyncio.sleep(0.25)

    def _undecided(self) -> list[str]:
        left = []
        for number in range(self._partitions):
            offsets = progress(self.cluster.partitions[self.layout.state, number])
            for topic in self.layout.commands:
                partition = self.cluster.partitions[topic, number]
                for record in reversed(partition.records):
                    if record.offset not in partition.hidden:
                        if record.offset >= offsets.get(topic, 0):
                            left.append(f"{topic}/{number}/{record.offset} is not decided")
                        break
        return left

    # --- workers ---------------------------------------------------------------------------------

    def _start_worker(self) -> None:
        name = f"w{len(self._workers) + 1}"
        context = contextvars.copy_context()
        context.run(PROCESS.set, name)
        worker = _Worker(name, context)
        self._workers.append(worker)
        self._fault(f"{name} starts")
        self._loop.create_task(self._live(worker), context=context)

    async def _live(self, worker: _Worker) -> None:
        references = References(self.layout.references, parse_reference)
        log = _Log(self.cluster, worker.name, self.wrong)
        worker.ledger = _Ledger(self.wrong, log, references, str(RULES_VERSION), self._ask)
        await worker.ledger.start()
        await worker.ledger.failed.wait()
        self.wrong(f"P6 the ledger of {worker.name} ended: {worker.ledger.failure!r}")

    async def _ask(self, turn: Turn) -> None:
        """The deciding agent: answers later, or raises, or is silent, and is sometimes slow."""
        if self._silences_left:
            self._silences_left -= 1
            self._fault(f"{PROCESS.get()} never answers turn {turn.number} of {turn.partition}")
            return
        self._loop.create_task(self._answer(turn))

    async def _answer(self, turn: Turn) -> None:
        await asyncio.sleep(self._chance.choice((0.0, 0.0, 0.001, 0.02)))
        await answer(turn, self._decide, self._chance.choice((0.0, 0.0, 0.001, 0.1)))

    def _decide(self, turn: Turn) -> Iterator[Verdict | None]:
        if self._raises_left:
            self._raises_left -= 1
            self._fault(f"{PROCESS.get()} raises on turn {turn.number} of {turn.partition}")
            raise RuntimeError("a fault")
        for verdict in self._decider.decide(turn):
            if verdict is not None:
                self.note(
                    f"turn {turn.number} of partition {turn.partition}: "
                    f"{[(one.topic, one.offset) for one in turn.records]} {turn.used}"
                )
            yield verdict

    def _some_worker(self) -> _Worker | None:
        up = [worker for worker in self._workers if worker.state == "up"]
        return self._chance.choice(up) if up else None

    # --- clients ---------------------------------------------------------------------------------

    def _now_ms(self) -> float:
        return BEGIN_MS + self._loop.time() * 1000

    async def _produce(self, place: Place, key: bytes | None, value: bytes | None) -> None:
        """Send until it is acknowledged, or give up: as clients do."""
        entries = [Entry(key, value)]
        while True:
            sent_ms = self._now_ms()
            try:
                offset = await self.cluster.request(
                    "client",
                    self.cluster.partitions[place].broker,
                    lambda done: self.cluster.produce(place, entries, done),
                )
            except LogUnavailable:
                self.note(f"client: {place} is not acknowledged")
                if self._chance.random() < 0.2:
                    return
                await asyncio.sleep(self._chance.random() * 0.3)
                continue
            self.note(f"client: {place} {offset} acknowledged")
            self.acks.append(Ack(*place, offset, None, sent_ms, self._now_ms()))
            return

    async def _put(self, change: Change) -> None:
        await self._produce((change.topic, 0), change.key.encode(), change.value)

    async def _send(self, message: Message, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await asyncio.wait([before])
            await asyncio.sleep(self._chance.choice((0.0, 0.001, 0.002, 0.07)))
        await self._produce((message.topic, message.partition), message.key, message.value)

    async def _stranger(self, message: Message, hold_s: float, commit: bool) -> None:
        """A producer with transactions of its own on a command topic, which should not be."""
        cluster, place = self.cluster, (message.topic, message.partition)
        name = f"stranger {len(self.result.faults)}"
        try:
            producer, epoch = cluster.begin_producer(name, 10_000)
            sent_ms = self._now_ms()
            offset = await cluster.request(
                "client",
                cluster.partitions[place].broker,
                lambda done: cluster.produce(
                    place, [Entry(message.key, message.value)], done, (name, producer, epoch)
                ),
            )
            acked_ms = self._now_ms()
            await asyncio.sleep(hold_s)
            cluster.end(name, epoch, commit)
        except LogError as error:
            self.note(f"stranger: {error!r}")
            return
        if commit:
            self.acks.append(Ack(*place, offset, None, sent_ms, acked_ms))

    # --- faults ----------------------------------------------------------------------------------

    async def _befall(self) -> None:
        chance = self._chance
        length_s = sum(act.pause_s for act in self._play.acts) * self._tempo + 1
        times = sorted(chance.random() * length_s for _ in range(chance.choice((0, 2, 4, 8))))
        kinds = chance.sample(FAULTS, chance.choice((1, 2, 4, len(FAULTS))))
        now_s = 0.0
        for at in times:
            await asyncio.sleep(at - now_s)
            now_s = at
            getattr(self, f"_fault_{chance.choice(kinds)}")()

    def _after(self, seconds: float, run: Callable[[], None]) -> None:
        async def later() -> None:
            await asyncio.sleep(seconds)
            run()

        # Not in the context of a worker that just fell into an ambush.
        self._clients.append(self._loop.create_task(later(), context=self._outside.copy()))

    def _sent(self, request: str) -> None:
        for ambush in self._ambushes:
            if ambush.request != request:
                continue
            worker = next((one for one in self._workers if one.name == PROCESS.get()), None)
            if worker is None or worker.state != "up":
                continue
            ambush.left -= 1
            if ambush.left < 0:
                self._ambushes.remove(ambush)
                self._fault(f"{worker.name} has just sent: {request}")
                ambush.fault(worker)
                return

    def _fault_ambush(self) -> None:
        fault = self._chance.choice((self._crash, self._pause, self._pause))
        request = self._chance.choice(REQUESTS)
        self._ambushes.append(_Ambush(request, self._chance.choice((0, 1, 3, 10)), fault))

    def _fault_crash(self) -> None:
        worker = self._some_worker()
        if worker is not None:
            self._crash(worker)

    def _crash(self, worker: _Worker) -> None:
        self._fault(f"{worker.name} is killed")
        worker.state = "gone"
        self._loop.kill(worker.name)
        if self._chance.random() < 0.8:
            self._after(self._chance.random() * 3, self._start_worker)

    def _fault_stop(self) -> None:
        worker = self._some_worker()
        if worker is None or worker.ledger is None:
            return
        self._fault(f"{worker.name} is asked to stop")
        worker.state = "stopping"
        ledger = worker.ledger

        async def stop() -> None:
            began = self._loop.time()
            await ledger.stop()
            took = self._loop.time() - began
            if took > limits.STOP_MS_MAX / 1000 + 0.1:
                self.wrong(f"P6 {worker.name} took {took:.1f} s to stop")
            self._fault(f"{worker.name} has stopped")
            worker.state = "gone"
            self._loop.kill(worker.name)

        self._loop.create_task(stop(), context=worker.context)
        if self._chance.random() < 0.8:
            self._after(self._chance.random() * 3, self._start_worker)

    def _fault_pause(self) -> None:
        worker = self._some_worker()
        if worker is not None:
            self._pause(worker)

    def _pause(self, worker: _Worker) -> None:
        seconds = self._chance.choice((0.1, 1.0, 5.0, 9.0, 14.0))
        self._fault(f"{worker.name} is paused for {seconds} s")
        worker.state = "paused"
        self._loop.pause(worker.name)

        def resume() -> None:
            if worker.state == "paused":
                self._fault(f"{worker.name} goes on")
                worker.state = "up"
                self._loop.resume(worker.name)

        self._after(seconds, resume)

    def _fault_outage(self) -> None:
        broker = self._chance.randrange(self.cluster.brokers)
        seconds = self._chance.choice((0.1, 1.0, 4.0, 12.0))
        self._fault(f"broker {broker} does not answer for {seconds} s")
        self.weather.outage(broker, seconds)

    def _fault_slow(self) -> None:
        place = self._chance.choice(sorted(self.cluster.partitions))
        self._fault(f"{place} turns visible slowly for 3 s")
        self.weather.slow(place, 3.0)

    def _fault_fence(self) -> None:
        number = self._chance.randrange(self._partitions)
        self._fault(f"an impostor fences partition {number}")
        try:
            self.cluster.begin_producer(f"realname-{number}", limits.TRANSACTION_MS_MAX)
        except LogError as error:
            self.note(f"impostor: {error!r}")

    def _fault_rejoin(self) -> None:
        worker = self._some_worker()
        if worker is not None and worker.ledger is not None:
            self._fault(f"{worker.name} joins the group again")
            worker.ledger.membership.rejoin()

    def _fault_worker(self) -> None:
        if sum(worker.state == "up" for worker in self._workers) < 4:
            self._start_worker()

    def _fault_raise(self) -> None:
        if self._raised < RAISES_MAX:
            count = self._chance.randint(1, RAISES_MAX - self._raised)
            self._raised += count
            self._raises_left += count

    def _fault_silence(self) -> None:
        if self._chance.random() < 0.3 and self._raised < RAISES_MAX:
            self._raised += 1
            self._silences_left += 1

    def _fault_clock(self) -> None:
        broker = self._chance.randrange(self.cluster.brokers)
        by_ms = self._chance.choice((-1.0, -1.0, 1.0)) * self._chance.choice(
            (3.0, 40.0, 400.0, 4000.0)
        )
        self._fault(f"the clock of broker {broker} steps by {by_ms} ms")
        self.weather.step_clock(broker, by_ms)

    def _fault_compact(self) -> None:
        number = self._chance.randrange(self._partitions)
        self._fault(f"person-state/{number} is compacted")
        self.cluster.compact((self.layout.state, number))

    def _fault_foreign(self) -> None:
        messages = [act for act in self._play.acts if isinstance(act, Message)]
        message = self._chance.choice(messages)
        hold_s = self._chance.choice((0.05, 1.0, 6.0, 12.0))
        commit = self._chance.random() < 0.6
        self._fault(
            f"a stranger's transaction on {message.topic}/{message.partition} "
            f"{'commits' if commit else 'aborts'} after {hold_s} s"
        )
        self._clients.append(asyncio.create_task(self._stranger(message, hold_s, commit)))


def progress(partition: Partition) -> dict[str, int]:
    """Command topic -> the offset behind what is decided, by the committed progress record."""
    stable = partition.stable
    for record in reversed(partition.records):
        if (
            record.key == PROGRESS_KEY
            and record.offset < stable
            and record.offset not in partition.hidden
            and record.value is not None
        ):
            return dict(decode(record.value).offsets)
    return {}


# --- running it ----------------------------------------------------------------------------------


@contextmanager
def _surroundings(chance: Random, world: World) -> Iterator[None]:
    """Logs go to the trace, and some limits are so low that their edges are met."""

    def told(_: Any, level: str, event: Any) -> Any:
        world.note(f"{level}: {event.pop('event')} {event}")
        raise structlog.DropEvent

    before = structlog.get_config()
    least = 10 if world._traced else 50
    structlog.configure(
        processors=[told],
        wrapper_class=structlog.make_filtering_bound_logger(least),
        cache_logger_on_first_use=False,
    )
    lowered = {
        "TURN_RECORDS_MAX": chance.choice((1, 3, limits.TURN_RECORDS_MAX)),
        "DECIDED_AT_ONCE_MAX": chance.choice((1, 1, 2)),
    }
    usual = {name: getattr(limits, name) for name in lowered}
    for name, value in lowered.items():
        setattr(limits, name, value)
    try:
        yield
    finally:
        for name, value in usual.items():
            setattr(limits, name, value)
        structlog.configure(**before)


def run(
    seed: int,
    traced: bool = False,
    planted: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Result:
    """Run and judge the history of a seed. `planted`: surrounds the history, not its judgement."""
    loop = SimulatedLoop(seed)
    try:
        world = loop.run_until_complete(_made(seed, loop, traced))
        result = world.result
        with _surroundings(Random(f"limits {seed}"), world), planted():
            try:
                loop.run_until_complete(world.run())
            except (Deadlock, Endless) as error:
                world.wrong(f"P6 {error}")
            # What happened is a fact now; what still runs is only ended.
            finished = not result.violations
            world.cluster.over = True
            _end(loop)
        result.steps = loop.steps
        result.violations += judge(world)
        if finished and loop.complaints:
            result.violations += [f"nobody awaited: {one}" for one in loop.complaints[:3]]
        return result
    finally:
        loop.close()


async def _made(seed: int, loop: SimulatedLoop, traced: bool) -> World:
    return World(seed, loop, traced)


def _end(loop: SimulatedLoop) -> None:
    """End every task, also of the dead."""

    async def ended() -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        loop.bury()
        await asyncio.gather(*tasks, return_exceptions=True)

    loop.run_until_complete(ended())
