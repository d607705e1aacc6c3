"""A deployment in memory: commands are sent, turns are decided by the worker's own `Decider`, and
everything lands in logs as a broker would keep them. What a test breaks in it, the judge must find.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import blake2b
from random import Random
from typing import Any, cast
from unittest.mock import Mock

import orjson

from agents.deciding import Decider
from agents.ledger.memory import MemoryDraft
from agents.ledger.record import Record as Read
from agents.ledger.turn import Turn
from agents.references import References
from checker.answers import Deployment, read_event
from checker.history import Ack, Clients, Log, Partition, Progress, Record, Versions, collect
from checker.judge import Judge
from checker.report import Report
from checker.tables import COLUMNS, Row, Stored, Tables
from deployment.catalog import load_catalog
from projector.fold import COLUMNS as PROJECTED
from projector.fold import TABLES as KINDS
from projector.fold import Changes, Person
from projector.records import READ_LINE
from projector.records import read_event as project
from projector.store import _COPIED
from rules.codes import issue_person_code
from schemas.commands import COMMANDS
from schemas.identifiers import make_uscc, partition_for
from schemas.references import parse_reference
from tests.projector import lines

PARTITIONS = 2
CATALOG = load_catalog("v.", partitions=PARTITIONS)
KEYS = {1: b"a key of the village"}
NOON = 1_795_406_400_000
BUILDERS, PAINTERS = make_uscc(Random(1)), make_uscc(Random(2))
SITE = "mill"

WIRE = {name: topic.wire for name, topic in CATALOG.topics.items()}
COMMAND_TOPICS = tuple(topic.name for topic in CATALOG.commands)
OUTPUT_TOPICS = tuple(topic.name for topic in CATALOG.outputs)
DEPLOYMENT = Deployment(WIRE, COMMAND_TOPICS, PARTITIONS, KEYS)


def someone(name: str, home: int) -> str:
    """A person id whose home is partition `home`."""
    for number in itertools.count():
        person = blake2b(f"{name}{number}".encode(), digest_size=16).hexdigest()
        if partition_for(person.encode(), PARTITIONS) == home:
            return person
    raise AssertionError


MAYOR = someone("mayor", 0)
"""The project manager of the general contractor."""
LI, WU = someone("li", 0), someone("wu", 1)


@dataclass
class Village:
    logs: dict[tuple[str, int], list[Record]] = field(default_factory=dict)
    ends: dict[tuple[str, int], int] = field(default_factory=dict)
    states: list[dict[bytes, bytes]] = field(
        default_factory=lambda: [{} for _ in range(PARTITIONS)]
    )
    offsets: list[dict[str, int]] = field(default_factory=lambda: [{} for _ in range(PARTITIONS)])
    turns: list[int] = field(default_factory=lambda: [0] * PARTITIONS)
    acks: list[Ack] = field(default_factory=list)
    now_ms: int = NOON
    numbers: Any = field(default_factory=lambda: itertools.count(1))

    def __post_init__(self) -> None:
        self.references = References(("employers", "sites", "staff"), parse_reference)
        self.decider = Decider(WIRE, PARTITIONS, KEYS)

    # --- the clients ---

    def append(
        self,
        topic: str,
        partition: int,
        key: bytes | None,
        value: bytes | None,
        headers: tuple[tuple[str, bytes], ...] = (),
    ) -> Record:
        offset = self.ends.get((topic, partition), 0)
        record = Record(topic, partition, offset, self.now_ms, key, value, headers)
        self.logs.setdefault((topic, partition), []).append(record)
        self.ends[topic, partition] = offset + 1
        return record

    def put(self, topic: str, document: dict[str, Any]) -> Record:
        """A reference record."""
        key = document["uscc" if topic == "employers" else "site"]
        record = self.append(topic, 0, key.encode(), orjson.dumps(document))
        self.now_ms += 10
        return record

    def send(self, kind: str, subject: str, source: str, **data: Any) -> Record:
        """A command, acknowledged 2 ms after it was sent; the next is sent 10 ms later."""
        known = data.pop("id", None)
        command = known or f"c{next(self.numbers)}"
        time = datetime.fromtimestamp(self.now_ms / 1000, UTC).isoformat()
        value = orjson.dumps(
            {
                "specversion": "1.0",
                "id": command,
                "source": source,
                "type": kind,
                "time": data.pop("time", time),
                "subject": subject,
                "data": data,
            }
        )
        return self.send_raw(COMMANDS[kind][0], subject.encode(), value, command)

    def send_raw(self, topic: str, key: bytes, value: bytes | None, command: str | None) -> Record:
        partition = partition_for(key, PARTITIONS)
        record = self.append(topic, partition, key, value)
        ack = Ack(topic, partition, record.offset, command, self.now_ms - 1.5, self.now_ms + 1.5)
        self.acks.append(ack)
        self.now_ms += 10
        return record

    def hired(self, person: str, employer: str = BUILDERS, **registration: str) -> None:
        """Everything from the upload to the completed registration is sent."""
        tag = person[::-1]
        self.send(
            "identity.upload",
            person,
            f"/persons/{person}",
            name_tag=tag,
            sealed="c2VhbGVk",
            front_sha256="0" * 64,
            back_sha256="1" * 64,
            birth_date="1990-02-03",
            sex="male",
            notice_accepted=True,
        )
        self.send("identity.verify", person, "/centre", batch="b1", result="verified")
        offer = self.offered(person, employer)
        self.send("hire.confirm", person, f"/persons/{person}", offer=offer)
        self.send(
            "hire.complete", person, f"/employers/{employer}", employer=employer, **registration
        )

    def offered(self, person: str, employer: str) -> str:
        sent = self.send(
            "hire.offer", person, f"/employers/{employer}", employer=employer, name_tag=person[::-1]
        )
        return str(orjson.loads(sent.value or b"")["id"])

    def assigned(
        self, person: str, approver: str = MAYOR, employer: str = BUILDERS, **more: str
    ) -> None:
        sent = self.send(
            "assignment.request",
            person,
            f"/employers/{employer}",
            site=SITE,
            employer=employer,
            batch="b2",
            **more,
        )
        self.send(
            "assignment.approve",
            person,
            f"/sites/{SITE}/staff/{approver}",
            assignment=orjson.loads(sent.value or b"")["id"],
            site=SITE,
        )

    def scanned(self, person: str, kind: str = "scan.entry") -> str:
        sent = self.send(
            kind,
            person,
            "/devices/gate",
            site=SITE,
            code=issue_person_code(KEYS, person, self.now_ms // 1000),
            scanner=MAYOR,
        )
        return str(orjson.loads(sent.value or b"")["id"])

    def processed(self, person: str, entry: str, by: str = MAYOR) -> None:
        self.send("entry.process", person, f"/sites/{SITE}/staff/{by}", site=SITE, entry=entry)

    def play(self) -> Village:
        """A day in the village: every kind of table gets rows, staff is changed and used within a
        turn, there are duplicates, rejections, dead letters, and a person with two offers."""
        for uscc in (BUILDERS, PAINTERS):
            self.put("employers", {"uscc": uscc, "name": "some", "status": "active"})
        part = {"employer": BUILDERS, "type": "general_contractor", "project_manager": MAYOR}
        site = {"site": SITE, "name": "Mill", "status": "active", "participants": [part]}
        self.put("sites", site)
        self.hired(MAYOR, role="manager", position="project_manager")
        self.assigned(MAYOR, position="project_manager")
        self.turn(0)
        self.send("entry.self", MAYOR, f"/sites/{SITE}/staff/{MAYOR}", site=SITE)
        self.turn(0)
        for person in (LI, WU):
            self.hired(person, role="worker", trade="001")
        self.decide_all()
        for person in (LI, WU):
            self.assigned(person)
            self.decide_all()
            self.processed(person, self.scanned(person))
            self.decide_all()
            self.scanned(person, "scan.attendance")
        self.send("hire.refuse", LI, f"/persons/{LI}", offer="none", id="twice")
        self.send("hire.refuse", LI, f"/persons/{LI}", offer="none", id="twice")
        self.send_raw("hire-requests", LI.encode(), b"{", None)
        self.send_raw("hire-requests", b"\xff\xfe", b"\x00\xff", None)
        self.decide_all()
        self.send("exit.register", LI, f"/sites/{SITE}/staff/{MAYOR}", site=SITE)
        self.send(
            "dismissal.request", WU, f"/employers/{BUILDERS}", employer=BUILDERS, reason="done"
        )
        self.decide_all()
        self.offered(WU, PAINTERS)
        self.send("dismissal.agree", WU, f"/persons/{WU}", employer=BUILDERS)
        self.decide_all()
        self.now_ms += 60_000
        return self

    # --- the worker ---

    def decide_all(self) -> None:
        for partition in range(PARTITIONS):
            self.turn(partition)

    def turn(
        self,
        partition: int,
        *,
        topics: Iterable[str] = COMMAND_TOPICS,
        order: Callable[[Record], Any] | None = None,
        stale: Iterable[str] = (),
    ) -> None:
        """One turn over what is not decided yet. Broken on purpose by `topics` (only these are
        read), `order` (not the merge's), `stale` (reference topics that are not read on)."""
        offsets = self.offsets[partition]
        records = [
            record
            for topic in topics
            for record in self.logs.get((topic, partition), [])
            if record.offset >= offsets.get(topic, 0)
        ]
        if not records:
            return
        records.sort(
            key=order or (lambda one: (one.timestamp, COMMAND_TOPICS.index(one.topic), one.offset))
        )
        for topic, offset in self.references.offsets.items():
            new = [one for one in self.logs.get((topic, 0), []) if one.offset >= offset]
            if topic not in stale:
                self.references.fold(
                    topic,
                    [Read(*one[:6]) for one in new],
                    self.ends.get((topic, 0), 0),
                )
        self.turns[partition] += 1
        turn = Turn(
            self.turns[partition],
            partition,
            [Read(*one[:6]) for one in records],
            self.states[partition],
            self.references,
            "1",
            MemoryDraft,
            Mock(spec=asyncio.Future),
        )
        *_, verdict = self.decider.decide(turn)
        assert verdict is not None
        outputs = cast(MemoryDraft, verdict.outputs).entries
        for (topic, number), entries in outputs.items():
            for entry in entries:
                self.append(topic, number, entry.key, entry.value, tuple(entry.headers))
        for key, value in verdict.staff.items():
            self.append("staff", 0, key, value)
        self.states[partition].update(verdict.states)
        for record in records:
            offsets[record.topic] = record.offset + 1
        # The marker of the transaction takes an offset wherever it wrote.
        for place in outputs:
            self.ends[place] += 1
        if verdict.staff:
            self.ends["staff", 0] += 1
        self.now_ms += 10

    # --- what is judged ---

    def partition(self, number: int) -> Partition:
        progress = Progress(self.turns[number], dict(self.offsets[number]))
        return Partition(
            number,
            {topic: self.log(topic, number) for topic in COMMAND_TOPICS},
            {topic: self.log(topic, number) for topic in OUTPUT_TOPICS},
            Log(),
            dict(self.states[number]),
            progress if self.turns[number] else None,
        )

    def log(self, topic: str, number: int) -> Log:
        end = self.ends.get((topic, number), 0)
        return Log(list(self.logs.get((topic, number), [])), 0, end, end)

    def versions(self, settled_ms: int = 0) -> dict[str, Versions]:
        made = {}
        for topic in ("employers", "sites", "staff"):
            made[topic] = Versions(topic, settled_ms)
            made[topic].extend(self.logs.get((topic, 0), []), self.ends.get((topic, 0), 0))
        return made

    def clients(self) -> Clients:
        return collect(self.acks)

    def judge(
        self,
        *,
        partitions: Iterable[Partition] | None = None,
        clients: Clients | None = None,
        versions: Mapping[str, Versions] | None = None,
        tables: Mapping[int, Tables] | None = None,
    ) -> Report:
        judge = Judge(DEPLOYMENT, versions or self.versions(), clients)
        for partition in partitions or map(self.partition, range(PARTITIONS)):
            judge.partition(partition, (tables or {}).get(partition.number))
        return judge.finish()

    # --- the projector ---

    def tables(self, number: int, upto: Mapping[str, int] | None = None) -> Tables:
        """The rows that the projector makes of a partition, of the records below `upto`."""
        changes = Changes()
        rows: dict[str, list[Row]] = {table: [] for table in COLUMNS}
        stored = {}
        events = []
        for topic in OUTPUT_TOPICS:
            end = (upto or {}).get(topic, self.ends.get((topic, number), 0))
            records = [one for one in self.logs.get((topic, number), []) if one.offset < end]
            stored[WIRE[topic], number] = Stored(end, records[-1].offset if records else None)
            wired = [record._replace(topic=WIRE[topic]) for record in records]
            if topic in READ_LINE:
                changes.plain[topic] += map(READ_LINE[topic], wired)
            else:
                events += [project(topic, record) for record in wired]
        people: dict[str, Person] = {}
        for event in sorted(events, key=lambda one: one.version):
            changes.apply(people.setdefault(event.person, Person(event.person)), event)
        names = {KINDS[kind]: columns for kind, columns in PROJECTED.items()} | dict(_COPIED)
        made = changes.freeze()
        histories = {
            table: [lines.row(table, line) for line in history]
            for table, history in made.history.items()
        }
        for table, values in (made.current | histories).items():
            rows[table] = [dict(zip(names[table], row, strict=True)) for row in values]
        for row in rows["events"]:
            row["data"] = orjson.loads(row["data"])
        return Tables(rows, stored)

    # --- for what a test breaks ---

    def of(self, topic: str, person: str) -> list[Record]:
        """The records of a topic about a person."""
        home = partition_for(person.encode(), PARTITIONS)
        return [one for one in self.logs.get((topic, home), []) if one.key == person.encode()]

    def remove(self, record: Record) -> None:
        self.logs[record.topic, record.partition].remove(record)

    def replace(self, record: Record, **fields: Any) -> Record:
        log = self.logs[record.topic, record.partition]
        changed = record._replace(**fields)
        log[log.index(record)] = changed
        return changed

    def edit(self, record: Record, **data: Any) -> Record:
        """Change fields of `data` of a CloudEvent."""
        document = orjson.loads(record.value or b"")
        document["data"] |= data
        return self.replace(record, value=orjson.dumps(document))


def event(record: Record) -> str:
    return read_event(record).type
