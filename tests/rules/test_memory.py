"""What comes before every rule: ids, duplicates, times, limits (contract: Always first)."""

from typing import Any

import pytest

from rules import clock_ins
from rules.decide import decide
from rules.person import Person, decode, encode
from schemas.commands import COMMANDS
from schemas.limits import DAY_MS, MINUTE_MS, NAMED_IDS_MAX, SEEN_IDS_MAX
from tests.rules.town import (
    BUILD,
    BUILD_PM,
    CREW,
    CREW2,
    DEVICE,
    EAST,
    KEYS,
    LI,
    NOON,
    OTHER,
    STEEL,
    Town,
    as_employer,
    as_person,
    busy_town,
    code,
    command,
    tag,
    utc,
)

FUTURE = NOON + 5 * MINUTE_MS
PAST = NOON - 7 * DAY_MS


# --- duplicates -----------------------------------------------------------------------------------


def test_a_duplicate_repeats_the_first_answer_and_its_version() -> None:
    town = Town().registered(LI)
    first = town.offer(LI, CREW)
    town.withdraw_offer(LI, CREW, first.id)
    before = town.person(LI)
    second = town.again(first.command)
    assert second.said == "duplicate"
    assert (second.code, second.decision.version) == ("accepted", 3)
    assert town.person(LI) is before


def test_a_duplicate_of_a_parked_offer_still_says_awaiting_verification() -> None:
    town = Town()
    town.upload(LI)
    parked = town.offer(LI, CREW)
    town.verify(LI)
    assert parked.code == town.again(parked.command).code == "awaiting_verification"


def test_a_rejection_is_remembered_too() -> None:
    town = Town()
    refused = town.offer(LI, CREW)
    assert refused.said == "identity_not_registered"
    town.registered(LI)
    again = town.again(refused.command)
    assert again.said == "duplicate"
    assert (again.code, again.decision.version) == ("identity_not_registered", 0)


def test_a_duplicate_may_have_another_time() -> None:
    town = Town()
    first = town.upload(LI, id="u1")
    town.later(hours=1)
    assert town.upload(LI, id="u1").said == "duplicate"
    # Even one that would be too late, or from the future, as a new command.
    for at_ms in (town.now_ms - 8 * DAY_MS, town.now_ms + DAY_MS):
        assert town.upload(LI, id="u1", at_ms=at_ms).said == "duplicate"
    assert town.person(LI).version == first.decision.version == 1


def test_a_duplicate_writes_no_expiry() -> None:
    town = Town().registered(LI)
    town.offer(LI, CREW)
    town.later(days=30)
    answer = town.offer(LI, STEEL, id="late")
    assert answer.said == ["offer.expired", "offer.made"]
    town.later(days=1)
    assert town.again(answer.command).said == "duplicate"


def test_the_order_of_fields_makes_no_other_data() -> None:
    one = command("hire.offer", "s", LI, "o", NOON, {"employer": CREW, "name_tag": tag(LI)})
    two = command("hire.offer", "s", LI, "o", NOON + 1, {"name_tag": tag(LI), "employer": CREW})
    assert (one.key_digest, one.content_digest) == (two.key_digest, two.content_digest)


def test_the_same_id_from_another_source_is_another_command() -> None:
    town = Town().registered(LI)
    assert town.withdraw_offer(LI, CREW, "nothing", id="x").said == "offer_not_open"
    assert town.withdraw_offer(LI, STEEL, "nothing", id="x").said == "offer_not_open"


# --- id_reused ------------------------------------------------------------------------------------


def test_another_type_or_data_under_a_seen_id() -> None:
    town = Town().registered(LI)
    first = town.offer(LI, CREW, id="x")
    before = town.person(LI)
    assert town.offer(LI, CREW, id="x", name_tag=tag("other")).said == "id_reused"
    assert town.withdraw_offer(LI, CREW, "y", id="x").said == "id_reused"
    assert town.person(LI) is before
    # And the first is remembered as it was.
    assert town.again(first.command).said == "duplicate"


def test_blank_and_absent_are_other_data() -> None:
    town = Town().hired(LI, CREW, role=None)
    assert town.complete(LI, CREW, trade=None, id="x").said == "trade_required"
    assert town.complete(LI, CREW, trade="", id="x").said == "id_reused"


def test_an_id_that_names_an_offer_an_assignment_or_an_entry_of_the_person() -> None:
    town = busy_town().registered(LI)
    offer = town.offer(LI, CREW, id="offer").id
    assert town.offer(LI, STEEL, id="offer").said == "id_reused"
    town.confirm(LI, offer)
    town.complete(LI, CREW)
    # Also what is over, and a command of another type.
    assert town.dismissal("refuse", LI, CREW).said == "nothing_pending"
    assert town.send("departure.request", as_person(LI), LI, id="offer", employer=CREW).said == (
        "id_reused"
    )
    assignment = town.assigned(LI, EAST)
    assert town.check_in(LI, EAST, id=assignment).said == "id_reused"
    entry = town.waiting(LI, EAST)
    town.process(LI, EAST, entry, BUILD_PM)
    assert town.check_in(LI, EAST, id=entry).said == "id_reused"
    # A rejection as any other: remembered.
    assert town.check_in(LI, EAST, id=entry).said == "duplicate"


def test_an_entry_by_oneself_names_an_id_too() -> None:
    town = busy_town()
    entry = town.enter_self(BUILD_PM, EAST).id
    assert town.check_in(BUILD_PM, EAST, id=entry).said == "id_reused"


def test_an_id_of_another_person_is_free() -> None:
    town = Town().registered(LI, BUILD_PM)
    assert town.offer(LI, CREW, id="x").said == ["offer.made"]
    assert town.offer(BUILD_PM, CREW, id="x").said == ["offer.made"]


@pytest.mark.parametrize("time", ["0001-01-01T00:00:00Z", "1969-12-31T23:59:59Z"])
def test_an_id_that_is_named_in_a_time_before_all_memory(time: str) -> None:
    """What is remembered has a time that fits the memory."""
    town = Town().registered(LI)
    town.offer(LI, CREW, id="x")
    answer = town.send("hire.refuse", as_person(LI), LI, id="x", offer="x", at_ms=utc(time))
    assert answer.said == "too_late"


def test_an_open_offer_is_named_for_as_long_as_it_is_open() -> None:
    town = Town().registered(LI)
    town.offer(LI, CREW, id="x")
    for n in range(NAMED_IDS_MAX):
        town.later(minutes=1)
        town.offer(LI, STEEL, id=f"s{n}")
        town.withdraw_offer(LI, STEEL, f"s{n}")
    assert town.offer(LI, OTHER, id="x").said == "id_reused"
    # A closed one may be forgotten: the memory is bounded.
    town.withdraw_offer(LI, CREW, "x")
    assert town.offer(LI, BUILD, id="x").said == ["offer.made"]


def test_a_live_assignment_is_named_for_as_long_as_it_lives() -> None:
    town = busy_town().hired(LI, CREW)
    assignment = town.assigned(LI, EAST)
    for _ in range(NAMED_IDS_MAX):
        town.waiting(LI, EAST)
    assert town.check_in(LI, EAST, id=assignment).said == "id_reused"


# --- time -----------------------------------------------------------------------------------------


def test_five_minutes_ahead_and_not_more() -> None:
    town = Town()
    assert town.upload(LI, id="x", at_ms=FUTURE + 1).said == "from_the_future"
    # Not remembered: the same id may come again when its time has come.
    assert town.upload(LI, id="x", at_ms=FUTURE).said == ["identity.submitted"]


def test_seven_days_behind_and_not_more() -> None:
    town = Town()
    assert town.upload(LI, id="x", at_ms=PAST - 1).said == "too_late"
    assert town.upload(LI, id="x", at_ms=PAST).said == ["identity.submitted"]


@pytest.mark.parametrize("at_ms", [FUTURE + 1, PAST - 1])
def test_a_time_out_of_bounds_leaves_no_trace(at_ms: int) -> None:
    town = Town()
    town.upload(LI, at_ms=at_ms)
    assert town.person(LI) == Person()


def test_the_times_are_judged_before_the_sender_is() -> None:
    town = Town()
    for at_ms, said in ((FUTURE + 1, "from_the_future"), (PAST - 1, "too_late")):
        assert town.upload(LI, by=as_person(CREW), at_ms=at_ms).said == said


# --- the memory's limits --------------------------------------------------------------------------


def test_duplicates_are_caught_for_all_of_the_seven_days() -> None:
    town = Town().registered(LI)
    offer = town.offer(LI, CREW)
    for _ in range(14):
        town.later(hours=12)
        town.upload(LI)  # rejected, and remembered
        assert town.again(offer.command).said == "duplicate"
    town.later(days=2)
    town.upload(LI)
    assert town.again(offer.command).said == "too_late"


def test_forgetting_stops_exactly_at_seven_days() -> None:
    town = Town().registered(LI)
    town.later(days=2)
    older = town.offer(LI, CREW, at_ms=town.now_ms - 1)
    just = town.offer(LI, STEEL)
    town.later(days=7)
    town.upload(LI)  # forgets
    assert town.again(older.command).said == "too_late"
    assert town.again(just.command).said == "duplicate"


def test_the_memory_is_bounded_by_time() -> None:
    town = Town().registered(LI)
    for _ in range(300):
        town.later(hours=1)
        town.upload(LI)
    # Seven days, and at most one of slack.
    assert len(town.person(LI).seen) // 32 <= 8 * 24 + 2


def test_what_is_forgotten_is_too_late_even_if_the_brokers_clock_steps_back() -> None:
    town = Town().registered(LI)
    offer = town.offer(LI, CREW)
    town.withdraw_offer(LI, CREW, offer.id)
    town.later(days=8, minutes=1)
    town.upload(LI)
    town.now_ms = NOON + 6 * DAY_MS
    assert town.again(offer.command).said == "too_late"


def test_past_its_size_the_memory_forgets_the_earliest_and_a_floor_rises() -> None:
    town = Town().registered(LI)  # two commands at NOON
    start = town.now_ms
    sent = []
    for n in range(SEEN_IDS_MAX - 2):
        town.later(seconds=1)
        sent.append(town.upload(LI, id=f"u{n}"))
    assert town.person(LI).seen_floor_ms == 0
    assert len(town.person(LI).seen) == 32 * SEEN_IDS_MAX
    # The 513th: the earliest is forgotten, and its time is too late from now on.
    town.later(seconds=1)
    town.upload(LI)
    assert len(town.person(LI).seen) == 32 * SEEN_IDS_MAX
    assert town.person(LI).seen_floor_ms == start
    assert town.upload(LI, id="early", at_ms=start).said == "too_late"
    # One of the same time that is still remembered is still a duplicate; above it all is normal.
    assert town.upload(LI, id="new", at_ms=start + 1).said == "already_verified"
    assert town.again(sent[-1].command).said == "duplicate"


def test_a_command_earlier_than_a_full_memory_is_decided_once() -> None:
    """It goes straight below the floor, where it is too late the second time."""
    town = Town().registered(LI)
    for n in range(SEEN_IDS_MAX):
        town.later(seconds=1)
        town.upload(LI, id=f"u{n}")
    floor_ms = town.person(LI).seen_floor_ms
    late = town.offer(LI, CREW, at_ms=floor_ms + 1)
    assert late.said == ["offer.made"]
    assert town.again(late.command).said == "too_late"
    assert len(town.person(LI).offers) == 1


# --- who may speak --------------------------------------------------------------------------------

STRANGE_SOURCES = [
    "/",
    "x",
    "/realname",
    "/persons/",
    f"/persons/{LI}/",
    f"/persons/{LI.upper()}",
    f"/employers/{OTHER}",
    "/employers/",
    "/devices/",
    "/devices/a/b",
    "/devices",
    "/centre/",
    "/bureaus",
    "/sites/east/staff/",
    f"/sites/west/staff/{BUILD_PM}",
    f"/sites/east/staff/{BUILD_PM}/",
    f"sites/east/staff/{BUILD_PM}",
]

DATA: dict[str, dict[str, Any]] = {
    "identity.upload": {
        "name_tag": tag(LI),
        "sealed": "c2VhbGVk",
        "front_sha256": "0" * 64,
        "back_sha256": "0" * 64,
        "birth_date": "1990-05-01",
        "sex": "male",
    },
    "identity.verify": {"batch": "b", "result": "verified"},
    "hire.offer": {"employer": CREW, "name_tag": tag(LI)},
    "hire.withdraw": {"employer": CREW, "offer": "o"},
    "hire.complete": {"employer": CREW, "role": "worker"},
    "hire.confirm": {"offer": "o"},
    "hire.refuse": {"offer": "o"},
    "assignment.request": {"employer": CREW, "site": EAST},
    "assignment.withdraw": {"employer": CREW, "site": EAST, "assignment": "a"},
    "assignment.approve": {"site": EAST, "assignment": "a"},
    "assignment.reject": {"site": EAST, "assignment": "a"},
    "scan.entry": {"site": EAST, "code": code(LI, NOON), "scanner": BUILD_PM},
    "scan.attendance": {"site": EAST, "code": code(LI, NOON), "scanner": BUILD_PM},
    "scan.checkin": {"site": EAST, "code": "x"},
    "entry.process": {"site": EAST, "entry": "e"},
}
INSTEAD = {
    "entry.self": "project_manager_required",
    "exit.self": "project_manager_required",
    "exit.register": "operator_required",
    "exit.confirm": "operator_required",
}
"""Rules that name another code for a sender who may not."""


@pytest.mark.parametrize("command_type", COMMANDS)
def test_nobody_else_may_speak(command_type: str) -> None:
    family = command_type.split(".")[0]
    usual = {"employer": CREW} if family in ("dismissal", "departure") else {"site": EAST}
    world = busy_town().world
    for source in STRANGE_SOURCES:
        data = DATA.get(command_type, usual)
        read = command(command_type, source, LI, "c", NOON, data)
        answer = decide(Person(), read, NOON, world)
        assert answer.code == INSTEAD.get(command_type, "not_authorized"), source


def test_an_employer_speaks_only_for_itself() -> None:
    town = busy_town().hired(LI, CREW)
    by = as_employer(CREW2)
    assert town.send("dismissal.request", by, LI, employer=CREW, reason="x").said == (
        "not_authorized"
    )
    assert town.assign(LI, EAST, CREW, by=by).said == "not_authorized"


def test_the_bureau_approves_departures_and_nothing_else() -> None:
    town = busy_town().hired(LI, CREW)
    town.departure("request", LI, CREW)
    assert town.departure("refuse", LI, CREW, by="/bureau").said == "not_authorized"
    assert town.departure("approve", LI, CREW, by="/bureau").said == ["employment.ended"]


def test_a_device_scans_but_does_nothing_else() -> None:
    town = busy_town().hired(LI, CREW)
    town.assigned(LI, EAST)
    entry = town.scan(LI, EAST, BUILD_PM, by=DEVICE).id
    assert town.send("entry.process", DEVICE, LI, site=EAST, entry=entry).said == "not_authorized"


def test_the_code_keys_are_of_the_deployment() -> None:
    town = busy_town().hired(LI, CREW)
    town.assigned(LI, EAST)
    forged = code(LI, NOON, {max(KEYS): b"somebody else's key"})
    assert town.scan(LI, EAST, BUILD_PM, code=forged).said == "code_invalid"
    older = code(LI, NOON, {1: KEYS[1]})
    assert town.scan(LI, EAST, BUILD_PM, code=older).said == ["entry.scanned"]


def test_a_state_of_a_newer_program_is_refused() -> None:
    stored = encode(Person())
    assert decode(stored) == Person()
    with pytest.raises(Exception, match="format 3"):
        decode(b"\x03" + stored[1:])
    for broken in (b"", b"\x00", b"\x01", b"\x02", stored[:-1], b"\x01\xff", b"\x02\xff"):
        with pytest.raises(ValueError):  # noqa: PT011  # whatever msgspec says
            decode(broken)


def test_a_state_of_format_1_is_read() -> None:
    stored = bytes.fromhex(
        "019f03c090c0c0a770726573656e74c0c0909292a465617374cd03e892a3e8a5bfcd07d090ffc400c40007"
    )
    ins = clock_ins.pack("east", 1_000) + clock_ins.pack("西", 2_000)
    person = Person(version=3, presence_status="present", clock_ins=ins, seen_floor_ms=7)
    assert decode(stored) == person
    assert clock_ins.latest(decode(stored).clock_ins, "西", 0, 5_000) == 2_000
