"""Attendance: who records it, in which tenure, for which day (contract: Attendance)."""

import pytest

from rules import clock_ins
from schemas.limits import CLOCK_INS_MAX, DAY_MS, HOUR_MS, MINUTE_MS, TENURES_MAX
from tests.rules.town import (
    BUILD,
    BUILD_PM,
    CREW,
    CREW_PM,
    EAST,
    HE,
    LI,
    STEEL,
    STEEL_PM,
    WEST,
    WEST_PM,
    WU,
    Town,
    as_staff,
    busy_town,
    code,
    site_code,
    utc,
)

RECORDED = ["attendance.recorded"]


@pytest.fixture
def town() -> Town:
    """With LI, a worker present at EAST since 08:01 in Shanghai."""
    return busy_town_at("2026-11-23T08:00:00+08:00").at_work(LI, CREW, EAST)


def busy_town_at(text: str) -> Town:
    town = busy_town()
    town.now_ms = utc(text)
    return town


# --- who ------------------------------------------------------------------------------------------


def test_scanned_by_staff(town: Town) -> None:
    answer = town.clock(LI, EAST, BUILD_PM, "in")
    assert answer.said == RECORDED
    assert answer.data == [
        {
            "site": EAST,
            "employer": CREW,
            "day": "2026-11-23",
            "direction": "in",
            "method": "staff",
            "scanner": BUILD_PM,
        }
    ]


def test_by_the_person(town: Town) -> None:
    assert town.check_in(LI, EAST).data == [
        {"site": EAST, "employer": CREW, "day": "2026-11-23", "method": "self"}
    ]


@pytest.mark.parametrize("scanner", [BUILD_PM, STEEL_PM, CREW_PM])
def test_any_confirmed_project_manager_scans(town: Town, scanner: str) -> None:
    assert town.clock(LI, EAST, scanner).said == RECORDED


@pytest.mark.parametrize("employer", [BUILD, STEEL, CREW])
@pytest.mark.parametrize("present", [True, False])
def test_any_operator_of_the_site_scans(town: Town, employer: str, present: bool) -> None:
    town.operator(WU, employer, EAST, present=present)
    assert town.clock(LI, EAST, WU).said == RECORDED
    town.revoke(WU, EAST, BUILD_PM)
    assert town.clock(LI, EAST, WU).said == "operator_required"


def test_nobody_else_scans(town: Town) -> None:
    town.operator(WU, CREW, WEST)
    town.hired(HE, BUILD, "manager")
    town.set_manager(EAST, BUILD, HE)  # named, but not confirmed
    for scanner in (LI, WU, HE, WEST_PM, BUILD_PM):
        assert town.clock(LI, EAST, scanner).said == "operator_required"
    assert town.clock(LI, EAST, STEEL_PM, by=as_staff(EAST, CREW_PM)).said == "not_authorized"
    assert town.clock(LI, EAST, STEEL_PM, by=as_staff(EAST, STEEL_PM)).said == RECORDED


# --- codes ----------------------------------------------------------------------------------------


def test_a_staff_scan_takes_a_personal_code(town: Town) -> None:
    for shown, said in (
        ("", "code_invalid"),
        (site_code(EAST, town.now_ms), "code_invalid"),
        (code(LI, town.now_ms - 3 * MINUTE_MS), "code_expired"),
        (code(WU, town.now_ms), "code_not_this_person"),
    ):
        assert town.clock(LI, EAST, BUILD_PM, code=shown).said == said


def test_a_check_in_takes_the_sites_code(town: Town) -> None:
    for shown, said in (
        ("", "code_invalid"),
        (code(LI, town.now_ms), "code_invalid"),
        (site_code(EAST, town.now_ms - 2 * DAY_MS), "code_expired"),
        (site_code(WEST, town.now_ms - 2 * DAY_MS), "code_expired"),
        (site_code(WEST, town.now_ms), "wrong_site"),
    ):
        assert town.check_in(LI, EAST, code=shown).said == said


def test_a_sites_code_on_its_day_and_the_next(town: Town) -> None:
    """Its day is that of UTC: the step is Unix time / 86,400 s."""
    day_ms = utc("2026-11-24T00:00:00+00:00")
    town.now_ms = day_ms + 2 * DAY_MS
    shown = site_code(EAST, day_ms)
    for at_ms, said in (
        (day_ms - 1, "code_expired"),
        (day_ms, RECORDED),
        (day_ms + 2 * DAY_MS - 1, RECORDED),
        (day_ms + 2 * DAY_MS, "code_expired"),
    ):
        assert town.check_in(LI, EAST, at_ms=at_ms, code=shown).said == said


# --- tenure ---------------------------------------------------------------------------------------


def test_a_tenure_runs_from_the_time_it_started_to_the_time_it_ended(town: Town) -> None:
    start_ms = town.now_ms
    town.later(hours=9)
    town.left(LI, EAST)
    end_ms = town.now_ms
    town.later(days=3)
    # Uploaded days late and out of order.
    for at_ms, said in (
        (end_ms, RECORDED),
        (start_ms - 1, "not_present"),
        (start_ms, RECORDED),
        (end_ms + 1, "not_present"),
    ):
        assert town.check_in(LI, EAST, at_ms=at_ms).said == said


def test_it_is_the_time_of_the_command_that_counts_not_the_brokers() -> None:
    town = busy_town().hired(LI, CREW)
    town.assigned(LI, EAST)
    entry = town.waiting(LI, EAST)
    start_ms = town.now_ms - 2 * HOUR_MS
    town.process(LI, EAST, entry, BUILD_PM, at_ms=start_ms)
    assert town.check_in(LI, EAST, at_ms=start_ms).said == RECORDED
    assert town.check_in(LI, EAST, at_ms=start_ms - 1).said == "not_present"


def test_a_tenure_never_ends_before_its_start(town: Town) -> None:
    start_ms = town.now_ms
    town.register_exit(LI, EAST, BUILD_PM)
    town.confirm_exit(LI, EAST, BUILD_PM, at_ms=start_ms - HOUR_MS)
    assert town.check_in(LI, EAST, at_ms=start_ms - HOUR_MS).said == "not_present"
    assert town.check_in(LI, EAST, at_ms=start_ms).said == RECORDED
    assert town.check_in(LI, EAST, at_ms=start_ms + 1).said == "not_present"


def test_present_at_another_site(town: Town) -> None:
    assert town.check_in(LI, WEST).said == "wrong_site"
    assert town.clock(LI, WEST, WEST_PM).said == "wrong_site"
    assert town.check_in(WU, WEST).said == "not_present"


def test_a_late_scan_goes_to_the_tenure_of_its_time(town: Town) -> None:
    first_ms = town.now_ms
    town.later(hours=1)
    town.dismissed(LI, CREW)
    town.later(hours=1)
    town.hired(LI, STEEL)
    town.assigned(LI, WEST)
    town.entered(LI, WEST)
    assert town.check_in(LI, EAST, at_ms=first_ms).data[0]["employer"] == CREW
    assert town.check_in(LI, WEST, at_ms=first_ms).said == "wrong_site"
    assert town.check_in(LI, WEST).data[0]["employer"] == STEEL
    assert town.check_in(LI, EAST).said == "wrong_site"
    assert town.check_in(LI, EAST, at_ms=first_ms + 90 * MINUTE_MS).said == "not_present"


def test_a_waiting_entry_is_no_presence() -> None:
    town = busy_town().hired(LI, CREW)
    town.assigned(LI, EAST)
    town.waiting(LI, EAST)
    assert town.check_in(LI, EAST).said == "not_present"


def test_the_scanners_authority_is_judged_when_decided(town: Town) -> None:
    at_ms = town.now_ms
    town.operator(WU, CREW, EAST)
    town.later(hours=1)
    town.revoke(WU, EAST, BUILD_PM)
    assert town.clock(LI, EAST, WU, at_ms=at_ms).said == "operator_required"


def test_people_inside_a_closed_or_removed_site_are_still_recorded(town: Town) -> None:
    town.operator(WU, CREW, EAST)
    town.set_site(EAST, "completed")
    town.set_employer(CREW, "suspended")
    assert town.clock(LI, EAST, BUILD_PM).said == RECORDED
    del town.sites[EAST]
    assert town.clock(LI, EAST, BUILD_PM).said == "operator_required"
    assert town.clock(LI, EAST, WU).said == RECORDED
    assert town.check_in(LI, EAST).said == RECORDED


def test_past_the_memory_of_tenures_the_earliest_ended_is_forgotten() -> None:
    town = busy_town().hired(LI, CREW)
    starts_ms = []
    for _ in range(TENURES_MAX + 1):
        town.assigned(LI, EAST)
        town.entered(LI, EAST)
        starts_ms.append(town.now_ms)
        town.left(LI, EAST)
    said = [town.check_in(LI, EAST, at_ms=at_ms).said for at_ms in starts_ms]
    assert said == ["not_present"] + [RECORDED] * TENURES_MAX


def test_a_tenure_is_remembered_for_as_long_as_a_scan_of_it_may_come(town: Town) -> None:
    town.later(minutes=1)
    town.left(LI, EAST)
    end_ms = town.now_ms
    town.now_ms = end_ms + 7 * DAY_MS
    town.assigned(LI, EAST)
    entry = town.scan(LI, EAST, BUILD_PM).id
    town.process(LI, EAST, entry, BUILD_PM)
    town.left(LI, EAST)  # prunes
    assert town.check_in(LI, EAST, at_ms=end_ms).said == RECORDED
    town.now_ms += 1
    assert town.check_in(LI, EAST, at_ms=end_ms).said == "too_late"


# --- days and night shifts ------------------------------------------------------------------------


def day(town: Town, direction: str | None, text: str, site: str = EAST) -> str:
    at_ms = utc(text)
    town.now_ms = max(town.now_ms, at_ms)
    return str(town.check_in(LI, site, direction, at_ms=at_ms).data[0]["day"])


@pytest.mark.parametrize("direction", [None, "in", "out"])
def test_midnight_is_shanghais(town: Town, direction: str | None) -> None:
    assert day(town, direction, "2026-11-25T23:59:59.999+08:00") == "2026-11-25"
    assert day(town, direction, "2026-11-26T16:00:00Z") == "2026-11-27"


def test_an_out_belongs_to_the_day_of_its_in(town: Town) -> None:
    assert day(town, "in", "2026-11-24T20:00:00+08:00") == "2026-11-24"
    assert day(town, "out", "2026-11-25T06:00:00+08:00") == "2026-11-24"
    assert day(town, None, "2026-11-25T06:00:00+08:00") == "2026-11-25"
    assert day(town, "in", "2026-11-25T06:00:00+08:00") == "2026-11-25"


def test_less_than_sixteen_hours_later(town: Town) -> None:
    day(town, "in", "2026-11-24T20:00:00+08:00")
    assert day(town, "out", "2026-11-25T11:59:59.999+08:00") == "2026-11-24"
    assert day(town, "out", "2026-11-25T12:00:00+08:00") == "2026-11-25"


def test_only_the_latest_earlier_in_counts(town: Town) -> None:
    day(town, "in", "2026-11-24T20:00:00+08:00")
    day(town, "in", "2026-11-25T00:30:00+08:00")
    assert day(town, "out", "2026-11-25T06:00:00+08:00") == "2026-11-25"
    assert day(town, "out", "2026-11-25T00:10:00+08:00") == "2026-11-24"


def test_the_in_may_have_been_uploaded_later_than_other_ins(town: Town) -> None:
    """Latest in time, not in arrival."""
    day(town, "in", "2026-11-25T20:00:00+08:00")
    day(town, "in", "2026-11-24T20:00:00+08:00")
    assert day(town, "out", "2026-11-26T05:00:00+08:00") == "2026-11-25"
    assert day(town, "out", "2026-11-25T05:00:00+08:00") == "2026-11-24"


def test_an_in_that_comes_after_its_out_changes_nothing_recorded(town: Town) -> None:
    assert day(town, "out", "2026-11-25T05:00:00+08:00") == "2026-11-25"
    assert day(town, "in", "2026-11-24T20:00:00+08:00") == "2026-11-24"
    assert day(town, "out", "2026-11-25T05:00:00+08:00") == "2026-11-24"


def test_a_rejected_in_does_not_count(town: Town) -> None:
    town.now_ms = utc("2026-11-24T20:00:00+08:00")
    assert town.check_in(LI, WEST, "in").said == "wrong_site"
    assert day(town, "out", "2026-11-25T06:00:00+08:00") == "2026-11-25"


def test_the_in_of_another_site_does_not_count(town: Town) -> None:
    day(town, "in", "2026-11-24T20:00:00+08:00")
    town.left(LI, EAST)
    town.assigned(LI, WEST)
    town.entered(LI, WEST)
    assert day(town, "out", "2026-11-25T06:00:00+08:00", WEST) == "2026-11-25"


def test_the_in_of_an_earlier_tenure_at_the_site_counts(town: Town) -> None:
    day(town, "in", "2026-11-24T20:00:00+08:00")
    town.left(LI, EAST)
    town.assigned(LI, EAST)
    town.entered(LI, EAST)
    assert day(town, "out", "2026-11-25T06:00:00+08:00") == "2026-11-24"


def test_a_staff_scan_and_a_check_in_make_one_shift(town: Town) -> None:
    town.now_ms = utc("2026-11-24T20:00:00+08:00")
    town.clock(LI, EAST, BUILD_PM, "in")
    assert day(town, "out", "2026-11-25T06:00:00+08:00") == "2026-11-24"


def test_past_the_memory_of_ins_the_earliest_is_forgotten(town: Town) -> None:
    day(town, "in", "2026-11-24T20:00:00+08:00")
    town.now_ms = utc("2026-11-25T00:00:00+08:00")
    for _ in range(CLOCK_INS_MAX):
        town.later(minutes=1)
        town.check_in(LI, EAST, "in")
    assert _count(town.person(LI).clock_ins) == CLOCK_INS_MAX
    # Of the forgotten one's day no more, and nothing worse.
    assert day(town, "out", "2026-11-25T00:00:30+08:00") == "2026-11-25"


def test_an_in_is_remembered_for_as_long_as_an_out_may_reach_it(town: Town) -> None:
    day(town, "in", "2026-11-24T20:00:00+08:00")
    assert day(town, "in", "2026-12-02T06:00:00+08:00") == "2026-12-02"  # forgets
    # Uploaded seven days late.
    assert day(town, "out", "2026-11-25T06:00:00+08:00") == "2026-11-24"


def test_ins_that_no_out_can_reach_are_forgotten(town: Town) -> None:
    for _ in range(100):
        town.later(hours=8)
        town.check_in(LI, EAST, "in")
    assert _count(town.person(LI).clock_ins) <= 3 * 8


def _count(ins: bytes) -> int:
    return len(ins) // len(clock_ins.pack(EAST, 0))
