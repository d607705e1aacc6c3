"""Assignments and operators (manual: 三、如何进行分配项目; 四、分配人员确认; 六、如何考勤)."""

from typing import Final

from rules.authority import confirmed_for, is_site_side, named_for, participates
from rules.case import Answer, Case, blank
from rules.evolve import Event
from rules.leaving import end_waiting_entry, revoke_operator
from rules.person import Assignment

PROJECT_MANAGER: Final = "project_manager"
"""The one position that has a meaning to the rules."""


def request(case: Case) -> Answer:
    data, person = case.data, case.person
    if not _may_assign(case):
        return "not_authorized"
    employment = person.employment
    if employment is None:
        return "not_employed"
    if employment.employer != data.employer:
        return "employed_elsewhere"
    if employment.status != "registered":
        return "registration_incomplete"
    site = case.site()
    if site is None:
        return "site_unknown"
    if site.status != "active":
        return "site_closed"
    if not participates(site, data.employer):
        return "employer_not_on_site"
    position = employment.position if blank(data.position) else data.position
    if employment.role == "manager" and blank(position):
        return "position_required"
    if position == PROJECT_MANAGER and not any(
        participant.employer == data.employer
        and participant.project_manager == case.command.subject
        for participant in site.participants
    ):
        return "not_the_named_manager"
    if person.assignment is not None:
        return "already_assigned"
    return [
        case.event(
            "assignment.requested",
            assignment=case.command.id,
            site=data.site,
            employer=data.employer,
            position=position,
        )
    ]


def withdraw(case: Case) -> Answer:
    data, assignment = case.data, case.person.assignment
    if not _may_assign(case):
        return "not_authorized"
    if (
        assignment is None
        or (assignment.id, assignment.site, assignment.employer)
        != (data.assignment, data.site, data.employer)
        or case.person.presence is not None
    ):
        return "assignment_not_pending"
    return [
        *end_waiting_entry(case),
        *revoke_operator(case, "withdrawn"),
        _step(case, "assignment.withdrawn", assignment),
    ]


def approve(case: Case) -> Answer:
    return _answer(case, "assignment.confirmed")


def reject(case: Case) -> Answer:
    return _answer(case, "assignment.rejected")


def _answer(case: Case, step: str) -> Answer:
    data, assignment = case.data, case.person.assignment
    if not is_site_side(case.world, data.site, case.staff(), case.person.employer):
        return "not_authorized"
    if (
        assignment is None
        or (assignment.id, assignment.site) != (data.assignment, data.site)
        or assignment.status != "requested"
    ):
        return "assignment_not_pending"
    return [_step(case, step, assignment)]


def _step(case: Case, event_type: str, assignment: Assignment) -> Event:
    return case.event(
        event_type,
        assignment=assignment.id,
        site=assignment.site,
        employer=assignment.employer,
        position=assignment.position,
    )


def _may_assign(case: Case) -> bool:
    """The employer, or a named project manager there of the general contractor or of it."""
    return case.from_employer() or any(
        participant.type == "general_contractor" or participant.employer == case.data.employer
        for participant in named_for(case.world, case.site(), case.staff())
    )


def authorize(case: Case) -> Answer:
    return _operator(case, "operator.authorized", "authorized", "already_authorized")


def revoke(case: Case) -> Answer:
    return _operator(case, "operator.revoked", "none", "not_authorized_before")


def _operator(case: Case, step: str, becomes: str, nothing_to_do: str) -> Answer:
    person, assignment = case.person, case.person.assignment
    manages = confirmed_for(case.world, case.site(), case.staff())
    if not manages:
        return "not_authorized"
    if not person.is_manager:
        return "manager_required"
    if assignment is None or assignment.status != "confirmed" or assignment.site != case.data.site:
        return "assignment_not_confirmed"
    if not any(
        participant.type == "general_contractor" or participant.employer == person.employer
        for participant in manages
    ):
        return "not_authorized"
    if assignment.operator == becomes:
        return nothing_to_do
    return [case.event(step, site=assignment.site, employer=assignment.employer)]
