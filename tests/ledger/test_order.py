"""What was acknowledged before another was sent is decided before it, also across topics."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from typing import Any

from aiokafka import AIOKafkaProducer

TOPICS = ("identity-uploads", "hire-requests", "confirmations", "scan-events", "exit-requests")


async def _chain(producer: Any, deployment: Any, key: bytes, steps: int, seed: int) -> None:
    """One sender: each command is sent when the one before it is acknowledged, and more than the
    broker's resolution of 1 ms has passed: within it, the topics' rank decides."""
    chance = random.Random(seed)
    for step in range(steps):
        topic = chance.choice(TOPICS)
        meta = await producer.send_and_wait(deployment.wire(topic), b"%d" % step, key=key)
        deployment.sent.append((topic, meta.partition, meta.offset))
        await asyncio.sleep(0.002)


async def test_acknowledged_first_is_decided_first(deployment: Any) -> None:
    deployment.start(TOY_LAG="1")
    deployment.start(TOY_LAG="2")
    await deployment.until(lambda: deployment.said().count("assigned") >= 2)
    async with AIOKafkaProducer(
        bootstrap_servers=deployment.broker, acks="all", linger_ms=0
    ) as producer:
        chains = [
            _chain(producer, deployment, b"chain %d" % number, 60, number) for number in range(12)
        ]
        await asyncio.gather(*chains)
    said = defaultdict(list)
    for outcome in await deployment.outcomes():
        said[outcome["key"]].append(int(outcome["said"]))
    assert all(steps == list(range(60)) for steps in said.values())


async def test_a_backlog_is_decided_in_the_order_of_its_sending(deployment: Any) -> None:
    async with AIOKafkaProducer(
        bootstrap_servers=deployment.broker, acks="all", linger_ms=0
    ) as producer:
        chains = [
            _chain(producer, deployment, b"chain %d" % number, 80, number) for number in range(12)
        ]
        await asyncio.gather(*chains)
    deployment.start()
    said = defaultdict(list)
    for outcome in await deployment.outcomes():
        said[outcome["key"]].append(int(outcome["said"]))
    assert all(steps == list(range(80)) for steps in said.values())


async def test_an_acknowledged_reference_is_seen(deployment: Any) -> None:
    deployment.start(TOY_LAG="3")
    await deployment.until(lambda: "deciding: 0, 1, 2, 3" in deployment.said())
    places = {}
    for number in range(40):
        async with AIOKafkaProducer(bootstrap_servers=deployment.broker, acks="all") as producer:
            await producer.send_and_wait(deployment.wire("employers"), b"%d" % number, key=b"e")
            meta = await producer.send_and_wait(
                deployment.wire("hire-requests"), b"x", key=b"p%d" % number
            )
        deployment.sent.append(("hire-requests", meta.partition, meta.offset))
        places[f"hire-requests/{meta.partition}/{meta.offset}"] = number
    for outcome in await deployment.outcomes():
        assert outcome["employer"] >= places[outcome["origin"]]


async def test_staff_is_seen_once_the_outcome_was_readable(deployment: Any) -> None:
    """Another person's command sees what a decision wrote to `staff`, on another worker too."""
    deployment.start(TOY_LAG="4")
    deployment.start(TOY_LAG="5")
    await deployment.until(lambda: deployment.said().count("assigned") >= 2)
    for number in range(8):
        await deployment.send([("hire-requests", b"m%d" % number, b"staff")])
        await deployment.outcomes()
        asking = [("scan-events", b"p%d" % who, b"ask m%d" % number) for who in range(8)]
        places = await deployment.send(asking)
        outcomes = {outcome["origin"]: outcome for outcome in await deployment.outcomes()}
        for topic, partition, offset in places:
            assert outcomes[f"{topic}/{partition}/{offset}"]["staff"] == {"n": 1}
