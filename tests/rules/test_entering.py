"""Entry and exit (contract: Entry, Exit)."""

import pytest

from schemas.limits import DAY_MS, MINUTE_MS, PERSON_CODE_STEP_MS, SPENT_CODES_MAX
from tests.rules.town import (
    BUILD,
    BUILD_PM,
    CREW,
    CREW_PM,
    EAST,
    GU,
    HE,
    LI,
    OTHER,
    STEEL,
    STEEL_PM,
    WEST,
    WEST_PM,
    WU,
    Town,
    as_employer,
    as_person,
    as_staff,
    busy_town,
    code,
    site_code,
)

PRESENCE_ENDED = ["presence.ended", "assignment.ended"]


@pytest.fixture
def town() -> Town:
    """With LI, a confirmed worker of the labour subcontractor."""
    town = busy_town().hired(LI, CREW)
    town.assigned(LI, EAST)
    return town


# --- scan and process -----------------------------------------------------------------------------


def test_scanned_processed_present(town: Town) -> None:
    scanned = town.scan(LI, EAST, BUILD_PM)
    facts = {"entry": scanned.id, "site": EAST, "employer": CREW}
    assert (scanned.said, scanned.data) == (["entry.scanned"], [facts])
    processed = town.process(LI, EAST, scanned.id, BUILD_PM, batch="b")
    assert (processed.said, processed.data) == (["presence.started"], [facts])
    assert processed.command.batch == "b"
    assert town.process(LI, EAST, scanned.id, BUILD_PM).said == "entry_not_pending"


def test_staff_scan_for_themselves(town: Town) -> None:
    assert town.scan(LI, EAST, BUILD_PM, by=as_staff(EAST, STEEL_PM)).said == "not_authorized"
    assert town.scan(LI, EAST, BUILD_PM, by=as_staff(WEST, BUILD_PM)).said == "not_authorized"
    assert town.scan(LI, EAST, BUILD_PM, by=as_employer(BUILD)).said == "not_authorized"
    assert town.scan(LI, EAST, BUILD_PM, by=as_staff(EAST, BUILD_PM)).said == ["entry.scanned"]


def test_a_new_scan_replaces_the_waiting_one(town: Town) -> None:
    old = town.waiting(LI, EAST)
    town.later(minutes=1)
    answer = town.scan(LI, EAST, BUILD_PM)
    assert answer.said == ["entry.lapsed", "entry.scanned"]
    assert [data["entry"] for data in answer.data] == [old, answer.id]
    assert town.process(LI, EAST, old, BUILD_PM).said == "entry_not_pending"
    assert town.process(LI, EAST, answer.id, BUILD_PM).said == ["presence.started"]


@pytest.mark.parametrize(
    ("employer", "scanner", "said"),
    [
        (CREW, BUILD_PM, ["entry.scanned"]),
        (CREW, CREW_PM, "general_contractor_required"),
        (CREW, STEEL_PM, "general_contractor_required"),
        (STEEL, BUILD_PM, ["entry.scanned"]),
        (STEEL, STEEL_PM, ["entry.scanned"]),
        (STEEL, CREW_PM, "general_contractor_required"),
        (BUILD, BUILD_PM, ["entry.scanned"]),
        (BUILD, STEEL_PM, "general_contractor_required"),
        (CREW, WEST_PM, "project_manager_required"),
        (CREW, HE, "project_manager_required"),
        (CREW, WU, "project_manager_required"),
    ],
)
def test_who_scans_whom(employer: str, scanner: str, said: object) -> None:
    town = busy_town().hired(WU, employer)
    town.assigned(WU, EAST)
    assert town.scan(WU, EAST, scanner).said == said


def test_an_operator_does_not_scan_entries(town: Town) -> None:
    town.operator(WU, BUILD, EAST)
    assert town.scan(LI, EAST, WU).said == "project_manager_required"


def test_a_named_but_unassigned_project_manager_does_not_scan(town: Town) -> None:
    town.hired(HE, BUILD, "manager")
    town.set_manager(EAST, BUILD, HE)
    assert town.scan(LI, EAST, HE).said == "project_manager_required"
    assert town.scan(LI, EAST, BUILD_PM).said == "project_manager_required"  # no longer named
    town.assigned(HE, EAST, by=HE)
    assert town.scan(LI, EAST, HE).said == ["entry.scanned"]


def test_a_project_manager_named_here_and_confirmed_elsewhere_is_none_here(town: Town) -> None:
    town.hired(WU, STEEL, "manager")
    town.assigned(WU, EAST)
    town.set_manager(EAST, STEEL, WEST_PM)
    assert town.scan(WU, EAST, WEST_PM).said == "project_manager_required"
    assert town.clock(WU, EAST, WEST_PM).said == "operator_required"
    assert town.authorize(WU, EAST, WEST_PM).said == "not_authorized"
    assert town.enter_self(WEST_PM, EAST).said == "project_manager_required"
    # As a named one he is of the site side all the same.
    assert town.process(WU, EAST, town.waiting(WU, EAST), WEST_PM).said == ["presence.started"]


def test_the_project_manager_is_confirmed_whatever_the_position() -> None:
    town = Town().hired(LI, CREW).hired(BUILD_PM, BUILD, "manager", "clerk")
    town.assigned(BUILD_PM, EAST, by=BUILD_PM)
    asked = town.assign(LI, EAST).id
    town.approve(LI, EAST, asked, BUILD_PM)
    assert town.scan(LI, EAST, BUILD_PM).said == ["entry.scanned"]


def test_somebody_without_employment_or_assignment() -> None:
    town = busy_town().registered(LI)
    assert town.scan(LI, EAST, STEEL_PM).said == "general_contractor_required"
    assert town.scan(LI, EAST, BUILD_PM).said == "assignment_not_confirmed"
    assert town.hired(WU, OTHER).scan(WU, EAST, BUILD_PM).said == "employer_not_on_site"
    town.hired(LI, CREW)
    assert town.scan(LI, EAST, BUILD_PM).said == "assignment_not_confirmed"
    town.assign(LI, EAST)
    assert town.scan(LI, EAST, BUILD_PM).said == "assignment_not_confirmed"


def test_at_the_wrong_site(town: Town) -> None:
    assert town.scan(LI, WEST, WEST_PM).said == "wrong_site"
    assert town.scan(LI, EAST, BUILD_PM).said == ["entry.scanned"]


def test_already_present(town: Town) -> None:
    town.entered(LI, EAST)
    town.later(minutes=1)
    assert town.scan(LI, EAST, BUILD_PM).said == "already_present"


# --- the code -------------------------------------------------------------------------------------


def test_one_step_before_to_two_steps_after(town: Town) -> None:
    def scan(step: int) -> object:
        return town.scan(LI, EAST, BUILD_PM, code=code(LI, town.now_ms + step * MINUTE_MS)).said

    assert scan(-3) == "code_expired"
    assert scan(2) == "code_expired"
    for step in (-2, -1, 0, 1):
        assert scan(step) in (["entry.scanned"], ["entry.lapsed", "entry.scanned"])


def test_the_code_is_judged_at_the_scans_time(town: Town) -> None:
    shown = code(LI, town.now_ms)
    town.later(days=2)
    answer = town.scan(LI, EAST, BUILD_PM, code=shown)
    assert answer.said == "code_expired"
    # Uploaded late, but scanned in time.
    answer = town.scan(LI, EAST, BUILD_PM, code=shown, at_ms=town.now_ms - 2 * DAY_MS)
    assert answer.said == ["entry.scanned"]


@pytest.mark.parametrize("text", ["", "RN:", "hello", "RN:ABCDEFGH", "rn:" + "A" * 61])
def test_what_is_no_code(town: Town, text: str) -> None:
    assert town.scan(LI, EAST, BUILD_PM, code=text).said == "code_invalid"


def test_a_sites_code_is_no_personal_code(town: Town) -> None:
    shown = site_code(EAST, town.now_ms)
    assert town.scan(LI, EAST, BUILD_PM, code=shown).said == "code_invalid"
    assert town.clock(LI, EAST, BUILD_PM, code=shown).said == "code_invalid"


def test_somebody_elses_code(town: Town) -> None:
    assert town.scan(LI, EAST, BUILD_PM, code=code(WU, town.now_ms)).said == "code_not_this_person"


def test_a_code_is_spent_by_an_accepted_entry_scan_only(town: Town) -> None:
    shown = code(LI, town.now_ms)
    assert town.scan(LI, EAST, HE, code=shown).said == "project_manager_required"
    assert town.scan(LI, EAST, BUILD_PM, code=shown).said == ["entry.scanned"]
    # Photographed, shown again, by another channel or a minute later.
    assert town.scan(LI, EAST, BUILD_PM, code=shown).said == "code_replayed"
    town.later(minutes=1)
    assert town.scan(LI, EAST, BUILD_PM, code=shown).said == "code_replayed"
    assert town.scan(LI, WEST, WEST_PM, code=shown).said == "code_replayed"


def test_the_same_scan_twice_is_a_duplicate(town: Town) -> None:
    scanned = town.scan(LI, EAST, BUILD_PM)
    assert town.again(scanned.command).said == "duplicate"


def test_attendance_does_not_spend_a_code_and_takes_a_spent_one(town: Town) -> None:
    shown = code(LI, town.now_ms)
    entry = town.scan(LI, EAST, BUILD_PM, code=shown).id
    town.process(LI, EAST, entry, BUILD_PM)
    for _ in range(2):
        assert town.clock(LI, EAST, BUILD_PM, code=shown).said == ["attendance.recorded"]
    unspent = code(LI, town.now_ms + MINUTE_MS)
    assert town.clock(LI, EAST, BUILD_PM, code=unspent).said == ["attendance.recorded"]
    town.left(LI, EAST)
    town.assigned(LI, EAST)
    assert town.scan(LI, EAST, BUILD_PM, code=unspent).said == ["entry.scanned"]


def test_a_code_of_another_key_is_another_code(town: Town) -> None:
    assert town.scan(LI, EAST, BUILD_PM, code=code(LI, town.now_ms)).said == ["entry.scanned"]
    old_key = code(LI, town.now_ms, {1: b"first key of the town"})
    assert town.scan(LI, EAST, BUILD_PM, code=old_key).said == ["entry.lapsed", "entry.scanned"]
    assert town.scan(LI, EAST, BUILD_PM, code=old_key).said == "code_replayed"


def test_past_the_memory_of_spent_codes_a_floor_rises(town: Town) -> None:
    first_ms = town.now_ms
    for n in range(SPENT_CODES_MAX):
        town.now_ms = first_ms + 2 * n * MINUTE_MS
        assert "entry.scanned" in town.scan(LI, EAST, BUILD_PM).said
    # Between the spent ones all is well, while they are all remembered.
    assert "entry.scanned" in town.scan(LI, EAST, BUILD_PM, at_ms=first_ms + MINUTE_MS).said
    # That was the 65th: the lowest is forgotten, and what is not above it counts as spent.
    assert len(town.person(LI).spent_codes) == SPENT_CODES_MAX
    assert town.scan(LI, EAST, BUILD_PM, at_ms=first_ms).said == "code_replayed"
    earlier = town.scan(LI, EAST, BUILD_PM, at_ms=first_ms - 5 * MINUTE_MS)
    assert earlier.said == "code_replayed"
    assert "entry.scanned" in town.scan(LI, EAST, BUILD_PM, at_ms=first_ms + 3 * MINUTE_MS).said


def test_codes_too_old_to_be_scanned_are_forgotten(town: Town) -> None:
    for _ in range(100):
        town.later(hours=6)
        assert "entry.scanned" in town.scan(LI, EAST, BUILD_PM).said
    assert len(town.person(LI).spent_codes) <= 7 * 4 + 1
    floor_ms = town.person(LI).spent_floor * PERSON_CODE_STEP_MS
    # None that a scan in time could show.
    assert floor_ms < town.now_ms - 7 * DAY_MS - 2 * MINUTE_MS


# --- process --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("who", "said"),
    [
        (BUILD_PM, ["presence.started"]),
        (CREW_PM, ["presence.started"]),  # the site side, though he may not scan
        (STEEL_PM, "not_authorized"),
        (WEST_PM, "not_authorized"),
        (LI, "not_authorized"),
    ],
)
def test_the_site_side_processes(town: Town, who: str, said: object) -> None:
    assert town.process(LI, EAST, town.waiting(LI, EAST), who).said == said


def test_an_operator_processes_while_present(town: Town) -> None:
    town.operator(WU, CREW, EAST, present=False)
    entry = town.waiting(LI, EAST)
    assert town.process(LI, EAST, entry, WU).said == "not_authorized"
    town.entered(WU, EAST)
    assert town.process(LI, EAST, entry, WU).said == ["presence.started"]


def test_an_entry_not_waiting(town: Town) -> None:
    entry = town.waiting(LI, EAST)
    assert town.process(LI, EAST, "unknown", BUILD_PM).said == "entry_not_pending"
    assert town.process(LI, WEST, entry, WEST_PM).said == "entry_not_pending"
    assert town.process(WU, EAST, entry, BUILD_PM).said == "entry_not_pending"


def test_the_world_is_asked_again_at_processing(town: Town) -> None:
    entry = town.waiting(LI, EAST)
    town.set_site(EAST, "suspended")
    assert town.process(LI, EAST, entry, BUILD_PM).said == "site_closed"
    town.set_site(EAST, "active")
    kept = town.sites[EAST]
    town.drop_participant(EAST, CREW)
    assert town.process(LI, EAST, entry, BUILD_PM).said == "employer_not_on_site"
    town.sites[EAST] = kept
    assert town.process(LI, EAST, entry, BUILD_PM).said == ["presence.started"]


def test_without_the_sites_record_an_operator_learns_that(town: Town) -> None:
    town.operator(WU, CREW, EAST)
    entry = town.waiting(LI, EAST)
    del town.sites[EAST]
    assert town.process(LI, EAST, entry, WU).said == "site_unknown"
    assert town.process(LI, EAST, entry, BUILD_PM).said == "not_authorized"


def test_the_scanner_is_not_asked_again(town: Town) -> None:
    entry = town.waiting(LI, EAST)
    town.hired(HE, BUILD, "manager")
    town.set_manager(EAST, BUILD, HE)
    assert town.process(LI, EAST, entry, BUILD_PM).said == "not_authorized"
    assert town.process(LI, EAST, entry, HE).said == ["presence.started"]


def test_an_entry_lapses_with_its_assignment(town: Town) -> None:
    entry = town.waiting(LI, EAST)
    live = town.person(LI).assignment
    assert live is not None
    assert town.unassign(LI, EAST, CREW, live.id).said == ["entry.lapsed", "assignment.withdrawn"]
    assert town.process(LI, EAST, entry, BUILD_PM).said == "entry_not_pending"


# --- entry.self, exit.self ------------------------------------------------------------------------


@pytest.mark.parametrize("who", [BUILD_PM, STEEL_PM, CREW_PM])
def test_any_participants_project_manager_enters_and_leaves_by_himself(who: str) -> None:
    town = busy_town()
    entered = town.enter_self(who, EAST)
    assert entered.said == ["presence.started"]
    assert entered.data[0]["entry"] == entered.id
    assert town.enter_self(who, EAST).said == "already_present"
    assert town.staff[who].present
    left = town.exit_self(who, EAST)
    assert left.said == PRESENCE_ENDED
    assert [data["cause"] for data in left.data] == ["exit", "exit"]
    assert town.exit_self(who, EAST).said == "not_present"
    assert town.enter_self(who, EAST).said == "project_manager_required"  # no longer assigned


def test_nobody_else_does(town: Town) -> None:
    town.operator(WU, BUILD, EAST)
    for who in (LI, WU, WEST_PM, GU):
        assert town.enter_self(who, EAST).said == "project_manager_required"
        assert town.exit_self(who, EAST).said == "project_manager_required"
    # Nor for another.
    for source in (as_staff(EAST, BUILD_PM), as_person(STEEL_PM), as_staff(WEST, STEEL_PM)):
        assert town.send("entry.self", source, STEEL_PM, site=EAST).said == (
            "project_manager_required"
        )
        assert town.send("exit.self", source, STEEL_PM, site=EAST).said == (
            "project_manager_required"
        )


def test_by_oneself_into_a_closed_or_unknown_site() -> None:
    town = busy_town()
    assert town.enter_self(BUILD_PM, "nowhere").said == "site_unknown"
    town.set_site(EAST, "completed")
    assert town.enter_self(BUILD_PM, EAST).said == "site_closed"
    assert town.exit_self(BUILD_PM, "nowhere").said == "project_manager_required"


def test_by_oneself_with_an_entry_waiting() -> None:
    town = busy_town()
    entry = town.scan(BUILD_PM, EAST, BUILD_PM).id  # he may scan himself
    assert town.enter_self(BUILD_PM, EAST).said == ["entry.lapsed", "presence.started"]
    assert town.process(BUILD_PM, EAST, entry, BUILD_PM).said == "entry_not_pending"


def test_a_project_manager_no_longer_named_is_shown_out(town: Town) -> None:
    town.enter_self(STEEL_PM, EAST)
    town.set_manager(EAST, STEEL, None)
    assert town.exit_self(STEEL_PM, EAST).said == "project_manager_required"
    town.register_exit(STEEL_PM, EAST, BUILD_PM)
    assert town.confirm_exit(STEEL_PM, EAST, BUILD_PM).said == PRESENCE_ENDED


# --- exit -----------------------------------------------------------------------------------------


def test_registered_and_confirmed(town: Town) -> None:
    town.entered(LI, EAST)
    assert town.confirm_exit(LI, EAST, BUILD_PM).said == "exit_not_pending"
    registered = town.register_exit(LI, EAST, BUILD_PM, batch="b")
    assert (registered.said, registered.data) == (
        ["exit.registered"],
        [{"site": EAST, "employer": CREW}],
    )
    assert registered.command.batch == "b"
    assert town.register_exit(LI, EAST, BUILD_PM).said == "already_pending"
    left = town.confirm_exit(LI, EAST, BUILD_PM)
    assert left.said == PRESENCE_ENDED
    assert [data["cause"] for data in left.data] == ["exit", "exit"]


def test_exit_when_already_out(town: Town) -> None:
    town.entered(LI, EAST)
    town.left(LI, EAST)
    assert town.register_exit(LI, EAST, BUILD_PM).said == "not_present"
    assert town.confirm_exit(LI, EAST, BUILD_PM).said == "not_present"


def test_coming_back_takes_a_new_confirmed_assignment(town: Town) -> None:
    town.entered(LI, EAST)
    town.left(LI, EAST)
    town.later(minutes=1)
    assert town.scan(LI, EAST, BUILD_PM).said == "assignment_not_confirmed"
    town.assigned(LI, EAST)
    town.entered(LI, EAST)
    # And the exit registered before is none of this presence.
    assert town.confirm_exit(LI, EAST, BUILD_PM).said == "exit_not_pending"


@pytest.mark.parametrize(
    ("who", "said"),
    [
        (BUILD_PM, ["exit.registered"]),
        (STEEL_PM, "general_contractor_required"),
        (CREW_PM, "general_contractor_required"),  # not even his own people
        (WEST_PM, "operator_required"),
        (LI, "operator_required"),
        (GU, "operator_required"),
    ],
)
def test_who_shows_people_out(town: Town, who: str, said: object) -> None:
    town.entered(LI, EAST)
    assert town.register_exit(LI, EAST, who).said == said


@pytest.mark.parametrize("employer", [BUILD, STEEL, CREW])
@pytest.mark.parametrize("present", [True, False])
def test_any_operator_of_the_site_shows_people_out(
    town: Town, employer: str, present: bool
) -> None:
    town.operator(WU, employer, EAST, present=present)
    town.entered(LI, EAST)
    assert town.register_exit(LI, EAST, WU).said == ["exit.registered"]
    assert town.confirm_exit(LI, EAST, WU).said == PRESENCE_ENDED


def test_a_project_manager_who_is_an_operator_shows_people_out(town: Town) -> None:
    town.authorize(CREW_PM, EAST, BUILD_PM)
    town.entered(LI, EAST)
    assert town.register_exit(LI, EAST, CREW_PM).said == ["exit.registered"]


def test_an_operator_of_another_site_does_not(town: Town) -> None:
    town.operator(WU, CREW, WEST)
    town.entered(LI, EAST)
    assert town.register_exit(LI, EAST, WU).said == "operator_required"


def test_no_other_source_shows_people_out(town: Town) -> None:
    town.entered(LI, EAST)
    for source in (as_person(LI), as_employer(CREW), as_employer(BUILD), as_staff(WEST, BUILD_PM)):
        assert town.send("exit.register", source, LI, site=EAST).said == "operator_required"


def test_out_of_the_other_site(town: Town) -> None:
    town.entered(LI, EAST)
    assert town.register_exit(LI, WEST, WEST_PM).said == "not_present"


def test_a_named_project_manager_of_the_general_contractor_need_not_be_confirmed(
    town: Town,
) -> None:
    town.entered(LI, EAST)
    town.hired(HE, BUILD, "manager")
    town.set_manager(EAST, BUILD, HE)
    assert town.register_exit(LI, EAST, BUILD_PM).said == "operator_required"
    assert town.register_exit(LI, EAST, HE).said == ["exit.registered"]


@pytest.mark.parametrize("status", ["suspended", "completed"])
def test_a_closed_site_admits_nobody_and_lets_everybody_out(town: Town, status: str) -> None:
    town.entered(LI, EAST)
    town.enter_self(STEEL_PM, EAST)
    town.hired(WU, CREW)
    town.assigned(WU, EAST)
    town.set_site(EAST, status)
    assert town.scan(WU, EAST, BUILD_PM).said == "site_closed"
    assert town.check_in(LI, EAST).said == ["attendance.recorded"]
    town.left(LI, EAST)
    assert town.exit_self(STEEL_PM, EAST).said == PRESENCE_ENDED


def test_a_removed_site_lets_people_out_by_its_operators(town: Town) -> None:
    town.operator(WU, CREW, EAST)
    town.entered(LI, EAST)
    del town.sites[EAST]
    assert town.register_exit(LI, EAST, BUILD_PM).said == "operator_required"
    assert town.register_exit(LI, EAST, WU).said == ["exit.registered"]
    assert town.confirm_exit(LI, EAST, WU).said == PRESENCE_ENDED


def test_a_registered_exit_goes_with_the_presence(town: Town) -> None:
    town.entered(LI, EAST)
    town.register_exit(LI, EAST, BUILD_PM)
    town.dismissed(LI, CREW)
    assert town.confirm_exit(LI, EAST, BUILD_PM).said == "not_present"
