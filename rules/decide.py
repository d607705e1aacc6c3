"""The decision on a command (contract: Rules).

Each command type has a ladder of guards: a line a guard, in the contract's order, the first that
fails is the answer. What holds for all types is here, before the ladder.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from msgspec.structs import replace

from rules import assigning, attending, entering, hiring, identity, leaving
from rules.authority import World
from rules.case import Answer, Case
from rules.codes import Code, Keys, parse_each
from rules.evolve import Event, evolve
from rules.memory import recall, remember
from rules.person import Person
from schemas.commands import COMMANDS
from schemas.limits import FUTURE_MS_MAX, OFFER_OPEN_MS_MAX, PAST_MS_MAX
from schemas.reading import Command, Refusal
from schemas.reasons import ACCEPTED, AWAITING_VERIFICATION
from schemas.value import Value

LADDERS: Final[dict[str, Callable[[Case], Answer]]] = {
    "identity.upload": identity.upload,
    "identity.verify": identity.verify,
    "hire.offer": hiring.offer,
    "hire.withdraw": hiring.withdraw,
    "hire.complete": hiring.complete,
    "dismissal.request": leaving.dismissal_request,
    "dismissal.withdraw": leaving.dismissal_withdraw,
    "departure.request": leaving.departure_request,
    "departure.withdraw": leaving.departure_withdraw,
    "assignment.request": assigning.request,
    "assignment.withdraw": assigning.withdraw,
    "operator.authorize": assigning.authorize,
    "operator.revoke": assigning.revoke,
    "hire.confirm": hiring.confirm,
    "hire.refuse": hiring.refuse,
    "dismissal.agree": leaving.dismissal_agree,
    "dismissal.refuse": leaving.dismissal_refuse,
    "departure.approve": leaving.departure_approve,
    "departure.refuse": leaving.departure_refuse,
    "assignment.approve": assigning.approve,
    "assignment.reject": assigning.reject,
    "scan.entry": entering.scan,
    "scan.attendance": attending.scan,
    "scan.checkin": attending.checkin,
    "entry.process": entering.process,
    "entry.self": entering.enter_self,
    "exit.register": entering.exit_register,
    "exit.confirm": entering.exit_confirm,
    "exit.self": entering.exit_self,
}


def codes_of(commands: Iterable[Command | Refusal], keys: Keys) -> dict[str, Code | None]:
    """Text -> code of all that these commands scanned, for `World.codes`.

    One after the other they are read in half the time that each takes amid its decision.
    """
    return parse_each(
        keys,
        [one.data.code for one in commands if isinstance(one, Command) and one.type in _SCANS],
    )


_SCANS: Final = frozenset(
    name for name, (_, form) in COMMANDS.items() if "code" in form.model_fields
)


class Decision(Value, frozen=True):
    """What a command comes to.

    `version` is the one the outcome tells: the person's after the command; of a duplicate, the
    one first answered. `person` is the state to keep, the same object when nothing changed.
    """

    status: str
    code: str
    version: int
    events: list[Event]
    person: Person


def decide(person: Person, command: Command, now_ms: int, world: World) -> Decision:
    """Judges a command at the broker's time `now_ms` (Unix milliseconds). Changes no argument."""
    (decision,) = decide_each([Case(person, command, command.data, command.at_ms, now_ms, world)])
    return decision


def decide_each(cases: Sequence[Case]) -> list[Decision]:
    """As `decide`, of some commands that know nothing of each other.

    One part of all decisions after the other: the code of a whole one is more than the processor's
    first caches hold, and would be fetched anew for each command.
    """
    at_once = list(map(_at_once, cases))
    cases = [case for case, decision in zip(cases, at_once, strict=True) if decision is None]
    # Looked up here: nearly nobody has offers, and another call costs more than the look.
    answers = [
        _without_expired(case) if case.person.offers else LADDERS[case.command.type](case)
        for case in cases
    ]
    persons = [
        evolve(case.person, () if isinstance(answer, str) else answer)
        for case, answer in zip(cases, answers, strict=True)
    ]
    answered = map(_remembered, cases, answers, persons)
    return [decision or next(answered) for decision in at_once]


def _at_once(case: Case) -> Decision | None:
    """The decision on a command that its type has nothing to do with, if it is one."""
    person, command = case.person, case.command
    seen = recall(person, command.key_digest)
    if seen is not None:
        if seen.content_digest == command.content_digest:
            return Decision("duplicate", seen.code, seen.version, [], person)
        return _rejected(person, "id_reused")
    age_ms = case.now_ms - case.at_ms
    if age_ms < -FUTURE_MS_MAX:
        return _rejected(person, "from_the_future")
    if age_ms > PAST_MS_MAX or case.at_ms <= person.seen_floor_ms:
        return _rejected(person, "too_late")
    # Only now: what is remembered has a time within the memory's window.
    if person.names(command.id):
        return _remembered(case, "id_reused", evolve(person, ()))
    return None


def _without_expired(case: Case) -> Answer:
    """What the ladder of the command's type says, on a person whose offers that have expired are
    gone; the events tell of these too."""
    expired = _expired(case)
    if expired:
        case = replace(case, person=evolve(case.person, expired))
    answer = LADDERS[case.command.type](case)
    return answer if isinstance(answer, str) else expired + answer


def _expired(case: Case) -> list[Event]:
    return [
        case.event("offer.expired", offer=offer.id, employer=offer.employer)
        for offer in case.person.offers
        if case.now_ms >= offer.sent_ms + OFFER_OPEN_MS_MAX
    ]


def _remembered(case: Case, answer: Answer, person: Person) -> Decision:
    """The decision. `person`, the state after the events of the answer, is given the memory of it:
    sent again, the command gets the same one."""
    if isinstance(answer, str):
        status, code, events = "rejected", answer, []
    else:
        status, code, events = "accepted", ACCEPTED, answer
        for event in events:
            if event.type == "offer.parked":
                code = AWAITING_VERIFICATION
    remember(person, case.command, code, case.now_ms)
    return Decision(status, code, person.version, events, person)


def _rejected(person: Person, code: str) -> Decision:
    return Decision("rejected", code, person.version, [], person)
