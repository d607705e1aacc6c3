"""Loopback ports that a home remembers, so that a restarted server is found where it was."""

import contextlib
import json
import os
import random
import socket
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

LOOPBACK: Final = "127.0.0.1"

RANGE: Final = range(20_000, 32_000)
"""Below the ports that systems give to outgoing connections: while a server is down, a client of
its own could otherwise be given its port."""


def remembered(file: Path, names: Sequence[str]) -> dict[str, int]:
    """The port of each name: those that `file` has, else free ones, which it remembers."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=file.parent) as chosen:
            json.dump(dict(zip(names, _free(len(names)), strict=True)), chosen)
            chosen.flush()
            # Whole or not at all, and the first of two processes wins.
            with contextlib.suppress(FileExistsError):
                os.link(chosen.name, file)
    ports: dict[str, int] = json.loads(file.read_text("utf-8"))
    return ports


def _free(count: int) -> list[int]:
    free: list[int] = []
    for port in random.sample(RANGE, len(RANGE)):
        if len(free) == count:
            break
        with contextlib.suppress(OSError), socket.create_server((LOOPBACK, port)):
            free.append(port)
    return free
