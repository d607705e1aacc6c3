"""`status`: what runs, whether the topics are as they must be, and how far behind the work is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final, NamedTuple

from aiokafka import TopicPartition as Place
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupCoordinatorNotAvailableError
from rich.text import Text

from agents.ledger.progress import PROGRESS_KEY
from agents.ledger.progress import decode as decode_progress
from cli.console import BAD, FAINT, GOOD, ODD, show, table, working
from cli.context import Deployment
from cli.database import connected
from cli.errors import FAILED, trouble_of
from cli.kafka import reading, until
from deployment.topics import verify
from projector.rebuild import lag
from schemas.limits import TOPICS_REQUEST_MS_MAX, TURN_RECORDS_MAX

_TAIL_OFFSETS: Final = 2 * TURN_RECORDS_MAX
"""Every turn writes its progress; so much of a partition's end holds at least one."""

_PROJECTORS: Final = (
    "select count(*) from pg_stat_activity where application_name = 'realname projector' "
    "and datname = current_database()"
)

Line = tuple[bool | None, str]
"""Good, bad, or neither; and words."""


class _Part(NamedTuple):
    name: str
    ask: Callable[[Deployment], Awaitable[Line]]
    needs: frozenset[str] = frozenset()
    """The parts without which there is nothing to ask."""


async def status(deployment: Deployment) -> int:
    """Print a line a part; returns the exit code: 0 unless a part is bad."""
    bad: set[str] = set()
    rows = []
    for name, ask, needs in _PARTS:
        if needs & bad:
            rows.append((Text("·", FAINT), name, Text("not asked", FAINT)))
            continue
        with working(f"Asking: {name} …"):
            try:
                good, words = await ask(deployment)
            except Exception as error:
                trouble = trouble_of(error)
                if trouble is None:
                    raise
                good, words = False, f"{trouble}\n→ {trouble.mend}"
        if good is False:
            bad.add(name)
        rows.append((_MARKS[good], name, Text(words)))
    show(table("", "", ""), rows)
    return FAILED if bad else 0


async def _broker(deployment: Deployment) -> Line:
    async with _admin(deployment) as admin:
        cluster = await admin.describe_cluster()
    count = len(cluster["brokers"])
    kind = "embedded" if deployment.own_broker else f"{count} brokers"
    return True, f"{deployment.brokers} ({kind})"


async def _topics(deployment: Deployment) -> Line:
    await verify(deployment.brokers, deployment.catalog, options=deployment.options)
    catalog = deployment.catalog
    return True, f"{len(catalog.topics)} as they must be, {catalog.partitions} partitions"


async def _workers(deployment: Deployment) -> Line:
    group = deployment.catalog.group
    state, members = "", []
    async with _admin(deployment) as admin:
        # A new cluster has no coordinator before the first worker asks for one.
        with suppress(GroupCoordinatorNotAvailableError):
            (response,) = await admin.describe_consumer_groups([group])
            _, _, state, _, _, members, *_ = response.groups[0]
    if not members:
        return None, "none: commands wait and are kept; `realname worker` starts one"
    return True, f"{len(members)} in group {group}, {state.lower()}"


async def _to_decide(deployment: Deployment) -> Line:
    catalog = deployment.catalog
    decided: dict[tuple[str, int], int] = {}
    async with reading(deployment) as consumer:
        states = [Place(catalog.state.wire, partition) for partition in range(catalog.partitions)]
        consumer.assign(states)
        begins = await consumer.beginning_offsets(states)
        ends = await consumer.end_offsets(states)
        for place, end in ends.items():
            consumer.seek(place, max(begins[place], end - _TAIL_OFFSETS))
        async for record in until(consumer, ends):
            if record.key == PROGRESS_KEY and record.value is not None:
                for topic, offset in decode_progress(record.value).offsets.items():
                    decided[topic, record.partition] = offset
        commands = {
            Place(topic.wire, partition): decided.get((topic.name, partition))
            for topic in catalog.commands
            for partition in range(catalog.partitions)
        }
        consumer.assign(list(commands))
        begins = await consumer.beginning_offsets(list(commands))
        ends = await consumer.end_offsets(list(commands))
    waiting = sum(
        end - (begins[place] if (at := commands[place]) is None else at)
        for place, end in ends.items()
    )
    return (True, "nothing waits") if waiting == 0 else (None, f"commands waiting: {waiting}")


async def _database(deployment: Deployment) -> Line:
    async with connected(deployment) as connection:
        version = connection.get_server_version()
    kind = "embedded" if deployment.own_database else "of REALNAME_DATABASE"
    return True, f"PostgreSQL {version.major}.{version.minor} ({kind})"


async def _projector(deployment: Deployment) -> Line:
    async with connected(deployment) as connection:
        if await connection.fetchval("select to_regclass('realname.progress')") is None:
            return False, "there are no tables yet\n→ run `realname migrate`"
        running = await connection.fetchval(_PROJECTORS)
    lags = await lag(
        deployment.brokers, deployment.database, deployment.catalog, deployment.options
    )
    behind = sum(lags.values())
    words = "the tables are up to date" if behind == 0 else f"the tables are {behind} behind"
    if not running:
        return None, f"none runs, {words}; `realname projector` starts one"
    return (True if behind == 0 else None), f"runs, {words}"


_MARKS: Final = {True: Text("✓", GOOD), False: Text("✗", BAD), None: Text("!", ODD)}
_OF_BROKER: Final = frozenset({"broker", "topics"})

_PARTS: Final = (
    _Part("broker", _broker),
    _Part("topics", _topics, frozenset({"broker"})),
    _Part("workers", _workers, _OF_BROKER),
    _Part("to decide", _to_decide, _OF_BROKER),
    _Part("database", _database),
    _Part("projector", _projector, _OF_BROKER | {"database"}),
)


@asynccontextmanager
async def _admin(deployment: Deployment) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(**deployment.kafka, request_timeout_ms=TOPICS_REQUEST_MS_MAX)
    try:
        await admin.start()
        yield admin
    finally:
        await admin.close()
