"""A turn is decided as if one record came after the other, whatever order saves time."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from agents import deciding
from agents.ledger.record import Record
from agents.ledger.turn import Turn
from schemas import limits
from tests.checker.village import (
    BUILDERS,
    LI,
    MAYOR,
    PAINTERS,
    PARTITIONS,
    SITE,
    Village,
    someone,
)

CLERK, CHEN = someone("clerk", 0), someone("chen", 0)
"""The painters' project manager, and one whom they employ."""


def _everyone(turn: Turn) -> set[bytes]:
    return {record.key or b"" for record in turn.records}


class _Hurried(Village):
    """All of the day in one turn."""

    def turn(self, partition: int, **broken: Any) -> None:
        return

    def decide_at_last(self) -> None:
        for partition in range(PARTITIONS):
            super().turn(partition)


@pytest.mark.parametrize("at_once", [1, 2, 3, 128])
def test_a_turn_is_decided_as_one_record_after_the_other(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def played() -> tuple[Village, _Hurried]:
        hurried = _Hurried()
        hurried.play()
        hurried.decide_at_last()
        return Village().play(), hurried

    monkeypatch.setattr(limits, "DECIDED_AT_ONCE_MAX", at_once)
    made = played()
    with monkeypatch.context() as one_by_one:
        one_by_one.setattr(limits, "DECIDED_AT_ONCE_MAX", 1)
        one_by_one.setattr(deciding, "_movers", _everyone)
        expected = played()
    for village, other in zip(made, expected, strict=True):
        assert village.logs == other.logs
        assert village.states == other.states
    assert len(_codes(made[1], LI)) > 10


def test_persons_without_a_staff_record_are_decided_one_after_the_other() -> None:
    """And those who have one, or whose hire is completed, before them, as they stand."""
    persons = [LI, MAYOR, CHEN, LI, CLERK, MAYOR, LI, CHEN]
    topics = ["confirmations"] * 4 + ["hire-requests"] + ["confirmations"] * 3
    places = [
        Record(topic, 0, 0, 0, person.encode(), None)
        for topic, person in zip(topics, persons, strict=True)
    ]
    movers = {MAYOR.encode(), CLERK.encode()}
    assert deciding._order(places, movers) == [1, 4, 5, 0, 3, 6, 2, 7]
    assert deciding._order(places, {person.encode() for person in persons}) == list(range(8))


@pytest.fixture
def village() -> Village:
    """The mayor and the clerk manage, and Chen waits to enter; partition 0 is home of all."""
    village = Village()
    for uscc in (BUILDERS, PAINTERS):
        village.put("employers", {"uscc": uscc, "name": "some", "status": "active"})
    parts = [
        {"employer": BUILDERS, "type": "general_contractor", "project_manager": MAYOR},
        {"employer": PAINTERS, "type": "labor_subcontractor", "project_manager": CLERK},
    ]
    village.put("sites", {"site": SITE, "name": "Mill", "status": "active", "participants": parts})
    village.hired(MAYOR, role="manager", position="project_manager")
    village.assigned(MAYOR, position="project_manager")
    village.hired(CHEN, PAINTERS, role="worker", trade="001")
    village.assigned(CHEN, employer=PAINTERS)
    village.turn(0)
    return village


def _codes(village: Village, person: str) -> list[str]:
    return [
        orjson.loads(one.value or b"")["data"]["code"] for one in village.of("outcomes", person)
    ]


def _processed(village: Village, person: str, by: str, entry: str) -> None:
    staff = f"/sites/{SITE}/staff/{by}"
    village.send("entry.process", person, staff, site=SITE, entry=entry)


def test_a_record_sees_what_those_before_it_changed_of_staff_and_no_more(village: Village) -> None:
    """Chen's records stand around the changes, though Chen is decided after them all."""
    entry = village.scanned(CHEN)
    _processed(village, CHEN, CLERK, entry)
    village.hired(CLERK, PAINTERS, role="manager", position="project_manager")
    _processed(village, CHEN, CLERK, entry)
    village.send("exit.register", CHEN, f"/sites/{SITE}/staff/{MAYOR}", site=SITE)
    painters = f"/employers/{PAINTERS}"
    village.send("dismissal.request", CLERK, painters, employer=PAINTERS, reason="done")
    village.send("dismissal.agree", CLERK, f"/persons/{CLERK}", employer=PAINTERS)
    _processed(village, CHEN, CLERK, entry)
    village.turn(0)
    assert _codes(village, CHEN)[-5:] == [
        "accepted",
        "not_authorized",
        "accepted",
        "accepted",
        "not_authorized",
    ]
    assert village.judge().violations == []


def test_a_change_that_was_not_foreseen_is_seen_all_the_same(village: Village) -> None:
    """The view of staff does not know the clerk yet, whose record changes amid Chen's."""
    village.hired(CLERK, PAINTERS, role="manager", position="project_manager")
    village.turn(0)
    entry = village.scanned(CHEN)
    _processed(village, CHEN, CLERK, entry)
    village.assigned(CLERK, employer=PAINTERS, position="project_manager")
    _processed(village, CHEN, CLERK, entry)
    village.turn(0, stale=["staff"])
    assert CLERK not in village.references.staff
    assert _codes(village, CHEN)[-3:] == ["accepted", "not_authorized", "accepted"]
