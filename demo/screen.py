"""What the terminal shows: the board while the play goes on, and the closing picture after it."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from rich import box
from rich.columns import Columns
from rich.console import Console, Group, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table
from rich.text import Text

from demo.acting import Played
from demo.cast import SITES, TRADES
from demo.checks import SHOWN, Check
from demo.picture import Picture
from demo.scenario import PHASES
from schemas.reasons import REASONS

_FAINT: Final = "bright_black"
_STYLES: Final = {
    "accepted": "green",
    "rejected": "yellow",
    "duplicate": "cyan",
    "dead_letter": "magenta",
}
_WORDS: Final = {
    "accepted": "接受 accepted",
    "rejected": "拒绝 rejected",
    "duplicate": "重复 duplicate",
    "dead_letter": "死信 dead letters",
}
_SIDE_BY_SIDE: Final = 132
"""Columns of a terminal from which two tables stand next to each other."""


class Board:
    """A bar for each phase and the count of answers so far; `totals` are messages by phase."""

    def __init__(self, console: Console, totals: Mapping[int, int]) -> None:
        self.answers: Counter[str] = Counter()
        self._remark = Text()
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
        )
        self._bars: dict[int, TaskID] = {}
        width = max(Text(phase.zh).cell_len for phase in PHASES)
        for number, phase in enumerate(PHASES):
            if total := totals.get(number):
                zh = Text(phase.zh)
                zh.pad_right(width - zh.cell_len)
                words = f"{zh.plain}  [{_FAINT}]{phase.en}[/]"
                self._bars[number] = self._progress.add_task(words, total=total, start=False)

    def __rich__(self) -> RenderableType:
        words = Text("  ")
        for status, count in self.answers.items():
            words.append(f"{_WORDS[status]} {count:,}   ", _STYLES[status])
        return Group(self._progress, words, self._remark, "")

    def begins(self, phase: int) -> None:
        """A phase begins."""
        if phase in self._bars:
            self._progress.start_task(self._bars[phase])

    def answered(self, played: Played) -> None:
        """A message was answered."""
        assert played.answer is not None
        self.answers[played.answer.status] += 1
        self._progress.advance(self._bars[played.phase])

    def remark(self, words: str) -> None:
        """Something to know, under the bars."""
        self._remark = Text(f"  ! {words}", "yellow")


def step(console: Console, words: str, more: str = "") -> None:
    """A step that went well."""
    console.print(Text.assemble(("✓ ", "green"), words, (f"  {more}", _FAINT)))


# --- the closing picture -------------------------------------------------------------------------


def show_picture(console: Console, picture: Picture) -> None:
    """The tables, as they are in PostgreSQL."""
    console.rule("[bold]收场 The closing picture, from PostgreSQL")
    console.print(_on_site(picture))
    console.print(Columns([_attendance(picture), _waiting(picture)], padding=(0, 4)))
    rejections = sorted(
        ((str(code), count) for (code,), count in picture["rejections"].items()),
        key=lambda one: (-one[1], one[0]),
    )
    if console.width >= _SIDE_BY_SIDE:
        half = -(-len(rejections) // 2)
        left, right = _rejections(rejections[:half]), _rejections(rejections[half:], "")
        console.print(Columns([left, right], padding=(0, 2)))
    else:
        console.print(_rejections(rejections))
    console.print(_dead_letters(picture))


def _table(title: str, *columns: str) -> Table:
    table = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        header_style=_FAINT,
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    for column in columns:
        right = column.startswith(">")
        table.add_column(
            column.removeprefix(">"), justify="right" if right else "left", no_wrap=True
        )
    return table


def _on_site(picture: Picture) -> Table:
    table = _table(
        "在场人员 On site now", "工地 site", "单位 employer", ">管理员", ">建筑工人", "工种 trades"
    )
    table.columns[-1].no_wrap = False
    table.columns[-1].overflow = "fold"
    places = sorted({row[:2] for row in picture["on site now"]}, key=str)
    before = None
    for site, employer in places:
        managers, trades = 0, Counter[str]()
        for row, count in picture["on site now"].items():
            if row[:2] != (site, employer):
                continue
            if row[2] == "manager":
                managers += count
            else:
                trades[TRADES.get(str(row[3]), str(row[3]))] += count
        if before not in (None, site):
            table.add_section()
        table.add_row(
            "" if before == site else f"{site} {SITES.get(str(site), '')}",
            str(employer),
            _number(managers),
            _number(trades.total()),
            " · ".join(f"{trade} {count}" for trade, count in trades.most_common()),
        )
        before = site
    total = picture["on site now"].total()
    table.caption = f"共 {total} 人 people in all"
    table.caption_justify = "left"
    return table


def _attendance(picture: Picture) -> Table:
    table = _table("考勤 Attendance", "日 day", "工地 site", ">人 people", ">次 scans")
    for (site, day), people in sorted(
        picture["people a day"].items(), key=lambda one: one[0][::-1]
    ):
        scans = sum(count for row, count in picture["attendance"].items() if row[:2] == (site, day))
        table.add_row(str(day), str(site), str(people), str(scans))
    return table


def _waiting(picture: Picture) -> Table:
    table = _table("待办 Waiting", "事项 what", ">人数")
    offers = Counter[str]()
    for (_, status), count in picture["open offers"].items():
        offers[str(status)] += count
    ends = Counter[str]()
    for (_, kind), count in picture["pending ends"].items():
        ends[str(kind)] += count
    for words, count in (
        ("聘用：待大数据中心处理 offers parked", offers["parked"]),
        ("聘用：待本人确认 offers made", offers["made"]),
        ("进场待处理 entries", picture["pending entries"].total()),
        ("退场待确认 exits", picture["pending exits"].total()),
        ("解聘待同意 dismissals", ends["dismissal"]),
        ("离职待审批 departures", ends["departure"]),
    ):
        table.add_row(words, _number(count))
    return table


def _dead_letters(picture: Picture) -> Table:
    table = _table("死信 Dead letters", ">次", "code", "提示 prompt")
    for (code,), count in sorted(picture["dead letters"].items(), key=lambda one: -one[1]):
        table.add_row(str(count), str(code), REASONS[str(code)].zh)
    return table


def _rejections(rows: Iterable[tuple[str, int]], title: str = "拒绝 Rejected") -> Table:
    table = _table(title, ">次", "code", "提示 prompt")
    for code, count in rows:
        table.add_row(str(count), code, REASONS[code].zh)
    return table


def _number(count: int) -> str:
    return str(count) if count else "·"


def show_checks(
    console: Console, checks: Sequence[Check], digest: str, expected_digest: str
) -> None:
    """Each check, with what differs."""
    console.rule("[bold]核对 Checks")
    for one in checks:
        mark = ("✓ ", "green") if not one.wrong else ("✗ ", "bold red")
        console.print(Text.assemble(mark, one.zh, "  ", (one.en, _FAINT)))
        for difference in one.wrong[:SHOWN]:
            console.print(Text(f"    {difference}", "red"))
        if len(one.wrong) > SHOWN:
            console.print(Text(f"    … {len(one.wrong) - SHOWN} more", "red"))
    console.print(
        Text.assemble(
            "\n摘要 digest  ",
            (digest, "bold"),
            (f"  by the rules {expected_digest}; the same in every play, on whatever day", _FAINT),
        )
    )


def show_kept(console: Console, lines: Sequence[tuple[str, Sequence[str]]]) -> None:
    """What was left running, and what to do with it: (words, lines to copy)."""
    console.rule("[bold]保留运行 Left running")
    for words, commands in lines:
        console.print(Text(words, _FAINT))
        for command in commands:
            # Not broken: it is there to be copied.
            console.print(Text(f"  {command}"), soft_wrap=True)
