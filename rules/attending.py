"""Attendance 考勤 (manual: 六、如何考勤; contract: Attendance)."""

from rules.authority import confirmed_for, is_operator
from rules.calendar import shanghai_date
from rules.case import Answer, Case
from rules.codes import in_window, parse
from rules.entering import personal_code, scanned_by_right
from schemas.limits import NIGHT_SHIFT_MS


def scan(case: Case) -> Answer:
    data = case.data
    if not scanned_by_right(case):
        return "not_authorized"
    code = personal_code(case)
    if isinstance(code, str):
        return code
    if not confirmed_for(case.world, case.site(), data.scanner) and not is_operator(
        case.world, data.site, data.scanner
    ):
        return "operator_required"
    return _record(case, "staff", data.scanner)


def checkin(case: Case) -> Answer:
    data = case.data
    if not case.from_person():
        return "not_authorized"
    code = parse(case.world.code_keys, data.code)
    if code is None or code.kind != "site":
        return "code_invalid"
    if not in_window(code, case.at_ms):
        return "code_expired"
    if code.id != data.site:
        return "wrong_site"
    return _record(case, "self", None)


def _record(case: Case, method: str, scanner: str | None) -> Answer:
    at_sites = dict(_tenures(case))
    employer = at_sites.get(case.data.site)
    if employer is None:
        return "wrong_site" if at_sites else "not_present"
    return [
        case.event(
            "attendance.recorded",
            site=case.data.site,
            employer=employer,
            day=_day(case),
            direction=case.data.direction,
            method=method,
            scanner=scanner,
        )
    ]


def _tenures(case: Case) -> list[tuple[str, str]]:
    """(site, employer) of every tenure that holds the time of the scan."""
    at_ms, presence = case.at_ms, case.person.presence
    found = [
        (tenure.site, tenure.employer)
        for tenure in case.person.tenures
        if tenure.from_ms <= at_ms <= tenure.to_ms
    ]
    if presence is not None and presence.since_ms <= at_ms:
        found.append((presence.site, presence.employer))
    return found


def _day(case: Case) -> str:
    """The attendance day: of an `out` in the night shift, the day of the `in` it belongs to."""
    at_ms = case.at_ms
    if case.data.direction == "out":
        site = case.data.site
        ins = [
            clock_in.at_ms
            for clock_in in case.person.clock_ins
            if clock_in.at_ms < at_ms and clock_in.site == site
        ]
        if ins and at_ms - max(ins) < NIGHT_SHIFT_MS:
            at_ms = max(ins)
    return shanghai_date(at_ms).isoformat()
