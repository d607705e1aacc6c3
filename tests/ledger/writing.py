"""What is written in one transaction."""

from collections.abc import Mapping, Sequence

from agents.ledger.log import Entry, Place, Writer


async def write(writer: Writer, entries: Mapping[Place, Sequence[Entry]]) -> None:
    """A transaction of these entries."""
    draft = writer.draft()
    for place, group in entries.items():
        draft.add(place, group)
    await writer.commit(draft)
