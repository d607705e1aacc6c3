"""A worker with the smallest rules that show an error: every key counts its commands.

Run as a process: `python tests/ledger/toy.py BROKERS PREFIX PARTITIONS`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import orjson
import uvloop

from agents.app import RealnameApp
from agents.ledger.kafka import KafkaLog
from agents.ledger.turn import Entry, Turn, Verdict
from agents.references import References
from deployment.catalog import load_catalog
from drills.worker import lag


def parse(topic: str, key: bytes, value: bytes) -> object:
    """A reference record is any JSON."""
    return orjson.loads(value)


def count(turn: Turn) -> Iterator[Verdict | None]:
    """One outcome a record: which it is, and the how-manieth of its key."""
    witness = [("witness", turn.witness)]
    outputs = turn.draft()
    states: dict[bytes, bytes] = {}
    staff: dict[bytes, bytes | None] = {}
    for record in turn.records:
        key = record.key or b""
        n = int(states.get(key) or turn.states.get(key, b"0")) + 1
        states[key] = b"%d" % n
        value = record.value or b""
        if value == b"raise" and Path(os.environ["TOY_TRAP"]).exists():
            raise RuntimeError("the trap")
        length = record.value_cut.length if record.value_cut else len(value)
        said = value[:64].decode("utf-8", "replace")
        seen = turn.references.employers.get("e")
        outcome = orjson.dumps(
            {
                "origin": f"{record.topic}/{record.partition}/{record.offset}",
                "n": n,
                "turn": turn.number,
                "length": length,
                "said": said,
                "employer": seen,
                "at": record.timestamp,
                "staff": turn.references.staff.get(said.removeprefix("ask ")),
            }
        )
        outputs.add(("outcomes", turn.partition), [Entry(record.key, outcome, witness)])
        if said.startswith("staff"):
            staff[key] = orjson.dumps({"n": n})
        yield None
    yield Verdict(outputs, states, staff)


async def run(brokers: str, prefix: str, partitions: int) -> None:
    """Until SIGTERM."""
    catalog = load_catalog(prefix, partitions=partitions)
    without = os.environ.get("TOY_WITHOUT")
    if without:
        catalog = type(catalog)(
            prefix, {name: topic for name, topic in catalog.topics.items() if name != without}
        )
    if "TOY_LAG" in os.environ:
        lag(random.Random(os.environ["TOY_LAG"]))
    source = KafkaLog(brokers, catalog)
    references = References(source.layout.references, parse)
    app = RealnameApp(source, references, "toy", count)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    await app.start()
    health = app.ledger.ledger.health
    said = None
    while not stop.is_set():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), 0.1)
        if health() != said:
            said = health()
            print("HEALTH", said, flush=True)
    await app.stop()
    print("STOPPED", flush=True)


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(message)s")
    brokers_, prefix_, partitions_ = sys.argv[1:]
    uvloop.run(run(brokers_, prefix_, int(partitions_)))
