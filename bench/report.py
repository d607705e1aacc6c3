"""What was measured, as a table, as ratios against the targets, and against a baseline."""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

BASELINE: Final = Path(__file__).with_name("baseline.json")
MOVED: Final = 0.15
"""Less than this part is the machine's weather."""


@dataclass(frozen=True)
class Target:
    """A ratio or figure that is aimed at."""

    name: str
    about: str
    aim: float
    at_most: bool = False

    def met(self, value: float) -> bool:
        return value <= self.aim if self.at_most else value >= self.aim


TARGETS: Final = (
    Target("over_streams", "throughput / Kafka Streams EOS v2, one thread, its better store", 1.0),
    Target(
        "cpu_streams-memory_over_ours", "CPU an input of Kafka Streams EOS v2 in memory / ours", 1.0
    ),
    Target(
        "best_over_best",
        "throughput / Kafka Streams EOS v2, each with the workers that suit it",
        1.0,
    ),
    Target("over_quix", "throughput / Quix Streams exactly once", 1.5),
    Target("over_faust", "throughput / Faust with a table, at least once", 10.0),
    Target("share_of_own", "throughput / the same loop without rules: this worker's", 0.6),
    Target("share_of_limit", "throughput / a bare loop, which reads and makes no JSON", 0.6),
    Target("two_over_one", "two workers / one, by CPU an input", 1.7),
    Target("p99_ms_at_500", "p99 at 500 scans/s over all command topics, ms", 50.0, at_most=True),
    Target("restore_per_s", "persons restored a second, of a million", 150_000.0),
    Target("projected_per_s", "events projected a second, tables and history", 25_000.0),
)


def conditions(began: Mapping[str, float]) -> dict[str, Any]:
    """The machine, and what else it did meanwhile."""
    now = cpu_ticks()
    ticks = max(1.0, sum(now.values()) - sum(began.values()))
    return {
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "cpu": cpu(),
        "cores": os.cpu_count(),
        "load_average": os.getloadavg(),
        "steal": (now["steal"] - began["steal"]) / ticks,
        # How it was compiled matters, and where it comes from tells.
        "python": f"{platform.python_version()}, {Path(sys.executable).resolve()}",
        "versions": {
            name: version(name)
            for name in ("aiokafka", "faust-streaming", "confluent-kafka", "pydantic", "uvloop")
        },
    }


def cpu() -> str:
    """The processor's name."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def cpu_ticks() -> dict[str, float]:
    """Ticks of all cores since boot, by kind."""
    names = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
    values = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    return dict(zip(names, map(float, values), strict=False))


def ratios(results: Mapping[str, Any]) -> dict[str, float]:
    """What the targets are about, as far as it was measured."""
    found: dict[str, float] = {}
    for engines in results.get("throughput", {}).values():

        def rate(name: str, engines: Any = engines) -> float:
            return float(engines[name]["per_s"]["median"]) if name in engines else 0.0

        def cost(name: str, engines: Any = engines) -> float:
            return float(engines[name]["cpu_us"]["median"])

        ours = rate("realname")
        if not ours:
            continue
        peers = {
            "over_streams": max(rate("streams-rocksdb"), rate("streams-memory")),
            "over_quix": rate("quix"),
            "over_faust": rate("faust"),
            "share_of_own": rate("realname no rules"),
            "share_of_limit": rate("bare-aiokafka"),
        }
        found |= {name: ours / other for name, other in peers.items() if other}
        if rate("realname x2"):
            found["two_over_one"] = 2 * cost("realname") / cost("realname x2")
            if rate("streams-memory x2"):
                theirs = max(rate(name) for name in engines if name.startswith("streams"))
                found["best_over_best"] = max(ours, rate("realname x2")) / theirs
        for name in ("streams-rocksdb", "streams-memory", "bare-aiokafka"):
            if rate(name):
                found[f"cpu_{name}_over_ours"] = cost(name) / cost("realname")
    for one in results.get("latency", []):
        if one["engine"] == "realname":
            found[f"p99_ms_at_{one['per_s']}"] = one["p99_ms"]
    for part, name in (("restore", "restore_per_s"), ("projector", "projected_per_s")):
        if name in results.get(part, {}):
            found[name] = results[part][name]
    return found


def ratios_by_size(results: Mapping[str, Any]) -> dict[str, float]:
    """What is compared with the baseline: as `ratios`, but those of a throughput name its size, for
    at another size they are others."""
    found = ratios({part: one for part, one in results.items() if part != "throughput"})
    for size, engines in results.get("throughput", {}).items():
        of_size = ratios({"throughput": {size: engines}})
        found |= {f"{name} of {int(size):,}": value for name, value in of_size.items()}
    return found


def against_targets(results: Mapping[str, Any]) -> Iterator[tuple[Target, str, float]]:
    """Each target with what it is about, its size where that counts, and what was measured."""
    found = ratios_by_size(results)
    for target in TARGETS:
        for name, value in found.items():
            ratio, _, size = name.partition(" of ")
            if ratio == target.name:
                yield target, f"{target.about}{size and f', {size} inputs'}", value


def print_throughput(console: Console, size: str, engines: Mapping[str, Any]) -> None:
    table = Table(title=f"{size} inputs, 16 partitions; median [min, max]")
    for heading in (
        "engine",
        "inputs/s",
        "x ours",
        "CPU µs/input",
        "broker µs",
        "MB",
        "others",
        "right answers",
    ):
        table.add_column(
            heading, justify="left" if heading in ("engine", "right answers") else "right"
        )
    ours = engines.get("realname", {}).get("per_s", {}).get("median", 0)
    for name, one in sorted(engines.items(), key=lambda item: -item[1]["per_s"]["median"]):
        rate, cpu = one["per_s"], one["cpu_us"]
        table.add_row(
            name,
            f"{rate['median']:,.0f} [{rate['min']:,.0f}, {rate['max']:,.0f}]",
            f"{rate['median'] / ours:.2f}" if ours else "",
            f"{cpu['median']:.1f} [{cpu['min']:.1f}, {cpu['max']:.1f}]",
            f"{one['broker_us']['median']:.1f}",
            f"{one['rss_mb']['median']:,.0f}",
            f"{one['others']['median']:.2f}",
            _right(one["runs"]),
        )
    console.print(table)


def print_latency(console: Console, runs: Sequence[Mapping[str, Any]]) -> None:
    table = Table(title="open loop, intended time of sending to committed reader, ms")
    for heading in ("engine", "scans/s", "p50", "p99", "p99.9", "max", "cores", "broker", "late",
                    "unanswered"):  # fmt: skip
        table.add_column(heading, justify="left" if heading == "engine" else "right")
    for one in runs:
        table.add_row(
            one["engine"], f"{one['per_s']:,}",
            *(f"{one[name]:,.1f}" for name in ("p50_ms", "p99_ms", "p999_ms", "max_ms")),
            f"{one['cpu']:.2f}", f"{one['broker_cpu']:.2f}", f"{one['sender_late_ms']:.0f}",
            f"{one['unanswered']}",
        )  # fmt: skip
    console.print(table)


def page(results: Mapping[str, Any]) -> str:
    """docs/figures.md: all that was measured, as tables."""
    out = [
        "# Figures",
        "<!-- written by `make bench FULL=1`, or `python -m bench docs`; do not edit -->",
        "What is measured, and how to read it: [performance](performance.md).",
        "## Against the targets",
        _rows(
            ("target", "aim", "measured", ""),
            (
                (
                    about,
                    f"{'≤' if target.at_most else '≥'} {target.aim:,g}",
                    _figure(value),
                    "met" if target.met(value) else "missed",
                )
                for target, about, value in against_targets(results)
            ),
        ),
    ]
    for size, engines in results.get("throughput", {}).items():
        ours = engines.get("realname", {}).get("per_s", {}).get("median", float("nan"))
        out += [
            f"## {int(size):,} inputs",
            _rows(
                ("engine", "runs", "inputs/s: median (min, max)", "× ours", "CPU µs an input",
                 "broker's µs", "MB", "right answers"),
                (
                    (
                        name,
                        str(len(one["runs"])),
                        "{median:,.0f} ({min:,.0f}, {max:,.0f})".format(**one["per_s"]),
                        f"{one['per_s']['median'] / ours:.2f}",
                        f"{one['cpu_us']['median']:.1f}",
                        f"{one['broker_us']['median']:.1f}",
                        f"{one['rss_mb']['median']:,.0f}",
                        _right(one["runs"]),
                    )
                    for name, one in sorted(
                        engines.items(), key=lambda item: -item[1]["per_s"]["median"]
                    )
                ),
            ),
        ]  # fmt: skip
    if "check" in results:
        out += ["## Answers to a stream that arrives while it is worked on", _rows(
            ("engine", "right"), results["check"].items())]  # fmt: skip
    if "latency" in results:
        names = ("p50_ms", "p99_ms", "p999_ms", "max_ms")
        out += [
            "## Latency, ms",
            _rows(
                ("engine", "scans/s", "p50", "p99", "p99.9", "max", "cores", "broker's cores",
                 "unanswered"),
                (
                    (one["engine"], f"{one['per_s']:,}", *(f"{one[name]:,.1f}" for name in names),
                     f"{one['cpu']:.2f}", f"{one['broker_cpu']:.2f}", str(one["unanswered"]))
                    for one in results["latency"]
                ),
            ),
        ]  # fmt: skip
    for part, title in (
        ("restore", "Restore"),
        ("projector", "Projector"),
        ("beside", "Deciding beside a projector that catches up"),
    ):
        if part in results:
            out += [f"## {title}", _rows(("", ""), _flat(results[part]))]
    for name, found in results.get("scale", {}).items():
        out += [f"## Scale: {name}"]
        if isinstance(found, list):
            columns = tuple(found[0])
            rows = (tuple(_value(one[column]) for column in columns) for one in found)
            out.append(_rows(columns, rows))
        else:
            out.append(_rows(("", ""), _flat(found)))
    out += ["## Conditions", _rows(
        ("part", "at", "machine", "cores", "load at the end", "steal", "Python"),
        (
            (part, one["at"], one["cpu"], str(one["cores"]), f"{one['load_average'][0]:.1f}",
             f"{one['steal']:.1%}", one["python"])
            for part, one in results["conditions"].items()
        ),
    )]  # fmt: skip
    return "\n\n".join(out) + "\n"


def _rows(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _flat(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(name, _value(value)) for name, value in found.items()]


def _value(value: Any) -> str:
    return f"{value:,.2f}" if isinstance(value, float) else f"{value:,}" if isinstance(
        value, int
    ) else str(value)  # fmt: skip


def _right(runs: Sequence[Mapping[str, Any]]) -> str:
    compared = sum(one["compared"] for one in runs)
    if not compared:
        return "decides nothing"
    wrong = sum(one["different"] for one in runs)
    lost = sum(one["missing"] + one["twice"] for one in runs)
    said = f"{1 - wrong / compared:.1%} of {compared:,}"
    if lost:
        said += f", {lost:,} missing or twice"
    if not all(one["events_as_named"] for one in runs):
        said += ", events are not those named"
    return said


def print_ratios(console: Console, results: Mapping[str, Any]) -> None:
    """The last lines: each target, what was measured, whether it is met."""
    for target, about, value in against_targets(results):
        sign, word = ("<=", "") if target.at_most else (">=", "x" if target.aim < 100 else "")
        state = "met" if target.met(value) else "MISSED"
        console.print(
            f"{state:6} {target.name:16} {value:>12,.2f}{word}  "
            f"(target {sign} {target.aim:,g})  {about}",
            highlight=False,
        )


def compare(console: Console, now: Mapping[str, float], baseline: Mapping[str, float]) -> None:
    """What moved against the baseline, by more than the machine's weather."""
    table = Table(title=f"against the baseline; marked: moved by more than {MOVED:.0%}")
    for heading in ("ratio", "baseline", "now", "change", ""):
        table.add_column(heading, justify="left" if heading in ("ratio", "") else "right")
    for name in sorted(now.keys() | baseline.keys()):
        before, after = baseline.get(name), now.get(name)
        if before is None or after is None:
            table.add_row(name, _figure(before), _figure(after), "", "not in both")
            continue
        change = after / before - 1
        mark = ""
        if abs(change) > MOVED:
            better = (change < 0) if name.startswith("p99") else (change > 0)
            mark = "better" if better else "worse"
        table.add_row(name, _figure(before), _figure(after), f"{change:+.0%}", mark)
    console.print(table)


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:,.2f}"


def read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return found
