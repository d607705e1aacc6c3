"""The staff record, the transition tables and the stored form."""

from dataclasses import asdict
from typing import Any

import pytest

from rules.evolve import Event, evolve
from rules.machines import MACHINES, OFFER, ImpossibleTransition, Machine, page
from rules.packed import find
from rules.person import Person, decode, encode, staff_record
from schemas.events import EVENTS
from tests.rules.town import BUILD_PM, CREW, CREW_PM, EAST, KEYS, LI, NOON, Town, busy_town, tag

# --- staff ----------------------------------------------------------------------------------------


def record(town: Town, person: str) -> dict[str, Any] | None:
    entry = staff_record(person, town.person(person))
    return None if entry is None else asdict(entry)


def test_every_registered_manager_has_a_staff_record_that_follows() -> None:
    town = busy_town().hired(LI, CREW, role=None)
    assert record(town, LI) is None
    town.complete(LI, CREW, "manager", position="foreman")
    there = {
        "person": LI,
        "employer": CREW,
        "position": "foreman",
        "site": None,
        "operator": False,
        "present": False,
    }
    assert record(town, LI) == there
    asked = town.assign(LI, EAST).id
    assert record(town, LI) == there  # not yet confirmed
    town.approve(LI, EAST, asked, BUILD_PM)
    assert record(town, LI) == {**there, "site": EAST}
    town.authorize(LI, EAST, CREW_PM)
    assert record(town, LI) == {**there, "site": EAST, "operator": True}
    town.waiting(LI, EAST)
    assert record(town, LI) == {**there, "site": EAST, "operator": True}
    town.entered(LI, EAST)
    assert record(town, LI) == {**there, "site": EAST, "operator": True, "present": True}
    town.left(LI, EAST)
    assert record(town, LI) == there
    town.dismissed(LI, CREW)
    assert record(town, LI) is None


def test_a_worker_has_none() -> None:
    town = busy_town().at_work(LI, CREW, EAST)
    assert record(town, LI) is None


# --- the tables -----------------------------------------------------------------------------------


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)
def test_a_table_is_whole(machine: Machine) -> None:
    states = {machine.start, *machine.table.values()}
    assert {state for state, _ in machine.table} <= states, "a state that nothing leads to"
    assert {event for _, event in machine.table} <= set(EVENTS)
    reached = {machine.start}
    while more := {
        then
        for (state, _), then in machine.table.items()
        if state in reached and then not in reached
    }:
        reached |= more
    assert reached == states


def test_every_event_is_in_a_table() -> None:
    named = {event for machine in MACHINES for _, event in machine.table}
    assert named == set(EVENTS) - {"attendance.recorded"}  # it moves nothing


def test_what_is_in_no_table_raises() -> None:
    with pytest.raises(ImpossibleTransition, match=r"offer: offer\.accepted in state parked"):
        OFFER.step("parked", "offer.accepted")
    for event_type, data in (
        ("employment.ended", {"employer": CREW}),
        ("dismissal.requested", {"employer": CREW}),
        ("operator.authorized", {"site": EAST, "employer": CREW}),
        ("presence.ended", {"entry": "e", "site": EAST, "employer": CREW}),
        ("exit.registered", {"site": EAST, "employer": CREW}),
    ):
        person = Person()
        with pytest.raises(ImpossibleTransition):
            evolve(person, [Event(event_type, NOON, NOON, data)])
        assert person == Person()


def test_the_page_shows_every_table() -> None:
    text = page()
    for machine in MACHINES:
        assert f"### {machine.name}" in text
        for (state, event), then in machine.table.items():
            assert f"{state} --> {then}: {event}" in text
            assert f"| {state} | `{event}` | {then} |" in text


# --- the stored form ------------------------------------------------------------------------------


def test_a_state_comes_back_as_it_was() -> None:
    town = busy_town().at_work(LI, CREW, EAST)
    for person in town.persons.values():
        assert decode(encode(person)) == person


def test_a_state_holds_no_more_than_decisions_need() -> None:
    """Neither the sealed details nor the hashes of the papers, nor the centre's words."""
    town = Town()
    town.upload(LI, sealed="TUFSS0VSMQ==", front_sha256="ab" * 32)
    town.verify(LI, "failed", reason="MARKER2")
    stored = encode(town.person(LI))
    assert tag(LI).encode() in stored
    for kept_out in (b"TUFSS0VSMQ", b"ab" * 32, b"MARKER2", *KEYS.values()):
        assert kept_out not in stored


def test_no_event_tells_what_only_the_state_may_know() -> None:
    town = Town()
    answers = [
        town.upload(LI, birth_date="1991-07-09"),
        town.offer(LI, CREW),
        town.verify(LI),
    ]
    for answer in answers:
        for data in answer.data:
            assert not {"name_tag", "birth_date", "sex", "sealed"} & set(data)
            assert tag(LI) not in data.values()


def test_a_digest_is_found_only_where_a_record_begins() -> None:
    packed = b"abcdefgh" + b"bcdefghi"
    assert find(packed, b"bcdefghi", 8) == 8
    assert find(packed, b"bcdefgh" + b"b", 8) == -1
    assert find(b"", b"bcdefghi", 8) == -1
