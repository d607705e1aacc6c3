"""A network that misbehaves: a TCP proxy that knows the frames of Kafka's protocol.

Each frame is a length and its bytes; a request begins with its API key, version and correlation id,
an answer with that id. So answers are known by what they answer, and a `Mischief` can be played on
some of them: a lost answer is what makes a client unsure whether its request was done.

Without `frames` it passes bytes on as they come, later by `delay_s`: a slow database.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from dataclasses import dataclass
from random import Random
from typing import Final, Literal

from local.ports import LOOPBACK

APIS: Final = {
    "Produce": 0,
    "Fetch": 1,
    "ListOffsets": 2,
    "Metadata": 3,
    "OffsetFetch": 9,
    "FindCoordinator": 10,
    "JoinGroup": 11,
    "Heartbeat": 12,
    "SyncGroup": 14,
    "InitProducerId": 22,
    "EndTxn": 26,
}
CHUNK_BYTES: Final = 64 << 10


@dataclass(frozen=True)
class Mischief:
    """What happens to requests of these APIs, each by chance.

    `drop`: the answer never comes. `delay`: it comes late. `cut`: the connection is cut when it
    comes. `refuse`: the connection is cut before the request gets through.
    """

    what: Literal["drop", "delay", "cut", "refuse"]
    apis: frozenset[int]
    chance: float = 1.0
    delay_s: float = 0.0


class Proxy:
    """Listens on `port` and passes on to `target`, both on the loopback."""

    def __init__(self, port: int, target: int, random: Random, *, frames: bool = True) -> None:
        self._port = port
        self._target = target
        self._random = random
        self._frames = frames
        self.mischief: Mischief | None = None
        self.delay_s = 0.0
        self.played = 0
        """How often the mischief was played."""
        self._server: asyncio.Server | None = None
        self._ways: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, LOOPBACK, self._port)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for way in self._ways:
            way.cancel()
        await asyncio.gather(*self._ways, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        way = asyncio.create_task(self._serve(reader, writer))
        self._ways.add(way)
        way.add_done_callback(self._ways.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, to = await asyncio.open_connection(LOOPBACK, self._target)
        except OSError:
            writer.close()
            return
        asked: dict[int, int] = {}
        if self._frames:
            ways = [self._ask(reader, to, asked), self._answer(there, writer, asked)]
        else:
            ways = [self._pass_on(reader, to), self._pass_on(there, writer)]
        tasks = [asyncio.create_task(way) for way in ways]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in tasks:
                one.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            writer.close()
            to.close()

    def _struck(self, api: int | None, *kinds: str) -> Mischief | None:
        """The mischief in force, if it is of these kinds and this time strikes this API."""
        mischief = self.mischief
        if mischief is None or mischief.what not in kinds or api not in mischief.apis:
            return None
        if self._random.random() >= mischief.chance:
            return None
        self.played += 1
        return mischief

    async def _ask(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, asked: dict[int, int]
    ) -> None:
        while frame := await _frame(reader):
            api, _, correlation = struct.unpack_from(">hhi", frame)
            if self._struck(api, "refuse"):
                return
            asked[correlation] = api
            writer.write(struct.pack(">i", len(frame)) + frame)
            await writer.drain()

    async def _answer(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, asked: dict[int, int]
    ) -> None:
        while frame := await _frame(reader):
            (correlation,) = struct.unpack_from(">i", frame)
            mischief = self._struck(asked.pop(correlation, None), "drop", "delay", "cut")
            if mischief is not None and mischief.what == "drop":
                # Answers come in the order of the requests: what is behind a lost one is lost too.
                await asyncio.Event().wait()
            if mischief is not None and mischief.what == "cut":
                return
            if mischief is not None:
                await asyncio.sleep(mischief.delay_s)
            writer.write(struct.pack(">i", len(frame)) + frame)
            await writer.drain()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(CHUNK_BYTES):
            if self.delay_s:
                await asyncio.sleep(self.delay_s)
            writer.write(chunk)
            await writer.drain()


async def _frame(reader: asyncio.StreamReader) -> bytes:
    """The next frame without its length; empty at the end."""
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        (size,) = struct.unpack(">i", await reader.readexactly(4))
        return await reader.readexactly(size)
    return b""
