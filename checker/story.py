"""Prints what was found: each violation as a short story, then the table of all judgements."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console
from rich.table import Table
from rich.text import Text

from checker.report import JUDGEMENTS, PROMISES, Report, Tally, Violation


def tell(report: Report, console: Console) -> None:
    """Print the whole report."""
    for violation in report.violations:
        console.print(_violation(violation), soft_wrap=True)
    console.print(_summary(report))
    for name, tally in report.tallies.items():
        for reason, count in tally.unjudged.most_common():
            console.print(Text(f"not judged: {name}: {count} × {reason}", "yellow"), soft_wrap=True)
    for note in report.notes:
        console.print(Text(note), soft_wrap=True)
    console.print(_verdict(report), soft_wrap=True)


def _violation(violation: Violation) -> Text:
    text = Text()
    text.append(f"{violation.promise} broken", "bold red")
    text.append(f" ({violation.judgement}): {plain(violation.words)}\n")
    if violation.person is not None:
        text.append(f"   person {plain(violation.person)}\n", "bold")
    for line in violation.story:
        text.append(f"   {plain(line)}\n", "bright_black")
    return text


def _summary(report: Report) -> Table:
    table = Table(header_style="bold", box=None, pad_edge=False)
    table.add_column("promise")
    table.add_column("what was judged", overflow="fold")
    for title in ("judged", "broken", "not judged"):
        table.add_column(title, justify="right")
    last = ""
    for name, tally in report.tallies.items():
        promise, words = JUDGEMENTS[name]
        table.add_row(
            promise if promise != last else "",
            words,
            str(tally.judged or "–"),
            Text(str(tally.broken), "bold red" if tally.broken else ""),
            Text(*_unjudged(tally)),
        )
        last = promise
    return table


def _unjudged(tally: Tally) -> tuple[str, str]:
    count = tally.unjudged.total()
    return str(count), "yellow" if count else ""


def _verdict(report: Report) -> Text:
    code = report.exit_code
    if code == 1:
        words = "; ".join(f"{one} ({PROMISES[one]})" for one in report.broken_promises)
        return Text(f"Broken: {words}.", "bold red")
    if code == 2:
        answers = report.tallies["answers"]
        nothing = not answers.judged and not answers.unjudged
        words = "there is no command yet" if nothing else "not everything could be judged"
        return Text(f"Nothing is broken in what was judged, but {words}.", "bold yellow")
    return Text("All was judged, and nothing is broken.", "bold green")


def plain(text: str) -> str:
    """What is not printable as an escape: ids and keys come from strangers."""
    return "".join(_plain(text))


def _plain(text: str) -> Iterator[str]:
    for one in text:
        yield one if one.isprintable() else one.encode("unicode_escape").decode()
