"""`reference`: employers and sites into their topics, and what is in force and what is unreadable.

Validated before anything is sent: an unreadable record would be ignored by the workers, and the
last good one of its key would stay in force unseen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Final, Literal, cast

import orjson
from rich.progress import track
from rich.text import Text

from cli.console import FAINT, GOOD, ODD, done, err, line, plain, remark, show, table, working
from cli.context import Deployment
from cli.errors import WRONG, Trouble, some
from cli.input import documents
from cli.kafka import places_of, reading, whole
from cli.producing import acknowledged, producing
from schemas.references import (
    REFERENCES,
    Employer,
    Reference,
    Site,
    Staff,
    parse_reference,
    write_reference,
)

Put = Literal["employers", "sites"]


@dataclass(frozen=True)
class Bad:
    """A reference record that no worker can read; the last good one of its key stays in force."""

    topic: str
    offset: int
    key: str
    reason: str


@dataclass
class Known:
    """The reference topics as every worker has them."""

    employers: dict[str, Employer] = field(default_factory=dict)
    sites: dict[str, Site] = field(default_factory=dict)
    staff: dict[str, Staff] = field(default_factory=dict)
    bad: list[Bad] = field(default_factory=list)

    def named(self, topic: str, key: str) -> str:
        """The name of an employer or a site, else its key."""
        record = getattr(self, topic).get(key)
        return plain(getattr(record, "name", key))


async def read_references(
    deployment: Deployment, topics: Sequence[str] = ("employers", "sites", "staff")
) -> Known:
    """Fold the reference topics up to their present ends."""
    known = Known()
    by_wire = {deployment.catalog.topics[name].wire: name for name in topics}
    places = await places_of(deployment, [deployment.catalog.topics[name] for name in topics])
    async with reading(deployment) as consumer:
        async for record in whole(consumer, places):
            name = by_wire[record.topic]
            view: dict[str, Any] = getattr(known, name)
            try:
                if record.key is None:
                    raise ValueError("no key")
                key = record.key.decode()
                if record.value is None:
                    view.pop(key, None)
                else:
                    view[key] = parse_reference(name, record.key, record.value)
            except ValueError as error:
                shown = (record.key or b"").decode(errors="replace")
                known.bad.append(Bad(name, record.offset, shown, str(error)))
    return known


async def put(deployment: Deployment, topic: Put, text: bytes, *, origin: str) -> None:
    """Write records, all or none when one is not readable. `origin` names the input in errors.

    Raises Trouble that names every line that is wrong.
    """
    records: dict[bytes, bytes] = {}
    problems = []
    key_field = REFERENCES[topic][1]
    for number, document in documents(text, origin):
        value = orjson.dumps(document)
        key = document.get(key_field) if isinstance(document, dict) else None
        if not isinstance(key, str) or not key:
            problems.append(f"{origin}:{number}: there is no {key_field}")
            continue
        try:
            record = parse_reference(topic, key.encode(), value)
        except ValueError as error:
            problems.append(f"{origin}:{number}: {error}")
            continue
        for words in _oddities(record, cast(dict[str, Any], document)):
            remark(f"{origin}:{number}: {words}")
        if key.encode() in records:
            remark(f"{origin}:{number}: {plain(key)} stands here twice; the later one counts")
        records[key.encode()] = value
    if problems:
        raise Trouble(
            f"nothing was sent; these records are not readable:\n{some(problems)}",
            "mend them; docs/cli.md has an example of each kind",
            WRONG,
        )
    await _write(deployment, topic, records)
    done(f"{len(records)} {topic} written")


async def remove(deployment: Deployment, topic: Put, keys: Sequence[str]) -> None:
    """Remove records by key; unknown keys are told of and removed all the same."""
    there = getattr(await read_references(deployment, [topic]), topic)
    for key in keys:
        if key not in there:
            remark(f"{plain(key)} is not in {topic}")
    await _write(deployment, topic, {key.encode(): None for key in keys})
    done(f"{len(keys)} {topic} removed")


async def _write(deployment: Deployment, topic: Put, records: Mapping[bytes, bytes | None]) -> None:
    wire = deployment.catalog.topics[topic].wire
    async with producing(deployment) as producer:
        sent = [
            await producer.send(wire, value=value, key=key, partition=0)
            for key, value in track(
                records.items(), "Writing", console=err, transient=True, disable=not err.is_terminal
            )
        ]
        for one in sent:
            await acknowledged(one)


def _oddities(record: Reference, document: Mapping[str, Any]) -> list[str]:
    """What is readable and yet hardly meant."""
    words = []
    unread = sorted(set(document) - {one.name for one in fields(record)})
    if unread:
        words.append(f"not read: {', '.join(map(plain, unread))}")
    if isinstance(record, Site):
        contractors = [one for one in record.participants if one.type == "general_contractor"]
        if len(contractors) != 1:
            words.append(f"a site has one general_contractor, this one has {len(contractors)}")
    return words


async def list_(deployment: Deployment, topic: str | None, *, bad: bool, as_json: bool) -> None:
    """Print what is in force, or with `bad` the records that cannot be read."""
    topics = list(REFERENCES) if topic is None else [topic]
    with working("Reading the reference topics …"):
        known = await read_references(deployment, topics)
    if bad:
        _list_bad(known.bad, as_json=as_json)
        return
    for name in topics:
        records = getattr(known, name).values()
        if as_json:
            for record in records:
                line(write_reference(record).decode())
            continue
        columns, row = _ROWS[name]
        title = f"{name} ({len(records)})"
        show(table(*columns, title=title), (row(record) for record in records))
    if known.bad:
        remark(
            f"{len(known.bad)} records cannot be read and are not in force; "
            "`realname reference list --bad` shows them"
        )


def _list_bad(bad: Sequence[Bad], *, as_json: bool) -> None:
    if as_json:
        for one in bad:
            line(orjson.dumps(one.__dict__).decode())
    elif not bad:
        done("every reference record can be read")
    else:
        show(
            table("topic", "offset", "key", "why it cannot be read"),
            ((one.topic, str(one.offset), plain(one.key), plain(one.reason)) for one in bad),
        )
        remark("the last good record of each key is in force; `realname reference put` mends it")


Row = Sequence[str | Text]


def _status(status: str) -> Text:
    return Text(status, GOOD if status == "active" else ODD)


def _employer_row(record: Employer) -> Row:
    return [record.uscc, plain(record.name), _status(record.status)]


def _site_row(record: Site) -> Row:
    participants = Text("\n").join(
        Text.assemble(
            f"{one.type} {one.employer} ", (one.project_manager or "no project manager", FAINT)
        )
        for one in record.participants
    )
    return [plain(record.site), plain(record.name), _status(record.status), participants]


def _staff_row(record: Staff) -> Row:
    flags = [
        word for word, on in (("operator", record.operator), ("present", record.present)) if on
    ]
    return [
        record.person,
        record.employer,
        plain(record.position),
        plain(record.site or "-"),
        ", ".join(flags),
    ]


_ROWS: Final[dict[str, tuple[tuple[str, ...], Callable[[Any], Row]]]] = {
    "employers": (("uscc", "name", "status"), _employer_row),
    "sites": (("site", "name", "status", "participants"), _site_row),
    "staff": (("person", "employer", "position", "site", ""), _staff_row),
}
