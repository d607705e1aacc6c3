"""Metric names, and the page that serves them."""

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from deployment import metrics


async def get(port: int, path: str) -> tuple[int, str]:
    url = f"http://127.0.0.1:{port}{path}"
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return answer.status, await answer.text()


async def test_the_page_has_every_metric():
    metrics.LEDGER_OUTCOMES.labels(status="rejected", code="under_age").inc(0)
    async with metrics.serving("127.0.0.1", 0, lambda: (True, "well")) as port:
        status, text = await get(port, "/metrics")
    assert status == 200
    served = {family.name: family for family in text_string_to_metric_families(text)}
    ours = [name for name in served if name.startswith("realname_")]
    assert len(ours) == len(
        [name for name in vars(metrics) if name.startswith(("LEDGER_", "PROJ"))]
    )
    assert all(name.startswith(("realname_ledger_", "realname_projector_")) for name in ours)
    assert all(served[name].documentation.endswith(".") for name in ours)
    assert "process_resident_memory_bytes" in served


async def test_health_says_why_not():
    state = (True, "16 partitions")
    async with metrics.serving("127.0.0.1", 0, lambda: state) as port:
        assert await get(port, "/health") == (200, "16 partitions\n")
        state = (False, "partition 3 stopped: 进度在日志之外")
        assert await get(port, "/health") == (503, "partition 3 stopped: 进度在日志之外\n")
    with pytest.raises(aiohttp.ClientConnectionError):
        await get(port, "/health")


async def test_a_taken_port_is_an_error():
    async with metrics.serving("127.0.0.1", 0, lambda: (True, "")) as port:
        with pytest.raises(OSError, match="address already in use"):
            async with metrics.serving("127.0.0.1", port, lambda: (True, "")):
                pass
