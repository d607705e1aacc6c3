"""Entry and exit (manual: 五、如何操作进场; 七、如何操作退场; contract: Entry, Exit)."""

from collections.abc import Callable
from typing import Final

from rules.authority import (
    World,
    confirmed_for,
    is_device,
    is_operator,
    is_site_side,
    named_for,
    participates,
)
from rules.case import Answer, Case
from rules.codes import Code, in_window
from rules.evolve import Event
from rules.leaving import end_assignment, end_presence, end_waiting_entry
from rules.person import Person
from schemas.references import Site


def scan(case: Case) -> Answer:
    data = case.data
    if not scanned_by_right(case):
        return "not_authorized"
    code = personal_code(case)
    if isinstance(code, str):
        return code
    if code_spent(case.person, code):
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
    code = case.world.code(case.data.code)
    if code is None or code.kind != "person":
        return "code_invalid"
    if not in_window(code, case.at_ms):
        return "code_expired"
    if code.id != case.command.subject:
        return "code_not_this_person"
    return code


def code_spent(person: Person, code: Code) -> bool:
    """Whether an entry scan spent the code before."""
    spent = code.step << 8 | code.key_id
    return code.step <= person.spent_floor or spent in person.spent_codes


def _site_is_open(world: World, person: Person, site: Site, scanner: str | None) -> str | None:
    return None if site.status == "active" else "site_closed"


def _employer_on_site(world: World, person: Person, site: Site, scanner: str | None) -> str | None:
    employer = person.employer
    return None if employer is None or participates(site, employer) else "employer_not_on_site"


def _scanner_may(world: World, person: Person, site: Site, scanner: str | None) -> str | None:
    if scanner is None:
        return None
    manages = confirmed_for(world, site, scanner)
    if not manages:
        return "project_manager_required"
    for participant in manages:
        if participant.type == "general_contractor" or (
            participant.type == "professional_subcontractor"
            and participant.employer == person.employer
        ):
            return None
    return "general_contractor_required"


def _assigned_here(world: World, person: Person, site: Site, scanner: str | None) -> str | None:
    assignment = person.assignment
    if assignment is None or assignment.status != "confirmed":
        return "assignment_not_confirmed"
    return None if assignment.site == site.site else "wrong_site"


def _still_out(world: World, person: Person, site: Site, scanner: str | None) -> str | None:
    return None if person.presence is None else "already_present"


EntryGuard = Callable[[World, Person, Site, str | None], str | None]

ENTRY_GUARDS: Final[tuple[tuple[EntryGuard, tuple[str, ...]], ...]] = (
    (_site_is_open, ("site_closed",)),
    (_employer_on_site, ("employer_not_on_site",)),
    (_scanner_may, ("project_manager_required", "general_contractor_required")),
    (_assigned_here, ("assignment_not_confirmed", "wrong_site")),
    (_still_out, ("already_present",)),
)
"""What a scan and its processing ask, in order, once the site is known: each a guard that answers
None or a code, and the codes it may answer in their order. No guard relies on another."""


def may_enter(case: Case, scanner: str | None) -> str | None:
    """The first guard that keeps the person from entering the site now, if any.

    `scanner` is None when a scan accepted before is processed: then its scanner is not judged.
    """
    site = case.site()
    if site is None:
        return "site_unknown"
    for guard, _ in ENTRY_GUARDS:
        if failed := guard(case.world, case.person, site, scanner):
            return failed
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
    if not is_operator(case.world, case.data.site, staff) and (
        "general_contractor" not in [participant.type for participant in named]
    ):
        return "general_contractor_required" if named else "operator_required"
    return None if _present_here(case) else "not_present"


def _present_here(case: Case) -> bool:
    presence = case.person.presence
    return presence is not None and bool(presence.site == case.data.site)


def _leave(case: Case) -> list[Event]:
    return [*end_presence(case, "exit"), *end_assignment(case, "exit")]
