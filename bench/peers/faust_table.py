"""Faust as its documentation shows it: an agent over the topics, a table, at least once."""

from __future__ import annotations

import os
import sys
from typing import Any

import faust

from bench.peers.job import BROKERS, INPUTS, OUTPUTS, PARTITIONS, Job, read_references
from bench.stage import EVENT_TOPICS
from bench.work import TOPICS

APP = f"{OUTPUTS}faust"

app = faust.App(
    APP,
    broker=f"kafka://{BROKERS}",
    store="memory://",
    datadir=os.path.join(os.environ["BENCH_HOME"], "state"),
    topic_partitions=PARTITIONS,
    topic_replication_factor=1,
    consumer_auto_offset_reset="earliest",
    autodiscover=False,
    web_enabled=False,
    stream_wait_empty=False,
    broker_max_poll_records=2_000,
)
commands = app.topic(
    *(INPUTS + topic for topic in TOPICS), key_type=bytes, value_type=bytes,
    key_serializer="raw", value_serializer="raw",
)  # fmt: skip
persons: Any = app.Table("persons", partitions=PARTITIONS, key_type=bytes, value_type=bytes)
outputs = {
    OUTPUTS + topic: app.topic(
        OUTPUTS + topic, key_type=bytes, value_type=bytes, key_serializer="raw",
        value_serializer="raw", partitions=PARTITIONS,
    )
    for topic in ("outcomes", *EVENT_TOPICS)
}  # fmt: skip


@app.agent(commands)
async def deciding(stream: Any) -> None:
    job = Job(read_references())
    async for event in stream.events():
        message = event.message
        key = message.key
        made, state = job.decide(
            message.topic,
            message.partition,
            message.offset,
            int(message.timestamp * 1000),
            key,
            message.value,
            persons.get(key),
        )
        if state is not None:
            persons[key] = state
        for topic, value in made:
            await outputs[topic].send(key=key, value=value, partition=message.partition)


if __name__ == "__main__":
    sys.argv[1:] = ["worker", "-l", "warn", "--without-web"]
    app.main()
