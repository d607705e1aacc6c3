"""The play's clients on the real topics: an idempotent producer and a reader of all answers.

Answers are matched by the origin they name, which is exact where ids are not: a duplicate has the
id of another message.
"""

import asyncio
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final, Self

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from demo.client import DEAD_LETTER, Answer, Message, Origin, Receipt
from deployment.catalog import Catalog
from schemas.limits import DEMO_POLL_MS
from schemas.outcomes import DEAD_LETTERS_TOPIC, OUTCOMES_TOPIC

_CLIENT: Final = "realname-demo"


class Wire:
    """A client of the broker. Used as a context, with `read` running beside the play."""

    def __init__(self, brokers: str, catalog: Catalog) -> None:
        self._catalog = catalog
        self._producer = AIOKafkaProducer(
            bootstrap_servers=brokers, client_id=_CLIENT, acks="all", enable_idempotence=True
        )
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=brokers,
            client_id=_CLIENT,
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed",
        )
        self._waiting: dict[Origin, asyncio.Future[Answer]] = {}
        self._answered: set[Origin] = set()
        self.unasked: dict[Origin, Answer] = {}
        """Answers to records that this client has not sent, or has not heard of as stored yet."""
        self.twice: list[Origin] = []
        """Records that were answered more than once."""

    @property
    def partitions(self) -> int:
        return self._catalog.partitions

    async def __aenter__(self) -> Self:
        await self._producer.start()
        await self._consumer.start()
        places = [
            TopicPartition(self._catalog.topics[name].wire, partition)
            for name in (OUTCOMES_TOPIC, DEAD_LETTERS_TOPIC)
            for partition in range(self._catalog.partitions)
        ]
        self._consumer.assign(places)
        for place in places:
            self._consumer.seek(place, 0)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._consumer.stop()
        await self._producer.stop()

    async def send(self, message: Message) -> Receipt:
        """Hand a record to the producer."""
        loop = asyncio.get_running_loop()
        receipt = Receipt(loop.create_future(), loop.create_future())
        delivery = await self._producer.send(
            self._catalog.topics[message.topic].wire,
            message.value,
            key=message.key,
            partition=message.partition,
        )

        def delivered(done: asyncio.Future[Any]) -> None:
            if done.cancelled() or receipt.stored.done():
                return
            if error := done.exception():
                receipt.stored.set_exception(error)
                return
            record = done.result()
            origin = Origin(message.topic, record.partition, record.offset)
            receipt.stored.set_result(origin)
            if origin in self.unasked:
                receipt.answered.set_result(self.unasked.pop(origin))
            else:
                self._waiting[origin] = receipt.answered

        delivery.add_done_callback(delivered)
        return receipt

    async def put(self, topic: str, key: str, value: bytes | None) -> None:
        """Write a reference record and wait until the broker has it."""
        wire = self._catalog.topics[topic].wire
        await self._producer.send_and_wait(wire, value, key=key.encode())

    async def read(self) -> None:
        """Hand answers to those who wait for them, until cancelled."""
        while True:
            batches = await self._consumer.getmany(timeout_ms=DEMO_POLL_MS)
            for place, records in batches.items():
                topic = self._catalog.by_wire[place.topic].name
                for record in records:
                    self._take(topic, orjson.loads(record.value))

    def _take(self, topic: str, document: Mapping[str, Any]) -> None:
        if topic == DEAD_LETTERS_TOPIC:
            named, answer = document["origin"], Answer(DEAD_LETTER, document["code"])
        else:
            data = document["data"]
            named = data["origin"]
            answer = Answer(data["status"], data["code"], data["version"], tuple(data["events"]))
        logical = self._catalog.by_wire[named["topic"]].name
        origin = Origin(logical, named["partition"], named["offset"])
        if origin in self._answered:
            self.twice.append(origin)
            return
        self._answered.add(origin)
        waiting = self._waiting.pop(origin, None)
        if waiting is None:
            self.unasked[origin] = answer
        elif not waiting.done():
            waiting.set_result(answer)
