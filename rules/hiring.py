"""Offers and employment (manual: 二、如何进行用工登记; contract: Offer)."""

from rules.case import Answer, Case, blank
from rules.identity import unfit
from schemas.limits import OPEN_OFFERS_MAX


def offer(case: Case) -> Answer:
    data, person = case.data, case.person
    if not case.from_employer():
        return "not_authorized"
    if len(person.offers) >= OPEN_OFFERS_MAX:
        return "too_many"
    employer = case.world.employers.get(data.employer)
    if employer is None:
        return "employer_unknown"
    if employer.status == "suspended":
        return "employer_suspended"
    if person.identity is None:
        return "identity_not_registered"
    if cause := unfit(data.name_tag, person.identity, case.at_ms):
        return cause
    if person.employer == data.employer:
        return "already_employed_here"
    if any(other.employer == data.employer for other in person.offers):
        return "duplicate_registration"
    if person.employer is not None:
        return "employed_elsewhere"
    step = "offer.made" if person.identity.status == "verified" else "offer.parked"
    return [case.event(step, data.name_tag, offer=case.command.id, employer=data.employer)]


def withdraw(case: Case) -> Answer:
    data = case.data
    if not case.from_employer():
        return "not_authorized"
    offer = case.person.offer(data.offer)
    if offer is None or offer.employer != data.employer:
        return "offer_not_open"
    return [case.event("offer.withdrawn", offer=offer.id, employer=offer.employer)]


def confirm(case: Case) -> Answer:
    person = case.person
    if not case.from_person():
        return "not_authorized"
    offer = person.offer(case.data.offer)
    if offer is None or offer.status != "made":
        return "offer_not_open"
    employer = case.world.employers.get(offer.employer)
    if employer is None:
        # Its record was removed while the offer was open.
        return "employer_unknown"
    if employer.status == "suspended":
        return "employer_suspended"
    if person.employer is not None:
        return "employed_elsewhere"
    return [
        case.event("offer.accepted", offer=offer.id, employer=offer.employer),
        case.event("employment.started", employer=offer.employer),
        *(
            case.event("offer.superseded", offer=other.id, employer=other.employer)
            for other in person.offers
            if other.id != offer.id
        ),
    ]


def refuse(case: Case) -> Answer:
    if not case.from_person():
        return "not_authorized"
    offer = case.person.offer(case.data.offer)
    if offer is None or offer.status != "made":
        return "offer_not_open"
    return [case.event("offer.refused", offer=offer.id, employer=offer.employer)]


def complete(case: Case) -> Answer:
    data, employment = case.data, case.person.employment
    if not case.from_employer():
        return "not_authorized"
    if employment is None or employment.employer != data.employer:
        return "not_employed_here"
    if data.role == "worker" and blank(data.trade):
        return "trade_required"
    if data.role == "manager" and blank(data.position):
        return "position_required"
    bound = case.person.assignment is not None or case.person.presence is not None
    if employment.role not in (None, data.role) and bound:
        return "exit_first"
    return [
        case.event(
            "employment.registered",
            employer=data.employer,
            role=data.role,
            trade=data.trade if data.role == "worker" else None,
            position=data.position if data.role == "manager" else None,
        )
    ]
