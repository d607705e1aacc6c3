"""docs/cli.md, from the commands themselves: `python -m cli.docs > docs/cli.md`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from typer.main import get_command

from cli.main import app

PATH = "docs/cli.md"


def commands(command: Any = None, name: str = "realname") -> Iterator[tuple[str, Any]]:
    """Every command that does something, with its whole name."""
    command = command or get_command(app)
    below = getattr(command, "commands", None)
    if below is None:
        yield name, command
        return
    for short, one in below.items():
        yield from commands(one, f"{name} {short}")


def page() -> str:
    """The whole page, in Markdown."""
    root = get_command(app)
    parts = [
        "# The command line",
        "Made by `python -m cli.docs`; a test holds it to the commands.",
        _text(root.help),
        "## All commands",
        "\n".join(
            [
                "| command | what it does |",
                "|---|---|",
                *(
                    f"| [`{name}`](#{name.replace(' ', '-')}) | {_first(command.help)} |"
                    for name, command in commands()
                ),
            ]
        ),
    ]
    for name, command in commands():
        usage, options = _usage_and_options(name, command)
        parts += [f"## {name}", usage, _text(command.help), options]
    return "\n\n".join(parts) + "\n"


def _text(words: str | None) -> str:
    return (words or "").strip()


def _first(words: str | None) -> str:
    return _text(words).partition("\n")[0]


def _cell(words: str) -> str:
    return words.replace("|", "\\|")


def _usage_and_options(name: str, command: Any) -> tuple[str, str]:
    with command.make_context(name, [], resilient_parsing=True) as context:
        rows = [
            f"| `{_cell(record[0])}` | {_cell(record[1])} |"
            for param in command.get_params(context)
            if param.name != "help" and (record := param.get_help_record(context))
        ]
        usage = " ".join([name, *command.collect_usage_pieces(context)])
    return f"    {usage}", "\n".join(["| argument, option | meaning |", "|---|---|", *rows])


if __name__ == "__main__":
    print(page(), end="")
