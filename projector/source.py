"""The broker's side: a consumer without a group, placed by the progress of the tables."""

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import OffsetOutOfRangeError

from deployment.catalog import Catalog, Topic
from projector.records import digest
from projector.store import Place, Progress
from schemas.limits import PROJECTOR_POLL_MS_MAX

Fetched: TypeAlias = tuple[list[tuple[Topic, list[ConsumerRecord]]], dict[Place, int]]


class TopicsBroken(Exception):
    """The topics are not the ones these tables were made from, or begin too late for them."""


_MEND: Final = (
    "Restore the topic, or, when what is missing is known and accepted, empty the tables with "
    "`realname rebuild`"
)


class Source:
    """Reads all output topics, committed records only, from where the tables are.

    `Source.open` checks every topic-partition against its progress. The first record read again
    from each is compared with the digest of the one in the tables.
    """

    def __init__(self, consumer: AIOKafkaConsumer, topics: Mapping[str, Topic]) -> None:
        self._consumer = consumer
        self._topics = topics
        self._unproved: dict[TopicPartition, Progress] = {}
        self._paused: set[TopicPartition] = set()

    @classmethod
    async def open(
        cls,
        brokers: str,
        catalog: Catalog,
        progress: Mapping[Place, Progress],
        **client_options: Any,
    ) -> "Source":
        """Raises `TopicsBroken`, or aiokafka's errors while the broker is away."""
        consumer = AIOKafkaConsumer(
            bootstrap_servers=brokers,
            client_id=f"{catalog.group}-projector",
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed",
            fetch_max_wait_ms=PROJECTOR_POLL_MS_MAX,
            **client_options,
        )
        try:
            await consumer.start()
            source = cls(consumer, {topic.wire: topic for topic in catalog.outputs})
            await source._place(progress)
        except BaseException:
            await consumer.stop()
            raise
        return source

    async def _place(self, progress: Mapping[Place, Progress]) -> None:
        consumer = self._consumer
        places = [
            TopicPartition(topic.wire, partition)
            for topic in self._topics.values()
            for partition in range(topic.partitions)
        ]
        consumer.assign(places)
        for place, begin in (await consumer.beginning_offsets(places)).items():
            there = progress[place.topic, place.partition]
            name = f"{place.topic}/{place.partition}"
            if begin > there.next_offset:
                raise TopicsBroken(
                    f"{name} begins at offset {begin}, the tables need it from "
                    f"{there.next_offset} on: records were deleted. {_MEND}"
                )
            if there.last_offset is None or begin > there.last_offset:
                consumer.seek(place, there.next_offset)
            else:
                consumer.seek(place, there.last_offset)
                self._unproved[place] = there

    async def fetch(self, records_max: int) -> Fetched:
        """What is there, at most `records_max`, after at most the poll limit; and the position of
        every topic-partition: the offset below which everything was handed out, this included.
        Positions pass transaction markers, which are no records.

        Raises `TopicsBroken` when a topic was truncated or made anew.
        """
        try:
            fetched = await self._consumer.getmany(
                timeout_ms=PROJECTOR_POLL_MS_MAX, max_records=records_max
            )
        except OffsetOutOfRangeError as error:
            raise TopicsBroken(
                f"the tables are ahead of the topics or behind what they still hold: "
                f"{', '.join(f'{place.topic}/{place.partition}' for place in error.args[0])} "
                f"was truncated or made anew. {_MEND}"
            ) from error
        chunks = []
        for place, records in fetched.items():
            if place in self._unproved:
                records = self._prove(place, records)
            if records:
                chunks.append((self._topics[place.topic], records))
        # Asked for here and not later: the next fetch moves the consumer on before its records are
        # in anyone's hands.
        positions = {
            (place.topic, place.partition): await self._consumer.position(place)
            for place in self._consumer.assignment()
        }
        return chunks, positions

    def _prove(self, place: TopicPartition, records: list[ConsumerRecord]) -> list[ConsumerRecord]:
        there = self._unproved.pop(place)
        first = records[0]
        if first.offset != there.last_offset or digest(first) != there.last_digest:
            raise TopicsBroken(
                f"{place.topic}/{place.partition} has another record at offset "
                f"{there.last_offset} than the tables were made from: the topic was made anew. "
                f"{_MEND}"
            )
        return [record for record in records if record.offset >= there.next_offset]

    async def ends(self) -> dict[Place, int]:
        """Where the committed records end now (the last stable offsets)."""
        ends = await self._consumer.end_offsets(list(self._consumer.assignment()))
        return {(place.topic, place.partition): end for place, end in ends.items()}

    def logical(self, wire: str) -> str:
        """The contract's name of a topic."""
        return self._topics[wire].name

    def hold(self, places: set[Place]) -> None:
        """Reads nothing more from exactly these until told otherwise."""
        wanted = {TopicPartition(*place) for place in places}
        if wanted - self._paused:
            self._consumer.pause(*(wanted - self._paused))
        if self._paused - wanted:
            self._consumer.resume(*(self._paused - wanted))
        self._paused = wanted

    async def close(self) -> None:
        await self._consumer.stop()
