"""Outcomes, events and dead letters as one readable line each."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, Protocol

from rich.text import Text

from cli.console import BAD, FAINT, GOOD, ODD, plain
from schemas.limits import SECOND_MS
from schemas.reasons import REASONS, Reason

_STATUS: Final = {"accepted": ("✓", GOOD), "rejected": ("✗", BAD), "duplicate": ("=", ODD)}
_TYPE_WIDTH: Final = 21
_TOLD_APART: Final = frozenset({"version", "command"})


class Names(Protocol):
    """Where the names of employers and sites are known."""

    def named(self, topic: str, key: str) -> str: ...


class _NoNames:
    def named(self, topic: str, key: str) -> str:
        return plain(key)


NO_NAMES: Final = _NoNames()


def clock(at_ms: int) -> str:
    """A time of day in the zone of this machine."""
    return datetime.fromtimestamp(at_ms / SECOND_MS).astimezone().strftime("%H:%M:%S")


def moment(at_ms: int) -> str:
    """Date and time in the zone of this machine."""
    return datetime.fromtimestamp(at_ms / SECOND_MS).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def reason_of(code: str) -> Reason:
    """The words of a code; of one that a newer program made, the code itself."""
    return REASONS.get(code, Reason(plain(code), ""))


def outcome_line(at_ms: int, subject: str, data: Mapping[str, Any]) -> Text:
    """An outcome, by its `data`; a rejection with the prompt that people see."""
    mark, colour = _STATUS.get(data["status"], ("?", ODD))
    reason = reason_of(data["code"])
    text = _begin(at_ms, mark, colour, data["command_type"], subject)
    if data["status"] == "accepted" and data["code"] == "accepted":
        text.append(f"accepted, version {data['version']}", colour)
    else:
        text.append(f"{data['status']} {plain(data['code'])} ", colour)
        text.append(reason.zh, "bold")
        text.append(f" {reason.en}", FAINT)
    text.append(f"  {plain(data['command'])}", FAINT)
    return text


def event_line(
    at_ms: int, subject: str, event_type: str, data: Mapping[str, Any], names: Names = NO_NAMES
) -> Text:
    """A state change or an attendance record."""
    text = _begin(at_ms, "·", "cyan", event_type, subject)
    text.append(f"v{data['version']}")
    for name, value in data.items():
        if name in _TOLD_APART:
            continue
        text.append(f" {name}=", FAINT)
        text.append(plain(str(value)))
        if name in ("employer", "site"):
            known = names.named(f"{name}s", str(value))
            if known != plain(str(value)):
                text.append(f" {known}", "bold")
    return text


def letter_line(at_ms: int, letter: Mapping[str, Any]) -> Text:
    """A dead letter; nothing of its contents."""
    origin = letter["origin"]
    return Text.assemble(
        (f"{clock(at_ms)} ", FAINT),
        ("☒ dead letter ", f"bold {BAD}"),
        f"{origin['topic']}/{origin['partition']}/{origin['offset']}  ",
        (f"{letter['code']} ", BAD),
        (reason_of(letter["code"]).zh, "bold"),
        (f" {plain(letter['detail'])}", FAINT),
    )


def _begin(at_ms: int, mark: str, colour: str, event_type: str, subject: str) -> Text:
    return Text.assemble(
        (f"{clock(at_ms)} ", FAINT),
        (f"{mark} ", f"bold {colour}"),
        f"{plain(event_type):{_TYPE_WIDTH}} ",
        (f"{plain(subject)} ", FAINT),
    )
