"""The explanation is the rules': what it says fails first is what a command is answered."""

from typing import Any, TypeVar

from hypothesis import given
from hypothesis import strategies as st

from rules import entering
from rules.authority import World
from rules.case import Case
from rules.codes import issue_person_code
from rules.explain import (
    HOLDS,
    MENDS,
    explain_process,
    explain_scan,
    next_step,
    who_may_process,
    who_may_scan,
)
from rules.person import Assignment, Employment, Entry, Identity, Offer, Person, Presence
from schemas.commands import EntryProcess, ScanEntry
from schemas.reading import Command
from schemas.references import Participant, Site, Staff

T = TypeVar("T")

KEYS = {1: bytes(range(32))}
NOON_MS = 1_764_072_000_000
SUBJECT, OTHER = "a" * 32, "b" * 32
MANAGERS = ("1" * 32, "2" * 32, "3" * 32)
EMPLOYERS = ("E1", "E2", "E3")
SITES = ("S1", "S2")
TYPES = ("general_contractor", "professional_subcontractor", "labor_subcontractor")

employers = st.sampled_from(EMPLOYERS)
sites = st.sampled_from(SITES)
managers = st.sampled_from(MANAGERS)


def _made(model: type[T], **fields: object) -> T:
    """A record that nobody validates: the names here have not the forms of real ones."""
    record = object.__new__(model)
    for name, value in fields.items():
        object.__setattr__(record, name, value)
    return record


site_records = st.builds(
    lambda status, types, named: _made(
        Site,
        site="S1",
        name="一号",
        status=status,
        participants=tuple(
            _made(Participant, employer=employer, type=kind, project_manager=manager)
            for employer, kind, manager in zip(EMPLOYERS, types, named, strict=False)
        ),
        location=None,
    ),
    st.sampled_from(("active", "active", "suspended")),
    st.lists(st.sampled_from(TYPES), max_size=3),
    st.lists(st.none() | managers, min_size=3, max_size=3),
)
staff_records = st.builds(
    lambda person, employer, site, operator, present: _made(
        Staff,
        person=person,
        employer=employer,
        position="project_manager",
        site=site,
        operator=operator,
        present=present,
    ),
    managers,
    employers,
    st.none() | sites,
    st.booleans(),
    st.booleans(),
)
worlds = st.builds(
    lambda site, staff: World(
        {}, {"S1": site} if site else {}, {one.person: one for one in staff}, KEYS
    ),
    st.none() | site_records,
    st.lists(staff_records, max_size=3),
)
people = st.builds(
    Person,
    employment=st.none() | st.builds(Employment, employers, st.just("registered")),
    assignment=st.none()
    | st.builds(
        Assignment,
        st.just("a"),
        sites,
        employers,
        st.none(),
        st.sampled_from(("requested", "confirmed", "confirmed")),
        st.just("none"),
    ),
    entry=st.none() | st.builds(Entry, st.just("e"), sites, employers),
    presence=st.none() | st.builds(Presence, st.just("e"), sites, employers, st.just(0)),
    spent_codes=st.just(()) | st.just((NOON_MS // 60_000 << 8 | 1,)),
)
codes = st.sampled_from(
    [
        issue_person_code(KEYS, SUBJECT, NOON_MS // 1000),
        issue_person_code(KEYS, SUBJECT, NOON_MS // 1000 - 3600),
        issue_person_code(KEYS, OTHER, NOON_MS // 1000),
        "RN:NONSENSE",
    ]
)


def case(person: Person, world: World, source: str, data: Any) -> Case:
    command = Command("c", source, "", "", NOON_MS, SUBJECT, data, None, b"", b"")
    return Case(person, command, data, NOON_MS, NOON_MS, world)


def first_failed(checks: list[Any]) -> str | None:
    return next((check.code for check in checks if check.verdict == "failed"), None)


@given(people, worlds, managers, codes)
def test_a_scan_is_answered_what_fails_first(
    person: Person, world: World, scanner: str, code: str
) -> None:
    data = ScanEntry.model_construct(site="S1", code=code, scanner=scanner)
    answer = entering.scan(case(person, world, "/devices/d", data))
    checks = explain_scan(world, SUBJECT, person, "S1", scanner=scanner, code=code, at_ms=NOON_MS)
    assert first_failed(checks) == (answer if isinstance(answer, str) else None)
    # Whatever comes after the first is shown as well, each guard once.
    assert len({check.code for check in checks}) == len(checks) == 12
    assert all((check.mend is not None) == (check.verdict == "failed") for check in checks)


@given(people, worlds, managers)
def test_processing_is_answered_what_fails_first(person: Person, world: World, by: str) -> None:
    data = EntryProcess.model_construct(site="S1", entry="e", batch=None)
    answer = entering.process(case(person, world, f"/sites/S1/staff/{by}", data))
    checks = explain_process(world, person, "S1", by=by)
    assert first_failed(checks) == (answer if isinstance(answer, str) else None)


@given(people, worlds)
def test_who_may_scan_and_process_are_those_whom_the_rules_let(
    person: Person, world: World
) -> None:
    site = world.sites.get("S1")
    scanners = who_may_scan(world, person, site) if site else []
    for manager in MANAGERS:
        checks = explain_scan(world, SUBJECT, person, "S1", scanner=manager)
        failed = {check.code for check in checks if check.verdict == "failed"}
        may = site is not None and not failed & {
            "project_manager_required",
            "general_contractor_required",
        }
        assert (manager in scanners) == may
        checks = explain_process(world, person, "S1", by=manager)
        allowed = all(
            check.verdict != "failed" for check in checks if check.code == "not_authorized"
        )
        assert (manager in who_may_process(world, person, "S1", MANAGERS)) == allowed
    # Without a scanner the one is judged who comes furthest.
    best = explain_scan(world, SUBJECT, person, "S1")
    failed = {check.code for check in best if check.verdict == "failed"}
    if scanners:
        assert not failed & {"project_manager_required", "general_contractor_required"}


def test_every_guard_has_its_words_both_ways() -> None:
    codes = {check.code for check in explain_scan(World({}, {}, {}, {}), SUBJECT, Person(), "S1")}
    codes |= {check.code for check in explain_process(World({}, {}, {}, {}), Person(), "S1")}
    assert codes == set(HOLDS)
    assert codes - set(MENDS) == {"assignment_not_confirmed"}


def test_the_next_step_leads_to_a_confirmed_assignment() -> None:
    identity = Identity("submitted", "u", "t", "1990-01-01", "male")
    parked, made = (Offer("o", "E1", "t", status, 0) for status in ("parked", "made"))
    started = Employment("E1", "started")
    registered = Employment("E1", "registered", "worker", "001")
    requested = Assignment("a", "S1", "E1", None, "requested", "none")
    steps = [
        (Person(), "完成个人信息登记"),
        (Person(identity=identity), "新建聘用关系"),
        (Person(identity=identity, offers=(parked,)), "无需重复登记"),
        (Person(identity=Identity("failed", "u", "t", "1990-01-01", "male")), "重新上传"),
        (Person(identity=identity, offers=(made,)), "确认聘用"),
        (Person(employment=started), "完善建筑工人信息"),
        (Person(employment=registered), "分配到工地"),
        (Person(employment=registered, assignment=requested), "同意"),
    ]
    for person, words in steps:
        assert words in next_step(person).zh
