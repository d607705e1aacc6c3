"""The generated parts of docs/rules.md: ladders, machines, codes.

python -m rules.docs docs/rules.md            write them between their markers
python -m rules.docs docs/rules.md --check    fail when one is stale
"""

import sys
from pathlib import Path
from typing import Final, NamedTuple

from rules import machines
from schemas.reasons import DEAD_LETTER_CODES, OUTCOME_CODES, REASONS


class Ladder(NamedTuple):
    """Who sends a command, and the codes of its guards in the order in which they are asked."""

    sender: str
    codes: tuple[str, ...]


ALWAYS_FIRST: Final = ("id_reused", "from_the_future", "too_late", "not_authorized")
"""Before every ladder. Where a ladder names another code for a sender who may not act, that code
answers instead of `not_authorized`."""

_ENTER: Final = ("site_unknown", "site_closed", "employer_not_on_site")
_ASSIGNED: Final = ("assignment_not_confirmed", "wrong_site", "already_present")
_CODE: Final = ("code_invalid", "code_expired", "code_not_this_person")
_EXIT: Final = ("operator_required", "general_contractor_required", "not_present")
_OPERATOR: Final = ("manager_required", "assignment_not_confirmed", "not_authorized")

LADDERS: Final[dict[str, Ladder]] = {
    "identity.upload": Ladder("person", ("notice_not_accepted", "already_verified")),
    "identity.verify": Ladder("centre", ("identity_not_registered",)),
    "hire.offer": Ladder(
        "employer",
        (
            "too_many",
            "employer_unknown",
            "employer_suspended",
            "identity_not_registered",
            "name_mismatch",
            "under_age",
            "over_age",
            "already_employed_here",
            "duplicate_registration",
            "employed_elsewhere",
        ),
    ),
    "hire.withdraw": Ladder("employer", ("offer_not_open",)),
    "hire.confirm": Ladder(
        "person",
        ("offer_not_open", "employer_unknown", "employer_suspended", "employed_elsewhere"),
    ),
    "hire.refuse": Ladder("person", ("offer_not_open",)),
    "hire.complete": Ladder(
        "employer", ("not_employed_here", "trade_required", "position_required", "exit_first")
    ),
    "dismissal.request": Ladder(
        "employer", ("not_employed_here", "reason_required", "already_pending", "manager_on_site")
    ),
    "dismissal.withdraw": Ladder("employer", ("nothing_pending",)),
    "dismissal.agree": Ladder("person", ("nothing_pending", "manager_on_site")),
    "dismissal.refuse": Ladder("person", ("nothing_pending",)),
    "departure.request": Ladder(
        "person", ("not_employed_here", "already_pending", "manager_on_site")
    ),
    "departure.withdraw": Ladder("person", ("nothing_pending",)),
    "departure.approve": Ladder("employer, bureau", ("nothing_pending", "manager_on_site")),
    "departure.refuse": Ladder("employer", ("nothing_pending",)),
    "assignment.request": Ladder(
        "employer, site",
        (
            "not_employed",
            "employed_elsewhere",
            "registration_incomplete",
            *_ENTER,
            "position_required",
            "not_the_named_manager",
            "already_assigned",
        ),
    ),
    "assignment.withdraw": Ladder("employer, site", ("assignment_not_pending",)),
    "assignment.approve": Ladder("site", ("assignment_not_pending",)),
    "assignment.reject": Ladder("site", ("assignment_not_pending",)),
    "operator.authorize": Ladder("site", (*_OPERATOR, "already_authorized")),
    "operator.revoke": Ladder("site", (*_OPERATOR, "not_authorized_before")),
    "scan.entry": Ladder(
        "device, site",
        (
            *_CODE,
            "code_replayed",
            *_ENTER,
            "project_manager_required",
            "general_contractor_required",
            *_ASSIGNED,
        ),
    ),
    "entry.process": Ladder("site", ("entry_not_pending", *_ENTER, *_ASSIGNED)),
    "entry.self": Ladder(
        "site", ("site_unknown", "site_closed", "project_manager_required", "already_present")
    ),
    "scan.attendance": Ladder(
        "device, site", (*_CODE, "operator_required", "not_present", "wrong_site")
    ),
    "scan.checkin": Ladder(
        "person", ("code_invalid", "code_expired", "wrong_site", "not_present", "wrong_site")
    ),
    "exit.register": Ladder("site", (*_EXIT, "already_pending")),
    "exit.confirm": Ladder("site", (*_EXIT, "exit_not_pending")),
    "exit.self": Ladder("site", ("project_manager_required", "not_present")),
}


def ladders() -> str:
    """The ladders as a table."""
    rows = [
        f"| `{name}` | {ladder.sender} | {', '.join(f'`{code}`' for code in ladder.codes)} |"
        for name, ladder in LADDERS.items()
    ]
    return "\n".join(["| command | sender | guards, in order |", "|---|---|---|", *rows])


def codes() -> str:
    """All reason codes as a table."""
    rows = [
        f"| `{code}` | {_seen_by(code)} | {REASONS[code].zh} | {REASONS[code].en} |"
        for code in (*OUTCOME_CODES, *DEAD_LETTER_CODES)
    ]
    return "\n".join(["| code | who sees it | Chinese | English |", "|---|---|---|---|", *rows])


def _seen_by(code: str) -> str:
    if code in DEAD_LETTER_CODES:
        return "operations (dead letter)"
    senders = {
        sender
        for ladder in LADDERS.values()
        if code in ladder.codes
        for sender in ladder.sender.split(", ")
    }
    if code == "awaiting_verification":
        return "employer"
    return ", ".join(sorted(senders)) if senders and code not in ALWAYS_FIRST else "every sender"


PARTS: Final = {"ladders": ladders, "machines": machines.page, "codes": codes}


def fresh(page: str) -> str:
    """The page with what is between its markers generated anew.

    Raises ValueError when a marker is missing.
    """
    for name, part in PARTS.items():
        begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        before, begins, rest = page.partition(begin)
        _, ends, after = rest.partition(end)
        if not (begins and ends):
            raise ValueError(f"the page needs the markers {begin} and {end}")
        page = f"{before}{begin}\n\n{part()}\n\n{end}{after}"
    return page


def main() -> None:
    """The command line."""
    path = Path(sys.argv[1])
    page = path.read_text("utf-8")
    if page == fresh(page):
        return
    if sys.argv[2:] == ["--check"]:
        sys.exit(f"stale, run python -m rules.docs {path}")
    path.write_text(fresh(page), "utf-8")


if __name__ == "__main__":
    main()
