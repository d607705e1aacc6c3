"""Where our CPU goes: a small turn stage by stage, without a broker and all of it in the caches
(`python -m bench profile`, which has the turns of a backlog, too: `bench.backlog`).

CPU time, not time: it says the same on a busy machine, or nearly so.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any, Final

from agents.deciding import Decider, _persons, _steps
from agents.ledger.batches import KafkaBatch
from agents.ledger.encoding import Batch, Records
from agents.ledger.kafka import KafkaDraft
from agents.ledger.record import Record
from agents.ledger.turn import Entry, Turn, Verdict
from bench.backlog import batches_of, verdict_of, views_of
from bench.work import CODE_KEYS, SCANS, Message, Shape, Work, state_of
from deployment.catalog import load_catalog
from deployment.process import collect_rarely
from rules.case import Case
from rules.decide import Decision, decide_each
from rules.person import decode, encode
from schemas.forms import time_ms
from schemas.reading import Command, read_by_models, read_command
from schemas.recognising import recognise

INPUTS: Final = 40_000
TURN: Final = 500
REPEATS: Final = 3
"""The cheapest counts."""


def costs() -> list[tuple[str, float]]:
    """(stage, microseconds of CPU an input), in the order of the way."""
    now_ms = int(time.time() * 1000)
    work = Work(Shape(INPUTS, partitions=1), now_ms)
    messages = list(work.messages())
    catalog = load_catalog(partitions=1)
    wire = {name: topic.wire for name, topic in catalog.topics.items()}
    decider = Decider(wire, 1, CODE_KEYS)
    views = views_of(work, now_ms)
    found: list[tuple[str, float]] = []
    collect_rarely()

    def timed(name: str, do: Callable[[], Any]) -> Any:
        best_s = float("inf")
        for _ in range(REPEATS):
            result = None
            gc.collect()
            gc.freeze()
            began = time.process_time()
            result = do()
            best_s = min(best_s, time.process_time() - began)
        found.append((name, best_s / INPUTS * 1e6))
        return result

    turns = [messages[at : at + TURN] for at in range(0, INPUTS, TURN)]
    raw = [b"".join(batch) for turn in turns for batch in _fetched(turn, now_ms)]
    timed("fetched batches: checksum", lambda: _check(raw))
    timed(
        "fetched batches: records",
        lambda: [list(KafkaBatch(SCANS, 0, one).pieces(0)) for one in raw],
    )
    envelopes = timed("read: recognise", lambda: [recognise(m.value) for m in messages])
    timed("read: time", lambda: [time_ms(one.time) for one in envelopes])
    commands = timed("read: all of it", lambda: [_read(one) for one in messages])
    timed(
        "read: by the models, were it not recognised",
        lambda: [read_by_models(m.topic, 0, 1, m.key, m.value) for m in messages],
    )
    states = {seed.person.encode(): state_of(seed) for seed in work.seeds}
    encoded = {key: encode(person) for key, person in states.items()}
    timed("state: decode, each person once", lambda: [decode(one) for one in encoded.values()])
    world = work.world()

    records = [
        Record(one.topic, 0, number, now_ms, one.key, one.value)
        for number, one in enumerate(messages)
    ]
    rounds = [
        [begin + place for place in places]
        for begin in range(0, INPUTS, TURN)
        for step in _steps(_persons(records[begin : begin + TURN]), ())
        for places in step
    ]

    def decisions() -> list[Decision]:
        people = dict(states)
        made: dict[int, Decision] = {}
        for places in rounds:
            asked = [(people[messages[place].key], commands[place]) for place in places]
            cases = [Case(who, one, one.data, one.at_ms, now_ms, world) for who, one in asked]
            for place, decision in zip(places, decide_each(cases), strict=True):
                people[messages[place].key] = decision.person
                made[place] = decision
        return [made[place] for place in range(len(messages))]

    decided = timed("decide", decisions)
    timed(
        "answer: outcome and events",
        lambda: _answer(decider, records, commands, decided),
    )
    timed("state: encode, once a person and turn", lambda: _encode_turns(turns, decided))

    loop = asyncio.new_event_loop()

    def whole() -> Iterator[Verdict]:
        stored = dict(encoded)
        for number in range(0, INPUTS, TURN):
            turn = Turn(
                1, 0, records[number : number + TURN], stored, views, "1", KafkaDraft,
                loop.create_future(),
            )  # fmt: skip
            verdict = verdict_of(decider, turn)
            stored.update(verdict.states)
            yield verdict

    # None is kept: a worker has used the same memory for the turn before.
    timed("DECIDER, all of it, outputs encoded", lambda: deque(whole(), 0))
    verdicts = list(whole())
    loop.close()
    timed(
        "write: batches",
        lambda: deque(chain.from_iterable(batches_of(one, now_ms) for one in verdicts), 0),
    )
    return found


def _fetched(turn: list[Message], now_ms: int) -> Iterator[Batch]:
    records = Records()
    records.add(Entry(m.key, m.value) for m in turn)
    return records.batches(now_ms, 1, 0, 0)


def _read(message: Message) -> Command:
    command = read_command(message.topic, 0, 1, message.key, message.value)
    assert isinstance(command, Command)
    return command


def _answer(decider: Decider, records: list[Record], commands: list[Any], made: list[Any]) -> None:
    witness = (("witness", b"t=123;employers=12;sites=4;staff=33;rules=1"),)
    for number, record in enumerate(records):
        if number % TURN == 0:
            answered: defaultdict[str, list[Entry]] = defaultdict(list)
        decider._answer(record, commands[number], made[number], witness, answered)


def _encode_turns(turns: list[list[Message]], decided: list[Any]) -> None:
    for number, turn in enumerate(turns):
        last = {}
        for place, message in enumerate(turn, number * TURN):
            last[message.key] = decided[place].person
        for person in last.values():
            encode(person)


def _check(raw: list[bytes]) -> None:
    for one in raw:
        KafkaBatch(SCANS, 0, one).check()
