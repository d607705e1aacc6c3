"""How a worker and a projector run as processes."""

import asyncio
import gc
import signal
from collections.abc import Callable, Coroutine
from typing import Any

import uvloop


def collect_rarely() -> None:
    """A turn, or a batch, is many objects that live for a moment and are in no cycles: at the
    default thresholds a third of the time goes into looking for them."""
    gc.set_threshold(50_000, 20, 100)


def run_until_told(serve: Callable[[asyncio.Event], Coroutine[Any, Any, None]]) -> None:
    """Run `serve`, with an event that SIGTERM and SIGINT set; raises what it raises."""
    collect_rarely()

    async def run() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await serve(stop)

    uvloop.run(run())
