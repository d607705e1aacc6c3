"""From what a person types to a whole command, judged as a worker would judge it.

A full envelope (it says `specversion`) passes through unchanged. A shorthand object has

    type            the command's
    subject         a person id, or instead
    id_number       the person's ID number, which becomes the person id and goes no further
    name            becomes data.name_tag
    details         sealed into data.sealed (identity.upload; else the name and the ID number)
    by              the person id of the staff who acts
    source, id, time, data    as in the envelope; completed where they are missing

Nothing is guessed that can be meant in two ways: then the error says what to add.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from difflib import get_close_matches
from typing import Any, Final, NamedTuple
from uuid import uuid4

import orjson

from cli.context import Deployment
from cli.errors import Trouble
from cli.people import id_of, tag_of
from deployment.catalog import Catalog
from deployment.sealing import seal
from schemas.commands import COMMANDS
from schemas.identifiers import birth_date_of, partition_for, sex_of
from schemas.reading import Command, Refusal, read_command
from schemas.reasons import REASONS

SHORTHAND: Final = (
    "type", "subject", "id_number", "name", "details", "by", "source", "id", "time", "data",
)  # fmt: skip

BY_PERSON: Final = frozenset(
    {
        "identity.upload",
        "hire.confirm",
        "hire.refuse",
        "departure.request",
        "departure.withdraw",
        "dismissal.agree",
        "dismissal.refuse",
        "scan.checkin",
    }
)
BY_EMPLOYER: Final = frozenset(
    {
        "hire.offer",
        "hire.withdraw",
        "hire.complete",
        "dismissal.request",
        "dismissal.withdraw",
        "departure.approve",
        "departure.refuse",
    }
)
BY_HIMSELF: Final = frozenset({"entry.self", "exit.self"})
"""By a project manager, as staff of the site, about himself."""


class Outgoing(NamedTuple):
    """A command that a worker can read, where it belongs."""

    topic: str
    """Logical name."""
    partition: int
    key: bytes
    value: bytes
    command: Command


class Unfit(Exception):
    """The line is no command; the words show nothing of a person."""


def complete(deployment: Deployment, document: object, now: datetime) -> Outgoing:
    """The record to send for a full envelope or a shorthand object.

    `now` stands in for a missing `time`. Raises Unfit, and SettingsError when a secret is needed
    and not set.
    """
    if not isinstance(document, dict):
        raise Unfit("not a JSON object")
    envelope = document if "specversion" in document else _envelope(deployment, document, now)
    return placed(deployment.catalog, envelope, orjson.dumps(envelope))


def placed(catalog: Catalog, envelope: Mapping[str, Any], value: bytes) -> Outgoing:
    """A record's value at the place where the type and the subject of its envelope put it.

    Raises Unfit when a worker could not read it there.
    """
    command_type, subject = envelope.get("type"), envelope.get("subject")
    known = COMMANDS.get(command_type) if isinstance(command_type, str) else None
    # A stand-in where the place is unknown: the reading answers with what is wrong.
    topic = known[0] if known else next(iter(COMMANDS.values()))[0]
    key = subject.encode() if isinstance(subject, str) else b""
    partition = partition_for(key, catalog.partitions)
    read = read_command(topic, partition, catalog.partitions, key, value)
    if isinstance(read, Refusal):
        raise Unfit(f"{read.code}: {read.detail} ({REASONS[read.code].zh})")
    return Outgoing(topic, partition, key, value, read)


def _envelope(deployment: Deployment, short: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    unknown = sorted(set(short) - set(SHORTHAND))
    if unknown:
        raise Unfit(f"unknown fields {', '.join(unknown)}; known are {', '.join(SHORTHAND)}")
    for name in ("type", "subject", "id_number", "name", "by", "source", "id", "time"):
        if not isinstance(short.get(name, ""), str):
            raise Unfit(f"{name} must be a text")
    command_type = short.get("type")
    if command_type not in COMMANDS:
        near = get_close_matches(str(command_type), COMMANDS, n=1)
        hint = f"; did you mean {near[0]}?" if near else f", which are {', '.join(COMMANDS)}"
        raise Unfit(f"the type is none of the commands{hint}")
    data = short.get("data", {})
    if not isinstance(data, dict):
        raise Unfit("data must be an object")
    try:
        subject = _subject(deployment, short)
        data = {**_from_person(deployment, command_type, short), **data}
    except Trouble as error:
        raise Unfit(str(error)) from None
    return {
        "specversion": "1.0",
        "id": short.get("id") or str(uuid4()),
        "source": short.get("source") or _source(command_type, subject, short, data),
        "type": command_type,
        "time": short.get("time") or now.isoformat(timespec="milliseconds"),
        "subject": subject,
        "data": data,
    }


def _subject(deployment: Deployment, short: Mapping[str, Any]) -> str:
    if ("subject" in short) == ("id_number" in short):
        raise Unfit("say who: one of subject (a person id) and id_number")
    if "subject" in short:
        return str(short["subject"])
    return id_of(deployment.person_secret, short["id_number"])


def _from_person(
    deployment: Deployment, command_type: str, short: Mapping[str, Any]
) -> dict[str, Any]:
    """What `name`, `id_number` and `details` say, in the form that may travel."""
    data: dict[str, Any] = {}
    upload = command_type == "identity.upload"
    if "name" in short:
        if not (upload or command_type == "hire.offer"):
            raise Unfit(f"{command_type} has no use for a name")
        data["name_tag"] = tag_of(deployment.person_secret, short["name"])
    if not upload:
        if "details" in short:
            raise Unfit(f"{command_type} has no use for details")
        return data
    if "id_number" in short:
        data["birth_date"] = birth_date_of(short["id_number"]).isoformat()
        data["sex"] = sex_of(short["id_number"])
    details = short.get("details") or {
        name: short[name] for name in ("name", "id_number") if name in short
    }
    if not isinstance(details, dict):
        raise Unfit("details must be an object")
    if details:
        deployment.settings.require("sealing_key")
        assert deployment.settings.sealing_key is not None
        data["sealed"] = seal(deployment.settings.sealing_key, details)
    return data


def _source(
    command_type: str, subject: str, short: Mapping[str, Any], data: Mapping[str, Any]
) -> str:
    """Who acts, where the type leaves no choice."""
    if command_type == "identity.verify":
        return "/centre"
    if command_type in BY_PERSON:
        return f"/persons/{subject}"
    if command_type in BY_EMPLOYER:
        return f"/employers/{data.get('employer')}"
    staff = subject if command_type in BY_HIMSELF else short.get("by")
    if staff:
        return f"/sites/{data.get('site')}/staff/{staff}"
    raise Unfit(
        f"{command_type} may be sent by several: say who, with by (the person id of the site's "
        "staff) or source (such as /employers/{uscc} or /devices/{device})"
    )
