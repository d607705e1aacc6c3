"""The story: a week on two construction sites, from the first upload to the last exit.

What goes right is here; what goes wrong, to `EXTRAS`, is in `mishaps`. Every step says what it is
answered. A phase begins when all of the one before is answered, so that what one person's rights
rest on (who is manager, operator, present) is settled before others act on it; within a phase the
storylines of all people run side by side.
"""

from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

from demo import mishaps
from demo.acting import Play
from demo.cast import BRIDGE, HOUSES, PLANT, SITES, Person
from demo.story import OPERATOR_POSITIONS, Story, put_employer, put_site
from demo.verbs import (
    approve,
    assign,
    authorize,
    complete,
    confirm_exit,
    enter_self,
    exit_self,
    of_employment,
    offer,
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

BATCH_PEOPLE: Final = 50
"""People in one of the centre's batches."""


class Phase(NamedTuple):
    zh: str
    en: str
    play: Callable[[Story], Awaitable[None]]


async def perform(play: Play, begins: Callable[[int], None] = lambda number: None) -> Story:
    """Play all phases. Raises NoAnswer when the system does not answer."""
    story = Story(play)
    for play.phase, phase in enumerate(PHASES):
        begins(play.phase)
        await phase.play(story)
    return story


# --- the registers -------------------------------------------------------------------------------


async def registers(story: Story) -> None:
    cast = story.play.cast
    for firm in (*cast.firms.values(), *cast.fair):
        await put_employer(story, firm)
    for site in SITES:
        await put_site(story, site, "completed" if site == BRIDGE else "active")


# --- identity ------------------------------------------------------------------------------------


async def identities(story: Story) -> None:
    cast = story.play.cast
    ordinary = (*cast.chiefs.values(), *cast.managers, *cast.workers, *cast.newcomers)
    await story.play.together(
        *(_upload(story, person) for person in ordinary), *mishaps.identities(story)
    )


async def _upload(story: Story, person: Person) -> None:
    at_ms = story.at(1, "08:00", person.number * 17 % 7200)
    if person.every(50, 7):
        await upload(story.play, person, at_ms, "notice_not_accepted", notice=None)
    made = await upload(story.play, person, at_ms + 60_000)
    if person.every(60, 11):
        # A better photograph, before the centre looked at the first.
        made = await upload(story.play, person, at_ms + 120_000)
    story.uploads[person.handle] = made.id


async def early_offers(story: Story) -> None:
    """FAQ 1: the employer registers before the centre has processed."""
    early = (person for person in story.play.cast.workers if person.number % 5 < 3)
    await story.play.together(
        *(_early_offer(story, person) for person in early), *mishaps.early_offers(story)
    )


async def _early_offer(story: Story, person: Person) -> None:
    at_ms = story.at(1, "10:30", person.number * 13 % 5400)
    made = await offer(story.play, person, person.firm, at_ms, "awaiting_verification")
    story.offers[person.handle] = made.id
    if person.every(25, 1):
        await offer(story.play, person, person.firm, at_ms + 300_000, "duplicate_registration")


async def centre(story: Story) -> None:
    cast = story.play.cast
    uploaded = [person for person in cast.people if person.handle in story.uploads]
    await story.play.together(
        *(
            _verdict(story, person, number // BATCH_PEOPLE + 1)
            for number, person in enumerate(uploaded)
        )
    )
    await story.play.together(*mishaps.after_the_centre(story))


async def _verdict(story: Story, person: Person, batch: int) -> None:
    play, at_ms = story.play, story.at(1, "18:00", batch * 600)
    name = f"centre-{batch:02}"
    if person.handle in ("mistyped", "doubtful"):
        await verify(play, person, at_ms, batch=name, failed="姓名与证件不符")
    elif person.every(23, 5):
        await verify(play, person, at_ms, batch=name, failed="证件照片模糊")
        made = await upload(play, person, at_ms + 3_600_000)
        # A verdict on the first photograph comes late and changes nothing.
        before = story.uploads[person.handle]
        await verify(play, person, at_ms + 3_700_000, batch=name, upload=before)
        story.uploads[person.handle] = made.id
        await verify(play, person, at_ms + 7_200_000, batch=f"{name}-again", upload=made.id)
    else:
        made = await verify(play, person, at_ms, batch=name)
        if batch == 2:
            # The centre sends its second batch twice.
            await play.again(person, made)


# --- employment ----------------------------------------------------------------------------------


async def hiring(story: Story) -> None:
    cast = story.play.cast
    ordinary = (*cast.chiefs.values(), *cast.managers, *cast.workers)
    await story.play.together(
        *(_hired(story, person) for person in ordinary),
        *(_newcomer(story, person) for person in cast.newcomers),
        *mishaps.hiring(story),
    )
    # The register changes while an offer waits and a person is employed.
    await put_employer(story, cast.firms["停业"], "suspended")
    await put_employer(story, cast.firms["注销"], None)
    await story.play.together(*mishaps.after_the_register_changed(story))


async def _hired(story: Story, person: Person) -> None:
    play, firm = story.play, person.firm
    at_ms = story.at(2, "07:30", person.number * 7 % 3600)
    offered = story.offers.get(person.handle)
    if person.trade and person.every(31, 3):
        if offered is None:
            offered = (await offer(play, person, firm, at_ms)).id
        await refuse(play, person, offered, at_ms + 120_000)
        story.offers.pop(person.handle, None)
    elif person.trade and person.every(37, 4):
        if offered is None:
            offered = (await offer(play, person, firm, at_ms)).id
        await withdraw_offer(play, person, firm, offered, at_ms + 120_000)
        story.offers.pop(person.handle, None)
    elif person.trade and person.every(29, 2):
        # Superseded when the person confirms the first.
        await offer(play, person, play.firm("市政"), at_ms)
    await story.hire(person, 2, "08:00")
    if person.trade and person.every(45, 10):
        await complete(play, person, firm, story.at(2, "09:10"), "trade_required")
    await complete(
        play,
        person,
        firm,
        story.at(2, "09:15", person.number * 7 % 3600),
        trade=person.trade,
        position=person.position,
    )


async def _newcomer(story: Story, person: Person) -> None:
    """FAQ 2: employed by another firm, which must let the person go first."""
    play, firm, other = story.play, person.firm, story.play.firm("市政")
    await story.hire(person, 2, "07:30", other)
    await complete(play, person, other, story.at(2, "09:00"), trade=person.trade)
    await offer(play, person, firm, story.at(2, "10:00"), "employed_elsewhere")
    await of_employment(play, person, "departure.request", other, story.at(2, "10:30"))
    await offer(play, person, firm, story.at(2, "10:40"), "employed_elsewhere")
    await of_employment(play, person, "departure.approve", other, story.at(2, "11:00"))
    await story.employ(person, 2, "11:30")


# --- who has charge of the sites -----------------------------------------------------------------


async def managers(story: Story) -> None:
    cast = story.play.cast
    await story.play.together(*(_chief(story, person) for person in cast.chiefs.values()))
    await story.play.together(
        *(_manager(story, person) for person in cast.managers), *mishaps.managers(story)
    )


async def _chief(story: Story, person: Person) -> None:
    """A named project manager approves his own assignment and enters without a scan."""
    play, site, firm = story.play, person.site, person.firm
    made = await assign(play, person, firm, site, story.at(2, "14:00"))
    await approve(play, person, site, made.id, person, story.at(2, "14:10"))
    await enter_self(play, person, site, story.at(2, "14:20"))
    if firm.short == "专业":
        await enter_self(play, person, site, story.at(2, "14:21"), "already_present")


async def _manager(story: Story, person: Person) -> None:
    play, site = story.play, person.site
    chief = story.chief(site, "总包")
    at_ms = story.at(2, "14:30", person.number * 20)
    made = await assign(play, person, person.firm, site, at_ms, by=chief)
    await approve(play, person, site, made.id, chief, at_ms + 60_000)
    await story.admit(person, 2, "15:00")
    if person.position in OPERATOR_POSITIONS:
        own = story.chief(site, person.firm.short)
        await authorize(play, person, site, own, story.at(2, "15:45", person.number))


# --- assignments ---------------------------------------------------------------------------------


async def assignments(story: Story) -> None:
    cast = story.play.cast
    await story.play.together(
        *(_assigned(story, person) for person in (*cast.workers, *cast.newcomers)),
        *mishaps.assignments(story),
    )


async def _assigned(story: Story, person: Person) -> None:
    play, site, firm = story.play, person.site, person.firm
    at_ms = story.at(2, "16:00", person.number * 7 % 3600)
    way = person.number % 3
    batch = f"assign-{site}-{firm.short}-{person.trade}" if way == 0 else None
    # 先选工地: many to one site by the firm; 先选人员: one by one; 工地端: by a project manager.
    by = story.chief(site, "总包" if person.every(2, 0) else firm.short) if way == 2 else None
    made = await assign(play, person, firm, site, at_ms, by=by, batch=batch)
    chief = story.chief(site, "总包")
    if person.every(33, 8):
        await approve(play, person, site, made.id, chief, at_ms + 300_000, reject=True)
        made = await assign(play, person, firm, site, at_ms + 600_000)
    elif person.every(35, 12):
        await unassign(play, person, firm, site, made.id, at_ms + 300_000)
        made = await assign(play, person, firm, site, at_ms + 600_000)
    approver = (chief, story.operator(site, firm.short), story.chief(site, firm.short))[way]
    await approve(play, person, site, made.id, approver, at_ms + 1_200_000, batch=batch)
    story.assignments[person.handle] = made.id


# --- the gate ------------------------------------------------------------------------------------


def stays_away(person: Person) -> bool:
    """Assigned, and not come until the site is suspended."""
    return person.every(30, 13)


def stays_waiting(person: Person) -> bool:
    """Scanned at the gate, and not processed."""
    return person.every(26, 9) and not stays_away(person)


async def gate(story: Story) -> None:
    cast = story.play.cast
    await story.play.together(
        *(
            _entering(story, person)
            for person in (*cast.workers, *cast.newcomers)
            if not stays_away(person)
        ),
        *mishaps.gate(story),
    )


async def _entering(story: Story, person: Person) -> None:
    play, site = story.play, person.site
    at_ms = story.at(3, "06:10", person.number * 11 % 3000)
    gatekeeper = story.gatekeeper(person)
    device = f"/devices/{site}-gate-{person.number % 4 + 1}" if person.every(2, 1) else None
    made = await scan(play, person, site, gatekeeper, at_ms, source=device)
    if person.every(28, 6):
        # Shown again with a fresh code: the first entry lapses.
        first, made = made, await scan(play, person, site, gatekeeper, at_ms + 180_000)
        chief = story.chief(site, "总包")
        late = at_ms + 240_000
        await process(play, person, site, first.id, chief, late, "entry_not_pending")
    story.entries[person.handle] = made.id
    if stays_waiting(person):
        return
    by = (
        story.chief(site, "总包"),
        story.operator(site, "总包"),
        story.chief(site, person.firm.short),
    )[person.number % 3]
    batch = f"entry-{site}-{person.number * 11 % 3000 // 600}"
    await process(play, person, site, made.id, by, at_ms + 600_000, batch=batch)


# --- attendance ----------------------------------------------------------------------------------


def inside(story: Story) -> list[Person]:
    """Workers and newcomers who were let in."""
    cast = story.play.cast
    return [
        person
        for person in (*cast.workers, *cast.newcomers)
        if not stays_away(person) and not stays_waiting(person)
    ]


async def working_days(story: Story) -> None:
    await story.play.together(
        *(_working(story, person) for person in inside(story)), *mishaps.working_days(story)
    )


async def _working(story: Story, person: Person) -> None:
    """Two days, or a night and a day. The gate's terminals upload when they have a line, so some
    scans come late, twice, or in another order than they were made."""
    play, site, number = story.play, person.site, person.number
    operator = story.operator(site, "总包" if number % 2 else person.firm.short)
    device = f"/devices/{site}-gate-{number % 4 + 1}" if number % 4 == 3 else None
    night = person.every(9, 0)
    shifts = (
        [(3, "19:50", 4, "05:40"), (4, "19:50", 5, "05:40")]
        if night
        else [(3, "07:30", 3, "17:30"), (4, "07:30", 4, "17:30")]
    )
    if person.every(8, 1):
        shifts.reverse()
    for day_in, clock_in, day_out, clock_out in shifts:
        jitter = number * 7 % 1200
        in_ms, out_ms = story.at(day_in, clock_in, jitter), story.at(day_out, clock_out, jitter)
        if person.every(7, 0) and not night:
            # Out before in. Both are of the same day, whichever is recorded first.
            last = await post_attendance(play, person, site, operator, out_ms, direction="out")
            first = await post_checkin(play, person, site, in_ms, direction="in")
        else:
            first = await post_checkin(play, person, site, in_ms, direction="in")
            last = await post_attendance(
                play, person, site, operator, out_ms, direction="out", source=device
            )
        await play.wait(first)
        await play.wait(last)
        if person.every(13, 3):
            await play.again(person, last)


# --- a site is suspended, a project manager replaced ---------------------------------------------


async def suspended(story: Story) -> None:
    cast = story.play.cast
    await put_site(story, PLANT, "suspended")
    await put_site(story, HOUSES, chiefs={"专业": cast.extra("successor")})
    there = [person for person in (*cast.workers, *cast.newcomers) if person.site == PLANT]
    await story.play.together(
        *(_shut_out(story, person) for person in there if stays_away(person)),
        *(_left_waiting(story, person) for person in there if stays_waiting(person)),
        *(_still_recorded(story, person) for person in inside(story)),
        _leaves_in_vain(story, story.chief(PLANT, "劳务")),
        *mishaps.suspended(story),
    )


async def _shut_out(story: Story, person: Person) -> None:
    at_ms = story.at(5, "09:30", person.number)
    await scan(story.play, person, PLANT, story.gatekeeper(person), at_ms, "site_closed")


async def _left_waiting(story: Story, person: Person) -> None:
    entry, chief = story.entries[person.handle], story.chief(PLANT, "总包")
    await process(story.play, person, PLANT, entry, chief, story.at(5, "09:40"), "site_closed")


async def _still_recorded(story: Story, person: Person) -> None:
    """Whoever is inside a closed site is recorded all the same."""
    at_ms = story.at(5, "10:00", person.number * 7 % 1200)
    await story.play.wait(await post_checkin(story.play, person, person.site, at_ms))


async def _leaves_in_vain(story: Story, chief: Person) -> None:
    """A closed site lets everybody out and nobody in."""
    await exit_self(story.play, chief, PLANT, story.at(5, "11:00"))
    await enter_self(story.play, chief, PLANT, story.at(5, "11:30"), "site_closed")


# --- leaving -------------------------------------------------------------------------------------


async def leaving(story: Story) -> None:
    await story.play.together(
        *(_fate(story, person) for person in inside(story)), *mishaps.leaving(story)
    )


async def _fate(story: Story, person: Person) -> None:
    play, firm, site, fate = story.play, person.firm, person.site, person.number % 24
    at_ms = story.at(6, "09:00", person.number * 7 % 3600)
    later_ms = at_ms + 3_600_000
    if fate <= 4:
        operator = story.operator(site, "总包" if fate % 2 else firm.short)
        batch = f"exit-{site}-{fate}"
        await register_exit(play, person, site, operator, at_ms, batch=batch)
        if fate < 4:
            chief = story.chief(site, "总包")
            await confirm_exit(play, person, site, chief, later_ms, batch=batch)
    elif fate <= 9:
        reason = "工程量减少"
        await of_employment(play, person, "dismissal.request", firm, at_ms, reason=reason)
        answer = {7: "dismissal.refuse", 8: "dismissal.withdraw", 9: None}.get(
            fate, "dismissal.agree"
        )
        if answer:
            await of_employment(play, person, answer, firm, later_ms)
    elif fate <= 13:
        await of_employment(play, person, "departure.request", firm, at_ms)
        answer = {11: "departure.refuse", 12: "departure.withdraw", 13: None}.get(
            fate, "departure.approve"
        )
        if answer:
            await of_employment(play, person, answer, firm, later_ms)


PHASES: Final = (
    Phase("企业与工地登记", "The registers: firms and sites", registers),
    Phase("个人信息登记", "Identity uploads", identities),
    Phase("用工登记（未处理）", "Offers before the centre has processed", early_offers),
    Phase("大数据中心批量处理", "The centre's batches", centre),
    Phase("聘用确认与完善信息", "Hiring and registration", hiring),
    Phase("项目经理与操作用户", "Project managers and operators", managers),
    Phase("人员分配与确认", "Assignments", assignments),
    Phase("进场登记与处理", "Entry at the gates", gate),
    Phase("考勤", "Two working days and a night", working_days),
    Phase("工地停工", "A site suspended, a manager replaced", suspended),
    Phase("退场、解聘、离职", "Exits, dismissals, departures", leaving),
    Phase("异常消息", "Records that are no commands", mishaps.no_commands),
)
