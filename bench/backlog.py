"""A backlog's turns without a broker: as large as they get, and nothing in the processor's caches.

All that a worker does but for fetching and sending, partition after partition, with as many persons
as two million inputs have. So the memory it goes through is as large as a worker's is, and what
comes out depends on the machine's memory more than on its processor.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final

from agents.deciding import Decider
from agents.ledger.batches import KafkaBatch
from agents.ledger.encoding import Batch, Records
from agents.ledger.feed import Feed
from agents.ledger.kafka import KafkaDraft
from agents.ledger.log import Entry
from agents.ledger.merge import merge
from agents.ledger.record import Record
from agents.ledger.turn import Turn, Verdict
from agents.references import References
from bench.work import CODE_KEYS, TOPICS, Shape, Work, references, state_of
from deployment.catalog import load_catalog
from deployment.process import collect_rarely
from rules.person import encode
from schemas import limits
from schemas.identifiers import partition_for
from schemas.references import parse_reference

PARTITIONS: Final = 16

STEPS_A_PIECE: Final = 8
"""Of a decision: together some 50 ms."""

DECIDING: Final = "decide and encode"


@dataclass(frozen=True)
class Backlog:
    """What waits on all partitions: so many turns of each."""

    persons: int
    turn_records: int
    turns: int


LARGE: Final = Backlog(persons=110_000, turn_records=limits.TURN_RECORDS_MAX, turns=3)


def views_of(work: Work, now_ms: int) -> References:
    """The work's reference records, as a worker has them."""
    views = References(("employers", "sites", "staff"), parse_reference)
    for topic, key, value in references(work):
        views.fold(topic, [Record(topic, 0, 0, now_ms, key, value)], 1)
    return views


def _fetched(work: Work, now_ms: int) -> list[list[Feed]]:
    """Of each partition a feed for each topic, with all that is to be decided."""
    feeds = [
        [Feed(topic, number, 0, lambda: None) for topic in TOPICS] for number in range(PARTITIONS)
    ]
    waiting: defaultdict[tuple[int, str], list[Entry]] = defaultdict(list)
    round_ = 0

    def fetch() -> None:
        for (number, topic), entries in waiting.items():
            records = Records()
            records.add(entries)
            feed = feeds[number][TOPICS.index(topic)]
            for batch in records.batches(now_ms + round_, 1, 0):
                # The broker says from which offset on.
                data = feed.reached.to_bytes(8, "big") + b"".join(batch)[8:]
                feed.append(KafkaBatch(topic, number, data))
        waiting.clear()

    for message in work.messages():
        if message.round != round_:
            fetch()
            round_ = message.round
        waiting[message.partition, message.topic].append(Entry(message.key, message.value))
    fetch()
    return feeds


def pieces(now_ms: int, of: Backlog = LARGE) -> Iterator[tuple[str, float, int]]:
    """Does the work in pieces of some 50 ms, each when it is asked for: (stage, seconds of CPU,
    how many inputs are now done). The last piece of a turn tells of its inputs."""
    inputs = of.turns * PARTITIONS * of.turn_records
    work = Work(Shape(inputs, persons=of.persons, partitions=PARTITIONS), now_ms)
    views = views_of(work, now_ms)
    states: list[dict[bytes, bytes]] = [{} for _ in range(PARTITIONS)]
    for seed in work.seeds:
        key = seed.person.encode()
        states[partition_for(key, PARTITIONS)][key] = encode(state_of(seed))
    all_feeds = _fetched(work, now_ms)
    wire = {name: topic.wire for name, topic in load_catalog(partitions=PARTITIONS).topics.items()}
    decider = Decider(wire, PARTITIONS, CODE_KEYS)
    loop = asyncio.new_event_loop()
    collect_rarely()
    cpu_s = time.process_time
    for number in range(1, of.turns + 1):
        for partition, feeds in enumerate(all_feeds):
            began = cpu_s()
            records: list[Record] = []
            ends = [feed.reached for feed in feeds]
            merge(feeds, ends, ends, records, of.turn_records, limits.TURN_BYTES_MAX)
            yield "records, merged", cpu_s() - began, 0
            began = cpu_s()
            turn = Turn(
                number, partition, records, states[partition], views, "1", KafkaDraft,
                loop.create_future(),
            )  # fmt: skip
            steps = decider.decide(turn)
            verdict = None
            while verdict is None:
                *_, verdict = islice(steps, STEPS_A_PIECE)
                yield DECIDING, cpu_s() - began, 0
                began = cpu_s()
            deque(batches_of(verdict, now_ms), 0)
            yield "batches", cpu_s() - began, 0
            began = cpu_s()
            states[partition].update(verdict.states)
            count = len(records)
            del records, steps, turn, verdict
            yield "keep and let go", cpu_s() - began, count
    loop.close()


def batches_of(verdict: Verdict, now_ms: int) -> Iterator[Batch]:
    """What a producer sends."""
    draft = verdict.outputs
    assert isinstance(draft, KafkaDraft)
    states = Records()
    states.add(Entry(key, state) for key, state in verdict.states.items())
    for records in (*draft.records.values(), states):
        yield from records.batches(now_ms, 1, 0)
