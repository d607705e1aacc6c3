"""A turn is decided as if one record came after the other, whatever order saves time."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from agents import deciding
from agents.ledger.record import Cut, Record
from schemas import limits
from schemas.reading import Refusal
from tests.checker.village import BUILDERS, LI, MAYOR, PAINTERS, SITE, Village, someone

AT_ONCE = (1, 2, 3, 128)
"""Limits of a step: with the last one each turn here has but one."""

CLERK, CHEN, ZHOU = (someone(name, 0) for name in ("clerk", "chen", "zhou"))
"""The painters' project manager, and two whom they employ."""

MANAGER = {"role": "manager", "position": "project_manager"}


@pytest.fixture(params=AT_ONCE, autouse=True)
def at_once(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "DECIDED_AT_ONCE_MAX", request.param)


def one_by_one(patch: pytest.MonkeyPatch) -> None:
    """From now on turns are decided in their own order, each record by itself."""
    patch.setattr(limits, "DECIDED_AT_ONCE_MAX", 1)
    patch.setattr(deciding, "_movers", lambda _, everyone: everyone)


def returned(patch: pytest.MonkeyPatch, name: str) -> list[Any]:
    """What the function of `deciding` returns from now on, a call after the other."""
    function = getattr(deciding, name)
    noted = []

    def noting(*arguments: Any) -> Any:
        noted.append(function(*arguments))
        return noted[-1]

    patch.setattr(deciding, name, noting)
    return noted


def order(steps: list[list[list[int]]]) -> list[int]:
    """In which the records of a turn are decided."""
    return [place for rounds in steps for places in rounds for place in places]


def answered(village: Village) -> dict[tuple[str, bytes | None], list[Any]]:
    """What was written about each person, topic by topic."""
    written: dict[tuple[str, bytes | None], list[Any]] = {}
    for (topic, _), records in village.logs.items():
        for record in records:
            about = written.setdefault((topic, record.key), [])
            about.append((record.value, record.headers))
    return written


def people() -> Village:
    """The mayor manages, and three workers may enter; partition 0 is home of all."""
    village = Village()
    for uscc in (BUILDERS, PAINTERS):
        village.put("employers", {"uscc": uscc, "name": "some", "status": "active"})
    parts = [
        {"employer": BUILDERS, "type": "general_contractor", "project_manager": MAYOR},
        {"employer": PAINTERS, "type": "labor_subcontractor", "project_manager": CLERK},
    ]
    village.put("sites", {"site": SITE, "name": "Mill", "status": "active", "participants": parts})
    village.hired(MAYOR, **MANAGER)
    village.assigned(MAYOR, position="project_manager")
    village.hired(LI, BUILDERS, role="worker", trade="001")
    village.assigned(LI)
    for person in (CHEN, ZHOU):
        village.hired(person, PAINTERS, role="worker", trade="001")
        village.assigned(person, employer=PAINTERS)
    village.turn(0)
    return village


def dismissed(village: Village) -> None:
    """The clerk."""
    painters = f"/employers/{PAINTERS}"
    village.send("dismissal.request", CLERK, painters, employer=PAINTERS, reason="done")
    village.send("dismissal.agree", CLERK, f"/persons/{CLERK}", employer=PAINTERS)


def codes(village: Village, person: str) -> list[str]:
    outcomes = village.of("outcomes", person)
    return [orjson.loads(outcome.value or b"")["data"]["code"] for outcome in outcomes]


def busy() -> Village:
    """One turn in which workers come and go, managers come and go, and nonsense comes too."""
    village = people()
    entries = {person: village.scanned(person) for person in (LI, CHEN, ZHOU)}
    village.append("confirmations", 0, None, b"{}")
    for person in (CHEN, LI, ZHOU):
        village.processed(person, entries[person], by=CLERK)
    village.send_raw("scan-events", LI.encode(), b"{", None)
    village.hired(CLERK, PAINTERS, **MANAGER)
    village.send_raw("confirmations", CHEN.encode(), None, None)
    for person in (ZHOU, LI, CHEN):
        village.processed(person, entries[person], by=CLERK)
        village.scanned(person, "scan.attendance")
        village.append("scan-events", 0, b"\xff\xfe", b"\x00\xff")
    village.send("exit.register", CHEN, f"/sites/{SITE}/staff/{MAYOR}", site=SITE)
    dismissed(village)
    for person in (LI, ZHOU, CHEN):
        village.processed(person, entries[person], by=CLERK)
        village.processed(person, entries[person])
    village.turn(0)
    return village


def test_a_turn_is_decided_as_one_record_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = returned(monkeypatch, "_steps")
    one_step = AT_ONCE[-1] == limits.DECIDED_AT_ONCE_MAX
    made = busy()
    assert (order(steps[-1]) == sorted(order(steps[-1]))) is one_step
    one_by_one(monkeypatch)
    expected = busy()
    assert order(steps[-1]) == sorted(order(steps[-1]))
    assert answered(made) == answered(expected)
    assert (made.logs == expected.logs) is one_step
    assert made.states == expected.states
    assert made.judge().violations == []


def test_who_may_change_staff_records_is_decided_first_and_others_in_rounds() -> None:
    persons = [LI, MAYOR, CHEN, LI, CLERK, MAYOR, LI, CHEN, ZHOU]
    records = [Record("confirmations", 0, 0, 0, person.encode(), None) for person in persons]
    movers = {MAYOR.encode(), CLERK.encode()}
    steps = {
        1: [[[1]], [[4]], [[5]], [[8]], [[2]], [[7]], [[0]], [[3]], [[6]]],
        2: [[[1], [4]], [[5]], [[8]], [[2], [7]], [[0], [3]], [[6]]],
        3: [[[1], [4], [5]], [[8, 2], [7]], [[0], [3], [6]]],
        128: [[[1], [4], [5]], [[8, 2, 0], [7, 3], [6]]],
    }
    places = deciding._persons(records)
    assert deciding._steps(places, movers) == steps[limits.DECIDED_AT_ONCE_MAX]
    assert order(deciding._steps(places, places)) == list(range(9))


def test_a_record_sees_what_those_before_it_changed_of_staff_and_no_more() -> None:
    """Chen's records stand around the changes, though Chen is decided after them all."""
    village = people()
    entry = village.scanned(CHEN)
    village.processed(CHEN, entry, by=CLERK)
    village.hired(CLERK, PAINTERS, **MANAGER)
    village.processed(CHEN, entry, by=CLERK)
    village.send("exit.register", CHEN, f"/sites/{SITE}/staff/{MAYOR}", site=SITE)
    dismissed(village)
    village.processed(CHEN, entry, by=CLERK)
    village.turn(0)
    assert codes(village, CHEN)[-5:] == [
        "accepted",
        "not_authorized",
        "accepted",
        "accepted",
        "not_authorized",
    ]


def test_a_change_that_was_not_foreseen_is_seen_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The view of staff does not know the clerk yet, whose record changes amid Chen's."""

    def surprising() -> Village:
        village = people()
        village.hired(CLERK, PAINTERS, **MANAGER)
        village.turn(0)
        entry = village.scanned(CHEN)
        village.processed(CHEN, entry, by=CLERK)
        village.assigned(CLERK, employer=PAINTERS, position="project_manager")
        village.processed(CHEN, entry, by=CLERK)
        village.turn(0, stale=["staff"])
        assert CLERK not in village.references.staff
        return village

    guesses = returned(monkeypatch, "_movers")
    made = surprising()
    if AT_ONCE[-1] > limits.DECIDED_AT_ONCE_MAX:
        assert CLERK.encode() not in guesses[-1]
    assert codes(made, CHEN)[-3:] == ["accepted", "not_authorized", "accepted"]
    one_by_one(monkeypatch)
    expected = surprising()
    assert made.logs == expected.logs
    assert made.states == expected.states


def test_a_key_that_was_cut_within_a_character_is_text_all_the_same() -> None:
    key = "工".encode() * 22_000
    kept = key[: limits.KEY_BYTES_MAX]
    record = Record("scan-events", 0, 5, 0, kept, b"{}", key_cut=Cut(len(key), "0" * 64))
    decider = deciding.Decider({"scan-events": "scan-events"}, 1, {})
    letter = orjson.loads(decider._dead_letter(record, Refusal("malformed", "")).value or b"")
    assert (letter["encoding"], letter["value"]) == ("utf-8", "{}")
    assert letter["key"] == "工" * (limits.KEY_BYTES_MAX // 3)
