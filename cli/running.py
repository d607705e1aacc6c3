"""`worker`, `projector`, `rebuild`, `migrate`, `topics`: a deployment's processes and set-up."""

from __future__ import annotations

from typing import Final, Literal

from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from rich.text import Text

from cli.console import BAD, FAINT, GOOD, ODD, done, err, remark, show, table, working
from cli.context import Deployment
from cli.database import connected
from cli.errors import FAILED
from deployment import topics
from deployment.logs import configure_logs
from deployment.process import run_until_told
from deployment.settings import Process, Settings
from projector.migrate import migrate as apply_migrations

_CHANGE: Final = {"create": GOOD, "alter": ODD, "refuse": BAD, "keep": FAINT}


def worker(deployment: Deployment, metrics_port: int | None) -> None:
    """Decide commands until SIGTERM or SIGINT."""
    from agents.worker import run_worker

    settings = _of_process(deployment, "worker", metrics_port)
    run_until_told(lambda stop: run_worker(settings, stop))


def projector(deployment: Deployment, metrics_port: int | None) -> None:
    """Project into the tables until SIGTERM or SIGINT."""
    from projector.main import main

    main(_of_process(deployment, "projector", metrics_port))


def _of_process(deployment: Deployment, process: Process, metrics_port: int | None) -> Settings:
    """The settings of a process in the foreground; its logs are for whoever looks."""
    settings = deployment.resolved(database=process == "projector")
    update: dict[str, object] = {}
    if metrics_port is not None:
        update["metrics_port"] = metrics_port
    if err.is_terminal and "log_format" not in settings.model_fields_set:
        update["log_format"] = "console"
    settings = settings.model_copy(update=update)
    configure_logs(settings.log_format, settings.log_level)
    return settings


async def migrate(deployment: Deployment) -> None:
    """Bring the tables to this program's, and tell what was applied."""
    async with connected(deployment) as connection:
        with working("Migrating …"):
            applied = await apply_migrations(connection)
    for name in applied:
        done(f"applied {name}")
    if not applied:
        done("the tables are up to date")


async def rebuild(deployment: Deployment) -> None:
    """All tables anew from the topics."""
    from projector.rebuild import rebuild

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as progress:
        task = progress.add_task("Rebuilding", total=None)
        await rebuild(
            deployment.brokers,
            deployment.database,
            deployment.catalog,
            options=deployment.options,
            told=lambda read, total: progress.update(task, completed=read, total=total),
        )
    done("the tables are rebuilt, as of the ends that the topics had at the start")


async def bring_topics(
    deployment: Deployment,
    what: Literal["plan", "apply"],
    *,
    replication: int | None,
    allow_lower_retention: bool,
) -> int:
    """Show, and with `apply` carry out, what the topics need; returns the exit code."""
    act = topics.apply if what == "apply" else topics.plan
    with working("Asking the brokers …"):
        plan = await act(
            deployment.brokers,
            deployment.catalog,
            deployment.replication if replication is None else replication,
            allow_lower_retention=allow_lower_retention,
            options=deployment.options,
        )
    show(
        table("", "topic", "what", "what to do"),
        (
            (Text(one.kind, _CHANGE[one.kind]), one.topic, one.detail, one.mend)
            for one in plan.changes
        ),
    )
    if plan.refused:
        remark(f"{len(plan.refused)} refused: nothing is changed until these are mended")
        return FAILED
    if what == "apply":
        done(f"{len(plan.work)} topics created or changed, {len(plan.changes)} in all")
    elif plan.work:
        remark(f"{len(plan.work)} topics would be created or changed: `realname topics apply`")
    else:
        done(f"all {len(plan.changes)} topics are as they should be")
    return 0
