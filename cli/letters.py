"""`dead-letters`: what could not be a command, and sending again what now can.

A letter holds the whole record unless that was too large, which no command can be. A replay puts
the very bytes on the topic and the partition where their type and their subject belong; a worker
that has had the command before answers `duplicate`.
"""

from __future__ import annotations

import time
from base64 import b64decode
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from hashlib import sha256
from typing import Any, Final, NamedTuple

import orjson
from rich.text import Text

from cli.answers import Origin
from cli.completing import Outgoing, Unfit, placed
from cli.console import BAD, FAINT, GOOD, done, line, out, plain, remark, show, table, working
from cli.context import Deployment
from cli.errors import FAILED, WRONG, Trouble
from cli.kafka import places_of, reading, whole
from cli.sending import send
from cli.showing import moment, reason_of
from schemas.limits import CLI_LINES_MAX, CLI_LISTED_MAX, PAST_MS_MAX, SECOND_MS
from schemas.outcomes import DEAD_LETTERS_TOPIC
from schemas.reasons import DEAD_LETTER_CODES

_HEX_BYTES_SHOWN: Final = 1_024


class Letter(NamedTuple):
    """A dead letter; `at_ms` is when it was written (Unix milliseconds)."""

    at_ms: int
    code: str
    detail: str
    origin: Origin
    body: dict[str, Any]

    def copy(self) -> tuple[bytes | None, bytes | None]:
        """Key and value as far as the letter holds them."""
        decode = b64decode if self.body["encoding"] == "base64" else str.encode
        key, value = self.body["key"], self.body["value"]
        return (
            None if key is None else decode(key),
            None if value is None else decode(value),
        )


def origin_of(text: str) -> Origin:
    """Reads `topic/partition/offset`. Raises Trouble."""
    topic, _, rest = text.partition("/")
    partition, _, offset = rest.partition("/")
    if topic and partition.isdecimal() and offset.isdecimal():
        return Origin(topic, int(partition), int(offset))
    raise Trouble(
        "an origin is topic/partition/offset", "copy it from `realname dead-letters list`", WRONG
    )


async def read_letters(
    deployment: Deployment,
    *,
    code: str | None = None,
    since_ms: int | None = None,
    topic: str | None = None,
    person: str | None = None,
    partition: int | None = None,
) -> list[Letter]:
    """The dead letters that fit, oldest first. `since_ms`: written at most that long ago."""
    if code is not None and code not in DEAD_LETTER_CODES:
        raise Trouble(
            f"{plain(code)} is no class of dead letters",
            f"one of {', '.join(DEAD_LETTER_CODES)}",
            2,
        )
    catalog = deployment.catalog
    wire = None
    if topic is not None:
        wire = catalog.topics[topic].wire if topic in catalog.topics else topic
    at_ms = None if since_ms is None else int(time.time() * SECOND_MS) - since_ms
    letters: list[Letter] = []
    with working("Reading the dead letters …") as shown:
        async with reading(deployment) as consumer:
            places = await places_of(deployment, [catalog.topics[DEAD_LETTERS_TOPIC]])
            if partition is not None:
                places = [place for place in places if place.partition == partition]
            seen = 0
            async for record in whole(consumer, places, since_ms=at_ms):
                seen += 1
                if seen % 10_000 == 0:
                    shown.update(f"Reading the dead letters … {seen}")
                body = orjson.loads(record.value or b"{}")
                if (
                    code in (None, body["code"])
                    and wire in (None, body["origin"]["topic"])
                    and (person is None or record.key == person.encode())
                ):
                    origin = Origin(**body["origin"])
                    letters.append(
                        Letter(record.timestamp, body["code"], body["detail"], origin, body)
                    )
    letters.sort(key=lambda one: one.at_ms)
    return letters


def list_(letters: Sequence[Letter], *, limit: int, as_json: bool) -> None:
    """Print the counts by class, and the latest letters one by one."""
    if as_json:
        for one in letters:
            out.file.write(orjson.dumps(one.body).decode() + "\n")
        return
    if not letters:
        done("there are no dead letters")
        return
    counts = Counter(one.code for one in letters)
    rows = [
        (str(counts[code]), code, reason_of(code).zh, Text(reason_of(code).en, FAINT))
        for code in DEAD_LETTER_CODES
        if counts[code]
    ]
    show(table("count", "class", "", ""), rows)
    shown = letters[-min(limit, CLI_LISTED_MAX) :] if limit else []
    if shown:
        line()
        show(
            table("written", "class", "origin", "detail", title=f"the latest {len(shown)}"),
            (
                (moment(one.at_ms), one.code, _written(one.origin), plain(one.detail))
                for one in shown
            ),
        )


async def show_one(deployment: Deployment, origin: Origin) -> None:
    """Print one letter with its value decoded. Raises Trouble when there is none."""
    letter = await _find(deployment, origin)
    key, value = letter.copy()
    reason = reason_of(letter.code)
    words = Text.assemble((letter.code, BAD), f"  {reason.zh}", (f"  {reason.en}", FAINT))
    show(
        table("", ""),
        (
            ("origin", _written(origin)),
            ("class", words),
            ("detail", plain(letter.detail)),
            ("written", moment(letter.at_ms)),
            ("key", _readable(key)),
            ("length", f"{letter.body['length']} bytes"),
            ("sha256", letter.body["sha256"]),
        ),
    )
    line()
    if value is not None and len(value) < letter.body["length"]:
        remark(f"these are the first {len(value)} bytes of it")
    _show_value(value)


async def _find(deployment: Deployment, origin: Origin) -> Letter:
    # A letter is on the partition of its record.
    letters = await read_letters(deployment, partition=origin.partition)
    found = [letter for letter in letters if letter.origin == origin]
    if not found:
        raise Trouble(
            f"{_written(origin)} has no dead letter",
            "`realname dead-letters list` shows them all",
            WRONG,
        )
    return found[-1]


class Attempt(NamedTuple):
    """What a replay comes to for one letter: a command to send, or why there is none."""

    letter: Letter
    command: Outgoing | None
    why_not: str = ""


async def replay(
    deployment: Deployment,
    code: str,
    *,
    since_ms: int | None,
    topic: str | None,
    person: str | None,
    really: bool,
    wait_ms: int | None,
) -> int:
    """Show, or with `really` do, the replay of one class; returns the exit code."""
    letters = await read_letters(
        deployment, code=code, since_ms=since_ms, topic=topic, person=person
    )
    if not letters:
        done(f"there is nothing to replay of {code}")
        return 0
    if len(letters) > CLI_LINES_MAX:
        raise Trouble(
            f"{len(letters)} letters are too many for one replay, at most {CLI_LINES_MAX}",
            "choose fewer with --since, --topic or --person",
            WRONG,
        )
    now_ms = int(time.time() * SECOND_MS)
    attempts = [_attempt(deployment, letter, now_ms) for letter in letters]
    able = [one.command for one in attempts if one.command is not None]
    if really:
        for one in attempts:
            if one.command is None:
                remark(f"{_written(one.letter.origin)} not sent: {one.why_not}")
        return await send(deployment, able, wait_ms=wait_ms) if able else FAILED
    _show_attempts(deployment, attempts)
    if able:
        remark(f"nothing was sent; with --yes, {len(able)} of {len(attempts)} would be")
    else:
        remark("none of these can be a command")
    return 0


def _show_attempts(deployment: Deployment, attempts: Sequence[Attempt]) -> None:
    topics = deployment.catalog.topics
    rows = []
    for one in attempts:
        if one.command is None:
            what = Text.assemble(("✗ ", BAD), plain(one.why_not))
        else:
            place = f"{topics[one.command.topic].wire}/{one.command.partition}"
            command = one.command.command
            what = Text.assemble(
                ("✓ ", GOOD), f"{command.type} to {place} ", (plain(command.id), FAINT)
            )
        rows.append((_written(one.letter.origin), what))
    show(table("origin", "replay"), rows)


def _attempt(deployment: Deployment, letter: Letter, now_ms: int) -> Attempt:
    _, value = letter.copy()
    if value is None:
        return Attempt(letter, None, "it has no value")
    if len(value) < letter.body["length"]:
        return Attempt(letter, None, f"too_large: {reason_of('too_large').en}")
    if sha256(value).hexdigest() != letter.body["sha256"]:
        return Attempt(letter, None, "the letter does not hold what its hash says")
    try:
        envelope = orjson.loads(value)
    except orjson.JSONDecodeError:
        return Attempt(letter, None, f"not_json: {reason_of('not_json').en}")
    if not isinstance(envelope, dict):
        return Attempt(letter, None, f"not_an_envelope: {reason_of('not_an_envelope').en}")
    try:
        command = placed(deployment.catalog, envelope, value)
    except Unfit as error:
        return Attempt(letter, None, str(error))
    if command.command.at_ms < now_ms - PAST_MS_MAX:
        return Attempt(letter, None, f"too_late: {reason_of('too_late').en}")
    return Attempt(letter, command)


def _written(origin: Origin) -> str:
    return f"{plain(origin.topic)}/{origin.partition}/{origin.offset}"


def _readable(raw: bytes | None) -> str:
    if raw is None:
        return "(none)"
    with suppress(UnicodeDecodeError):
        return plain(raw.decode())
    return raw.hex(" ")


def _show_value(value: bytes | None) -> None:
    if value is None:
        line(("(no value)", FAINT))
        return
    with suppress(orjson.JSONDecodeError):
        document = orjson.loads(value)
        text = orjson.dumps(document, option=orjson.OPT_INDENT_2).decode()
        for one in text.splitlines():
            line(plain(one))
        return
    try:
        for one in value.decode().splitlines():
            line(plain(one))
    except UnicodeDecodeError:
        line(value[:_HEX_BYTES_SHOWN].hex(" "))
        if len(value) > _HEX_BYTES_SHOWN:
            line((f"… {len(value)} bytes in all", FAINT))
