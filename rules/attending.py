"""Attendance 考勤 (manual: 六、如何考勤; contract: Attendance)."""

from rules import clock_ins
from rules.authority import confirmed_for, is_operator
from rules.calendar import shanghai_day
from rules.case import Answer, Case
from rules.codes import in_window
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
    code = case.world.code(data.code)
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
    employer = _employer_at(person, site, at_ms)
    if employer is None:
        return "wrong_site" if _was_present(person, at_ms) else "not_present"
    day = shanghai_day(_shift_began_ms(person, site, at_ms) if direction == "out" else at_ms)
    # All at once, for a dictionary that grows is made twice.
    data = {
        "site": site,
        "employer": employer,
        "day": day,
        "direction": direction,
        "method": method,
        "scanner": scanner,
    }
    if direction is None:
        del data["direction"]
    if scanner is None:
        del data["scanner"]
    return [Event("attendance.recorded", at_ms, case.now_ms, data)]


def _employer_at(person: Person, site: str, at_ms: int) -> str | None:
    """The employer for whom the person was present at the site at this time."""
    presence = person.presence
    if presence is not None and presence.site == site and presence.since_ms <= at_ms:
        return presence.employer
    for tenure in reversed(person.tenures):
        if tenure.site == site and tenure.holds(at_ms):
            return tenure.employer
    return None


def _was_present(person: Person, at_ms: int) -> bool:
    """At any site."""
    presence = person.presence
    return (presence is not None and presence.since_ms <= at_ms) or any(
        tenure.holds(at_ms) for tenure in person.tenures
    )


def _shift_began_ms(person: Person, site: str, out_ms: int) -> int:
    """The time whose day an `out` belongs to: that of the `in` of a night shift, else its own."""
    in_ms = clock_ins.latest(person.clock_ins, site, out_ms - NIGHT_SHIFT_MS, out_ms)
    return out_ms if in_ms is None else in_ms
