"""Loopback ports that a home remembers, so that a restarted server is found where it was."""

import json
import socket
from collections.abc import Sequence
from pathlib import Path

LOOPBACK = "127.0.0.1"


def remembered(file: Path, names: Sequence[str]) -> dict[str, int]:
    """The port of each name: those that `file` has, else free ones, which it remembers."""
    if file.exists():
        ports: dict[str, int] = json.loads(file.read_text("utf-8"))
        return ports
    # All are held open together, so that they differ.
    sockets = [socket.create_server((LOOPBACK, 0)) for _ in names]
    ports = {name: held.getsockname()[1] for name, held in zip(names, sockets, strict=True)}
    for held in sockets:
        held.close()
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(ports), "utf-8")
    return ports
