"""How the play is acted: messages made, sent, answered, counted and compared with the script.

`Play` knows nothing of the story. It gives every message a label that is the same in every play,
keeps what was sent and answered under it, and notes where an answer is not what the script says.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final

import orjson

from demo.calendar import Calendar, rfc3339
from demo.cast import Cast, Firm, Person
from demo.client import DEAD_LETTER, Answer, Client, Message, Origin, Receipt
from schemas.commands import COMMANDS
from schemas.limits import DEMO_ANSWER_MS_MAX, SECOND_MS
from schemas.reasons import ACCEPTED, AWAITING_VERIFICATION, DEAD_LETTER_CODES

DUPLICATE: Final = "duplicate"


class NoAnswer(Exception):
    """A record was not stored, or not answered, within the limit; the play cannot go on."""


@dataclass(slots=True)
class Played:
    """One message of the play; `receipt` and then `answer` are there when it was sent and answered.

    `expected` is the (status, code) that the script says. `sent_s` is of the monotonic clock.
    """

    label: str
    phase: int
    id: str
    message: Message
    expected: tuple[str, str]
    receipt: Receipt | None = None
    answer: Answer | None = None
    sent_s: float = 0.0
    waited_s: float = 0.0

    @property
    def envelope(self) -> dict[str, Any]:
        """The command that was sent; of messages that are commands only."""
        assert self.message.value is not None
        envelope: dict[str, Any] = orjson.loads(self.message.value)
        return envelope

    @property
    def origin(self) -> Origin:
        assert self.receipt is not None
        return self.receipt.stored.result()


class Play:
    """The play on one client. `answered` is called after each answer, for those who look on."""

    def __init__(
        self,
        client: Client,
        cast: Cast,
        answered: Callable[[Played], None] = lambda played: None,
    ) -> None:
        self.client = client
        self.cast = cast
        self.played: dict[str, Played] = {}
        self.phase = 0
        self._answered = answered
        self._numbers: dict[str, int] = {}

    @property
    def calendar(self) -> Calendar:
        return self.cast.calendar

    def firm(self, short: str) -> Firm:
        return self.cast.firms[short]

    @property
    def surprises(self) -> list[str]:
        """Answers that are not what the script says."""
        return [
            f"{one.label} {one.message.topic}: {'/'.join(one.expected)} in the script, "
            f"{one.answer.status}/{one.answer.code} was answered"
            for one in self.played.values()
            if one.answer is not None and one.answer[:2] != one.expected
        ]

    async def together(self, *storylines: Coroutine[Any, Any, None]) -> None:
        """Play storylines side by side. Only one of them at a time may be about a person."""
        async with asyncio.TaskGroup() as group:
            for storyline in storylines:
                group.create_task(storyline)

    async def post(
        self,
        person: Person,
        type_: str,
        source: str,
        at_ms: int,
        expect: str = ACCEPTED,
        /,
        *,
        command_id: str | None = None,
        **data: Any,
    ) -> Played:
        """Send a command without waiting for anything; `None` fields are left out."""
        label = self._label(person.handle)
        command_id = command_id or f"{label}-{type_}"
        envelope = {
            "specversion": "1.0",
            "id": command_id,
            "source": source,
            "type": type_,
            "time": rfc3339(at_ms),
            "subject": person.id,
            "data": {name: value for name, value in data.items() if value is not None},
        }
        message = Message(COMMANDS[type_][0], person.id.encode(), orjson.dumps(envelope))
        return await self._send(label, command_id, message, _expected(expect))

    async def do(
        self,
        person: Person,
        type_: str,
        source: str,
        at_ms: int,
        expect: str = ACCEPTED,
        /,
        **data: Any,
    ) -> Played:
        """Send a command and wait for its answer."""
        return await self.wait(await self.post(person, type_, source, at_ms, expect, **data))

    async def again(self, person: Person, played: Played, expect: str = ACCEPTED) -> Played:
        """Send the same message once more; `expect` is the code that the first was answered."""
        label = self._label(person.handle)
        return await self.wait(
            await self._send(label, played.id, played.message, (DUPLICATE, expect))
        )

    async def raw(self, name: str, message: Message, expect: str) -> Played:
        """Send any record at all and wait for its answer."""
        label = self._label(name)
        return await self.wait(await self._send(label, label, message, _expected(expect)))

    async def wait(self, played: Played) -> Played:
        """Wait until a message that was posted is answered. Raises NoAnswer."""
        assert played.receipt is not None
        await self._within(played, played.receipt.stored)
        played.answer = await self._within(played, played.receipt.answered)
        played.waited_s = time.monotonic() - played.sent_s
        self._answered(played)
        return played

    async def stored(self, played: Played) -> Played:
        """Wait until the broker has a message that was posted. Raises NoAnswer."""
        assert played.receipt is not None
        await self._within(played, played.receipt.stored)
        return played

    def _label(self, name: str) -> str:
        number = self._numbers[name] = self._numbers.get(name, 0) + 1
        return f"{name}-{number:02}"

    async def _send(
        self, label: str, command_id: str, message: Message, expected: tuple[str, str]
    ) -> Played:
        played = Played(label, self.phase, command_id, message, expected)
        self.played[label] = played
        played.sent_s = time.monotonic()
        played.receipt = await self.client.send(message)
        return played

    async def _within(self, played: Played, waited: Awaitable[Any]) -> Any:
        try:
            return await asyncio.wait_for(waited, DEMO_ANSWER_MS_MAX / SECOND_MS)
        except TimeoutError:
            raise NoAnswer(
                f"{played.label} on {played.message.topic} was not answered within "
                f"{DEMO_ANSWER_MS_MAX // SECOND_MS} s"
            ) from None


def _expected(code: str) -> tuple[str, str]:
    if code in DEAD_LETTER_CODES:
        return DEAD_LETTER, code
    return ("accepted" if code in (ACCEPTED, AWAITING_VERIFICATION) else "rejected"), code
