"""`watch`: outcomes, state changes and dead letters as they become visible."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

import orjson
from rich.text import Text

from cli.console import err, out
from cli.context import Deployment
from cli.kafka import Record, places_of, reading, starts, until
from cli.reference import Known, read_references
from cli.showing import event_line, letter_line, outcome_line
from schemas.limits import CLI_POLL_MS, CLI_SORTED_MAX, SECOND_MS
from schemas.outcomes import DEAD_LETTERS_TOPIC, OUTCOMES_TOPIC


async def watch(
    deployment: Deployment,
    *,
    person: str | None,
    rejected: bool,
    since_ms: int | None,
    as_json: bool,
) -> None:
    """Print until interrupted. `since_ms`: begin that long before now, else with what comes next.

    `person` leaves out others, and dead letters whose key is another; `rejected` leaves out all
    but rejections and dead letters.
    """
    catalog = deployment.catalog
    outcomes = catalog.topics[OUTCOMES_TOPIC]
    topics = [outcomes, catalog.topics[DEAD_LETTERS_TOPIC]] if rejected else catalog.outputs
    known = await read_references(deployment, ["employers", "sites"])

    def show(records: Iterable[Record]) -> None:
        # One order for all topics as far as they came together, events before their outcome.
        by_time = sorted(records, key=lambda one: (one.timestamp, one.topic == outcomes.wire))
        for record in by_time:
            if as_json:
                out.file.write((record.value or b"null").decode() + "\n")
            else:
                line = _line(catalog.by_wire[record.topic].name, record, known)
                out.print(line, soft_wrap=True)
        out.file.flush()

    def wanted(record: Record) -> bool:
        return _wanted(catalog.by_wire[record.topic].name, record, person, rejected=rejected)

    async with reading(deployment) as consumer:
        places = await places_of(deployment, topics)
        consumer.assign(places)
        ends = await consumer.end_offsets(places)
        if since_ms is not None:
            at_ms = int(time.time() * SECOND_MS) - since_ms
            for place, offset in (await starts(consumer, places, at_ms, ends)).items():
                consumer.seek(place, offset)
            past: list[Record] = []
            async for record in until(consumer, ends):
                if wanted(record):
                    past.append(record)
                if len(past) >= CLI_SORTED_MAX:
                    show(past)
                    past.clear()
            show(past)
        for place, offset in ends.items():
            consumer.seek(place, offset)
        if err.is_terminal:
            err.print("Watching; Ctrl-C ends it.")
        while True:
            fetched = await consumer.getmany(timeout_ms=CLI_POLL_MS)
            show(record for some in fetched.values() for record in some if wanted(record))


def _wanted(name: str, record: Record, person: str | None, *, rejected: bool) -> bool:
    if person is not None and (record.key or b"") != person.encode():
        return False
    return not (rejected and name == OUTCOMES_TOPIC) or _body(record)["data"]["status"] == (
        "rejected"
    )


def _line(name: str, record: Record, known: Known) -> Text:
    body = _body(record)
    if name == DEAD_LETTERS_TOPIC:
        return letter_line(record.timestamp, body)
    if name == OUTCOMES_TOPIC:
        return outcome_line(record.timestamp, body["subject"], body["data"])
    return event_line(record.timestamp, body["subject"], body["type"], body["data"], known)


def _body(record: Record) -> dict[str, Any]:
    body: dict[str, Any] = orjson.loads(record.value or b"{}")
    return body
