"""From events to state: the only place where a person's state changes."""

from collections.abc import Callable, Iterable
from typing import Any, Final, TypeVar

from msgspec.structs import replace

from rules import clock_ins, packed
from rules.machines import (
    ASSIGNMENT,
    DEPARTURE,
    DISMISSAL,
    EMPLOYMENT,
    IDENTITY,
    OFFER,
    OPERATOR,
    PRESENCE,
    ImpossibleTransition,
)
from rules.person import (
    Assignment,
    Employment,
    Entry,
    Identity,
    Offer,
    Person,
    Presence,
    Tenure,
)
from schemas.limits import (
    NAMED_IDS_MAX,
    PAST_MS_MAX,
    PERSON_CODE_STEP_MS,
    SPENT_CODES_MAX,
    TENURES_MAX,
)
from schemas.value import Value

T = TypeVar("T")


class Event(Value, frozen=True):
    """A state change.

    `data` is what travels (version and command are added on the wire). `private` is what the
    state needs and nobody else may see, such as a birth date. `at_ms` is the command's `time`,
    `now_ms` the broker's.
    """

    type: str
    at_ms: int
    now_ms: int
    data: dict[str, Any]
    private: Any = None


def evolve(person: Person, events: Iterable[Event]) -> Person:
    """The state after the events; `person` is left as it is. Raises ImpossibleTransition."""
    person = replace(person)
    for event in events:
        _APPLY[event.type](person, event)
        person.version += 1
    return person


def _identity(person: Person, event: Event) -> None:
    status = IDENTITY.step(person.identity_status, event.type)
    if event.type == "identity.submitted":
        upload, name_tag, birth_date, sex = event.private
        person.identity = Identity(status, upload, name_tag, birth_date, sex)
    elif person.identity is not None:
        person.identity = replace(person.identity, status=status)


def _offer(person: Person, event: Event) -> None:
    offer_id = event.data["offer"]
    offer = person.offer(offer_id)
    status = OFFER.step(offer.status if offer else OFFER.start, event.type)
    if offer is None:
        offer = Offer(offer_id, event.data["employer"], event.private, status, event.now_ms)
        person.offers = (*person.offers, offer)
        _name(person, offer_id)
    elif status == "closed":
        person.offers = tuple(other for other in person.offers if other.id != offer_id)
    else:
        person.offers = tuple(
            replace(other, status=status) if other.id == offer_id else other
            for other in person.offers
        )


def _employment_started(person: Person, event: Event) -> None:
    status = EMPLOYMENT.step(person.employment_status, event.type)
    person.employment = Employment(event.data["employer"], status)


def _employment_registered(person: Person, event: Event) -> None:
    status = EMPLOYMENT.step(person.employment_status, event.type)
    data = event.data
    person.employment = replace(
        _there(person.employment),
        status=status,
        role=data["role"],
        trade=data.get("trade"),
        position=data.get("position"),
    )


def _employment_ended(person: Person, event: Event) -> None:
    EMPLOYMENT.step(person.employment_status, event.type)
    person.employment = None


def _dismissal(person: Person, event: Event) -> None:
    employment = _there(person.employment)
    status = DISMISSAL.step(employment.dismissal, event.type)
    person.employment = replace(employment, dismissal=status)


def _departure(person: Person, event: Event) -> None:
    employment = _there(person.employment)
    status = DEPARTURE.step(employment.departure, event.type)
    person.employment = replace(employment, departure=status)


def _assignment(person: Person, event: Event) -> None:
    status = ASSIGNMENT.step(person.assignment_status, event.type)
    data = event.data
    if event.type == "assignment.requested":
        person.assignment = Assignment(
            data["assignment"],
            data["site"],
            data["employer"],
            data.get("position"),
            status,
            OPERATOR.start,
        )
        _name(person, data["assignment"])
    elif status == ASSIGNMENT.start:
        person.assignment = None
    else:
        person.assignment = replace(_there(person.assignment), status=status)


def _operator(person: Person, event: Event) -> None:
    assignment = _there(person.assignment)
    status = OPERATOR.step(assignment.operator, event.type)
    person.assignment = replace(assignment, operator=status)


def _entry_scanned(person: Person, event: Event) -> None:
    person.presence_status = PRESENCE.step(person.presence_status, event.type)
    data = event.data
    person.entry = Entry(data["entry"], data["site"], data["employer"])
    _name(person, data["entry"])
    _spend(person, event.private, event.now_ms)


def _entry_lapsed(person: Person, event: Event) -> None:
    person.presence_status = PRESENCE.step(person.presence_status, event.type)
    person.entry = None


def _presence_started(person: Person, event: Event) -> None:
    person.presence_status = PRESENCE.step(person.presence_status, event.type)
    data = event.data
    person.entry = None
    person.presence = Presence(data["entry"], data["site"], data["employer"], event.at_ms)
    _name(person, data["entry"])


def _exit_registered(person: Person, event: Event) -> None:
    person.presence_status = PRESENCE.step(person.presence_status, event.type)


def _presence_ended(person: Person, event: Event) -> None:
    person.presence_status = PRESENCE.step(person.presence_status, event.type)
    was = _there(person.presence)
    person.presence = None
    ended = Tenure(was.site, was.employer, was.since_ms, max(was.since_ms, event.at_ms))
    # A scan further back than PAST_MS_MAX is too late, so an older tenure decides nothing.
    kept = [t for t in person.tenures if t.to_ms >= event.now_ms - PAST_MS_MAX]
    kept.append(ended)
    if len(kept) > TENURES_MAX:
        kept.remove(min(kept, key=lambda tenure: tenure.to_ms))
    person.tenures = tuple(kept)


def _attendance(person: Person, event: Event) -> None:
    if event.data.get("direction") == "in":
        person.clock_ins = clock_ins.remember(
            person.clock_ins, event.data["site"], event.at_ms, event.now_ms
        )


def _name(person: Person, thing_id: str) -> None:
    digest = packed.digest(thing_id)
    if packed.find(person.named, digest) < 0:
        person.named = (person.named + digest)[-NAMED_IDS_MAX * packed.DIGEST_BYTES :]


def _spend(person: Person, code: tuple[int, int], now_ms: int) -> None:
    step, key_id = code
    # No scan that is not too late can show an older code; the floor keeps it spent all the same.
    past_step = (now_ms - PAST_MS_MAX) // PERSON_CODE_STEP_MS - 4
    person.spent_floor = max(person.spent_floor, past_step)
    kept = [spent for spent in person.spent_codes if spent >> 8 > person.spent_floor]
    kept.append(step << 8 | key_id)
    if len(kept) > SPENT_CODES_MAX:
        lowest = min(kept)
        kept.remove(lowest)
        person.spent_floor = max(person.spent_floor, lowest >> 8)
    person.spent_codes = tuple(kept)


def _there(part: T | None) -> T:
    if part is None:
        raise ImpossibleTransition("an event about a part of the state that is not there")
    return part


_APPLY: Final[dict[str, Callable[[Person, Event], None]]] = {
    "identity.submitted": _identity,
    "identity.verified": _identity,
    "identity.failed": _identity,
    "offer.parked": _offer,
    "offer.made": _offer,
    "offer.withdrawn": _offer,
    "offer.refused": _offer,
    "offer.accepted": _offer,
    "offer.superseded": _offer,
    "offer.expired": _offer,
    "employment.started": _employment_started,
    "employment.registered": _employment_registered,
    "employment.ended": _employment_ended,
    "dismissal.requested": _dismissal,
    "dismissal.withdrawn": _dismissal,
    "dismissal.refused": _dismissal,
    "departure.requested": _departure,
    "departure.withdrawn": _departure,
    "departure.refused": _departure,
    "assignment.requested": _assignment,
    "assignment.withdrawn": _assignment,
    "assignment.confirmed": _assignment,
    "assignment.rejected": _assignment,
    "assignment.ended": _assignment,
    "operator.authorized": _operator,
    "operator.revoked": _operator,
    "entry.scanned": _entry_scanned,
    "entry.lapsed": _entry_lapsed,
    "presence.started": _presence_started,
    "presence.ended": _presence_ended,
    "exit.registered": _exit_registered,
    "attendance.recorded": _attendance,
}
