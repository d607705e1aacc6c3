"""A limit: the same records read and written exactly once with aiokafka, and nothing decided.

A transaction for each partition and batch, records put into batches by hand, as fast as that
library is known to go.
"""

from __future__ import annotations

import asyncio
from typing import Any

import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.structs import TopicPartition

from bench.peers.job import BROKERS, EVENT, INPUTS, OUTCOME, OUTPUTS, PARTITIONS, STATE
from bench.work import TOPICS


async def _work(producer: AIOKafkaProducer, partition: int, groups: list[Any]) -> None:
    records = [record for group in groups for record in group]
    keys = [record.key for record in records]
    made = {
        "outcomes": [(key, OUTCOME) for key in keys],
        "attendance-records": [(key, EVENT) for i, key in enumerate(keys) if i % 5],
        "person-state": [(key, STATE) for key in dict.fromkeys(keys)],
    }
    made["person-state"].append((b"_progress", b"0" * 1_100))
    async with producer.transaction():
        sent = []
        for topic, entries in made.items():
            batch = producer.create_batch()
            for key, value in entries:
                if batch.append(key=key, value=value, timestamp=None) is None:
                    batch.close()
                    sent.append(
                        await producer.send_batch(batch, OUTPUTS + topic, partition=partition)
                    )
                    batch = producer.create_batch()
                    batch.append(key=key, value=value, timestamp=None)
            batch.close()
            sent.append(await producer.send_batch(batch, OUTPUTS + topic, partition=partition))
        for future in sent:
            await future


async def _run() -> None:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=BROKERS,
        enable_auto_commit=False,
        isolation_level="read_committed",
        max_partition_fetch_bytes=1 << 20,
        fetch_max_bytes=8 << 20,
    )
    await consumer.start()
    places = [
        TopicPartition(INPUTS + topic, partition)
        for topic in TOPICS
        for partition in range(PARTITIONS)
    ]
    consumer.assign(places)
    await consumer.seek_to_beginning(*places)
    producers = []
    for partition in range(PARTITIONS):
        producer = AIOKafkaProducer(
            bootstrap_servers=BROKERS,
            transactional_id=f"{OUTPUTS}bare-{partition}",
            max_batch_size=512 << 10,
            linger_ms=0,
        )
        await producer.start()
        producers.append(producer)
    while True:
        found = await consumer.getmany(timeout_ms=200, max_records=16_000)
        groups: dict[int, list[Any]] = {}
        for place, records in found.items():
            groups.setdefault(place.partition, []).append(records)
        await asyncio.gather(
            *(_work(producers[partition], partition, group) for partition, group in groups.items())
        )


if __name__ == "__main__":
    uvloop.run(_run())
