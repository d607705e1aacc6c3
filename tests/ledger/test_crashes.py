"""Whatever is killed, paused or restarted: exactly one outcome for each command, in order."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from typing import Any

import pytest

TOPICS = ("hire-requests", "confirmations", "scan-events", "exit-requests")


def _commands(count: int, seed: int) -> list[tuple[str, bytes, bytes]]:
    chance = random.Random(seed)
    return [
        (
            chance.choice(TOPICS),
            b"p%d" % chance.randrange(40),
            b"staff" if chance.random() < 0.1 else b"x" * 300,
        )
        for _ in range(count)
    ]


async def test_decides_what_waits_and_what_comes(deployment: Any) -> None:
    await deployment.send(_commands(2000, 1))
    deployment.start()
    await deployment.outcomes()
    for seed in range(3):
        await deployment.send(_commands(20, seed))
    await deployment.outcomes()


@pytest.mark.parametrize("seed", [1, 2])
async def test_killed_at_any_time(deployment: Any, seed: int) -> None:
    chance = random.Random(seed)
    await deployment.send(_commands(3000, seed))
    for _ in range(3):
        worker = deployment.start()
        before = deployment.said().count("deciding")
        await deployment.until(
            lambda before=before: deployment.said().count("[info     ] deciding") > before
        )
        await asyncio.sleep(chance.uniform(0, 0.4))
        worker.kill()
        await deployment.send(_commands(200, chance.randrange(1000)))
    deployment.start()
    await deployment.outcomes(60)


async def test_a_paused_worker_wakes_up_fenced(deployment: Any) -> None:
    zombie = deployment.start()
    await deployment.send(_commands(500, 5))
    await deployment.until(lambda: "deciding: 0, 1, 2, 3" in deployment.said())
    zombie.send_signal(signal.SIGSTOP)
    heir = deployment.start()
    await deployment.send(_commands(500, 6))
    await deployment.outcomes(30)
    zombie.send_signal(signal.SIGCONT)
    for seed in range(20):
        await deployment.send(_commands(50, seed))
    await deployment.outcomes(30)
    assert heir.poll() is None
    assert zombie.poll() is None


async def test_handover_between_one_two_and_four_workers(deployment: Any) -> None:
    first = deployment.start()
    await deployment.send(_commands(300, 7))
    await deployment.outcomes()
    others = [deployment.start() for _ in range(3)]
    for seed in range(30):
        await deployment.send(_commands(50, seed))
    await deployment.outcomes()
    await deployment.until(lambda: "deciding: 0" in deployment.said())
    first.send_signal(signal.SIGTERM)
    others[0].kill()
    for seed in range(30):
        await deployment.send(_commands(50, seed))
    await deployment.outcomes(60)
    assert first.wait(5) == 0


async def test_sigterm_ends_within_five_seconds_and_hands_over(deployment: Any) -> None:
    first = deployment.start()
    await deployment.send(_commands(300, 8))
    await deployment.outcomes()
    second = deployment.start()
    await deployment.until(lambda: deployment.said().count("assigned") >= 2)
    asked = time.monotonic()
    first.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(first.wait, 10) == 0
    assert time.monotonic() - asked < 5
    await deployment.send(_commands(300, 9))
    await deployment.outcomes(10)
    assert second.poll() is None
