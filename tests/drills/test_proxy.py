"""The proxy loses, delays and cuts what it is told to, and passes on the rest."""

from __future__ import annotations

import asyncio
import contextlib
import struct
import time
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import pytest

from drills.proxy import APIS, Mischief, Proxy
from local.ports import LOOPBACK, remembered

FETCH, PRODUCE = APIS["Fetch"], APIS["Produce"]


class Server:
    """Answers each request with its correlation id, and counts them."""

    def __init__(self) -> None:
        self.asked = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                (size,) = struct.unpack(">i", await reader.readexactly(4))
                request = await reader.readexactly(size)
                self.asked += 1
                writer.write(struct.pack(">i", 4) + request[4:8])
        writer.close()


@pytest.fixture
async def between(tmp_path: Path) -> AsyncIterator[tuple[Proxy, Server, int]]:
    ports = remembered(tmp_path / "ports.json", ("server", "proxy"))
    behind = Server()
    server = await asyncio.start_server(behind.serve, LOOPBACK, ports["server"])
    proxy = Proxy(ports["proxy"], ports["server"], Random(1))
    await proxy.start()
    yield proxy, behind, ports["proxy"]
    await proxy.stop()
    server.close()


async def ask(port: int, api: int, seconds: float = 5) -> int | None:
    """The correlation id of the answer; None: the connection was cut. Raises TimeoutError."""
    reader, writer = await asyncio.open_connection(LOOPBACK, port)
    try:
        writer.write(struct.pack(">ihhi", 8, api, 1, 77))
        answer = await asyncio.wait_for(reader.readexactly(8), seconds)
        return int(struct.unpack(">ii", answer)[1])
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    finally:
        writer.close()


async def test_passes_on(between: tuple[Proxy, Server, int]) -> None:
    proxy, server, port = between
    proxy.mischief = Mischief("cut", frozenset({PRODUCE}))
    assert await ask(port, FETCH) == 77
    assert (server.asked, proxy.played) == (1, 0)


async def test_a_cut_answer_was_asked_for(between: tuple[Proxy, Server, int]) -> None:
    proxy, server, port = between
    proxy.mischief = Mischief("cut", frozenset({PRODUCE}))
    assert await ask(port, PRODUCE) is None
    assert (server.asked, proxy.played) == (1, 1)


async def test_a_refused_request_never_gets_there(between: tuple[Proxy, Server, int]) -> None:
    proxy, server, port = between
    proxy.mischief = Mischief("refuse", frozenset({PRODUCE}))
    assert await ask(port, PRODUCE) is None
    assert (server.asked, proxy.played) == (0, 1)


async def test_a_dropped_answer_never_comes(between: tuple[Proxy, Server, int]) -> None:
    proxy, server, port = between
    proxy.mischief = Mischief("drop", frozenset({PRODUCE}))
    with pytest.raises(TimeoutError):
        await ask(port, PRODUCE, 0.3)
    assert (server.asked, proxy.played) == (1, 1)


async def test_a_delayed_answer_comes_late(between: tuple[Proxy, Server, int]) -> None:
    proxy, _, port = between
    proxy.mischief = Mischief("delay", frozenset({PRODUCE}), delay_s=0.3)
    began = time.monotonic()
    assert await ask(port, PRODUCE) == 77
    assert time.monotonic() - began >= 0.3
