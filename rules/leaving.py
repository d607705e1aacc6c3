"""Dismissal 解聘 and departure 离职 (manual: 八、如何操作解聘, 用工登记常见问题 2)."""

from rules.case import Answer, Case, blank
from rules.evolve import Event
from rules.person import Employment


def dismissal_request(case: Case) -> Answer:
    employment = _employed_here(case)
    if not case.from_employer():
        return "not_authorized"
    if employment is None:
        return "not_employed_here"
    if blank(case.data.reason):
        return "reason_required"
    if employment.dismissal == "requested":
        return "already_pending"
    if _manager_on_site(case):
        return "manager_on_site"
    return [case.event("dismissal.requested", employer=case.data.employer, reason=case.data.reason)]


def dismissal_withdraw(case: Case) -> Answer:
    if not case.from_employer():
        return "not_authorized"
    return _take_back(case, "dismissal", "dismissal.withdrawn")


def dismissal_refuse(case: Case) -> Answer:
    if not case.from_person():
        return "not_authorized"
    return _take_back(case, "dismissal", "dismissal.refused")


def dismissal_agree(case: Case) -> Answer:
    if not case.from_person():
        return "not_authorized"
    return _end(case, "dismissal", "dismissed")


def departure_request(case: Case) -> Answer:
    employment = _employed_here(case)
    if not case.from_person():
        return "not_authorized"
    if employment is None:
        return "not_employed_here"
    if employment.departure == "requested":
        return "already_pending"
    if _manager_on_site(case):
        return "manager_on_site"
    return [case.event("departure.requested", employer=case.data.employer)]


def departure_withdraw(case: Case) -> Answer:
    if not case.from_person():
        return "not_authorized"
    return _take_back(case, "departure", "departure.withdrawn")


def departure_refuse(case: Case) -> Answer:
    if not case.from_employer():
        return "not_authorized"
    return _take_back(case, "departure", "departure.refused")


def departure_approve(case: Case) -> Answer:
    # The bureau answers for an employer that no longer does.
    if not case.from_employer() and case.command.source != "/bureau":
        return "not_authorized"
    return _end(case, "departure", "departed")


def _employed_here(case: Case) -> Employment | None:
    employment = case.person.employment
    return employment if employment and employment.employer == case.data.employer else None


def _pending(case: Case, kind: str) -> bool:
    employment = _employed_here(case)
    return employment is not None and getattr(employment, kind) == "requested"


def _manager_on_site(case: Case) -> bool:
    """A manager exits the site first; a worker need not (manual: 八)."""
    return case.person.is_manager and case.person.presence is not None


def _take_back(case: Case, kind: str, step: str) -> Answer:
    if not _pending(case, kind):
        return "nothing_pending"
    return [case.event(step, employer=case.data.employer)]


def _end(case: Case, kind: str, cause: str) -> Answer:
    if not _pending(case, kind):
        return "nothing_pending"
    if _manager_on_site(case):
        return "manager_on_site"
    return [
        case.event("employment.ended", employer=case.data.employer, cause=cause),
        *end_presence(case, cause),
        *end_waiting_entry(case),
        *end_assignment(case, cause),
    ]


def end_presence(case: Case, cause: str) -> list[Event]:
    """The events that end a presence, if there is one."""
    presence = case.person.presence
    if presence is None:
        return []
    return [
        case.event(
            "presence.ended",
            entry=presence.entry,
            site=presence.site,
            employer=presence.employer,
            cause=cause,
        )
    ]


def end_waiting_entry(case: Case) -> list[Event]:
    """The events that end a waiting entry, if there is one."""
    entry = case.person.entry
    if entry is None:
        return []
    return [case.event("entry.lapsed", entry=entry.id, site=entry.site, employer=entry.employer)]


def revoke_operator(case: Case, cause: str | None) -> list[Event]:
    """The events that end an authorisation, if there is one."""
    assignment = case.person.assignment
    if assignment is None or assignment.operator != "authorized":
        return []
    return [
        case.event(
            "operator.revoked", site=assignment.site, employer=assignment.employer, cause=cause
        )
    ]


def end_assignment(case: Case, cause: str) -> list[Event]:
    """The events that end a live assignment with its authorisation, if there is one."""
    assignment = case.person.assignment
    if assignment is None:
        return []
    return [
        *revoke_operator(case, cause),
        case.event(
            "assignment.ended",
            assignment=assignment.id,
            site=assignment.site,
            employer=assignment.employer,
            position=assignment.position,
            cause=cause,
        ),
    ]
