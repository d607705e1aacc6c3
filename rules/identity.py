"""Identity: upload and the centre's result (manual: 一、使用说明; contract: Identity)."""

from rules.calendar import full_years
from rules.case import Answer, Case
from rules.person import Identity
from schemas.limits import AGE_YEARS_MIN, OVER_AGE_YEARS


def upload(case: Case) -> Answer:
    data = case.data
    if not case.from_person():
        return "not_authorized"
    if data.notice_accepted is not True:
        return "notice_not_accepted"
    if case.person.identity_status == "verified":
        return "already_verified"
    private = (case.command.id, data.name_tag, data.birth_date, data.sex)
    return [case.event("identity.submitted", private)]


def verify(case: Case) -> Answer:
    data, identity = case.data, case.person.identity
    if case.command.source != "/centre":
        return "not_authorized"
    if identity is None:
        return "identity_not_registered"
    if identity.status != "submitted" or data.upload not in (None, identity.upload):
        return []
    if data.result == "failed":
        return [case.event("identity.failed", reason=data.reason)]
    events = [case.event("identity.verified")]
    for offer in case.person.offers:  # oldest first; before verification all of them are parked
        cause = unfit(offer.name_tag, identity, case.at_ms)
        step = "offer.made" if cause is None else "offer.refused"
        events.append(case.event(step, offer=offer.id, employer=offer.employer, cause=cause))
    return events


def unfit(name_tag: str, identity: Identity, at_ms: int) -> str | None:
    """The name or age guard that an offer fails, if any."""
    if name_tag != identity.name_tag:
        return "name_mismatch"
    age_years = full_years(identity.birth_date, at_ms)
    if age_years < AGE_YEARS_MIN:
        return "under_age"
    if age_years >= OVER_AGE_YEARS[identity.sex]:
        return "over_age"
    return None
