"""aiokafka's client, with connections of our own for the requests of every turn.

aiokafka opens each of them: TLS, authentication, the versions that the broker knows. Then its
transport is ours. Through aiokafka a request passes a task that reads, two futures, a timer and
some fifty calls, which took a fifth of a live turn's CPU; here it is one write and one future.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from struct import Struct
from typing import Any, Final, NamedTuple, TypeVar

import structlog
from aiokafka.client import AIOKafkaClient
from aiokafka.conn import AIOKafkaConnection
from aiokafka.errors import (
    IncompatibleBrokerVersion,
    KafkaConnectionError,
    KafkaError,
    StaleMetadata,
)
from aiokafka.protocol.admin import ApiVersionRequest

from agents.ledger.wire import WRITTEN, Written
from schemas import limits

T = TypeVar("T")

log: Final = structlog.get_logger("ledger.client")

_SIZE: Final = Struct(">i")
_HEADER: Final = Struct(">ihhih")
"""The size of all that follows, the request's key and version, its correlation id, the length of
the client's id. An answer has only its size and the correlation id before it."""


class _Asked(NamedTuple):
    """A request on its way."""

    correlation: int
    late_at: float
    decode: Callable[[memoryview, int], Any]
    answer: asyncio.Future[Any]


class Connection(asyncio.Protocol):
    """An open connection. A broker answers in the order it is asked."""

    def __init__(
        self,
        opened: AIOKafkaConnection,
        transport: asyncio.Transport,
        client_id: str,
        when_lost: Callable[[], None],
    ) -> None:
        """From now on `opened` is used for nothing else; nothing is on its way on it."""
        if not opened.connected() or transport.is_closing():
            raise KafkaConnectionError(f"{opened.host}:{opened.port}: closed at once")
        self.lost = False
        self._opened = opened
        self._transport = transport
        self._client_id = client_id.encode()
        self._when_lost = when_lost
        self._loop = asyncio.get_running_loop()
        self._correlation = 0
        self._asked: deque[_Asked] = deque()
        self._watch: asyncio.TimerHandle | None = None
        self._received: list[bytes] = []
        """The beginning of an answer."""
        self._missing = 0
        """How many bytes more it takes, at least, to read on."""
        transport.set_protocol(self)

    def send(self, request: Written[T]) -> asyncio.Future[T]:
        """The answer to come. Raises KafkaConnectionError, at once or there."""
        if self.lost:
            raise KafkaConnectionError("the connection was lost")
        correlation = self._correlation = (self._correlation + 1) & 0x7FFFFFFF
        body, name = request.encode(), self._client_id
        size = _HEADER.size - _SIZE.size + len(name) + sum(map(len, body))
        header = _HEADER.pack(size, request.key, request.version, correlation, len(name))
        answer: asyncio.Future[T] = self._loop.create_future()
        late_at = self._loop.time() + limits.COMMIT_MS_MAX / 1000
        self._asked.append(_Asked(correlation, late_at, request.decode, answer))
        if self._watch is None:
            self._watch = self._loop.call_at(late_at, self._look)
        self._transport.writelines((header, name, *body))
        return answer

    def close(self) -> None:
        """For good; what is on its way fails."""
        self._end("closed", None)

    def _look(self) -> None:
        """Whether an answer is late. The first one asked for is the first to be: one timer does."""
        self._watch = None
        if self._asked:
            late_at = self._asked[0].late_at
            if late_at <= self._loop.time():
                self._lose(f"no answer within {limits.COMMIT_MS_MAX} ms", None)
            else:
                self._watch = self._loop.call_at(late_at, self._look)

    def data_received(self, data: bytes) -> None:
        if self._received:
            self._received.append(data)
            self._missing -= len(data)
            if self._missing > 0:
                return
            data = b"".join(self._received)
            self._received = []
        at, end = 0, len(data)
        needed = _SIZE.size
        try:
            while end - at >= needed:
                needed = _SIZE.size + _SIZE.unpack_from(data, at)[0]
                if end - at < needed:
                    break
                self._take(memoryview(data)[at + _SIZE.size : at + needed])
                at += needed
                needed = _SIZE.size
        except Exception as error:  # noqa: BLE001 - whatever it is, all who wait are told
            self._lose("an answer is not understood", error)
            return
        if at < end:
            self._received = [data[at:]]
            self._missing = needed - (end - at)

    def _take(self, frame: memoryview) -> None:
        if not self._asked:
            raise ValueError("an answer to nothing")
        correlation, _, decode, answer = self._asked[0]
        if _SIZE.unpack_from(frame)[0] != correlation:
            raise ValueError("an answer to something else")
        if not answer.done():
            answer.set_result(decode(frame, _SIZE.size))
        self._asked.popleft()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lose("the connection was lost", exc)

    def _lose(self, why: str, cause: Exception | None) -> None:
        if not self.lost:
            log.info("a connection ended", broker=self._opened.host, why=why, error=repr(cause))
            self._end(why, cause)
            self._when_lost()

    def _end(self, why: str, cause: Exception | None) -> None:
        self.lost = True
        self._opened.close()
        if self._watch is not None:
            self._watch.cancel()
        asked, self._asked = self._asked, deque()
        for one in asked:
            if not one.answer.done():
                error = KafkaConnectionError(f"{self._opened.host}:{self._opened.port}: {why}")
                error.__cause__ = cause
                one.answer.set_exception(error)


class Client(AIOKafkaClient):  # type: ignore[misc]
    """`ask` is for requests written by hand, `send` for aiokafka's; each has its connections.

    `options` are those of `AIOKafkaClient` that concern security.
    """

    def __init__(self, brokers: str, client_id: str, options: Mapping[str, Any]) -> None:
        super().__init__(
            bootstrap_servers=brokers,
            client_id=client_id,
            request_timeout_ms=limits.COMMIT_MS_MAX,
            retry_backoff_ms=limits.BROKER_RETRY_MS_MIN,
            **options,
        )
        self._name = client_id
        self._options = options
        self._opening = asyncio.Lock()
        self._own: dict[int, Connection] = {}

    async def ask(self, node: int, request: Written[T]) -> T:
        """Ask a broker. Raises KafkaError."""
        connection = self.connection(node) or await self._connect(node)
        return await connection.send(request)

    def connection(self, node: int | None) -> Connection | None:
        """The open connection of `ask` to a broker, if there is one."""
        found = self._own.get(node) if node is not None else None
        return found if found is not None and not found.lost else None

    async def _connect(self, node: int) -> Connection:
        async with self._opening:
            found = self.connection(node)
            if found is None:
                try:
                    found = self._own[node] = await self._opened(node)
                except IncompatibleBrokerVersion:
                    raise
                except (OSError, TimeoutError, KafkaError) as error:
                    log.warning("no connection", broker=node, error=repr(error))
                    # It may be elsewhere by now.
                    self.force_metadata_update()
                    raise KafkaConnectionError(f"broker {node}: {error!r}") from error
            return found

    async def _opened(self, node: int) -> Connection:
        broker = self.cluster.broker_metadata(node)
        if broker is None:
            raise StaleMetadata(f"no broker {node}")
        opened = AIOKafkaConnection(
            broker.host,
            broker.port,
            client_id=self._name,
            request_timeout_ms=limits.COMMIT_MS_MAX,
            **self._options,
        )
        _, writer = await opened.connect()
        try:
            known = await opened.send(ApiVersionRequest())
            versions = {key: (least, most) for key, least, most in known.api_versions}
            for kind in WRITTEN:
                least, most = versions.get(kind.key, (0, -1))
                if not least <= kind.version <= most:
                    raise IncompatibleBrokerVersion(
                        f"{kind.__name__} {kind.version}: it knows {least} to {most}"
                    )
            return Connection(opened, writer.transport, self._name, self.force_metadata_update)
        except BaseException:
            opened.close()
            raise

    async def close(self) -> None:
        for connection in self._own.values():
            connection.close()
        await super().close()
