"""A small town to play the rules in: who lives there, and a way to send commands.

    town = Town()
    town.hired(LI, CREW)
    assert town.offer(LI, STEEL).said == "employed_elsewhere"

Every command travels as JSON through `read_command`, so that what a test sends is what a client
could send. The staff view follows each decision, as it does in production. `Town.send` checks, on
every single decision of every test, what holds of all of them (see `_hold`).
"""

from __future__ import annotations

import dataclasses
import json
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from hashlib import md5
from random import Random
from typing import Any

from msgspec.structs import asdict, replace

from rules.authority import World
from rules.case import Case
from rules.codes import issue_person_code, issue_site_code
from rules.decide import Decision, codes_of, decide, decide_each
from rules.evolve import evolve
from rules.person import Person, decode, encode, staff_record
from schemas.commands import COMMANDS
from schemas.events import EVENTS
from schemas.identifiers import make_uscc
from schemas.limits import OPEN_OFFERS_MAX, SECOND_MS
from schemas.reading import Command, Refusal, read_command
from schemas.references import Employer, Participant, Site, Staff

PARTITIONS = 1
KEYS = {1: b"first key of the town", 2: b"second key of the town"}


def utc(text: str) -> int:
    """Unix milliseconds of an ISO time."""
    return round(datetime.fromisoformat(text).timestamp() * 1000)


NOON = utc("2026-11-23T12:00:00+08:00")
"""When the play begins: a Monday, noon in Shanghai."""


def someone(name: str) -> str:
    """A person id."""
    return md5(name.encode()).hexdigest()


# Employers: three on the first site, of each kind one, and others.
BUILD, STEEL, CREW, CREW2, OTHER = (make_uscc(Random(n)) for n in range(5))
EAST, WEST = "east", "west"
# Project managers, as the sites' records name them.
BUILD_PM, STEEL_PM, CREW_PM, WEST_PM = map(someone, ("build", "steel", "crew", "west"))
# Everybody else.
LI, WU, GU, HE = map(someone, ("li", "wu", "gu", "he"))

DEVICE, CENTRE, BUREAU = "/devices/gate-1", "/centre", "/bureau"


def as_person(person: str) -> str:
    return f"/persons/{person}"


def as_employer(employer: str) -> str:
    return f"/employers/{employer}"


def as_staff(site: str, person: str) -> str:
    return f"/sites/{site}/staff/{person}"


def tag(person: str) -> str:
    """The name tag that goes with a person of the town."""
    return someone(f"name of {person}")


def code(person: str, at_ms: int, keys: dict[int, bytes] = KEYS) -> str:
    return issue_person_code(keys, person, at_ms // SECOND_MS)


def site_code(site: str, at_ms: int) -> str:
    return issue_site_code(KEYS, site, at_ms // SECOND_MS)


def employers() -> dict[str, Employer]:
    return {
        uscc: Employer(uscc=uscc, name="somebody", status="active")
        for uscc in (BUILD, STEEL, CREW, CREW2, OTHER)
    }


def sites() -> dict[str, Site]:
    """On `EAST` all kinds of participants, on `WEST` a second labour subcontractor too."""
    return {
        EAST: Site(
            site=EAST,
            name="East",
            status="active",
            participants=(
                _part(BUILD, "general_contractor", BUILD_PM),
                _part(STEEL, "professional_subcontractor", STEEL_PM),
                _part(CREW, "labor_subcontractor", CREW_PM),
            ),
        ),
        WEST: Site(
            site=WEST,
            name="West",
            status="active",
            participants=(
                _part(STEEL, "general_contractor", WEST_PM),
                _part(CREW, "labor_subcontractor", None),
                _part(CREW2, "labor_subcontractor", None),
            ),
        ),
    }


def _part(employer: str, kind: Any, manager: str | None) -> Participant:
    return Participant(employer=employer, type=kind, project_manager=manager)


def rfc3339(at_ms: int) -> str:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=at_ms)
    return moment.isoformat(timespec="milliseconds")


def command(
    command_type: str, source: str, subject: str, command_id: str, at_ms: int, data: dict[str, Any]
) -> Command:
    """A command as it is read from its record. Fields that are None are left out."""
    value = {
        "specversion": "1.0",
        "id": command_id,
        "source": source,
        "type": command_type,
        "time": rfc3339(at_ms),
        "subject": subject,
        "data": {name: value for name, value in data.items() if value is not None},
    }
    topic = COMMANDS[command_type][0]
    read = read_command(topic, 0, PARTITIONS, subject.encode(), json.dumps(value).encode())
    assert not isinstance(read, Refusal), read
    return read


@dataclass(frozen=True)
class Answer:
    """What a command came to; `said` is the code of a rejection, "duplicate", or the types of the
    events."""

    id: str
    decision: Decision
    command: Command

    @property
    def said(self) -> str | list[str]:
        if self.decision.status == "rejected":
            return self.decision.code
        if self.decision.status == "duplicate":
            return "duplicate"
        return [event.type for event in self.decision.events]

    @property
    def code(self) -> str:
        return self.decision.code

    @property
    def data(self) -> list[dict[str, Any]]:
        """The data of the events."""
        return [event.data for event in self.decision.events]


@dataclass
class Town:
    """Persons, reference records and the broker's clock."""

    now_ms: int = NOON
    persons: dict[str, Person] = field(default_factory=dict)
    employers: dict[str, Employer] = field(default_factory=employers)
    sites: dict[str, Site] = field(default_factory=sites)
    staff: dict[str, Staff] = field(default_factory=dict)
    sent: int = 0

    @property
    def world(self) -> World:
        return World(self.employers, self.sites, self.staff, KEYS)

    def person(self, person: str) -> Person:
        return self.persons.get(person) or Person()

    def later(self, **by: float) -> None:
        """Lets the broker's time pass."""
        self.now_ms += round(timedelta(**by).total_seconds() * 1000)

    def send(
        self,
        command_type: str,
        source: str,
        subject: str,
        /,
        *,
        id: str | None = None,
        at_ms: int | None = None,
        **data: Any,
    ) -> Answer:
        """Sends a command now; `at_ms` is its `time` where that is another."""
        self.sent += 1
        at_ms = self.now_ms if at_ms is None else at_ms
        read = command(command_type, source, subject, id or f"c{self.sent}", at_ms, data)
        return self.again(read)

    def again(self, read: Command) -> Answer:
        """Decides on a command, be it for the second time."""
        before = self.person(read.subject)
        decision = decide(before, read, self.now_ms, self.world)
        _hold(before, read, self.now_ms, self.world, decision)
        self.persons[read.subject] = decision.person
        record = staff_record(read.subject, decision.person)
        if record is None:
            self.staff.pop(read.subject, None)
        else:
            self.staff[read.subject] = record
        return Answer(read.id, decision, read)

    # --- one verb a command -----------------------------------------------------------------------

    def upload(self, person: str, by: str | None = None, **more: Any) -> Answer:
        data = {
            "name_tag": tag(person),
            "sealed": "c2VhbGVk",
            "front_sha256": "0" * 64,
            "back_sha256": "f" * 64,
            "birth_date": "1990-05-01",
            "sex": "male",
            "notice_accepted": True,
        }
        return self.send("identity.upload", by or as_person(person), person, **{**data, **more})

    def verify(
        self, person: str, result: str = "verified", by: str = CENTRE, **more: Any
    ) -> Answer:
        data = {"batch": "b1", "result": result, **more}
        return self.send("identity.verify", by, person, **data)

    def offer(self, person: str, employer: str, by: str | None = None, **more: Any) -> Answer:
        data = {"employer": employer, "name_tag": tag(person), **more}
        return self.send("hire.offer", by or as_employer(employer), person, **data)

    def withdraw_offer(self, person: str, employer: str, offer: str, **more: Any) -> Answer:
        data = {"employer": employer, "offer": offer, **more}
        return self.send("hire.withdraw", as_employer(employer), person, **data)

    def confirm(self, person: str, offer: str, **more: Any) -> Answer:
        return self.send("hire.confirm", as_person(person), person, offer=offer, **more)

    def refuse(self, person: str, offer: str, **more: Any) -> Answer:
        return self.send("hire.refuse", as_person(person), person, offer=offer, **more)

    def complete(self, person: str, employer: str, role: str = "worker", **more: Any) -> Answer:
        usual = {"trade": "101"} if role == "worker" else {"position": "safety officer"}
        data = {"employer": employer, "role": role, **usual, **more}
        return self.send("hire.complete", as_employer(employer), person, **data)

    def dismiss(self, person: str, employer: str, reason: str | None = "done") -> Answer:
        data: dict[str, Any] = {"employer": employer, "reason": reason}
        return self.send("dismissal.request", as_employer(employer), person, **data)

    def dismissal(self, step: str, person: str, employer: str) -> Answer:
        """`withdraw` by the employer, `agree` or `refuse` by the person."""
        source = as_employer(employer) if step == "withdraw" else as_person(person)
        return self.send(f"dismissal.{step}", source, person, employer=employer)

    def departure(self, step: str, person: str, employer: str, by: str | None = None) -> Answer:
        """`request`, `withdraw` by the person, `approve` or `refuse` by the employer."""
        own = step in ("request", "withdraw")
        source = by or (as_person(person) if own else as_employer(employer))
        return self.send(f"departure.{step}", source, person, employer=employer)

    def assign(
        self,
        person: str,
        site: str,
        employer: str | None = None,
        by: str | None = None,
        **more: Any,
    ) -> Answer:
        employer = employer or self.person(person).employer or OTHER
        data = {"site": site, "employer": employer, **more}
        return self.send("assignment.request", by or as_employer(employer), person, **data)

    def unassign(
        self, person: str, site: str, employer: str, assignment: str, by: str | None = None
    ) -> Answer:
        data: dict[str, Any] = {"site": site, "employer": employer, "assignment": assignment}
        return self.send("assignment.withdraw", by or as_employer(employer), person, **data)

    def approve(self, person: str, site: str, assignment: str, by: str, **more: Any) -> Answer:
        data = {"site": site, "assignment": assignment, **more}
        return self.send("assignment.approve", as_staff(site, by), person, **data)

    def reject(self, person: str, site: str, assignment: str, by: str) -> Answer:
        data: dict[str, Any] = {"site": site, "assignment": assignment}
        return self.send("assignment.reject", as_staff(site, by), person, **data)

    def authorize(self, person: str, site: str, by: str) -> Answer:
        return self.send("operator.authorize", as_staff(site, by), person, site=site)

    def revoke(self, person: str, site: str, by: str) -> Answer:
        return self.send("operator.revoke", as_staff(site, by), person, site=site)

    def scan(
        self,
        person: str,
        site: str,
        scanner: str,
        by: str = DEVICE,
        at_ms: int | None = None,
        **more: Any,
    ) -> Answer:
        at_ms = self.now_ms if at_ms is None else at_ms
        data = {"site": site, "code": code(person, at_ms), "scanner": scanner, **more}
        return self.send("scan.entry", by, person, at_ms=at_ms, **data)

    def process(self, person: str, site: str, entry: str, by: str, **more: Any) -> Answer:
        data = {"site": site, "entry": entry, **more}
        return self.send("entry.process", as_staff(site, by), person, **data)

    def enter_self(self, person: str, site: str, **more: Any) -> Answer:
        return self.send("entry.self", as_staff(site, person), person, site=site, **more)

    def clock(
        self,
        person: str,
        site: str,
        scanner: str,
        direction: str | None = None,
        by: str = DEVICE,
        at_ms: int | None = None,
        **more: Any,
    ) -> Answer:
        """Attendance scanned by staff."""
        at_ms = self.now_ms if at_ms is None else at_ms
        data = {
            "site": site,
            "code": code(person, at_ms),
            "scanner": scanner,
            "direction": direction,
            **more,
        }
        return self.send("scan.attendance", by, person, at_ms=at_ms, **data)

    def check_in(
        self,
        person: str,
        site: str,
        direction: str | None = None,
        at_ms: int | None = None,
        **more: Any,
    ) -> Answer:
        """Attendance by the person, who scans the site's code."""
        at_ms = self.now_ms if at_ms is None else at_ms
        data = {"site": site, "code": site_code(site, at_ms), "direction": direction, **more}
        return self.send("scan.checkin", as_person(person), person, at_ms=at_ms, **data)

    def register_exit(self, person: str, site: str, by: str, **more: Any) -> Answer:
        return self.send("exit.register", as_staff(site, by), person, site=site, **more)

    def confirm_exit(self, person: str, site: str, by: str, **more: Any) -> Answer:
        return self.send("exit.confirm", as_staff(site, by), person, site=site, **more)

    def exit_self(self, person: str, site: str, **more: Any) -> Answer:
        return self.send("exit.self", as_staff(site, person), person, site=site, **more)

    # --- given: how far somebody has come; each step must be accepted -----------------------------

    def registered(self, *people: str, **identity: Any) -> Town:
        """With a verified identity."""
        for person in people:
            if self.person(person).identity_status != "verified":
                _accepted(self.upload(person, **identity))
                _accepted(self.verify(person))
        return self

    def hired(
        self, person: str, employer: str, role: str | None = "worker", position: str | None = None
    ) -> Town:
        """Employed, and registered by the employer unless `role` is None."""
        self.registered(person)
        _accepted(self.confirm(person, _accepted(self.offer(person, employer))))
        if role is not None:
            more = {"position": position} if position else {}
            _accepted(self.complete(person, employer, role, **more))
        return self

    def assigned(self, person: str, site: str, by: str | None = None) -> str:
        """With a confirmed assignment; gives its id."""
        assignment = _accepted(self.assign(person, site))
        _accepted(self.approve(person, site, assignment, by or general_manager(site)))
        return assignment

    def waiting(self, person: str, site: str) -> str:
        """Scanned at the gate; gives the id of the entry. A minute passes, so that the code is
        another every time."""
        self.later(minutes=1)
        return _accepted(self.scan(person, site, general_manager(site)))

    def entered(self, person: str, site: str) -> str:
        """Present; gives the id of the entry."""
        entry = self.waiting(person, site)
        _accepted(self.process(person, site, entry, general_manager(site)))
        return entry

    def at_work(self, person: str, employer: str, site: str, role: str = "worker") -> Town:
        """Hired, assigned and present."""
        self.hired(person, employer, role)
        self.assigned(person, site)
        self.entered(person, site)
        return self

    def left(self, person: str, site: str) -> None:
        """Shown out."""
        _accepted(self.register_exit(person, site, general_manager(site)))
        _accepted(self.confirm_exit(person, site, general_manager(site)))

    def dismissed(self, person: str, employer: str) -> None:
        _accepted(self.dismiss(person, employer))
        _accepted(self.dismissal("agree", person, employer))

    def operator(self, person: str, employer: str, site: str, present: bool = True) -> None:
        """A manager, authorised at the site."""
        self.hired(person, employer, "manager")
        self.assigned(person, site)
        if present:
            self.entered(person, site)
        _accepted(self.authorize(person, site, general_manager(site)))

    # --- what reference records say ---------------------------------------------------------------

    def set_employer(self, employer: str, status: str) -> None:
        record = self.employers[employer]
        self.employers[employer] = dataclasses.replace(record, status=status)

    def set_site(self, site: str, status: str) -> None:
        self.sites[site] = dataclasses.replace(self.sites[site], status=status)

    def set_manager(self, site: str, employer: str, manager: str | None) -> None:
        self._participants(
            site,
            tuple(
                dataclasses.replace(part, project_manager=manager)
                if part.employer == employer
                else part
                for part in self.sites[site].participants
            ),
        )

    def drop_participant(self, site: str, employer: str) -> None:
        kept = tuple(part for part in self.sites[site].participants if part.employer != employer)
        self._participants(site, kept)

    def _participants(self, site: str, participants: tuple[Participant, ...]) -> None:
        self.sites[site] = dataclasses.replace(self.sites[site], participants=participants)


def general_manager(site: str) -> str:
    """The project manager of the general contractor."""
    return {EAST: BUILD_PM, WEST: WEST_PM}[site]


def busy_town() -> Town:
    """A town whose named project managers are registered and confirmed at their sites."""
    return deepcopy(_busy_town())


@cache
def _busy_town() -> Town:
    town = Town()
    for person, employer, site in (
        (BUILD_PM, BUILD, EAST),
        (STEEL_PM, STEEL, EAST),
        (CREW_PM, CREW, EAST),
        (WEST_PM, STEEL, WEST),
    ):
        town.hired(person, employer, "manager", "project_manager")
        town.assigned(person, site, by=person)
    return town


def _accepted(answer: Answer) -> str:
    assert answer.decision.status == "accepted", answer.code
    return answer.id


# --- what holds of every decision -----------------------------------------------------------------


def _hold(before: Person, read: Command, now_ms: int, world: World, decision: Decision) -> None:
    """What must hold of every decision, whatever the command."""
    status, code_, version = decision.status, decision.code, decision.version
    events, after = decision.events, decision.person
    stored = encode(before)

    # The same inputs give the same decision, also on the state as it comes back from its topic.
    assert decide(decode(stored), read, now_ms, world) == decision
    assert encode(before) == stored, "decide changed its argument"
    # So does a code that was read before.
    ahead = replace(world, codes=codes_of([read], world.code_keys))
    assert decide(before, read, now_ms, ahead) == decision
    # So does one of several, among which are duplicates.
    people = (after, before, before, after, before)
    cases = [Case(one, read, read.data, read.at_ms, now_ms, world) for one in people]
    assert decide_each(cases) == [decide(one, read, now_ms, world) for one in people]
    assert decode(encode(after)) == after

    if status == "accepted":
        assert code_ in ("accepted", "awaiting_verification")
        assert (code_ == "awaiting_verification") == any(e.type == "offer.parked" for e in events)
        assert version == after.version == before.version + len(events)
        assert _facts(evolve(before, events)) == _facts(after)
    else:
        assert events == []
        assert _facts(after) == _facts(before)
        if status == "duplicate":
            assert after is before
        else:
            assert version == before.version
            remembered = code_ not in ("from_the_future", "too_late")
            assert remembered or after is before
    # Whatever is remembered answers the same again; nothing else is.
    second = decide(after, read, now_ms, world)
    if status == "duplicate" or code_ not in ("from_the_future", "too_late", "id_reused"):
        assert (second.status, second.code, second.version) in (
            ("duplicate", code_, version),
            ("rejected", "too_late", after.version),  # the memory was full and this the earliest
        )
        assert second.person is after
    for number, event in enumerate(events, before.version + 1):
        EVENTS[event.type][1].model_validate({"version": number, "command": read.id, **event.data})
    _sound(after)


def _facts(person: Person) -> dict[str, Any]:
    """A person without the memory of commands."""
    return {
        name: value
        for name, value in asdict(person).items()
        if name not in ("seen", "seen_floor_ms")
    }


def _sound(person: Person) -> None:
    """What must hold of every person at rest."""
    verified = person.identity_status == "verified"
    assert all(offer.status == ("made" if verified else "parked") for offer in person.offers)
    assert len({offer.id for offer in person.offers}) == len(person.offers) <= OPEN_OFFERS_MAX
    assert len({offer.employer for offer in person.offers}) == len(person.offers)
    if person.employment is None:
        assert person.assignment is None
    else:
        assert verified
        assert not person.offers
        assert (person.employment.role is not None) == (person.employment.status == "registered")
    if person.assignment is not None:
        assert person.assignment.employer == person.employer
        assert person.employment is not None
        assert person.employment.role is not None
        assert person.assignment.operator == "none" or person.is_manager
    bound = person.presence or person.entry
    if bound is not None:
        assert not (person.presence and person.entry)
        assert person.assignment is not None
        assert person.assignment.status == "confirmed"
        assert (person.assignment.site, person.employer) == (bound.site, bound.employer)
    assert (person.presence is not None) == (person.presence_status in _PRESENT)
    assert (person.entry is not None) == (person.presence_status == "waiting")
    assert all(tenure.from_ms <= tenure.to_ms for tenure in person.tenures)


_PRESENT = ("present", "exit_registered")
