"""An asyncio event loop in simulated time.

Nothing waits: when nothing is ready, the clock jumps to the next timer. What is ready at the same
time runs in an order drawn from the seed; what becomes ready meanwhile waits for the next round, so
nobody starves. And processes can be ended or held up as a kernel does it: every callback carries
the context of the task that made it, the context names the process, and those of a process that is
dead or paused are put aside. A killed process thus runs no `finally`, and a paused one notices
nothing but the clock.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import selectors
from asyncio import events
from collections import deque
from random import Random
from typing import Any

PROCESS: contextvars.ContextVar[str] = contextvars.ContextVar("process", default="")
"""Which simulated process a callback belongs to; empty: the world outside."""


class Deadlock(Exception):
    """Nothing is ready and no timer is set, but the main task has not ended."""


class Endless(Exception):
    """Callbacks run on and on without the clock moving."""


ROUNDS_AT_ONE_TIME_MAX = 20_000
"""More mean that the clock will not move again."""


class SimulatedLoop(asyncio.BaseEventLoop):
    """Runs one simulation; its time begins at 0."""

    # The base class's own, unknown to the type stubs.
    _ready: deque[events.Handle]
    _scheduled: list[Any]
    _stopping: bool

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._chance = Random(seed)
        self._now = 0.0
        self._selector = _NoSelector()
        self._held: dict[str, list[events.Handle]] = {}
        """Process that is dead or paused -> what became ready of it."""
        self._dead: set[str] = set()
        self._standing = 0
        self.steps = 0
        """Callbacks run."""
        self.complaints: list[str] = []
        """What reached the loop's exception handler: errors that nobody awaited."""
        self.set_exception_handler(self._complain)

    def time(self) -> float:
        return self._now

    # --- processes -------------------------------------------------------------------------------

    def kill(self, process: str) -> None:
        """Nothing of this process runs any more."""
        self._dead.add(process)
        self._held.setdefault(process, [])

    def pause(self, process: str) -> None:
        """What becomes ready of this process waits for `resume`."""
        self._held.setdefault(process, [])

    def resume(self, process: str) -> None:
        """Let a paused process go on; a dead one stays dead."""
        if process not in self._dead:
            self._ready.extend(self._held.pop(process, ()))

    def bury(self) -> None:
        """From here on dead and paused processes run too, so that their tasks can be ended."""
        self._dead.clear()
        for process in list(self._held):
            self.resume(process)

    # --- running ---------------------------------------------------------------------------------

    def _run_once(self) -> None:
        """One round; called by `run_forever`."""
        scheduled, ready = self._scheduled, self._ready
        while scheduled and scheduled[0]._cancelled:
            heapq.heappop(scheduled)._scheduled = False
        if not ready and not self._stopping:
            if not scheduled:
                raise Deadlock(f"nothing is left to happen at {self._now:.3f} s")
            if scheduled[0]._when > self._now:
                self._now = scheduled[0]._when
                self._standing = 0
        while scheduled and scheduled[0]._when <= self._now:
            timer = heapq.heappop(scheduled)
            timer._scheduled = False
            if not timer._cancelled:
                ready.append(timer)
        self._standing += 1
        if self._standing > ROUNDS_AT_ONE_TIME_MAX:
            self._standing = 0
            raise Endless(f"no end at {self._now:.3f} s: {list(ready)[:3]}")
        batch = list(ready)
        ready.clear()
        if len(batch) > 1:
            self._chance.shuffle(batch)
        held = self._held
        for handle in batch:
            if handle._cancelled:
                continue
            if held:
                context: contextvars.Context = handle._context  # type: ignore[attr-defined]
                process = context.get(PROCESS, "")
                if process in held:
                    held[process].append(handle)
                    continue
            self.steps += 1
            handle._run()

    def _complain(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        self.complaints.append(f"{context['message']}: {error!r}")

    # --- what the base class asks for ------------------------------------------------------------

    def _process_events(self, event_list: list[Any]) -> None:
        """There are none."""

    def _write_to_self(self) -> None:
        """Nobody sleeps."""


class _NoSelector(selectors.BaseSelector):
    """No files are waited for."""

    def register(self, *_: Any) -> Any:
        raise NotImplementedError

    def unregister(self, *_: Any) -> Any:
        raise NotImplementedError

    def select(self, timeout: float | None = None) -> list[Any]:
        return []

    def get_map(self) -> Any:
        return {}
