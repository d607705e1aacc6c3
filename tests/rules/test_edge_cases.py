"""The edge cases that operators meet, one test each, in the contract's order."""

from schemas.limits import DAY_MS, HOUR_MS, MINUTE_MS
from tests.rules.town import (
    BUILD,
    BUILD_PM,
    CREW,
    DEVICE,
    EAST,
    HE,
    LI,
    STEEL,
    WEST,
    WEST_PM,
    Town,
    as_staff,
    busy_town,
    code,
    someone,
    utc,
)

RECORDED = ["attendance.recorded"]
STARTED = ["offer.accepted", "employment.started"]


def test_withdraw_crossing_confirm() -> None:
    town = Town().registered(LI)
    offer = town.offer(LI, CREW).id
    assert town.withdraw_offer(LI, CREW, offer).said == ["offer.withdrawn"]
    assert town.confirm(LI, offer).said == "offer_not_open"
    offer = town.offer(LI, CREW).id
    assert town.confirm(LI, offer).said == STARTED
    assert town.withdraw_offer(LI, CREW, offer).said == "offer_not_open"
    assert town.person(LI).employer == CREW


def test_confirming_an_old_offer() -> None:
    town = Town().registered(LI)
    old = town.offer(LI, STEEL).id
    town.later(days=20)
    town.hired(LI, CREW)
    town.dismissed(LI, CREW)
    # Superseded then; not open again because the employment is over.
    assert town.confirm(LI, old).said == "offer_not_open"


def test_two_confirmations_at_once() -> None:
    town = Town().registered(LI)
    one, two = town.offer(LI, CREW).id, town.offer(LI, STEEL).id
    assert town.confirm(LI, one).said == [*STARTED, "offer.superseded"]
    assert town.confirm(LI, two).said == "offer_not_open"
    assert town.confirm(LI, one).said == "offer_not_open"
    assert town.person(LI).employer == CREW


def test_the_same_scan_twice_or_by_two_channels() -> None:
    town = ready(LI)
    shown = code(LI, town.now_ms)
    scanned = town.scan(LI, EAST, BUILD_PM, by=DEVICE, code=shown)
    assert scanned.said == ["entry.scanned"]
    assert town.again(scanned.command).said == "duplicate"
    other_channel = as_staff(EAST, BUILD_PM)
    assert town.scan(LI, EAST, BUILD_PM, by=other_channel, code=shown).said == "code_replayed"
    # The same id from the other channel is no duplicate: the source is another.
    again = town.scan(LI, EAST, BUILD_PM, by=other_channel, code=shown, id=scanned.id)
    assert again.said == "id_reused"


def test_scans_uploaded_days_late_and_out_of_order() -> None:
    town = ready(LI)
    town.entered(LI, EAST)
    start_ms = town.now_ms
    town.later(days=6)
    town.left(LI, EAST)
    days = []
    for day in (5, 1, 4, 2, 3):
        at_ms = start_ms + day * DAY_MS
        days.append(town.clock(LI, EAST, BUILD_PM, "in", at_ms=at_ms).data[0]["day"])
    assert days == ["2026-11-28", "2026-11-24", "2026-11-27", "2026-11-25", "2026-11-26"]
    # A night's `out` finds the `in` that came before it in time, though uploaded after others.
    late = town.clock(LI, EAST, BUILD_PM, "out", at_ms=start_ms + 2 * DAY_MS + 15 * HOUR_MS)
    assert late.data[0]["day"] == "2026-11-25"


def test_a_device_clock_off() -> None:
    town = ready(LI)
    ahead = town.now_ms + 6 * MINUTE_MS
    assert town.scan(LI, EAST, BUILD_PM, id="s", at_ms=ahead).said == "from_the_future"
    # A little off, the code judged by the device's clock does not fit; the clock set, it does.
    off = town.now_ms + 4 * MINUTE_MS
    shown = code(LI, town.now_ms)
    assert town.scan(LI, EAST, BUILD_PM, at_ms=off, code=shown).said == "code_expired"
    assert town.scan(LI, EAST, BUILD_PM, id="s", code=shown).said == ["entry.scanned"]


def test_a_code_photographed_and_shown_again() -> None:
    town = ready(LI)
    shown = code(LI, town.now_ms)
    entry = town.scan(LI, EAST, BUILD_PM, code=shown).id
    town.process(LI, EAST, entry, BUILD_PM)
    town.left(LI, EAST)
    town.assigned(LI, EAST)
    assert town.scan(LI, EAST, BUILD_PM, code=shown).said == "code_replayed"
    town.later(minutes=10)
    assert town.scan(LI, EAST, BUILD_PM, code=shown).said == "code_expired"


def test_a_scan_at_the_wrong_site() -> None:
    town = ready(LI)
    assert town.scan(LI, WEST, WEST_PM).said == "wrong_site"
    town.entered(LI, EAST)
    assert town.clock(LI, WEST, WEST_PM).said == "wrong_site"
    assert town.check_in(LI, WEST).said == "wrong_site"


def test_the_project_manager_replaced_while_entries_wait() -> None:
    town = ready(LI)
    entry = town.waiting(LI, EAST)
    town.hired(HE, BUILD, "manager")
    town.set_manager(EAST, BUILD, HE)
    assert town.process(LI, EAST, entry, BUILD_PM).said == "not_authorized"
    assert town.process(LI, EAST, entry, HE).said == ["presence.started"]


def test_a_site_suspended_with_people_inside() -> None:
    town = ready(LI)
    town.entered(LI, EAST)
    town.set_site(EAST, "suspended")
    assert town.clock(LI, EAST, BUILD_PM).said == RECORDED
    town.left(LI, EAST)


def test_a_forgotten_exit() -> None:
    town = ready(LI)
    town.entered(LI, EAST)
    town.later(days=40)
    # Still present: recorded, not free for another site, and still shown out.
    assert town.check_in(LI, EAST).said == RECORDED
    assert town.assign(LI, WEST).said == "already_assigned"
    town.left(LI, EAST)
    assert town.assign(LI, WEST).said == ["assignment.requested"]


def test_dismissal_after_the_manager_re_entered() -> None:
    town = busy_town().hired(HE, CREW, "manager")
    town.assigned(HE, EAST)
    assert town.dismiss(HE, CREW).said == ["dismissal.requested"]
    town.entered(HE, EAST)
    assert town.dismissal("agree", HE, CREW).said == "manager_on_site"
    town.left(HE, EAST)
    assert town.dismissal("agree", HE, CREW).said == ["employment.ended"]


def test_rehire_on_the_same_day() -> None:
    town = ready(LI)
    town.entered(LI, EAST)
    town.dismissed(LI, CREW)
    town.hired(LI, CREW)
    town.assigned(LI, EAST)
    town.entered(LI, EAST)
    assert town.check_in(LI, EAST).data[0]["day"] == "2026-11-23"


def test_a_batch_with_three_bad_rows_in_five_hundred() -> None:
    town = busy_town()
    bad = {17: "not_employed", 101: "already_assigned", 499: "registration_incomplete"}
    said = []
    for row in range(500):
        who = someone(f"row {row}")
        if bad.get(row) != "not_employed":
            town.hired(who, CREW, None if row == 499 else "worker")
        if bad.get(row) == "already_assigned":
            town.assigned(who, WEST)
        answer = town.assign(who, EAST, CREW, batch="b500")
        assert answer.command.batch == "b500"
        said.append(answer.said)
    assert said == [bad.get(row, ["assignment.requested"]) for row in range(500)]


def test_an_identity_turned_failed_after_parked_offers() -> None:
    town = Town()
    town.upload(LI)
    offer = town.offer(LI, CREW).id
    town.verify(LI, "failed")
    assert town.confirm(LI, offer).said == "offer_not_open"
    town.upload(LI)
    town.verify(LI)
    assert town.confirm(LI, offer).said == STARTED


def test_turning_sixty_while_on_site() -> None:
    town = busy_town().registered(LI, birth_date="1966-11-24")
    town.at_work(LI, CREW, EAST)
    town.later(days=1)
    assert town.check_in(LI, EAST).said == RECORDED
    town.left(LI, EAST)
    town.assigned(LI, EAST)
    town.entered(LI, EAST)
    town.dismissed(LI, CREW)
    assert town.offer(LI, CREW).said == "over_age"


def test_exit_when_already_out() -> None:
    town = ready(LI)
    town.entered(LI, EAST)
    town.register_exit(LI, EAST, BUILD_PM)
    confirmed = town.confirm_exit(LI, EAST, BUILD_PM)
    assert town.again(confirmed.command).said == "duplicate"
    assert town.confirm_exit(LI, EAST, BUILD_PM).said == "not_present"


def test_midnight() -> None:
    town = ready(LI)
    town.entered(LI, EAST)
    midnight = utc("2026-11-24T00:00:00+08:00")
    town.now_ms = midnight
    assert town.check_in(LI, EAST, at_ms=midnight - 1).data[0]["day"] == "2026-11-23"
    assert town.check_in(LI, EAST, at_ms=midnight).data[0]["day"] == "2026-11-24"


def ready(person: str) -> Town:
    """With a worker of the labour subcontractor, confirmed at EAST."""
    town = busy_town().hired(person, CREW)
    town.assigned(person, EAST)
    return town
