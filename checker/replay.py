"""Decides everything again: the witnessed order, through the pure rules, with the witnessed views.

This is the judgement of P2, and what else is derived from it: the states and staff records that
must be there at the end. It shares the rules with the worker, on purpose, and nothing else.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import merge
from itertools import groupby
from operator import attrgetter
from typing import Any, NamedTuple, cast

from checker.answers import Answer, Deployment, Event
from checker.history import STAFF, Record, Versions, View
from rules.authority import World
from rules.decide import Decision, decide
from rules.machines import ImpossibleTransition
from rules.person import Person, staff_record
from schemas.envelope import SYSTEM_SOURCE
from schemas.events import EVENTS
from schemas.outcomes import OUTCOME_TYPE, RULES_VERSION
from schemas.reading import Command, Refusal, read_command
from schemas.references import Employer, Site, Staff

DELETED = "the command was deleted by the retention of its topic"
OTHER_RULES = "decided by another version of the rules"
COMPACTED = "reference records it may have used were compacted"
AFTERWARDS = "a decision of the same person before it is broken or cannot be judged"


class Mistake(NamedTuple):
    """A decision that is not that of the rules."""

    judgement: str
    words: str


class StaffChange(NamedTuple):
    """A staff record that a turn must have written."""

    record: Staff | None
    answers: list[Answer]
    """The decisions of the turn that changed it."""


@dataclass
class Replayed:
    """What the rules made of the answers of a partition."""

    mistakes: list[tuple[Answer, Mistake]] = field(default_factory=list)
    judged: int = 0
    doubts: dict[str, str] = field(default_factory=dict)
    """Person -> why, from some decision on, the person cannot be judged."""
    unjudged: dict[str, int] = field(default_factory=dict)
    """Reason -> decisions."""
    persons: dict[str, Person] = field(default_factory=dict)
    """At the end. Of those in `doubts` not to be relied on."""
    staff: dict[str, list[StaffChange]] = field(default_factory=dict)


class _StaffInTurn:
    """The staff view as the turn used it, with the turn's own changes before it."""

    def __init__(self, view: View) -> None:
        self._view = view
        self.changed: dict[str, StaffChange] = {}
        self.unknown: set[str] = set()
        """Persons decided in this turn whose staff record cannot be told."""
        self.guessed = False

    def get(self, person: str, /) -> Staff | None:
        if person in self.unknown:
            self.guessed = True
        change = self.changed.get(person)
        return change.record if change else cast(Staff | None, self._view.get(person))


def replay(
    deployment: Deployment,
    partition: int,
    answers: Sequence[Answer],
    commands: Mapping[tuple[str, int], Record],
    deleted_below: Mapping[str, int],
    events: Mapping[str, Mapping[int, Event]],
    references: Mapping[str, Versions],
) -> Replayed:
    """Decide `answers` again, turn after turn as they stand.

    `commands` by topic and offset; `deleted_below`: the log start of each command topic; `events`
    by person and version.
    """
    result = Replayed()
    staff = _StaffInTurn(references[STAFF].at(0))
    turn: tuple[int, Mapping[str, int]] | None = None
    for answer in _as_decided(answers, commands, deployment.commands):
        if turn != (answer.turn, answer.seen):
            _close_turn(result, staff)
            turn = (answer.turn, answer.seen)
            staff = _StaffInTurn(references[STAFF].at(answer.seen.get(STAFF, 0)))
            world = World(
                cast(Mapping[str, Employer], references["employers"].at(answer.seen["employers"])),
                cast(Mapping[str, Site], references["sites"].at(answer.seen["sites"])),
                staff,
                deployment.code_keys,
            )
            exact = all(references[topic].exact(at) for topic, at in answer.seen.items())
        subject = answer.subject
        reason = result.doubts.get(subject)
        record = commands.get((answer.topic, answer.offset))
        if reason is None:
            if record is None:
                gone = answer.offset < deleted_below.get(answer.topic, 0)
                # A command that never was is told of where answers are matched with commands.
                reason = DELETED if gone else AFTERWARDS
            elif answer.rules != str(RULES_VERSION):
                reason = OTHER_RULES
        if reason is not None or record is None:
            _doubt(result, staff, subject, reason or AFTERWARDS)
            continue
        staff.guessed = False
        before = result.persons.get(subject, _NOBODY)
        outcome = _decide(deployment, partition, before, record, world)
        mistake: Mistake | None = None
        if isinstance(outcome, Mistake):
            mistake = outcome
        else:
            command, decision = outcome
            mistake = _compare(deployment, answer, record, command, decision, events)
        if mistake is not None:
            if staff.guessed or not exact:
                _doubt(result, staff, subject, COMPACTED if not exact else AFTERWARDS)
                continue
            result.judged += 1
            result.mistakes.append((answer, mistake))
            result.doubts[subject] = AFTERWARDS
            staff.unknown.add(subject)
            continue
        result.judged += 1
        after = decision.person
        if after is not before:
            result.persons[subject] = after
            if before.is_manager or after.is_manager:
                now = staff_record(subject, after)
                if now != staff_record(subject, before):
                    earlier = staff.changed.get(subject)
                    made = [*earlier.answers, answer] if earlier else [answer]
                    staff.changed[subject] = StaffChange(now, made)
    _close_turn(result, staff)
    return result


_NOBODY = Person()


def _doubt(result: Replayed, staff: _StaffInTurn, subject: str, reason: str) -> None:
    result.unjudged[reason] = result.unjudged.get(reason, 0) + 1
    result.doubts.setdefault(subject, AFTERWARDS)
    staff.unknown.add(subject)


def _as_decided(
    answers: Sequence[Answer],
    commands: Mapping[tuple[str, int], Record],
    topics: Sequence[str],
) -> Iterator[Answer]:
    """The answers of each turn in the order in which they saw each other's staff records.

    They are written in another one, in which only each person's are as they were decided. Whose
    comes next, the merge of the commands says: by broker time and the rank of the topic, the
    offsets of a topic in order. One that was deleted counts as older than all others.
    """
    ranks = {topic: rank for rank, topic in enumerate(topics)}

    def due(answer: Answer) -> tuple[int, int]:
        command = commands.get((answer.topic, answer.offset))
        return command.timestamp if command else 0, ranks.get(answer.topic, -1)

    for _, turn in groupby(answers, key=attrgetter("turn")):
        waiting: defaultdict[str, list[Answer]] = defaultdict(list)
        written: defaultdict[str, deque[Answer]] = defaultdict(deque)
        for answer in turn:
            waiting[answer.topic].append(answer)
            written[answer.subject].append(answer)
        for group in waiting.values():
            group.sort(key=attrgetter("offset"))
        for answer in merge(*waiting.values(), key=due):
            yield written[answer.subject].popleft()


def _close_turn(result: Replayed, staff: _StaffInTurn) -> None:
    for person, change in staff.changed.items():
        result.staff.setdefault(person, []).append(change)


def _decide(
    deployment: Deployment, partition: int, before: Person, record: Record, world: World
) -> tuple[Command, Decision] | Mistake:
    command = read_command(record.topic, partition, deployment.partitions, record.key, record.value)
    if record.value_cut is not None:
        command = Refusal("too_large", "")
    if isinstance(command, Refusal):
        return Mistake("dead letters", f"an outcome, but the record is no command: {command.code}")
    try:
        return command, decide(before, command, record.timestamp, world)
    except ImpossibleTransition as error:
        return Mistake("rules", f"the rules find the state impossible: {error}")


def _compare(
    deployment: Deployment,
    answer: Answer,
    record: Record,
    command: Command,
    decision: Decision,
    events: Mapping[str, Mapping[int, Event]],
) -> Mistake | None:
    """What differs between an outcome with its events and what the rules give."""
    subject = command.subject
    first = decision.version - len(decision.events) + 1
    made = {
        f"{subject}:{version}": (version, event)
        for version, event in enumerate(decision.events, first)
    }
    wire = deployment.wire[record.topic]
    data: dict[str, Any] = {
        "command": command.id,
        "command_source": command.source,
        "command_type": command.type,
        "status": decision.status,
        "code": decision.code,
        "version": decision.version,
        "events": list(made),
        "origin": {"topic": wire, "partition": record.partition, "offset": record.offset},
        "rules_version": RULES_VERSION,
    }
    if command.batch is not None:
        data["batch"] = command.batch
    origin = f"{wire}/{record.partition}/{record.offset}"
    expected = _cloud_event(origin, OUTCOME_TYPE, command, data)
    if answer.document != expected or answer.record.key != record.key:
        return Mistake("rules", _difference(expected, answer))
    there = events.get(subject, {})
    for event_id, (version, event) in made.items():
        found = there.get(version)
        if found is None:
            continue  # told of where events are matched with outcomes
        data = {"version": version, "command": command.id, **event.data}
        wanted = _cloud_event(event_id, event.type, command, data)
        if found.record.topic != EVENTS[event.type][0]:
            return Mistake("rules", f"event {found.type} v{version} is on {found.record.topic}")
        if found.document != wanted or found.record.key != record.key:
            return Mistake(
                "rules",
                f"event v{version} is {found.type}, the rules give {event.type}"
                if found.type != event.type
                else f"event v{version}, {event.type}, has other contents than the rules give",
            )
    return None


def _cloud_event(
    event_id: str, event_type: str, command: Command, data: dict[str, Any]
) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": event_id,
        "source": SYSTEM_SOURCE,
        "type": event_type,
        "time": command.time,
        "subject": command.subject,
        "data": data,
    }


def _difference(expected: dict[str, Any], answer: Answer) -> str:
    """Which fields differ; contents only of those that can hold no personal data."""
    there, data = answer.document, expected["data"]
    told = [
        f"{name} {answer.data.get(name)!r}, the rules give {data.get(name)!r}"
        for name in ("status", "code", "version", "events")
        if answer.data.get(name) != data.get(name)
    ]
    told += [
        f"another {name}"
        for name in sorted(expected.keys() | there.keys() - {"data"})
        if name != "data" and there.get(name) != expected.get(name)
    ]
    shown = {"status", "code", "version", "events"}
    told += [
        f"another data.{name}"
        for name in sorted((data.keys() | answer.data.keys()) - shown)
        if answer.data.get(name) != data.get(name)
    ]
    return "the outcome says " + "; ".join(told or ["another record key"])
