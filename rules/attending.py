"""Attendance 考勤 (manual: 六、如何考勤; contract: Attendance)."""

from rules import clock_ins
from rules.authority import confirmed_for, is_operator
from rules.calendar import shanghai_day
from rules.case import Answer, Case
from rules.codes import in_window, parse
from rules.entering import personal_code, scanned_by_right
from rules.evolve import Event
from rules.person import Person
from schemas.limits import NIGHT_SHIFT_MS


def scan(case: Case) -> Answer:
    data = case.data
    if not scanned_by_right(case):
        return "not_authorized"
    code = personal_code(case)
    if isinstance(code, str):
        return code
    if not is_operator(case.world, data.site, data.scanner) and not confirmed_for(
        case.world, case.site(), data.scanner
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
    person, at_ms = case.person, case.at_ms
    site, direction = case.data.site, case.data.direction
    employers = _employers_at(person, at_ms)
    employer = employers.get(site)
    if employer is None:
        return "wrong_site" if employers else "not_present"
    day = shanghai_day(_shift_began_ms(person, site, at_ms) if direction == "out" else at_ms)
    data = {"site": site, "employer": employer, "day": day}
    if direction is not None:
        data["direction"] = direction
    data["method"] = method
    if scanner is not None:
        data["scanner"] = scanner
    return [Event("attendance.recorded", at_ms, case.now_ms, data)]


def _employers_at(person: Person, at_ms: int) -> dict[str, str]:
    """Site -> employer of every tenure that holds this time."""
    found = {}
    for tenure in person.tenures:
        if tenure.from_ms <= at_ms <= tenure.to_ms:
            found[tenure.site] = tenure.employer
    presence = person.presence
    if presence is not None and presence.since_ms <= at_ms:
        found[presence.site] = presence.employer
    return found


def _shift_began_ms(person: Person, site: str, out_ms: int) -> int:
    """The time whose day an `out` belongs to: that of the `in` of a night shift, else its own."""
    in_ms = clock_ins.latest(person.clock_ins, site, out_ms - NIGHT_SHIFT_MS, out_ms)
    return out_ms if in_ms is None else in_ms
