"""Assignments, the site side and operators (contract: Assignment, Operators)."""

from dataclasses import replace

import pytest

from schemas.references import Participant
from tests.rules.town import (
    BUILD,
    BUILD_PM,
    CREW,
    CREW2,
    CREW_PM,
    EAST,
    GU,
    HE,
    LI,
    OTHER,
    STEEL,
    STEEL_PM,
    WEST,
    WEST_PM,
    WU,
    Town,
    as_staff,
    busy_town,
)


@pytest.fixture
def town() -> Town:
    """With LI, a worker of the labour subcontractor."""
    return busy_town().hired(LI, CREW)


# --- request --------------------------------------------------------------------------------------


def test_requested_and_confirmed(town: Town) -> None:
    asked = town.assign(LI, EAST, position="welder", batch="b1")
    facts = {"assignment": asked.id, "site": EAST, "employer": CREW, "position": "welder"}
    assert (asked.said, asked.data) == (["assignment.requested"], [facts])
    assert asked.command.batch == "b1"
    agreed = town.approve(LI, EAST, asked.id, BUILD_PM, batch="b2")
    assert (agreed.said, agreed.data) == (["assignment.confirmed"], [facts])
    assert agreed.command.batch == "b2"


def test_requested_and_rejected(town: Town) -> None:
    asked = town.assign(LI, EAST).id
    assert town.reject(LI, EAST, asked, CREW_PM).said == ["assignment.rejected"]
    assert town.approve(LI, EAST, asked, CREW_PM).said == "assignment_not_pending"
    assert town.assign(LI, EAST).said == ["assignment.requested"]


@pytest.mark.parametrize(
    ("who", "said"),
    [
        (BUILD_PM, ["assignment.requested"]),  # of the general contractor
        (CREW_PM, ["assignment.requested"]),  # of his own employer
        (STEEL_PM, "not_authorized"),
        (WEST_PM, "not_authorized"),
        (HE, "not_authorized"),
        (LI, "not_authorized"),
    ],
)
def test_a_named_project_manager_may_assign(town: Town, who: str, said: object) -> None:
    assert town.assign(LI, EAST, CREW, by=as_staff(EAST, who)).said == said


def test_a_project_manager_is_named_without_being_assigned() -> None:
    town = Town().hired(BUILD_PM, BUILD, "manager").hired(LI, CREW)
    assert town.assign(LI, EAST, CREW, by=as_staff(EAST, BUILD_PM)).said == ["assignment.requested"]


def test_the_site_names_a_manager_of_that_employer_or_nobody(town: Town) -> None:
    # On the record, but registered as a worker, or with another employer, or not at all.
    for name, employer, role in ((WU, BUILD, "worker"), (GU, OTHER, "manager"), (HE, None, "")):
        if employer is not None:
            town.hired(name, employer, role)
        town.set_manager(EAST, BUILD, name)
        assert town.assign(LI, EAST, CREW, by=as_staff(EAST, name)).said == "not_authorized"


def test_one_live_assignment_a_person(town: Town) -> None:
    asked = town.assign(LI, EAST).id
    assert town.assign(LI, EAST).said == "already_assigned"
    assert town.assign(LI, WEST).said == "already_assigned"
    town.approve(LI, EAST, asked, BUILD_PM)
    assert town.assign(LI, WEST).said == "already_assigned"


@pytest.mark.parametrize("status", ["suspended", "completed"])
def test_no_assignment_to_a_closed_site(town: Town, status: str) -> None:
    asked = town.assign(LI, EAST).id
    town.set_site(EAST, status)
    assert town.assign(WU, EAST, CREW).said == "not_employed"
    # One that waits may still be answered.
    assert town.approve(LI, EAST, asked, BUILD_PM).said == ["assignment.confirmed"]
    assert town.hired(WU, CREW).assign(WU, EAST).said == "site_closed"


def test_where_the_employer_takes_part(town: Town) -> None:
    town.hired(WU, OTHER)
    assert town.assign(WU, EAST).said == "employer_not_on_site"
    assert town.assign(LI, "nowhere").said == "site_unknown"


def test_before_the_registration_is_complete() -> None:
    town = busy_town().hired(LI, CREW, role=None)
    assert town.assign(LI, EAST).said == "registration_incomplete"


def test_a_position_project_manager_is_for_the_named_one() -> None:
    town = busy_town().hired(LI, CREW, "manager")
    assert town.assign(LI, EAST, position="project_manager").said == "not_the_named_manager"
    town.set_manager(EAST, STEEL, LI)  # named, but for another employer
    assert town.assign(LI, EAST, position="project_manager").said == "not_the_named_manager"
    town.set_manager(EAST, CREW, LI)
    assert town.assign(LI, EAST, position="project_manager").said == ["assignment.requested"]


@pytest.mark.parametrize("blank", [None, "", "  "])
def test_a_managers_position_is_that_of_the_registration(blank: str | None) -> None:
    town = busy_town().hired(LI, CREW, "manager", "foreman")
    assert town.assign(LI, EAST, position=blank).data[0]["position"] == "foreman"
    town.hired(WU, CREW, "manager", "project_manager")
    assert town.assign(WU, EAST, position=blank).said == "not_the_named_manager"


def test_a_worker_needs_no_position(town: Town) -> None:
    assert "position" not in town.assign(LI, EAST).data[0]


# --- the site side --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("who", "said"),
    [
        (BUILD_PM, ["assignment.confirmed"]),
        (CREW_PM, ["assignment.confirmed"]),
        (STEEL_PM, "not_authorized"),
        (WEST_PM, "not_authorized"),
        (LI, "not_authorized"),
    ],
)
def test_named_project_managers_answer(town: Town, who: str, said: object) -> None:
    asked = town.assign(LI, EAST).id
    assert town.approve(LI, EAST, asked, who).said == said


@pytest.mark.parametrize(
    ("employer", "said"),
    [
        (BUILD, ["assignment.confirmed"]),
        (CREW, ["assignment.confirmed"]),
        (STEEL, "not_authorized"),
    ],
)
def test_present_operators_answer(town: Town, employer: str, said: object) -> None:
    town.operator(WU, employer, EAST)
    asked = town.assign(LI, EAST).id
    assert town.approve(LI, EAST, asked, WU).said == said


def test_an_operator_who_is_not_present_does_not(town: Town) -> None:
    town.operator(WU, CREW, EAST, present=False)
    asked = town.assign(LI, EAST).id
    assert town.approve(LI, EAST, asked, WU).said == "not_authorized"
    town.entered(WU, EAST)
    assert town.approve(LI, EAST, asked, WU).said == ["assignment.confirmed"]


def test_an_operator_of_another_site_does_not(town: Town) -> None:
    town.operator(WU, CREW, WEST)
    asked = town.assign(LI, EAST).id
    assert town.approve(LI, EAST, asked, WU).said == "not_authorized"


def test_a_project_manager_approves_his_own() -> None:
    town = Town().hired(BUILD_PM, BUILD, "manager", "project_manager")
    asked = town.assign(BUILD_PM, EAST).id
    assert town.staff[BUILD_PM].site is None
    assert town.approve(BUILD_PM, EAST, asked, BUILD_PM).said == ["assignment.confirmed"]
    assert town.staff[BUILD_PM].site == EAST


def test_an_answer_names_the_assignment_and_its_site(town: Town) -> None:
    asked = town.assign(LI, WEST).id
    assert town.approve(LI, WEST, "other", WEST_PM).said == "assignment_not_pending"
    assert town.approve(LI, EAST, asked, BUILD_PM).said == "assignment_not_pending"
    assert town.approve(LI, WEST, asked, WEST_PM).said == ["assignment.confirmed"]
    assert town.approve(LI, WEST, asked, WEST_PM).said == "assignment_not_pending"
    assert town.reject(LI, WEST, asked, WEST_PM).said == "assignment_not_pending"


# --- withdrawal -----------------------------------------------------------------------------------


def test_withdrawn_while_requested_or_confirmed(town: Town) -> None:
    asked = town.assign(LI, EAST).id
    assert town.unassign(LI, EAST, CREW, asked).said == ["assignment.withdrawn"]
    assert town.unassign(LI, EAST, CREW, asked).said == "assignment_not_pending"
    confirmed = town.assigned(LI, EAST)
    assert town.unassign(LI, EAST, CREW, confirmed, by=as_staff(EAST, BUILD_PM)).said == [
        "assignment.withdrawn"
    ]


def test_a_withdrawal_lapses_a_waiting_entry_and_revokes_an_operator(town: Town) -> None:
    town.operator(WU, CREW, EAST, present=False)
    town.waiting(WU, EAST)
    live = town.person(WU).assignment
    assert live is not None
    answer = town.unassign(WU, EAST, CREW, live.id)
    assert answer.said == ["entry.lapsed", "operator.revoked", "assignment.withdrawn"]
    assert not town.staff[WU].operator
    assert town.staff[WU].site is None


def test_not_withdrawn_while_present(town: Town) -> None:
    confirmed = town.assigned(LI, EAST)
    town.entered(LI, EAST)
    assert town.unassign(LI, EAST, CREW, confirmed).said == "assignment_not_pending"


def test_a_withdrawal_names_assignment_site_and_employer(town: Town) -> None:
    asked = town.assign(LI, EAST).id
    assert town.unassign(LI, WEST, CREW, asked).said == "assignment_not_pending"
    assert town.unassign(LI, EAST, CREW2, asked).said == "assignment_not_pending"
    assert town.unassign(LI, EAST, CREW, "other").said == "assignment_not_pending"
    assert town.unassign(LI, EAST, CREW, asked, by=as_staff(EAST, STEEL_PM)).said == (
        "not_authorized"
    )


def test_withdraw_crossing_approve(town: Town) -> None:
    asked = town.assign(LI, EAST).id
    town.unassign(LI, EAST, CREW, asked)
    assert town.approve(LI, EAST, asked, BUILD_PM).said == "assignment_not_pending"


# --- operators ------------------------------------------------------------------------------------


def test_authorized_and_revoked() -> None:
    town = busy_town().hired(LI, CREW, "manager")
    town.assigned(LI, EAST)
    answer = town.authorize(LI, EAST, CREW_PM)
    assert (answer.said, answer.data) == (
        ["operator.authorized"],
        [{"site": EAST, "employer": CREW}],
    )
    assert town.staff[LI].operator
    assert town.authorize(LI, EAST, BUILD_PM).said == "already_authorized"
    answer = town.revoke(LI, EAST, BUILD_PM)
    assert (answer.said, answer.data) == (["operator.revoked"], [{"site": EAST, "employer": CREW}])
    assert not town.staff[LI].operator
    assert town.revoke(LI, EAST, CREW_PM).said == "not_authorized_before"


def test_a_subcontractors_project_manager_only_for_his_own() -> None:
    town = busy_town().hired(LI, CREW, "manager").hired(WU, STEEL, "manager")
    town.assigned(LI, EAST)
    town.assigned(WU, EAST)
    assert town.authorize(LI, EAST, STEEL_PM).said == "not_authorized"
    assert town.authorize(WU, EAST, CREW_PM).said == "not_authorized"
    assert town.authorize(WU, EAST, STEEL_PM).said == ["operator.authorized"]
    assert town.revoke(WU, EAST, CREW_PM).said == "not_authorized"
    assert town.revoke(WU, EAST, BUILD_PM).said == ["operator.revoked"]


def test_only_a_confirmed_project_manager_authorizes(town: Town) -> None:
    town.hired(WU, CREW, "manager")
    town.assigned(WU, EAST)
    # Named, but not assigned there; an operator; another site's.
    town.hired(HE, BUILD, "manager")
    town.set_manager(EAST, BUILD, HE)
    assert town.authorize(WU, EAST, HE).said == "not_authorized"
    town.assigned(HE, EAST, by=HE)
    town.authorize(HE, EAST, HE)
    assert town.authorize(WU, EAST, BUILD_PM).said == "not_authorized"  # no longer named
    assert town.authorize(WU, EAST, WEST_PM).said == "not_authorized"
    assert town.authorize(WU, EAST, HE).said == ["operator.authorized"]
    assert town.revoke(HE, EAST, WU).said == "not_authorized"  # an operator now, no more


def test_a_worker_is_no_operator(town: Town) -> None:
    town.assigned(LI, EAST)
    assert town.authorize(LI, EAST, BUILD_PM).said == "manager_required"


def test_an_operator_is_confirmed_at_this_site() -> None:
    town = busy_town().hired(LI, CREW, "manager")
    assert town.authorize(LI, EAST, BUILD_PM).said == "assignment_not_confirmed"
    town.assign(LI, EAST)
    assert town.authorize(LI, EAST, BUILD_PM).said == "assignment_not_confirmed"
    town.hired(WU, CREW, "manager")
    town.assigned(WU, WEST)
    assert town.authorize(WU, EAST, BUILD_PM).said == "assignment_not_confirmed"


def test_an_authority_ends_with_the_assignment() -> None:
    town = busy_town()
    town.operator(LI, CREW, EAST)
    town.register_exit(LI, EAST, BUILD_PM)
    answer = town.confirm_exit(LI, EAST, BUILD_PM)
    assert answer.said == ["presence.ended", "operator.revoked", "assignment.ended"]
    town.assigned(LI, EAST)
    town.entered(LI, EAST)
    assert town.hired(WU, CREW).assign(WU, EAST).said == ["assignment.requested"]
    live = town.person(WU).assignment
    assert live is not None
    assert town.approve(WU, EAST, live.id, LI).said == "not_authorized"


def test_an_employer_with_two_parts_on_a_site() -> None:
    """The general contractor may do a trade's work itself, under another project manager."""
    town = busy_town().hired(WU, BUILD, "manager").hired(LI, CREW)
    site = town.sites[EAST]
    second = Participant(employer=BUILD, type="professional_subcontractor", project_manager=WU)
    town.sites[EAST] = replace(site, participants=(*site.participants, second))
    asked = town.assign(LI, EAST).id
    assert town.approve(LI, EAST, asked, WU).said == "not_authorized"
    assert town.approve(LI, EAST, asked, BUILD_PM).said == ["assignment.confirmed"]
    town.entered(LI, EAST)
    assert town.register_exit(LI, EAST, WU).said == "general_contractor_required"
