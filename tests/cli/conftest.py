"""A deployment of its own for each test, on the session's broker, and the commands to run on it."""

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from typer.testing import CliRunner, Result

from cli.context import Deployment, load_deployment
from cli.main import app
from deployment.sealing import make_key_pair
from deployment.topics import apply

Realname = Callable[..., Awaitable[Result]]

KEYS = {"PERSON_SECRET": "0f" * 32, "CODE_KEYS": "1:" + "1f" * 32}


@pytest.fixture
def realname() -> Realname:
    """Runs a command line, in a thread: every command has an event loop of its own."""

    async def run(*arguments: str, given: str | bytes | None = None) -> Result:
        return await asyncio.to_thread(CliRunner().invoke, app, list(arguments), input=given)

    return run


@pytest.fixture
async def deployment(
    broker: str,
    prefix: str,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> Deployment:
    """Topics of two partitions, and the environment that names them; no database."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.chdir(home)
    sealing_key = make_key_pair().public.hex()
    values = {"BROKERS": broker, "TOPIC_PREFIX": prefix, "PARTITIONS": "2", "HOME": str(home)}
    for name, value in {**KEYS, **values, "SEALING_KEY": sealing_key}.items():
        monkeypatch.setenv(f"REALNAME_{name}", value)
    made = load_deployment()
    await apply(broker, made.catalog, 1)
    return made


@pytest.fixture
def worker(deployment: Deployment, unused_tcp_port: int, tmp_path: Path) -> Iterator[None]:
    """`realname worker`, deciding while the test runs."""
    log = tmp_path / "worker.log"
    arguments = ["-m", "cli.main", "worker", "--metrics-port", str(unused_tcp_port)]
    with log.open("wb") as file:
        process = subprocess.Popen([sys.executable, *arguments], stderr=file)
    while log.read_text().count('"deciding"') < deployment.catalog.partitions:
        assert process.poll() is None, log.read_text()
        time.sleep(0.1)
    yield
    process.terminate()
    assert process.wait() == 0


Write = Callable[..., Awaitable[None]]


@pytest.fixture
async def write(deployment: Deployment) -> AsyncIterator[Write]:
    """Puts any bytes anywhere, as a broken client would."""
    producer = AIOKafkaProducer(bootstrap_servers=deployment.brokers)
    await producer.start()

    async def send(topic: str, value: bytes | None, key: bytes | None, partition: int) -> None:
        wire = deployment.catalog.topics[topic].wire
        await producer.send_and_wait(wire, value=value, key=key, partition=partition)

    yield send
    await producer.stop()
