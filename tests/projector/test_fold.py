"""The fold and the order of versions, without broker and database."""

import random
from collections import deque
from typing import Any, NamedTuple

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from projector.fold import APPLY, Changes, Misfit, Person
from projector.merge import Lanes
from projector.records import read_event
from schemas.events import EVENTS
from tests.projector import lines, model
from tests.projector.histories import Decision, Histories, Made


class Record(NamedTuple):
    """Stands for aiokafka's."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None


def topics_of(decisions: list[Decision]) -> dict[str, deque[Record]]:
    """The events of one partition, as each topic has them."""
    topics: dict[str, deque[Record]] = {topic: deque() for topic, _ in EVENTS.values()}
    for decision in decisions:
        for made in decision.events:
            queue = topics[made.topic]
            offset = queue[-1].offset + 2 if queue else 0
            key = made.person.encode()
            queue.append(Record(made.topic, 0, offset, 0, key, made.value()))
    return topics


class Tables:
    """Rows by key, overwritten as the database's upserts do."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[Any, Any]] = {}

    def write(self, changes: Changes) -> None:
        rows = changes.freeze()
        for table, current in rows.current.items():
            held = self.rows.setdefault(table, {})
            held |= {row[0] if table == "persons" else row[:2]: row for row in current}
        for table, history in rows.history.items():
            held = self.rows.setdefault(table, {})
            for line in history:
                row = lines.row(table, line)
                assert row[:2] not in held
                held[row[:2]] = row

    def seen(self, name: str) -> model.Table:
        rows = set(self.rows[name].values()) if name not in ("events", "attendance") else set()
        for row in self.rows[name].values():
            if name == "events":
                rows.add((*row[:5], frozenset(orjson.loads(row[5]).items())))
            if name == "attendance":
                rows.add((*row[:2], row[2].isoformat(), *row[3:]))
        return rows


def drain(lanes: Lanes, people: dict[str, Person], changes: Changes) -> None:
    for _ in lanes.drain(people, changes):
        pass


@given(st.integers(0, 2**32), st.integers(1, 6), st.integers(1, 120))
def test_tables_equal_the_model_however_topics_and_batches_fall(
    seed: int, persons: int, count: int
) -> None:
    decisions = list(Histories(seed, persons).decisions(count))
    topics = topics_of(decisions)
    rng = random.Random(seed)
    lanes, people, tables, changes = Lanes(), {}, Tables(), Changes()
    while any(topics.values()):
        topic = rng.choice([name for name, queue in topics.items() if queue])
        for _ in range(min(rng.randint(1, 9), len(topics[topic]))):
            lanes.put(read_event(topic, topics[topic].popleft()))
        if rng.random() < 0.4:
            people.update({one: Person(one) for one in lanes.persons() - people.keys()})
            drain(lanes, people, changes)
            tables.write(changes)
            changes = Changes()
    people.update({one: Person(one) for one in lanes.persons() - people.keys()})
    drain(lanes, people, changes)
    tables.write(changes)
    assert not list(lanes.held())
    for name, rows in model.tables(decisions).items():
        assert tables.seen(name) == rows, name


def test_histories_reach_every_event() -> None:
    types = {made.type for decision in Histories(5, 12).decisions(4000) for made in decision.events}
    assert types == set(EVENTS)


def test_every_event_of_the_contract_has_its_step() -> None:
    assert APPLY.keys() == EVENTS.keys()


def event(person: str, version: int, kind: str, **data: Any) -> Record:
    made = Made(EVENTS[kind][0], person, version, kind, "2026-03-01T08:00:00+08:00", "c", data)
    return Record(made.topic, 0, version, 0, person.encode(), made.value())


def put(lanes: Lanes, *records: Record) -> None:
    for record in records:
        lanes.put(read_event(record.topic, record))


def test_a_gap_holds_its_topic_and_nothing_else() -> None:
    one, two = "1" * 32, "2" * 32
    employer = {"employer": "91350100M000100Y43"}
    lanes, changes = Lanes(), Changes()
    people = {one: Person(one), two: Person(two)}
    put(lanes, event(one, 2, "offer.parked", offer="o", **employer))
    put(lanes, event(two, 2, "offer.parked", offer="o", **employer))
    put(lanes, event(two, 1, "identity.submitted"))
    drain(lanes, people, changes)
    assert people[two].version == 1  # its offer stands behind the other person's
    assert [len(queue) for queue in lanes.held()] == [2]
    assert changes.last.keys() == {("identity-changes", 0)}
    put(lanes, event(one, 1, "identity.submitted"))
    drain(lanes, people, changes)
    assert (people[one].version, people[two].version) == (2, 2)


def test_a_version_twice_is_refused() -> None:
    one = "1" * 32
    lanes, people = Lanes(), {one: Person(one)}
    put(lanes, event(one, 1, "identity.submitted"), event(one, 1, "identity.submitted"))
    with pytest.raises(Misfit, match="version 1 again"):
        drain(lanes, people, Changes())


def test_an_event_without_what_it_changes_is_refused() -> None:
    person = Person("1" * 32)
    ended = event("1" * 32, 1, "employment.ended", employer="91350100M000100Y43")
    with pytest.raises(Misfit, match="nothing open"):
        Changes().apply(person, read_event(ended.topic, ended))


def test_rows_written_do_not_follow_later_events() -> None:
    one = "1" * 32
    person, first = Person(one), Changes()
    first.apply(person, read_event("identity-changes", event(one, 1, "identity.submitted")))
    written = first.freeze()
    second = Changes()
    second.apply(person, read_event("identity-changes", event(one, 2, "identity.verified")))
    assert written.current["persons"][0][1:3] == (1, "submitted")
