"""The projector process: one at a time writes, any others stand by.

`run` goes on until it is told to stop. While the broker or the database is away it says so and
tries again; when the topics or the tables are not what they must be it ends with
`ProjectorStopped`, because going on would make tables that are wrong.
"""

import asyncio
import contextlib
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import asyncpg
import structlog
from aiokafka import ConsumerRecord
from aiokafka.errors import (
    AuthenticationFailedError,
    ClusterAuthorizationFailedError,
    KafkaError,
    TopicAuthorizationFailedError,
    UnsupportedVersionError,
)

from deployment import metrics
from deployment.catalog import Catalog, Topic, load_catalog
from deployment.logs import configure_logs
from deployment.process import into_background, run_until_told
from deployment.settings import Settings, load_settings
from deployment.topics import BrokersUnavailable, TopicsError, verify
from projector.fold import Changes, Misfit, Person, Rows
from projector.merge import Lanes
from projector.migrate import MigrationRefused, migrate
from projector.records import EVENT_TOPICS, READ_LINE, Unreadable, digest, read_event
from projector.source import Fetched, Source, TopicsBroken
from projector.store import (
    Connection,
    Move,
    Overtaken,
    Place,
    Progress,
    begin_progress,
    commit,
    connect,
    load,
    read_progress,
    try_lock,
)
from schemas.limits import (
    PROJECTOR_BACKOFF_MS_MAX,
    PROJECTOR_BACKOFF_MS_MIN,
    PROJECTOR_BATCH_RECORDS_MAX,
    PROJECTOR_FETCH_RECORDS_MAX,
    PROJECTOR_HELD_MS_MAX,
    PROJECTOR_HELD_RECORDS_MAX,
    PROJECTOR_IDLE_COMMIT_MS,
    PROJECTOR_PEOPLE_MAX,
    PROJECTOR_STANDBY_MS,
    PROJECTOR_STOP_MS_MAX,
    PROJECTOR_WATCH_MS,
)

log = structlog.get_logger("projector")


class ProjectorStopped(Exception):
    """The projector cannot go on without an operator; the text says why."""


_DATABASE_AWAY: Final = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    # Of a connection whose server has said that it goes, and has not gone yet.
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.PostgresSystemError,
    asyncpg.TransactionRollbackError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.ReadOnlySQLTransactionError,
)
_FINAL_KAFKA: Final = (
    AuthenticationFailedError,
    ClusterAuthorizationFailedError,
    TopicAuthorizationFailedError,
    UnsupportedVersionError,
)
_FINAL: Final = (
    Unreadable,
    TopicsBroken,
    TopicsError,
    MigrationRefused,
    asyncpg.PostgresError,
    *_FINAL_KAFKA,
)


@dataclass
class Health:
    """What the projector says of itself."""

    well: bool = False
    words: str = "starting"

    def __call__(self) -> tuple[bool, str]:
        return self.well, self.words

    def set(self, well: bool, words: str) -> None:
        self.well, self.words = well, words


async def run(
    brokers: str,
    database: str,
    catalog: Catalog,
    stop: asyncio.Event,
    *,
    options: Mapping[str, Any] | None = None,
    health: Health | None = None,
) -> None:
    """Project until `stop` is set; the batch in hand is finished first, within a limit.

    `options` go to the Kafka client (`Settings.kafka_options()`). Creates and migrates the tables
    where needed. Raises `ProjectorStopped`.
    """
    health = health or Health()
    work = asyncio.create_task(_keep_on(brokers, database, catalog, stop, options or {}, health))
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({work, stopping}, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait({work}, timeout=PROJECTOR_STOP_MS_MAX / 1000)
        if not work.done():
            log.warning(
                "stop cut short, the batch in hand is rolled back", limit_ms=PROJECTOR_STOP_MS_MAX
            )
    finally:
        stopping.cancel()
        work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work
        metrics.PROJECTOR_ACTIVE.set(0)


async def _keep_on(
    brokers: str,
    database: str,
    catalog: Catalog,
    stop: asyncio.Event,
    options: Mapping[str, Any],
    health: Health,
) -> None:
    backoff_ms = PROJECTOR_BACKOFF_MS_MIN
    doubted = ""
    while not stop.is_set():
        began = time.monotonic()
        try:
            await _session(brokers, database, catalog, stop, options, health)
        except Overtaken:
            metrics.PROJECTOR_ROLLBACKS.labels("progress").inc()
            log.warning("progress was changed by others, reading it again")
        except Misfit as error:
            # Seen once, it may be that another projector took over between two reads of ours.
            if str(error) == doubted:
                raise _stopped(health, error) from error
            doubted = str(error)
            log.warning("event does not fit, reading again from the tables", error=doubted)
        except _FINAL_KAFKA as error:
            raise _stopped(health, error) from error
        except (KafkaError, BrokersUnavailable) as error:
            health.set(False, "the broker is away; trying again")
            log.warning("broker away, trying again", error=str(error), again_in_ms=backoff_ms)
        except _DATABASE_AWAY as error:
            metrics.PROJECTOR_ROLLBACKS.labels("database").inc()
            health.set(False, "the database is away; trying again")
            log.warning("database away, trying again", error=_words(error), again_in_ms=backoff_ms)
        except _FINAL as error:
            raise _stopped(health, error) from error
        finally:
            metrics.PROJECTOR_ACTIVE.set(0)
        if time.monotonic() - began > PROJECTOR_BACKOFF_MS_MAX / 1000:
            backoff_ms = PROJECTOR_BACKOFF_MS_MIN
        await _sleep(stop, backoff_ms)
        backoff_ms = min(2 * backoff_ms, PROJECTOR_BACKOFF_MS_MAX)


def _words(error: Exception) -> str:
    # Neither the database's detail nor a data error's text: they quote rows.
    kind = type(error).__name__
    if isinstance(error, asyncpg.DataError):
        return kind
    return f"{kind}: {str(error).partition(chr(10))[0]}"


def _stopped(health: Health, error: Exception) -> ProjectorStopped:
    words = _words(error) if isinstance(error, asyncpg.PostgresError) else str(error)
    health.set(False, f"stopped: {words}")
    log.error("projector stopped, an operator is needed", error=words)
    return ProjectorStopped(words)


async def _sleep(stop: asyncio.Event, milliseconds: int) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), milliseconds / 1000)


async def _session(
    brokers: str,
    database: str,
    catalog: Catalog,
    stop: asyncio.Event,
    options: Mapping[str, Any],
    health: Health,
) -> None:
    """From connecting to the first trouble, or to the stop."""
    async with contextlib.AsyncExitStack() as stack:
        writer = await connect(database)
        stack.push_async_callback(_hang_up, writer)
        for name in await migrate(writer):
            log.info("migration applied", migration=name)
        if not await try_lock(writer):
            health.set(True, "standing by: another projector is at work")
            log.info("standing by, another projector is at work")
            while not await try_lock(writer):
                await _sleep(stop, PROJECTOR_STANDBY_MS)
                if stop.is_set():
                    return
        reader = await connect(database)
        stack.push_async_callback(_hang_up, reader)
        await verify(brokers, catalog, options=options)
        progress = await _progress(writer, catalog)
        source = await Source.open(brokers, catalog, progress, **options)
        stack.push_async_callback(source.close)
        health.set(True, "projecting")
        metrics.PROJECTOR_ACTIVE.set(1)
        log.info("projecting", from_offsets=sum(one.next_offset for one in progress.values()))
        await _Loop(writer, reader, source, progress, stop).run()


async def _hang_up(connection: Connection) -> None:
    try:
        await connection.close(timeout=1)
    except _DATABASE_AWAY:
        connection.terminate()


async def _progress(connection: Connection, catalog: Catalog) -> dict[Place, Progress]:
    """The stored progress; topic-partitions without one begin at 0."""
    wanted = {
        (topic.wire, partition)
        for topic in catalog.outputs
        for partition in range(topic.partitions)
    }
    there = await read_progress(connection)
    foreign = sorted({topic for topic, _ in there.keys() - wanted})
    if foreign:
        raise TopicsBroken(
            f"the tables hold {', '.join(foreign)} with partitions that this deployment does not "
            "have: they were made by another deployment (see the topic prefix and the partitions)"
        )
    if wanted - there.keys():
        await begin_progress(connection, wanted - there.keys())
        there = await read_progress(connection)
    return there


@dataclass
class _Batch:
    """Folded and ready to be written."""

    rows: Rows
    moves: dict[Place, Move]
    began: float


class _Loop:
    """Reads, folds and writes; while one batch is written the next is read and folded."""

    def __init__(
        self,
        writer: Connection,
        reader: Connection,
        source: Source,
        progress: dict[Place, Progress],
        stop: asyncio.Event,
    ) -> None:
        self._writer = writer
        self._reader = reader
        self._source = source
        self._progress = progress
        """Where the tables are once everything folded so far is written."""
        self._stop = stop
        self._lanes = Lanes()
        self._people: dict[str, Person] = {}
        self._changes = Changes()
        self._written = self._changes
        self._taken = 0
        self._touched: set[Place] = set()
        self._positions: dict[Place, int] = {}
        """Below these everything has been taken."""
        self._looked_idle = time.monotonic()

    async def run(self) -> None:
        fetching: asyncio.Task[Fetched] | None = None
        writing: asyncio.Task[None] | None = None
        ready: _Batch | None = None
        asked = 0
        more = False
        watching = asyncio.create_task(self._watch())
        try:
            while not self._stop.is_set():
                room = min(PROJECTOR_BATCH_RECORDS_MAX - self._taken, PROJECTOR_FETCH_RECORDS_MAX)
                if fetching is None and room > 0:
                    fetching = asyncio.create_task(self._source.fetch(room))
                    asked = room
                await asyncio.wait(
                    {task for task in (fetching, writing, watching) if task},
                    return_when=asyncio.FIRST_COMPLETED,
                )
                if watching.done():
                    watching.result()
                if self._writer.is_closed():
                    raise asyncpg.ConnectionDoesNotExistError("the connection was closed")
                if fetching is not None and fetching.done():
                    chunks, self._positions = fetching.result()
                    for topic, records in chunks:
                        self._take(topic, records)
                        await asyncio.sleep(0)  # the writing goes on in between
                    fetching = None
                    more = sum(len(records) for _, records in chunks) == asked
                if writing is not None and writing.done():
                    writing.result()
                    writing = None
                full = self._taken >= PROJECTOR_BATCH_RECORDS_MAX
                # Where more waits, whole batches: a row that changes twice is written once.
                if ready is None and (full or (writing is None and not more)):
                    ready = await self._fold()
                if writing is None and ready is not None:
                    writing = asyncio.create_task(self._write(ready))
                    ready = None
            if writing is not None:
                await writing
        finally:
            for task in (fetching, writing, watching):
                if task is not None:
                    task.cancel()
            await asyncio.gather(
                *(task for task in (fetching, writing, watching) if task), return_exceptions=True
            )

    def _take(self, topic: Topic, records: Sequence[ConsumerRecord]) -> None:
        if topic.name in EVENT_TOPICS:
            for record in records:
                self._lanes.put(read_event(topic.name, record))
        else:
            self._changes.plain[topic.name] += map(READ_LINE[topic.name], records)
            last = records[-1]
            self._changes.last[last.topic, last.partition] = last
        self._touched.add((topic.wire, records[0].partition))
        self._taken += len(records)

    async def _fold(self) -> _Batch | None:
        """Everything taken that can be applied, or None when there is nothing to write."""
        began = time.monotonic()
        places: set[Place] = self._touched
        if not self._taken:
            if began - self._looked_idle < PROJECTOR_IDLE_COMMIT_MS / 1000:
                return None
            self._looked_idle = began
            places = set(self._progress)
            # Nothing is being written, so this is the time to notice a rebuild or a lost database.
            if await read_progress(self._reader) != self._progress:
                raise Overtaken
        changes = self._changes
        strangers = self._lanes.persons().difference(self._people)
        if strangers:
            self._people.update(await load(self._reader, strangers))
        for _ in self._lanes.drain(self._people, changes):
            await asyncio.sleep(0)
        moves = self._moves(places | changes.last.keys(), changes)
        self._source.hold(
            {
                (queue[0].record.topic, queue[0].record.partition)
                for queue in self._lanes.held()
                if len(queue) >= PROJECTOR_HELD_RECORDS_MAX
            }
        )
        if len(self._people) > PROJECTOR_PEOPLE_MAX:
            # The database does not have the batch in hand and maybe not the one before.
            self._people = {**self._written.persons, **changes.persons}
        self._taken, self._touched = 0, set()
        if not moves:
            return None
        self._written, self._changes = changes, Changes()
        return _Batch(changes.freeze(), moves, began)

    def _moves(self, places: set[Place], changes: Changes) -> dict[Place, Move]:
        moves = {}
        for place in places:
            before = self._progress[place]
            waiting = self._lanes.waiting(*place)
            next_offset = waiting[0].record.offset if waiting else self._positions.get(place, 0)
            if next_offset > before.next_offset:
                last = changes.last.get(place)
                after = (
                    Progress(next_offset, last.offset, digest(last))
                    if last
                    else before._replace(next_offset=next_offset)
                )
                moves[place] = Move(before, after)
                self._progress[place] = after
        return moves

    async def _write(self, batch: _Batch) -> None:
        await commit(self._writer, batch.rows, batch.moves)
        metrics.PROJECTOR_BATCHES.inc()
        metrics.PROJECTOR_BATCH_SECONDS.observe(time.monotonic() - batch.began)
        for table, rows in (batch.rows.current | batch.rows.history).items():
            metrics.PROJECTOR_ROWS.labels(table).inc(len(rows))

    async def _watch(self) -> None:
        """Tells of a broker that does not answer, of lag, and of events that wait for long."""
        answering = True
        waits: dict[tuple[str, int, int], float] = {}
        while True:
            await asyncio.sleep(PROJECTOR_WATCH_MS / 1000)
            try:
                async with asyncio.timeout(PROJECTOR_WATCH_MS / 1000):
                    ends = await self._source.ends()
            except (KafkaError, TimeoutError) as error:
                if isinstance(error, _FINAL_KAFKA):
                    raise
                if answering:
                    log.warning("broker does not answer", error=type(error).__name__)
                answering = False
                continue
            if not answering:
                log.info("broker answers again")
            answering = True
            lags: dict[str, int] = {}
            for place, end in ends.items():
                lag = max(0, end - self._progress[place].next_offset)
                topic = self._source.logical(place[0])
                lags[topic] = lags.get(topic, 0) + lag
            for topic, lag in lags.items():
                metrics.PROJECTOR_LAG_RECORDS.labels(topic).set(lag)
            metrics.PROJECTOR_HELD_RECORDS.set(sum(map(len, self._lanes.held())))
            waits = self._tell_waiting(waits)

    def _tell_waiting(self, before: dict[tuple[str, int, int], float]) -> dict[Any, float]:
        now = time.monotonic()
        waits = {}
        for queue in self._lanes.held():
            record = queue[0].record
            head = (record.topic, record.partition, record.offset)
            since = before.get(head, now)
            if now - since > PROJECTOR_HELD_MS_MAX / 1000:
                log.warning(
                    "event waits for an earlier version that is in no topic yet",
                    topic=record.topic,
                    partition=record.partition,
                    offset=record.offset,
                    version=queue[0].version,
                )
                since = now
            waits[head] = since
        return waits


async def serve(settings: Settings, stop: asyncio.Event) -> None:
    """`run` with what `settings` say, and its metrics and health on their port.

    Brokers and database must be set. Raises `ProjectorStopped`, `CatalogError`, `SettingsError`.
    """
    settings.require("brokers", "database")
    assert settings.brokers is not None
    assert settings.database is not None
    catalog = load_catalog(settings.topic_prefix, partitions=settings.partitions)
    health = Health()
    async with metrics.serving(settings.metrics_host, settings.port_of("projector"), health):
        await run(
            settings.brokers,
            settings.database,
            catalog,
            stop,
            options=settings.kafka_options(),
            health=health,
        )


def main(settings: Settings | None = None) -> None:
    """The process: until SIGTERM or SIGINT. Tables can wait, decisions cannot: where they share a
    machine, it takes what is left."""
    into_background(os.getpid())
    given = settings or load_settings()
    configure_logs(given.log_format, given.log_level)
    run_until_told(lambda stop: serve(given, stop))


if __name__ == "__main__":
    main()
