"""What goes wrong in the week: every reason to refuse, and every record that is no command.

Each storyline is about one of `EXTRAS`, and each function returns those of one phase.
"""

from collections.abc import Coroutine
from typing import Any, Final

import orjson

from demo.calendar import rfc3339
from demo.cast import BRIDGE, HOUSES, PLANT, SCHOOL, Person
from demo.client import Message
from demo.story import Story
from demo.verbs import (
    BUREAU,
    approve,
    assign,
    authorize,
    complete,
    confirm,
    confirm_exit,
    enter_self,
    exit_self,
    of_employment,
    offer,
    personal_code,
    post_attendance,
    post_checkin,
    process,
    refuse,
    register_exit,
    scan,
    unassign,
    upload,
    verify,
    withdraw_offer,
)
from rules.codes import issue_site_code
from schemas.identifiers import partition_for
from schemas.limits import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS, VALUE_BYTES_MAX

Storylines = list[Coroutine[Any, Any, None]]

NOWHERE: Final = "SH-XX-9999"
"""A site that is on no register."""


def _extra(story: Story, part: str) -> Person:
    return story.play.cast.extra(part)


# --- identity ------------------------------------------------------------------------------------


def identities(story: Story) -> Storylines:
    special = {
        "stranger": _stranger_verified,
        "mistyped": _mistyped_uploads,
        "impatient": _impatient_uploads,
        "victim": _victim_uploads,
        "clockwork": _clockwork_uploads,
    }
    return [
        special.get(person.handle, _uploads)(story, person)
        for person in story.play.cast.people
        if person.handle[0].islower()
    ]


async def _uploads(story: Story, person: Person) -> None:
    made = await upload(story.play, person, story.at(1, "09:00", person.number))
    story.uploads[person.handle] = made.id


async def _stranger_verified(story: Story, person: Person) -> None:
    """The centre knows somebody who never uploaded anything."""
    at_ms = story.at(1, "18:00")
    await verify(story.play, person, at_ms, "identity_not_registered", batch="centre-01")


async def _mistyped_uploads(story: Story, person: Person) -> None:
    wrong = _extra(story, "stranger").name_tag
    made = await upload(story.play, person, story.at(1, "09:05"), name_tag=wrong)
    story.uploads[person.handle] = made.id


async def _impatient_uploads(story: Story, person: Person) -> None:
    """The app sends again when it hears nothing; and once with other contents under the old id."""
    play, at_ms = story.play, story.at(1, "09:10")
    made = await upload(play, person, at_ms)
    await play.again(person, made)
    await play.again(person, made)
    changed = {**made.envelope["data"], "front_sha256": "0" * 64}
    await play.wait(
        await play.post(
            person,
            "identity.upload",
            person.source,
            at_ms,
            "id_reused",
            command_id=made.id,
            **changed,
        )
    )
    story.uploads[person.handle] = made.id


async def _victim_uploads(story: Story, person: Person) -> None:
    play, at_ms, other = story.play, story.at(1, "09:15"), _extra(story, "stranger")
    await upload(play, person, at_ms, "not_authorized", source=other.source)
    made = await upload(play, person, at_ms + MINUTE_MS)
    story.uploads[person.handle] = made.id
    batch = "centre-01"
    await verify(play, person, at_ms + HOUR_MS, "not_authorized", batch=batch, source=other.source)


async def _clockwork_uploads(story: Story, person: Person) -> None:
    """A phone that is an hour ahead, then one that was off for more than a week."""
    play, now_ms = story.play, story.play.calendar.now_ms
    await upload(play, person, now_ms + HOUR_MS, "from_the_future")
    await upload(play, person, now_ms - 8 * DAY_MS, "too_late")
    made = await upload(play, person, story.at(1, "09:20"))
    story.uploads[person.handle] = made.id


def early_offers(story: Story) -> Storylines:
    return [
        _refused_offer(story, "stranger", "identity_not_registered"),
        _refused_offer(story, "minor", "under_age"),
        _refused_offer(story, "pensioner", "over_age"),
        _refused_offer(story, "grandmother", "over_age"),
        _misspelt_offer(story, _extra(story, "misspelt")),
        _mistyped_offer(story, _extra(story, "mistyped")),
        _parked_offer(story, _extra(story, "doubtful")),
        _candidate_offer(story, _extra(story, "candidate")),
        _undecided_offers(story, _extra(story, "undecided")),
    ]


async def _refused_offer(story: Story, part: str, code: str) -> None:
    person = _extra(story, part)
    await offer(story.play, person, person.firm, story.at(1, "10:40"), code)


async def _misspelt_offer(story: Story, person: Person) -> None:
    play, wrong = story.play, _extra(story, "stranger").name_tag
    at_ms = story.at(1, "10:45")
    await offer(play, person, person.firm, at_ms, "name_mismatch", name_tag=wrong)
    made = await offer(play, person, person.firm, at_ms + MINUTE_MS, "awaiting_verification")
    story.offers[person.handle] = made.id


async def _mistyped_offer(story: Story, person: Person) -> None:
    """Parked under the name that the person typed; the centre will ask for the right one."""
    typed, at_ms = _extra(story, "stranger").name_tag, story.at(1, "10:50")
    await offer(story.play, person, person.firm, at_ms, "awaiting_verification", name_tag=typed)


async def _parked_offer(story: Story, person: Person) -> None:
    play, at_ms, parked = story.play, story.at(1, "10:55"), "awaiting_verification"
    made = await offer(play, person, person.firm, at_ms, parked)
    await play.again(person, made, parked)


async def _candidate_offer(story: Story, person: Person) -> None:
    firm = story.play.firm("停业")
    made = await offer(story.play, person, firm, story.at(1, "11:00"), "awaiting_verification")
    story.offers[person.handle] = made.id


async def _undecided_offers(story: Story, person: Person) -> None:
    """A firm that is on no register; and a parked offer withdrawn."""
    play, at_ms, firm = story.play, story.at(1, "11:05"), person.firm
    await offer(play, person, play.cast.unregistered, at_ms, "employer_unknown")
    made = await offer(play, person, firm, at_ms + MINUTE_MS, "awaiting_verification")
    await withdraw_offer(play, person, firm, made.id, at_ms + 2 * MINUTE_MS)


def after_the_centre(story: Story) -> Storylines:
    return [
        _mistyped_corrects(story, _extra(story, "mistyped")),
        _impatient_once_more(story, _extra(story, "impatient")),
    ]


async def _mistyped_corrects(story: Story, person: Person) -> None:
    """The parked offer bears the wrong name and is refused when the right one is verified."""
    made = await upload(story.play, person, story.at(1, "20:00"))
    at_ms = story.at(1, "21:00")
    await verify(story.play, person, at_ms, batch="centre-again", upload=made.id)


async def _impatient_once_more(story: Story, person: Person) -> None:
    await upload(story.play, person, story.at(1, "20:30"), "already_verified")


# --- employment ----------------------------------------------------------------------------------

_ORDINARY: Final = (
    "sixty",
    "misspelt",
    "clerk",
    "latecomer",
    "visitor",
    "homebody",
    "leaver",
    "quarrel",
    "returner",
    "successor",
    "apprentice",
    "garbled",
    "sleeper",
    "clockwork",
)


def hiring(story: Story) -> Storylines:
    return [
        *(story.employ(_extra(story, part), 2, "08:00") for part in _ORDINARY),
        _at_the_job_fair(story, _extra(story, "master")),
        story.employ(_extra(story, "orphan"), 2, "08:00", story.play.firm("注销")),
        _withdrawn_while_confirming(story, _extra(story, "crossed")),
        _two_at_once(story, _extra(story, "courted")),
        _impatient_hired(story, _extra(story, "impatient")),
        _victim_hired(story, _extra(story, "victim")),
        _left_open(story, _extra(story, "undecided")),
        story.hire(_extra(story, "hasty"), 2, "08:00"),
        _inspector_hired(story, _extra(story, "inspector")),
        _confirms_nothing(story, _extra(story, "stranger")),
    ]


async def _at_the_job_fair(story: Story, person: Person) -> None:
    """All firms of the fair want the same crane driver; one offer is too many, one is taken, and
    the rest are superseded."""
    play, fair = story.play, story.play.cast.fair
    at_ms = story.at(2, "09:00")
    made = [await offer(play, person, firm, at_ms) for firm in fair[:-1]]
    await offer(play, person, fair[-1], at_ms, "too_many")
    await refuse(play, person, made[0].id, at_ms + HOUR_MS)
    await offer(play, person, fair[-1], at_ms + HOUR_MS)
    await confirm(play, person, made[4].id, at_ms + 2 * HOUR_MS)
    await confirm(play, person, made[5].id, at_ms + 2 * HOUR_MS, "offer_not_open")
    await refuse(play, person, made[6].id, at_ms + 2 * HOUR_MS, "offer_not_open")
    await withdraw_offer(play, person, fair[7], made[7].id, at_ms + 2 * HOUR_MS, "offer_not_open")
    at_ms += 3 * HOUR_MS
    await complete(play, person, fair[5], at_ms, "not_employed_here", trade="080")
    await complete(play, person, fair[4], at_ms, "trade_required")
    await complete(play, person, fair[4], at_ms, "trade_required", trade="  ")
    await complete(play, person, fair[4], at_ms, trade="080")


async def _withdrawn_while_confirming(story: Story, person: Person) -> None:
    """The withdrawal was stored when the confirmation was sent, so it is decided first."""
    play, firm, at_ms = story.play, person.firm, story.at(2, "09:30")
    made = await offer(play, person, firm, at_ms)
    withdrawal = await play.stored(
        await play.post(
            person,
            "hire.withdraw",
            firm.source,
            at_ms + MINUTE_MS,
            employer=firm.uscc,
            offer=made.id,
        )
    )
    await confirm(play, person, made.id, at_ms + MINUTE_MS, "offer_not_open")
    await play.wait(withdrawal)
    await story.employ(person, 2, "10:00")


async def _two_at_once(story: Story, person: Person) -> None:
    """Two phones confirm two offers in the same moment: one employer, always."""
    play, at_ms = story.play, story.at(2, "09:30")
    firms = (person.firm, play.firm("市政"))
    made = [await offer(play, person, firm, at_ms) for firm in firms]
    answers = [
        await play.post(person, "hire.confirm", person.source, at_ms + 1, expect, offer=one.id)
        for one, expect in zip(made, ("accepted", "offer_not_open"), strict=True)
    ]
    for answer in answers:
        await play.wait(answer)
    await offer(play, person, person.firm, at_ms + HOUR_MS, "already_employed_here")
    await complete(play, person, person.firm, at_ms + HOUR_MS, trade="020")


async def _impatient_hired(story: Story, person: Person) -> None:
    play, firm, at_ms = story.play, person.firm, story.at(2, "09:40")
    made = await offer(play, person, firm, at_ms)
    await play.again(person, made)
    await offer(play, person, firm, at_ms + MINUTE_MS, "duplicate_registration")
    confirmed = await confirm(play, person, made.id, at_ms + HOUR_MS)
    await play.again(person, confirmed)
    await confirm(play, person, made.id, at_ms + HOUR_MS, "offer_not_open")
    completed = await complete(play, person, firm, at_ms + 2 * HOUR_MS, trade="040")
    await play.again(person, completed)


async def _victim_hired(story: Story, person: Person) -> None:
    play, firm, at_ms = story.play, person.firm, story.at(2, "09:50")
    other, stranger = play.firm("市政"), _extra(story, "stranger")
    await offer(play, person, firm, at_ms, "not_authorized", source=other.source)
    made = await offer(play, person, firm, at_ms)
    await confirm(play, person, made.id, at_ms, "not_authorized", source=stranger.source)
    story.offers[person.handle] = made.id
    await story.employ(person, 2, "10:00")


async def _left_open(story: Story, person: Person) -> None:
    await offer(story.play, person, person.firm, story.at(2, "10:00"))


async def _inspector_hired(story: Story, person: Person) -> None:
    await story.hire(person, 2, "08:00")
    at_ms, role = story.at(2, "09:30"), "manager"
    await complete(story.play, person, person.firm, at_ms, "position_required", role=role)
    await complete(story.play, person, person.firm, at_ms, position=person.position)


async def _confirms_nothing(story: Story, person: Person) -> None:
    at_ms = story.at(2, "10:00")
    await confirm(story.play, person, "no-such-offer", at_ms, "offer_not_open")


def after_the_register_changed(story: Story) -> Storylines:
    return [
        _candidate_waits_in_vain(story, _extra(story, "candidate")),
        _refused_by_register(story, _extra(story, "misspelt")),
    ]


async def _candidate_waits_in_vain(story: Story, person: Person) -> None:
    """The firm is suspended while its offer waits; another one hires the person."""
    made = story.offers.pop(person.handle)
    at_ms = story.at(2, "11:30")
    await confirm(story.play, person, made, at_ms, "employer_suspended")
    await story.employ(person, 2, "11:40")


async def _refused_by_register(story: Story, person: Person) -> None:
    play, at_ms = story.play, story.at(2, "11:30")
    await offer(play, person, play.firm("停业"), at_ms, "employer_suspended")
    await offer(play, person, play.firm("注销"), at_ms, "employer_unknown")


# --- who has charge ------------------------------------------------------------------------------


def managers(story: Story) -> Storylines:
    return [
        _successor_arrives(story, _extra(story, "successor")),
        _apprentice_authorized(story, _extra(story, "apprentice")),
        _clerk_becomes_manager(story, _extra(story, "clerk")),
        _inspector_arrives(story, _extra(story, "inspector")),
    ]


async def _successor_arrives(story: Story, person: Person) -> None:
    """The site's record names another project manager, still."""
    play, firm, at_ms = story.play, person.firm, story.at(2, "14:40")
    position = "project_manager"
    await assign(play, person, firm, HOUSES, at_ms, "not_the_named_manager", position=position)
    await story.station(person, 2, "14:50")
    await story.admit(person, 2, "15:30")


async def _apprentice_authorized(story: Story, person: Person) -> None:
    """Authorised by those who may not, by the one who may, and not for long."""
    play, at_ms = story.play, story.at(2, "15:00")
    own, main = story.chief(HOUSES, "专业"), story.chief(HOUSES, "总包")
    await authorize(play, person, HOUSES, own, at_ms, "assignment_not_confirmed")
    await story.station(person, 2, "15:10")
    at_ms = story.at(2, "15:50")
    others = (
        story.chief(HOUSES, "劳务"),
        story.chief(PLANT, "总包"),
        _extra(story, "homebody"),
    )
    for other in others:
        await authorize(play, person, HOUSES, other, at_ms, "not_authorized")
    await authorize(play, person, HOUSES, own, at_ms, "not_authorized_before", revoke=True)
    await authorize(play, person, HOUSES, own, at_ms)
    await authorize(play, person, HOUSES, main, at_ms, "already_authorized")
    await authorize(play, person, HOUSES, main, at_ms, revoke=True)


async def _clerk_becomes_manager(story: Story, person: Person) -> None:
    """A worker who is assigned must leave the site before becoming a manager."""
    play, firm, at_ms = story.play, person.firm, story.at(2, "15:40")
    await story.station(person, 2, "14:30")
    main = story.chief(HOUSES, "总包")
    await authorize(play, person, HOUSES, main, at_ms, "manager_required")
    await complete(play, person, firm, at_ms, "exit_first", position="资料员")
    made = story.assignments[person.handle]
    await unassign(play, person, firm, HOUSES, made, at_ms)
    await unassign(play, person, firm, HOUSES, made, at_ms, "assignment_not_pending")
    await complete(play, person, firm, at_ms + MINUTE_MS, position="资料员")
    await story.station(person, 2, "15:50")


async def _inspector_arrives(story: Story, person: Person) -> None:
    await story.station(person, 2, "14:30")
    await story.admit(person, 2, "15:15")
    chief = story.chief(HOUSES, "总包")
    await authorize(story.play, person, HOUSES, chief, story.at(2, "15:55"))


# --- assignments ---------------------------------------------------------------------------------

_STATIONED: Final = (
    "impatient",
    "victim",
    "visitor",
    "homebody",
    "sleeper",
    "sixty",
    "leaver",
    "quarrel",
    "returner",
    "clockwork",
)


def assignments(story: Story) -> Storylines:
    return [
        *(story.station(_extra(story, part), 2, "16:00") for part in _STATIONED),
        _hasty_assigned(story, _extra(story, "hasty")),
        _stranger_assigned(story, _extra(story, "stranger")),
    ]


async def _stranger_assigned(story: Story, person: Person) -> None:
    at_ms = story.at(2, "16:00")
    await assign(story.play, person, person.firm, HOUSES, at_ms, "not_employed")


async def _hasty_assigned(story: Story, person: Person) -> None:
    play, firm, at_ms = story.play, person.firm, story.at(2, "16:30")
    special = play.firm("专业")
    await assign(play, person, firm, HOUSES, at_ms, "registration_incomplete")
    completed = await complete(play, person, firm, at_ms, trade=person.trade)
    await assign(play, person, special, HOUSES, at_ms, "employed_elsewhere")
    other = play.firm("市政").source
    await assign(play, person, firm, HOUSES, at_ms, "not_authorized", source=other)
    elsewhere = story.chief(PLANT, "专业")
    await assign(play, person, firm, HOUSES, at_ms, "not_authorized", by=elsewhere)
    await assign(play, person, firm, NOWHERE, at_ms, "site_unknown")
    await assign(play, person, firm, BRIDGE, at_ms, "site_closed")
    await assign(play, person, firm, SCHOOL, at_ms, "employer_not_on_site")
    made = await assign(play, person, firm, HOUSES, at_ms)
    await assign(play, person, firm, PLANT, at_ms, "already_assigned")
    # The id of the assignment stands for nothing else from now on, whoever uses it.
    await play.wait(
        await play.post(
            person,
            "hire.complete",
            firm.source,
            at_ms,
            "id_reused",
            command_id=made.id,
            employer=firm.uscc,
            role="worker",
            trade=person.trade,
        )
    )
    chief = story.chief(HOUSES, "总包")
    later = at_ms + 10 * MINUTE_MS
    await approve(play, person, HOUSES, made.id, elsewhere, later, "not_authorized")
    apprentice = _extra(story, "apprentice")
    await approve(play, person, HOUSES, made.id, apprentice, later, "not_authorized")
    await approve(play, person, HOUSES, completed.id, chief, later, "assignment_not_pending")
    await approve(play, person, HOUSES, made.id, chief, later)
    again = "assignment_not_pending"
    await approve(play, person, HOUSES, made.id, chief, later, again, reject=True)


# --- the gate ------------------------------------------------------------------------------------

_ADMITTED: Final = (
    "impatient",
    "victim",
    "visitor",
    "sleeper",
    "sixty",
    "leaver",
    "quarrel",
    "returner",
    "clockwork",
    "hasty",
)


def gate(story: Story) -> Storylines:
    return [
        *(story.admit(_extra(story, part), 3, "06:10") for part in _ADMITTED),
        _latecomer_enters(story, _extra(story, "latecomer")),
        _apprentice_waits(story, _extra(story, "apprentice")),
        _clerk_waits(story, _extra(story, "clerk")),
    ]


async def _latecomer_enters(story: Story, person: Person) -> None:
    """Every wrong way to the gate before the right one."""
    play, chief = story.play, story.chief(HOUSES, "总包")
    at_ms = story.at(3, "08:00")
    await scan(play, person, HOUSES, chief, at_ms, "assignment_not_confirmed")
    await story.station(person, 3, "08:05")

    at_ms = story.at(3, "09:00")
    somebody = _extra(story, "visitor")
    keys = play.cast.code_keys
    await scan(play, person, HOUSES, chief, at_ms, "not_authorized", source=somebody.source)
    await scan(play, person, HOUSES, chief, at_ms, "code_invalid", code="RN:PHOTO")
    site_code = issue_site_code(keys, HOUSES, at_ms // SECOND_MS)
    await scan(play, person, HOUSES, chief, at_ms, "code_invalid", code=site_code)
    old = personal_code(play, person, at_ms - 10 * MINUTE_MS)
    await scan(play, person, HOUSES, chief, at_ms, "code_expired", code=old)
    others = personal_code(play, somebody, at_ms)
    await scan(play, person, HOUSES, chief, at_ms, "code_not_this_person", code=others)
    device = "/devices/handheld-7"
    await scan(play, person, NOWHERE, chief, at_ms, "site_unknown", source=device)
    await scan(play, person, BRIDGE, chief, at_ms, "site_closed")
    await scan(play, person, SCHOOL, chief, at_ms, "employer_not_on_site")
    operator = story.operator(HOUSES, "总包")
    await scan(play, person, HOUSES, operator, at_ms, "project_manager_required")
    for firm in ("劳务", "专业"):
        other = story.chief(HOUSES, firm)
        await scan(play, person, HOUSES, other, at_ms, "general_contractor_required")
    await scan(play, person, PLANT, story.chief(PLANT, "总包"), at_ms, "wrong_site")

    code = personal_code(play, person, at_ms)
    first = await scan(play, person, HOUSES, chief, at_ms, code=code, source=device)
    photographed = at_ms + MINUTE_MS
    await scan(play, person, HOUSES, chief, photographed, "code_replayed", code=code)
    at_ms += 5 * MINUTE_MS
    # A phone that has not heard of the newer key yet shows codes of the older.
    older = personal_code(play, person, at_ms, {1: keys[1]})
    second = await scan(play, person, HOUSES, chief, at_ms, code=older)
    at_ms += 5 * MINUTE_MS
    await process(play, person, HOUSES, second.id, somebody, at_ms, "not_authorized")
    await process(play, person, HOUSES, first.id, chief, at_ms, "entry_not_pending")
    await process(play, person, HOUSES, second.id, chief, at_ms)
    await process(play, person, HOUSES, second.id, chief, at_ms, "entry_not_pending")
    await scan(play, person, HOUSES, chief, at_ms, "already_present")
    await enter_self(play, person, HOUSES, at_ms, "project_manager_required")
    await enter_self(play, person, NOWHERE, at_ms, "site_unknown")


async def _apprentice_waits(story: Story, person: Person) -> None:
    """Scanned by the project manager who will be replaced before the entry is processed."""
    chief = story.chief(HOUSES, "专业")
    made = await scan(story.play, person, HOUSES, chief, story.at(3, "06:30"))
    story.entries[person.handle] = made.id


async def _clerk_waits(story: Story, person: Person) -> None:
    chief = story.chief(HOUSES, "总包")
    await scan(story.play, person, HOUSES, chief, story.at(3, "06:30"))


# --- attendance ----------------------------------------------------------------------------------


def working_days(story: Story) -> Storylines:
    return [
        _visitor_scans(story, _extra(story, "visitor")),
        _homebody_scans(story, _extra(story, "homebody")),
        _clockwork_scans(story, _extra(story, "clockwork")),
        _impatient_scans(story, _extra(story, "impatient")),
        _sleeper_scans(story, _extra(story, "sleeper")),
        _birthday(story, _extra(story, "sixty")),
    ]


async def _visitor_scans(story: Story, person: Person) -> None:
    play, operator = story.play, story.operator(HOUSES, "总包")
    keys, at_ms = play.cast.code_keys, story.at(3, "12:00")
    seconds = at_ms // SECOND_MS

    async def checkin(site: str, expect: str, code: str | None = None) -> None:
        await play.wait(await post_checkin(play, person, site, at_ms, expect, code=code))

    await checkin(HOUSES, "code_invalid", personal_code(play, person, at_ms))
    await checkin(HOUSES, "code_invalid", "https://example.com/qr")
    await checkin(HOUSES, "code_expired", issue_site_code(keys, HOUSES, seconds - 3 * 86_400))
    await checkin(HOUSES, "wrong_site", issue_site_code(keys, PLANT, seconds))
    await checkin(PLANT, "wrong_site")
    # Yesterday's sheet still hangs at the gate, and is good for a day.
    await checkin(HOUSES, "accepted", issue_site_code(keys, HOUSES, seconds - 86_400))

    async def attend(
        scanner: Person, expect: str, at_ms: int, code: str | None = None, source: str | None = None
    ) -> None:
        await play.wait(
            await post_attendance(
                play, person, HOUSES, scanner, at_ms, expect, code=code, source=source
            )
        )

    shown = personal_code(play, person, at_ms)
    await attend(operator, "not_authorized", at_ms, shown, _extra(story, "homebody").source)
    await attend(operator, "code_invalid", at_ms, issue_site_code(keys, HOUSES, seconds))
    homebody = _extra(story, "homebody")
    await attend(operator, "code_not_this_person", at_ms, personal_code(play, homebody, at_ms))
    await attend(homebody, "operator_required", at_ms, shown)
    await attend(story.chief(PLANT, "总包"), "operator_required", at_ms, shown)
    # For attendance a code may be shown again, as long as it is fresh.
    await attend(operator, "accepted", at_ms, shown)
    await attend(operator, "accepted", at_ms + 2 * MINUTE_MS, shown, "/devices/handheld-7")
    await attend(operator, "code_expired", at_ms + 30 * MINUTE_MS, shown)
    await attend(operator, "not_present", story.at(3, "05:00"))


async def _homebody_scans(story: Story, person: Person) -> None:
    """What was refused is refused again, not judged again."""
    play, at_ms = story.play, story.at(3, "12:00")
    made = await play.wait(await post_checkin(play, person, HOUSES, at_ms, "not_present"))
    await play.again(person, made, "not_present")


async def _clockwork_scans(story: Story, person: Person) -> None:
    """A terminal whose clock is off, in both directions; then it is mended, and what was refused
    for the clock's sake is taken under the same id."""
    play, now_ms, good_ms = story.play, story.play.calendar.now_ms, story.at(3, "12:00")
    code = issue_site_code(play.cast.code_keys, HOUSES, good_ms // SECOND_MS)
    ahead = await post_checkin(
        play, person, HOUSES, now_ms + HOUR_MS, "from_the_future", direction="in", code=code
    )
    await play.wait(ahead)
    behind = now_ms - 8 * DAY_MS
    await play.wait(await post_checkin(play, person, HOUSES, behind, "too_late", direction="in"))
    data = ahead.envelope["data"]
    mended = await play.post(
        person, "scan.checkin", person.source, good_ms, command_id=ahead.id, **data
    )
    await play.wait(mended)


async def _impatient_scans(story: Story, person: Person) -> None:
    """Uploaded three times; and a terminal that counts its scans from one again."""
    play, operator, at_ms = story.play, story.operator(HOUSES, "总包"), story.at(3, "07:30")
    device = "/devices/handheld-8"
    made = await post_attendance(
        play, person, HOUSES, operator, at_ms, direction="in", source=device
    )
    await play.wait(made)
    await play.again(person, made)
    await play.again(person, made)
    data = made.envelope["data"]
    await play.wait(
        await play.post(
            person,
            "scan.attendance",
            device,
            at_ms,
            "id_reused",
            command_id=made.id,
            **{**data, "direction": "out"},
        )
    )


async def _sleeper_scans(story: Story, person: Person) -> None:
    """In at a minute to midnight, out at a minute past it: one day."""
    play = story.play
    for day, clock, direction in ((3, "23:59", "in"), (4, "00:01", "out")):
        at_ms = story.at(day, clock)
        await play.wait(await post_checkin(play, person, HOUSES, at_ms, direction=direction))


async def _birthday(story: Story, person: Person) -> None:
    """Sixty today: whoever is on site goes on working."""
    at_ms = story.at(4, "08:00")
    await story.play.wait(await post_checkin(story.play, person, HOUSES, at_ms, direction="in"))


# --- a site suspended, a project manager replaced ------------------------------------------------


def suspended(story: Story) -> Storylines:
    return [
        _homebody_sent_elsewhere(story, _extra(story, "homebody")),
        _apprentice_processed(story, _extra(story, "apprentice")),
        _scanned_by_the_replaced(story, _extra(story, "latecomer")),
    ]


async def _homebody_sent_elsewhere(story: Story, person: Person) -> None:
    play, firm, at_ms = story.play, person.firm, story.at(5, "10:00")
    await unassign(play, person, firm, HOUSES, story.assignments[person.handle], at_ms)
    await assign(play, person, firm, PLANT, at_ms, "site_closed")


async def _apprentice_processed(story: Story, person: Person) -> None:
    play, entry, at_ms = story.play, story.entries[person.handle], story.at(5, "10:00")
    replaced, successor = story.chief(HOUSES, "专业"), _extra(story, "successor")
    await process(play, person, HOUSES, entry, replaced, at_ms, "not_authorized")
    await process(play, person, HOUSES, entry, successor, at_ms)


async def _scanned_by_the_replaced(story: Story, person: Person) -> None:
    at_ms, replaced = story.at(5, "10:00"), story.chief(HOUSES, "专业")
    await scan(story.play, person, HOUSES, replaced, at_ms, "project_manager_required")


# --- leaving -------------------------------------------------------------------------------------


def leaving(story: Story) -> Storylines:
    return [
        _victim_leaves(story, _extra(story, "victim")),
        _inspector_dismissed(story, _extra(story, "inspector")),
        _leaver_stays(story, _extra(story, "leaver")),
        _quarrel(story, _extra(story, "quarrel")),
        _returner(story, _extra(story, "returner")),
        _orphan_freed(story, _extra(story, "orphan")),
        _too_old_to_return(story, _extra(story, "sixty")),
        _clerk_dismissed(story, _extra(story, "clerk")),
        _replaced_leaves(story, story.chief(HOUSES, "专业")),
    ]


async def _victim_leaves(story: Story, person: Person) -> None:
    play, at_ms = story.play, story.at(6, "10:00")
    chief = story.chief(HOUSES, "总包")
    homebody, labour = _extra(story, "homebody"), story.chief(HOUSES, "劳务")
    await register_exit(play, person, HOUSES, homebody, at_ms, "operator_required")
    await register_exit(play, person, HOUSES, labour, at_ms, "general_contractor_required")
    await register_exit(play, person, PLANT, story.chief(PLANT, "总包"), at_ms, "not_present")
    await confirm_exit(play, person, HOUSES, chief, at_ms, "exit_not_pending")
    await exit_self(play, person, HOUSES, at_ms, "project_manager_required")
    await register_exit(play, person, HOUSES, chief, at_ms)
    await register_exit(play, person, HOUSES, chief, at_ms, "already_pending")
    await confirm_exit(play, person, HOUSES, chief, at_ms + MINUTE_MS)
    await confirm_exit(play, person, HOUSES, chief, at_ms + MINUTE_MS, "not_present")
    await register_exit(play, person, HOUSES, chief, at_ms + MINUTE_MS, "not_present")
    # A scan of the time before, uploaded after.
    late = await post_checkin(play, person, HOUSES, at_ms - HOUR_MS, direction="out")
    await play.wait(late)


async def _inspector_dismissed(story: Story, person: Person) -> None:
    """A manager exits first, also when he came back in between."""
    play, firm, at_ms = story.play, person.firm, story.at(6, "10:00")
    chief, reason = story.chief(HOUSES, "总包"), "项目结束"

    async def step(type_: str, at_ms: int, expect: str = "accepted") -> None:
        why = reason if type_ == "dismissal.request" else None
        await of_employment(play, person, type_, firm, at_ms, expect, reason=why)

    async def leaves(at_ms: int) -> None:
        await register_exit(play, person, HOUSES, chief, at_ms)
        await confirm_exit(play, person, HOUSES, chief, at_ms + MINUTE_MS)

    await step("dismissal.request", at_ms, "manager_on_site")
    await step("departure.request", at_ms, "manager_on_site")
    await leaves(at_ms + 5 * MINUTE_MS)
    await step("dismissal.request", at_ms + 10 * MINUTE_MS)
    await story.station(person, 6, "10:30")
    await story.admit(person, 6, "12:00")
    at_ms = story.at(6, "13:30")
    await step("dismissal.agree", at_ms, "manager_on_site")
    await leaves(at_ms + 5 * MINUTE_MS)
    await step("dismissal.agree", at_ms + 10 * MINUTE_MS)


async def _leaver_stays(story: Story, person: Person) -> None:
    play, firm, at_ms = story.play, person.firm, story.at(6, "10:00")

    async def step(
        type_: str, expect: str = "accepted", *, reason: str | None = None, by: str | None = None
    ) -> None:
        await of_employment(play, person, type_, firm, at_ms, expect, reason=reason, source=by)

    await step("departure.request")
    await step("departure.request", "already_pending")
    await step("departure.approve", "not_authorized", by=play.firm("市政").source)
    await step("departure.withdraw")
    await step("departure.withdraw", "nothing_pending")
    await step("departure.approve", "nothing_pending")
    await step("dismissal.request", "reason_required")
    await step("dismissal.request", "reason_required", reason="  ")
    await step("dismissal.agree", "nothing_pending")
    await step("dismissal.request", reason="合同到期")
    await step("dismissal.request", "already_pending", reason="合同到期")
    await step("dismissal.refuse")
    other = play.firm("专业")
    elsewhere = "not_employed_here"
    reason = "合同到期"
    await of_employment(play, person, "dismissal.request", other, at_ms, elsewhere, reason=reason)
    await of_employment(play, person, "departure.request", other, at_ms, elsewhere)


async def _quarrel(story: Story, person: Person) -> None:
    """Dismissal and departure cross: the first that is answered ends both."""
    play, firm, at_ms = story.play, person.firm, story.at(6, "10:00")
    await of_employment(play, person, "dismissal.request", firm, at_ms, reason="违反安全规定")
    await of_employment(play, person, "departure.request", firm, at_ms + 1)
    await of_employment(play, person, "departure.approve", firm, at_ms + HOUR_MS)
    later = at_ms + 2 * HOUR_MS
    await of_employment(play, person, "dismissal.agree", firm, later, "nothing_pending")


async def _returner(story: Story, person: Person) -> None:
    """Gone and hired again on the same day: everything once more."""
    play, firm, at_ms = story.play, person.firm, story.at(6, "08:00")
    await of_employment(play, person, "departure.request", firm, at_ms)
    await of_employment(play, person, "departure.approve", firm, at_ms + MINUTE_MS)
    gone = await post_checkin(play, person, HOUSES, at_ms + 2 * MINUTE_MS, "not_present")
    await play.wait(gone)
    await story.employ(person, 6, "09:00")
    await story.station(person, 6, "11:00")
    await story.admit(person, 6, "13:00")
    back = await post_checkin(play, person, HOUSES, story.at(6, "14:00"), direction="in")
    await play.wait(back)


async def _orphan_freed(story: Story, person: Person) -> None:
    """The employer exists no more, so the bureau answers in its stead."""
    play, gone, at_ms = story.play, story.play.firm("注销"), story.at(6, "10:00")
    await of_employment(play, person, "departure.request", gone, at_ms)
    await of_employment(play, person, "departure.approve", gone, at_ms + HOUR_MS, source=BUREAU)
    await story.employ(person, 6, "12:00")


async def _too_old_to_return(story: Story, person: Person) -> None:
    play, firm, at_ms = story.play, person.firm, story.at(6, "10:00")
    await of_employment(play, person, "dismissal.request", firm, at_ms, reason="合同到期")
    await of_employment(play, person, "dismissal.agree", firm, at_ms + HOUR_MS)
    await offer(play, person, firm, at_ms + 2 * HOUR_MS, "over_age")


async def _clerk_dismissed(story: Story, person: Person) -> None:
    """Dismissed while an entry waits, which lapses."""
    play, firm, at_ms = story.play, person.firm, story.at(6, "10:00")
    await of_employment(play, person, "dismissal.request", firm, at_ms, reason="岗位取消")
    await of_employment(play, person, "dismissal.agree", firm, at_ms + HOUR_MS)


async def _replaced_leaves(story: Story, person: Person) -> None:
    """The former project manager may not let himself out any more."""
    play, chief, at_ms = story.play, story.chief(HOUSES, "总包"), story.at(6, "10:00")
    await exit_self(play, person, HOUSES, at_ms, "project_manager_required")
    await register_exit(play, person, HOUSES, chief, at_ms)
    await confirm_exit(play, person, HOUSES, chief, at_ms + MINUTE_MS)


# --- records that are no commands ----------------------------------------------------------------


async def no_commands(story: Story) -> None:
    """One or more of each class of dead letters, from a terminal that is out of order."""
    play, person = story.play, _extra(story, "garbled")
    key = person.id.encode()
    count = play.client.partitions
    home = partition_for(key, count)
    good: dict[str, Any] = {
        "specversion": "1.0",
        "id": "garbled",
        "source": "/devices/broken-9",
        "type": "scan.checkin",
        "time": rfc3339(story.at(3, "12:00")),
        "subject": person.id,
        "data": {"site": HOUSES, "code": "RN:X"},
    }
    without_subject = {name: value for name, value in good.items() if name != "subject"}
    padded = {**good, "data": {**good["data"], "code": "X" * VALUE_BYTES_MAX}}

    def data(**changes: Any) -> dict[str, Any]:
        return {**good, "data": {**good["data"], **changes}}

    async def send(
        expect: str,
        value: Any,
        *,
        topic: str = "scan-events",
        key: bytes | None = key,
        partition: int = home,
    ) -> None:
        body = value if isinstance(value, bytes | None) else orjson.dumps(value)
        await play.raw("letter", Message(topic, key, body, partition), expect)

    await send("too_large", padded)
    await send("not_json", None)
    await send("not_json", b'{"specversion": "1.0", "id": "half a rec')
    await send("not_json", b"\xff\xd8\xff\xe0\x00\x10JFIF\x00")
    await send("not_an_envelope", [good])
    await send("not_an_envelope", {**good, "specversion": "0.3"})
    await send("not_an_envelope", without_subject)
    await send("not_an_envelope", {**good, "time": "yesterday"})
    await send("unknown_type", {**good, "type": "scan.lunch"})
    await send("wrong_topic", good, topic="exit-requests")
    await send("key_mismatch", good, key=b"terminal-9")
    await send("key_mismatch", good, key=None)
    await send("wrong_partition", good, partition=(home + 1) % count)
    await send("data_invalid", data(code=7))
    await send("data_invalid", data(mood="good"))
    await send("data_invalid", data(direction="sideways"))
    uscc = person.firm.uscc
    # One character of the credit code is another.
    mistyped = {"employer": uscc[:17] + ("0" if uscc[17] != "0" else "1")}
    departure = {**good, "type": "departure.request", "data": mistyped}
    await send("data_invalid", departure, topic="departure-requests")
