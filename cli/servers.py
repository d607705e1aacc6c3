"""`up`, `down`, `env`: the embedded broker and database of one home."""

from __future__ import annotations

import asyncio
import shlex
import shutil
from pathlib import Path

from cli.console import done, err, line, remark, working
from cli.context import Deployment, load_deployment
from cli.database import address, connected
from cli.errors import Trouble
from deployment.secrets import FILE, ensure_secrets
from deployment.settings import PREFIX, load_settings
from deployment.topics import apply
from local.broker import Broker
from local.database import Database
from projector.migrate import migrate


def up() -> None:
    """Start what is embedded, make secrets, topics and tables; idempotent.

    Raises Trouble, BrokerError, ArtifactError, DatabaseError and what topics and tables raise.
    """
    before = load_deployment()
    settings = before.settings
    if before.own_broker:
        ensure_secrets(settings.home)
        done("secrets", _short(settings.home / FILE))
        broker = Broker(settings.home)
        ran = broker.pid is not None
        with working("Starting the broker; the first time its program is fetched …"):
            broker.start()
        done("broker", broker.bootstrap, _since(ran), f"log {_short(broker.log)}")
    if before.own_database:
        database = Database(settings.home)
        ran = database.pid is not None
        with working("Starting the database …"):
            database.start()
        done("database", address(database.uri), _since(ran), f"log {_short(database.log)}")
    deployment = load_deployment()
    asyncio.run(_prepare(deployment))
    err.print()
    show_environment(deployment)
    if err.is_terminal:
        err.print("\nNext: `realname worker` and `realname projector`, each in a terminal.")


async def _prepare(deployment: Deployment) -> None:
    with working("Creating the topics …"):
        plan = await apply(
            deployment.brokers,
            deployment.catalog,
            deployment.replication,
            options=deployment.options,
        )
    if plan.refused:
        raise Trouble(
            "; ".join(f"{one.topic}: {one.detail}" for one in plan.refused),
            plan.refused[0].mend or "see `realname topics plan`",
        )
    done("topics", f"{len(plan.changes)}, {len(plan.work)} of them new or changed now")
    with working("Creating the tables …"):
        async with connected(deployment) as connection:
            applied = await migrate(connection)
    done("tables", f"{len(applied)} migrations applied now")


def environment(deployment: Deployment) -> dict[str, str]:
    """What clients and other processes need to be told of this deployment, by variable.

    Raises Trouble when something embedded does not run.
    """
    settings = deployment.settings
    values = {
        "brokers": deployment.brokers,
        "database": deployment.database,
        "person_secret": _hex(settings.person_secret),
        "code_keys": ",".join(
            f"{number}:{key.hex()}" for number, key in (settings.code_keys or {}).items()
        ),
        "sealing_key": _hex(settings.sealing_key),
        "topic_prefix": settings.topic_prefix,
        "partitions": str(settings.partitions or ""),
        "home": str(settings.home.resolve()),
    }
    return {PREFIX + name.upper(): value for name, value in values.items() if value}


def show_environment(deployment: Deployment) -> None:
    """The lines for a shell's `eval`."""
    for name, value in environment(deployment).items():
        line(f"export {name}={shlex.quote(value)}")


def down(*, wipe: bool) -> None:
    """Stop what is embedded; with `wipe` delete its data and secrets too."""
    path = home()
    for name, server in (("broker", Broker(path)), ("database", Database(path))):
        if server.pid is None:
            remark(f"the {name} did not run")
            continue
        with working(f"Stopping the {name} …"):
            server.stop()
        done(f"{name} stopped")
    if wipe:
        # Only what `up` made: the home may be a directory that has other things as well.
        for directory in ("broker", "database"):
            shutil.rmtree(path / directory, ignore_errors=True)
        (path / FILE).unlink(missing_ok=True)
        if path.exists() and not any(path.iterdir()):
            path.rmdir()
        done(f"{_short(path)} wiped")


def home() -> Path:
    """The home; its secrets are not touched, so that a damaged one can be left."""
    return load_settings().home


def _since(ran: bool) -> str:
    return "ran already" if ran else "started"


def _short(path: Path) -> str:
    path = path.resolve()
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def _hex(secret: bytes | None) -> str:
    return "" if secret is None else secret.hex()
