"""Why a person may or may not enter a site: every guard of an entry, who can mend it and how.

`decide` stops at the first guard that fails; people at a gate need to see all of them. The guards
are those of `rules.entering` themselves; here are only the words and the order of showing them.
"""

from collections.abc import Iterable
from typing import Final, Literal, NamedTuple

from rules.authority import World, confirmed_for, is_site_side
from rules.case import Case
from rules.entering import ENTRY_GUARDS, code_spent, personal_code
from rules.person import Person
from schemas.commands import ScanEntry
from schemas.reading import Command
from schemas.references import Site

Verdict = Literal["passed", "failed", "open"]
"""`open`: not asked, because nothing to judge was given or a guard before it failed."""


class Words(NamedTuple):
    """What people are told."""

    zh: str
    en: str


class Check(NamedTuple):
    """One guard, by the reason code it answers when it fails."""

    code: str
    verdict: Verdict
    mend: Words | None = None
    """Only of a guard that failed: who can mend it, and how."""


CODE_GUARDS: Final = ("code_invalid", "code_expired", "code_not_this_person", "code_replayed")
SCANNER_GUARDS: Final = ("project_manager_required", "general_contractor_required")

HOLDS: Final[dict[str, Words]] = {
    "code_invalid": Words("二维码有效", "The code is one of ours."),
    "code_expired": Words("二维码在有效期内", "The code is in its time window."),
    "code_not_this_person": Words("建设码与本人相符", "The code is this person's."),
    "code_replayed": Words("建设码未使用过", "The code was not used before."),
    "site_unknown": Words("工地已登记", "The site is on record."),
    "site_closed": Words("工地正常施工", "The site is active."),
    "employer_not_on_site": Words(
        "用人单位是参建单位（或未被聘用）", "The employer is a participant, or there is none."
    ),
    "project_manager_required": Words(
        "扫码人是工地端的项目经理", "The scanner is a confirmed project manager of the site."
    ),
    "general_contractor_required": Words(
        "扫码人有权为该人员扫码", "The scanner may scan this employer's people."
    ),
    "assignment_not_confirmed": Words("已分配确认", "The assignment is confirmed."),
    "wrong_site": Words("分配在本工地", "The assignment is to this site."),
    "already_present": Words("尚未进场", "The person is not inside yet."),
    "not_authorized": Words("操作人属于工地端", "Whoever processes speaks for the site."),
    "entry_not_pending": Words("有待处理的进场登记", "An entry waits at this site."),
}
"""What holds when the guard of a code passes."""

_SHOW_AGAIN: Final = Words(
    "本人：在随申办市民云刷新个人建设码后重新出示",
    "The person: refresh the personal code in the app and show it again.",
)
_SITE_RECORD: Final = Words(
    "建设主管部门：登记或更正工地信息",
    "The administration: put the site on record, or mend its record.",
)

MENDS: Final[dict[str, Words]] = {
    "code_invalid": _SHOW_AGAIN,
    "code_expired": _SHOW_AGAIN,
    "code_not_this_person": Words(
        "本人：出示本人的个人建设码", "The person: show one's own personal code."
    ),
    "code_replayed": _SHOW_AGAIN,
    "site_unknown": _SITE_RECORD,
    "site_closed": Words(
        "建设主管部门：工地复工后方可进场；已进场人员可以退场",
        "The administration: nobody enters until the site is active again; those inside may leave.",
    ),
    "employer_not_on_site": Words(
        "施工总包：将用人单位登记为该工地的参建单位，或由参建单位聘用该人员",
        "The general contractor: have the employer put on the site's record as a participant; or a "
        "participant employs the person.",
    ),
    "project_manager_required": Words(
        "工地端的项目经理：由已分配确认的项目经理扫码",
        "A project manager of the site, named on its record and with a confirmed assignment there: "
        "scan the person.",
    ),
    "general_contractor_required": Words(
        "施工总包的项目经理：扫码（专业分包的项目经理只能扫本单位人员）",
        "The general contractor's project manager: scan the person (a professional subcontractor's "
        "only scans his own employer's people).",
    ),
    "wrong_site": Words(
        "现工地的项目经理：先办理退场或撤回分配；再由用人单位分配到本工地",
        "The other site: exit the person, or the employer withdraws the assignment; then assign to "
        "this site.",
    ),
    "already_present": Words(
        "无需再次进场；如需重新进场，由施工总包的项目经理或现场操作用户先办理退场",
        "Nothing to do: the person is inside. To enter anew, the general contractor's project "
        "manager or an operator first registers and confirms the exit.",
    ),
    "not_authorized": Words(
        "施工总包或本单位的项目经理、已进场的现场操作用户：处理进场登记",
        "A named project manager, or a present operator, of the general contractor or of the "
        "person's employer: process the entry.",
    ),
    "entry_not_pending": Words(
        "项目经理：先扫描个人建设码进行进场登记",
        "The project manager: scan the personal code first, so that an entry waits.",
    ),
}
"""By reason code. What mends `assignment_not_confirmed` depends on how far the person has come:
see `next_step`."""


def next_step(person: Person) -> Words:
    """What is missing next on the way to a confirmed assignment (manual: 一 to 四)."""
    if person.employment is None:
        if any(offer.status == "made" for offer in person.offers):
            return Words(
                "本人：在随申办市民云确认聘用",
                "The person: confirm the employer's offer in the app.",
            )
        match person.identity_status:
            case "none":
                return Words(
                    "本人：在随申办市民云完成个人信息登记",
                    "The person: register the identity in the app.",
                )
            case "failed":
                return Words(
                    "本人：重新上传身份证进行个人信息登记",
                    "The person: the identity was not verified; upload it again.",
                )
            case "submitted" if person.offers:
                return Words(
                    "大数据中心：批量处理后聘用登记自动生效，无需重复登记",
                    "The centre: the offer becomes open when the identity is verified; nothing "
                    "needs to be sent again.",
                )
        return Words("用人单位：新建聘用关系", "An employer: offer employment.")
    if person.employment.status != "registered":
        return Words(
            "用人单位：完善建筑工人信息（身份、工种或岗位）",
            "The employer: complete the registration (role, and trade or position).",
        )
    if person.assignment is None:
        return Words(
            "用人单位或项目经理：将人员分配到工地",
            "The employer or a project manager: assign the person to the site.",
        )
    return Words(
        "工地端：在人员分配模块点击同意",
        "The site side: approve the assignment that waits.",
    )


def explain_scan(
    world: World,
    subject: str,
    person: Person,
    site: str,
    *,
    scanner: str | None = None,
    code: str | None = None,
    at_ms: int = 0,
) -> list[Check]:
    """The guards of scan.entry, in their order, for a scan at `site`.

    `subject` is the person's id. Without `code` the guards of the code are open; `at_ms` (Unix
    milliseconds) judges its window. Without `scanner` the one is taken who comes furthest of those
    whom the site's record names.
    """
    record = world.sites.get(site)
    if scanner is None:
        scanner = _best_scanner(world, person, record)
    checks = _of_code(world, subject, person, site, scanner, code, at_ms)
    return checks + _of_entry(world, person, record, scanner)


def explain_process(
    world: World, person: Person, site: str, *, by: str | None = None
) -> list[Check]:
    """The guards of entry.process, in their order, for the entry that waits at `site`.

    `by` is the staff who would process it; without, that guard is open.
    """
    authorized: Verdict = "open"
    if by is not None:
        authorized = "passed" if is_site_side(world, site, by, person.employer) else "failed"
    waits = person.entry is not None and person.entry.site == site
    return [
        _check("not_authorized", authorized, person),
        _check("entry_not_pending", "passed" if waits else "failed", person),
        *(
            check
            for check in _of_entry(world, person, world.sites.get(site), None)
            if check.code not in SCANNER_GUARDS
        ),
    ]


def who_may_scan(world: World, person: Person, site: Site) -> list[str]:
    """The ids of those on the site's record who may scan this person in."""
    return [
        manager
        for manager in _named(site)
        if not any(
            check.verdict == "failed"
            for check in _of_entry(world, person, site, manager)
            if check.code in SCANNER_GUARDS
        )
    ]


def who_may_process(
    world: World, person: Person, site: str, candidates: Iterable[str]
) -> list[str]:
    """Those of `candidates` (person ids of staff) who may process this person's entry."""
    return [one for one in candidates if is_site_side(world, site, one, person.employer)]


def _named(site: Site) -> list[str]:
    return list(
        dict.fromkeys(one.project_manager for one in site.participants if one.project_manager)
    )


def _best_scanner(world: World, person: Person, site: Site | None) -> str:
    """Somebody who may scan, else somebody whom only the last of the guards keeps from it."""
    if site is None:
        return ""
    confirmed = [one for one in _named(site) if confirmed_for(world, site, one)]
    return next(iter([*who_may_scan(world, person, site), *confirmed]), "")


def _check(code: str, verdict: Verdict, person: Person) -> Check:
    if verdict != "failed":
        return Check(code, verdict)
    return Check(
        code,
        verdict,
        next_step(person) if code == "assignment_not_confirmed" else MENDS[code],
    )


def _ladder(codes: Iterable[str], failed: str | None, person: Person) -> list[Check]:
    """The codes of one guard: those before the one that failed held, those after were not asked."""
    checks = []
    verdict: Verdict = "passed"
    for code in codes:
        if code == failed:
            checks.append(_check(code, "failed", person))
            verdict = "open"
        else:
            checks.append(Check(code, verdict))
    return checks


def _of_code(
    world: World,
    subject: str,
    person: Person,
    site: str,
    scanner: str,
    text: str | None,
    at_ms: int,
) -> list[Check]:
    if text is None:
        return [Check(code, "open") for code in CODE_GUARDS]
    data = ScanEntry.model_construct(site=site, code=text, scanner=scanner)
    command = Command("", "", "scan.entry", "", at_ms, subject, data, None, b"", b"")
    code = personal_code(Case(person, command, data, at_ms, at_ms, world))
    if isinstance(code, str):
        return _ladder(CODE_GUARDS, code, person)
    return _ladder(CODE_GUARDS, "code_replayed" if code_spent(person, code) else None, person)


def _of_entry(world: World, person: Person, site: Site | None, scanner: str | None) -> list[Check]:
    if site is None:
        return [
            _check("site_unknown", "failed", person),
            *(Check(code, "open") for _, codes in ENTRY_GUARDS for code in codes),
        ]
    return [
        Check("site_unknown", "passed"),
        *(
            check
            for guard, codes in ENTRY_GUARDS
            for check in _ladder(codes, guard(world, person, site, scanner), person)
        ),
    ]
