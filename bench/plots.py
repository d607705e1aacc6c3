"""The pictures of docs/performance.md (`plots.py RESULTS DIRECTORY`), by the peers' environment."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams["svg.hashsalt"] = "realname"  # the same figures, the same file
from matplotlib import pyplot  # noqa: E402

OURS = "realname"


def _save(figure: Any, path: Path) -> None:
    figure.savefig(path, metadata={"Date": None}, bbox_inches="tight")
    pyplot.close(figure)


def _words(conditions: dict[str, Any]) -> str:
    return (
        f"make bench{' FULL=1' if conditions['full'] else ''} · {conditions['cpu']}, "
        f"{conditions['cores']} cores, broker on the same machine · "
        f"load {conditions['load_average'][0]:.1f}, steal {conditions['steal']:.1%} · "
        f"{conditions['at']}"
    )


def bars(results: dict[str, Any], unit: str, title: str, path: Path) -> None:
    sizes = results["throughput"]
    figure, axes = pyplot.subplots(1, len(sizes), figsize=(6 * len(sizes), 4), squeeze=False)
    for axis, (size, engines) in zip(axes[0], sizes.items(), strict=True):
        order = sorted(engines, key=lambda name: engines[name][unit]["median"])
        for place, name in enumerate(order):
            one = engines[name][unit]
            middle = one["median"]
            axis.barh(
                place, middle,
                xerr=[[middle - one["min"]], [one["max"] - middle]],
                color="#c0392b" if name.startswith(OURS)
                else "#bdc3c7" if name.startswith("bare") else "#34608d",
            )  # fmt: skip
            axis.text(middle, place, f" {middle:,.0f}", va="center", fontsize=8)
        axis.set_yticks(range(len(order)), order)
        axis.set_title(f"{title}, {int(size):,} inputs", fontsize=10)
        axis.spines[["top", "right"]].set_visible(False)
    figure.text(0, -0.04, _words(results["conditions"]["throughput"]), fontsize=7)
    _save(figure, path)


def curves(results: dict[str, Any], path: Path) -> None:
    rates = sorted({one["per_s"] for one in results["latency"]})
    figure, axes = pyplot.subplots(
        1, len(rates), figsize=(4 * len(rates), 3.5), squeeze=False, sharey=True
    )
    for axis, rate in zip(axes[0], rates, strict=True):
        for one in results["latency"]:
            if one["per_s"] == rate:
                parts = [*range(1, 100), 99.9]
                axis.plot(parts, one["curve_ms"], label=one["engine"])
        axis.set_yscale("log")
        axis.set_title(f"{rate:,} scans/s", fontsize=10)
        axis.set_xlabel("percentile")
        axis.grid(alpha=0.3)
    axes[0][0].set_ylabel("ms, intended sending to committed reader")
    axes[0][0].legend(fontsize=7)
    figure.text(0, -0.08, _words(results["conditions"]["latency"]), fontsize=7)
    _save(figure, path)


def main() -> None:
    results = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    target = Path(sys.argv[2])
    if "throughput" in results:
        bars(results, "per_s", "inputs a second", target / "performance-throughput.svg")
        bars(results, "cpu_us", "µs of CPU an input", target / "performance-cpu.svg")
    if results.get("latency"):
        curves(results, target / "performance-latency.svg")


if __name__ == "__main__":
    main()
