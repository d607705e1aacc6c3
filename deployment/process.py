"""How a worker and a projector run as processes."""

import asyncio
import contextlib
import gc
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final

import uvloop


def collect_rarely() -> None:
    """A turn, or a batch, is many objects that live for a moment and are in no cycles: at the
    default thresholds a third of the time goes into looking for them."""
    gc.set_threshold(50_000, 20, 100)


BACKGROUND_NICE: Final = 19
"""The least there is."""


def into_background(pid: int) -> None:
    """Give a process only what others leave of the processors, it and what it starts from now on.

    To be called before the process has other threads: Linux keeps a policy for each. And it may
    share processors between sessions first and heed niceness only within each (autogroup): so a
    process that leads a session takes the session with it.
    """
    os.setpriority(os.PRIO_PROCESS, pid, BACKGROUND_NICE)
    if sys.platform == "linux":
        # Niceness shares time; whoever wakes up takes a processor that does only this at once.
        os.sched_setscheduler(pid, os.SCHED_IDLE, os.sched_param(0))
    if os.getsid(pid) == pid:
        # Not every Linux has it, and it may not be allowed: then niceness has to do.
        with contextlib.suppress(FileNotFoundError, PermissionError, BlockingIOError):
            Path(f"/proc/{pid}/autogroup").write_text(f"{BACKGROUND_NICE}", "ascii")


def run_until_told(serve: Callable[[asyncio.Event], Coroutine[Any, Any, None]]) -> None:
    """Run `serve`, with an event that SIGTERM and SIGINT set; raises what it raises."""
    collect_rarely()

    async def run() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await serve(stop)

    uvloop.run(run())
