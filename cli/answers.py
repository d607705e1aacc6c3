"""Waiting for the outcomes of commands that this process sends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import orjson
from aiokafka import AIOKafkaConsumer
from aiokafka import TopicPartition as Place

from cli.completing import Outgoing
from cli.context import Deployment
from cli.errors import Trouble
from cli.kafka import Record, reading
from schemas.limits import CLI_POLL_MS, SECOND_MS
from schemas.outcomes import DEAD_LETTERS_TOPIC, OUTCOMES_TOPIC


class Origin(NamedTuple):
    """The record that is answered; `topic` is the wire name."""

    topic: str
    partition: int
    offset: int


class Answer(NamedTuple):
    """An outcome's data, or a dead letter, and when the broker got it."""

    at_ms: int
    status: str
    """`accepted`, `rejected`, `duplicate`, or `dead_letter`."""
    body: dict[str, Any]


class Answers:
    """The answers to come; see `awaiting`."""

    def __init__(self, commands: Iterable[Outgoing], wait_ms: int) -> None:
        self._expected = {(one.command.source, one.command.id) for one in commands}
        self._wait_ms = wait_ms
        self._came: dict[Origin, Answer] = {}
        self._news = asyncio.Condition()
        self._heard = time.monotonic()
        self._failure: Exception | None = None

    async def of(self, origin: Origin) -> Answer:
        """The answer to one record.

        Raises Trouble when none of the answers waited for came in the time given, and what kept
        the topics from being read.
        """
        self._heard = time.monotonic()
        async with self._news:
            while origin not in self._came:
                if self._failure is not None:
                    raise self._failure
                left = self._heard + self._wait_ms / SECOND_MS - time.monotonic()
                try:
                    async with asyncio.timeout(left):
                        await self._news.wait()
                except TimeoutError:
                    raise Trouble(
                        f"no outcome within {self._wait_ms / SECOND_MS:g} s; the command is kept "
                        "and will be decided once",
                        "see `realname status`; `realname worker` starts a worker",
                    ) from None
        return self._came.pop(origin)

    async def listen(self, consumer: AIOKafkaConsumer, outcomes: str) -> None:
        """Take in what the consumer brings, until cancelled; a failure is for who waits."""
        try:
            while True:
                fetched = await consumer.getmany(timeout_ms=CLI_POLL_MS)
                async with self._news:
                    for place, records in fetched.items():
                        for record in records:
                            self._take(place.topic == outcomes, record)
                    self._news.notify_all()
        except Exception as error:
            self._failure = error
            async with self._news:
                self._news.notify_all()
            raise

    def _take(self, is_outcome: bool, record: Record) -> None:
        body = orjson.loads(record.value or b"{}")
        if not is_outcome:
            # These are few and cannot be told apart before their origin is known.
            self._keep(Answer(record.timestamp, "dead_letter", body))
            return
        data = body["data"]
        if (data["command_source"], data["command"]) in self._expected:
            self._keep(Answer(record.timestamp, data["status"], data))

    def _keep(self, answer: Answer) -> None:
        self._came[Origin(**answer.body["origin"])] = answer
        self._heard = time.monotonic()


@asynccontextmanager
async def awaiting(
    deployment: Deployment, commands: Sequence[Outgoing], wait_ms: int
) -> AsyncIterator[Answers]:
    """Listens from now on for the answers to `commands`, which are sent inside."""
    topics = [deployment.catalog.topics[name].wire for name in (OUTCOMES_TOPIC, DEAD_LETTERS_TOPIC)]
    # Answers are on the partition of their command.
    places = [
        Place(topic, partition)
        for topic in topics
        for partition in sorted({one.partition for one in commands})
    ]
    async with reading(deployment) as consumer:
        consumer.assign(places)
        await consumer.seek_to_end(*places)
        for place in places:
            await consumer.position(place)
        answers = Answers(commands, wait_ms)
        listening = asyncio.create_task(answers.listen(consumer, topics[0]))
        try:
            yield answers
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
