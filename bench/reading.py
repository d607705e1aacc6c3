"""Notes when each outcome could be read (`python -m bench.reading BROKERS TOPIC PARTITIONS FILE`).

A process of its own that reads committed records from the topic's end on, and says `ready` when it
does. On SIGTERM it writes what it noted: a pickle of [(command id, monotonic seconds)], without the
answers to duplicates.
"""

from __future__ import annotations

import gc
import pickle
import signal
import sys
import time
from pathlib import Path

from confluent_kafka import Consumer, TopicPartition

_COMMAND = b'"command":"'


def main() -> None:
    brokers, topic, partitions, file = sys.argv[1:]
    consumer = Consumer(
        {
            "bootstrap.servers": brokers,
            "group.id": "bench-reading",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "fetch.min.bytes": 1,
            "fetch.wait.max.ms": 500,
        }
    )
    places = []
    for partition in range(int(partitions)):
        place = TopicPartition(topic, partition)
        _, place.offset = consumer.get_watermark_offsets(place, timeout=10)
        places.append(place)
    consumer.assign(places)
    stop = False

    def end(*_: object) -> None:
        nonlocal stop
        stop = True

    signal.signal(signal.SIGTERM, end)
    print("ready", flush=True)
    noted: list[tuple[bytes, float]] = []
    gc.freeze()
    gc.disable()
    while not stop:
        message = consumer.poll(0.1)
        if message is None or message.error() is not None:
            continue
        now = time.monotonic()
        value = message.value() or b""
        if b'"status":"duplicate"' in value:
            continue
        at = value.index(_COMMAND) + len(_COMMAND)
        noted.append((value[at : value.index(b'"', at)], now))
    Path(file).write_bytes(pickle.dumps(noted))


if __name__ == "__main__":
    main()
