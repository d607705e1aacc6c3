"""The reference topics, whole on every instance: employers, sites and staff.

The view of a topic is exactly the fold of the topic's records up to `offsets[topic]`: the only
writer is the reader of that topic, also for `staff`, whose records this worker may have written
itself. So an offset names a view, and a decision can be replayed from the offsets it used. That a
turn sees what the turns before it wrote is the barrier's doing.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from agents.ledger.record import Record
from schemas.limits import BAD_REFERENCES_KEPT_MAX

Parse = Callable[[str, bytes, bytes], object]
"""(logical topic, key, value) -> what the record means. Raises ValueError where it means nothing;
the words of the error quote nothing of the record."""


class BadRecord(NamedTuple):
    """A reference record that could not be read; the last good one of its key stays in force."""

    topic: str
    offset: int
    detail: str


class References:
    """The reference views of one worker; all access is from its event loop."""

    def __init__(self, topics: Sequence[str], parse: Parse) -> None:
        self._parse = parse
        self._views: dict[str, dict[str, object]] = {topic: {} for topic in topics}
        self.offsets: dict[str, int] = dict.fromkeys(topics, 0)
        """Logical topic -> the offset after the last one folded into its view."""
        self.bad: deque[BadRecord] = deque(maxlen=BAD_REFERENCES_KEPT_MAX)
        self.bad_total = 0
        self.held = asyncio.Lock()
        """Held by a decision, which must see one view, and by who folds."""

    def view(self, topic: str) -> Mapping[str, object]:
        """The records in force of a reference topic, by key (UTF-8, decoded)."""
        return self._views[topic]

    @property
    def employers(self) -> Mapping[str, object]:
        """By unified social credit code."""
        return self._views["employers"]

    @property
    def sites(self) -> Mapping[str, object]:
        """By site id."""
        return self._views["sites"]

    @property
    def staff(self) -> Mapping[str, object]:
        """Registered managers, by person id."""
        return self._views["staff"]

    def fold(
        self,
        topic: str,
        records: Iterable[Record],
        next_offset: int,
    ) -> None:
        """Take in records in order, up to `next_offset`."""
        view = self._views[topic]
        for record in records:
            key, value = record.key, record.value
            try:
                if key is None:
                    raise ValueError("no key")
                name = key.decode()
                if value is None:
                    view.pop(name, None)
                else:
                    view[name] = self._parse(topic, key, value)
            except ValueError as error:
                self.bad_total += 1
                self.bad.append(BadRecord(topic, record.offset, str(error)))
        self.offsets[topic] = next_offset
