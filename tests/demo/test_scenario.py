"""The story in memory: it reaches everything there is, and is the same on every day and in every
order of different people."""

import asyncio
from collections import Counter
from datetime import datetime
from pathlib import Path
from random import Random

import pytest

from demo.acting import Play
from demo.calendar import Calendar, rfc3339
from demo.cast import EXTRAS, PEOPLE, make_cast
from demo.client import Message, Receipt
from demo.model import Model
from demo.scenario import PHASES
from demo.verbs import offer
from schemas.commands import COMMANDS
from schemas.events import EVENTS
from schemas.forms import time_ms
from schemas.identifiers import check_uscc, normalise_id_number
from schemas.limits import DAY_MS, HOUR_MS, OFFER_OPEN_MS_MAX, PAST_MS_MAX
from schemas.reasons import DEAD_LETTER_CODES, OUTCOME_CODES
from tests.demo.rehearsing import SOME_DAY, digest_of, rehearse


class Shuffled(Model):
    """A model that answers different people in a random order."""

    random = Random(0)

    async def send(self, message: Message) -> Receipt:
        for _ in range(self.random.randrange(4)):
            await asyncio.sleep(0)
        return await super().send(message)


@pytest.fixture(scope="module")
async def story() -> tuple[Play, Model]:
    return await rehearse()


async def test_the_script_and_the_rules_agree(story: tuple[Play, Model]) -> None:
    play, _ = story
    assert play.surprises == []


async def test_everything_there_is_happens(story: tuple[Play, Model]) -> None:
    play, model = story
    answers = Counter(one.answer[:2] for one in play.played.values() if one.answer)
    codes = {code for _, code in answers}
    assert codes == {*OUTCOME_CODES, *DEAD_LETTER_CODES}
    assert {status for status, _ in answers} == {
        "accepted",
        "rejected",
        "duplicate",
        "dead_letter",
    }
    # What is sent again is answered again, whatever the first answer was.
    repeated = {code for status, code in answers if status == "duplicate"}
    assert {"accepted", "awaiting_verification", "not_present"} <= repeated
    types = {event.type for _, event in model.history()}
    # An offer expires after thirty days of the broker's time, which no play on topics can wait.
    assert types == EVENTS.keys() - {"offer.expired"}
    sent = {
        one.envelope["type"]
        for one in play.played.values()
        if one.answer and one.answer.status == "accepted"
    }
    assert sent == COMMANDS.keys()


async def test_an_offer_left_open_expires() -> None:
    """The rest of the story: what the topics cannot show before a month has passed."""
    play, model = await rehearse()
    model.now_ms += OFFER_OPEN_MS_MAX + DAY_MS
    person = play.cast.extra("undecided")
    await offer(play, person, person.firm, model.now_ms)
    assert play.surprises == []
    assert [event.type for event in model.events[person.id]][-2:] == ["offer.expired", "offer.made"]


@pytest.mark.parametrize(
    "moment",
    [
        "2026-12-31T23:59:59+08:00",
        "2027-02-05T00:00:00+08:00",
        "2028-03-01T12:00:00Z",
        "2028-03-05T12:00:00Z",
    ],
)
async def test_the_same_on_every_day(story: tuple[Play, Model], moment: str) -> None:
    """Also across a leap day and the turn of a year; and all of it within the seven days, with an
    hour to spare, so that a slow machine plays the same."""
    play, model = await rehearse(moment)
    assert play.surprises == []
    assert digest_of(play, model) == digest_of(*story)
    now_ms = play.calendar.now_ms
    for one in play.played.values():
        if one.expected[1] not in ("from_the_future", "too_late", *DEAD_LETTER_CODES):
            at_ms = time_ms(one.envelope["time"])
            assert now_ms - PAST_MS_MAX + HOUR_MS < at_ms < now_ms, one.label


async def test_the_same_in_every_order_of_different_people(story: tuple[Play, Model]) -> None:
    play, model = await rehearse(model=Shuffled)
    assert play.surprises == []
    assert {label: one.answer for label, one in play.played.items()} == {
        label: one.answer for label, one in story[0].played.items()
    }
    assert digest_of(play, model) == digest_of(*story)


def test_the_cast() -> None:
    cast = make_cast(Calendar(time_ms(SOME_DAY)))
    assert len(cast.people) == len(cast.by_id) == len({one.handle for one in cast.people}) == PEOPLE
    assert {person.handle for person in cast.people} >= set(EXTRAS)
    for person in cast.people:
        assert normalise_id_number(person.id_number) == person.id_number
    for firm in (*cast.firms.values(), *cast.fair, cast.unregistered):
        assert check_uscc(firm.uscc) == firm.uscc
    assert len(PHASES) == len({phase.en for phase in PHASES})


def test_the_calendar() -> None:
    calendar = Calendar(time_ms("2026-03-03T15:00:00+08:00"))
    assert rfc3339(calendar.at(1, "08:00")) == "2026-02-25T08:00:00.000+08:00"
    assert rfc3339(calendar.at(6, "23:59", 59)) == "2026-03-02T23:59:59.000+08:00"
    assert calendar.day_of("2026-03-02") == 6
    assert datetime.fromisoformat(rfc3339(calendar.start_ms)).hour == 0


async def test_the_page_about_it_is_true(story: tuple[Play, Model]) -> None:
    page = (Path(__file__).parents[2] / "docs" / "demo.md").read_text("utf-8")
    assert f"`{digest_of(*story)}`" in page
    for number, phase in enumerate(PHASES, 1):
        assert f"| {number} | {phase.zh} · {phase.en} |" in page
