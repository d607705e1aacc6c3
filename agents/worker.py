"""The worker process: settings in, decisions on, until it is told to stop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from agents.app import RealnameApp
from agents.deciding import Decider
from agents.ledger.kafka import KafkaLog
from agents.references import References
from deployment import metrics, topics
from deployment.catalog import load_catalog
from deployment.logs import configure_logs
from deployment.process import run_until_told
from deployment.settings import Settings, load_settings
from schemas import limits
from schemas.outcomes import RULES_VERSION
from schemas.references import parse_reference

log: Final = structlog.get_logger("worker")


async def run_worker(
    settings: Settings,
    stop: asyncio.Event,
    brokers: str | None = None,
    started: Callable[[int], None] = lambda port: None,
) -> None:
    """Decide commands until `stop` is set; then end the turns in hand and leave the group.

    `brokers` overrules the setting (the embedded broker's address). `started` is told the port of
    `/metrics` and `/health`. Waits for brokers that do not answer. Raises
    `deployment.topics.TopicsUnfit` for topics that cannot be relied on, `SettingsError` for
    settings that are missing, and what ended the ledger, if something did.
    """
    brokers = brokers or settings.brokers
    settings.require(*(["code_keys"] if brokers else ["brokers", "code_keys"]))
    assert brokers is not None
    assert settings.code_keys is not None
    catalog = load_catalog(settings.topic_prefix, partitions=settings.partitions)
    options = settings.kafka_options()
    while not stop.is_set():
        try:
            await topics.verify(brokers, catalog, options=options)
            break
        except topics.BrokersUnavailable as error:
            log.warning("no broker answers: waiting", brokers=brokers, error=str(error))
            await asyncio.sleep(limits.BROKER_RETRY_MS_MAX / 1000)
    source = KafkaLog(
        brokers,
        catalog,
        options,
        session_timeout_ms=settings.session_timeout_ms,
        transaction_timeout_ms=settings.transaction_timeout_ms,
    )
    wire = {name: topic.wire for name, topic in catalog.topics.items()}
    decider = Decider(wire, catalog.partitions, settings.code_keys)
    references = References(source.layout.references, parse_reference)
    app = RealnameApp(source, references, str(RULES_VERSION), decider.decide)
    ledger = app.ledger.ledger
    async with metrics.serving(
        settings.metrics_host, settings.port_of("worker"), ledger.health
    ) as port:
        log.info("worker starts", brokers=brokers, group=catalog.group, metrics_port=port)
        started(port)
        await app.start()
        try:
            waits = [asyncio.create_task(event.wait()) for event in (stop, ledger.failed)]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for wait in waits:
                wait.cancel()
        finally:
            await app.stop()
    if ledger.failure is not None:
        raise ledger.failure
    log.info("worker ended")


def main(brokers: str | None = None) -> None:
    """Run a worker with the settings of the environment until SIGTERM or SIGINT."""
    settings = load_settings()
    configure_logs(settings.log_format, settings.log_level)
    run_until_told(lambda stop: run_worker(settings, stop, brokers))


if __name__ == "__main__":
    main()
