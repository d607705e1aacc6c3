"""`code`: personal and site codes, issued and judged at the edge as the rules judge them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from cli import qr
from cli.console import BAD, FAINT, GOOD, done, line, out, plain
from cli.context import Deployment
from cli.errors import ANSWERED_NO, WRONG, Trouble
from rules.codes import Code, in_window, issue_person_code, issue_site_code, parse
from schemas.forms import time_ms
from schemas.limits import PERSON_CODE_STEP_MS, SECOND_MS, SITE_CODE_STEP_MS
from schemas.reasons import REASONS

_STEP_MS = {"person": PERSON_CODE_STEP_MS, "site": SITE_CODE_STEP_MS}
# Steps that a code is accepted before and after its own begins (contract: Codes to scan).
_WINDOW_STEPS = {"person": (-1, 3), "site": (0, 2)}


def moment_ms(text: str | None) -> int:
    """Unix milliseconds of an RFC 3339 time; now when none is given. Raises Trouble."""
    if text is None:
        return int(datetime.now(UTC).timestamp() * SECOND_MS)
    try:
        return time_ms(text)
    except ValueError as error:
        raise Trouble(str(error), "for example 2026-11-23T08:00:00+08:00", WRONG) from None


def show(
    deployment: Deployment,
    *,
    person: str | None,
    site: str | None,
    at: str | None,
    files: list[Path],
    text_only: bool,
) -> None:
    """Issue a code and draw it: into files, as its text alone, or in the terminal."""
    keys, at_s = deployment.code_keys, moment_ms(at) // SECOND_MS
    try:
        text = (
            issue_person_code(keys, person, at_s)
            if person is not None
            else issue_site_code(keys, site or "", at_s)
        )
        for file in files:
            qr.save(text, file)
            done(str(file))
    except ValueError as error:
        raise Trouble(str(error), "see `realname code show --help`", WRONG) from None
    if files:
        return
    if text_only:
        line(text)
        return
    code = parse(keys, text)
    assert code is not None
    # Light on dark, whatever the terminal's own colours are: scanners need the contrast.
    out.print(qr.terminal(text).rstrip("\n"), style="white on black", soft_wrap=True)
    line(text)
    line((f"accepted {_window(code)}", FAINT))


def verify(deployment: Deployment, text: str, at: str | None) -> int:
    """Say what a code is and whether a scan at that time would accept it; the exit code.

    Whether a personal code was used up, only the person's record knows.
    """
    at_ms = moment_ms(at)
    code = parse(deployment.code_keys, text)
    if code is None:
        return _refused("code_invalid")
    line(f"{code.kind} ", (plain(code.id), "bold"))
    line((f"key {code.key_id}, accepted {_window(code)}", FAINT))
    if not in_window(code, at_ms):
        return _refused("code_expired")
    line(("✓ ", GOOD), f"accepted at {_clock(at_ms)}")
    return 0


def _refused(code: str) -> int:
    reason = REASONS[code]
    line(("✗ ", BAD), f"{code} {reason.zh} ", (reason.en, FAINT))
    return ANSWERED_NO


def _window(code: Code) -> str:
    step_ms = _STEP_MS[code.kind]
    first, last = (code.step + steps for steps in _WINDOW_STEPS[code.kind])
    return f"from {_clock(first * step_ms)} to {_clock(last * step_ms)}"


def _clock(at_ms: int) -> str:
    moment = datetime.fromtimestamp(at_ms / SECOND_MS, UTC).astimezone()
    return moment.isoformat(sep=" ", timespec="seconds")
