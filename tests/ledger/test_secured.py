"""The ledger's connections with TLS and a password: the way in is aiokafka's, the transport ours.

The certificate in `tls/` is for 127.0.0.1 and signed by its own key; both are for this alone.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agents.ledger.kafka import KafkaLog
from agents.ledger.log import Entry
from deployment import topics
from deployment.catalog import load_catalog
from local import ports
from local.broker import Broker
from tests.ledger.reading_back import committed
from tests.ledger.writing import write

TLS = Path(__file__).with_name("tls")
OUTCOMES = ("outcomes", 0)


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Broker, str]]:
    """A broker, and its address for those with the password."""
    home = tmp_path_factory.mktemp("secured")
    store = home / "store.pem"
    store.write_text("".join((TLS / one).read_text() for one in ("key.pem", "certificate.pem")))
    port = ports.remembered(home / "secure.json", ["secure"])["secure"]
    login = 'org.apache.kafka.common.security.plain.PlainLoginModule required user_realname="word";'
    broker = Broker(
        home,
        heap_mb=320,
        listeners={"SECURE": (port, port)},
        more={
            "listener.security.protocol.map": (
                "BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT,SECURE:SASL_SSL"
            ),
            "sasl.enabled.mechanisms": "PLAIN",
            "listener.name.secure.plain.sasl.jaas.config": login,
            "listener.name.secure.ssl.keystore.type": "PEM",
            "listener.name.secure.ssl.keystore.location": str(store),
        },
    )
    with broker:
        yield broker, f"127.0.0.1:{port}"


def options(password: str) -> dict[str, Any]:
    """What `REALNAME_KAFKA_*` settings would give."""
    return {
        "security_protocol": "SASL_SSL",
        "ssl_context": ssl.create_default_context(cafile=str(TLS / "certificate.pem")),
        "sasl_mechanism": "PLAIN",
        "sasl_plain_username": "realname",
        "sasl_plain_password": password,
    }


async def test_a_turn_is_written_and_read_over_tls_with_a_password(
    secured: tuple[Broker, str],
) -> None:
    broker, address = secured
    catalog = load_catalog(partitions=1)
    await topics.apply(broker.bootstrap, catalog, 1)
    log = KafkaLog(address, catalog, options("word"))
    writer, ends = log.writer(0), log.end_offsets()
    try:
        await writer.start()
        # Larger than what TLS sends at once.
        values = [b"%d" % number + b"x" * 50_000 for number in range(30)]
        await write(writer, {OUTCOMES: [Entry(b"k", value) for value in values]})
        assert await ends.high_watermarks([OUTCOMES]) == {OUTCOMES: len(values) + 1}
        assert await committed(log, OUTCOMES, 20) == values
    finally:
        await writer.close()
        await ends.close()


async def test_with_a_wrong_password_nothing_is_written(secured: tuple[Broker, str]) -> None:
    _, address = secured
    writer = KafkaLog(address, load_catalog(partitions=1), options("wrong")).writer(0)
    try:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(2):
                await writer.start()
    finally:
        await writer.close()
