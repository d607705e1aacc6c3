"""JSON from a file or standard input: one document, an array of them, or one a line."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import orjson

from cli.errors import WRONG, Trouble
from schemas.limits import CLI_LINES_MAX


def contents(file: Path) -> bytes:
    """All of a file; of standard input for `-`."""
    return sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()


def documents(text: bytes, origin: str) -> Iterator[tuple[int, object]]:
    """The documents with the number of their line (of their place, in an array).

    Raises Trouble at the first that is not JSON, or when there are too many. Shows no contents.
    """
    for count, pair in enumerate(_documents(text, origin), 1):
        if count > CLI_LINES_MAX:
            raise Trouble(
                f"{origin} has more than {CLI_LINES_MAX} records", "send them in parts", WRONG
            )
        yield pair


def _documents(text: bytes, origin: str) -> Iterator[tuple[int, object]]:
    lines = [(number, one) for number, one in enumerate(text.splitlines(), 1) if one.strip()]
    try:
        whole = orjson.loads(text) if lines else []
    except orjson.JSONDecodeError as error:
        # Several documents, one a line; unless already the first line is none.
        if not _is_json(lines[0][1]):
            raise _not_json(origin, error.lineno, error) from None
    else:
        yield from enumerate(whole if isinstance(whole, list) else [whole], 1)
        return
    for number, one in lines:
        try:
            yield number, orjson.loads(one)
        except orjson.JSONDecodeError as error:
            raise _not_json(origin, number, error) from None


def _is_json(text: bytes) -> bool:
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True


def _not_json(origin: str, number: int, error: orjson.JSONDecodeError) -> Trouble:
    return Trouble(
        f"{origin}:{number}: not JSON: {error.msg} at column {error.colno}",
        "give one JSON object a line, or one JSON array",
        WRONG,
    )
