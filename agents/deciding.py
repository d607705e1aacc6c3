"""The decision on a turn: records in, outcomes, state changes and states out. No IO.

Every record of a turn gets exactly one outcome or one dead letter, a person's in the turn's order.
Persons and staff changed within the turn are seen by the records after them, and by no others; the
committed state is left as it is until the ledger has written the verdict.
"""

from base64 import b64encode
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Collection, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from itertools import zip_longest
from operator import itemgetter
from typing import Final, NamedTuple, cast

import msgspec
from msgspec.structs import replace

from agents.ledger.log import Draft
from agents.ledger.record import Cut, Headers, Record
from agents.ledger.turn import Entry, Turn, Verdict
from rules.authority import StaffView, World
from rules.case import Case
from rules.decide import Decision, codes_of, decide_each
from rules.person import Person, decode, encode, staff_record
from schemas import limits
from schemas.commands import COMMANDS
from schemas.envelope import SYSTEM_SOURCE
from schemas.events import EVENTS
from schemas.outcomes import DEAD_LETTERS_TOPIC, OUTCOME_TYPE, OUTCOMES_TOPIC, RULES_VERSION
from schemas.reading import Command, Refusal, read_command
from schemas.references import Employer, Site, Staff, write_reference
from schemas.value import Value

WITNESS_HEADER: Final = "witness"
"""The header of an outcome that names its turn and the reference offsets the turn used."""

_NOBODY: Final = Person()


class _CloudEvent(Value, frozen=True):
    """`schemas.envelope.Envelope` as it is written. Here and below: structs, since their names
    need not be looked at for each record."""

    specversion: str
    id: str
    source: str
    type: str
    time: str
    subject: str
    data: object


class _Origin(Value, frozen=True):
    """`schemas.outcomes.Origin` as it is written."""

    topic: str
    partition: int
    offset: int


class _Outcome(Value, frozen=True):
    """`schemas.outcomes.Outcome` as it is written."""

    command: str
    command_source: str
    command_type: str
    status: str
    code: str
    version: int
    events: list[str]
    origin: _Origin
    rules_version: int
    batch: str | msgspec.UnsetType = msgspec.UNSET


_to_json: Final = msgspec.json.Encoder().encode


class _Unforeseen(Exception):
    """A staff record changed that was not expected to."""


class _StaffChanges:
    """What the records of a turn change of the staff view.

    Only `movers`, by their keys, may change theirs. They are decided before all others, and in the
    turn's order.
    """

    def __init__(self, movers: Container[bytes | None]) -> None:
        self._movers = movers
        self.changes: dict[str, list[tuple[int, Staff | None]]] = {}

    def seen_in(self, world: World, place: int) -> World:
        """The world of the record at this place of the turn, who sees what those before it
        changed."""
        return replace(world, staff=_StaffBefore(world.staff, self.changes, place))

    def changed(self) -> dict[str, Staff | None]:
        """What the turn leaves of the records that it changed."""
        return {person: changes[-1][1] for person, changes in self.changes.items()}

    def follow(self, place: int, person: str, before: Person, after: Person) -> None:
        """Note what the decision on the record at this place changed of a person's. Raises
        _Unforeseen."""
        if (
            after.employment is before.employment
            and after.assignment is before.assignment
            and after.presence is before.presence
        ):
            return  # the parts that are shared did not change, and these make the record
        record = staff_record(person, after)
        if record != staff_record(person, before):
            if person.encode() not in self._movers:
                raise _Unforeseen(person)
            self.changes.setdefault(person, []).append((place, record))


class _StaffBefore(NamedTuple):
    """The staff view amid the turn."""

    committed: StaffView
    changes: Mapping[str, list[tuple[int, Staff | None]]]
    place: int

    def get(self, person: str, /) -> Staff | None:
        if changes := self.changes.get(person):
            before = bisect_left(changes, self.place, key=itemgetter(0))
            if before:
                return changes[before - 1][1]
        return self.committed.get(person)


class Decider:
    """Decides turns by the rules.

    `wire` gives the name under which the broker knows a topic; `partitions` is the number that
    commands share; `code_keys` verify the codes that are scanned.
    """

    def __init__(
        self, wire: Mapping[str, str], partitions: int, code_keys: Mapping[int, bytes]
    ) -> None:
        self._wire = wire
        self._partitions = partitions
        self._code_keys = code_keys

    def decide(self, turn: Turn) -> Iterator[Verdict | None]:
        """The verdict on all records of the turn, after short steps (`agents.ledger.turn.Decide`).

        It is that of deciding one record after the other. But what a record sees of other persons
        is their staff records alone, so where there are many, those who do not change theirs are
        decided and answered some persons after the others: what belongs to them is then at hand in
        the processor's caches, and their decisions can be made part by part (`decide_each`).
        """
        persons = _persons(turn.records)
        if len(turn.records) > limits.DECIDED_AT_ONCE_MAX:
            with suppress(_Unforeseen):
                yield from self._decide(turn, persons, _movers(turn, persons))
                return
        yield from self._decide(turn, persons, persons)

    def _decide(
        self,
        turn: Turn,
        persons: Mapping[bytes | None, list[int]],
        movers: Collection[bytes | None],
    ) -> Iterator[Verdict | None]:
        """In a step some records are read, then their codes, then they are decided, then answered,
        which is cheaper than all of it for each record (see the limit). Raises _Unforeseen."""
        staff = _StaffChanges(movers)
        witness = ((WITNESS_HEADER, turn.witness),)
        states: dict[bytes, bytes] = {}
        answers: Counter[tuple[str, str]] = Counter()
        outputs = turn.draft()
        for number, rounds in enumerate(_steps(persons, movers)):
            if number:
                yield None
            self._step(turn, rounds, states, staff, witness, outputs, answers)
        yield Verdict(
            outputs,
            states,
            {
                subject.encode(): None if entry is None else write_reference(entry)
                for subject, entry in staff.changed().items()
            },
            answers,
        )

    def _step(
        self,
        turn: Turn,
        rounds: Sequence[Sequence[int]],
        states: dict[bytes, bytes],
        staff: _StaffChanges,
        witness: Headers,
        outputs: Draft,
        answers: Counter[tuple[str, str]],
    ) -> None:
        """Decide and answer the records of some rounds.

        What is made for it is let go of with it, while the processor's caches have it: the next
        step then takes the same memory.
        """
        records = [turn.records[place] for places in rounds for place in places]
        commands = [self._read(record, turn.states) for record in records]
        world = World(
            cast(Mapping[str, Employer], turn.references.employers),
            cast(Mapping[str, Site], turn.references.sites),
            cast(Mapping[str, Staff], turn.references.staff),
            self._code_keys,
            codes_of(commands, self._code_keys),
        )
        decisions = iter(_judge(turn, rounds, records, commands, states, world, staff))
        made: defaultdict[str, list[Entry]] = defaultdict(list)
        for record, command in zip(records, commands, strict=True):
            if isinstance(command, Command):
                decision = next(decisions)
                self._answer(record, command, decision, witness, made)
                answers[decision.status, decision.code] += 1
            else:
                made[DEAD_LETTERS_TOPIC].append(self._dead_letter(record, command))
                answers["dead_letter", command.code] += 1
        for topic, entries in made.items():
            outputs.add((topic, turn.partition), entries)

    def _read(self, record: Record, at_home: Container[bytes] = ()) -> Command | Refusal:
        if record.value_cut is not None:
            return Refusal(
                "too_large", f"{record.value_cut.length} bytes, at most {limits.VALUE_BYTES_MAX}"
            )
        return read_command(
            record.topic, record.partition, self._partitions, record.key, record.value, at_home
        )

    def _answer(
        self,
        record: Record,
        command: Command,
        decision: Decision,
        witness: Headers,
        made: defaultdict[str, list[Entry]],
    ) -> None:
        """Add to their topics the events, with the versions that lead up to the person's, and the
        outcome."""
        key, subject, time = record.key, command.subject, command.time
        event_ids = []
        version = decision.version - len(decision.events)
        for event in decision.events:
            version += 1
            event_id = f"{subject}:{version}"
            event_ids.append(event_id)
            data = {"version": version, "command": command.id, **event.data}
            value = _to_json(
                _CloudEvent("1.0", event_id, SYSTEM_SOURCE, event.type, time, subject, data)
            )
            made[EVENTS[event.type][0]].append(Entry(key, value))
        origin = _Origin(self._wire[record.topic], record.partition, record.offset)
        outcome = _Outcome(
            command.id,
            command.source,
            command.type,
            decision.status,
            decision.code,
            decision.version,
            event_ids,
            origin,
            RULES_VERSION,
            msgspec.UNSET if command.batch is None else command.batch,
        )
        outcome_id = f"{origin.topic}/{origin.partition}/{origin.offset}"
        value = _to_json(
            _CloudEvent("1.0", outcome_id, SYSTEM_SOURCE, OUTCOME_TYPE, time, subject, outcome)
        )
        made[OUTCOMES_TOPIC].append(Entry(key, value, witness))

    def _dead_letter(self, record: Record, refusal: Refusal) -> Entry:
        key, value = record.key, record.value or b""
        cut = record.value_cut or Cut(len(value), sha256(value).hexdigest())
        kept = value[: limits.DEAD_LETTER_VALUE_BYTES_MAX]
        # Only a character that the cut itself broke may be missing at the end.
        whole = cut.length == len(kept)
        texts = (_text(key, record.key_cut is None), _text(kept, whole))
        if None in texts:
            encoding, texts = "base64", (b64encode(key or b"").decode(), b64encode(kept).decode())
        else:
            encoding = "utf-8"
        letter = {
            "code": refusal.code,
            "detail": refusal.detail,
            "origin": _Origin(self._wire[record.topic], record.partition, record.offset),
            "encoding": encoding,
            "key": None if key is None else texts[0],
            "value": None if record.value is None else texts[1],
            "length": cut.length,
            "sha256": cut.sha256,
        }
        return Entry(key, _to_json(letter))


def _persons(records: Iterable[Record]) -> Mapping[bytes | None, list[int]]:
    """Key -> the places of its records."""
    persons: defaultdict[bytes | None, list[int]] = defaultdict(list)
    for place, record in enumerate(records):
        persons[record.key].append(place)
    return persons


_HIRES_TOPIC: Final = COMMANDS["hire.complete"][0]


def _movers(turn: Turn, everyone: Iterable[bytes | None]) -> set[bytes | None]:
    """The keys of the persons whose staff records the turn is likely to change: of those who have
    one, and of those who may be hired as managers. A wrong guess costs time only: of one too many
    his place in the order, of one too few all that was decided before (`_Unforeseen`)."""
    staff = turn.references.staff
    hired = {
        record.key
        for record in turn.records
        if record.topic == _HIRES_TOPIC and b"manager" in (record.value or b"")
    }
    return {
        key
        for key in everyone
        if key is not None and (key in hired or key.decode(errors="replace") in staff)
    }


def _steps(
    persons: Mapping[bytes | None, list[int]], movers: Collection[bytes | None]
) -> list[list[list[int]]]:
    """The places of all records in the order of deciding: in steps, and these in rounds.

    First those of movers as they stand, each a round. Then those of the others, some persons after
    the others: in a step's first round the first record of each of its persons, in the next the
    second, so that no decision of a round has to do with another. Persons of as many records are
    together, so that the last rounds of a step are as long as the first.
    """
    size = limits.DECIDED_AT_ONCE_MAX
    first = sorted(place for key in movers for place in persons[key])
    steps = [[[place] for place in first[at : at + size]] for at in range(0, len(first), size)]
    step: list[list[int]] = []
    room = size
    others = [places for key, places in persons.items() if key not in movers]
    for places in sorted(others, key=len):
        for at in range(0, len(places), size):
            part = places[at : at + size]
            if len(part) > room:
                steps.append(_rounds(step))
                step, room = [], size
            step.append(part)
            room -= len(part)
    if step:
        steps.append(_rounds(step))
    return steps


def _rounds(persons: Sequence[Sequence[int]]) -> list[list[int]]:
    """The first of each, then the second of each, and so on."""
    return [[place for place in places if place is not None] for places in zip_longest(*persons)]


def _judge(
    turn: Turn,
    rounds: Sequence[Sequence[int]],
    records: Sequence[Record],
    commands: Sequence[Command | Refusal],
    states: dict[bytes, bytes],
    world: World,
    staff: _StaffChanges,
) -> list[Decision]:
    """The decisions on those records of the rounds that were read as commands.

    A person never heard of is the empty one. `states` and `staff`: as the turn has changed them so
    far, and are changed further.
    """
    decisions: list[Decision] = []
    persons: dict[bytes, Person] = {}
    read = zip(records, commands, strict=True)
    for places in rounds:
        asked: list[tuple[int, bytes]] = []
        cases: list[Case] = []
        changed = bool(staff.changes)
        for place, (record, command) in zip(places, read, strict=False):
            if not isinstance(command, Command):
                continue
            key = record.key
            assert key is not None  # it is the subject
            person = persons.get(key)
            if person is None:
                stored = states.get(key) or turn.states.get(key)
                person = _NOBODY if stored is None else decode(stored)
            seen = staff.seen_in(world, place) if changed else world
            asked.append((place, key))
            cases.append(Case(person, command, command.data, command.at_ms, record.timestamp, seen))
        decided = decide_each(cases)
        for (place, key), case, decision in zip(asked, cases, decided, strict=True):
            if decision.person is not case.person:
                persons[key] = decision.person
                staff.follow(place, case.command.subject, case.person, decision.person)
        decisions += decided
    for key, person in persons.items():
        states[key] = encode(person)
    return decisions


def _text(raw: bytes | None, whole: bool) -> str | None:
    """The bytes as UTF-8 text, without a last character that was cut; None when they are none."""
    raw = raw or b""
    for cut in range(1 if whole else 4):
        try:
            return raw[: len(raw) - cut].decode()
        except UnicodeDecodeError as error:
            if error.reason != "unexpected end of data":
                return None
    return None
