"""`check`: whether a deployment kept its promises."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer


def check(
    context: typer.Context,
    acks: Annotated[
        Path | None,
        typer.Option(
            help="JSON lines of what producers saw acknowledged.", exists=True, dir_okay=False
        ),
    ] = None,
    seen: Annotated[
        Path | None,
        typer.Option(help="JSON lines of what a live reader saw.", exists=True, dir_okay=False),
    ] = None,
    probe: Annotated[
        bool, typer.Option("--probe", help="Send one command to each partition first.")
    ] = False,
    tables: Annotated[
        bool, typer.Option("--tables/--no-tables", help="Check the database too.")
    ] = True,
    epsilon_ms: Annotated[
        float | None,
        typer.Option(
            "--epsilon", min=0, metavar="MS", help="By the clients' clocks, closer is not judged."
        ),
    ] = None,
    append_ms: Annotated[
        float | None,
        typer.Option(
            "--append", min=0, metavar="MS", help="By the brokers' clocks, closer is not judged."
        ),
    ] = None,
    wait_s: Annotated[
        int | None,
        typer.Option(
            "--wait", min=0, metavar="SECONDS", help="How long all may take to become quiet."
        ),
    ] = None,
) -> None:
    """Check the promises on everything that the topics and tables hold.

    Decides every command again, in the order and with the references that the worker used, and
    compares outcomes, events, states and tables. Writes nothing, but for --probe. What the files of
    --acks and --seen hold, and what is judged, is in docs/checking.md.

    Exit codes: 0 all judged and nothing broken, 1 a promise is broken, 2 not all could be judged.

    Example:

        realname check
        realname check --probe --acks acks.jsonl --seen seen.jsonl
    """
    from cli.errors import report

    try:
        code = asyncio.run(_check(acks, seen, probe, tables, epsilon_ms, append_ms, wait_s))
    except Exception as error:
        if context.find_root().params.get("debug"):
            raise
        report(error)
        code = 2
    if code:
        raise typer.Exit(code)


async def _check(
    acks: Path | None,
    seen: Path | None,
    probe: bool,
    tables: bool,
    epsilon_ms: float | None,
    append_ms: float | None,
    wait_s: int | None,
) -> int:
    from checker.history import HistoryError, read_acks, read_sightings
    from checker.read import CannotRead
    from checker.run import Options
    from checker.run import check as check_all
    from checker.story import tell
    from cli.console import err, out
    from cli.context import load_deployment
    from cli.errors import WRONG, Trouble
    from schemas.limits import (
        CHECK_APPEND_MS_MAX,
        CHECK_EPSILON_MS,
        CHECK_QUIET_MS_MAX,
        SECOND_MS,
    )

    deployment = load_deployment()
    logical = {topic.wire: topic.name for topic in deployment.catalog.topics.values()}
    options = Options(
        probe=probe,
        acks=None if acks is None else read_acks(_lines(acks), logical),
        sightings=() if seen is None else read_sightings(_lines(seen), logical),
        epsilon_ms=CHECK_EPSILON_MS if epsilon_ms is None else epsilon_ms,
        append_ms=CHECK_APPEND_MS_MAX if append_ms is None else append_ms,
        quiet_ms=CHECK_QUIET_MS_MAX if wait_s is None else wait_s * SECOND_MS,
    )
    try:
        with err.status("Checking …", spinner="dots") as status:
            found = await check_all(
                deployment.brokers,
                deployment.database if tables else None,
                deployment.catalog,
                deployment.code_keys,
                options,
                deployment.options,
                told=lambda words: status.update(f"Checking: {words} …"),
            )
    except HistoryError as error:
        raise Trouble(
            f"--acks or --seen: {error}", "docs/checking.md has the form", WRONG
        ) from error
    except CannotRead as error:
        raise Trouble(str(error), "run it again once the brokers are well", WRONG) from error
    tell(found, out)
    return found.exit_code


def _lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from file
