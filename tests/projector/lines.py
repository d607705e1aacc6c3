"""Reads lines of COPY's text format, independently of what writes them."""

import re
from collections.abc import Callable
from datetime import date, datetime
from typing import Any

from projector.store import _COPIED

_ARRAY_ITEM = re.compile(r'"((?:[^"\\]|\\.)*)"')
_ESCAPE = re.compile(r"\\(.)")
_CONTROLS = {"t": "\t", "n": "\n", "r": "\r"}


def _array(text: str) -> list[str]:
    return [_ESCAPE.sub(r"\1", item) for item in _ARRAY_ITEM.findall(text)]


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix(r"\x"))


_TYPES: dict[str, Callable[[str], Any]] = {
    **dict.fromkeys(
        (
            "version",
            "partition",
            "offset",
            "origin_partition",
            "origin_offset",
            "rules_version",
            "length",
        ),
        int,
    ),
    **dict.fromkeys(("time", "answered_at"), datetime.fromisoformat),
    "day": date.fromisoformat,
    "events": _array,
    "key": _bytes,
    "value": _bytes,
}


def row(table: str, line: str) -> tuple[Any, ...]:
    """The line as the row that PostgreSQL makes of it; JSON stays text."""
    assert line.endswith("\n")
    fields = line[:-1].split("\t")
    return tuple(
        None
        if field == r"\N"
        else _TYPES.get(column, str)(_ESCAPE.sub(lambda m: _CONTROLS.get(m[1], m[1]), field))
        for column, field in zip(_COPIED[table], fields, strict=True)
    )
