"""What a client of the system is to the play: it sends records and is answered.

`Model` (in memory, by the rules alone) and `Wire` (real topics) are the two there are.
"""

import asyncio
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

DEAD_LETTER: Final = "dead_letter"
"""The status of an answer that is a dead letter."""


class Origin(NamedTuple):
    """The record that was sent: logical topic, partition, offset."""

    topic: str
    partition: int
    offset: int


class Answer(NamedTuple):
    """An outcome, or a dead letter (without version and events)."""

    status: str
    code: str
    version: int = 0
    events: tuple[str, ...] = ()


class Message(NamedTuple):
    """A record to send; `partition` None leaves it to the key."""

    topic: str
    key: bytes | None
    value: bytes | None
    partition: int | None = None


@dataclass(frozen=True, slots=True)
class Receipt:
    """`stored` is done when the broker has the record, `answered` when the answer is readable."""

    stored: asyncio.Future[Origin]
    answered: asyncio.Future[Answer]


class Client(Protocol):
    """Records of one topic and key are stored in the order of the calls of `send`."""

    @property
    def partitions(self) -> int:
        """Partitions of the command topics."""
        ...

    async def send(self, message: Message) -> Receipt:
        """Hand a record over; waits for nothing but room."""
        ...

    async def put(self, topic: str, key: str, value: bytes | None) -> None:
        """Write a reference record; returns when the broker has it."""
        ...
