"""The decision on one record, for engines that call it a record at a time."""

from __future__ import annotations

import os
from collections import defaultdict
from typing import Any, Final, cast

import orjson
from confluent_kafka import Consumer, TopicPartition

from agents.deciding import Decider
from agents.ledger.log import Entry
from agents.ledger.record import Record
from bench.work import CODE_KEYS, TOPICS, seed_from_json
from rules.authority import World
from rules.decide import decide
from rules.person import Person, decode, encode
from schemas.reading import Refusal
from schemas.references import parse_reference

INPUTS: Final = os.environ.get("BENCH_INPUTS", "")
OUTPUTS: Final = os.environ.get("REALNAME_TOPIC_PREFIX", "")
BROKERS: Final = os.environ.get("REALNAME_BROKERS", "")
PARTITIONS: Final = int(os.environ.get("REALNAME_PARTITIONS", "16"))
LOGICAL: Final = {INPUTS + topic: topic for topic in TOPICS}
SEEDS: Final = INPUTS + "seeds"

_NOBODY: Final = Person()


def read_references() -> World:
    """The reference topics as they are at the start; the stream changes none of them."""
    views: dict[str, dict[str, Any]] = {"employers": {}, "sites": {}, "staff": {}}
    consumer = Consumer(
        {
            "bootstrap.servers": BROKERS,
            "group.id": "bench-references",
            "enable.partition.eof": True,
            "enable.auto.commit": False,
        }
    )
    consumer.assign([TopicPartition(INPUTS + topic, 0, 0) for topic in views])
    open_topics = len(views)
    while open_topics:
        for message in consumer.consume(1000, 1.0):
            if message.error() is not None:
                open_topics -= 1
                continue
            topic, key = (message.topic() or "")[len(INPUTS) :], message.key() or b""
            views[topic][key.decode()] = parse_reference(topic, key, message.value() or b"")
    consumer.close()
    return World(views["employers"], views["sites"], views["staff"], CODE_KEYS)


class Job:
    """Records in, outputs and the next state out."""

    def __init__(self, world: World) -> None:
        self._world = world
        wire = {topic: INPUTS + topic for topic in TOPICS}
        self._decider = Decider(wire, PARTITIONS, CODE_KEYS)

    def decide(
        self,
        topic: str,
        partition: int,
        offset: int,
        timestamp: int,
        key: bytes,
        value: bytes,
        stored: bytes | None,
    ) -> tuple[list[tuple[str, bytes]], bytes | None]:
        """Outputs as (topic on the wire, value), and the state to store; None: unchanged.

        The seeds' topic gives states and no outputs.
        """
        if topic == SEEDS:
            return [], encode(seed_from_json(value))
        record = Record(LOGICAL[topic], partition, offset, timestamp, key, value)
        command = self._decider._read(record)
        if isinstance(command, Refusal):
            raise TypeError(f"no command: {command}")
        person = _NOBODY if stored is None else decode(stored)
        decision = decide(person, command, timestamp, self._world)
        made: defaultdict[str, list[Entry]] = defaultdict(list)
        self._decider._answer(record, command, decision, (), made)
        return (
            [
                (OUTPUTS + topic, cast(bytes, entry.value))
                for topic, entries in made.items()
                for entry in entries
            ],
            None if decision.person is person else encode(decision.person),
        )


OUTCOME: Final = orjson.dumps(
    {
        "specversion": "1.0",
        "id": "w1234567890.scan-events/12/123456",
        "source": "/realname",
        "type": "outcome",
        "time": "2026-11-22T21:51:59.123Z",
        "subject": "0" * 32,
        "data": {
            "command": "1-00012345",
            "command_source": "/devices/gate-site-00042",
            "command_type": "scan.attendance",
            "status": "accepted",
            "code": "accepted",
            "version": 17,
            "events": ["0" * 32 + ":17"],
            "origin": {"topic": "w1234567890.scan-events", "partition": 12, "offset": 123456},
            "rules_version": 1,
        },
    }
)
"""What a limit writes for each input: as large as an outcome."""

EVENT: Final = orjson.dumps(
    {
        "specversion": "1.0",
        "id": "0" * 32 + ":17",
        "source": "/realname",
        "type": "attendance.recorded",
        "time": "2026-11-22T21:51:59.123Z",
        "subject": "0" * 32,
        "data": {
            "version": 17,
            "command": "1-00012345",
            "site": "site-00042",
            "employer": "91310104ABCDEFGHJK",
            "day": "2026-11-22",
            "direction": "in",
            "method": "staff",
            "scanner": "0" * 32,
        },
    }
)
"""Written for four inputs of five, as the stream makes them."""

STATE: Final = bytes(900)
"""A state of about 16 remembered commands, once for each person of a transaction."""
