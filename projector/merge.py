"""Puts the events of the topics back into each person's own order.

A decision writes a person's events to several topics, whose records become readable one topic at a
time. So of each topic-partition only the head may be applied, and only when it is its person's next
version; else it waits there, with all behind it, until another topic of the same partition brings
what lies before. The ledger wrote the events of a partition in one order that keeps both each
topic's and each person's, so the earliest one not applied is always at a head: a wait ends with
what is still unread, never with another wait.
"""

from collections import deque
from collections.abc import Iterator, Mapping

from projector.fold import Changes, Misfit, Person
from projector.records import Event, where


class Lanes:
    """The events read and not applied yet: a queue for each event topic and partition."""

    def __init__(self) -> None:
        self._partitions: dict[int, dict[str, deque[Event]]] = {}
        self._fresh: set[int] = set()

    def put(self, event: Event) -> None:
        """Takes the next record of its topic-partition."""
        record = event.record
        queues = self._partitions.setdefault(record.partition, {})
        queues.setdefault(record.topic, deque()).append(event)
        self._fresh.add(record.partition)

    def waiting(self, topic: str, partition: int) -> deque[Event]:
        """What is read and not applied, oldest first."""
        return self._partitions.get(partition, {}).get(topic) or deque()

    def held(self) -> Iterator[deque[Event]]:
        """The queues that are not empty."""
        for queues in self._partitions.values():
            yield from filter(None, queues.values())

    def persons(self) -> set[str]:
        """Whom the next `drain` may ask for."""
        return {
            event.person
            for partition in self._fresh
            for queue in self._partitions[partition].values()
            for event in queue
        }

    def drain(self, people: Mapping[str, Person], changes: Changes) -> Iterator[None]:
        """Applies everything that can be, and pauses after each partition. `people` has everyone
        of `persons`.

        Raises `Misfit` for a version that was applied already.
        """
        for partition in self._fresh:
            queues = list(self._partitions[partition].values())
            moved = True
            while moved:
                moved = False
                for queue in queues:
                    while queue:
                        event = queue[0]
                        person = people[event.person]
                        ahead = event.version - person.version
                        if ahead > 1:
                            break
                        if ahead < 1:
                            raise Misfit(
                                f"{event.type} at {where(event.record)}: "
                                f"version {event.version} again, after {person.version}"
                            )
                        changes.apply(person, event)
                        queue.popleft()
                        moved = True
            yield
        self._fresh.clear()
