"""Brings logs from Kafka. Read only; committed records only; nothing but what is asked for.

A partition is cut where its `_progress` stands: `person-state` is read first, then everything else
at least as far as the transactions reach that were seen there. Partitions of one transaction turn
visible one after another, so before reading on, the last stable offsets must reach the high
watermarks; those that do not in time are left with `Log.high` above `Log.end`.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import OffsetOutOfRangeError

from checker.history import (
    PROGRESS_KEY,
    Cut,
    Log,
    Partition,
    Progress,
    Record,
    Versions,
    read_progress,
)
from deployment.catalog import Catalog
from schemas.limits import (
    CHECK_POLL_MS,
    CHECK_STALL_MS_MAX,
    CHECK_TAIL_RECORDS,
    DAY_MS,
    VALUE_BYTES_MAX,
)

Place = tuple[str, int]
"""(logical topic, partition)"""


class CannotRead(Exception):
    """The logs cannot be read; the text says which and why."""


class Bounds(NamedTuple):
    start: int
    end: int
    """The last stable offset."""
    high: int


class Logs:
    """The topics of a deployment, as a committed reader sees them."""

    def __init__(
        self,
        catalog: Catalog,
        reader: AIOKafkaConsumer,
        ends: AIOKafkaConsumer,
        highs: AIOKafkaConsumer,
    ) -> None:
        self._catalog = catalog
        self._reader = reader
        self._ends = ends
        self._highs = highs
        self._wire = {name: topic.wire for name, topic in catalog.topics.items()}
        self.references = {
            topic.name: Versions(topic.name, _settled_ms(topic.config))
            for topic in catalog.references
        }

    @classmethod
    @asynccontextmanager
    async def open(
        cls, brokers: str, catalog: Catalog, options: Mapping[str, Any]
    ) -> AsyncIterator[Logs]:
        """`options` go to the Kafka clients."""
        async with AsyncExitStack() as stack:
            everything = [
                TopicPartition(topic.wire, number)
                for topic in catalog.topics.values()
                for number in range(topic.partitions)
            ]
            consumers = []
            for isolation in ("read_committed", "read_committed", "read_uncommitted"):
                consumer = AIOKafkaConsumer(
                    bootstrap_servers=brokers,
                    client_id=f"{catalog.group}-check",
                    group_id=None,
                    enable_auto_commit=False,
                    auto_offset_reset="none",
                    isolation_level=isolation,
                    fetch_max_wait_ms=CHECK_POLL_MS,
                    max_partition_fetch_bytes=4 << 20,
                    **options,
                )
                stack.push_async_callback(consumer.stop)
                await consumer.start()
                consumers.append(consumer)
            # Those that only tell offsets read nothing. That all is assigned to them spares them a
            # question about each topic when it is first asked for.
            for consumer in consumers[1:]:
                consumer.assign(everything)
            yield cls(catalog, *consumers)

    async def bounds(self, places: Collection[Place]) -> dict[Place, Bounds]:
        keys = {place: TopicPartition(self._wire[place[0]], place[1]) for place in places}
        asked = list(keys.values())
        # In this order a stable end at or above the high watermark is one that was reached.
        highs = await self._highs.end_offsets(asked)
        ends = await self._ends.end_offsets(asked)
        starts = await self._ends.beginning_offsets(asked)
        return {place: Bounds(starts[key], ends[key], highs[key]) for place, key in keys.items()}

    async def stable(self, places: Collection[Place], quiet_ms: int) -> dict[Place, Bounds]:
        """The bounds once the transactions under way now have ended: `end` is then `high`. Where
        that does not come in time, `end` is below it."""
        deadline = time.monotonic() + quiet_ms / 1000
        found = await self.bounds(places)
        wanted = {place: bounds.high for place, bounds in found.items()}
        while True:
            late = [place for place, bounds in found.items() if bounds.end < wanted[place]]
            if not late or time.monotonic() > deadline:
                return {
                    place: Bounds(bounds.start, min(bounds.end, wanted[place]), wanted[place])
                    for place, bounds in found.items()
                }
            await asyncio.sleep(CHECK_POLL_MS / 1000)
            found |= await self.bounds(late)

    async def read(
        self, spans: Mapping[Place, tuple[int, int]]
    ) -> AsyncIterator[tuple[Place, list[Record]]]:
        """All committed records of each place from one offset up to another, in pieces.

        Raises CannotRead when they are not there, or nothing comes for too long.
        """
        logical = {self._wire[topic]: topic for topic, _ in spans}
        left = {
            TopicPartition(self._wire[topic], partition): span
            for (topic, partition), span in spans.items()
            if span[0] < span[1]
        }
        if not left:
            return
        consumer = self._reader
        consumer.assign(list(left))
        for key, (start, _) in left.items():
            consumer.seek(key, start)
        moved = time.monotonic()
        while left:
            try:
                fetched = await consumer.getmany(*left, timeout_ms=CHECK_POLL_MS)
            except OffsetOutOfRangeError as error:
                raise CannotRead(f"records were deleted while they were read: {error}") from error
            for key, found in fetched.items():
                topic, end = logical[key.topic], left[key][1]
                commands = self._catalog.topics[topic].kind == "command"
                yield (
                    (topic, key.partition),
                    [_record(topic, one, commands) for one in found if one.offset < end],
                )
                moved = time.monotonic()
            for key in list(left):
                if await consumer.position(key) >= left[key][1]:
                    del left[key]
                    consumer.pause(key)
                    moved = time.monotonic()
            if time.monotonic() - moved > CHECK_STALL_MS_MAX / 1000:
                where = ", ".join(f"{key.topic}/{key.partition}" for key in left)
                raise CannotRead(f"nothing more can be read of {where}")

    async def logs(self, bounds: Mapping[Place, Bounds]) -> dict[Place, Log]:
        """The records within bounds."""
        logs = {place: Log([], one.start, one.end, one.high) for place, one in bounds.items()}
        async for place, records in self.read(
            {place: (one.start, one.end) for place, one in bounds.items()}
        ):
            logs[place].records += records
        return logs

    async def extend_references(self, quiet_ms: int) -> None:
        """Bring the reference versions up to what the topics hold now."""
        for place, bounds in (
            await self.stable([(topic, 0) for topic in self.references], quiet_ms)
        ).items():
            versions = self.references[place[0]]
            begin = max(versions.end, bounds.start)
            async for _, records in self.read({place: (begin, bounds.end)}):
                versions.extend(records, records[-1].offset + 1 if records else 0)
            versions.extend((), bounds.end)
            versions.high = bounds.high

    async def partition(self, number: int, quiet_ms: int) -> Partition:
        """All of one partition number; the references are brought up to it."""
        catalog = self._catalog
        state: Place = (catalog.state.name, number)
        bounds = await self.stable([state], quiet_ms)
        states, progress, loose = await self._states(state, bounds[state])
        await self.extend_references(quiet_ms)
        commands = [(topic.name, number) for topic in catalog.commands]
        outputs = [(topic.name, number) for topic in catalog.outputs]
        logs = await self.logs(
            {**await self.bounds(commands), **await self.stable(outputs, quiet_ms)}
        )
        after = (await self.bounds([state]))[state]
        quiet = bounds[state].end == after.high
        if quiet:
            _apply(states, loose)
        return Partition(
            number,
            {topic: logs[topic, number] for topic, _ in commands},
            {topic: logs[topic, number] for topic, _ in outputs},
            Log([], *bounds[state]),
            states,
            progress,
            quiet,
        )

    async def _states(
        self, place: Place, bounds: Bounds
    ) -> tuple[dict[bytes, bytes], Progress | None, dict[bytes, bytes | None]]:
        """States and progress as of the last progress record, and what stands behind that: of a
        transaction that goes on beyond the end, or of none."""
        states: dict[bytes, bytes] = {}
        progress = None
        loose: dict[bytes, bytes | None] = {}
        async for _, records in self.read({place: (bounds.start, bounds.end)}):
            for record in records:
                key = record.key or b""
                loose[key] = record.value
                if key == PROGRESS_KEY:
                    progress = _progress(record)
                    del loose[key]
                    _apply(states, loose)
                    loose = {}
        return states, progress, loose

    # --- waiting ---------------------------------------------------------------------------------

    async def undecided(self, numbers: Iterable[int]) -> dict[int, int]:
        """Partition number -> how many committed commands are behind its progress."""
        catalog = self._catalog
        numbers = list(numbers)
        progress = await self._tails(numbers)
        commands = await self.bounds(
            [(topic.name, number) for topic in catalog.commands for number in numbers]
        )
        spans = {}
        for (topic, number), bounds in commands.items():
            known = progress[number]
            begin = max(bounds.start, known.offsets.get(topic, 0) if known else 0)
            spans[topic, number] = (begin, bounds.end)
        waiting: dict[int, int] = {}
        async for (_, number), records in self.read(spans):
            if records:
                waiting[number] = waiting.get(number, 0) + len(records)
        return waiting

    async def _tails(self, numbers: list[int]) -> dict[int, Progress | None]:
        """The last progress record of each partition: it is among its last records."""
        found: dict[int, Progress | None] = dict.fromkeys(numbers)
        state = self._catalog.state.name
        bounds = await self.bounds([(state, number) for number in numbers])
        tail, wanted = CHECK_TAIL_RECORDS, list(numbers)
        while wanted:
            spans = {
                (state, number): (
                    max(bounds[state, number].start, bounds[state, number].end - tail),
                    bounds[state, number].end,
                )
                for number in wanted
            }
            async for (_, number), records in self.read(spans):
                for record in records:
                    if record.key == PROGRESS_KEY:
                        found[number] = _progress(record)
            wanted = [
                number
                for number in wanted
                if found[number] is None and spans[state, number][0] > bounds[state, number].start
            ]
            tail *= 16
        return found

    async def outcomes_after(
        self, begin: Mapping[int, int], topic: str
    ) -> tuple[dict[int, int], list[Record]]:
        """The committed records of `topic` from offsets (by partition) on, and where they end."""
        bounds = await self.bounds([(topic, number) for number in begin])
        spans = {place: (begin[place[1]], one.end) for place, one in bounds.items()}
        found: list[Record] = []
        async for _, records in self.read(spans):
            found += records
        return {number: end for (_, number), (_, end) in spans.items()}, found


def _record(topic: str, one: ConsumerRecord[Any, Any], command: bool) -> Record:
    value, cut = one.value, None
    if command and value is not None and len(value) > VALUE_BYTES_MAX:
        cut = Cut(len(value), hashlib.sha256(value).hexdigest())
        value = value[:VALUE_BYTES_MAX]
    return Record(
        topic, one.partition, one.offset, one.timestamp, one.key, value, tuple(one.headers), cut
    )


def _progress(record: Record) -> Progress:
    try:
        return read_progress(record.value or b"")
    except ValueError as error:
        raise CannotRead(f"{record.place}: {error}") from error


def _apply(states: dict[bytes, bytes], changes: Mapping[bytes, bytes | None]) -> None:
    for key, value in changes.items():
        if value is None:
            states.pop(key, None)
        else:
            states[key] = value


def _settled_ms(config: Mapping[str, str]) -> int:
    """What the broker got before this time may be compacted; a day is left for slow clocks."""
    return int(time.time() * 1000) - int(config["min.compaction.lag.ms"]) + DAY_MS
