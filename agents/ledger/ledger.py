"""The ledger: who decides what, in which order, and what is then a fact.

Theory of operation. A worker owns some partition numbers; which, only the group says. For each it
runs an owner, one after another through these stages:

    claiming   start the partition's producer: it fences every earlier one and ends what that left
               open, so from here on nobody else changes this partition
    restoring  read the partition of `person-state` up to the end seen after the fence: the states,
               and `_progress` with the positions in the command topics
    deciding   turn after turn: wait for records, ask for the barrier, merge, have the deciding
               agent answer, commit outputs, states and progress as one transaction

What can go wrong leads to one of three places. *Back to claiming*, when another producer fenced
this one or when it is unknown whether a write happened: memory is dropped, the group is asked
again, and a new producer starts only under a new assignment, so that two workers cannot keep
fencing each other. *Back to restoring*, when the decision failed: nothing was written, the
producer is still good. *Stopped*, when going on would mean to skip or to guess: the reason is told
and stands in the health page until the partition is assigned anew.

Nothing waits inside a transaction but the transaction itself.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Collection,
    Coroutine,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import aclosing, suppress
from functools import partial
from operator import attrgetter
from typing import Any, Final, TypeVar

import structlog

from agents.ledger.backoff import Backoff
from agents.ledger.log import (
    EndOffsets,
    Entry,
    Feed,
    Fenced,
    Layout,
    Log,
    LogError,
    LogUnavailable,
    Membership,
    OutOfLog,
    Place,
    Reader,
    Refused,
    Unreadable,
    Writer,
)
from agents.ledger.merge import Merged, merge
from agents.ledger.progress import PROGRESS_KEY, Position, UnreadableProgress, decode
from agents.ledger.record import Record
from agents.ledger.turn import Turn, Verdict
from agents.references import References
from deployment import metrics
from schemas import limits

Ask = Callable[[Turn], Awaitable[None]]
"""Hands a turn to the deciding agent; the answer comes through `turn.answer`."""

T = TypeVar("T")

log: Final = structlog.get_logger("ledger")


class DecisionFailed(Exception):
    """The deciding agent raised, or did not answer in time."""


class Halt(Exception):
    """Going on would mean to skip or to guess; the text tells a person why."""


class _Stopped(Exception):
    """The owner was asked to stop while it had nothing in hand."""


class Barriers:
    """Asks for high watermarks: one question is under way at a time, for all who wait."""

    def __init__(self, ends: EndOffsets, references: Sequence[str]) -> None:
        self._ends = ends
        self._references = [(topic, 0) for topic in references]
        self._waiting: list[tuple[Collection[Place], asyncio.Future[Mapping[Place, int]]]] = []
        self._wake = asyncio.Event()

    async def ask(self, places: Collection[Place]) -> Mapping[Place, int]:
        """The high watermarks of `places` and the reference topics, read after this call."""
        answer: asyncio.Future[Mapping[Place, int]] = asyncio.get_running_loop().create_future()
        self._waiting.append((places, answer))
        self._wake.set()
        return await answer

    async def run(self) -> None:
        """Answer for ever; a broker that does not is asked again."""
        pause = Backoff()
        while True:
            await self._wake.wait()
            self._wake.clear()
            asked, self._waiting = self._waiting, []
            union = {place for places, _ in asked for place in places}
            union.update(self._references)
            while True:
                try:
                    found = await self._ends.high_watermarks(union)
                    break
                except LogUnavailable as error:
                    log.warning("end offsets are not answered: asking again", error=str(error))
                    await pause.sleep()
            pause.reset()
            for _, answer in asked:
                if not answer.done():
                    answer.set_result(found)


class Permit:
    """A worker's leave to have one more turn in hand.

    A turn that is held up by something of its own shall not hold up others, so what the broker is
    asked for has a limit, past which the permit is given back. Not so the decision, which waits for
    those of others: it takes a permit, if need be again, and keeps it.
    """

    def __init__(self, of: Permits) -> None:
        self._of = of
        self._taken = False
        self._end: asyncio.TimerHandle | None = None

    async def take(self, formed: bool = False) -> None:
        """Have it until it is given back. `formed`: for a turn that is, and so goes first."""
        if not self._taken:
            await self._of.acquire(formed)
            self._taken = True
        self._keep()

    def limit(self) -> None:
        """From now on it is given back by itself after PERMIT_MS_MAX."""
        self._keep()
        loop = asyncio.get_running_loop()
        self._end = loop.call_later(limits.PERMIT_MS_MAX / 1000, self.give_back)

    def _keep(self) -> None:
        if self._end is not None:
            self._end.cancel()

    def give_back(self) -> None:
        """If it is taken."""
        self._keep()
        if self._taken:
            self._taken = False
            self._of.release()


class Permits:
    """How many turns are in hand at once, and how large. Those that wait are served in the order
    they came, but first those whose turn is formed already, for it does not grow any more.

    A broker that is asked for all partitions' transactions at once answers all of them late. While
    a partition waits its records gather, and its turn is the larger: so turns are as small as the
    broker can keep up with.

    While a large turn is decided, no other is. Where nobody waits for an answer, since every
    partition has a backlog, it is the cheaper; else turns stay short.
    """

    def __init__(self, count: int) -> None:
        self._left = count
        self._formed: deque[asyncio.Future[None]] = deque()
        self._others: deque[asyncio.Future[None]] = deque()
        self._live_until = 0.0

    def permit(self) -> Permit:
        """One more, not taken yet."""
        return Permit(self)

    async def acquire(self, formed: bool) -> None:
        """Wait until one is left."""
        if self._left:
            self._left -= 1
            return
        granted = asyncio.get_running_loop().create_future()
        (self._formed if formed else self._others).append(granted)
        try:
            await granted
        except asyncio.CancelledError:
            if not granted.cancelled():
                self.release()
            raise

    def release(self) -> None:
        """To who waits, if somebody does."""
        for waiting in (self._formed, self._others):
            while waiting:
                granted = waiting.popleft()
                if not granted.done():
                    granted.set_result(None)
                    return
        self._left += 1

    def caught_up(self) -> None:
        """A partition has decided all there was: somebody waits for what comes next."""
        self._live_until = asyncio.get_running_loop().time() + limits.LIVE_MS / 1000

    @property
    def records_max(self) -> int:
        """Of one turn."""
        if asyncio.get_running_loop().time() < self._live_until:
            return min(limits.TURN_RECORDS_LIVE_MAX, limits.TURN_RECORDS_MAX)
        return limits.TURN_RECORDS_MAX


class ReferenceKeeper:
    """Keeps the reference views at the end of their topics."""

    def __init__(
        self, reader: Reader, ends: EndOffsets, topics: Sequence[str], references: References
    ) -> None:
        self._reader = reader
        self._ends = ends
        self._topics = topics
        self._references = references
        self._wake = asyncio.Event()
        self._moved = asyncio.Event()
        self.trouble: str | None = None

    async def run(self) -> None:
        """Read for ever."""
        pause = Backoff()
        places = [(topic, 0) for topic in self._topics]
        while True:
            try:
                starts = await self._ends.log_starts(places)
                break
            except LogUnavailable as error:
                log.warning("reference topics are not answered for", error=str(error))
                await pause.sleep()
        feeds = [self._reader.open(place, starts[place], self._wake.set) for place in places]
        while True:
            async with self._references.held:
                for feed in feeds:
                    self._fold(feed)
            moved, self._moved = self._moved, asyncio.Event()
            moved.set()
            await self._wake.wait()
            self._wake.clear()

    def _fold(self, feed: Feed) -> None:
        bad_before = self._references.bad_total
        try:
            for piece in feed.take_all():
                self._references.fold(feed.topic, piece, piece[-1].offset + 1)
        except LogError as error:
            if self.trouble is None:
                self.trouble = f"{feed.topic}: {error}"
                log.error(  # noqa: TRY400 - the words say it all
                    "a reference topic cannot be read on", topic=feed.topic, why=self.trouble
                )
            return
        self._references.fold(feed.topic, (), feed.reached)
        bad = self._references.bad_total - bad_before
        if bad:
            metrics.LEDGER_BAD_REFERENCES.labels(feed.topic).inc(bad)
            log.error("unreadable reference records are ignored", topic=feed.topic, records=bad)

    def reached(self, offsets: Mapping[Place, int]) -> bool:
        """Whether every view is at least as of `offsets`."""
        return all(self._references.offsets[topic] >= offsets[topic, 0] for topic in self._topics)

    async def reach(self, offsets: Mapping[Place, int]) -> None:
        """Wait until every view is at least as of `offsets`. Raises Halt."""
        while not self.reached(offsets):
            if self.trouble is not None:
                raise Halt(f"the reference topics cannot be read on: {self.trouble}")
            await self._moved.wait()


class Ledger:
    """All owners of one worker."""

    def __init__(self, source: Log, references: References, rules_version: str, ask: Ask) -> None:
        self.layout: Layout = source.layout
        self.references = references
        self.rules_version = rules_version
        self.ask = ask
        self.source = source
        self.membership: Membership = source.membership()
        self.ends = source.end_offsets()
        self.feeds_reader = source.reader()
        self.restore_reader = source.reader()
        self._references_reader = source.reader()
        self.barriers = Barriers(self.ends, self.layout.references)
        self.permits = Permits(limits.TURNS_IN_HAND_MAX)
        self.keeper = ReferenceKeeper(
            self._references_reader, self.ends, self.layout.references, references
        )
        self.owners: dict[int, Owner] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False
        self.failure: BaseException | None = None
        self.failed = asyncio.Event()

    async def start(self) -> None:
        """Begin; returns at once. A broker that is away is waited for."""
        for run in (self.barriers.run(), self.keeper.run(), self._own(), self._watch()):
            task = asyncio.create_task(run)
            task.add_done_callback(self._ended)
            self._tasks.append(task)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("the ledger ended", error=repr(error))
            self.failure = error
            self.failed.set()

    async def _own(self) -> None:
        """Give every wished partition an owner, and no other."""
        await self.membership.start()
        while True:
            await self.membership.changed.wait()
            self.membership.changed.clear()
            wished = self.membership.wished
            for partition, owner in list(self.owners.items()):
                if owner.done:
                    del self.owners[partition]
                elif partition not in wished:
                    owner.stop()
                else:
                    owner.assigned()
            if not self._stopping:
                for partition in sorted(wished - self.owners.keys()):
                    owner = Owner(self, partition)
                    self.owners[partition] = owner
                    owner.start(self.membership.changed.set)
            self.tell_stages()

    def tell_stages(self) -> None:
        """Set the gauges that count the owners."""
        stages = dict.fromkeys(("restoring", "deciding", "stopped"), 0)
        for owner in self.owners.values():
            if owner.stage in ("claiming", "restoring"):
                stages["restoring"] += 1
            elif owner.stage in stages:
                stages[owner.stage] += 1
        for stage, count in stages.items():
            metrics.LEDGER_OWNED_PARTITIONS.labels(stage).set(count)
        metrics.LEDGER_ALARMS.labels("partition_stopped").set(bool(stages["stopped"]))

    async def _watch(self) -> None:
        """Measure what waits, and compare the topics with those the progress is about."""
        loop = asyncio.get_running_loop()
        check_at = loop.time() + limits.TOPIC_CHECK_MS / 1000
        while True:
            await asyncio.sleep(limits.WATCH_MS / 1000)
            self._measure()
            if loop.time() < check_at:
                continue
            check_at = loop.time() + limits.TOPIC_CHECK_MS / 1000
            try:
                found = await self.source.topic_ids(self.layout.commands)
            except LogUnavailable as error:
                log.warning("the topics are not answered for", error=str(error))
                continue
            for owner in self.owners.values():
                owner.compare(found)

    def _measure(self) -> None:
        waiting, unstable, oldest = {}, {}, {}
        now_ms = time.time() * 1000
        for topic in self.layout.commands:
            waiting[topic] = unstable[topic] = 0
            oldest[topic] = now_ms
        for owner in self.owners.values():
            for feed, decided in owner.positions():
                waiting[feed.topic] += max(0, feed.high_watermark - decided)
                unstable[feed.topic] += max(0, feed.high_watermark - feed.stable)
                if feed.index < len(feed.records):
                    oldest[feed.topic] = min(oldest[feed.topic], feed.records[feed.index].timestamp)
        late = False
        for topic in self.layout.commands:
            age_ms = now_ms - oldest[topic]
            metrics.LEDGER_LAG_RECORDS.labels(topic).set(waiting[topic])
            metrics.LEDGER_OPEN_TRANSACTION_RECORDS.labels(topic).set(unstable[topic])
            metrics.LEDGER_UNDECIDED_AGE_SECONDS.labels(topic).set(age_ms / 1000)
            late |= age_ms > self.layout.retention_ms.get(topic, float("inf")) / 2
        metrics.LEDGER_ALARMS.labels("retention_half").set(late)
        held = any(owner.held for owner in self.owners.values())
        metrics.LEDGER_ALARMS.labels("open_transaction").set(held)

    def health(self) -> tuple[bool, str]:
        """Whether everything owned is worked on, and in words what is not."""
        lines = []
        if self.failure is not None:
            lines.append(f"the ledger ended: {self.failure!r}")
        if self.keeper.trouble is not None:
            lines.append(f"reference topics: {self.keeper.trouble}")
        stopped = [owner for owner in self.owners.values() if owner.stage == "stopped"]
        lines += [f"partition {owner.partition} stopped: {owner.why}" for owner in stopped]
        well = not lines
        by_stage: dict[str, list[int]] = {}
        for partition in sorted(self.owners):
            owner = self.owners[partition]
            by_stage.setdefault(owner.stage, []).append(partition)
            if owner.why and owner.stage != "stopped":
                lines.append(f"partition {partition} {owner.stage}: {owner.why}")
        lines += [f"{stage}: {', '.join(map(str, owned))}" for stage, owned in by_stage.items()]
        return well, "\n".join(lines) or "no partition is assigned to this worker"

    async def stop(self) -> None:
        """End the turns in hand, leave the group, close everything; within STOP_MS_MAX."""
        self._stopping = True
        for owner in self.owners.values():
            owner.stop()
        tasks = [owner.task for owner in self.owners.values() if owner.task is not None]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=limits.STOP_MS_MAX / 1000 / 2)
            for task in late:
                task.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*tasks, *self._tasks, return_exceptions=True)
        closing = (
            self.membership.stop(),
            self.feeds_reader.close(),
            self.restore_reader.close(),
            self._references_reader.close(),
            self.ends.close(),
        )
        try:
            async with asyncio.timeout(limits.STOP_MS_MAX / 1000 / 2):
                for result in await asyncio.gather(*closing, return_exceptions=True):
                    if isinstance(result, BaseException):
                        log.warning("closing failed", error=repr(result))
        except TimeoutError:
            log.warning("closing took too long: left undone")


class Owner:
    """One partition of one worker."""

    def __init__(self, ledger: Ledger, partition: int) -> None:
        self._ledger = ledger
        self.partition = partition
        self.stage = "claiming"
        self.why: str | None = None
        """What holds it up, in words."""
        self.held = False
        """Whether a barrier is not reached for long."""
        self.task: asyncio.Task[None] | None = None
        self._log = log.bind(partition=partition)
        self._stopping = False
        self._idle_now = False
        self._wake = asyncio.Event()
        self._assigned = asyncio.Event()
        self._generation = -1
        self._pause = Backoff(limits.REBUILD_BACKOFF_MS_MIN, limits.REBUILD_BACKOFF_MS_MAX)
        self._failed_turn = -1
        self._failed_times = 0
        self._feeds: list[Feed] = []
        self._writer: Writer | None = None
        self._unseen = False
        """Whether the last transaction may not have been ended everywhere."""
        layout = ledger.layout
        self._places: list[Place] = [(topic, partition) for topic in layout.commands]
        # Memory of the partition, good while the producer is not fenced.
        self._states: dict[bytes, bytes] = {}
        self._turn = 0
        self._offsets: dict[str, int] = {}
        self._topic_ids: Mapping[str, str] = {}
        self._anew = ""

    # --- life ------------------------------------------------------------------------------------

    @property
    def done(self) -> bool:
        return self.task is not None and self.task.done()

    def start(self, when_done: Callable[[], None]) -> None:
        self.task = asyncio.create_task(self._live())
        self.task.add_done_callback(lambda _: when_done())

    def stop(self) -> None:
        """End as soon as nothing is in hand."""
        self._stopping = True
        if self._idle_now and self.task is not None:
            self.task.cancel()

    def positions(self) -> Iterator[tuple[Feed, int]]:
        """The feeds, each with the offset below which all is decided."""
        for feed in self._feeds:
            yield feed, self._offsets[feed.topic]

    def compare(self, topic_ids: Mapping[str, str]) -> None:
        """Stop before the next turn if a topic is no longer the one the positions belong to."""
        if self._feeds and topic_ids != self._topic_ids:
            anew = sorted(t for t, one in topic_ids.items() if one != self._topic_ids.get(t))
            self._anew = ", ".join(anew)
            self._wake.set()

    def assigned(self) -> None:
        """The group may have said again that this partition is ours."""
        self._assigned.set()

    async def _idle(self, wait: Coroutine[Any, Any, T]) -> T:
        """Wait for something with nothing in hand: here, and only here, `stop` may end it."""
        if self._stopping:
            wait.close()
            raise _Stopped
        self._idle_now = True
        try:
            return await wait
        finally:
            self._idle_now = False

    async def _live(self) -> None:
        try:
            while not self._stopping:
                try:
                    await self._claim()
                except (_Stopped, asyncio.CancelledError):
                    raise
                except Fenced:
                    metrics.LEDGER_FENCES.inc()
                    self._rebuilding("fenced", "another producer took the partition over")
                except LogUnavailable as error:
                    self._rebuilding("unavailable", f"the broker does not answer: {error}")
                except (Halt, OutOfLog, Refused, Unreadable, UnreadableProgress) as error:
                    await self._halt(str(error))
                except Exception as error:  # noqa: BLE001 - whatever it is, nothing of it is kept
                    self._log.exception("unexpected")
                    self._rebuilding("unexpected", f"unexpected: {error!r}")
                await self._let_go()
                await self._idle(self._pause.sleep())
                await self._idle(self._assigned_anew())
        except _Stopped:
            pass
        except asyncio.CancelledError:
            if not self._stopping:
                raise
        finally:
            await self._let_go()

    async def _assigned_anew(self) -> None:
        """Whether the partition is still ours only the group can say."""
        membership = self._ledger.membership
        if membership.generation == self._generation:
            membership.rejoin()
        await self._next_assignment()

    async def _next_assignment(self) -> None:
        while self._ledger.membership.generation == self._generation:
            self._assigned.clear()
            await self._assigned.wait()

    def _rebuilding(self, cause: str, why: str) -> None:
        self.why = why
        self._enter("claiming")
        metrics.LEDGER_REBUILDS.labels(cause).inc()
        self._log.warning("partition is dropped and will be rebuilt", cause=cause, why=why)

    async def _halt(self, why: str) -> None:
        """Stay stopped until the partition goes elsewhere, or is assigned anew: a worker that was
        held up may have stopped over what others did meanwhile."""
        self.why = why
        self._enter("stopped")
        self._log.error("partition stopped: it needs a person", why=why)
        await self._let_go()
        await self._idle(self._next_assignment())

    def _enter(self, stage: str) -> None:
        self.stage = stage
        self._ledger.tell_stages()

    async def _let_go(self) -> None:
        for feed in self._feeds:
            self._ledger.feeds_reader.close_feed(feed)
        self._feeds = []
        self._states, self._offsets = {}, {}
        writer, self._writer = self._writer, None
        if writer is not None:
            await writer.close()

    # --- claiming and restoring ------------------------------------------------------------------

    async def _claim(self) -> None:
        """Everything from the fence on; returns never, but raises."""
        began = asyncio.get_running_loop().time()
        self._enter("claiming")
        self._generation = self._ledger.membership.generation
        self._writer = self._ledger.source.writer(self.partition)
        try:
            async with asyncio.timeout(limits.WRITER_START_MS_MAX / 1000):
                await self._idle(self._writer.start())
        except TimeoutError as error:
            raise LogUnavailable("the producer did not start in time") from error
        while True:
            self._enter("restoring")
            await self._restore()
            took = asyncio.get_running_loop().time() - began
            metrics.LEDGER_RESTORE_SECONDS.observe(took)
            self._log.info("deciding", persons=len(self._states), turn=self._turn, seconds=took)
            self.why = None
            self._enter("deciding")
            try:
                await self._decide_on()
            except DecisionFailed as error:
                self._count_failure(error)
            for feed in self._feeds:
                self._ledger.feeds_reader.close_feed(feed)
            self._feeds = []
            await self._idle(self._pause.sleep())
            began = asyncio.get_running_loop().time()

    def _count_failure(self, error: DecisionFailed) -> None:
        if self._failed_turn != self._turn:
            self._failed_turn, self._failed_times = self._turn, 0
        self._failed_times += 1
        if self._failed_times >= limits.DECISION_TRIES_MAX:
            raise Halt(f"turn {self._turn + 1} cannot be decided: {error}") from error
        self._rebuilding("decision", f"the decision failed: {error}")

    async def _restore(self) -> None:
        ledger, layout = self._ledger, self._ledger.layout
        state: Place = (layout.state, self.partition)
        outcomes: Place = (layout.outcomes, self.partition)
        ends = await self._idle(
            ledger.barriers.ask([*self._places, state, outcomes]),
        )
        starts = await self._idle(ledger.ends.log_starts([*self._places, state, outcomes]))
        self._topic_ids = await self._idle(ledger.source.topic_ids(layout.commands))
        self._anew = ""
        states: dict[bytes, bytes] = {}
        async with aclosing(self._read(state, starts[state], ends[state])) as pieces:
            async for piece in pieces:
                size = 0
                for record in piece:
                    key, value = record.key, record.value
                    if key is None:
                        raise Halt(f"{layout.state}: a record without a key at {record.offset}")
                    if value is None:
                        states.pop(key, None)
                    else:
                        states[key] = value
                        size += len(key) + len(value)
                metrics.LEDGER_RESTORED_RECORDS.inc(len(piece))
                metrics.LEDGER_RESTORED_BYTES.inc(size)
        progress = states.pop(PROGRESS_KEY, None)
        if progress is not None:
            self._resume(decode(progress), starts, ends)
        else:
            answered = starts[outcomes] > 0
            async with aclosing(self._read(outcomes, starts[outcomes], ends[outcomes])) as pieces:
                async for _ in pieces:
                    answered = True
                    break
            if states or answered:
                later = await self._idle(ledger.barriers.ask([state]))
                if later[state] > ends[state]:
                    # An heir wrote its progress above, and compaction took the one below away.
                    raise Fenced(f"{layout.state} was written to while it was read")
                raise Halt(
                    f"{layout.state} has no progress for this partition, but it, or "
                    f"{layout.outcomes}, has records: beginning anew would decide commands twice"
                )
            self._turn = 0
            self._offsets = {topic: starts[topic, self.partition] for topic in layout.commands}
        self._states = states
        self._feeds = [
            ledger.feeds_reader.open(place, self._offsets[place[0]], self._wake.set)
            for place in self._places
        ]

    def _resume(
        self, position: Position, starts: Mapping[Place, int], ends: Mapping[Place, int]
    ) -> None:
        """Go on behind the last committed turn, where the log still allows it."""
        unknown = position.offsets.keys() - self._topic_ids.keys()
        if unknown:
            raise Halt(
                f"the progress knows topics that this version does not: {sorted(unknown)}; their "
                "commands would lose their place in the order. Upgrade this worker"
            )
        offsets = {}
        for topic in self._ledger.layout.commands:
            start, end = starts[topic, self.partition], ends[topic, self.partition]
            offset = position.offsets.get(topic)
            if offset is None:
                # A topic newer than the progress: nothing of it was decided yet.
                offsets[topic] = start
                continue
            if position.topic_ids[topic] != self._topic_ids[topic]:
                raise Halt(
                    f"{topic} was deleted and made anew: its offsets are not those of the progress"
                )
            if not start <= offset <= end:
                raise Halt(
                    f"{topic} begins at {start} and ends at {end}, but the progress says {offset}: "
                    "records were lost"
                )
            offsets[topic] = offset
        self._turn, self._offsets = position.turn, offsets

    async def _read(self, place: Place, start: int, end: int) -> AsyncGenerator[list[Record], None]:
        """All committed records from `start` to `end`, in pieces.

        None from `end` on: with a producer that was fenced meanwhile, those are of another owner.
        """
        wake = asyncio.Event()
        feed = self._ledger.restore_reader.open(place, start, wake.set)
        try:
            while True:
                for piece in feed.take_all():
                    if piece[-1].offset >= end:
                        piece = [record for record in piece if record.offset < end]
                    if piece:
                        yield piece
                    await self._idle(asyncio.sleep(0))
                if feed.reached >= end:
                    return
                wake.clear()
                try:
                    async with asyncio.timeout(limits.RESTORE_STALL_MS_MAX / 1000):
                        await self._idle(wake.wait())
                except TimeoutError as error:
                    raise LogUnavailable(f"{place[0]} stands at {feed.reached} of {end}") from error
        finally:
            self._ledger.restore_reader.close_feed(feed)

    # --- deciding --------------------------------------------------------------------------------

    async def _decide_on(self) -> None:
        """Turn after turn; raises what ends it."""
        feeds, wake = self._feeds, self._wake
        while True:
            wake.clear()
            self._same_topics()
            if all(feed.head() is None for feed in feeds):
                if all(0 <= feed.high_watermark <= feed.reached for feed in feeds):
                    self._ledger.permits.caught_up()
                await self._idle(self._quiet(wake))
                continue
            permit = self._ledger.permits.permit()
            await self._idle(permit.take())
            try:
                await self._turns_to_barrier(permit)
            finally:
                permit.give_back()

    def _same_topics(self) -> None:
        if self._anew:
            raise Halt(f"{self._anew}: deleted and made anew while it was read")

    async def _quiet(self, wake: asyncio.Event) -> None:
        """Wait for commands, and if they are long in coming, look after the last transaction."""
        while self._unseen:
            try:
                async with asyncio.timeout(limits.QUIET_MS_MAX / 1000):
                    await wake.wait()
            except TimeoutError:
                await self._end_forgotten()
            else:
                return
        await wake.wait()

    async def _turns_to_barrier(self, permit: Permit) -> None:
        """One barrier, and turns up to it."""
        feeds, wake, loop = self._feeds, self._wake, asyncio.get_running_loop()
        began = loop.time()
        permit.limit()
        cuts = [feed.reached for feed in feeds]
        ends = await self._idle(self._ledger.barriers.ask(self._places))
        ends_of = [ends[place] for place in self._places]
        for feed, cut, end in zip(feeds, cuts, ends_of, strict=True):
            if end < cut:
                raise LogUnavailable(f"{feed.topic} was read to {cut} but ends at {end}")
        keeper, permits = self._ledger.keeper, self._ledger.permits
        if not keeper.reached(ends):
            permit.give_back()
            await self._idle(self._patiently(partial(keeper.reach, ends), "reference topics"))
        merged = Merged.BLOCKED
        while merged is not Merged.DONE:
            wake.clear()
            self._same_topics()
            records: list[Record] = []
            merged = merge(
                feeds, cuts, ends_of, records, permits.records_max, limits.TURN_BYTES_MAX
            )
            if records:
                metrics.LEDGER_BARRIER_SECONDS.observe(loop.time() - began)
                changed_staff = await self._take_turn(records, began, permit)
                if changed_staff:
                    break  # the next turn must see that: only a new barrier waits for it
                if merged is not Merged.DONE:
                    # A barrier may allow for as many turns as there are: others go between them.
                    permit.give_back()
                    await self._idle(permit.take())
                    permit.limit()
                began = loop.time()
            elif merged is Merged.BLOCKED:
                permit.give_back()
                await self._idle(self._patiently(wake.wait, "command topics", ends_of))

    async def _patiently(
        self, wait: Callable[[], Coroutine[Any, Any, object]], what: str, ends: Sequence[int] = ()
    ) -> None:
        """Wait for as long as it takes, and say so when it takes long."""
        task = asyncio.create_task(wait())
        try:
            while True:
                done, _ = await asyncio.wait([task], timeout=limits.BARRIER_ALARM_MS / 1000)
                if done:
                    break
                behind = {
                    feed.topic: f"read to {feed.reached}, stable to {feed.stable}, ends at {end}"
                    for feed, end in zip(self._feeds, ends, strict=False)
                    if feed.reached < end
                }
                self.why = f"waits for {what} to be readable up to their end: {behind or '...'}"
                self._log.error("the barrier is not reached: a foreign transaction?", behind=behind)
                self.held = True
                await self._end_forgotten()
            task.result()
        finally:
            task.cancel()
            if self.held:
                self.held, self.why = False, None

    async def _end_forgotten(self) -> None:
        """What holds readers up, of `staff` above all, may be the own last transaction; who begins
        no other does not come to look at it otherwise."""
        assert self._writer is not None
        with suppress(TimeoutError):
            async with asyncio.timeout(limits.COMMIT_MS_MAX / 1000):
                await self._writer.end_forgotten()
            self._unseen = False

    async def _take_turn(self, records: list[Record], began: float, permit: Permit) -> bool:
        """Have the records decided, and commit that. Whether it wrote to the staff topic."""
        ledger, loop = self._ledger, asyncio.get_running_loop()
        assert self._writer is not None
        turn = Turn(
            number=self._turn + 1,
            partition=self.partition,
            records=records,
            states=self._states,
            references=ledger.references,
            rules_version=ledger.rules_version,
            draft=self._writer.draft,
            answer=loop.create_future(),
        )
        metrics.LEDGER_TURNS_IN_HAND.inc()
        try:
            await self._idle(permit.take(formed=True))
            verdict = await self._idle(self._answer(turn))
            permit.limit()
            # Markers and aborted records count: they may be all that retention left of a topic.
            offsets = {feed.topic: feed.taken_to for feed in self._feeds}
            position = Position(
                turn.number, offsets, self._topic_ids, turn.used, ledger.rules_version
            )
            committing = loop.time()
            await self._commit(verdict, position)
            now = loop.time()
        finally:
            metrics.LEDGER_TURNS_IN_HAND.dec()
        self._merge_in(verdict, position)
        self._pause.reset()
        metrics.LEDGER_TURN_RECORDS.observe(len(records))
        metrics.LEDGER_TURN_SECONDS.observe(now - began)
        metrics.LEDGER_COMMIT_SECONDS.observe(now - committing)
        for topic, count in Counter(map(attrgetter("topic"), records)).items():
            metrics.LEDGER_DECIDED_RECORDS.labels(topic).inc(count)
        for (status, code), count in verdict.answers.items():
            if status == "dead_letter":
                metrics.LEDGER_DEAD_LETTERS.labels(code).inc(count)
            else:
                metrics.LEDGER_OUTCOMES.labels(status, code).inc(count)
        return bool(verdict.staff)

    async def _answer(self, turn: Turn) -> Verdict:
        try:
            async with asyncio.timeout(limits.TURN_DECIDE_MS_MAX / 1000):
                await self._ledger.ask(turn)
                return await turn.answer
        except TimeoutError as error:
            raise DecisionFailed("no answer in time") from error
        except Exception as error:
            self._log.exception("the decision raised")
            raise DecisionFailed(repr(error)) from error

    async def _commit(self, verdict: Verdict, position: Position) -> None:
        """One transaction: outputs, staff, states, progress."""
        layout, partition = self._ledger.layout, self.partition
        assert self._writer is not None
        draft = verdict.outputs
        if verdict.staff:
            changed = [Entry(key, value) for key, value in verdict.staff.items()]
            draft.add((layout.staff, 0), changed)
        changed = [Entry(key, state) for key, state in verdict.states.items()]
        changed.append(Entry(PROGRESS_KEY, position.encode()))
        draft.add((layout.state, partition), changed)
        self._unseen = True
        try:
            async with asyncio.timeout(limits.COMMIT_MS_MAX / 1000):
                await self._writer.commit(draft)
        except TimeoutError as error:
            raise LogUnavailable("the turn was not written in time") from error

    def _merge_in(self, verdict: Verdict, position: Position) -> None:
        """The turn is committed: what it changed is now the state."""
        self._states.update(verdict.states)
        self._turn, self._offsets = position.turn, dict(position.offsets)
