"""What the ledger needs of a log: value types, errors and the narrow interfaces.

`agents.ledger.kafka` implements them on Kafka, `agents.ledger.memory` in memory; the ledger itself
knows only this module. All topic names here are logical ones (those of topics.yaml). Time is the
event loop's: `loop.time()`, `asyncio.sleep` and `asyncio.timeout`, so that a loop with a clock of
its own runs the same code in simulated time.

    LogError
    ├── LogUnavailable   the broker does not answer, or answers that it cannot now: try again
    ├── Fenced           another producer has taken this partition: ask the group who owns it
    ├── OutOfLog         a position that the log no longer, or not yet, has: a person must look
    ├── Unreadable       what the log holds is no record batch, or cannot be unpacked
    └── Refused          the broker will never take this: too large, not authorised, unknown
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, Self

from agents.ledger.feed import Feed
from agents.ledger.record import Cut, Headers, Record
from schemas.value import Value

if TYPE_CHECKING:
    from deployment.catalog import Catalog

__all__ = [
    "Cut",
    "Draft",
    "EndOffsets",
    "Entry",
    "Feed",
    "Fenced",
    "Headers",
    "Layout",
    "Log",
    "LogError",
    "LogUnavailable",
    "Membership",
    "OutOfLog",
    "Place",
    "Reader",
    "Record",
    "Refused",
    "Unreadable",
    "Writer",
]

Place = tuple[str, int]
"""(logical topic, partition)"""


class LogError(Exception):
    """Something about the log; see the tree above."""


class LogUnavailable(LogError):
    """The log does not answer now. Trying again may help; whether a write happened is unknown."""


class Fenced(LogError):
    """A newer producer with the same identity exists: this one writes nothing any more."""


class OutOfLog(LogError):
    """A position outside the log: truncated behind it, or cut off before it."""


class Unreadable(LogError):
    """What the log holds cannot be read as records; the text says where."""


class Refused(LogError):
    """The broker answered that it will not take this, now or later."""


class Entry(Value, frozen=True):
    """A record to write; the broker gives it its time."""

    key: bytes | None
    value: bytes | None
    headers: Headers = ()


@dataclass(frozen=True, slots=True)
class Layout:
    """Which topics a ledger works on."""

    commands: tuple[str, ...]
    """In causal rank order: at the same broker time the earlier one is decided first."""
    references: tuple[str, ...]
    """One partition each."""
    state: str
    outcomes: str
    staff: str
    """The reference topic that the ledger itself writes."""
    partitions: int
    """Shared by commands, outputs and state."""
    retention_ms: Mapping[str, int] = field(default_factory=dict)
    """How long a command topic keeps its records, where that is limited."""

    @classmethod
    def of(cls, catalog: Catalog) -> Self:
        """The topics of a catalog that a ledger works on."""
        return cls(
            commands=tuple(topic.name for topic in catalog.commands),
            references=tuple(topic.name for topic in catalog.references),
            state=catalog.state.name,
            outcomes="outcomes",
            staff="staff",
            partitions=catalog.partitions,
            retention_ms={
                topic.name: topic.retention_ms
                for topic in catalog.commands
                if topic.retention_ms is not None
            },
        )


class Membership(Protocol):
    """Who owns which partitions. Its callbacks only set `wished`; nothing is awaited in them."""

    wished: frozenset[int]
    generation: int
    """Counts the assignments of this member."""
    changed: asyncio.Event
    """Set whenever `wished` or `generation` changed; the ledger clears it."""

    async def start(self) -> None: ...
    def rejoin(self) -> None:
        """Ask for a new assignment, even if it will be the same."""

    async def stop(self) -> None:
        """Leave, so that the others take over at once."""


class Reader(Protocol):
    """Reads committed records of any number of partitions into feeds."""

    def open(self, place: Place, offset: int, wake: Callable[[], None]) -> Feed:
        """Begin to read at `offset`; `wake` is called whenever the feed changed."""

    def close_feed(self, feed: Feed) -> None: ...
    async def close(self) -> None: ...


class EndOffsets(Protocol):
    """Asks for the ends of partitions, on a connection that no long poll holds up.

    Raises LogUnavailable.
    """

    async def high_watermarks(self, places: Collection[Place]) -> Mapping[Place, int]:
        """The offset after the last replicated record, committed or not."""

    async def log_starts(self, places: Collection[Place]) -> Mapping[Place, int]: ...
    async def close(self) -> None: ...


class Draft(Protocol):
    """What is to be written together. Nothing of it is sent before its writer commits it."""

    def add(self, place: Place, entries: Sequence[Entry]) -> None:
        """Write these, too, after those that the place has so far.

        They are made ready to be sent at once: while they are new, the processor's caches have
        them.
        """


class Writer(Protocol):
    """The one transactional producer of a partition."""

    async def start(self) -> None:
        """Fence every earlier producer of the partition and end what it left open.

        Raises LogUnavailable, Refused.
        """

    def draft(self) -> Draft:
        """A new one, of a transaction. It need not be committed."""

    async def commit(self, draft: Draft) -> None:
        """Write one that `draft` made, all of it or nothing; one after the other.

        Raises Fenced, LogUnavailable or Refused; after any of them only `close` may follow, and
        only a later producer's `start` tells what happened.
        """

    async def end_forgotten(self) -> None:
        """End the last transaction wherever the log has forgotten to; not while one is under way.

        Raises LogUnavailable, Refused.
        """

    async def close(self) -> None: ...


class Log(Protocol):
    """Where the ledger gets its parts from."""

    layout: Layout

    def membership(self) -> Membership: ...
    def reader(self) -> Reader: ...
    def end_offsets(self) -> EndOffsets: ...
    def writer(self, partition: int) -> Writer: ...

    async def topic_ids(self, topics: Collection[str]) -> Mapping[str, str]:
        """An identity per topic that a recreated topic does not share. Raises LogUnavailable."""
