"""A limit: this project's worker with the rules taken out. It reads commands, waits for barriers,
keeps their order, holds states and writes answers, and accepts whatever comes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from msgspec.structs import replace

from agents import deciding
from bench.peers.ours import main
from rules.case import Case
from rules.codes import Code, Keys
from rules.decide import Decision
from rules.evolve import Event
from schemas.reading import Command, Refusal
from schemas.reasons import ACCEPTED

_RECORDED: Final = {
    "site": "site-00001",
    "employer": "91340121BNE9TKHL5A",
    "day": "2026-11-27",
    "direction": "in",
    "method": "staff",
    "scanner": "a5b3efac2a2c34415c03103f6ec3a374",
}

_REMEMBERED: Final = bytes(32 + 6)
"""A state grows as with the rules, by what is remembered of each command and, for every third, of
a clock-in; else the loop would read and write a third of the bytes of states."""


def _accept(case: Case) -> Decision:
    """As many events as the rules make: of four in five commands."""
    person, events = case.person, []
    if case.command.key_digest[0] % 5:
        events.append(Event("attendance.recorded", case.at_ms, case.now_ms, _RECORDED))
    after = replace(person, version=person.version + len(events), seen=person.seen + _REMEMBERED)
    return Decision("accepted", ACCEPTED, after.version, events, after)


def _accept_each(cases: Iterable[Case]) -> list[Decision]:
    return list(map(_accept, cases))


def _no_codes(commands: Iterable[Command | Refusal], keys: Keys) -> dict[str, Code | None]:
    return {}


if __name__ == "__main__":
    # Where the decider looks for them; they are not there for others to import, hence the ignores.
    deciding.codes_of = _no_codes  # type: ignore[attr-defined]
    deciding.decide_each = _accept_each  # type: ignore[attr-defined]
    main()
