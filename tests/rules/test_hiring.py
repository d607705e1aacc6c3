"""Offers, employment and their end (contract: Offer, Dismissal, Departure)."""

from random import Random

import pytest

from schemas.identifiers import make_uscc
from schemas.limits import DAY_MS, OPEN_OFFERS_MAX
from schemas.references import Employer
from tests.rules.town import (
    BUILD,
    BUILD_PM,
    CREW,
    EAST,
    LI,
    OTHER,
    STEEL,
    WU,
    Town,
    busy_town,
    tag,
)

STARTED = ["offer.accepted", "employment.started"]


# --- offers ---------------------------------------------------------------------------------------


def test_hired_and_registered() -> None:
    town = Town().registered(LI)
    offer = town.offer(LI, CREW)
    assert offer.data == [{"offer": offer.id, "employer": CREW}]
    assert town.confirm(LI, offer.id).data == [
        {"offer": offer.id, "employer": CREW},
        {"employer": CREW},
    ]
    assert town.complete(LI, CREW, trade="101").data == [
        {"employer": CREW, "role": "worker", "trade": "101"}
    ]


def test_an_offer_before_verification_is_parked_and_says_so() -> None:
    town = Town()
    town.upload(LI)
    answer = town.offer(LI, CREW)
    assert (answer.said, answer.code) == (["offer.parked"], "awaiting_verification")
    assert town.offer(LI, CREW).said == "duplicate_registration"
    assert town.confirm(LI, answer.id).said == "offer_not_open"
    assert town.refuse(LI, answer.id).said == "offer_not_open"


def test_the_first_confirmation_wins_and_the_rest_are_superseded_by_age() -> None:
    town = Town().registered(LI)
    for employer in (STEEL, CREW, BUILD):
        town.offer(LI, employer, id=employer)
    answer = town.confirm(LI, CREW)
    assert answer.said == [*STARTED, "offer.superseded", "offer.superseded"]
    assert [data.get("offer") for data in answer.data] == [CREW, None, STEEL, BUILD]
    assert town.confirm(LI, STEEL).said == "offer_not_open"
    assert town.withdraw_offer(LI, BUILD, BUILD).said == "offer_not_open"
    assert town.offer(LI, STEEL).said == "employed_elsewhere"
    assert town.offer(LI, CREW).said == "already_employed_here"


@pytest.mark.parametrize("how", ["withdrawn", "refused", "accepted", "unknown"])
def test_an_offer_that_is_not_open(how: str) -> None:
    town = Town().registered(LI)
    offer = town.offer(LI, CREW).id
    if how == "withdrawn":
        assert town.withdraw_offer(LI, CREW, offer).said == ["offer.withdrawn"]
    elif how == "refused":
        assert town.refuse(LI, offer).said == ["offer.refused"]
    elif how == "accepted":
        assert town.confirm(LI, offer).said == STARTED
    else:
        offer = "never heard of"
    assert town.confirm(LI, offer).said == "offer_not_open"
    assert town.refuse(LI, offer).said == "offer_not_open"
    assert town.withdraw_offer(LI, CREW, offer).said == "offer_not_open"


def test_only_its_own_employer_withdraws_an_offer() -> None:
    town = Town().registered(LI)
    offer = town.offer(LI, CREW).id
    assert town.withdraw_offer(LI, STEEL, offer).said == "offer_not_open"
    assert town.confirm(LI, offer).said == STARTED


def test_after_a_withdrawal_or_refusal_the_employer_may_offer_again() -> None:
    town = Town().registered(LI)
    town.withdraw_offer(LI, CREW, town.offer(LI, CREW).id)
    town.refuse(LI, town.offer(LI, CREW).id)
    assert town.offer(LI, CREW).said == ["offer.made"]


def test_thirty_two_open_offers_and_no_more() -> None:
    town = Town().registered(LI)
    for n in range(OPEN_OFFERS_MAX):
        employer = _employer(n)
        town.employers[employer] = Employer(uscc=employer, name="one of many", status="active")
        assert town.offer(LI, employer, id=f"o{n}").said == ["offer.made"]
    assert town.offer(LI, CREW).said == "too_many"
    town.withdraw_offer(LI, _employer(5), "o5")
    assert town.offer(LI, CREW).said == ["offer.made"]
    # Those that have expired do not count.
    town.later(days=30)
    assert town.offer(LI, STEEL).said == ["offer.expired"] * OPEN_OFFERS_MAX + ["offer.made"]


def _employer(n: int) -> str:
    return make_uscc(Random(100 + n))


# --- expiry ---------------------------------------------------------------------------------------


def test_an_offer_expires_thirty_days_of_broker_time_after_it_was_sent() -> None:
    town = Town().registered(LI)
    # Its own `time` does not count.
    offer = town.offer(LI, CREW, at_ms=town.now_ms - 6 * DAY_MS).id
    town.now_ms += 30 * DAY_MS - 1
    assert town.offer(LI, CREW).said == "duplicate_registration"
    town.now_ms += 1
    assert town.confirm(LI, offer).said == "offer_not_open"
    assert town.refuse(LI, offer).said == "offer_not_open"
    assert town.withdraw_offer(LI, CREW, offer).said == "offer_not_open"


def test_parking_does_not_extend_an_offer() -> None:
    town = Town()
    town.upload(LI)
    offer = town.offer(LI, CREW).id
    town.later(days=29)
    assert town.verify(LI).said == ["identity.verified", "offer.made"]
    town.later(days=1)
    assert town.confirm(LI, offer).said == "offer_not_open"


def test_the_next_accepted_command_first_writes_the_expiry() -> None:
    town = Town().registered(LI)
    town.offer(LI, CREW, id="o1")
    town.later(days=1)
    town.offer(LI, STEEL, id="o2")
    town.later(days=29)
    # A rejected one does not.
    before = town.person(LI).version
    assert town.confirm(LI, "o1").said == "offer_not_open"
    assert town.person(LI).version == before
    answer = town.confirm(LI, "o2")
    assert answer.said == ["offer.expired", *STARTED]
    assert answer.data[0] == {"offer": "o1", "employer": CREW}


def test_offers_expire_by_age() -> None:
    town = Town().registered(LI)
    for employer in (STEEL, CREW):
        town.offer(LI, employer, id=employer)
    town.later(days=31)
    answer = town.offer(LI, CREW, id="new")
    assert answer.said == ["offer.expired", "offer.expired", "offer.made"]
    assert [data["offer"] for data in answer.data] == [STEEL, CREW, "new"]


# --- employers ------------------------------------------------------------------------------------


def test_a_suspended_employer_neither_offers_nor_gets_confirmed() -> None:
    town = Town().registered(LI)
    offer = town.offer(LI, CREW).id
    town.set_employer(CREW, "suspended")
    assert town.offer(LI, CREW).said == "employer_suspended"
    assert town.confirm(LI, offer).said == "employer_suspended"
    assert town.refuse(LI, offer).said == ["offer.refused"]


def test_an_employer_whose_record_is_removed() -> None:
    town = Town().registered(LI)
    offer = town.offer(LI, CREW).id
    del town.employers[CREW]
    assert town.offer(LI, CREW).said == "employer_unknown"
    assert town.confirm(LI, offer).said == "employer_unknown"
    assert town.withdraw_offer(LI, CREW, offer).said == ["offer.withdrawn"]


# --- registration ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("role", "fields", "said"),
    [
        ("worker", {"trade": None}, "trade_required"),
        ("worker", {"trade": ""}, "trade_required"),
        ("worker", {"trade": "   "}, "trade_required"),
        ("worker", {"trade": None, "position": "foreman"}, "trade_required"),
        ("manager", {"position": None}, "position_required"),
        ("manager", {"position": " \t"}, "position_required"),
        ("manager", {"position": None, "trade": "101"}, "position_required"),
        ("worker", {"trade": "101"}, ["employment.registered"]),
        ("manager", {"position": "p" * 64}, ["employment.registered"]),
    ],
)
def test_a_worker_has_a_trade_and_a_manager_a_position(
    role: str, fields: dict[str, str], said: object
) -> None:
    town = Town().hired(LI, CREW, role=None)
    assert town.complete(LI, CREW, role, **fields).said == said


def test_a_registration_keeps_what_belongs_to_the_role() -> None:
    town = Town().hired(LI, CREW, role=None)
    both = {"trade": "101", "position": "foreman"}
    assert "position" not in town.complete(LI, CREW, "worker", **both).data[0]
    assert "trade" not in town.complete(LI, CREW, "manager", **both).data[0]


def test_registration_may_be_repeated_and_corrected() -> None:
    town = Town().hired(LI, CREW)
    assert town.complete(LI, CREW, trade="102").said == ["employment.registered"]
    assert town.complete(LI, CREW, "manager").data == [
        {"employer": CREW, "role": "manager", "position": "safety officer"}
    ]
    assert town.staff[LI].position == "safety officer"
    town.complete(LI, CREW, "worker")
    assert LI not in town.staff


def test_the_role_stays_while_assigned_or_present() -> None:
    town = busy_town().hired(LI, CREW)
    assignment = town.assign(LI, EAST).id
    assert town.complete(LI, CREW, "manager").said == "exit_first"
    assert town.complete(LI, CREW, "worker", trade="102").said == ["employment.registered"]
    town.approve(LI, EAST, assignment, BUILD_PM)
    town.entered(LI, EAST)
    assert town.complete(LI, CREW, "manager").said == "exit_first"
    town.left(LI, EAST)
    assert town.complete(LI, CREW, "manager").said == ["employment.registered"]


def test_only_the_employer_registers() -> None:
    town = Town().hired(LI, CREW, role=None)
    assert town.complete(LI, STEEL).said == "not_employed_here"
    assert town.complete(WU, STEEL).said == "not_employed_here"


# --- dismissal and departure ----------------------------------------------------------------------


def test_dismissed() -> None:
    town = Town().hired(LI, CREW)
    assert town.dismiss(LI, CREW, "end of work").data == [
        {"employer": CREW, "reason": "end of work"}
    ]
    assert town.dismiss(LI, CREW).said == "already_pending"
    assert town.dismissal("agree", LI, CREW).data == [{"employer": CREW, "cause": "dismissed"}]
    assert town.dismissal("agree", LI, CREW).said == "nothing_pending"
    assert town.offer(LI, STEEL).said == ["offer.made"]


def test_departed() -> None:
    town = Town().hired(LI, CREW)
    assert town.departure("request", LI, CREW).data == [{"employer": CREW}]
    assert town.departure("request", LI, CREW).said == "already_pending"
    assert town.departure("approve", LI, CREW).data == [{"employer": CREW, "cause": "departed"}]


@pytest.mark.parametrize("reason", [None, "", " \n\u3000"])
def test_a_dismissal_needs_a_reason(reason: str | None) -> None:
    assert Town().hired(LI, CREW).dismiss(LI, CREW, reason).said == "reason_required"


@pytest.mark.parametrize("step", ["withdraw", "refuse"])
def test_a_request_taken_back_or_refused_may_come_again(step: str) -> None:
    town = Town().hired(LI, CREW)
    past = {"withdraw": "withdrawn", "refuse": "refused"}[step]
    for _ in range(2):
        town.dismiss(LI, CREW)
        assert town.dismissal(step, LI, CREW).said == [f"dismissal.{past}"]
        assert town.dismissal(step, LI, CREW).said == "nothing_pending"
        town.departure("request", LI, CREW)
        assert town.departure(step, LI, CREW).said == [f"departure.{past}"]
        assert town.departure(step, LI, CREW).said == "nothing_pending"


def test_nothing_is_pending_with_another_employer() -> None:
    town = Town().hired(LI, CREW)
    town.dismiss(LI, CREW)
    town.departure("request", LI, CREW)
    for step in ("withdraw", "agree", "refuse"):
        assert town.dismissal(step, LI, STEEL).said == "nothing_pending"
    for step in ("withdraw", "approve", "refuse"):
        assert town.departure(step, LI, STEEL).said == "nothing_pending"
    assert town.dismiss(LI, STEEL).said == "not_employed_here"
    assert town.departure("request", LI, STEEL).said == "not_employed_here"


@pytest.mark.parametrize("first", ["dismissal", "departure"])
def test_of_a_crossing_pair_the_first_completed_ends_both(first: str) -> None:
    town = Town().hired(LI, CREW)
    town.departure("request", LI, CREW)
    town.dismiss(LI, CREW)
    if first == "dismissal":
        assert town.dismissal("agree", LI, CREW).said == ["employment.ended"]
        assert town.departure("approve", LI, CREW).said == "nothing_pending"
    else:
        assert town.departure("approve", LI, CREW).said == ["employment.ended"]
        assert town.dismissal("agree", LI, CREW).said == "nothing_pending"
    # Nothing of it is left for the next employment.
    town.hired(LI, CREW)
    assert town.dismissal("agree", LI, CREW).said == "nothing_pending"
    assert town.departure("approve", LI, CREW).said == "nothing_pending"


def test_a_worker_may_be_dismissed_while_present() -> None:
    town = busy_town().at_work(LI, CREW, EAST)
    town.dismiss(LI, CREW)
    answer = town.dismissal("agree", LI, CREW)
    assert answer.said == ["employment.ended", "presence.ended", "assignment.ended"]
    assert [data["cause"] for data in answer.data] == ["dismissed"] * 3


def test_a_worker_may_depart_while_an_entry_waits() -> None:
    town = busy_town().hired(LI, CREW)
    town.assigned(LI, EAST)
    town.waiting(LI, EAST)
    town.departure("request", LI, CREW)
    answer = town.departure("approve", LI, CREW)
    assert answer.said == ["employment.ended", "entry.lapsed", "assignment.ended"]
    assert answer.data[2]["cause"] == "departed"


def test_a_requested_assignment_ends_with_the_employment() -> None:
    town = busy_town().hired(LI, CREW)
    assignment = town.assign(LI, EAST).id
    town.dismissed(LI, CREW)
    assert town.approve(LI, EAST, assignment, BUILD_PM).said == "assignment_not_pending"


def test_an_operator_is_revoked_before_the_assignment_ends() -> None:
    town = busy_town()
    town.operator(LI, CREW, EAST, present=False)
    town.dismiss(LI, CREW)
    answer = town.dismissal("agree", LI, CREW)
    assert answer.said == ["employment.ended", "operator.revoked", "assignment.ended"]
    assert [data["cause"] for data in answer.data] == ["dismissed"] * 3
    assert LI not in town.staff


@pytest.mark.parametrize("kind", ["dismissal", "departure"])
def test_a_manager_exits_first_asked_at_request_and_at_agreement(kind: str) -> None:
    town = busy_town().hired(LI, CREW, "manager")
    town.assigned(LI, EAST)

    def ask() -> object:
        if kind == "dismissal":
            return town.dismiss(LI, CREW).said
        return town.departure("request", LI, CREW).said

    def agree() -> object:
        if kind == "dismissal":
            return town.dismissal("agree", LI, CREW).said
        return town.departure("approve", LI, CREW).said

    assert ask() == [f"{kind}.requested"]
    town.entered(LI, EAST)  # the manager re-entered
    assert agree() == "manager_on_site"
    assert ask() == "already_pending"
    town.left(LI, EAST)
    assert agree() == ["employment.ended"]
    town.at_work(LI, CREW, EAST, "manager")
    assert ask() == "manager_on_site"


def test_rehired_on_the_same_day() -> None:
    town = busy_town().at_work(LI, CREW, EAST)
    town.dismissed(LI, CREW)
    town.hired(LI, CREW)
    assert town.check_in(LI, EAST).said == ["attendance.recorded"]  # at the end of the tenure
    town.later(minutes=1)
    assert town.check_in(LI, EAST).said == "not_present"
    town.assigned(LI, EAST)
    town.entered(LI, EAST)
    assert town.check_in(LI, EAST).said == ["attendance.recorded"]


def test_a_name_is_compared_at_the_offer() -> None:
    town = Town().registered(LI)
    assert town.offer(LI, CREW, name_tag=tag(WU)).said == "name_mismatch"
    assert town.offer(WU, OTHER).said == "identity_not_registered"
