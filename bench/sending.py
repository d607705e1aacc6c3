"""Sends a stream on time (`python -m bench.sending FILE`): a process of its own, an open loop.

What is due is sent, whatever is answered or not. The file is a pickle of (brokers, when the first
is due by the monotonic clock, [(seconds after that, topic, partition, key, value)]). When all is
acknowledged it prints how late it was at worst, in seconds.
"""

from __future__ import annotations

import gc
import pickle
import sys
import time
from pathlib import Path
from typing import Any

from confluent_kafka import Producer


def main() -> None:
    brokers, start, messages = pickle.loads(Path(sys.argv[1]).read_bytes())
    producer = Producer(
        {
            "bootstrap.servers": brokers,
            "enable.idempotence": True,
            "linger.ms": 0,
            "queue.buffering.max.messages": 1_000_000,
        }
    )
    refused: list[Any] = []

    def delivered(error: Any, message: Any) -> None:
        if error is not None:
            refused.append(error)

    # Connections are made before the first is due.
    producer.list_topics(timeout=10)
    gc.freeze()
    gc.disable()
    worst = 0.0
    for due, topic, partition, key, value in messages:
        left = start + due - time.monotonic()
        if left > 0.0005:
            producer.poll(0)
            left = start + due - time.monotonic()
            if left > 0:
                time.sleep(left)
        else:
            worst = max(worst, -left)
        producer.produce(topic, value, key, partition, on_delivery=delivered)
        producer.poll(0)
    producer.flush()
    if refused:
        raise SystemExit(f"{len(refused)} not acknowledged: {refused[0]}")
    print(worst)


if __name__ == "__main__":
    main()
