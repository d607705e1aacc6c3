"""The one place where an error becomes two lines: what is wrong, and what to do.

Exit codes: 1 it did not work, 2 what was asked or set is wrong, 3 it worked and the answer is no
(a rejected command, a code that is not accepted), 130 interrupted.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from schemas.limits import CLI_PROBLEMS_SHOWN_MAX

FAILED: Final = 1
WRONG: Final = 2
ANSWERED_NO: Final = 3
INTERRUPTED: Final = 130


class Trouble(Exception):
    """What is wrong (`str()` of it), what to do about it, and the exit code."""

    def __init__(self, what: str, mend: str, code: int = FAILED) -> None:
        super().__init__(what)
        self.mend = mend
        self.code = code


class _Known(NamedTuple):
    mend: str
    code: int = FAILED
    before: str = ""
    """Goes before the error's own words, where these alone do not say what is wrong."""


_BROKER_AWAY: Final = _Known(
    "check REALNAME_BROKERS and that the brokers run; `realname status` tells, `realname up` "
    "starts an embedded one",
    before="no broker answers: ",
)
_DATABASE_AWAY: Final = _Known(
    "check REALNAME_DATABASE and that the database runs; `realname status` tells, `realname up` "
    "starts an embedded one",
    before="the database does not answer: ",
)
_SEE_LOG: Final = _Known(
    "see the log above; `realname down` and then `realname up` begins again, data is kept"
)
_LEAVE: Final = _Known("mend what it says, then start it again; nothing was lost or skipped")

# By name: an error whose module was never imported did not happen, and importing them all here
# would make every command slow.
_KNOWN: Final[dict[str, _Known]] = {
    "deployment.settings.SettingsError": _Known(
        "docs/settings.md has every setting, with an example", WRONG
    ),
    "deployment.secrets.SecretsError": _Known("mend the file as it says; it is never made anew"),
    "deployment.catalog.CatalogError": _Known("mend topics.yaml, or REALNAME_TOPIC_PREFIX", WRONG),
    "deployment.topics.BrokersUnavailable": _BROKER_AWAY,
    "deployment.topics.TopicsUnfit": _Known("`realname topics plan` shows what differs"),
    "deployment.topics.TopicsError": _Known("`realname topics plan` shows what differs"),
    "aiokafka.errors.KafkaConnectionError": _BROKER_AWAY,
    "aiokafka.errors.NodeNotReadyError": _BROKER_AWAY,
    "aiokafka.errors.KafkaTimeoutError": _BROKER_AWAY,
    "aiokafka.errors.RequestTimedOutError": _BROKER_AWAY,
    "aiokafka.errors.UnknownTopicOrPartitionError": _Known(
        "run `realname topics apply`", before="a topic is missing: "
    ),
    "aiokafka.errors.AuthenticationFailedError": _Known(
        "check the REALNAME_KAFKA_ settings", WRONG, before="the brokers do not let us in: "
    ),
    "aiokafka.errors.KafkaError": _Known(
        "look at the broker's log; `realname --debug ...` shows where it happened",
        before="the broker answers with an error: ",
    ),
    "asyncpg.exceptions.UndefinedTableError": _Known(
        "run `realname migrate`", before="the tables are not there: "
    ),
    "asyncpg.exceptions.InvalidPasswordError": _Known(
        "check REALNAME_DATABASE", WRONG, before="the database does not let us in: "
    ),
    "asyncpg.exceptions.InvalidCatalogNameError": _Known(
        "create it, or check REALNAME_DATABASE", WRONG
    ),
    "asyncpg.exceptions.PostgresConnectionError": _DATABASE_AWAY,
    "asyncpg.exceptions.CannotConnectNowError": _DATABASE_AWAY,
    "asyncpg.exceptions.PostgresError": _Known(
        "look at the database's log; `realname --debug ...` shows where it happened",
        before="the database answers with an error: ",
    ),
    "asyncpg.exceptions._base.InterfaceError": _DATABASE_AWAY,
    "projector.migrate.MigrationRefused": _Known(
        "run the program that made these tables, or begin with a new database"
    ),
    "projector.main.ProjectorStopped": _LEAVE,
    "local.broker.BrokerError": _SEE_LOG,
    "local.database.DatabaseError": _SEE_LOG,
    "local.artifacts.ArtifactError": _Known(
        "check the way to Maven Central (or its mirror), then run `realname up` again",
        before="the broker's program could not be had: ",
    ),
    "builtins.FileNotFoundError": _Known("name a file that is there, or - for standard input", 2),
    "builtins.PermissionError": _Known("mend the rights of the file, or choose another", 2),
    "builtins.IsADirectoryError": _Known("name a file, not a directory", 2),
    "builtins.ConnectionError": _Known(
        "`realname status` tells what runs", before="nobody listens there: "
    ),
    "builtins.TimeoutError": _Known("`realname status` tells what runs", before="no answer: "),
}


def trouble_of(error: Exception) -> Trouble | None:
    """The two lines of a known error; None for one that nobody expected."""
    if isinstance(error, Trouble):
        return error
    for kind in type(error).__mro__:
        known = _KNOWN.get(f"{kind.__module__}.{kind.__qualname__}")
        if known is not None:
            return Trouble(known.before + _words(error), known.mend, known.code)
    return None


def some(problems: Sequence[str]) -> str:
    """The first of many problems, a line each, and how many more there are."""
    more = len(problems) - CLI_PROBLEMS_SHOWN_MAX
    lines = [*problems[:CLI_PROBLEMS_SHOWN_MAX], *([f"… and {more} more"] if more > 0 else [])]
    return "\n".join(lines)


_ADDRESS: Final = r"\('([^']+)', (\d+)"
"""How the Kafka client writes down where it tried."""


def _words(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    words = str(error)
    if "Unable to bootstrap" in words:
        return ", ".join(f"{host}:{port}" for host, port in re.findall(_ADDRESS, words))
    if type(error).__module__.startswith("asyncpg"):
        words = words.partition("\n")[0]  # the detail lines quote rows
    return words or type(error).__name__


def report(error: Exception) -> int:
    """Print an error's two lines; returns the exit code."""
    from rich.text import Text

    from cli.console import BAD, FAINT, err

    trouble = trouble_of(error) or Trouble(
        f"unexpected {type(error).__name__}: {error}",
        "this is a defect: run it again as `realname --debug ...` and report what it prints",
    )
    err.print(Text.assemble(("✗ ", f"bold {BAD}"), str(trouble)), soft_wrap=True)
    err.print(Text.assemble(("→ ", FAINT), trouble.mend), soft_wrap=True)
    return trouble.code
