"""The whole projector between a real broker and a real PostgreSQL."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.structs import TopicPartition

from deployment import topics
from deployment.catalog import Catalog, load_catalog
from local.broker import Broker
from local.database import Database
from projector import main
from projector.main import Health, ProjectorStopped, run
from projector.migrate import migrate
from projector.rebuild import lag, rebuild
from projector.store import commit, load
from tests.projector import model, writing
from tests.projector.histories import Decision, Histories
from tests.projector.test_fold import event


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that every test has many of them, evictions and held partitions too."""
    monkeypatch.setattr(main, "PROJECTOR_BATCH_RECORDS_MAX", 150)
    monkeypatch.setattr(main, "PROJECTOR_FETCH_RECORDS_MAX", 40)
    monkeypatch.setattr(main, "PROJECTOR_PEOPLE_MAX", 10)
    monkeypatch.setattr(main, "PROJECTOR_HELD_RECORDS_MAX", 20)


@asynccontextmanager
async def projecting(
    broker: str, database: str, catalog: Catalog, health: Health | None = None
) -> AsyncIterator[asyncio.Task[None]]:
    stop = asyncio.Event()
    task = asyncio.create_task(run(broker, database, catalog, stop, health=health))
    try:
        yield task
        stop.set()
        await task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def written(
    broker: str, catalog: Catalog, seed: int | Histories, count: int
) -> list[Decision]:
    history = seed if isinstance(seed, Histories) else Histories(seed, 25)
    decisions = list(history.decisions(count))
    async with writing.ledger(broker, catalog) as producer:
        await writing.write(producer, catalog, decisions, rng=history.random)
    return decisions


async def settled(broker: str, catalog: Catalog) -> None:
    """Wait until the broker has ended in the logs every transaction that it said is committed.

    A broker that dies before that may, when it is the only one, forget to do so at its next start.
    """
    places = [
        TopicPartition(topic.wire, partition)
        for topic in catalog.outputs
        for partition in range(topic.partitions)
    ]
    async with (
        AIOKafkaConsumer(bootstrap_servers=broker) as all_reader,
        AIOKafkaConsumer(bootstrap_servers=broker, isolation_level="read_committed") as reader,
    ):
        while (  # noqa: ASYNC110 - what is waited for is in the broker
            await all_reader.end_offsets(places) != await reader.end_offsets(places)
        ):
            await asyncio.sleep(0.02)


async def until(there: Callable[[], Awaitable[Any]]) -> None:
    while not await there():  # noqa: ASYNC110 - what is waited for is in another process
        await asyncio.sleep(0.02)


async def says(health: Health, words: str) -> None:
    async def said() -> bool:
        return words in health.words

    await until(said)


async def outcomes_in(connection: Any) -> int:
    with contextlib.suppress(asyncpg.UndefinedTableError):
        return int(await connection.fetchval("select count(*) from realname.outcomes"))
    return 0


async def compare(database: str, decisions: list[Decision]) -> None:
    connection = await writing.connect(database)
    held = await writing.tables(connection)
    for name, rows in model.tables(decisions).items():
        assert held[name] == rows, name
    outcomes = await connection.fetch(
        "select command, status, code, version, events, batch from realname.outcomes"
    )
    assert sorted((tuple(row[:4]), row[4], row[5] or "") for row in outcomes) == sorted(
        (
            (one.command, one.status, one.code, one.version),
            [f"{made.person}:{made.version}" for made in one.events],
            one.batch or "",
        )
        for one in decisions
    )
    await connection.close()


@asynccontextmanager
async def process(
    broker: str, database: str, catalog: Catalog
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A projector of its own; killed at the end if it still runs."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "from projector import main; main.PROJECTOR_BATCH_RECORDS_MAX = 40; main.main()",
        env={
            **{name: value for name, value in os.environ.items() if name[:9] != "REALNAME_"},
            "REALNAME_BROKERS": broker,
            "REALNAME_DATABASE": database,
            "REALNAME_TOPIC_PREFIX": catalog.prefix,
            "REALNAME_PARTITIONS": str(catalog.partitions),
            "REALNAME_METRICS_PORT": str(port),
        },
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        yield child
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()


async def test_tables_equal_the_model(broker: str, database: str, catalog: Catalog) -> None:
    """While it is being written, aborted transactions among it."""
    async with projecting(broker, database, catalog) as task:
        decisions = await written(broker, catalog, 1, 2500)
        await writing.caught_up(broker, database, catalog, task)
    await compare(database, decisions)


async def test_every_commit_names_the_prefixes_it_holds(
    broker: str, database: str, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when records come in while a batch waits for what it loads."""

    async def slow_load(*arguments: Any) -> Any:
        await asyncio.sleep(0.05)
        return await load(*arguments)

    monkeypatch.setattr(main, "load", slow_load)
    history = Histories(12, 25)
    decisions = list(history.decisions(1200))
    async with writing.ledger(broker, catalog) as producer:
        places = await writing.write(producer, catalog, decisions, rng=history.random)
    connection = await writing.connect(database)
    await migrate(connection)
    looks = set()
    async with projecting(broker, database, catalog) as task:
        while len(looks - {0}) < 2 or max(looks) < len(places):
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                progress = await connection.fetch("select * from realname.progress")
                events = await connection.fetch(
                    'select topic, partition, "offset" from realname.events'
                )
                outcomes = await connection.fetch("select origin_offset from realname.outcomes")
            ends = {(row["topic"], row["partition"]): row["next_offset"] for row in progress}
            inside = {
                name: place for name, place in places.items() if place[2] < ends.get(place[:2], 0)
            }
            assert {row[0] for row in outcomes} == {number for who, number in inside if not who}
            assert {tuple(row) for row in events} == {
                place for (who, _), place in inside.items() if who
            }
            looks.add(len(inside))
            assert not task.done()
            await asyncio.sleep(0.01)
    await connection.close()
    await compare(database, decisions)


async def test_dead_letters_of_any_bytes(broker: str, database: str, catalog: Catalog) -> None:
    values = [b"{\0", b"\xff\0\xfe", None, b"", "中\0".encode(), b"x" * 65_536]
    async with writing.ledger(broker, catalog) as producer, producer.transaction():
        for offset, value in enumerate(values):
            encoding = "base64" if value and b"\xff" in value else "utf-8"
            letter = writing.dead_letter(offset, value, encoding)
            await producer.send(catalog.topics["dead-letters"].wire, letter, value, 0)
    async with projecting(broker, database, catalog) as task:
        await writing.caught_up(broker, database, catalog, task)
    connection = await writing.connect(database)
    rows = await connection.fetch(
        "select key, value from realname.dead_letters order by origin_offset"
    )
    assert [(row[0], row[1]) for row in rows] == [(value, value) for value in values]
    await connection.close()


async def test_killed_again_and_again(broker: str, database: str, catalog: Catalog) -> None:
    decisions = await written(broker, catalog, 2, 2400)
    connection = await writing.connect(database)
    for least in (1, 800, 1500):
        async with process(broker, database, catalog) as child:
            while await outcomes_in(connection) < least:  # noqa: ASYNC110 - as in `until`
                await asyncio.sleep(0.005)
            child.send_signal(signal.SIGKILL)
            await child.wait()
    assert await outcomes_in(connection) < len(decisions)
    await connection.close()
    async with projecting(broker, database, catalog) as task:
        await writing.caught_up(broker, database, catalog, task)
    await compare(database, decisions)


async def test_a_terminated_process_ends_soon_and_well(
    broker: str, database: str, catalog: Catalog
) -> None:
    decisions = await written(broker, catalog, 3, 1500)
    connection = await writing.connect(database)
    async with process(broker, database, catalog) as child:
        await until(lambda: outcomes_in(connection))
        child.terminate()
        assert await asyncio.wait_for(child.wait(), 5) == 0
    await connection.close()
    async with projecting(broker, database, catalog) as task:
        await writing.caught_up(broker, database, catalog, task)
    await compare(database, decisions)


async def test_a_server_that_goes_between_two_statements_is_waited_for(
    broker: str, database: str, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """asyncpg, when it has read the server's farewell and not yet the connection's end."""
    failures = 0

    async def parting(*arguments: Any) -> None:
        nonlocal failures
        failures += 1
        if failures == 1:
            raise asyncpg.InternalClientError(
                "cannot switch to state 15; another operation (2) is in progress"
            )
        await commit(*arguments)

    monkeypatch.setattr(main, "commit", parting)
    async with projecting(broker, database, catalog) as task:
        decisions = await written(broker, catalog, 9, 200)
        await writing.caught_up(broker, database, catalog, task)
    assert failures > 1
    await compare(database, decisions)


async def test_a_second_projector_stands_by_and_takes_over(
    broker: str, database: str, catalog: Catalog
) -> None:
    health = Health()
    async with process(broker, database, catalog) as first:
        history = Histories(4, 25)
        decisions = await written(broker, catalog, history, 300)
        await writing.caught_up(broker, database, catalog)
        async with projecting(broker, database, catalog, health) as second:
            await says(health, "standing by")
            first.kill()
            more = await written(broker, catalog, history, 300)
            await writing.caught_up(broker, database, catalog, second)
            assert health() == (True, "projecting")
    await compare(database, [*decisions, *more])


async def test_two_that_both_write_still_write_everything_once(
    broker: str, database: str, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lock is a convenience; what keeps the tables right is the progress in each batch."""

    async def always(_: object) -> bool:
        return True

    monkeypatch.setattr(main, "try_lock", always)
    async with (
        projecting(broker, database, catalog) as one,
        projecting(broker, database, catalog) as two,
    ):
        decisions = await written(broker, catalog, 6, 1500)
        await writing.caught_up(broker, database, catalog, one, two)
    await compare(database, decisions)


async def test_rebuild_gives_the_same_rows(broker: str, database: str, catalog: Catalog) -> None:
    decisions = await written(broker, catalog, 7, 1500)
    async with projecting(broker, database, catalog) as task:
        await writing.caught_up(broker, database, catalog, task)
    connection = await writing.connect(database)
    before = await writing.everything(connection)
    told: list[tuple[int, int]] = []
    await connection.execute("delete from realname.persons where version > 5")
    await connection.execute("update realname.offers set status = 'made', closed_at = null")
    await rebuild(broker, database, catalog, told=lambda done, total: told.append((done, total)))
    assert await writing.everything(connection) == before
    assert told == sorted(told)
    assert told[-1][0] == told[-1][1] > 0
    health = Health()
    async with projecting(broker, database, catalog, health):  # and next to one at work
        await says(health, "projecting")
        await rebuild(broker, database, catalog)
        assert await writing.everything(connection) == before
    await connection.close()
    await compare(database, decisions)


async def test_a_rebuild_cut_off_is_completed_by_any_projector(
    broker: str, database: str, catalog: Catalog
) -> None:
    decisions = await written(broker, catalog, 8, 1500)
    async with projecting(broker, database, catalog) as task:
        await writing.caught_up(broker, database, catalog, task)

    def cut(done: int, total: int) -> None:
        if done > total // 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await rebuild(broker, database, catalog, told=cut)
    async with projecting(broker, database, catalog) as task:
        await writing.caught_up(broker, database, catalog, task)
    await compare(database, decisions)


async def test_a_missing_version_holds_back_until_it_comes(
    broker: str, database: str, catalog: Catalog
) -> None:
    """Never ahead, never skipped, and the other partitions go on."""
    one = "1" * 32
    employer = {"employer": "91350100M000100Y43"}
    wire = catalog.topics["employment-changes"].wire

    async def send(*records: Any) -> None:
        async with writing.ledger(broker, catalog) as producer, producer.transaction():
            for record in records:
                topic = catalog.topics[record.topic].wire
                await producer.send(topic, record.value, record.key, record.partition)

    connection = await writing.connect(database)
    health = Health()
    async with projecting(broker, database, catalog, health) as task:
        await send(
            *(event(one, n, "offer.parked", offer=f"o{n}", **employer) for n in range(2, 60))
        )
        other = event("2" * 32, 1, "identity.submitted")
        await send(other._replace(partition=1))
        await says(health, "projecting")
        await until(lambda: connection.fetchval("select count(*) from realname.persons"))
        await asyncio.sleep(1.5)  # an idle commit in between
        held = "select next_offset from realname.progress where topic = $1 and partition = 0"
        assert await connection.fetchval(held, wire) == 0
        assert await connection.fetchval("select count(*) from realname.events") == 1
        await send(event(one, 1, "identity.submitted"))
        await writing.caught_up(broker, database, catalog, task)
    assert (
        await connection.fetchval("select version from realname.persons where person = $1", one)
        == 59
    )
    await connection.close()


async def test_what_cannot_follow_stops_and_writes_nothing(
    broker: str, database: str, catalog: Catalog
) -> None:
    one = "1" * 32
    employer = {"employer": "91350100M000100Y43"}
    async with writing.ledger(broker, catalog) as producer, producer.transaction():
        for record in (
            event(one, 1, "employment.started", **employer),
            event(one, 2, "employment.started", **employer),
        ):
            topic = catalog.topics[record.topic].wire
            await producer.send(topic, record.value, record.key, 0)
    health = Health()
    with pytest.raises(ProjectorStopped, match="employments_one_active"):
        await run(broker, database, catalog, asyncio.Event(), health=health)
    assert not health.well
    connection = await writing.connect(database)
    assert await connection.fetchval("select count(*) from realname.events") == 0
    await connection.close()


async def test_a_version_again_stops_it(broker: str, database: str, catalog: Catalog) -> None:
    submitted = event("1" * 32, 1, "identity.submitted")
    async with writing.ledger(broker, catalog) as producer, producer.transaction():
        for _ in range(2):
            topic = catalog.topics[submitted.topic].wire
            await producer.send(topic, submitted.value, submitted.key, 0)
    with pytest.raises(ProjectorStopped, match="version 1 again"):
        await run(broker, database, catalog, asyncio.Event())


async def test_topics_cut_or_made_anew_stop_it(
    broker: str, database: str, catalog: Catalog
) -> None:
    decisions = await written(broker, catalog, 9, 200)
    async with projecting(broker, database, catalog) as task:
        await writing.caught_up(broker, database, catalog, task)
    outcomes = catalog.topics["outcomes"].wire
    admin = AIOKafkaAdminClient(bootstrap_servers=broker)
    await admin.start()
    await admin.delete_topics([outcomes])
    while True:
        await asyncio.sleep(0.2)
        if (await topics.show(broker, catalog))["outcomes"] is None:
            break
    with pytest.raises(ProjectorStopped, match=r"outcomes is missing; run `realname topics apply`"):
        await run(broker, database, catalog, asyncio.Event())
    await topics.apply(broker, catalog, replication=1)
    with pytest.raises(ProjectorStopped, match="truncated or made anew"):
        await run(broker, database, catalog, asyncio.Event())
    # another, longer history in its place
    async with writing.ledger(broker, catalog) as producer, producer.transaction():
        for partition in range(3):
            for decision in decisions:
                value = decision.outcome(("hire-requests", partition, 10**6))
                await producer.send(outcomes, value, b"", partition)
    with pytest.raises(ProjectorStopped, match="another record at offset"):
        await run(broker, database, catalog, asyncio.Event())
    await compare(database, decisions)
    connection = await writing.connect(database)
    ahead = TopicPartition(catalog.topics["identity-changes"].wire, 0)
    async with writing.ledger(broker, catalog) as producer, producer.transaction():
        await producer.send(ahead.topic, b"{}", b"", 0)
    await admin.delete_records({ahead: RecordsToDelete(before_offset=-1)})
    await connection.execute("delete from realname.progress where topic = $1", outcomes)
    with pytest.raises(ProjectorStopped, match="records were deleted"):
        await run(broker, database, catalog, asyncio.Event())
    await connection.close()
    await admin.close()


async def test_another_deployments_tables_are_refused(
    broker: str, database: str, catalog: Catalog
) -> None:
    async with projecting(broker, database, catalog) as task:
        await writing.caught_up(broker, database, catalog, task)
    connection = await writing.connect(database)
    await connection.execute(
        "insert into realname.progress (topic, partition, next_offset) values ('elsewhere', 0, 0)"
    )
    await connection.close()
    with pytest.raises(ProjectorStopped, match="elsewhere"):
        await run(broker, database, catalog, asyncio.Event())


@pytest.fixture
def own_servers(tmp_path: Path) -> Iterator[tuple[Broker, Database]]:
    """Servers that a test may take away."""
    broker, database = Broker(tmp_path, heap_mb=256), Database(tmp_path)
    try:
        yield broker, database
    finally:
        broker.kill()
        database.kill()


async def test_broker_and_database_may_be_away_at_start_and_later(
    own_servers: tuple[Broker, Database], prefix: str
) -> None:
    broker, database = own_servers
    uri = await asyncio.to_thread(database.start)
    await asyncio.to_thread(broker.start)
    catalog = load_catalog(prefix, partitions=3)
    await topics.apply(broker.bootstrap, catalog, replication=1)
    history = Histories(10, 25)
    decisions = await written(broker.bootstrap, catalog, history, 800)
    await settled(broker.bootstrap, catalog)
    broker.kill()
    database.kill()
    health = Health()

    async with projecting(broker.bootstrap, uri, catalog, health) as task:
        await says(health, "database is away")
        await asyncio.to_thread(database.start)
        await says(health, "broker is away")
        await asyncio.to_thread(broker.start)
        await writing.caught_up(broker.bootstrap, uri, catalog, task)
        database.kill()
        await says(health, "database is away")
        more = await written(broker.bootstrap, catalog, history, 400)
        await asyncio.to_thread(database.start)
        await settled(broker.bootstrap, catalog)
        await writing.caught_up(broker.bootstrap, uri, catalog, task)
        broker.kill()
        await asyncio.to_thread(broker.start)
        last = await written(broker.bootstrap, catalog, history, 400)
        await writing.caught_up(broker.bootstrap, uri, catalog, task)
        assert not any((await lag(broker.bootstrap, uri, catalog)).values())
    await compare(uri, [*decisions, *more, *last])
