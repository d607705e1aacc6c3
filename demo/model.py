"""The play's own idea of what must come out: the rules, in memory, a command at a time.

It shares the reading of commands and the rules with the system and nothing else: no turns, no
partitions' owners, no stored states. What it says is compared with what the system did.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from demo.client import DEAD_LETTER, Answer, Message, Origin, Receipt
from deployment.catalog import Catalog
from rules.authority import World
from rules.decide import decide
from rules.person import Person, staff_record
from schemas.identifiers import partition_for
from schemas.reading import Refusal, read_command
from schemas.references import Employer, Site, Staff, parse_reference


@dataclass(frozen=True, slots=True)
class ModelEvent:
    """An event as it must be in the table `events`; `data` without version and command."""

    version: int
    type: str
    at_ms: int
    command: str
    data: Mapping[str, Any]


@dataclass
class Model:
    """A client that answers at once. `now_ms` is the broker's clock, which stands still."""

    catalog: Catalog
    code_keys: Mapping[int, bytes]
    now_ms: int
    persons: dict[str, Person] = field(default_factory=dict)
    events: dict[str, list[ModelEvent]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._employers: dict[str, Employer] = {}
        self._sites: dict[str, Site] = {}
        self._staff: dict[str, Staff] = {}
        self._world = World(self._employers, self._sites, self._staff, self.code_keys)
        self._offsets: Counter[tuple[str, int]] = Counter()

    @property
    def partitions(self) -> int:
        return self.catalog.partitions

    async def send(self, message: Message) -> Receipt:
        """Decide a record."""
        loop = asyncio.get_running_loop()
        partition = message.partition
        if partition is None:
            partition = partition_for(message.key or b"", self.catalog.partitions)
        offset = self._offsets[message.topic, partition]
        self._offsets[message.topic, partition] += 1
        receipt = Receipt(loop.create_future(), loop.create_future())
        receipt.stored.set_result(Origin(message.topic, partition, offset))
        receipt.answered.set_result(self._answer(message, partition))
        # As a real client does, let the others go on.
        await asyncio.sleep(0)
        return receipt

    def history(self) -> Iterator[tuple[str, ModelEvent]]:
        """Every event with the person it is about, a person's in order."""
        for person, events in self.events.items():
            for event in events:
                yield person, event

    async def put(self, topic: str, key: str, value: bytes | None) -> None:
        """Take a reference record in."""
        views: dict[str, dict[str, Any]] = {"employers": self._employers, "sites": self._sites}
        view = views[topic]
        if value is None:
            view.pop(key, None)
        else:
            view[key] = parse_reference(topic, key.encode(), value)

    def _answer(self, message: Message, partition: int) -> Answer:
        command = read_command(
            message.topic, partition, self.catalog.partitions, message.key, message.value
        )
        if isinstance(command, Refusal):
            return Answer(DEAD_LETTER, command.code)
        subject = command.subject
        person = self.persons.get(subject, Person())
        decision = decide(person, command, self.now_ms, self._world)
        self.persons[subject] = decision.person
        staff = staff_record(subject, decision.person)
        if staff is None:
            self._staff.pop(subject, None)
        else:
            self._staff[subject] = staff
        history = self.events.setdefault(subject, [])
        first = len(history) + 1
        history += (
            ModelEvent(version, event.type, event.at_ms, command.id, event.data)
            for version, event in enumerate(decision.events, first)
        )
        return Answer(
            decision.status,
            decision.code,
            decision.version,
            tuple(f"{subject}:{first + at}" for at in range(len(decision.events))),
        )
