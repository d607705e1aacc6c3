"""Every metric of the deployment, in one place, and the page that serves them.

Units stand at the end of the names (`_seconds`, `_bytes`, `_records`); counters end in `_total` on
the page. Labels are bounded: logical topics, tables, codes, statuses; never a person. All live on
`REGISTRY`, which one process has to itself.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from aiohttp import web
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

REGISTRY: Final = CollectorRegistry()
"""The process's metrics: what is below, and memory, CPU and open files of the process."""

ProcessCollector(registry=REGISTRY)
# A second series for every counter and histogram, of no use here.
disable_created_metrics()  # type: ignore[no-untyped-call]

_SECONDS: Final = (
    0.001,
    0.002,
    0.005,
    0.01,
    0.02,
    0.05,
    0.1,
    0.2,
    0.5,
    1.0,
    2.0,
    5.0,
    10.0,
)
_RECORDS: Final = (1, 4, 16, 64, 256, 1_024, 4_096, 16_384)

# --- ledger: turns -------------------------------------------------------------------------------

LEDGER_TURN_RECORDS: Final = Histogram(
    "realname_ledger_turn_records",
    "Commands decided in one turn.",
    buckets=_RECORDS,
    registry=REGISTRY,
)

LEDGER_TURN_SECONDS: Final = Histogram(
    "realname_ledger_turn_seconds",
    "A turn from its first record in hand to its commit.",
    buckets=_SECONDS,
    registry=REGISTRY,
)

LEDGER_COMMIT_SECONDS: Final = Histogram(
    "realname_ledger_commit_seconds",
    "Writing a turn: from its first batch sent to the transaction's end.",
    buckets=_SECONDS,
    registry=REGISTRY,
)

LEDGER_BARRIER_SECONDS: Final = Histogram(
    "realname_ledger_barrier_seconds",
    "From asking for the end offsets until everything below them is read.",
    buckets=_SECONDS,
    registry=REGISTRY,
)

LEDGER_TURNS_IN_HAND: Final = Gauge(
    "realname_ledger_turns_in_hand", "Turns that are being decided or written.", registry=REGISTRY
)

# --- ledger: decisions ---------------------------------------------------------------------------

LEDGER_DECIDED_RECORDS: Final = Counter(
    "realname_ledger_decided_records",
    "Commands whose outcome or dead letter is committed, by the topic they came from.",
    ["topic"],
    registry=REGISTRY,
)

LEDGER_OUTCOMES: Final = Counter(
    "realname_ledger_outcomes",
    "Committed outcomes by status and reason code.",
    ["status", "code"],
    registry=REGISTRY,
)

LEDGER_DEAD_LETTERS: Final = Counter(
    "realname_ledger_dead_letters",
    "Committed dead letters by code. Rising: some client writes what is no command.",
    ["code"],
    registry=REGISTRY,
)

LEDGER_LAG_RECORDS: Final = Gauge(
    "realname_ledger_lag_records",
    "Commands not yet decided in the partitions owned here: end offset minus position.",
    ["topic"],
    registry=REGISTRY,
)

# --- ledger: ownership ---------------------------------------------------------------------------

LEDGER_OWNED_PARTITIONS: Final = Gauge(
    "realname_ledger_owned_partitions",
    "Partitions this worker owns, by stage: restoring, deciding, stopped. Stopped above 0: see "
    "/health and the log; the partition waits for an operator.",
    ["stage"],
    registry=REGISTRY,
)

LEDGER_RESTORED_RECORDS: Final = Counter(
    "realname_ledger_restored_records",
    "State records read to take a partition over.",
    registry=REGISTRY,
)

LEDGER_RESTORED_BYTES: Final = Counter(
    "realname_ledger_restored_bytes",
    "Keys and values of those records.",
    registry=REGISTRY,
)

LEDGER_RESTORE_SECONDS: Final = Histogram(
    "realname_ledger_restore_seconds",
    "Taking one partition over: from fencing the former owner to the first turn.",
    buckets=(0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0),
    registry=REGISTRY,
)

LEDGER_FENCES: Final = Counter(
    "realname_ledger_fences",
    "Times another worker had taken a partition over while this one still wrote to it.",
    registry=REGISTRY,
)

LEDGER_FORGOTTEN_ENDS: Final = Counter(
    "realname_ledger_forgotten_ends",
    "Places where the broker forgot to end a transaction and this worker did, by its result.",
    ["result"],
    registry=REGISTRY,
)

LEDGER_REBUILDS: Final = Counter(
    "realname_ledger_rebuilds",
    "Partitions whose memory was dropped and restored after an error, by its kind.",
    ["cause"],
    registry=REGISTRY,
)

# --- ledger: inputs that are not as they should be -----------------------------------------------

LEDGER_BAD_REFERENCES: Final = Counter(
    "realname_ledger_bad_reference_records",
    "Unreadable records in reference topics; the last good one of the key stays in force.",
    ["topic"],
    registry=REGISTRY,
)

LEDGER_OPEN_TRANSACTION_RECORDS: Final = Gauge(
    "realname_ledger_open_transaction_records",
    "End of a command topic minus its last stable offset. Above 0 for long: some client holds a "
    "transaction open on it, and the partition waits.",
    ["topic"],
    registry=REGISTRY,
)

LEDGER_UNDECIDED_AGE_SECONDS: Final = Gauge(
    "realname_ledger_undecided_age_seconds",
    "Broker age of the oldest command read and not yet decided. Alarm at half of its topic's "
    "retention: past all of it, commands are lost.",
    ["topic"],
    registry=REGISTRY,
)

LEDGER_ALARMS: Final = Gauge(
    "realname_ledger_alarms",
    "1 while the alarm stands: open_transaction, retention_half, partition_stopped.",
    ["alarm"],
    registry=REGISTRY,
)

# --- projector -----------------------------------------------------------------------------------

PROJECTOR_BATCHES: Final = Counter(
    "realname_projector_batches", "Batches committed to PostgreSQL.", registry=REGISTRY
)

PROJECTOR_ROWS: Final = Counter(
    "realname_projector_rows", "Rows written, by table.", ["table"], registry=REGISTRY
)

PROJECTOR_BATCH_SECONDS: Final = Histogram(
    "realname_projector_batch_seconds",
    "One batch: from its records in hand to the database's commit.",
    buckets=_SECONDS,
    registry=REGISTRY,
)

PROJECTOR_LAG_RECORDS: Final = Gauge(
    "realname_projector_lag_records",
    "Offsets between what the tables hold and the end of the topic.",
    ["topic"],
    registry=REGISTRY,
)

PROJECTOR_ROLLBACKS: Final = Counter(
    "realname_projector_rollbacks",
    "Batches given up and read again, by cause: progress (another projector was ahead), database.",
    ["cause"],
    registry=REGISTRY,
)

PROJECTOR_HELD_RECORDS: Final = Gauge(
    "realname_projector_held_records",
    "Events that wait for an earlier version of their person from another topic.",
    registry=REGISTRY,
)

PROJECTOR_ACTIVE: Final = Gauge(
    "realname_projector_active",
    "1 while this projector holds the lock and writes, 0 while it stands by.",
    registry=REGISTRY,
)

# --- serving -------------------------------------------------------------------------------------


@asynccontextmanager
async def serving(
    host: str, port: int, health: Callable[[], tuple[bool, str]]
) -> AsyncIterator[int]:
    """Serve `/metrics` and `/health` while the context is open; yields the port (0: any free one).

    `health` says whether the process does its work, and in words why not: 200 or 503 with the
    words as the body. It is asked on the event loop that does the work, so a loop that hangs
    answers nothing, which is what a health check should see. Raises `OSError` when the port is
    taken.
    """

    async def metrics_page(_: web.Request) -> web.Response:
        return web.Response(
            body=generate_latest(REGISTRY), headers={"Content-Type": CONTENT_TYPE_LATEST}
        )

    async def health_page(_: web.Request) -> web.Response:
        well, words = health()
        return web.Response(text=words + "\n", status=200 if well else 503)

    app = web.Application()
    app.router.add_get("/metrics", metrics_page)
    app.router.add_get("/health", health_page)
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()
