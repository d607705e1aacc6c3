"""`python -m bench run|compare|baseline|docs|lock|profile|against`: measure, and say what moved."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import subprocess
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from bench import against, latency, profile, projection, report, scale
from bench.engines import (
    ENGINES,
    OURS,
    PEERS_PYTHON,
    STREAMS_COORDINATES,
    STREAMS_LOCK,
    Engine,
)
from bench.stage import ROOT, Failed, Loaded, prepare, waiting
from bench.throughput import Measured, check, measure, summary
from bench.work import Shape
from local import artifacts
from local.broker import Broker
from local.database import Database

PARTS: Final = ("check", "throughput", "latency", "restore", "scale", "projector", "beside")
HEAP_MB: Final = 1_024
RESULTS: Final = ROOT / "bench-results.json"

LARGE: Final = 1_000_000
"""So many inputs take minutes: slow engines are left out, and only the closest are repeated."""
CLOSEST: Final = ("realname no rules", OURS.name, "streams-memory")


class Bench:
    def __init__(self, console: Console, home: Path, full: bool, repeats: int) -> None:
        self.console = console
        self.home = home
        self.full = full
        self.repeats = repeats
        self.broker = Broker(home, heap_mb=HEAP_MB)
        self.failed: set[str] = set()
        """Engines, and parts of `scale`, that are missing from some of the figures."""

    @property
    def _pid(self) -> int:
        assert self.broker.pid is not None
        return self.broker.pid

    def _note(self, engine: str, error: Failed) -> None:
        self.console.print(f"{engine}: failed: {error}")
        self.failed.add(engine)

    def _engines(self, names: list[str]) -> list[Engine]:
        return [e for e in ENGINES if e.name in names or (not names and (self.full or e.short))]

    async def throughput(
        self, names: list[str], sizes: list[int], before: dict[str, Any]
    ) -> dict[str, Any]:
        """{size: {engine: summary}}; adds to what was measured before."""
        warm = 100_000 if self.full else 15_000
        out = {size: dict(engines) for size, engines in before.items()}
        for size in sizes or ([300_000, 2_000_000] if self.full else [60_000]):
            engines = self._engines(names)
            if size >= LARGE:
                engines = [e for e in engines if e.slow == 1]
            runs: dict[str, list[Measured]] = {engine.name: [] for engine in engines}
            for slow in sorted({engine.slow for engine in engines}, reverse=True):
                same = [engine for engine in engines if engine.slow == slow]
                await self._size(int(size * slow), int(warm * slow), same, runs)
            measured = {name: summary(found) for name, found in runs.items() if found}
            out[str(size)] = out.get(str(size), {}) | measured
            report.print_throughput(self.console, f"{size:,}", out[str(size)])
        return out

    async def _size(
        self,
        size: int,
        warm: int,
        engines: list[Engine],
        runs: dict[str, list[Measured]],
    ) -> None:
        self.console.print(f"making {size + 2 * warm:,} inputs")
        prepared = prepare(Shape(size + 2 * warm), max(1, size // 100_000))
        async with waiting(self.broker.bootstrap, prepared) as loaded:
            for repeat in range(self.repeats if self.full else 1):
                # Rotated, and back every second time: nobody is always the first or the last, and
                # a machine that gets slower meanwhile meets those who are next to each other alike.
                turn = engines[repeat:] + engines[:repeat]
                for engine in turn[::-1] if repeat % 2 else turn:
                    if repeat and size >= LARGE and engine.name not in CLOSEST:
                        continue
                    await self._measure(engine, loaded, warm, runs[engine.name])

    async def _measure(
        self, engine: Engine, loaded: Loaded, warm: int, runs: list[Measured]
    ) -> None:
        try:
            one = await measure(
                self.broker.bootstrap, self._pid, engine, loaded, warm, self.home / "runs"
            )
        except Failed as error:
            self._note(engine.name, error)
            return
        runs.append(one)
        wrong = f", {one.different} wrong: {one.example}" if one.different else ""
        self.console.print(
            f"{engine.name}: {one.per_s:,.0f}/s, {one.cpu_us:.1f} µs"
            f" (others: {one.others:.2f} cores){wrong}"
        )

    async def check(self, names: list[str], before: dict[str, str]) -> dict[str, str]:
        """{engine: how many of its answers are the rules'}, of a stream that arrives meanwhile;
        adds to what was found before.

        Also what warms the broker up: the first engine to be measured would pay for that.
        """
        out = dict(before)
        # What waits for them is compared when they are measured.
        engines = self._engines(names) if names or self.full else [OURS]
        for engine in engines:
            if not engine.judged:
                continue
            prepared = prepare(Shape(int(20_000 * max(0.25, engine.slow))))
            try:
                found = await check(
                    self.broker.bootstrap, self._pid, engine, prepared, self.home / "runs"
                )
            except Failed as error:
                self._note(engine.name, error)
                out[engine.name] = f"failed: {str(error).splitlines()[0]}"
                continue
            right = found.compared - found.different
            out[engine.name] = f"{right} of {len(prepared.messages)} {found.example}".strip()
            self.console.print(f"{engine.name}: {out[engine.name]}")
        return out

    async def latency(self, names: list[str], before: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """One entry an engine and rate; adds to what was measured before."""
        rates = [100, 500, 2_000, 10_000] if self.full else [500]
        seconds = 20 if self.full else 8
        warm_s = 30 if self.full else 12
        others = latency.other_topics()
        known = {engine.name: engine for engine in (*ENGINES, latency.STREAMS_MIN)}
        out: list[dict[str, Any]] = []
        usual = [OURS.name, "streams-memory", latency.STREAMS_MIN.name]
        if not self.full:
            usual.remove("streams-memory")
        for name in names or usual:
            theirs = others if name == "realname" else ("entry-requests", "exit-requests")
            try:
                found = await latency.measure(
                    self.broker.bootstrap, self._pid, known[name], rates, self.home / "runs",
                    seconds, warm_s, others=theirs,
                )  # fmt: skip
            except Failed as error:
                self._note(name, error)
                continue
            out += [asdict(one) for one in found]
        report.print_latency(self.console, out)
        measured = {one["engine"] for one in out}
        return [one for one in before if one["engine"] not in measured] + out


async def _run(arguments: argparse.Namespace, console: Console, home: Path) -> None:
    parts = arguments.only.split(",") if arguments.only else list(PARTS)
    names = arguments.engines.split(",") if arguments.engines else []
    sizes = [int(size) for size in arguments.sizes.split(",")] if arguments.sizes else []
    file: Path = arguments.results
    chosen = bool(arguments.only or names or sizes)
    results: dict[str, Any] = report.read(file) if chosen and file.exists() else {}
    elsewhere = {one["cpu"] for one in results.get("conditions", {}).values()} - {report.cpu()}
    if elsewhere:
        on = ", ".join(sorted(elsewhere))
        raise SystemExit(f"{file} was measured on {on}: name another with --results")
    bench = Bench(console, home, arguments.full, arguments.repeats)
    database = Database(home)
    bench.broker.start()
    try:
        for part in parts:
            if part in ("scale", "beside") and not arguments.full:
                continue
            began = report.cpu_ticks()
            if part == "check":
                found: Any = await bench.check(names, results.get(part, {}))
            elif part == "throughput":
                found = await bench.throughput(names, sizes, results.get(part, {}))
            elif part == "latency":
                found = await bench.latency(names, results.get(part, []))
            elif part == "restore":
                found = await scale.restore(
                    bench.broker.bootstrap, bench._pid, home, arguments.full
                )
            elif part == "scale":
                found = await scale.scale(bench.broker.bootstrap, bench._pid, home, console)
                bench.failed |= {f"scale: {name}" for name, one in found.items() if "failed" in one}
            elif part == "beside":
                found = await projection.beside(bench.broker.bootstrap, bench._pid, database, home)
            else:
                found = await projection.measure(
                    bench.broker.bootstrap, bench._pid, database, home, arguments.full
                )
            if part in ("restore", "scale", "projector", "beside"):
                console.print_json(json.dumps(found))
            results[part] = found
            results.setdefault("conditions", {})[part] = report.conditions(began) | {
                "full": arguments.full
            }
            results["ratios"] = report.ratios_by_size(results)
            file.write_text(json.dumps(results, indent=1), "utf-8")
    finally:
        bench.broker.kill()
        database.kill()
    if arguments.docs:
        _write_docs(results, file, arguments.docs)
    for part, one in results["conditions"].items():
        console.print(
            f"{part}: {one['cpu']}, {one['cores']} cores, load {one['load_average'][0]:.1f}, "
            f"steal {one['steal']:.1%}, {one['at']}",
            highlight=False,
        )
    report.print_ratios(console, results)
    if bench.failed:
        raise SystemExit(f"failed, and not in these figures: {', '.join(sorted(bench.failed))}")


def _write_docs(results: dict[str, Any], file: Path, folder: Path) -> None:
    (folder / "figures.md").write_text(report.page(results), "utf-8")
    subprocess.run(
        [str(PEERS_PYTHON), str(ROOT / "bench" / "plots.py"), str(file), str(folder)], check=True
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument(
        "do", choices=("run", "compare", "baseline", "docs", "lock", "profile", "against")
    )
    parser.add_argument("checkouts", nargs="*", type=Path, help="to measure against")
    parser.add_argument("--full", action="store_true", help="all sizes and repeats")
    parser.add_argument("--only", help=f"parts with commas: {','.join(PARTS)}")
    parser.add_argument("--engines", help="only these, with commas")
    parser.add_argument("--sizes", help="inputs of the throughput runs, with commas")
    parser.add_argument("--repeats", type=int, default=3, help="of a throughput run of --full")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--docs", type=Path, help="write figures and pictures into this folder")
    arguments = parser.parse_args()
    engines = [engine.name for engine in (*ENGINES, latency.STREAMS_MIN)]
    for what, chosen, known in (
        ("part", arguments.only, PARTS),
        ("engine", arguments.engines, engines),
    ):
        unknown = [name for name in (chosen or "").split(",") if name and name not in known]
        if unknown:
            parser.error(f"no such {what}: {', '.join(unknown)}; there are: {', '.join(known)}")
    if (arguments.do == "against") != bool(arguments.checkouts):
        parser.error("checkouts are for against, which needs one or more")
    console = Console(width=max(120, int(os.environ.get("COLUMNS", "0"))))
    if arguments.do == "lock":
        artifacts.write_lock(STREAMS_LOCK, STREAMS_COORDINATES)
    elif arguments.do == "compare":
        baseline = report.read(report.BASELINE)
        now = report.ratios_by_size(report.read(arguments.results))
        report.compare(console, now, baseline)
    elif arguments.do == "profile":
        for title, of in profile.BACKLOGS.items():
            console.print(f"{title}:", highlight=False)
            for stage, cost_us in profile.costs(of):
                console.print(f"{cost_us:6.2f} µs  {stage}", highlight=False)
    elif arguments.do == "against":
        for line in against.compare(arguments.checkouts):
            console.print(line, highlight=False)
    elif arguments.do == "docs":
        _write_docs(report.read(arguments.results), arguments.results, arguments.docs)
    elif arguments.do == "baseline":
        # What was not measured now, such as the other form's sizes, stays.
        baseline = report.read(report.BASELINE)
        baseline |= report.ratios_by_size(report.read(arguments.results))
        report.BASELINE.write_text(json.dumps(baseline, indent=1, sort_keys=True) + "\n", "utf-8")
    else:
        # Who is ended stops what it started, as after Ctrl-C.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        with tempfile.TemporaryDirectory(prefix="realname-bench-") as home:
            asyncio.run(_run(arguments, console, Path(home)))


if __name__ == "__main__":
    main()
