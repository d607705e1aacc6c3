"""The terminal: answers go to standard output, progress and remarks to standard error.

Text that came over the wire is only printed through `plain`: it may hold anything, also what a
terminal takes for orders.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Final, TextIO

from rich.console import Console, RenderableType
from rich.status import Status
from rich.table import Table
from rich.text import Text

_PIPE_COLUMNS: Final = 240
"""Where nobody's terminal says how wide it is, lines are not broken early."""


def _width(stream: TextIO) -> int | None:
    return None if stream.isatty() or "COLUMNS" in os.environ else _PIPE_COLUMNS


# Without markup: what looks like it may have come over the wire.
out: Final = Console(width=_width(sys.stdout), highlight=False, markup=False)
err: Final = Console(width=_width(sys.stderr), highlight=False, markup=False, stderr=True)

GOOD: Final = "green"
BAD: Final = "red"
ODD: Final = "yellow"
FAINT: Final = "bright_black"


def plain(text: str) -> str:
    """The text with everything that is not printable written as an escape."""
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode() for one in text
    )


def line(*parts: str | tuple[str, str] | Text) -> None:
    """One line of the answer, never broken; parts as of `Text.assemble`."""
    out.print(Text.assemble(*parts), soft_wrap=True)


def done(words: str, *more: str) -> None:
    """A step that went well."""
    err.print(Text.assemble(("✓ ", GOOD), words, (" ".join(["", *more]), FAINT)), soft_wrap=True)


def remark(words: str) -> None:
    """Something to know that is no failure."""
    err.print(Text.assemble(("! ", ODD), words), soft_wrap=True)


def working(words: str) -> AbstractContextManager[Status]:
    """Shows that something goes on, where somebody watches."""
    return err.status(words, spinner="dots")


def table(*columns: str, title: str | None = None) -> Table:
    """An empty table in the one style."""
    made = Table(
        title=title,
        title_justify="left",
        show_header=any(columns),
        header_style="bold",
        box=None,
        pad_edge=False,
    )
    for column in columns:
        made.add_column(column, overflow="fold")
    return made


def show(rows: Table, cells: Iterable[Iterable[RenderableType]] = ()) -> None:
    """Print a table, after adding rows to it."""
    for one in cells:
        rows.add_row(*one)
    out.print(rows)
