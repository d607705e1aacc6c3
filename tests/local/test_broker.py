"""The embedded broker: found again, stopped, killed, and its records kept."""

import os
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import UnknownTopicOrPartitionError

from local.broker import DURABILITY, SMALL, Broker, BrokerError, Cluster

TOPIC = "kept"
HEAP_MB = 256


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker that a test may end. Its cluster's id begins with a dash, as one in 64 does."""
    broker = Broker(tmp_path_factory.mktemp("broker"), heap_mb=HEAP_MB)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(uuid, "uuid4", lambda: uuid.UUID("f8" * 16))
        broker.start()
    yield broker
    broker.kill()


async def create(bootstrap: str, topic: str, replication: int) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        response = await admin.create_topics([NewTopic(topic, 1, replication)])
        assert [error for _, error, *_ in response.topic_errors] == [0]
    finally:
        await admin.close()


async def send(bootstrap: str, topic: str, value: bytes) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all")
    await producer.start()
    try:
        await producer.send_and_wait(topic, value)
    finally:
        await producer.stop()


async def read(bootstrap: str, topic: str, count: int) -> list[bytes]:
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    try:
        return [(await consumer.getone()).value for _ in range(count)]
    finally:
        await consumer.stop()


async def test_records_survive_stop_and_kill_at_the_same_address(own: Broker) -> None:
    address = own.bootstrap
    await create(address, TOPIC, 1)
    await send(address, TOPIC, b"before the stop")
    own.stop()
    assert own.pid is None

    assert own.start() == address
    await send(address, TOPIC, b"before the kill")
    assert own.pid is not None
    os.kill(own.pid, signal.SIGKILL)
    own.stop()
    assert own.pid is None

    assert own.start() == address
    assert await read(address, TOPIC, 2) == [b"before the stop", b"before the kill"]


def test_the_same_home_attaches_to_the_running_broker(own: Broker) -> None:
    again = Broker(own.log.parent.parent)
    assert (again.start(), again.pid) == (own.start(), own.pid)


async def test_the_broker_knows_every_setting_and_has_it(own: Broker) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=own.bootstrap)
    await admin.start()
    try:
        resource = ConfigResource(ConfigResourceType.BROKER, "1")
        [response] = await admin.describe_configs([resource])
        [(_, _, _, _, entries)] = response.resources
    finally:
        await admin.close()
    in_force = {name: value for name, value, *_ in entries}
    wanted = DURABILITY | SMALL
    assert {name: in_force.get(name) for name in wanted} == wanted


async def test_a_topic_is_not_made_by_naming_it(own: Broker) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=own.bootstrap)
    await admin.start()
    try:
        [topic] = await admin.describe_topics(["a-slip-of-the-pen"])
        assert topic["error_code"] == UnknownTopicOrPartitionError.errno
    finally:
        await admin.close()


def test_another_programs_pid_is_not_the_broker(tmp_path: Path) -> None:
    home = tmp_path / "broker"
    home.mkdir()
    (home / "broker.pid").write_text(f"{os.getpid()}\n", "ascii")
    broker = Broker(tmp_path)
    assert broker.pid is None
    broker.kill()


def test_a_broker_that_cannot_start_says_why(tmp_path: Path, own: Broker) -> None:
    home = tmp_path / "broker"
    home.mkdir()
    (home / "ports.json").write_bytes((own.log.parent / "ports.json").read_bytes())
    with pytest.raises(BrokerError, match=r"(?s)ended while starting.*Address already in use"):
        Broker(tmp_path, heap_mb=HEAP_MB).start()


async def test_a_cluster_keeps_what_it_acknowledged_when_a_node_is_killed(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, heap_mb=HEAP_MB)
    try:
        bootstrap = cluster.start()
        await create(bootstrap, TOPIC, 3)
        await send(bootstrap, TOPIC, b"on three")
        cluster.nodes[0].kill()
        assert cluster.nodes[0].pid is None
        await send(bootstrap, TOPIC, b"on two")
        assert await read(bootstrap, TOPIC, 2) == [b"on three", b"on two"]
    finally:
        for node in cluster.nodes:
            node.kill()
