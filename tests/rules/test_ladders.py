"""Each command's ladder of guards, as a table: the first guard that fails is the answer.

A ladder starts from a case that is accepted. Each row is a guard's code and a flaw that makes just
this guard fail. Alone, a flaw must answer its code; of any two together, the one written higher up
must. The rows are read off the contract, in its order. States are given directly, so that flaws
combine that no history brings together.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import pytest
from msgspec.structs import replace

from rules.authority import World
from rules.decide import LADDERS, Decision, decide
from rules.packed import digest
from rules.person import (
    Assignment,
    Employment,
    Entry,
    Identity,
    Offer,
    Person,
    Presence,
)
from schemas.limits import DAY_MS, MINUTE_MS, OPEN_OFFERS_MAX
from schemas.reasons import OUTCOME_CODES
from schemas.references import Employer, Site, Staff
from tests.rules.town import (
    BUILD,
    BUILD_PM,
    BUREAU,
    CENTRE,
    CREW,
    CREW_PM,
    DEVICE,
    EAST,
    GU,
    HE,
    KEYS,
    LI,
    NOON,
    OTHER,
    STEEL_PM,
    WEST,
    WU,
    Town,
    as_employer,
    as_person,
    as_staff,
    busy_town,
    code,
    command,
    employers,
    site_code,
    sites,
    tag,
)


@dataclass
class Scene:
    """All that a decision looks at, to be spoilt by flaws."""

    type: str
    source: str
    data: dict[str, Any]
    subject: str = LI
    person: Person = field(default_factory=Person)
    employers: dict[str, Employer] = field(default_factory=employers)
    sites: dict[str, Site] = field(default_factory=sites)
    staff: dict[str, Staff] = field(default_factory=lambda: dict(busy_town().staff))
    at_ms: int = NOON
    id: str = "new"

    def decide(self) -> Decision:
        read = command(self.type, self.source, self.subject, self.id, self.at_ms, self.data)
        world = World(self.employers, self.sites, self.staff, KEYS)
        return decide(self.person, read, NOON, world)

    def employ(self, **change: Any) -> None:
        employment = self.person.employment or Employment(CREW, "registered", "worker", "101")
        self.person.employment = replace(employment, **change)

    def put(self, **change: Any) -> None:
        """Changes the assignment."""
        assert self.person.assignment is not None
        self.person.assignment = replace(self.person.assignment, **change)

    def site(self, change: Callable[[Town, str], None]) -> None:
        """Changes the record of the site, if it is still there."""
        name = self.data["site"]
        if name in self.sites:
            change(Town(sites=self.sites), name)

    def staff_member(self, person: str, **change: Any) -> None:
        if person in self.staff:
            self.staff[person] = dataclasses.replace(self.staff[person], **change)


Flaw = Callable[[Scene], object]


def sets(**values: Any) -> Flaw:
    """A flaw in the data of the command."""
    return lambda scene: scene.data.update(values)


def comes_from(source: str) -> Flaw:
    return lambda scene: setattr(scene, "source", source)


def person(**values: Any) -> Flaw:
    """A flaw in the person's state."""

    def spoil(scene: Scene) -> None:
        for name, value in values.items():
            setattr(scene.person, name, value)

    return spoil


def employment(**change: Any) -> Flaw:
    return lambda scene: scene.employ(**change)


def both(one: Flaw, other: Flaw) -> Flaw:
    return lambda scene: (one(scene), other(scene))


def unemployed(scene: Scene) -> None:
    scene.person.employment = None


def closed(scene: Scene) -> None:
    scene.site(lambda town, name: town.set_site(name, "completed"))


def no_site(scene: Scene) -> None:
    scene.sites.pop(scene.data["site"], None)


def without(employer: str) -> Flaw:
    return lambda scene: scene.site(lambda town, name: town.drop_participant(name, employer))


def suspended(scene: Scene) -> None:
    if CREW in scene.employers:
        Town(employers=scene.employers).set_employer(CREW, "suspended")


def not_named(scene: Scene) -> None:
    """The site's record no longer names the general contractor's project manager."""
    scene.site(lambda town, name: town.set_manager(name, BUILD, HE))


# --- given ----------------------------------------------------------------------------------------

VERIFIED = Identity("verified", "u1", tag(LI), "1990-05-01", "male")
WORKER = Employment(CREW, "registered", "worker", "101")
MANAGER = Employment(CREW, "registered", "manager", None, "safety officer")
REQUESTED = Assignment("a1", EAST, CREW, None, "requested", "none")
CONFIRMED = Assignment("a1", EAST, CREW, None, "confirmed", "none")
ENTRY = Entry("e1", EAST, CREW)
PRESENCE = Presence("e1", EAST, CREW, NOON - DAY_MS)
CREW_OFFER = Offer("o1", CREW, tag(LI), "made", NOON - DAY_MS)


def stranger() -> Person:
    return Person()


def verified() -> Person:
    return Person(identity=VERIFIED)


def offered() -> Person:
    return Person(identity=VERIFIED, offers=(CREW_OFFER,))


def worker() -> Person:
    return Person(identity=VERIFIED, employment=WORKER)


def assigned(status: Assignment = CONFIRMED) -> Person:
    return Person(identity=VERIFIED, employment=WORKER, assignment=status)


def waiting() -> Person:
    return Person(
        identity=VERIFIED,
        employment=WORKER,
        assignment=CONFIRMED,
        presence_status="waiting",
        entry=ENTRY,
    )


def present(status: str = "present") -> Person:
    return Person(
        identity=VERIFIED,
        employment=WORKER,
        assignment=CONFIRMED,
        presence_status=status,
        presence=PRESENCE,
    )


def manager(person: Person) -> Person:
    return replace(person, employment=MANAGER)


def present_project_manager() -> Person:
    return Person(
        identity=VERIFIED,
        employment=Employment(BUILD, "registered", "manager", None, "project_manager"),
        assignment=Assignment("a1", EAST, BUILD, "project_manager", "confirmed", "none"),
        presence_status="present",
        presence=Presence("e1", EAST, BUILD, NOON - DAY_MS),
    )


def absent_project_manager() -> Person:
    return replace(present_project_manager(), presence_status="absent", presence=None)


# --- flaws that several ladders share -------------------------------------------------------------

BY_CREW = as_employer(CREW)
BY_LI = as_person(LI)
BY_GENERAL = as_staff(EAST, BUILD_PM)

NOT_THE_EMPLOYER = [("not_authorized", comes_from(as_employer(OTHER)))]
NOT_THE_PERSON = [("not_authorized", comes_from(as_person(WU)))]
NOT_SITE_SIDE = [("not_authorized", comes_from(as_staff(EAST, STEEL_PM)))]
NOT_EMPLOYED_HERE = [("not_employed_here", employment(employer=OTHER))]


def _manager_there(scene: Scene) -> None:
    scene.employ(role="manager")
    scene.person.presence = PRESENCE


def _overfull(scene: Scene) -> None:
    scene.person.offers = tuple(
        replace(CREW_OFFER, id=f"x{n}", employer=f"employer {n}") for n in range(OPEN_OFFERS_MAX)
    )


def _another_offer(scene: Scene) -> None:
    scene.person.offers = (CREW_OFFER, *scene.person.offers[1:])


def _born(birth_date: str) -> Flaw:
    def spoil(scene: Scene) -> None:
        if scene.person.identity is not None:
            scene.person.identity = replace(scene.person.identity, birth_date=birth_date)

    return spoil


def _spent(scene: Scene) -> None:
    scene.person.spent_codes = (scene.at_ms // MINUTE_MS << 8 | max(KEYS),)


def _expired(scene: Scene) -> None:
    """The code in hand is from an hour ago, whoever's it is."""
    if scene.data["code"].startswith("RN:"):
        whose = LI if scene.data["code"] == code(LI, NOON) else WU
        scene.data["code"] = code(whose, NOON - 60 * MINUTE_MS)


def _site_code_expired(scene: Scene) -> None:
    if scene.data["code"].startswith("RN:"):
        scene.data["code"] = site_code(EAST, NOON - 3 * DAY_MS)


CODE_FLAWS: list[tuple[str, Flaw]] = [
    ("code_invalid", sets(code="RN:ABC")),
    ("code_expired", _expired),
    ("code_not_this_person", sets(code=code(WU, NOON))),
]

MAY_ENTER: list[tuple[str, Flaw]] = [
    ("site_unknown", no_site),
    ("site_closed", closed),
    ("employer_not_on_site", without(CREW)),
]
ASSIGNED_THERE: list[tuple[str, Flaw]] = [
    ("assignment_not_confirmed", lambda s: setattr(s.person, "assignment", REQUESTED)),
    ("wrong_site", lambda s: setattr(s.person, "assignment", replace(CONFIRMED, site=WEST))),
    ("already_present", person(presence=PRESENCE)),
]


def _nothing(scene: Scene) -> None:
    if scene.person.employment is not None:
        scene.employ(dismissal="none", departure="none")


ANSWER_PENDING: list[tuple[str, Flaw]] = [("nothing_pending", _nothing)]


def _asked() -> Person:
    return Person(
        identity=VERIFIED,
        employment=replace(WORKER, dismissal="requested", departure="requested"),
    )


# --- the ladders ----------------------------------------------------------------------------------

ALWAYS_FIRST: list[tuple[str, Flaw]] = [
    ("from_the_future", lambda s: setattr(s, "at_ms", NOON + 5 * MINUTE_MS + 1)),
    ("too_late", lambda s: setattr(s, "at_ms", NOON - 7 * DAY_MS - 1)),
    ("id_reused", lambda s: setattr(s.person, "named", digest("new"))),
]
"""Before every ladder. `duplicate` is in test_memory.py."""

Ladder = tuple[Callable[[], Scene], list[tuple[str, Flaw]]]

UPLOAD = {
    "name_tag": tag(LI),
    "sealed": "c2VhbGVk",
    "front_sha256": "0" * 64,
    "back_sha256": "0" * 64,
    "birth_date": "1990-05-01",
    "sex": "male",
    "notice_accepted": True,
}
ASSIGN = {"site": EAST, "employer": CREW}
ANSWER = {"site": EAST, "assignment": "a1"}


def scan_data(**more: Any) -> dict[str, Any]:
    return {"site": EAST, "code": code(LI, NOON), "scanner": BUILD_PM, **more}


CASES: dict[str, Ladder] = {
    "identity.upload": (
        lambda: Scene("identity.upload", BY_LI, dict(UPLOAD)),
        [
            *NOT_THE_PERSON,
            ("notice_not_accepted", sets(notice_accepted=False)),
            ("already_verified", person(identity=VERIFIED)),
        ],
    ),
    "identity.verify": (
        lambda: Scene(
            "identity.verify",
            CENTRE,
            {"batch": "b", "result": "verified"},
            person=Person(identity=replace(VERIFIED, status="submitted")),
        ),
        [
            ("not_authorized", comes_from(BUREAU)),
            ("identity_not_registered", person(identity=None)),
        ],
    ),
    "hire.offer": (
        lambda: Scene(
            "hire.offer", BY_CREW, {"employer": CREW, "name_tag": tag(LI)}, person=verified()
        ),
        [
            *NOT_THE_EMPLOYER,
            ("too_many", _overfull),
            ("employer_unknown", lambda s: s.employers.pop(CREW, None)),
            ("employer_suspended", suspended),
            ("identity_not_registered", person(identity=None)),
            ("name_mismatch", sets(name_tag=tag(WU))),
            ("under_age", _born("2008-11-24")),
            ("over_age", _born("1966-11-23")),
            ("already_employed_here", employment(employer=CREW)),
            ("duplicate_registration", _another_offer),
            ("employed_elsewhere", employment(employer=OTHER)),
        ],
    ),
    "hire.withdraw": (
        lambda: Scene(
            "hire.withdraw", BY_CREW, {"employer": CREW, "offer": "o1"}, person=offered()
        ),
        [*NOT_THE_EMPLOYER, ("offer_not_open", sets(offer="o2"))],
    ),
    "hire.complete": (
        lambda: Scene(
            "hire.complete",
            BY_CREW,
            {"employer": CREW, "role": "worker", "trade": "101"},
            person=worker(),
        ),
        [
            *NOT_THE_EMPLOYER,
            *NOT_EMPLOYED_HERE,
            ("trade_required", sets(trade=" ")),
            ("exit_first", both(employment(role="manager"), person(assignment=REQUESTED))),
        ],
    ),
    "hire.complete of a manager": (
        lambda: Scene(
            "hire.complete",
            BY_CREW,
            {"employer": CREW, "role": "manager", "position": "safety officer"},
            person=worker(),
        ),
        [
            *NOT_THE_EMPLOYER,
            *NOT_EMPLOYED_HERE,
            ("position_required", sets(position="")),
            ("exit_first", both(employment(role="worker"), person(presence=PRESENCE))),
        ],
    ),
    "dismissal.request": (
        lambda: Scene(
            "dismissal.request", BY_CREW, {"employer": CREW, "reason": "done"}, person=worker()
        ),
        [
            *NOT_THE_EMPLOYER,
            *NOT_EMPLOYED_HERE,
            ("reason_required", sets(reason="  ")),
            ("already_pending", employment(dismissal="requested")),
            ("manager_on_site", _manager_there),
        ],
    ),
    "dismissal.withdraw": (
        lambda: Scene("dismissal.withdraw", BY_CREW, {"employer": CREW}, person=_asked()),
        [*NOT_THE_EMPLOYER, *ANSWER_PENDING],
    ),
    "dismissal.agree": (
        lambda: Scene("dismissal.agree", BY_LI, {"employer": CREW}, person=_asked()),
        [*NOT_THE_PERSON, *ANSWER_PENDING, ("manager_on_site", _manager_there)],
    ),
    "dismissal.refuse": (
        lambda: Scene("dismissal.refuse", BY_LI, {"employer": CREW}, person=_asked()),
        [*NOT_THE_PERSON, *ANSWER_PENDING],
    ),
    "departure.request": (
        lambda: Scene("departure.request", BY_LI, {"employer": CREW}, person=worker()),
        [
            *NOT_THE_PERSON,
            *NOT_EMPLOYED_HERE,
            ("already_pending", employment(departure="requested")),
            ("manager_on_site", _manager_there),
        ],
    ),
    "departure.withdraw": (
        lambda: Scene("departure.withdraw", BY_LI, {"employer": CREW}, person=_asked()),
        [*NOT_THE_PERSON, *ANSWER_PENDING],
    ),
    "departure.approve": (
        lambda: Scene("departure.approve", BY_CREW, {"employer": CREW}, person=_asked()),
        [*NOT_THE_EMPLOYER, *ANSWER_PENDING, ("manager_on_site", _manager_there)],
    ),
    "departure.refuse": (
        lambda: Scene("departure.refuse", BY_CREW, {"employer": CREW}, person=_asked()),
        [("not_authorized", comes_from(BUREAU)), *ANSWER_PENDING],
    ),
    "hire.confirm": (
        lambda: Scene("hire.confirm", BY_LI, {"offer": "o1"}, person=offered()),
        [
            *NOT_THE_PERSON,
            ("offer_not_open", sets(offer="o2")),
            ("employer_unknown", lambda s: s.employers.pop(CREW, None)),
            ("employer_suspended", suspended),
            ("employed_elsewhere", employment(employer=OTHER)),
        ],
    ),
    "hire.refuse": (
        lambda: Scene("hire.refuse", BY_LI, {"offer": "o1"}, person=offered()),
        [*NOT_THE_PERSON, ("offer_not_open", sets(offer="o2"))],
    ),
    "assignment.request": (
        lambda: Scene(
            "assignment.request", BY_CREW, {**ASSIGN, "position": "foreman"}, person=worker()
        ),
        [
            *NOT_THE_EMPLOYER,
            ("not_employed", unemployed),
            ("employed_elsewhere", employment(employer=OTHER)),
            ("registration_incomplete", employment(status="started", role=None)),
            ("site_unknown", no_site),
            ("site_closed", closed),
            ("employer_not_on_site", without(CREW)),
            (
                "position_required",
                both(employment(role="manager", position=None), sets(position=" ")),
            ),
            ("not_the_named_manager", sets(position="project_manager")),
            ("already_assigned", person(assignment=REQUESTED)),
        ],
    ),
    "assignment.withdraw": (
        lambda: Scene(
            "assignment.withdraw", BY_CREW, {**ASSIGN, "assignment": "a1"}, person=assigned()
        ),
        [*NOT_THE_EMPLOYER, ("assignment_not_pending", person(presence=PRESENCE))],
    ),
    "assignment.approve": (
        lambda: Scene("assignment.approve", BY_GENERAL, dict(ANSWER), person=assigned(REQUESTED)),
        [*NOT_SITE_SIDE, ("assignment_not_pending", person(assignment=CONFIRMED))],
    ),
    "assignment.reject": (
        lambda: Scene("assignment.reject", BY_GENERAL, dict(ANSWER), person=assigned(REQUESTED)),
        [*NOT_SITE_SIDE, ("assignment_not_pending", sets(assignment="a2"))],
    ),
    "operator.authorize": (
        lambda: Scene(
            "operator.authorize",
            as_staff(EAST, CREW_PM),
            {"site": EAST},
            person=manager(assigned()),
        ),
        [
            ("not_authorized", comes_from(as_staff(EAST, HE))),
            ("manager_required", employment(role="worker")),
            ("assignment_not_confirmed", lambda s: s.put(status="requested")),
            ("not_authorized", comes_from(as_staff(EAST, STEEL_PM))),
            ("already_authorized", lambda s: s.put(operator="authorized")),
        ],
    ),
    "operator.revoke": (
        lambda: Scene(
            "operator.revoke",
            as_staff(EAST, CREW_PM),
            {"site": EAST},
            person=replace(
                manager(assigned()), assignment=replace(CONFIRMED, operator="authorized")
            ),
        ),
        [
            ("not_authorized", comes_from(as_staff(EAST, HE))),
            ("manager_required", employment(role="worker")),
            ("assignment_not_confirmed", lambda s: s.put(site=WEST)),
            ("not_authorized", comes_from(as_staff(EAST, STEEL_PM))),
            ("not_authorized_before", lambda s: s.put(operator="none")),
        ],
    ),
    "scan.entry": (
        lambda: Scene("scan.entry", DEVICE, scan_data(), person=assigned()),
        [
            ("not_authorized", comes_from(as_staff(EAST, STEEL_PM))),
            *CODE_FLAWS,
            ("code_replayed", _spent),
            *MAY_ENTER,
            ("project_manager_required", sets(scanner=GU)),
            ("general_contractor_required", sets(scanner=CREW_PM)),
            *ASSIGNED_THERE,
        ],
    ),
    "scan.attendance": (
        lambda: Scene("scan.attendance", DEVICE, scan_data(), person=present()),
        [
            ("not_authorized", comes_from(as_person(LI))),
            *CODE_FLAWS,
            ("operator_required", sets(scanner=GU)),
            ("not_present", person(presence=None)),
            ("wrong_site", person(presence=replace(PRESENCE, site=WEST))),
        ],
    ),
    "scan.checkin": (
        lambda: Scene(
            "scan.checkin",
            BY_LI,
            {"site": EAST, "code": site_code(EAST, NOON)},
            person=present(),
        ),
        [
            ("not_authorized", comes_from(DEVICE)),
            ("code_invalid", sets(code=code(LI, NOON))),
            ("code_expired", _site_code_expired),
            ("wrong_site", sets(code=site_code(WEST, NOON))),
            ("not_present", person(presence=None)),
            ("wrong_site", person(presence=replace(PRESENCE, site=WEST))),
        ],
    ),
    "entry.process": (
        lambda: Scene("entry.process", BY_GENERAL, {"site": EAST, "entry": "e1"}, person=waiting()),
        [
            *NOT_SITE_SIDE,
            ("entry_not_pending", sets(entry="e2")),
            *MAY_ENTER[1:],  # without the site's record there is no named project manager either
            *ASSIGNED_THERE,
        ],
    ),
    "entry.process by an operator": (
        lambda: Scene(
            "entry.process",
            as_staff(EAST, HE),
            {"site": EAST, "entry": "e1"},
            person=waiting(),
            staff={
                HE: Staff(
                    person=HE, employer=CREW, position="x", site=EAST, operator=True, present=True
                )
            },
        ),
        [
            ("not_authorized", lambda s: s.staff_member(HE, present=False)),
            ("entry_not_pending", sets(entry="e2")),
            *MAY_ENTER,
            *ASSIGNED_THERE,
        ],
    ),
    "entry.self": (
        lambda: Scene(
            "entry.self",
            BY_GENERAL,
            {"site": EAST},
            subject=BUILD_PM,
            person=absent_project_manager(),
        ),
        [
            ("site_unknown", no_site),
            ("site_closed", closed),
            ("project_manager_required", not_named),
            ("already_present", person(presence=PRESENCE)),
        ],
    ),
    "exit.register": (
        lambda: Scene("exit.register", BY_GENERAL, {"site": EAST}, person=present()),
        [
            ("operator_required", comes_from(as_staff(EAST, HE))),
            ("not_present", person(presence=None)),
            ("already_pending", person(presence_status="exit_registered")),
        ],
    ),
    "exit.register by another's project manager": (
        lambda: Scene("exit.register", BY_GENERAL, {"site": EAST}, person=present()),
        [
            ("general_contractor_required", comes_from(as_staff(EAST, CREW_PM))),
            ("not_present", person(presence=None)),
            ("already_pending", person(presence_status="exit_registered")),
        ],
    ),
    "exit.confirm": (
        lambda: Scene(
            "exit.confirm", BY_GENERAL, {"site": EAST}, person=present("exit_registered")
        ),
        [
            ("operator_required", comes_from(as_employer(CREW))),
            ("not_present", person(presence=None)),
            ("exit_not_pending", person(presence_status="present")),
        ],
    ),
    "exit.confirm by another's project manager": (
        lambda: Scene(
            "exit.confirm", BY_GENERAL, {"site": EAST}, person=present("exit_registered")
        ),
        [
            ("general_contractor_required", comes_from(as_staff(EAST, STEEL_PM))),
            ("not_present", person(presence=None)),
            ("exit_not_pending", person(presence_status="present")),
        ],
    ),
    "exit.self": (
        lambda: Scene(
            "exit.self",
            BY_GENERAL,
            {"site": EAST},
            subject=BUILD_PM,
            person=present_project_manager(),
        ),
        [
            ("project_manager_required", no_site),
            ("not_present", person(presence=None)),
        ],
    ),
}


def test_every_command_has_a_ladder() -> None:
    assert {name.split()[0] for name in CASES} == set(LADDERS)


@pytest.mark.parametrize("name", CASES)
def test_without_a_flaw_the_command_is_accepted(name: str) -> None:
    scene = CASES[name][0]()
    decision = scene.decide()
    assert (decision.status, decision.code) == ("accepted", "accepted")


@pytest.mark.parametrize("name", CASES)
def test_each_guard_answers_its_own_code(name: str) -> None:
    start, ladder = CASES[name]
    for code_, flaw in ALWAYS_FIRST + ladder:
        scene = start()
        flaw(scene)
        assert scene.decide().code == code_


@pytest.mark.parametrize("name", CASES)
def test_the_first_guard_that_fails_is_the_answer(name: str) -> None:
    start, ladder = CASES[name]
    for (first, flaw), (second, later_flaw) in combinations(ALWAYS_FIRST + ladder, 2):
        scene = start()
        # The earlier one last: where two flaws spoil the same thing, it has its way.
        later_flaw(scene)
        flaw(scene)
        assert scene.decide().code == first, f"{first} before {second}"


def test_every_code_is_reached() -> None:
    reached = {code_ for _, ladder in CASES.values() for code_, _ in ladder}
    reached |= {code_ for code_, _ in ALWAYS_FIRST}
    reached |= {"accepted", "awaiting_verification"}  # above, and in test_offers.py
    assert reached == set(OUTCOME_CODES)
