"""The drills: what is done to a running deployment, one function each.

A drill gets a stage on which workers decide, the projector projects and the load runs, and does its
worst. When it returns, the load goes on until decisions have come again; then all is judged. It
raises `Void` when the fault did not happen, and `Broken` for a promise of which the checker cannot
know.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import urlsplit, urlunsplit

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.structs import TopicPartition

from deployment import topics
from drills.proxy import APIS, Mischief, Proxy
from drills.stage import Broken, Process, Stage, Void, stage_of
from local import ports
from schemas import limits

WORKER_MB_MAX: Final = 400
PROJECTOR_MB_MAX: Final = 500
GROWTH_MB_MAX: Final = 150
"""Of a worker that meets records that unpack to 30 MB."""

Play = Callable[[Stage], Awaitable[None]]


@dataclass(frozen=True)
class Drill:
    name: str
    play: Play
    words: str
    workers: int = 2
    own: bool = False
    """It needs servers of its own, because it harms them."""
    nodes: int = 1
    disk: Literal["", "broker", "database"] = ""
    """This server has a small disk of its own, of `disk_mb`."""
    disk_mb: int = 0
    proxied: Literal["", "first", "all"] = ""
    """The workers that speak to the broker through the proxy."""
    first_env: Mapping[str, str] = field(default_factory=dict)
    """Hooks of the workers that are there at the beginning."""
    projects: bool = True
    """A projector is started as all others; else the drill does it."""
    short: bool = False
    """It is in the short set."""
    load: Mapping[str, Any] = field(default_factory=dict)
    """What its load has that others have not; fields of `drills.load.Plan`."""
    early: bool = False
    """The load begins before the first worker."""


DRILLS: Final[dict[str, Drill]] = {}


def drill(**options: Any) -> Callable[[Play], Play]:
    """Registers a drill under its function's name; the first line of its docstring tells of it."""

    def register(play: Play) -> Play:
        name = play.__name__
        words = (play.__doc__ or "").partition("\n")[0]
        DRILLS[name] = Drill(name, play, words, **options)
        return play

    return register


async def ended(process: Process, seconds: float = 20) -> None:
    """Wait until a process that is to kill itself has done so. Raises Void."""
    try:
        await asyncio.wait_for(process.process.wait(), seconds)
    except TimeoutError:
        raise Void(f"{process.name} never came to the point where it dies") from None


# --- 1: kills -----------------------------------------------------------------------------------


async def _kill_at(stage: Stage, point: str) -> None:
    """Let one of two, or of four, workers kill itself at a point of a turn, and another take its
    place."""
    for _ in range(stage.random.choice((0, 2))):
        await stage.worker()
    turns = 1 if point == "staff" else stage.random.randrange(2, 20)
    victim = await stage.worker(DRILL_KILL=f"{point}:{turns}")
    victim.dying = True
    await ended(victim, 60)
    stage.fault(f"a worker killed itself: {point}")
    await stage.resumed()
    await stage.worker()
    await stage.resumed()


@drill(workers=1)
async def kill_decided(stage: Stage) -> None:
    """SIGKILL after deciding, before anything is sent."""
    await _kill_at(stage, "decided")


@drill(workers=1, short=True)
async def kill_sent(stage: Stage) -> None:
    """SIGKILL when all is sent, before the transaction ends."""
    await _kill_at(stage, "sent")


@drill(workers=1)
async def kill_ending(stage: Stage) -> None:
    """SIGKILL while the end of the transaction is under way."""
    await _kill_at(stage, "ending")


@drill(workers=1)
async def kill_committed(stage: Stage) -> None:
    """SIGKILL after the commit, before the worker has taken it in."""
    await _kill_at(stage, "committed")


@drill(workers=1)
async def kill_staff(stage: Stage) -> None:
    """SIGKILL right after staff records were committed."""
    await _kill_at(stage, "staff")


@drill(workers=4, short=True)
async def kill(stage: Stage) -> None:
    """SIGKILL to two of four workers at any time, three times over."""
    for _ in range(3):
        for victim in stage.random.sample(stage.alive, 2):
            stage.fault(f"SIGKILL {victim.name}")
            victim.kill()
            await stage.pause(0, 1)
        await stage.resumed()
        await stage.worker()
        await stage.worker()
        await stage.settled()


@drill()
async def leave(stage: Stage) -> None:
    """SIGTERM to a worker, and another comes; three times over."""
    longest = 0.0
    await stage.settled()
    for _ in range(3):
        leaver = stage.random.choice(stage.alive)
        stage.fault(f"SIGTERM {leaver.name}")
        longest = max(longest, await leaver.stop())
        await stage.resumed()
        await stage.worker()
        await stage.settled()
    stage.notes["stop_s"] = longest


# --- 2, 3: zombies, coming and going ------------------------------------------------------------


@drill(short=True)
async def zombie(stage: Stage) -> None:
    """SIGSTOP past the session timeout, then SIGCONT: fenced, decides nothing it may not."""
    victim = stage.random.choice(stage.alive)
    held = stage_of(await victim.page("/health"), "deciding")
    if not held:
        raise Void("the worker to be paused owned nothing")
    stage.fault(f"SIGSTOP {victim.name}, which decides {sorted(held)}")
    async with stage.frozen(victim):
        await stage.pause(limits.SESSION_MS_MAX / 1000 + 1, limits.SESSION_MS_MAX / 1000 + 4)
        others = [one for one in stage.alive if one is not victim]
        await _taken_over(held, others)
        stage.fault(f"SIGCONT {victim.name}")
    await stage.resumed()
    await stage.pause(2)
    if not await victim.counter("realname_ledger_fences_total"):
        # It may have learned from the group first: then it wrote nothing, which is as good.
        stage.tell("the zombie was told by the group before it was fenced")


async def _taken_over(partitions: set[int], workers: list[Process], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while True:
        held: set[int] = set()
        for worker in workers:
            held |= stage_of(await worker.page("/health"), "deciding")
        if held >= partitions:
            return
        if time.monotonic() > deadline:
            raise Broken(f"after {seconds} s nobody took over {sorted(partitions - held)}")
        await asyncio.sleep(0.1)


@drill()
async def storm(stage: Stage) -> None:
    """Workers join and leave, or die, every 0.2 to 5 s."""
    stage.fault("workers come and go")
    until = time.monotonic() + 14
    while time.monotonic() < until:
        if len(stage.alive) > 1 and stage.random.random() < 0.5:
            victim = stage.random.choice(stage.alive)
            if stage.random.random() < 0.5:
                victim.kill()
            else:
                await victim.stop()
        elif len(stage.alive) < 5:
            await stage.worker()
        await asyncio.sleep(0.2 * 25 ** stage.random.random())
    stage.mended("nobody comes or goes any more")
    await stage.resumed()


@drill()
async def revoke_in_barrier(stage: Stage) -> None:
    """Partitions move while the barrier is waited for."""
    for old in list(stage.alive):
        await stage.worker(DRILL_BARRIER_S="0.4")
        stage.fault("a worker joins while barriers take 0.4 s")
        await stage.pause(0.5, 2)
        await old.stop()
    for _ in range(2):
        await stage.worker(DRILL_BARRIER_S="0.4")
        await stage.pause(1, 2)
        await stage.random.choice(stage.alive).stop()
    await stage.resumed()


# --- 4, 5: brokers ------------------------------------------------------------------------------


@drill(own=True, short=True)
async def bounce(stage: Stage) -> None:
    """SIGKILL of the only broker and a new start, five times."""
    broker = stage.server.broker
    assert broker is not None
    for number in range(5):
        stage.fault("SIGKILL the broker")
        await asyncio.to_thread(broker.kill)
        await stage.pause(0, 1)
        await asyncio.to_thread(broker.start)
        stage.mended("the broker is back")
        if number % 2:
            await stage.resumed()
        await stage.pause(0, 3)
    await stage.resumed()


# --- 7: the database ----------------------------------------------------------------------------


@drill(own=True, short=True)
async def database(stage: Stage) -> None:
    """SIGKILL of PostgreSQL amid batches, three times."""
    for _ in range(3):
        stage.fault("SIGKILL the database")
        await asyncio.to_thread(stage.server.database.kill)
        await stage.pause(0.2, 2)
        await asyncio.to_thread(stage.server.database.start)
        await stage.pause(1, 3)


@drill(short=True)
async def two_projectors(stage: Stage) -> None:
    """Two projectors at once; the one at work is killed, or paused and wakes up."""
    other = await stage.projector()
    await stage.pause(2)
    first = stage.projectors[0]
    stage.fault("SIGKILL the projector at work")
    first.kill()
    await stage.pause(2)
    third = await stage.projector()
    await stage.pause(2)
    stage.fault("SIGSTOP the projector at work")
    async with stage.frozen(other):
        await stage.pause(2)
    await stage.pause(1)
    other.kill()
    await stage.pause(2)
    if not third.running:
        raise Broken("the projector that stood by is gone")


# --- 9: garbage ---------------------------------------------------------------------------------


@drill(load={"bad": 0.6, "rate": 400}, short=True)
async def garbage(stage: Stage) -> None:
    """More than half of what comes is no command, and a worker is killed in it."""
    await stage.pause(3)
    victim = stage.random.choice(stage.alive)
    stage.fault(f"SIGKILL {victim.name} amid garbage")
    victim.kill()
    await stage.resumed()


@drill(load={"codecs": ["gzip", "snappy", "lz4", "zstd", None], "rate": 150})
async def codecs(stage: Stage) -> None:
    """Every compression, and records that unpack to 30 MB, with a kill among them."""
    before = max([one.peak_mb for one in stage.alive])
    stage.fault("records that unpack to 30 MB")
    options: Any = {"max_request_size": 64 << 20, "max_batch_size": 64 << 20}
    for codec in ("gzip", "zstd", "lz4"):
        async with AIOKafkaProducer(
            bootstrap_servers=stage.server.brokers, compression_type=codec, **options
        ) as producer:
            for partition in range(0, stage.partitions, 3):
                wire = stage.catalog.topics["scan-events"].wire
                await producer.send_and_wait(wire, bytes(30 << 20), b"a bomb", partition)
    await stage.resumed()
    grown = max([one.peak_mb for one in stage.alive]) - before
    stage.notes["grown_mb"] = grown
    if grown > GROWTH_MB_MAX:
        raise Broken(f"a worker grew by {grown:.0f} MB over records that unpack to 30 MB")
    stage.alive[0].kill()
    await stage.resumed()


@drill(load={"flood": 600, "rate": 60})
async def strangers(stage: Stage) -> None:
    """A flood of persons nobody has heard of, with a kill amid it."""
    await stage.pause(8)
    stage.fault("SIGKILL a worker amid a flood of strangers")
    stage.random.choice(stage.alive).kill()
    await stage.resumed()
    await stage.pause(2)
    for worker in stage.alive:
        if worker.peak_mb > WORKER_MB_MAX:
            raise Broken(f"{worker.name} takes {worker.peak_mb:.0f} MB")


# --- 5: a cluster -------------------------------------------------------------------------------


@drill(own=True, nodes=3)
async def cluster(stage: Stage) -> None:
    """Each of three brokers is killed in turn, then two at once: refuses, and comes back."""
    assert stage.server.cluster is not None
    nodes = stage.server.cluster.nodes
    # Each leads some partitions, and one of them is the controller.
    for node in nodes:
        stage.fault(f"SIGKILL {node.bootstrap}")
        await asyncio.to_thread(node.kill)
        await stage.resumed()
        await asyncio.to_thread(node.start)
        await stage.pause(3)
    stage.fault("SIGKILL two of three")
    for node in nodes[:2]:
        await asyncio.to_thread(node.kill)
    await stage.pause(3)
    before = stage.sent()
    await stage.pause(4)
    if stage.sent() != before:
        raise Broken(f"with two of three down {stage.sent() - before} records were acknowledged")
    for node in nodes[:2]:
        await asyncio.to_thread(node.launch)
    for node in nodes[:2]:
        await asyncio.to_thread(node.await_ready)
    stage.mended("all three are back")
    await stage.resumed(90)


# --- 6: the network -----------------------------------------------------------------------------


_WRITES: Final = frozenset({APIS["Produce"], APIS["EndTxn"]})
_READS: Final = frozenset({APIS["Fetch"], APIS["ListOffsets"], APIS["OffsetFetch"]})
_GROUP: Final = frozenset({APIS["JoinGroup"], APIS["SyncGroup"], APIS["Heartbeat"]})


@drill(proxied="all", short=True)
async def proxy(stage: Stage) -> None:
    """Answers of the broker are lost, late or cut off, first some, then all of a kind."""
    mischiefs = [
        Mischief("cut", _WRITES, 0.05),
        Mischief("refuse", _WRITES | _READS, 0.05),
        Mischief("delay", _WRITES | _READS, 0.3, 0.5),
        Mischief("drop", frozenset({APIS["EndTxn"]}), 0.1),
        Mischief("drop", frozenset({APIS["Produce"]}), 0.05),
        Mischief("cut", _READS | _GROUP, 0.05),
        Mischief("delay", frozenset({APIS["EndTxn"]}), 1.0, limits.COMMIT_MS_MAX / 1000 + 1),
    ]
    for mischief in stage.random.sample(mischiefs, 4):
        apis = ", ".join(name for name, key in APIS.items() if key in mischief.apis)
        stage.fault(f"{mischief.what} {mischief.chance:.0%} of {apis}")
        stage.proxy.mischief = mischief
        await stage.pause(2, 4)
        stage.proxy.mischief = None
        await stage.pause(0, 1)
    if not stage.proxy.played:
        raise Void("the network did no mischief")
    stage.mended("the network is well")
    stage.notes["mischiefs"] = stage.proxy.played
    await stage.resumed()


@drill(proxied="all")
async def cut(stage: Stage) -> None:
    """Connections are cut before a batch gets through."""
    stage.fault("refuse half of Produce")
    stage.proxy.mischief = Mischief("refuse", frozenset({APIS["Produce"]}), 0.5)
    await stage.pause(4)
    stage.proxy.mischief = None
    stage.mended("the network is well")
    if not stage.proxy.played:
        raise Void("nothing was cut")
    await stage.resumed()


@drill(proxied="first")
async def deaf(stage: Stage) -> None:
    """A worker hears nothing of its group, which expels it, while all else goes on."""
    victim, heir = stage.alive
    held = stage_of(await victim.page("/health"), "deciding")
    stage.fault("the group is not heard by one of two workers")
    stage.proxy.mischief = Mischief("drop", _GROUP)
    await _taken_over(held, [heir], 40)
    await stage.pause(6)
    stage.proxy.mischief = None
    fenced = await heir.counter("realname_ledger_fences_total")
    stage.notes["heir_fences"] = fenced
    if fenced:
        raise Broken(f"the worker that the group gave the partitions to was fenced {fenced:.0f} x")
    await stage.resumed()


# --- 8: disks -----------------------------------------------------------------------------------


def _fill(disk: Path) -> Path:
    """Leave nothing of a small disk; the file that takes it up."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(1 << 20)) == 1 << 20:
            pass
        while file.write(bytes(512)):
            pass
    return filler


@drill(own=True, disk="broker", disk_mb=700)
async def disk_broker(stage: Stage) -> None:
    """The broker's disk is full, and freed again."""
    broker = stage.server.broker
    assert broker is not None
    stage.fault("the disk is full")
    filler = _fill(stage.server.home / "broker")
    deadline = time.monotonic() + 30
    while broker.pid is not None and time.monotonic() < deadline:  # noqa: ASYNC110
        await asyncio.sleep(0.1)
    stage.tell("the broker is down" if broker.pid is None else "the broker stays up")
    filler.unlink()
    stage.mended("the disk is free again")
    if broker.pid is not None:
        await asyncio.to_thread(broker.kill)
    await asyncio.to_thread(broker.start)
    await asyncio.to_thread(stage.server.database.start)
    await stage.resumed()


@drill(own=True, disk="database", disk_mb=300)
async def disk_database(stage: Stage) -> None:
    """The database's disk is full, and freed again."""
    stage.fault("the disk is full")
    filler = _fill(stage.server.home / "database")
    before = stage.seen()
    await stage.pause(5)
    if stage.seen() <= before + 100:
        raise Broken("deciding stands still with the database's disk")
    filler.unlink()
    stage.mended("the disk is free again")
    await stage.pause(1)
    await asyncio.to_thread(stage.server.database.start)
    await stage.resumed()


# --- 10: clocks ---------------------------------------------------------------------------------


@drill()
async def clock(stage: Stage) -> None:
    """Workers whose clocks are an hour off, or jump; the brokers' alone counts."""
    old = list(stage.alive)
    for spec in ("3600", "-3600", "3600,jump"):
        stage.fault(f"a worker's clock: {spec} s")
        await stage.worker(DRILL_CLOCK=spec)
    await stage.deciding()
    for one in old:
        await one.stop()
    await stage.resumed()
    await stage.pause(1, 3)
    stage.random.choice(stage.alive).kill()
    await stage.resumed()


# --- 11: restoring, and inputs that are not as they should be -----------------------------------


@drill(short=True)
async def restore(stage: Stage) -> None:
    """All workers die, commands pile up, new workers begin from nothing."""
    for worker in stage.alive:
        stage.fault(f"SIGKILL {worker.name}")
        worker.kill()
    await stage.pause(4, 6)
    stage.mended("new workers are started")
    await stage.worker()
    await stage.worker()
    await stage.resumed()
    await stage.pause(2)


@drill()
async def slow_restore(stage: Stage) -> None:
    """A restore that takes longer than the session timeout expels nobody."""
    slow = limits.SESSION_MS_MAX / 1000 + 2
    new = [await stage.worker(DRILL_RESTORE_S=str(slow)) for _ in range(2)]
    await stage.pause(3)
    for worker in stage.workers[:2]:
        stage.fault(f"SIGKILL {worker.name}; a restore takes {slow} s")
        worker.kill()
    await stage.resumed()
    await stage.pause(2)
    # Two joined, two were missed: whoever is assigned more often than that was expelled in between.
    assigned = max(one.said().count('"assigned"') for one in new)
    if assigned > 5:
        raise Broken(f"a restoring worker was assigned partitions {assigned} times")


@drill(early=True)
async def begin(stage: Stage) -> None:
    """The first workers find commands that wait for them."""
    stage.fault("the first workers came late")
    await stage.pause(3)


_NEW_TOPIC: Final = "exit-requests"


@drill(load={"held": [_NEW_TOPIC]}, first_env={"DRILL_WITHOUT": _NEW_TOPIC})
async def rolling(stage: Stage) -> None:
    """Workers that know one more topic replace those that do not, one by one."""
    for older in list(stage.alive):
        stage.fault(f"a newer worker joins, {older.name} leaves")
        await stage.worker()
        await stage.pause(2, 4)
        await older.stop()
    await stage.resumed()
    assert stage.load is not None
    stage.load.signal(signal.SIGUSR1)
    await stage.pause(4)


@drill(short=True)
async def foreign_transaction(stage: Stage) -> None:
    """A foreign producer holds transactions open on all command topics, ends some, aborts some."""
    async with AIOKafkaProducer(
        bootstrap_servers=stage.server.brokers,
        transactional_id=f"foreign-{stage.prefix}",
        transaction_timeout_ms=30_000,
    ) as producer:
        for ending in ("commit", "abort", "commit"):
            await producer.begin_transaction()
            stage.fault(f"a foreign transaction on every command topic, to {ending}")
            sent = [
                await producer.send(topic.wire, b"foreign", b"foreign", partition=partition)
                for topic in stage.catalog.commands
                for partition in range(stage.partitions)
            ]
            await asyncio.gather(*sent)
            await stage.pause(1, 3)
            if ending == "commit":
                await producer.commit_transaction()
            else:
                await producer.abort_transaction()
            await stage.pause(0.5, 1)
    await stage.resumed()


@drill()
async def raises(stage: Stage) -> None:
    """The deciding agent raises, three times in a row: a rebuild, and nothing else."""
    old = list(stage.alive)
    stage.fault("a worker joins whose decisions raise")
    raising = await stage.worker(DRILL_RAISE="5:3")
    await stage.pause(4)
    for one in old:
        await one.stop()
    await stage.resumed()
    if "the decision failed" not in raising.said():
        raise Void("nothing raised")


async def _all_leave(stage: Stage) -> None:
    for worker in stage.alive:
        await worker.stop()


async def _stops_with(stage: Stage, words: str) -> None:
    """Workers that begin now must stop a partition, saying this, and skip nothing."""
    worker = await stage.worker()
    await stage.until(lambda: words in worker.said(), f"a worker says {words!r}", 60)
    health = await worker.page("/health") or ""
    if words not in health:
        raise Broken(f"the health page does not say {words!r}: {health}")
    stage.judged = False


@drill()
async def truncated(stage: Stage) -> None:
    """Commands that were not decided yet are deleted: the partition stops and says so."""
    await _all_leave(stage)
    stage.fault("undecided commands are deleted")
    await stage.pause(2)
    admin = AIOKafkaAdminClient(bootstrap_servers=stage.server.brokers)
    await admin.start()
    try:
        wire = stage.catalog.topics["scan-events"].wire
        everything = RecordsToDelete(before_offset=-1)
        await admin.delete_records(
            {TopicPartition(wire, number): everything for number in range(stage.partitions)}
        )
    finally:
        await admin.close()
    await _stops_with(stage, "records were lost")


@drill()
async def made_anew(stage: Stage) -> None:
    """A command topic is deleted and made again: the partitions stop and say so."""
    await _all_leave(stage)
    assert stage.load is not None
    stage.load.kill()
    stage.fault("a command topic is deleted and made again")
    admin = AIOKafkaAdminClient(bootstrap_servers=stage.server.brokers)
    await admin.start()
    try:
        await admin.delete_topics([stage.catalog.topics["scan-events"].wire])
    finally:
        await admin.close()
    await stage.pause(1)
    await topics.apply(stage.server.brokers, stage.catalog, 1)
    await _stops_with(stage, "was deleted and made anew")


# --- 12: a slow database ------------------------------------------------------------------------


@drill(projects=False)
async def slow_database(stage: Stage) -> None:
    """A database that takes its time: deciding does not, and memory stays bounded."""
    parts = urlsplit(stage.database_uri)
    (port,) = ports.remembered(stage.home / "slow.json", ("slow",)).values()
    assert parts.port is not None
    slow = Proxy(port, parts.port, stage.random, frames=False)
    await slow.start()
    stage.afterwards(slow.stop)
    there = parts._replace(netloc=parts.netloc.replace(str(parts.port), str(port)))
    projector = await stage.projector(REALNAME_DATABASE=urlunsplit(there))
    await stage.pause(3)
    stage.fault("each packet to and from the database takes 0.3 s")
    slow.delay_s = 0.3
    await stage.pause(12)
    slow.delay_s = 0.0
    for process, most in (
        (projector, PROJECTOR_MB_MAX),
        *((w, WORKER_MB_MAX) for w in stage.alive),
    ):
        if process.peak_mb > most:
            raise Broken(f"{process.name} takes {process.peak_mb:.0f} MB, at most {most} it should")


# --- no fault: for errors that need none --------------------------------------------------------


@drill()
async def calm(stage: Stage) -> None:
    """Nothing is done to it."""
    stage.fault("nothing")
    await stage.pause(6)


@drill()
async def fenced(stage: Stage) -> None:
    """A zombie that was fenced gets its partitions back when the others die."""
    victim, heir = stage.alive
    held = stage_of(await victim.page("/health"), "deciding")
    stage.fault(f"SIGSTOP {victim.name}, which decides {sorted(held)}")
    async with stage.frozen(victim):
        await stage.pause(limits.SESSION_MS_MAX / 1000 + 1)
        await _taken_over(held, [heir], 40)
        await stage.pause(1, 2)
    await stage.resumed()
    stage.fault(f"SIGKILL {heir.name}")
    heir.kill()
    await stage.resumed()
    await stage.pause(2)
