"""A limit: the same records read and written exactly once with librdkafka, nothing decided."""

from __future__ import annotations

from confluent_kafka import Consumer, Producer, TopicPartition

from bench.peers.job import BROKERS, EVENT, INPUTS, OUTCOME, OUTPUTS, PARTITIONS, STATE
from bench.work import TOPICS


def main() -> None:
    consumer = Consumer(
        {
            "bootstrap.servers": BROKERS,
            "group.id": f"{OUTPUTS}bare",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "auto.offset.reset": "earliest",
        }
    )
    consumer.assign(
        [
            TopicPartition(INPUTS + topic, partition, 0)
            for topic in TOPICS
            for partition in range(PARTITIONS)
        ]
    )
    producer = Producer(
        {
            "bootstrap.servers": BROKERS,
            "transactional.id": f"{OUTPUTS}bare",
            "linger.ms": 5,
            "batch.size": 512 << 10,
            "queue.buffering.max.messages": 1_000_000,
        }
    )
    producer.init_transactions()
    while True:
        found = consumer.consume(16_000, 0.1)
        if not found:
            continue
        producer.begin_transaction()
        states: dict[tuple[int, bytes], None] = {}
        for i, message in enumerate(found):
            if message.error() is not None:
                raise RuntimeError(message.error())
            partition, key = message.partition() or 0, message.key() or b""
            producer.produce(OUTPUTS + "outcomes", OUTCOME, key, partition)
            if i % 5:
                producer.produce(OUTPUTS + "attendance-records", EVENT, key, partition)
            states[partition, key] = None
        for partition, key in states:
            producer.produce(OUTPUTS + "person-state", STATE, key, partition)
        producer.send_offsets_to_transaction(
            consumer.position(consumer.assignment()), consumer.consumer_group_metadata()
        )
        producer.commit_transaction()


if __name__ == "__main__":
    main()
