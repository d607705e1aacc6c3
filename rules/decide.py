"""The decision on a command (contract: Rules).

Each command type has a ladder of guards: a line a guard, in the contract's order, the first that
fails is the answer. What holds for all types is here, before the ladder.
"""

from collections.abc import Callable, Iterable
from typing import Final

from msgspec.structs import replace

from rules import assigning, attending, entering, hiring, identity, leaving
from rules.authority import World
from rules.case import Answer, Case
from rules.codes import Code, Keys, parse
from rules.evolve import Event, evolve
from rules.memory import recall, remember
from rules.person import Person
from schemas.commands import COMMANDS
from schemas.limits import FUTURE_MS_MAX, OFFER_OPEN_MS_MAX, PAST_MS_MAX
from schemas.reading import Command
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


def codes_of(commands: Iterable[Command], keys: Keys) -> dict[str, Code | None]:
    """Text -> code of all that these commands scanned, for `World.codes`.

    One after the other they are read in half the time that each takes amid its decision.
    """
    texts = [command.data.code for command in commands if command.type in _SCANS]
    return {text: parse(keys, text) for text in texts}


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
    seen = recall(person, command.key_digest)
    if seen is not None:
        if seen.content_digest == command.content_digest:
            return Decision("duplicate", seen.code, seen.version, [], person)
        return _rejected(person, "id_reused")
    age_ms = now_ms - command.at_ms
    if age_ms < -FUTURE_MS_MAX:
        return _rejected(person, "from_the_future")
    if age_ms > PAST_MS_MAX or command.at_ms <= person.seen_floor_ms:
        return _rejected(person, "too_late")
    # Only now: what is remembered has a time within the memory's window.
    if person.names(command.id):
        return _rejected_for_good(person, "id_reused", command, now_ms)

    case = Case(person, command, command.data, command.at_ms, now_ms, world)
    expired = _expired(case) if person.offers else []
    answer = LADDERS[command.type](case)
    if isinstance(answer, str):
        return _rejected_for_good(person, answer, command, now_ms)
    events = expired + answer
    decided = evolve(person, events)
    code = ACCEPTED
    for event in events:
        if event.type == "offer.parked":
            code = AWAITING_VERIFICATION
    remember(decided, command, code, now_ms)
    return Decision("accepted", code, decided.version, events, decided)


def _expired(case: Case) -> list[Event]:
    """Takes offers that have expired out of the case; the events say so if it is accepted."""
    expired = [
        case.event("offer.expired", offer=offer.id, employer=offer.employer)
        for offer in case.person.offers
        if case.now_ms >= offer.sent_ms + OFFER_OPEN_MS_MAX
    ]
    if expired:
        case.person = evolve(case.person, expired)
    return expired


def _rejected(person: Person, code: str) -> Decision:
    return Decision("rejected", code, person.version, [], person)


def _rejected_for_good(person: Person, code: str, command: Command, now_ms: int) -> Decision:
    """Rejected, and remembered: sent again, the command gets the same answer."""
    person = replace(person)
    remember(person, command, code, now_ms)
    return Decision("rejected", code, person.version, [], person)
