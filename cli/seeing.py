"""`person`: what is known of one person, and why he could or could not enter a site now."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich.text import Text

from cli.coding import moment_ms
from cli.console import BAD, FAINT, GOOD, ODD, line, plain, remark, show, table, working
from cli.context import Deployment
from cli.kafka import places_of, reading, whole
from cli.reference import Known, read_references
from cli.showing import reason_of
from rules.authority import World
from rules.explain import (
    HOLDS,
    Check,
    explain_process,
    explain_scan,
    next_step,
    who_may_process,
    who_may_scan,
)
from rules.person import Person, decode
from schemas.identifiers import partition_for

_MARKS: Final = {"passed": ("✓", GOOD), "failed": ("✗", BAD), "open": ("·", FAINT)}


async def see(
    deployment: Deployment,
    subject: str,
    *,
    site: str | None,
    scanner: str | None,
    code: str | None,
    at: str | None,
) -> None:
    """Print the person's state and the guards of an entry at `site` (else where assigned)."""
    at_ms = moment_ms(at)
    keys = deployment.code_keys if code is not None else {}
    with working("Reading the person's state …"):
        person = await read_person(deployment, subject)
        known = await read_references(deployment)
    world = World(known.employers, known.sites, known.staff, keys)
    line(("人员 person ", "bold"), subject)
    if person is None:
        remark("nothing is known of this person: no command was accepted or rejected yet")
        person = Person()
    _show_state(subject, person, known)
    site = site or (person.assignment.site if person.assignment else None)
    if site is None:
        step = next_step(person)
        line("\n", ("下一步 next  ", "bold"), step.zh, (f"  {step.en}", FAINT))
        line(("--site S shows the guards of an entry there", FAINT))
        return
    _show_entry(world, subject, person, site, known, scanner, code, at_ms)


async def read_person(deployment: Deployment, subject: str) -> Person | None:
    """The committed state of a person, from the person's partition of person-state.

    Raises rules.person.NewerState when a newer program wrote it.
    """
    catalog = deployment.catalog
    key = subject.encode()
    home = partition_for(key, catalog.partitions)
    places = await places_of(deployment, [catalog.state])
    stored = None
    async with reading(deployment) as consumer:
        async for record in whole(consumer, [places[home]]):
            if record.key == key:
                stored = record.value
    return None if stored is None else decode(stored)


def _show_state(subject: str, person: Person, known: Known) -> None:
    rows: list[tuple[str, str, Text]] = []

    def row(zh: str, en: str, *parts: str | tuple[str, str]) -> None:
        rows.append((zh, en, Text.assemble(*parts)))

    identity = person.identity
    row("实名", "identity", identity.status if identity else "none")
    for offer in person.offers:
        row("聘用待确认", "offer", f"{offer.status} by ", *_employer(known, offer.employer),
            (f"  offer {plain(offer.id)}", FAINT))  # fmt: skip
    employment = person.employment
    if employment is None:
        row("聘用", "employment", "none")
    else:
        what = " ".join(
            plain(one)
            for one in (employment.status, employment.role, employment.trade, employment.position)
            if one
        )
        row("聘用", "employment", *_employer(known, employment.employer), f"  {what}")
        for zh, en in (("解聘申请", "dismissal"), ("离职申请", "departure")):
            if getattr(employment, en) == "requested":
                row(zh, en, ("requested, waits for an answer", ODD))
    assignment = person.assignment
    if assignment is None:
        row("分配", "assignment", "none")
    else:
        more = ", operator" if assignment.operator == "authorized" else ""
        row("分配", "assignment", *_site(known, assignment.site), f"  {assignment.status}{more}",
            (f"  assignment {plain(assignment.id)}", FAINT))  # fmt: skip
    if person.entry is not None:
        waits = ("  waits to be processed", ODD)
        entry = (f"  entry {plain(person.entry.id)}", FAINT)
        row("待处理进场", "entry", *_site(known, person.entry.site), waits, entry)
    if person.presence is not None:
        row("在场", "presence", *_site(known, person.presence.site), f"  {person.presence_status}")
    staff = known.staff.get(subject)
    if staff is not None:
        row("管理员", "staff", plain(staff.position))
    row("版本", "version", str(person.version))
    show(table("", "", ""), rows)


def _show_entry(
    world: World,
    subject: str,
    person: Person,
    site: str,
    known: Known,
    scanner: str | None,
    code: str | None,
    at_ms: int,
) -> None:
    scan = explain_scan(world, subject, person, site, scanner=scanner, code=code, at_ms=at_ms)
    line()
    _show_checks("进场登记 scan.entry at", site, known, scan)
    record = known.sites.get(site)
    if record is not None:
        _show_people("可扫码 may scan", who_may_scan(world, person, record))
        if code is None:
            line((" --code TEXT judges a personal code too", FAINT))
    if person.entry is not None and person.entry.site == site:
        may = who_may_process(world, person, site, known.staff)
        by = scanner or next(iter(may), "")
        line()
        checks = explain_process(world, person, site, by=by)
        _show_checks("处理 entry.process at", site, known, checks)
        _show_people("可处理 may process", may)


def _show_checks(title: str, site: str, known: Known, checks: Sequence[Check]) -> None:
    failed = [check for check in checks if check.verdict == "failed"]
    verdict = (f"no: {failed[0].code}", f"bold {BAD}") if failed else ("yes", f"bold {GOOD}")
    line((f"{title} ", "bold"), *_site(known, site), "  ", verdict)
    for check in checks:
        mark, colour = _MARKS[check.verdict]
        if check.verdict != "failed":
            holds = HOLDS[check.code]
            style = "" if check.verdict == "passed" else FAINT
            line((f" {mark} ", colour), (holds.zh, style), (f"  {holds.en}", FAINT))
            continue
        reason = reason_of(check.code)
        line((f" {mark} {check.code}  ", colour), (reason.zh, "bold"), (f"  {reason.en}", FAINT))
        if check.mend is not None:
            line(f"     → {check.mend.zh}")
            line((f"       {check.mend.en}", FAINT))


def _show_people(words: str, people: Sequence[str]) -> None:
    line((f" {words}: ", "bold"), ", ".join(people) or ("nobody", ODD))


def _employer(known: Known, uscc: str) -> tuple[str, tuple[str, str]]:
    return uscc, _name(known, "employers", uscc)


def _site(known: Known, site: str) -> tuple[str, tuple[str, str]]:
    return plain(site), _name(known, "sites", site)


def _name(known: Known, topic: str, key: str) -> tuple[str, str]:
    name = known.named(topic, key)
    return (f" {name}" if name != plain(key) else "", "bold")
