"""Bugs to plant into the ledger for the length of a history.

A bug is a change of the text of a function: what stands there, and what stands there instead. A
text that is no longer there fails, so a bug cannot turn harmless unnoticed.
"""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

from agents import deciding
from agents.ledger import ledger, memory


@dataclass(frozen=True)
class Change:
    """Replace `old` by `new` in the function `name` of `owner`, a class or module."""

    owner: Any
    name: str
    old: str
    new: str


@dataclass(frozen=True)
class Bug:
    """`histories_max`: within so many, the simulation must catch it."""

    name: str
    histories_max: int
    changes: tuple[Change, ...]

    @contextmanager
    def planted(self) -> Iterator[None]:
        with ExitStack() as stack:
            functions: dict[tuple[Any, str], list[Change]] = {}
            for change in self.changes:
                functions.setdefault((change.owner, change.name), []).append(change)
            for (owner, name), changes in functions.items():
                changed = _changed(getattr(owner, name), changes)
                stack.enter_context(mock.patch.object(owner, name, changed))
            yield


def _changed(function: Any, changes: Sequence[Change]) -> Any:
    """The function, made anew from its changed text."""
    text = textwrap.dedent(inspect.getsource(function))
    for change in changes:
        old = textwrap.dedent(change.old).strip("\n")
        new = textwrap.dedent(change.new).strip("\n")
        first = old.splitlines()[0]
        line = next((line for line in text.splitlines() if first in line), "")
        indent = line[: len(line) - len(line.lstrip())] if line.strip() == first else ""
        old = textwrap.indent(old, indent)
        assert text.count(old) == 1, f"{change.name} does not say any more:\n{old}"
        text = text.replace(old, textwrap.indent(new, indent))
    made: dict[str, Any] = {}
    code = "from __future__ import annotations\n" + text
    exec(compile(code, f"<planted {function.__name__}>", "exec"), function.__globals__, made)
    return made[function.__name__]


BUGS = (
    Bug(
        "progress is committed before the decision",
        60,
        (
            Change(
                ledger.Owner,
                "_take_turn",
                "verdict = await self._idle(self._answer(turn))",
                """
                early = {**self._offsets, **{one.topic: one.offset + 1 for one in records}}
                await self._commit(
                    Verdict(turn.draft(), {}), Position(turn.number, early, self._topic_ids, {}, "")
                )
                verdict = await self._idle(self._answer(turn))
                """,
            ),
        ),
    ),
    Bug(
        "no barrier",
        60,
        (
            Change(
                ledger.Owner,
                "_turns_to_barrier",
                "ends = await self._idle(self._ledger.barriers.ask(self._places))",
                """
                seen = self._ledger.references.offsets
                ends = dict(zip(self._places, cuts)) | {(one, 0): seen[one] for one in seen}
                """,
            ),
        ),
    ),
    Bug(
        "the barrier is not waited for in the reference topics",
        100,
        (
            Change(
                ledger.Owner,
                "_turns_to_barrier",
                "if not keeper.reached(ends):",
                "if False:",
            ),
        ),
    ),
    Bug(
        "the barrier is the last stable offset",
        200,
        (
            Change(
                memory.MemoryEndOffsets,
                "high_watermarks",
                "return await self._ask(places, lambda partition: partition.high)",
                "return await self._ask(places, lambda partition: partition.stable)",
            ),
        ),
    ),
    Bug(
        "what came after the question is decided under its barrier",
        200,
        (
            Change(
                ledger.Owner,
                "_turns_to_barrier",
                "feeds, cuts, ends_of, records, permits.records_max, limits.TURN_BYTES_MAX",
                "feeds, ends_of, ends_of, records, permits.records_max, limits.TURN_BYTES_MAX",
            ),
        ),
    ),
    Bug(
        "sorted instead of merged",
        400,
        (
            Change(
                ledger.Owner,
                "_turns_to_barrier",
                "if records:",
                """
                rank = self._ledger.layout.commands.index
                records.sort(key=lambda one: (one.timestamp, rank(one.topic), one.offset))
                if records:
                """,
            ),
        ),
    ),
    Bug(
        "no memory of duplicates",
        20,
        (
            Change(
                deciding,
                "decide_each",
                "at_once = list(map(_at_once, cases))",
                """
                at_once = [_at_once(case) for case in cases]
                at_once = [one if one and one.status == "rejected" else None for one in at_once]
                """,
            ),
        ),
    ),
    Bug(
        "staff changes of the turn are not seen in it",
        400,
        (Change(deciding._StaffBefore, "get", "if before:", "if False:"),),
    ),
    Bug(
        "staff changes are seen by records of the turn before them",
        1_000,
        (
            Change(
                deciding._StaffBefore,
                "get",
                "before = bisect_left(changes, self.place, key=itemgetter(0))",
                "before = len(changes)",
            ),
        ),
    ),
    Bug(
        "a turn does not wait for the staff records of the turn before it",
        100,
        (Change(ledger.Owner, "_turns_to_barrier", "if changed_staff:", "if False:"),),
    ),
    Bug(
        "reference views move between the steps of a decision",
        400,
        (
            Change(
                ledger.ReferenceKeeper,
                "run",
                "async with self._references.held:",
                "if True:",
            ),
        ),
    ),
    Bug(
        "memory is kept after a fence",
        200,
        (
            Change(
                ledger.Owner,
                "_let_go",
                "self._states, self._offsets = {}, {}",
                "pass",
            ),
            Change(
                ledger.Owner,
                "_restore",
                "ledger, layout = self._ledger, self._ledger.layout",
                """
                ledger, layout = self._ledger, self._ledger.layout
                if self._states:
                    self._feeds = [
                        ledger.feeds_reader.open(place, self._offsets[place[0]], self._wake.set)
                        for place in self._places
                    ]
                    return
                """,
            ),
        ),
    ),
    Bug(
        "other positions than the progress are trusted",
        100,
        (
            Change(
                ledger.Owner,
                "_commit",
                "layout, partition = self._ledger.layout, self.partition",
                """
                layout, partition = self._ledger.layout, self.partition
                group = vars(self._ledger.source.cluster).setdefault("group", {})
                group[partition] = position.offsets
                """,
            ),
            Change(
                ledger.Owner,
                "_resume",
                "self._turn, self._offsets = position.turn, offsets",
                """
                offsets.update(vars(self._ledger.source.cluster)["group"][self.partition])
                self._turn, self._offsets = position.turn, offsets
                """,
            ),
        ),
    ),
    Bug(
        "restored to an end that was seen before the fence",
        400,
        (
            Change(
                ledger.Owner,
                "_claim",
                "self._writer = self._ledger.source.writer(self.partition)",
                """
                layout = self._ledger.layout
                own = [(topic, self.partition) for topic in (layout.state, layout.outcomes)]
                self._early = await self._ledger.barriers.ask([*self._places, *own])
                self._writer = self._ledger.source.writer(self.partition)
                """,
            ),
            Change(
                ledger.Owner,
                "_restore",
                """
                ends = await self._idle(
                    ledger.barriers.ask([*self._places, state, outcomes]),
                )
                """,
                "ends = self._early",
            ),
        ),
    ),
    Bug(
        "writes are not awaited before the commit",
        200,
        (
            Change(
                memory.MemoryWriter,
                "commit",
                "await asyncio.gather(",
                "self.unawaited = asyncio.gather(",
            ),
        ),
    ),
    Bug(
        "uncommitted records are read",
        100,
        (
            Change(memory.Cluster, "fetch", "stable = partition.stable", "stable = partition.high"),
            Change(
                memory.Cluster,
                "fetch",
                "for one in partition.visible(offset, end)",
                "for one in partition.records[offset:end] if not one.control",
            ),
        ),
    ),
    Bug(
        "a new producer after a fence without a new assignment",
        100,
        (
            Change(
                ledger.Owner,
                "_assigned_anew",
                "membership = self._ledger.membership",
                "return",
            ),
        ),
    ),
)
