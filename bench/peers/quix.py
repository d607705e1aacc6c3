"""Quix Streams, exactly once: one dataframe over the topics of a person, state in RocksDB."""

from __future__ import annotations

import os
from typing import Any

from quixstreams import Application, State, message_context
from quixstreams.models import SerializationContext, Serializer

from bench.peers.job import BROKERS, INPUTS, OUTPUTS, SEEDS, Job, read_references
from bench.work import TOPICS


class _Value(Serializer):  # type: ignore[misc]
    """Of a row (topic, value), the value."""

    def __call__(self, value: tuple[str, bytes], ctx: SerializationContext) -> bytes:
        return value[1]


def main() -> None:
    app = Application(
        broker_address=BROKERS,
        consumer_group=f"{OUTPUTS}quix",
        processing_guarantee="exactly-once",
        auto_offset_reset="earliest",
        commit_interval=0.1,
        state_dir=os.path.join(os.environ["BENCH_HOME"], "state"),
        loglevel="WARNING",
        producer_extra_config={"linger.ms": 5, "batch.size": 512 << 10,
                               "queue.buffering.max.messages": 1_000_000},
    )  # fmt: skip
    raw: Any = {"key_deserializer": "bytes", "value_deserializer": "bytes"}
    first, *rest = [
        app.dataframe(app.topic(topic, **raw))
        for topic in (SEEDS, *(INPUTS + topic for topic in TOPICS))
    ]
    frame = first
    for other in rest:
        frame = frame.concat(other)
    outputs = {
        OUTPUTS + topic: app.topic(
            OUTPUTS + topic, key_serializer="bytes", value_serializer=_Value()
        )
        for topic in ("outcomes", "presence-changes", "attendance-records", "assignment-changes")
    }
    job = Job(read_references())

    def decide(
        value: bytes, key: bytes, timestamp: int, headers: object, state: State
    ) -> list[tuple[str, bytes]]:
        at = message_context()
        made, after = job.decide(
            at.topic, at.partition, at.offset, timestamp, key, value, state.get_bytes("person")
        )
        if after is not None:
            state.set_bytes("person", after)
        return made

    frame = frame.apply(decide, stateful=True, metadata=True, expand=True)
    frame.to_topic(lambda row, *_: outputs[row[0]])
    app.run()


if __name__ == "__main__":
    main()
