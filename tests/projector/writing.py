"""Writes histories to result topics as a ledger does, and reads what the tables hold."""

import asyncio
import base64
import contextlib
import hashlib
import itertools
import random
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import orjson
from aiokafka import AIOKafkaProducer

from deployment.catalog import Catalog
from projector.fold import COLUMNS, TABLES
from projector.rebuild import lag
from projector.store import ROW_TABLES
from tests.projector.histories import Decision, home
from tests.projector.model import Table

_NUMBERS = itertools.count()


@asynccontextmanager
async def ledger(brokers: str, catalog: Catalog) -> AsyncIterator[AIOKafkaProducer]:
    """A transactional producer."""
    producer = AIOKafkaProducer(
        bootstrap_servers=brokers,
        transactional_id=f"{catalog.prefix}ledger-{next(_NUMBERS)}",
        linger_ms=2,
    )
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


async def write(
    producer: AIOKafkaProducer,
    catalog: Catalog,
    decisions: Iterable[Decision],
    *,
    rng: random.Random,
    decisions_a_transaction: int = 30,
    aborts: float = 0.2,
) -> dict[tuple[str, int], tuple[str, int, int]]:
    """Writes the decisions in transactions; some of them are first written and aborted.

    Returns the topic, partition and offset of each event, by person and version, and of each
    outcome, by `""` and the number of its command.
    """
    places = {}
    wire = {name: topic.wire for name, topic in catalog.topics.items()}
    numbered = iter(decisions)
    while chunk := list(itertools.islice(numbered, decisions_a_transaction)):
        for aborted in (True, False):
            if aborted and rng.random() >= aborts:
                continue
            await producer.begin_transaction()
            sent = {}
            for decision in chunk:
                partition = home(catalog, decision.person)
                key = decision.person.encode()
                for made in decision.events:
                    sent[made.person, made.version] = await producer.send(
                        wire[made.topic], made.value(), key, partition
                    )
                number = int(decision.command[1:])
                value = decision.outcome((wire["hire-requests"], partition, number))
                sent["", number] = await producer.send(wire["outcomes"], value, key, partition)
            for name, future in sent.items():
                record = await future
                places[name] = (record.topic, record.partition, record.offset)
            if aborted:
                await producer.abort_transaction()
            else:
                await producer.commit_transaction()
    return places


def dead_letter(offset: int, value: bytes | None, encoding: str) -> bytes:
    """A dead letter about `value`, whose key is the same bytes."""

    def packed(content: bytes) -> str:
        return content.decode() if encoding == "utf-8" else base64.b64encode(content).decode()

    return orjson.dumps(
        {
            "code": "not_json",
            "detail": "unexpected character at 1",
            "origin": {"topic": "hire-requests", "partition": 0, "offset": offset},
            "encoding": encoding,
            "key": None if value is None else packed(value),
            "value": None if value is None else packed(value),
            "length": len(value or b""),
            "sha256": hashlib.sha256(value or b"").hexdigest(),
        }
    )


_COLUMNS = {TABLES[kind]: columns for kind, columns in COLUMNS.items()} | {
    "events": ("person", "version", "type", "time", "command", "data"),
    "attendance": (
        "person",
        "version",
        "day::text",
        "time",
        "site",
        "employer",
        "direction",
        "method",
        "scanner",
    ),
}


async def tables(connection: Any) -> dict[str, Table]:
    """The tables that `model.tables` speaks of, in its form."""
    held: dict[str, Table] = {}
    for table, columns in _COLUMNS.items():
        rows = await connection.fetch(f"select {', '.join(columns)} from realname.{table}")
        held[table] = {tuple(row) for row in rows}
        assert len(held[table]) == len(rows)
    held["events"] = {(*row[:5], frozenset(orjson.loads(row[5]).items())) for row in held["events"]}
    return held


async def everything(connection: Any) -> dict[str, list[tuple[Any, ...]]]:
    """All columns of all tables that the topics make, but the progress: where one batch ended and
    the next began shows in no row."""
    held = {}
    for table in ROW_TABLES:
        rows = await connection.fetch(f"select * from realname.{table}")
        held[table] = sorted(map(tuple, rows), key=repr)
    return held


async def caught_up(
    brokers: str, database: str, catalog: Catalog, *workers: asyncio.Task[None]
) -> None:
    """Returns when the tables are at the ends of the topics; raises what a worker raises."""
    while True:
        with contextlib.suppress(asyncpg.UndefinedTableError, OSError, asyncpg.PostgresError):
            if not any((await lag(brokers, database, catalog)).values()):
                return
        await asyncio.sleep(0.1)
        for worker in workers:
            if worker.done():
                worker.result()


async def connect(uri: str) -> Any:
    return await asyncpg.connect(uri, server_settings={"timezone": "UTC"})
