"""`realname`: every command with its options and help. What a command does is in its module.

The modules are imported when their command runs, so that help and mistakes answer at once.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Coroutine
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from cli.check import check
from cli.errors import INTERRUPTED, report

ON_THIS_MACHINE = "On this machine"
RUN = "Run a deployment"
TELL = "Tell it something"
LOOK = "Look and mend"


class Commands(TyperGroup):
    """The root of all commands, where every error ends as two lines."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command; only `--debug` lets a traceback through."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None
        except Exception as error:
            # Typer's own, a usage error or an exit, are its to show; and it ends in silence when
            # whoever reads our output has seen enough.
            ours = type(error).__module__.partition(".")[0] != "typer"
            if ctx.params.get("debug") or not ours or isinstance(error, BrokenPipeError):
                raise
            raise typer.Exit(report(error)) from None


app = typer.Typer(
    name="realname",
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
topics_app = typer.Typer(no_args_is_help=True, help="Topics: what differs, and making it so.")
reference_app = typer.Typer(no_args_is_help=True, help="Employers and sites: put, remove, list.")
code_app = typer.Typer(no_args_is_help=True, help="Codes to scan: show and verify.")
letters_app = typer.Typer(no_args_is_help=True, help="Dead letters: list, show, replay.")
app.add_typer(topics_app, name="topics", rich_help_panel=RUN)
app.add_typer(reference_app, name="reference", rich_help_panel=TELL)
app.add_typer(code_app, name="code", rich_help_panel=TELL)
app.add_typer(letters_app, name="dead-letters", rich_help_panel=LOOK)


# --- options that several commands have ----------------------------------------------------------


def _duration(text: str) -> int:
    """Milliseconds of such as `90s`, `5m`, `2h`, `1d`."""
    from schemas.limits import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS

    units = {"s": SECOND_MS, "m": MINUTE_MS, "h": HOUR_MS, "d": DAY_MS}
    if not text[:-1].isdecimal() or text[-1] not in units:
        raise typer.BadParameter("write a number and s, m, h or d, such as 5m")
    return int(text[:-1]) * units[text[-1]]


PersonOption = Annotated[
    str | None, typer.Option("--person", metavar="ID", help="A person id, 32 hex characters.")
]
IdNumberOption = Annotated[
    str | None,
    typer.Option(
        "--id-number",
        metavar="NUMBER",
        help="The ID number instead; `-` asks for it, so that it stays out of the shell's history.",
    ),
]
SinceOption = Annotated[
    int | None,
    typer.Option(
        "--since", parser=_duration, metavar="5m", help="So far back: a number and s, m, h or d."
    ),
]
AtOption = Annotated[
    str | None, typer.Option("--at", metavar="TIME", help="At this RFC 3339 time instead of now.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON lines instead of text.")]
WaitOption = Annotated[
    bool, typer.Option("--wait", help="Wait for the outcomes and print them; exit 3 if any is no.")
]
WaitForOption = Annotated[
    int | None,
    typer.Option(
        "--timeout",
        parser=_duration,
        metavar="30s",
        help="With --wait: how long no outcome may come.",
    ),
]
MetricsPortOption = Annotated[
    int | None,
    typer.Option(
        min=1, max=65_535, help="Where /metrics and /health are, before the setting of that name."
    ),
]


class Source(StrEnum):
    """Reference topics that an administration writes."""

    EMPLOYERS = "employers"
    SITES = "sites"


class Reference(StrEnum):
    """Reference topics."""

    EMPLOYERS = "employers"
    SITES = "sites"
    STAFF = "staff"


def _run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run to the end; an exit code that comes back is the process's."""
    code = asyncio.run(coroutine)
    if code:
        raise typer.Exit(code)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(version("realname"))
        raise typer.Exit


@app.callback()
def root(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks and clients' logs.")] = (
        False
    ),
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version and end.", is_eager=True, callback=_version
        ),
    ] = False,
) -> None:
    """Real-name management of construction workers on Apache Kafka.

    Settings come from REALNAME_ variables and realname.toml (docs/settings.md). Where no brokers
    and no database are set, the embedded ones are meant, which `realname up` starts.

    Exit codes: 1 it did not work, 2 what was asked or set is wrong, 3 the answer is no.

    Example:

        realname up && eval "$(realname env)"
        realname demo
    """
    if not debug:
        # What a client logs while it tries again is not for people; the error at the end is.
        logging.getLogger("aiokafka").setLevel(logging.CRITICAL + 1)


# --- on this machine -----------------------------------------------------------------------------


@app.command(rich_help_panel=ON_THIS_MACHINE)
def up() -> None:
    """Start the embedded broker and database.

    Makes the secrets once, creates topics and tables, and prints the variables that other
    programs need. What runs already is left alone; data stays in the home folder (REALNAME_HOME).
    The first start fetches the broker's program.

    Example:

        realname up
        eval "$(realname env)"
    """
    from cli.servers import up

    up()


@app.command(rich_help_panel=ON_THIS_MACHINE)
def down(
    wipe: Annotated[
        bool, typer.Option("--wipe", help="Delete data and secrets too; asks first.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Stop the embedded broker and database. Data is kept.

    Example:

        realname down
        realname down --wipe
    """
    from cli.servers import down, home

    if wipe and not yes:
        typer.confirm(
            f"Delete every record, table and secret in {home()}? "
            "Without its secrets, no person id can be made again.",
            abort=True,
        )
    down(wipe=wipe)


@app.command(rich_help_panel=ON_THIS_MACHINE)
def env() -> None:
    """Print the variables of this deployment, for a shell to take.

    These have the secrets in them: what is printed lets its reader act for the deployment.

    Example:

        eval "$(realname env)"
    """
    from cli.context import load_deployment
    from cli.servers import show_environment

    show_environment(load_deployment())


@app.command(rich_help_panel=ON_THIS_MACHINE)
def status() -> None:
    """Say what runs, whether the topics are right, and how far behind the work is.

    Exits with 0 when nothing is wrong, also when nothing runs that decides.

    Example:

        realname status
    """
    from cli.context import load_deployment
    from cli.statuses import status

    _run(status(load_deployment()))


@app.command(rich_help_panel=ON_THIS_MACHINE)
def demo(
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave everything running, to look around.")
    ] = False,
    kill: Annotated[
        bool, typer.Option("--kill", help="Kill a worker in the middle of it.")
    ] = False,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Rebuild the tables at the end, and compare.")
    ] = False,
) -> None:
    """Play a whole project and check what comes out.

    Starts a broker, a database, workers and a projector of its own, plays three employers, two
    sites and hundreds of persons on the topics, and compares outcomes and tables with the rules.

    Example:

        realname demo
        realname demo --keep
    """
    from cli.context import load_deployment
    from demo.play import run  # type: ignore[import-untyped,unused-ignore]

    _end(run(load_deployment().settings, keep, kill=kill, rebuild=rebuild))


# --- run a deployment ----------------------------------------------------------------------------


Replication = Annotated[
    int | None,
    typer.Option(
        min=1, help="Copies of each topic, for clusters with fewer brokers. The embedded one: 1."
    ),
]
LowerRetention = Annotated[
    bool, typer.Option("--allow-lower-retention", help="Let records be deleted earlier than now.")
]


@topics_app.command("plan")
def topics_plan(
    replication: Replication = None, allow_lower_retention: LowerRetention = False
) -> None:
    """Show what differs between topics.yaml and the brokers. Changes nothing.

    Example:

        realname topics plan
    """
    _topics("plan", replication, allow_lower_retention)


@topics_app.command("apply")
def topics_apply(
    replication: Replication = None, allow_lower_retention: LowerRetention = False
) -> None:
    """Create and change topics as topics.yaml says.

    Refuses, changing nothing, what would move or lose a person's history.

    Example:

        realname topics apply
        realname topics apply --replication 1
    """
    _topics("apply", replication, allow_lower_retention)


def _topics(
    what: Literal["plan", "apply"], replication: int | None, allow_lower_retention: bool
) -> None:
    from cli.context import load_deployment
    from cli.running import bring_topics

    _run(
        bring_topics(
            load_deployment(),
            what,
            replication=replication,
            allow_lower_retention=allow_lower_retention,
        )
    )


@app.command(rich_help_panel=RUN)
def worker(metrics_port: MetricsPortOption = None) -> None:
    """Decide commands, in the foreground, until SIGTERM or Ctrl-C.

    Start as many as there are machines: they share the partitions. A stop ends what is in hand.

    Example:

        realname worker
        realname worker --metrics-port 6076
    """
    from cli.context import load_deployment
    from cli.running import worker

    worker(load_deployment(), metrics_port)


@app.command(rich_help_panel=RUN)
def projector(metrics_port: MetricsPortOption = None) -> None:
    """Write the tables, in the foreground, until SIGTERM or Ctrl-C.

    One is at work at a time; a second one stands by and takes over.

    Example:

        realname projector
    """
    from cli.context import load_deployment
    from cli.running import projector

    projector(load_deployment(), metrics_port)


@app.command(rich_help_panel=RUN)
def migrate() -> None:
    """Bring the database to this program's tables. Safe to run at any time.

    Example:

        realname migrate
    """
    from cli.context import load_deployment
    from cli.running import migrate

    _run(migrate(load_deployment()))


@app.command(rich_help_panel=RUN)
def rebuild() -> None:
    """Make all tables anew from the topics.

    Readers see tables that fill up again. Safe to interrupt: any projector completes it.

    Example:

        realname rebuild
    """
    from cli.context import load_deployment
    from cli.running import rebuild

    _run(rebuild(load_deployment()))


# --- tell it something ---------------------------------------------------------------------------


@app.command(rich_help_panel=TELL)
def send(
    command_type: Annotated[
        str | None, typer.Argument(metavar="TYPE", help="Such as hire.offer; none with --file.")
    ] = None,
    person: PersonOption = None,
    id_number: IdNumberOption = None,
    name: Annotated[
        str | None, typer.Option(help="The person's name, which becomes data.name_tag.")
    ] = None,
    employer: Annotated[
        str | None, typer.Option(metavar="USCC", help="Short for --data employer=USCC.")
    ] = None,
    site: Annotated[
        str | None, typer.Option(metavar="SITE", help="Short for --data site=SITE.")
    ] = None,
    data: Annotated[
        list[str] | None, typer.Option(metavar="K=V", help="A field of data; as often as needed.")
    ] = None,
    by: Annotated[
        str | None, typer.Option(metavar="ID", help="The staff of the site who acts: a person id.")
    ] = None,
    source: Annotated[
        str | None, typer.Option(help="Who acts, where the type leaves it open.")
    ] = None,
    command_id: Annotated[
        str | None, typer.Option("--id", help="The command's id; without, a new one is made.")
    ] = None,
    at: Annotated[
        str | None, typer.Option("--time", metavar="TIME", help="When it happened; without, now.")
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option("--file", "-f", help="JSON lines, an array or one object; - is stdin."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the whole envelopes instead of sending them.")
    ] = False,
    wait: WaitOption = False,
    timeout_ms: WaitForOption = None,
    one_by_one: Annotated[
        bool,
        typer.Option("--one-by-one", help="With --wait: send each after the former's outcome."),
    ] = False,
) -> None:
    """Send commands: one from options, or many from a file.

    Everything is checked first, by the very forms a worker reads with; when one line is wrong
    nothing is sent. In a file, whole envelopes go as they are; a shorthand object is completed:

        {"type": "hire.offer", "id_number": "...", "name": "...", "data": {"employer": "..."}}

    It may have `subject` instead of `id_number`, and `details` (sealed into an identity.upload),
    `by`, `source`, `id`, `time`. Commands of one person arrive in the order of the file.

    Example:

        realname send hire.offer --id-number - --name 张三 --employer 91350100M000100Y43 --wait
        realname send hire.confirm --person ID --data offer=OFFER
        realname send assignment.approve --person ID --site S1 --data assignment=A --by ID
        realname send --file commands.jsonl --wait
    """
    from cli.context import load_deployment
    from cli.input import contents, documents
    from cli.people import asked
    from cli.sending import checked, send, show_commands
    from schemas.limits import CLI_ANSWER_MS_MAX

    deployment = load_deployment()
    given = {"type": command_type, "subject": person, "id_number": asked(id_number), "name": name}
    given |= {"by": by, "source": source, "id": command_id, "time": at}
    short = {key: value for key, value in given.items() if value is not None}
    fields = _fields(data or [], employer=employer, site=site)
    if file is not None or not (short or fields):
        if short or fields:
            raise typer.BadParameter("--file goes without TYPE and the options of one command")
        if file is None and sys.stdin.isatty():
            raise typer.BadParameter("give a TYPE, or --file")
        origin = "stdin" if file is None or str(file) == "-" else str(file)
        commands = checked(deployment, documents(contents(file or Path("-")), origin), origin)
    else:
        commands = checked(deployment, [(1, {**short, "data": fields})], "")
    if dry_run:
        show_commands(commands)
        return
    wait_ms = (timeout_ms or CLI_ANSWER_MS_MAX) if wait or one_by_one else None
    _run(send(deployment, commands, wait_ms=wait_ms, one_by_one=one_by_one))


def _fields(data: list[str], **short: str | None) -> dict[str, str | bool]:
    fields: dict[str, str | bool] = {key: value for key, value in short.items() if value}
    for one in data:
        key, equals, value = one.partition("=")
        if not equals or not key:
            raise typer.BadParameter("--data takes K=V")
        fields[key] = value
    # The one field of all commands that is no text.
    notice = fields.get("notice_accepted")
    if notice in ("true", "false"):
        fields["notice_accepted"] = notice == "true"
    return fields


@app.command("id", rich_help_panel=TELL)
def id_(
    id_number: IdNumberOption = None,
    name: Annotated[str | None, typer.Option(help="A name, whose tag is printed instead.")] = None,
) -> None:
    """Print the person id of an ID number, or the tag of a name, in this deployment.

    Example:

        realname id --id-number -
        realname id --name 张三
    """
    from cli.console import line
    from cli.context import load_deployment
    from cli.people import asked, tag_of

    deployment = load_deployment()
    if name is not None and id_number is None:
        line(tag_of(deployment.person_secret, name))
    else:
        line(deployment.subject(None, asked(id_number)))


@reference_app.command("put")
def reference_put(
    topic: Annotated[Source, typer.Argument(help="What the records are.")],
    file: Annotated[Path, typer.Argument(help="JSON lines, an array or one object; - is stdin.")],
) -> None:
    """Write employers or sites. Each record replaces the one of its key.

    Checked first: when one is unreadable nothing is written.

    Example:

        echo '{"uscc": "91350100M000100Y43", "name": "一建", "status": "active"}' \\
          | realname reference put employers -
        echo '{"site": "S1", "name": "浦东一号", "status": "active", "participants":
          [{"employer": "91350100M000100Y43", "type": "general_contractor"}]}' \\
          | realname reference put sites -
    """
    from cli.context import load_deployment
    from cli.input import contents
    from cli.reference import put

    text = contents(file)
    origin = "stdin" if str(file) == "-" else str(file)
    _run(put(load_deployment(), topic.value, text, origin=origin))


@reference_app.command("remove")
def reference_remove(
    topic: Annotated[Source, typer.Argument(help="What the records are.")],
    keys: Annotated[list[str], typer.Argument(metavar="KEY", help="Credit codes or site ids.")],
) -> None:
    """Remove employers or sites. Prefer their status: a removed one is unknown to the rules.

    Example:

        realname reference remove sites S1
    """
    from cli.context import load_deployment
    from cli.reference import remove

    _run(remove(load_deployment(), topic.value, keys))


@reference_app.command("list")
def reference_list(
    topic: Annotated[Reference | None, typer.Argument(help="One of them; else all.")] = None,
    bad: Annotated[
        bool, typer.Option("--bad", help="The records that cannot be read, and why.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show the reference records in force, or those that are ignored.

    An unreadable record is ignored by all workers; the last good one of its key stays in force.

    Example:

        realname reference list
        realname reference list sites --json
        realname reference list --bad
    """
    from cli.context import load_deployment
    from cli.reference import list_

    _run(list_(load_deployment(), topic.value if topic else None, bad=bad, as_json=as_json))


@code_app.command("show")
def code_show(
    person: PersonOption = None,
    id_number: IdNumberOption = None,
    site: Annotated[str | None, typer.Option(metavar="SITE", help="The site's code.")] = None,
    at: AtOption = None,
    png: Annotated[Path | None, typer.Option(help="Draw into this file.")] = None,
    svg: Annotated[Path | None, typer.Option(help="Draw into this file.")] = None,
    text: Annotated[bool, typer.Option("--text", help="Only the code's text.")] = False,
) -> None:
    """Issue a personal or a site code and draw it.

    Example:

        realname code show --person ID
        realname code show --site S1 --png gate.png
        realname send scan.entry --person ID --site S1 --data scanner=PM --by PM \\
          --data code=$(realname code show --person ID --text)
    """
    from cli.coding import show
    from cli.context import load_deployment
    from cli.people import asked

    deployment = load_deployment()
    subject = None
    if site is None:
        subject = deployment.subject(person, asked(id_number))
    elif person is not None or id_number is not None:
        raise typer.BadParameter("a code is a person's or a site's, not both")
    files = [_with_suffix(file, suffix) for file, suffix in ((png, ".png"), (svg, ".svg")) if file]
    show(deployment, person=subject, site=site, at=at, files=files, text_only=text)


def _with_suffix(file: Path, suffix: str) -> Path:
    if file.suffix.lower() != suffix:
        raise typer.BadParameter(f"the file's name must end in {suffix}")
    return file


@code_app.command("verify")
def code_verify(
    text: Annotated[str, typer.Argument(help="The text of a code, RN:...")], at: AtOption = None
) -> None:
    """Say what a code is and whether a scan would accept it. Exit 3 when not.

    Example:

        realname code verify RN:AEAQ...
        realname code verify RN:AEAQ... --at 2026-11-23T08:00:00+08:00
    """
    from cli.coding import verify
    from cli.context import load_deployment

    _end(verify(load_deployment(), text, at))


# --- look and mend -------------------------------------------------------------------------------


@app.command(rich_help_panel=LOOK)
def watch(
    person: PersonOption = None,
    id_number: IdNumberOption = None,
    rejected: Annotated[
        bool, typer.Option("--rejected", help="Only rejections and dead letters.")
    ] = False,
    since_ms: SinceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Follow outcomes, state changes and dead letters as they happen.

    Example:

        realname watch
        realname watch --rejected --since 1h
        realname watch --person ID --since 7d
    """
    from cli.context import load_deployment
    from cli.people import asked
    from cli.watching import watch

    deployment = load_deployment()
    subject = None
    if person is not None or id_number is not None:
        subject = deployment.subject(person, asked(id_number))
    _run(watch(deployment, person=subject, rejected=rejected, since_ms=since_ms, as_json=as_json))


@app.command(rich_help_panel=LOOK)
def person(
    person: Annotated[str | None, typer.Argument(metavar="ID", help="A person id.")] = None,
    id_number: IdNumberOption = None,
    site: Annotated[
        str | None,
        typer.Option(metavar="SITE", help="Judge an entry here; else where he is assigned."),
    ] = None,
    scanner: Annotated[
        str | None, typer.Option(metavar="ID", help="Judge a scan by this person.")
    ] = None,
    code: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Judge this personal code too.")
    ] = None,
    at: AtOption = None,
) -> None:
    """Show what is known of a person, and why he may or may not enter a site.

    Every guard of the entry is judged, not only the first that fails, with who can mend it and
    how. Reads the person's partition of the state: the more persons, the longer it takes.

    Example:

        realname person ID --site S1
        realname person --id-number -
    """
    from cli.context import load_deployment
    from cli.people import asked
    from cli.seeing import see

    deployment = load_deployment()
    subject = deployment.subject(person, asked(id_number))
    _run(see(deployment, subject, site=site, scanner=scanner, code=code, at=at))


CodeFilter = Annotated[
    str | None,
    typer.Option("--code", metavar="CLASS", help="Only this class, such as wrong_topic."),
]
TopicFilter = Annotated[
    str | None, typer.Option("--topic", metavar="TOPIC", help="Only from this command topic.")
]


@letters_app.command("list")
def letters_list(
    code: CodeFilter = None,
    topic: TopicFilter = None,
    person: PersonOption = None,
    since_ms: SinceOption = None,
    limit: Annotated[
        int, typer.Option(min=0, help="How many of the latest to show one by one.")
    ] = 20,
    as_json: JsonOption = False,
) -> None:
    """Count dead letters by class and show the latest.

    Example:

        realname dead-letters list
        realname dead-letters list --code wrong_topic --since 1d
    """
    from cli.context import load_deployment
    from cli.letters import list_, read_letters

    async def run() -> None:
        letters = await read_letters(
            load_deployment(), code=code, topic=topic, person=person, since_ms=since_ms
        )
        list_(letters, limit=limit, as_json=as_json)

    _run(run())


@letters_app.command("show")
def letters_show(
    origin: Annotated[str, typer.Argument(help="topic/partition/offset of the record.")],
) -> None:
    """Show one dead letter with what the record held. That may be personal data.

    Example:

        realname dead-letters show hire-requests/3/17
    """
    from cli.context import load_deployment
    from cli.letters import origin_of, show_one

    _run(show_one(load_deployment(), origin_of(origin)))


@letters_app.command("replay")
def letters_replay(
    code: Annotated[str, typer.Argument(metavar="CLASS", help="Such as wrong_partition.")],
    topic: TopicFilter = None,
    person: PersonOption = None,
    since_ms: SinceOption = None,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Do it; without, it only shows what it would do.")
    ] = False,
    wait: WaitOption = False,
    timeout_ms: WaitForOption = None,
) -> None:
    """Send the records of one class again, where they belong, if they can be commands now.

    The very bytes go to the topic of their type and the partition of their subject. A command that
    was decided already is answered `duplicate`, so a replay may be repeated.

    Example:

        realname dead-letters replay wrong_partition
        realname dead-letters replay wrong_partition --yes --wait
    """
    from cli.context import load_deployment
    from cli.letters import replay
    from schemas.limits import CLI_ANSWER_MS_MAX

    _run(
        replay(
            load_deployment(),
            code,
            since_ms=since_ms,
            topic=topic,
            person=person,
            really=yes,
            wait_ms=(timeout_ms or CLI_ANSWER_MS_MAX) if wait else None,
        )
    )


app.command(rich_help_panel=LOOK)(check)


def _end(code: int) -> None:
    if code:
        raise typer.Exit(code)


def main() -> None:
    """The entry point `realname`."""
    app()


if __name__ == "__main__":
    main()
