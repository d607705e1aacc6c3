"""The decision on a turn: records in, outcomes, state changes and states out. No IO.

Every record of a turn gets exactly one outcome or one dead letter, a person's in the turn's order.
Persons and staff changed within the turn are seen by the records after them, and by no others; the
committed state is left as it is until the ledger has written the verdict.
"""

from base64 import b64encode
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Collection, Container, Iterator, Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from operator import itemgetter
from typing import Final, cast

import msgspec

from agents.ledger.record import Cut, Headers, Record
from agents.ledger.turn import Entry, Turn, Verdict
from rules.authority import World
from rules.decide import Decision, codes_of, decide
from rules.person import Person, decode, encode, staff_record
from schemas import limits
from schemas.commands import COMMANDS
from schemas.envelope import SYSTEM_SOURCE
from schemas.events import EVENTS
from schemas.outcomes import DEAD_LETTERS_TOPIC, OUTCOME_TYPE, OUTCOMES_TOPIC, RULES_VERSION
from schemas.reading import Command, Refusal, read_command
from schemas.references import Employer, Site, Staff
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


class _StaffOverlay:
    """The staff view as each record of the turn sees it: with what the records before it changed.

    Only `movers`, by their keys, may change theirs. They are decided before all others, and in the
    turn's order.
    """

    def __init__(self, committed: Mapping[str, Staff], movers: Container[bytes | None]) -> None:
        self._committed = committed
        self._movers = movers
        self._changes: dict[str, list[tuple[int, Staff | None]]] = {}
        self.place = 0
        """Of the record that is decided next, in the turn: to be set before it is."""

    def get(self, person: str, /) -> Staff | None:
        if changes := self._changes.get(person):
            before = bisect_left(changes, self.place, key=itemgetter(0))
            if before:
                return changes[before - 1][1]
        return self._committed.get(person)

    def changed(self) -> dict[str, Staff | None]:
        """What the turn leaves of the records that it changed."""
        return {person: changes[-1][1] for person, changes in self._changes.items()}

    def follow(self, person: str, before: Person, after: Person) -> None:
        """Note what a decision changed of a person's record. Raises _Unforeseen."""
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
            self._changes.setdefault(person, []).append((self.place, record))


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
        decided and answered person after person: what belongs to a person is then at hand in the
        processor's caches for all of it.
        """
        everyone = {record.key for record in turn.records}
        if len(turn.records) > limits.DECIDED_AT_ONCE_MAX:
            with suppress(_Unforeseen):
                yield from self._decide(turn, _movers(turn, everyone))
                return
        yield from self._decide(turn, everyone)

    def _decide(self, turn: Turn, movers: Container[bytes | None]) -> Iterator[Verdict | None]:
        """In a step some records are read, then their codes, then they are decided, then answered,
        which is cheaper than all of it for each record (see the limit). Raises _Unforeseen."""
        staff = _StaffOverlay(cast(Mapping[str, Staff], turn.references.staff), movers)
        witness = ((WITNESS_HEADER, turn.witness),)
        states: dict[bytes, bytes] = {}
        answers: Counter[tuple[str, str]] = Counter()
        outputs = turn.draft()
        order = _order(turn.records, movers)
        for at in range(0, len(order), limits.DECIDED_AT_ONCE_MAX):
            if at:
                yield None
            places = order[at : at + limits.DECIDED_AT_ONCE_MAX]
            records = [turn.records[place] for place in places]
            commands = [self._read(record, turn.states) for record in records]
            world = World(
                cast(Mapping[str, Employer], turn.references.employers),
                cast(Mapping[str, Site], turn.references.sites),
                staff,
                self._code_keys,
                codes_of((one for one in commands if isinstance(one, Command)), self._code_keys),
            )
            judged = _judge(turn, places, commands, states, world, staff)
            made: defaultdict[str, list[Entry]] = defaultdict(list)
            for record, one in zip(records, judged, strict=True):
                if isinstance(one, tuple):
                    command, decision = one
                    self._answer(record, command, decision, witness, made)
                    answers[decision.status, decision.code] += 1
                else:
                    made[DEAD_LETTERS_TOPIC].append(self._dead_letter(record, one))
                    answers["dead_letter", one.code] += 1
            for topic, entries in made.items():
                outputs.add((topic, turn.partition), entries)
        yield Verdict(
            outputs,
            states,
            {
                subject.encode(): None if entry is None else entry.model_dump_json().encode()
                for subject, entry in staff.changed().items()
            },
            answers,
        )

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
        texts = (_text(key, True), _text(kept, whole))
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


_HIRES_TOPIC: Final = COMMANDS["hire.complete"][0]


def _movers(turn: Turn, everyone: Collection[bytes | None]) -> set[bytes]:
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


def _order(records: Sequence[Record], movers: Container[bytes | None]) -> list[int]:
    """The places of the records in the order of deciding: those of movers as they stand, then
    those of the others, person after person."""
    first: list[int] = []
    others: defaultdict[bytes | None, list[int]] = defaultdict(list)
    for place, record in enumerate(records):
        (first if record.key in movers else others[record.key]).append(place)
    return first + [place for places in others.values() for place in places]


def _judge(
    turn: Turn,
    places: Sequence[int],
    commands: Sequence[Command | Refusal],
    states: dict[bytes, bytes],
    world: World,
    staff: _StaffOverlay,
) -> list[tuple[Command, Decision] | Refusal]:
    """What becomes of the records at the places, of which these are the commands.

    A person never heard of is the empty one. `states` and `staff`: as the turn has changed them so
    far, and are changed further.
    """
    judged: list[tuple[Command, Decision] | Refusal] = []
    persons: dict[bytes, Person] = {}
    for place, command in zip(places, commands, strict=True):
        if not isinstance(command, Command):
            judged.append(command)
            continue
        record = turn.records[place]
        key = record.key
        assert key is not None  # it is the subject
        person = persons.get(key)
        if person is None:
            stored = states.get(key) or turn.states.get(key)
            person = _NOBODY if stored is None else decode(stored)
        staff.place = place
        decision = decide(person, command, record.timestamp, world)
        if decision.person is not person:
            persons[key] = decision.person
            staff.follow(command.subject, person, decision.person)
        judged.append((command, decision))
    for key, person in persons.items():
        states[key] = encode(person)
    return judged


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
