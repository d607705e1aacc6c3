"""What people, firms, sites, devices, the centre and the bureau do: one function a command type.

Each speaks as the one who may, unless `source` says otherwise. `at_ms` is the command's time in
Unix milliseconds and `expect` the code that the script says.
"""

import hashlib
from collections.abc import Mapping

from demo.acting import Play, Played
from demo.cast import Firm, Person
from rules.codes import issue_person_code, issue_site_code
from schemas.limits import SECOND_MS
from schemas.reasons import ACCEPTED

CENTRE = "/centre"
BUREAU = "/bureau"

# --- identity ------------------------------------------------------------------------------------


async def upload(
    play: Play,
    person: Person,
    at_ms: int,
    expect: str = ACCEPTED,
    *,
    notice: bool | None = True,
    name_tag: str | None = None,
    source: str | None = None,
) -> Played:
    photo = f"{person.handle} {at_ms}"
    return await play.do(
        person,
        "identity.upload",
        source or person.source,
        at_ms,
        expect,
        name_tag=name_tag or person.name_tag,
        sealed=person.sealed,
        front_sha256=hashlib.sha256(f"front {photo}".encode()).hexdigest(),
        back_sha256=hashlib.sha256(f"back {photo}".encode()).hexdigest(),
        birth_date=person.birth_date,
        sex=person.sex,
        notice_accepted=notice,
    )


async def verify(
    play: Play,
    person: Person,
    at_ms: int,
    expect: str = ACCEPTED,
    *,
    batch: str,
    failed: str | None = None,
    upload: str | None = None,
    source: str = CENTRE,
) -> Played:
    return await play.do(
        person,
        "identity.verify",
        source,
        at_ms,
        expect,
        batch=batch,
        result="failed" if failed else "verified",
        reason=failed,
        upload=upload,
    )


# --- offers and employment -----------------------------------------------------------------------


async def offer(
    play: Play,
    person: Person,
    firm: Firm,
    at_ms: int,
    expect: str = ACCEPTED,
    *,
    name_tag: str | None = None,
    source: str | None = None,
) -> Played:
    return await play.do(
        person,
        "hire.offer",
        source or firm.source,
        at_ms,
        expect,
        employer=firm.uscc,
        name_tag=name_tag or person.name_tag,
    )


async def withdraw_offer(
    play: Play, person: Person, firm: Firm, offer_id: str, at_ms: int, expect: str = ACCEPTED
) -> Played:
    return await play.do(
        person,
        "hire.withdraw",
        firm.source,
        at_ms,
        expect,
        employer=firm.uscc,
        offer=offer_id,
    )


async def confirm(
    play: Play,
    person: Person,
    offer_id: str,
    at_ms: int,
    expect: str = ACCEPTED,
    *,
    source: str | None = None,
) -> Played:
    return await play.do(
        person, "hire.confirm", source or person.source, at_ms, expect, offer=offer_id
    )


async def refuse(
    play: Play, person: Person, offer_id: str, at_ms: int, expect: str = ACCEPTED
) -> Played:
    return await play.do(person, "hire.refuse", person.source, at_ms, expect, offer=offer_id)


async def complete(
    play: Play,
    person: Person,
    firm: Firm,
    at_ms: int,
    expect: str = ACCEPTED,
    *,
    trade: str | None = None,
    position: str | None = None,
    role: str | None = None,
) -> Played:
    """完善建筑工人信息; without a role it is told by trade or position."""
    return await play.do(
        person,
        "hire.complete",
        firm.source,
        at_ms,
        expect,
        employer=firm.uscc,
        role=role or ("manager" if position else "worker"),
        trade=trade,
        position=position,
    )


async def of_employment(
    play: Play,
    person: Person,
    type_: str,
    firm: Firm,
    at_ms: int,
    expect: str = ACCEPTED,
    *,
    reason: str | None = None,
    source: str | None = None,
) -> Played:
    """A step of a dismissal or departure, by the side whose step it is."""
    firms_steps = (
        "dismissal.request",
        "dismissal.withdraw",
        "departure.approve",
        "departure.refuse",
    )
    by = firm.source if type_ in firms_steps else person.source
    return await play.do(
        person, type_, source or by, at_ms, expect, employer=firm.uscc, reason=reason
    )


# --- assignments and operators -------------------------------------------------------------------


async def assign(
    play: Play,
    person: Person,
    firm: Firm,
    site: str,
    at_ms: int,
    expect: str = ACCEPTED,
    *,
    by: Person | None = None,
    batch: str | None = None,
    position: str | None = None,
    source: str | None = None,
) -> Played:
    """人员分配, by the firm, or by a project manager."""
    source = source or (by.staff(site) if by else firm.source)
    return await play.do(
        person,
        "assignment.request",
        source,
        at_ms,
        expect,
        site=site,
        employer=firm.uscc,
        position=position,
        batch=batch,
    )


async def unassign(
    play: Play,
    person: Person,
    firm: Firm,
    site: str,
    assignment: str,
    at_ms: int,
    expect: str = ACCEPTED,
) -> Played:
    return await play.do(
        person,
        "assignment.withdraw",
        firm.source,
        at_ms,
        expect,
        site=site,
        employer=firm.uscc,
        assignment=assignment,
    )


async def approve(
    play: Play,
    person: Person,
    site: str,
    assignment: str,
    by: Person,
    at_ms: int,
    expect: str = ACCEPTED,
    *,
    batch: str | None = None,
    reject: bool = False,
) -> Played:
    """同意, or 拒绝."""
    return await play.do(
        person,
        "assignment.reject" if reject else "assignment.approve",
        by.staff(site),
        at_ms,
        expect,
        site=site,
        assignment=assignment,
        batch=batch,
    )


async def authorize(
    play: Play,
    person: Person,
    site: str,
    by: Person,
    at_ms: int,
    expect: str = ACCEPTED,
    *,
    revoke: bool = False,
) -> Played:
    type_ = "operator.revoke" if revoke else "operator.authorize"
    return await play.do(person, type_, by.staff(site), at_ms, expect, site=site)


# --- entry and exit ------------------------------------------------------------------------------


def personal_code(
    play: Play, person: Person, at_ms: int, keys: Mapping[int, bytes] | None = None
) -> str:
    """What the person's phone shows at a time."""
    return issue_person_code(keys or play.cast.code_keys, person.id, at_ms // SECOND_MS)


async def scan(
    play: Play,
    person: Person,
    site: str,
    scanner: Person,
    at_ms: int,
    expect: str = ACCEPTED,
    *,
    code: str | None = None,
    source: str | None = None,
) -> Played:
    """进场登记 by staff, or at the turnstile that staff stand by when `source` is a device's."""
    return await play.do(
        person,
        "scan.entry",
        source or scanner.staff(site),
        at_ms,
        expect,
        site=site,
        code=code or personal_code(play, person, at_ms),
        scanner=scanner.id,
    )


async def process(
    play: Play,
    person: Person,
    site: str,
    entry: str,
    by: Person,
    at_ms: int,
    expect: str = ACCEPTED,
    *,
    batch: str | None = None,
) -> Played:
    """处理; with a batch 批量处理."""
    return await play.do(
        person,
        "entry.process",
        by.staff(site),
        at_ms,
        expect,
        site=site,
        entry=entry,
        batch=batch,
    )


async def enter_self(
    play: Play, person: Person, site: str, at_ms: int, expect: str = ACCEPTED
) -> Played:
    return await play.do(person, "entry.self", person.staff(site), at_ms, expect, site=site)


async def exit_self(
    play: Play, person: Person, site: str, at_ms: int, expect: str = ACCEPTED
) -> Played:
    return await play.do(person, "exit.self", person.staff(site), at_ms, expect, site=site)


async def register_exit(
    play: Play,
    person: Person,
    site: str,
    by: Person,
    at_ms: int,
    expect: str = ACCEPTED,
    *,
    batch: str | None = None,
) -> Played:
    return await play.do(
        person, "exit.register", by.staff(site), at_ms, expect, site=site, batch=batch
    )


async def confirm_exit(
    play: Play,
    person: Person,
    site: str,
    by: Person,
    at_ms: int,
    expect: str = ACCEPTED,
    *,
    batch: str | None = None,
) -> Played:
    return await play.do(
        person, "exit.confirm", by.staff(site), at_ms, expect, site=site, batch=batch
    )


# --- attendance ----------------------------------------------------------------------------------


async def post_checkin(
    play: Play,
    person: Person,
    site: str,
    at_ms: int,
    expect: str = ACCEPTED,
    *,
    direction: str | None = None,
    code: str | None = None,
) -> Played:
    """The person scans the code that the site shows; not waited for."""
    return await play.post(
        person,
        "scan.checkin",
        person.source,
        at_ms,
        expect,
        site=site,
        code=code or issue_site_code(play.cast.code_keys, site, at_ms // SECOND_MS),
        direction=direction,
    )


async def post_attendance(
    play: Play,
    person: Person,
    site: str,
    scanner: Person,
    at_ms: int,
    expect: str = ACCEPTED,
    *,
    direction: str | None = None,
    code: str | None = None,
    source: str | None = None,
) -> Played:
    """Staff, or a device of theirs, scan the person's code; not waited for."""
    return await play.post(
        person,
        "scan.attendance",
        source or scanner.staff(site),
        at_ms,
        expect,
        site=site,
        code=code or personal_code(play, person, at_ms),
        scanner=scanner.id,
        direction=direction,
    )
