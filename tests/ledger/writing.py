"""What is written in one transaction."""

from collections.abc import Mapping, Sequence

from agents.ledger.log import Entry, Place, Writer

A: Place = ("outcomes", 0)
B: Place = ("person-state", 0)


def both(value: bytes) -> dict[Place, list[Entry]]:
    """One entry for A and one for B."""
    return {A: [Entry(b"k", value)], B: [Entry(b"k", value)]}


async def write(writer: Writer, entries: Mapping[Place, Sequence[Entry]]) -> None:
    """A transaction of these entries."""
    draft = writer.draft()
    for place, group in entries.items():
        draft.add(place, group)
    await writer.commit(draft)
