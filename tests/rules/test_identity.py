"""Identity: upload and the centre's result (contract: Identity)."""

import pytest

from schemas.limits import MINUTE_MS
from tests.rules.town import CREW, LI, NOON, OTHER, STEEL, WU, Town, tag, utc

SUBMITTED, VERIFIED, FAILED = "identity.submitted", "identity.verified", "identity.failed"


def test_upload_and_verify() -> None:
    town = Town()
    assert town.upload(LI).said == [SUBMITTED]
    assert town.verify(LI).said == [VERIFIED]
    assert town.upload(LI).said == "already_verified"


@pytest.mark.parametrize("tick", [None, False, "", "  "])
def test_without_the_tick_there_is_no_upload(tick: object) -> None:
    assert Town().upload(LI, notice_accepted=tick).said == "notice_not_accepted"


def test_an_upload_replaces_the_one_before() -> None:
    town = Town()
    town.upload(LI, id="u1", name_tag=tag(WU))
    assert town.upload(LI, id="u2").said == [SUBMITTED]
    assert town.offer(LI, CREW, name_tag=tag(WU)).said == "name_mismatch"
    assert town.offer(LI, CREW).said == ["offer.parked"]


def test_a_failed_identity_may_be_uploaded_again() -> None:
    town = Town()
    town.upload(LI)
    assert town.verify(LI, "failed", reason="blurred").data == [{"reason": "blurred"}]
    assert town.upload(LI).said == [SUBMITTED]
    assert town.verify(LI).said == [VERIFIED]


def test_nothing_to_verify() -> None:
    assert Town().verify(LI).said == "identity_not_registered"


@pytest.mark.parametrize("result", ["verified", "failed"])
def test_a_result_for_an_older_upload_changes_nothing(result: str) -> None:
    town = Town()
    town.upload(LI, id="u1")
    town.upload(LI, id="u2")
    late = town.verify(LI, result, upload="u1")
    assert (late.said, late.code, late.decision.version) == ([], "accepted", 2)
    assert town.person(LI).identity_status == "submitted"
    assert town.verify(LI, result, upload="u2").said == [f"identity.{result}"]


@pytest.mark.parametrize("first", ["verified", "failed"])
@pytest.mark.parametrize("second", ["verified", "failed"])
def test_batches_may_repeat(first: str, second: str) -> None:
    town = Town()
    town.upload(LI)
    town.verify(LI, first)
    assert town.verify(LI, second, batch="b2").said == []
    assert town.person(LI).identity_status == first


def test_a_batch_is_echoed() -> None:
    town = Town()
    town.upload(LI)
    assert town.verify(LI, batch="2026-11").command.batch == "2026-11"


# --- parked offers --------------------------------------------------------------------------------


def test_parked_offers_become_made_oldest_first() -> None:
    town = Town()
    town.upload(LI)
    for employer in (STEEL, CREW):
        assert town.offer(LI, employer, id=employer).said == ["offer.parked"]
    answer = town.verify(LI)
    assert answer.said == [VERIFIED, "offer.made", "offer.made"]
    assert [data.get("offer") for data in answer.data] == [None, STEEL, CREW]


def test_parked_offers_that_no_longer_fit_are_refused_with_the_cause() -> None:
    town = Town()
    town.upload(LI)
    town.offer(LI, STEEL, id="o1")
    town.upload(LI, name_tag=tag(WU))
    town.offer(LI, CREW, id="o2", name_tag=tag(WU))
    answer = town.verify(LI)
    assert answer.said == [VERIFIED, "offer.refused", "offer.made"]
    assert answer.data[1] == {"offer": "o1", "employer": STEEL, "cause": "name_mismatch"}
    assert answer.data[2] == {"offer": "o2", "employer": CREW}
    assert town.confirm(LI, "o1").said == "offer_not_open"
    assert town.confirm(LI, "o2").said == ["offer.accepted", "employment.started"]


@pytest.mark.parametrize(
    ("birth_date", "cause"), [("2008-11-24", "under_age"), ("1966-11-23", "over_age")]
)
def test_a_later_upload_may_show_another_age(birth_date: str, cause: str) -> None:
    town = Town()
    town.upload(LI)
    town.offer(LI, CREW)
    town.upload(LI, birth_date=birth_date)
    assert town.verify(LI).data[1]["cause"] == cause


def test_turning_sixty_between_offer_and_verification() -> None:
    town = Town()
    town.upload(LI, birth_date="1966-11-24")
    assert town.offer(LI, CREW).said == ["offer.parked"]
    town.later(days=1)
    assert town.verify(LI).data[1]["cause"] == "over_age"


def test_a_failed_identity_leaves_offers_parked_until_one_is_verified() -> None:
    town = Town()
    town.upload(LI)
    town.offer(LI, CREW, id="o1")
    town.verify(LI, "failed")
    assert town.confirm(LI, "o1").said == "offer_not_open"
    assert town.offer(LI, STEEL).said == ["offer.parked"]  # as well while failed
    assert town.offer(LI, CREW).said == "duplicate_registration"
    town.upload(LI)
    assert town.verify(LI).said == [VERIFIED, "offer.made", "offer.made"]


def test_a_parked_offer_may_expire_or_be_withdrawn() -> None:
    town = Town()
    town.upload(LI)
    town.offer(LI, CREW, id="o1")
    town.offer(LI, STEEL, id="o2")
    assert town.withdraw_offer(LI, STEEL, "o2").said == ["offer.withdrawn"]
    town.later(days=30)
    assert town.verify(LI).said == ["offer.expired", VERIFIED]


def test_an_expiry_is_written_also_when_a_result_comes_too_late_to_matter() -> None:
    town = Town()
    town.upload(LI, id="u1")
    town.offer(LI, CREW)
    town.upload(LI, id="u2")
    town.later(days=30)
    assert town.verify(LI, upload="u1").said == ["offer.expired"]


# --- age ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("birth_date", "sex", "said"),
    [
        ("2008-11-24", "male", "under_age"),  # 18 tomorrow
        ("2008-11-23", "male", ["offer.made"]),  # 18 today
        ("1966-11-24", "male", ["offer.made"]),  # 60 tomorrow
        ("1966-11-23", "male", "over_age"),
        ("1976-11-24", "female", ["offer.made"]),  # 50 tomorrow
        ("1976-11-23", "female", "over_age"),
        ("1966-11-23", "female", "over_age"),
        ("2027-01-01", "female", "under_age"),  # a typing error
    ],
)
def test_age_in_full_years(birth_date: str, sex: str, said: object) -> None:
    town = Town().registered(LI, birth_date=birth_date, sex=sex)
    assert town.offer(LI, CREW).said == said


def test_age_is_counted_on_the_shanghai_date_of_the_time() -> None:
    midnight = utc("2026-11-24T00:00:00+08:00")
    town = Town(now_ms=midnight).registered(LI, birth_date="2008-11-24")
    assert town.offer(LI, CREW, at_ms=midnight - 1).said == "under_age"
    assert town.offer(LI, CREW, at_ms=midnight).said == ["offer.made"]


@pytest.mark.parametrize(
    ("day", "said"), [("2026-02-28", "under_age"), ("2026-03-01", ["offer.made"])]
)
def test_a_birthday_on_29_february(day: str, said: object) -> None:
    town = Town(now_ms=utc(f"{day}T12:00:00+08:00"))
    town.registered(LI, birth_date="2008-02-29")
    assert town.offer(LI, CREW).said == said


def test_age_is_asked_at_offers_only() -> None:
    town = Town().registered(LI, birth_date="1966-11-24")
    offer = town.offer(LI, CREW).id
    town.later(days=2)
    assert town.offer(LI, STEEL).said == "over_age"
    assert town.confirm(LI, offer).said == ["offer.accepted", "employment.started"]
    assert town.complete(LI, CREW).said == ["employment.registered"]


def test_the_centre_and_the_person_only() -> None:
    town = Town()
    assert town.upload(LI, by=f"/persons/{WU}").said == "not_authorized"
    town.upload(LI)
    assert town.verify(LI, by="/bureau").said == "not_authorized"
    assert town.verify(LI, at_ms=NOON - MINUTE_MS).said == [VERIFIED]
    assert town.verify(LI, by=f"/employers/{OTHER}").said == "not_authorized"
