"""The play on real processes: set up, played, looked at, checked, and cleared away."""

import asyncio
import os
import shlex
import signal
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from operator import ge
from pathlib import Path
from typing import Final

import asyncpg
import uvloop
from rich.console import Console
from rich.live import Live
from rich.progress import Progress
from rich.status import Status
from rich.text import Text

from demo.acting import NoAnswer, Play, Played
from demo.calendar import Calendar
from demo.cast import Cast, make_cast
from demo.checks import Check, all_rows, check
from demo.model import Model
from demo.picture import digest, of_model
from demo.scenario import perform
from demo.screen import Board, show_checks, show_kept, show_picture, step
from demo.stage import PROJECTOR, WORKERS, Stage
from demo.wire import Wire
from deployment.logs import configure_logs
from deployment.settings import Settings
from local import artifacts
from projector.rebuild import lag
from projector.rebuild import rebuild as rebuild_tables
from schemas.limits import DEMO_POLL_MS, DEMO_TABLES_MS_MAX, SECOND_MS

KILL_AT: Final = 0.55
"""The share of messages answered at which a worker is killed: amid the gates and the first day."""

_ASKED_TO_END: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_COLUMNS: Final = 140
"""How wide it is written where there is no terminal."""


def run(settings: Settings, keep: bool = False, kill: bool = False, rebuild: bool = False) -> int:
    """Play the project; 0 when all checks hold, 1 when one does not or an answer stayed away.

    All is made anew in a folder of its own and removed at the end, also after an interruption.
    With `keep` the folder is `demo` in the home and everything is left running. `kill` kills a
    worker in the midst; `rebuild` makes the tables anew afterwards and compares all rows.
    Raises what starting the servers raises.
    """
    cast = make_cast(Calendar(time.time_ns() // 1_000_000))
    if keep:
        home = settings.home / "demo"
    else:
        home = Path(tempfile.mkdtemp(prefix="realname-demo-"))
    stage = Stage(home, cast)
    console = Console(highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = _COLUMNS
    configure_logs("console", "warning")
    kept = False
    try:
        well = uvloop.run(_Performance(stage, cast, console, kill, rebuild).go())
        if keep:
            _tell_kept(console, stage, cast)
            kept = True
        elif not well:
            console.print("With --keep all of it stays, to be looked at.")
        return 0 if well else 1
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
    finally:
        if not kept:
            # Ends whole, however impatient whoever asks for it is.
            before = {number: signal.signal(number, signal.SIG_IGN) for number in _ASKED_TO_END}
            with console.status("Clearing away …"):
                stage.close()
            for number, handler in before.items():
                signal.signal(number, handler)


class _Performance:
    """One play from the empty folder to the checks."""

    def __init__(
        self, stage: Stage, cast: Cast, console: Console, kill: bool, rebuild: bool
    ) -> None:
        self._stage = stage
        self._cast = cast
        self._console = console
        self._kill = kill
        self._rebuild = rebuild
        self._model = Model(stage.catalog, cast.code_keys, cast.calendar.now_ms)
        self._rehearsal = Play(self._model, cast)

    async def go(self) -> bool:
        """Whether all went as it must."""
        acting = asyncio.current_task()
        assert acting is not None
        # A terminal that is closed, or a service that is stopped, leaves nothing behind either.
        for number in (signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, acting.cancel)
        self._console.rule("[bold]实名制演示 A construction project, played")
        await self._set_up()
        async with Wire(self._stage.brokers, self._stage.catalog) as wire:
            reading = asyncio.create_task(wire.read())
            try:
                play = await self._play(wire, reading)
                if play is None:
                    return False
                async with self._tables() as connection:
                    await self._caught_up(connection)
                    picture, found, checks = await check(
                        connection, play, self._rehearsal, self._model, wire
                    )
                    if self._rebuild:
                        checks.append(await self._rebuilt(connection))
            finally:
                reading.cancel()
        show_picture(self._console, picture)
        show_checks(self._console, checks, found, self._expected_digest())
        return not any(one.wrong for one in checks)

    def _expected_digest(self) -> str:
        played = self._rehearsal.played.values()
        picture = of_model(self._model, played, self._cast)
        return digest(self._cast, picture, self._model.history())

    # --- before ----------------------------------------------------------------------------------

    async def _set_up(self) -> None:
        began = time.monotonic()
        await perform(self._rehearsal)
        if self._rehearsal.surprises:
            raise AssertionError("\n".join(self._rehearsal.surprises))
        messages, people = len(self._rehearsal.played), len(self._cast.people)
        self._step(began, "剧本 script", f"{messages:,} messages about {people} people")

        # The first time of all the broker's program is fetched, with a progress of its own.
        await asyncio.to_thread(artifacts.jars)

        began = time.monotonic()
        with self._working("Starting the broker and the database …"):
            self._stage.make_home()
            await self._stage.start_servers()
        self._step(began, "Kafka, PostgreSQL", f"in {self._stage.home}")

        began = time.monotonic()
        with self._working("Creating topics and tables …"):
            topics, migrations = await self._stage.prepare()
        self._step(began, "主题与表 topics and tables", f"{topics} topics, {migrations} migrations")

        began = time.monotonic()
        with self._working("Starting two workers and the projector …"):
            names = (*WORKERS, PROJECTOR)
            for name in names:
                self._stage.start(name)
            await asyncio.gather(*map(self._stage.await_well, names))
        self._step(began, "进程 processes", ", ".join(names))

    def _step(self, began: float, words: str, more: str) -> None:
        step(self._console, words, f"{more}, {time.monotonic() - began:.1f} s")

    def _working(self, words: str) -> Status:
        return self._console.status(words, spinner="dots")

    # --- the play --------------------------------------------------------------------------------

    async def _play(self, wire: Wire, reading: asyncio.Task[None]) -> Play | None:
        totals = Counter(one.phase for one in self._rehearsal.played.values())
        board = Board(self._console, totals)
        victim = WORKERS[0] if self._kill else None
        kill_after = int(totals.total() * KILL_AT)

        def answered(played: Played) -> None:
            nonlocal victim
            board.answered(played)
            if victim is not None and board.answers.total() >= kill_after:
                self._stage.kill(victim)
                board.remark(f"{victim} was killed (SIGKILL); the other takes its people over")
                victim = None

        play = Play(wire, self._cast, answered)
        began = time.monotonic()
        acting = asyncio.create_task(perform(play, board.begins))
        try:
            with Live(board, console=self._console, refresh_per_second=8):
                await asyncio.wait({acting, reading}, return_when=asyncio.FIRST_COMPLETED)
            if not acting.done():
                # Without its reader there are no answers; the reason is the reader's.
                reading.result()
            await acting
        except ExceptionGroup as group:
            unanswered, others = group.split(NoAnswer)
            if unanswered is None or others is not None:
                raise
            self._tell_no_answer(unanswered)
            return None
        finally:
            acting.cancel()
        seconds = time.monotonic() - began
        count = len(play.played)
        longest = max(play.played.values(), key=lambda one: one.waited_s)
        self._step(
            began,
            "演出 played",
            f"{count:,} messages, {count / seconds:,.0f} a second; the longest wait for an answer "
            f"was {longest.waited_s:.2f} s",
        )
        return play

    def _tell_no_answer(self, group: ExceptionGroup[NoAnswer]) -> None:
        error: Exception = group
        while isinstance(error, ExceptionGroup):
            error = error.exceptions[0]
        self._console.print(Text.assemble(("✗ ", "bold red"), str(error)))
        for name, tail in self._stage.log_tails():
            self._console.print(Text(f"\n{name}'s log ends:\n{tail}", "red"))

    # --- after -----------------------------------------------------------------------------------

    @asynccontextmanager
    async def _tables(self) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
        connection = await asyncpg.connect(
            self._stage.database, server_settings={"timezone": "UTC"}
        )
        try:
            yield connection
        finally:
            await connection.close()

    async def _caught_up(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        """Wait until the tables are at the topics' ends; past the limit the checks will tell."""
        began = time.monotonic()
        expected = (
            len(self._rehearsal.played),
            sum(map(len, self._model.events.values())),
        )
        there = (0, 0)
        with self._working("Waiting for the tables …"):
            while time.monotonic() - began < DEMO_TABLES_MS_MAX / SECOND_MS:
                answers = await connection.fetchval(
                    "select (select count(*) from realname.outcomes) "
                    "+ (select count(*) from realname.dead_letters)"
                )
                there = answers, await connection.fetchval("select count(*) from realname.events")
                enough = all(map(ge, there, expected))
                if enough and not await self._lag():
                    break
                await asyncio.sleep(DEMO_POLL_MS / SECOND_MS)
        self._step(began, "投影 projected", f"{there[0]:,} answers, {there[1]:,} events")

    async def _lag(self) -> int:
        stage = self._stage
        return sum((await lag(stage.brokers, stage.database, stage.catalog)).values())

    async def _rebuilt(self, connection: "asyncpg.Connection[asyncpg.Record]") -> Check:
        """All tables made anew from the topics have the same rows."""
        began = time.monotonic()
        before = await all_rows(connection)
        with Progress(console=self._console, transient=True) as progress:
            bar = progress.add_task("Rebuilding the tables from the topics …")

            def told(done: int, total: int) -> None:
                progress.update(bar, completed=done, total=total)

            stage = self._stage
            await rebuild_tables(stage.brokers, stage.database, stage.catalog, told=told)
        after = await all_rows(connection)
        rows = sum(map(len, after.values()))
        self._step(began, "重建 rebuilt", f"{rows:,} rows in {len(after)} tables")
        wrong = [
            f"{name}: {len(set(before[name]) ^ set(after.get(name, ())))} rows differ"
            for name in before
            if before[name] != after.get(name)
        ]
        return Check("重建一致", "the same rows after a rebuild", tuple(wrong))


def _tell_kept(console: Console, stage: Stage, cast: Cast) -> None:
    somebody = cast.extra("homebody")
    running = {name: one for name in (*WORKERS, PROJECTOR) if (one := stage.process(name))}
    pids = " ".join(str(one.pid) for one in running.values())
    show_kept(
        console,
        [
            (
                "首先 first, for this shell and other programs:",
                [f"export {name}={shlex.quote(value)}" for name, value in stage.environment()],
            ),
            (
                "然后 then:",
                [
                    "realname status",
                    "realname watch",
                    f"realname person {somebody.id} --site {somebody.site}",
                    "realname dead-letters list",
                    'psql "$REALNAME_DATABASE" -c "select * from realname.on_site_counts"',
                ],
            ),
            (
                "指标 metrics, and the same with /health:",
                [stage.url(name, "metrics") for name in running],
            ),
            ("日志 logs:", [f"{stage.home}/*.log"]),
            (
                "结束 to end it all (the next `realname demo --keep` does it as well):",
                [f"kill {pids}; realname down --wipe"],
            ),
        ],
    )
