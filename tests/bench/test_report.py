"""Ratios are of what was measured, and a comparison says what moved."""

from typing import Any

from rich.console import Console

from bench import report


def _engine(per_s: float, cpu_us: float) -> dict[str, Any]:
    return {"per_s": {"median": per_s}, "cpu_us": {"median": cpu_us}}


RESULTS: dict[str, Any] = {
    "throughput": {
        "60000": {
            "realname": _engine(20_000, 40),
            "realname x2": _engine(36_000, 44),
            "streams-rocksdb": _engine(8_000, 90),
            "streams-memory": _engine(10_000, 80),
            "bare-aiokafka": _engine(50_000, 15),
        }
    },
    "latency": [
        {"engine": "realname", "per_s": 500, "p99_ms": 30.0},
        {"engine": "streams-memory", "per_s": 500, "p99_ms": 130.0},
    ],
    "restore": {"restore_per_s": 200_000.0},
}


def test_ratios() -> None:
    found = report.ratios(RESULTS)
    assert found["over_streams"] == 2.0  # against the better store
    assert found["share_of_limit"] == 0.4
    assert found["two_over_one"] == 80 / 44
    assert found["p99_ms_at_500"] == 30.0
    assert found["restore_per_s"] == 200_000.0
    assert "over_quix" not in found  # not measured


def test_ratios_of_different_sizes_are_not_compared() -> None:
    larger = {"realname": _engine(15_000, 50), "streams-memory": _engine(20_000, 60)}
    throughput = {**RESULTS["throughput"], "2000000": larger}
    found = report.ratios_by_size({**RESULTS, "throughput": throughput})
    assert found["over_streams of 60,000"] == 2.0
    assert found["over_streams of 2,000,000"] == 0.75
    assert found["p99_ms_at_500"] == 30.0
    assert "over_streams" not in found


def test_each_size_is_held_against_the_targets() -> None:
    larger = {"realname": _engine(15_000, 50), "streams-memory": _engine(20_000, 60)}
    throughput = {**RESULTS["throughput"], "2000000": larger}
    found = [
        (about.rpartition(", ")[2], value, target.met(value))
        for target, about, value in report.against_targets({**RESULTS, "throughput": throughput})
        if target.name == "over_streams"
    ]
    assert found == [("60,000 inputs", 2.0, True), ("2,000,000 inputs", 0.75, False)]


def test_a_target_is_met_or_not() -> None:
    met = {
        target.name: target.met(value)
        for target in report.TARGETS
        for name, value in report.ratios(RESULTS).items()
        if name == target.name
    }
    assert met["over_streams"]
    assert not met["share_of_limit"]
    assert met["p99_ms_at_500"]  # at most


def test_compare_says_what_moved_and_which_way() -> None:
    console = Console(record=True, width=120, quiet=False, file=None)
    with console.capture() as said:
        report.compare(
            console,
            {"over_streams": 1.0, "p99_ms_at_500": 20.0, "share_of_limit": 0.41},
            {"over_streams": 2.0, "p99_ms_at_500": 30.0, "share_of_limit": 0.40, "over_quix": 2.0},
        )
    lines = {line.split("│")[1].strip(): line for line in said.get().splitlines() if "│" in line}
    assert "worse" in lines["over_streams"]
    assert "better" in lines["p99_ms_at_500"]
    assert "worse" not in lines["share_of_limit"]
    assert "better" not in lines["share_of_limit"]
    assert "not in both" in lines["over_quix"]


def test_the_committed_baseline_names_known_ratios_only() -> None:
    known = {target.name for target in report.TARGETS}
    named = {name.partition(" of ")[0] for name in report.read(report.BASELINE)}
    assert all(name.startswith(("cpu_", "p99_ms_at_")) for name in named - known)
