"""One command before the rules: what a ladder of guards looks at, and what it answers."""

from typing import Any

from rules.authority import World, staff_source
from rules.evolve import Event
from rules.person import Person
from schemas.reading import Command
from schemas.references import Site
from schemas.value import Value

Answer = str | list[Event]
"""The code of the first guard that failed, or the events of an accepted command."""


class Case(Value, frozen=True):
    """A command about a person, with the broker's time and the world as they are now."""

    person: Person
    command: Command
    # The command's own, at hand, for nearly every guard asks for them.
    data: Any
    at_ms: int
    now_ms: int
    world: World

    def event(self, event_type: str, private: object = None, /, **data: str | None) -> Event:
        """An event of this command; fields that are None are left out."""
        if not all(data.values()):  # in C, and true of most
            data = {name: value for name, value in data.items() if value is not None}
        return Event(event_type, self.at_ms, self.now_ms, data, private)

    def from_person(self) -> bool:
        """Sent by the person it is about."""
        return self.command.source == f"/persons/{self.command.subject}"

    def from_employer(self) -> bool:
        """Sent by the employer it names."""
        return bool(self.command.source == f"/employers/{self.data.employer}")

    def staff(self) -> str | None:
        """The person who acts as staff of the site it names."""
        return staff_source(self.command.source, self.data.site)

    def site(self) -> Site | None:
        """The record of the site it names."""
        return self.world.sites.get(self.data.site)


def blank(text: str | bool | None) -> bool:
    """Whether an optional text is absent or has nothing but white space."""
    return not text or (isinstance(text, str) and not text.strip())
