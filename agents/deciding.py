"""The decision on a turn: records in, outcomes, state changes and states out. No IO.

Every record of a turn gets exactly one outcome or one dead letter, in the turn's order. Persons
and staff changed within the turn are seen by the records after them; the committed state is left
as it is until the ledger has written the verdict.
"""

from base64 import b64encode
from collections import Counter, defaultdict
from collections.abc import Container, Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Final, cast

import msgspec

from agents.ledger.record import Cut, Headers, Record
from agents.ledger.turn import Entry, Turn, Verdict
from rules.authority import World
from rules.decide import Decision, codes_of, decide
from rules.person import Person, decode, encode, staff_record
from schemas import limits
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


class _StaffOverlay:
    """The staff view with the changes of the turn in hand before it."""

    def __init__(self, committed: Mapping[str, Staff]) -> None:
        self._committed = committed
        self.changed: dict[str, Staff | None] = {}

    def get(self, person: str, /) -> Staff | None:
        if person in self.changed:
            return self.changed[person]
        return self._committed.get(person)

    def follow(self, person: str, before: Person, after: Person) -> None:
        """Note what a decision changed of a person's record."""
        if (
            after.employment is before.employment
            and after.assignment is before.assignment
            and after.presence is before.presence
        ):
            return  # the parts that are shared did not change, and these make the record
        record = staff_record(person, after)
        if record != staff_record(person, before):
            self.changed[person] = record


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

        In a step some records are read, then their codes, then they are decided, then answered,
        which is cheaper than all of it for each record (see the limit).
        """
        staff = _StaffOverlay(cast(Mapping[str, Staff], turn.references.staff))
        witness = ((WITNESS_HEADER, turn.witness),)
        outputs: defaultdict[str, list[Entry]] = defaultdict(list)
        persons: dict[bytes, Person] = {}
        answers: Counter[tuple[str, str]] = Counter()
        for at in range(0, len(turn.records), limits.DECIDED_AT_ONCE_MAX):
            if at:
                yield None
            records = turn.records[at : at + limits.DECIDED_AT_ONCE_MAX]
            commands = [self._read(record, turn.states) for record in records]
            world = World(
                cast(Mapping[str, Employer], turn.references.employers),
                cast(Mapping[str, Site], turn.references.sites),
                staff,
                self._code_keys,
                codes_of((one for one in commands if isinstance(one, Command)), self._code_keys),
            )
            judged = _judge(turn.states, records, commands, persons, world, staff)
            for record, one in zip(records, judged, strict=True):
                if isinstance(one, tuple):
                    command, decision = one
                    self._answer(record, command, decision, witness, outputs)
                    answers[decision.status, decision.code] += 1
                else:
                    outputs[DEAD_LETTERS_TOPIC].append(self._dead_letter(record, one))
                    answers["dead_letter", one.code] += 1
        yield Verdict(
            outputs,
            {key: encode(person) for key, person in persons.items()},
            {
                subject.encode(): None if entry is None else entry.model_dump_json().encode()
                for subject, entry in staff.changed.items()
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
        outputs: defaultdict[str, list[Entry]],
    ) -> None:
        """Add the events, with the versions that lead up to the person's, and the outcome."""
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
            outputs[EVENTS[event.type][0]].append(Entry(key, value))
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
        outputs[OUTCOMES_TOPIC].append(Entry(key, value, witness))

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


def _judge(
    states: Mapping[bytes, bytes],
    records: Sequence[Record],
    commands: Sequence[Command | Refusal],
    persons: dict[bytes, Person],
    world: World,
    staff: _StaffOverlay,
) -> list[tuple[Command, Decision] | Refusal]:
    """What becomes of each record.

    `states`: as the turn before left them; a person never heard of is the empty one. `persons` and
    `staff`: as the turn has changed them so far, and are changed further.
    """
    judged: list[tuple[Command, Decision] | Refusal] = []
    for record, command in zip(records, commands, strict=True):
        if not isinstance(command, Command):
            judged.append(command)
            continue
        key = record.key
        assert key is not None  # it is the subject
        person = persons.get(key)
        if person is None:
            stored = states.get(key)
            person = _NOBODY if stored is None else decode(stored)
        decision = decide(person, command, record.timestamp, world)
        if decision.person is not person:
            persons[key] = decision.person
            staff.follow(command.subject, person, decision.person)
        judged.append((command, decision))
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
