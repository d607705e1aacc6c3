"""Entry and exit (manual: 五、如何操作进场; 七、如何操作退场; contract: Entry, Exit)."""

from rules.authority import (
    confirmed_for,
    is_device,
    is_operator,
    is_site_side,
    named_for,
    participates,
)
from rules.case import Answer, Case
from rules.codes import Code, in_window, parse
from rules.evolve import Event
from rules.leaving import end_assignment, end_presence, end_waiting_entry


def scan(case: Case) -> Answer:
    data = case.data
    if not scanned_by_right(case):
        return "not_authorized"
    code = personal_code(case)
    if isinstance(code, str):
        return code
    spent = code.step << 8 | code.key_id
    if code.step <= case.person.spent_floor or spent in case.person.spent_codes:
        return "code_replayed"
    if failed := may_enter(case, data.scanner):
        return failed
    return [
        *end_waiting_entry(case),
        case.event(
            "entry.scanned",
            (code.step, code.key_id),
            entry=case.command.id,
            site=data.site,
            employer=case.person.employer,
        ),
    ]


def scanned_by_right(case: Case) -> bool:
    """A device scans for anyone it names, staff only for themselves."""
    return is_device(case.command.source) or case.staff() == case.data.scanner


def personal_code(case: Case) -> Code | str:
    """The personal code that was scanned, or the code of the guard it fails."""
    code = parse(case.world.code_keys, case.data.code)
    if code is None or code.kind != "person":
        return "code_invalid"
    if not in_window(code, case.at_ms):
        return "code_expired"
    if code.id != case.command.subject:
        return "code_not_this_person"
    return code


def may_enter(case: Case, scanner: str | None) -> str | None:
    """The first guard that keeps the person from entering the site now, if any.

    `scanner` is None when a scan accepted before is processed: then its scanner is not judged.
    """
    person, site = case.person, case.site()
    if site is None:
        return "site_unknown"
    if site.status != "active":
        return "site_closed"
    employer = person.employer
    if employer is not None and not participates(site, employer):
        return "employer_not_on_site"
    if scanner is not None:
        manages = confirmed_for(case.world, site, scanner)
        if not manages:
            return "project_manager_required"
        if not any(
            participant.type == "general_contractor"
            or (
                participant.type == "professional_subcontractor"
                and participant.employer == employer
            )
            for participant in manages
        ):
            return "general_contractor_required"
    assignment = person.assignment
    if assignment is None or assignment.status != "confirmed":
        return "assignment_not_confirmed"
    if assignment.site != site.site:
        return "wrong_site"
    if person.presence is not None:
        return "already_present"
    return None


def process(case: Case) -> Answer:
    data, person = case.data, case.person
    if not is_site_side(case.world, data.site, case.staff(), person.employer):
        return "not_authorized"
    entry = person.entry
    if entry is None or (entry.id, entry.site) != (data.entry, data.site):
        return "entry_not_pending"
    if failed := may_enter(case, None):
        return failed
    return [
        case.event("presence.started", entry=entry.id, site=entry.site, employer=entry.employer)
    ]


def enter_self(case: Case) -> Answer:
    """项目经理进退场管理: a confirmed project manager enters without a scan."""
    site = case.site()
    if site is None:
        return "site_unknown"
    if site.status != "active":
        return "site_closed"
    if case.staff() != case.command.subject or not confirmed_for(
        case.world, site, case.command.subject
    ):
        return "project_manager_required"
    if case.person.presence is not None:
        return "already_present"
    return [
        *end_waiting_entry(case),
        case.event(
            "presence.started",
            entry=case.command.id,
            site=site.site,
            employer=case.person.employer,
        ),
    ]


def exit_register(case: Case) -> Answer:
    if failed := _may_show_out(case):
        return failed
    if case.person.presence_status == "exit_registered":
        return "already_pending"
    return [case.event("exit.registered", site=case.data.site, employer=case.person.employer)]


def exit_confirm(case: Case) -> Answer:
    if failed := _may_show_out(case):
        return failed
    if case.person.presence_status != "exit_registered":
        return "exit_not_pending"
    return _leave(case)


def exit_self(case: Case) -> Answer:
    """项目经理退场: a named project manager leaves; a closed site lets him out as well."""
    subject = case.command.subject
    if case.staff() != subject or not named_for(case.world, case.site(), subject):
        return "project_manager_required"
    if not _present_here(case):
        return "not_present"
    return _leave(case)


def _may_show_out(case: Case) -> str | None:
    staff = case.staff()
    named = named_for(case.world, case.site(), staff)
    if not is_operator(case.world, case.data.site, staff) and not any(
        participant.type == "general_contractor" for participant in named
    ):
        return "general_contractor_required" if named else "operator_required"
    return None if _present_here(case) else "not_present"


def _present_here(case: Case) -> bool:
    presence = case.person.presence
    return presence is not None and bool(presence.site == case.data.site)


def _leave(case: Case) -> list[Event]:
    return [*end_presence(case, "exit"), *end_assignment(case, "exit")]
