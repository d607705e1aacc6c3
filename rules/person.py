"""A person's state: just what later decisions need, and how it is stored.

Times are Unix milliseconds: `at_ms` of a command's own `time`, `sent_ms` of the broker.
"""

from typing import Any, Final

import msgspec

from rules import clock_ins, packed
from rules.machines import ASSIGNMENT, DEPARTURE, DISMISSAL, EMPLOYMENT, IDENTITY, PRESENCE
from schemas.references import Staff
from schemas.value import Value

STATE_FORMAT: Final = 2
"""The first byte of a stored state. Older formats are read, newer ones are refused."""


class Part(Value, frozen=True, array_like=True):
    """Base of the parts; a copy of a person may share them."""


class Identity(Part, frozen=True):
    status: str
    upload: str
    name_tag: str
    birth_date: str
    sex: str


class Offer(Part, frozen=True):
    """An open offer: `status` parked or made."""

    id: str
    employer: str
    name_tag: str
    status: str
    sent_ms: int


class Employment(Part, frozen=True):
    """The active employment. `dismissal`, `departure`: the states of those machines."""

    employer: str
    status: str
    role: str | None = None
    trade: str | None = None
    position: str | None = None
    dismissal: str = DISMISSAL.start
    departure: str = DEPARTURE.start


class Assignment(Part, frozen=True):
    """The live assignment: `status` requested or confirmed."""

    id: str
    site: str
    employer: str
    position: str | None
    status: str
    operator: str


class Entry(Part, frozen=True):
    """An entry scan that waits to be processed."""

    id: str
    site: str
    employer: str


class Presence(Part, frozen=True):
    entry: str
    site: str
    employer: str
    since_ms: int


class Tenure(Part, frozen=True):
    """An ended presence, both ends included."""

    site: str
    employer: str
    from_ms: int
    to_ms: int

    def holds(self, at_ms: int) -> bool:
        """Whether a time, in Unix milliseconds, lies in it."""
        return self.from_ms <= at_ms <= self.to_ms


class Person(msgspec.Struct, array_like=True, gc=False):
    """All of one person. Mutable only while `evolve` builds the next one."""

    version: int = 0
    identity: Identity | None = None
    offers: tuple[Offer, ...] = ()
    employment: Employment | None = None
    assignment: Assignment | None = None
    presence_status: str = PRESENCE.start
    entry: Entry | None = None
    presence: Presence | None = None
    tenures: tuple[Tenure, ...] = ()
    clock_ins: bytes = b""
    """The recorded attendance scans with direction `in`, see `rules.clock_ins`."""
    spent_codes: tuple[int, ...] = ()
    """(step << 8 | key id) of personal codes spent by an entry scan."""
    spent_floor: int = -1
    """Codes of this step and below count as spent."""
    named: bytes = b""
    """Digests of the ids of all offers, assignments and entries, oldest first."""
    seen: bytes = b""
    """The remembered commands, see `rules.memory`."""
    seen_floor_ms: int = 0
    """Commands of this `time` and below are too late."""

    @property
    def identity_status(self) -> str:
        return self.identity.status if self.identity else IDENTITY.start

    @property
    def employment_status(self) -> str:
        return self.employment.status if self.employment else EMPLOYMENT.start

    @property
    def assignment_status(self) -> str:
        return self.assignment.status if self.assignment else ASSIGNMENT.start

    @property
    def employer(self) -> str | None:
        """The active employer, if any."""
        return self.employment.employer if self.employment else None

    @property
    def is_manager(self) -> bool:
        """Registered as a manager by the active employer."""
        return self.employment is not None and self.employment.role == "manager"

    def offer(self, offer_id: str) -> Offer | None:
        """The open offer of this id."""
        return next((offer for offer in self.offers if offer.id == offer_id), None)

    def names(self, thing_id: str) -> bool:
        """Whether the id is or was one of this person's offers, assignments or entries."""
        digest = packed.digest(thing_id)
        if self.named.find(digest) >= 0 and packed.find(self.named, digest) >= 0:
            return True
        # The memory of ids is bounded. These can outlast it: others' offers and withdrawals
        # may go on around an open offer, and entry scans after an assignment.
        if self.offers and self.offer(thing_id) is not None:
            return True
        return self.assignment is not None and self.assignment.id == thing_id


class NewerState(Exception):
    """The state was written by a newer version of this program, which this one cannot read."""


_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(Person)
_FORMAT_BYTE: Final = bytes([STATE_FORMAT])


def encode(person: Person) -> bytes:
    """The stored form."""
    return _FORMAT_BYTE + _encoder.encode(person)


def decode(stored: bytes) -> Person:
    """Reads a stored state. Raises NewerState, or ValueError when it is none."""
    if stored[:1] == _FORMAT_BYTE:
        return _decoder.decode(memoryview(stored)[1:])
    if stored[:1] == _FORMAT_1_BYTE:
        return _from_1(_decoder_1.decode(memoryview(stored)[1:]))
    if stored and stored[0] > STATE_FORMAT:
        raise NewerState(f"state format {stored[0]}, this version reads up to {STATE_FORMAT}")
    raise ValueError("not a stored person")


_decoder_1: Final = msgspec.msgpack.Decoder(list[Any])
_FORMAT_1_BYTE: Final = b"\1"
_CLOCK_INS_1: Final = 9
"""Where format 1 has the clock-ins: an array of sites and times."""


def _from_1(fields: list[Any]) -> Person:
    if len(fields) > _CLOCK_INS_1:  # else it is of before they were appended
        scans = msgspec.convert(fields[_CLOCK_INS_1], list[tuple[str, int]])
        fields[_CLOCK_INS_1] = b"".join(clock_ins.pack(site, at_ms) for site, at_ms in scans)
    return msgspec.convert(fields, Person)


def staff_record(person_id: str, person: Person) -> Staff | None:
    """The person's record in the reference topic `staff`: every registered manager has one."""
    employment = person.employment
    if employment is None or employment.role != "manager":
        return None
    assignment = person.assignment
    confirmed = assignment is not None and assignment.status == "confirmed"
    return Staff(
        person=person_id,
        employer=employment.employer,
        position=employment.position or "",
        site=assignment.site if assignment and confirmed else None,
        operator=bool(assignment and assignment.operator == "authorized"),
        present=person.presence is not None,
    )
