"""`send`: commands, checked one and all before any is sent, then sent in order.

The commands of one person go one after another, each when the one before is acknowledged: so they
are decided in the order of the input, whatever their topics. Different persons go side by side.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

from aiokafka import AIOKafkaProducer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.text import Text

from cli.answers import Answer, Answers, Origin, awaiting
from cli.completing import Outgoing, Unfit, complete
from cli.console import FAINT, done, err, line, out, plain, remark
from cli.context import Deployment
from cli.errors import ANSWERED_NO, WRONG, Trouble, some
from cli.producing import acknowledged, producing
from cli.showing import letter_line, outcome_line
from deployment.topics import verify
from schemas.limits import CLI_CHAINS_MAX, CLI_GAP_MS, SECOND_MS


class Receipt(NamedTuple):
    """A command and the record it became."""

    command: Outgoing
    origin: Origin


def checked(
    deployment: Deployment, documents: Iterable[tuple[int, object]], origin: str
) -> list[Outgoing]:
    """All documents as commands. Raises Trouble that names every line that is none."""
    now = datetime.now().astimezone()
    commands, problems = [], []
    for number, document in documents:
        try:
            commands.append(complete(deployment, document, now))
        except Unfit as error:
            problems.append(f"{origin}:{number}: {error}" if origin else str(error))
    if not (commands or problems):
        raise Trouble(f"there is nothing to send in {origin}", "give it JSON lines", WRONG)
    if problems:
        many = f"; {len(problems)} lines are no commands:" if origin else ": this is no command:"
        raise Trouble(
            f"nothing was sent{many}\n{some(problems)}",
            "mend them; `realname send --help` has examples",
            WRONG,
        )
    return commands


def show_commands(commands: Sequence[Outgoing]) -> None:
    """The envelopes as JSON lines: to keep, and to send later under the same ids."""
    for one in commands:
        out.file.write(one.value.decode() + "\n")


async def send(
    deployment: Deployment,
    commands: Sequence[Outgoing],
    *,
    wait_ms: int | None,
    one_by_one: bool = False,
) -> int:
    """Send, tell, and with `wait_ms` wait for the outcomes; returns the exit code.

    `one_by_one` sends each only after the outcome of the one before. When something fails on the
    way, what was not acknowledged is kept in a file, to be sent again under the same ids.
    """
    # A topic with another number of partitions would get every command on a wrong one.
    await verify(deployment.brokers, deployment.catalog, options=deployment.options)
    receipts: dict[int, Receipt] = {}
    try:
        async with producing(deployment) as producer:
            if wait_ms is None:
                await _send_all(producer, deployment, commands, receipts)
                for _, receipt in sorted(receipts.items()):
                    _show_receipt(receipt)
                done(f"{len(commands)} sent")
                return 0
            async with awaiting(deployment, commands, wait_ms) as answers:
                return await _send_and_wait(
                    producer, deployment, commands, receipts, answers, one_by_one=one_by_one
                )
    finally:
        _keep_unsent([one for at, one in enumerate(commands) if at not in receipts], len(receipts))


async def _send_and_wait(
    producer: AIOKafkaProducer,
    deployment: Deployment,
    commands: Sequence[Outgoing],
    receipts: dict[int, Receipt],
    answers: Answers,
    *,
    one_by_one: bool,
) -> int:
    if not one_by_one:
        await _send_all(producer, deployment, commands, receipts)
    counts: Counter[str] = Counter()
    # On the terminal the lines themselves show how far it is, and a bar would be in their way.
    with _progress(shown=not out.is_terminal) as progress:
        task = progress.add_task("Outcomes", total=len(commands))
        for at, command in enumerate(commands):
            if one_by_one:
                receipts[at] = await _send_one(producer, deployment, command)
            answer = await answers.of(receipts[at].origin)
            counts[answer.status] += 1
            progress.advance(task)
            out.print(_answer_line(command, answer), soft_wrap=True)
    words = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
    done(f"{len(commands)} sent: {words}")
    return ANSWERED_NO if counts["rejected"] or counts["dead_letter"] else 0


async def _send_all(
    producer: AIOKafkaProducer,
    deployment: Deployment,
    commands: Sequence[Outgoing],
    receipts: dict[int, Receipt],
) -> None:
    """Fills `receipts` by the command's place; raises what went wrong first."""
    chains: dict[bytes, list[int]] = {}
    for at, command in enumerate(commands):
        chains.setdefault(command.key, []).append(at)
    waiting = iter(chains.values())
    with _progress() as progress:
        task = progress.add_task("Sending", total=len(commands))

        async def work() -> None:
            for chain in waiting:
                topic = None
                for at in chain:
                    if topic not in (None, commands[at].topic):
                        await asyncio.sleep(CLI_GAP_MS / SECOND_MS)
                    topic = commands[at].topic
                    receipts[at] = await _send_one(producer, deployment, commands[at])
                    progress.advance(task)

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(CLI_CHAINS_MAX, len(chains))):
                    group.create_task(work())
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None


async def _send_one(
    producer: AIOKafkaProducer, deployment: Deployment, command: Outgoing
) -> Receipt:
    wire = deployment.catalog.topics[command.topic].wire
    sent = await acknowledged(
        await producer.send(wire, value=command.value, key=command.key, partition=command.partition)
    )
    return Receipt(command, Origin(wire, sent.partition, sent.offset))


def _keep_unsent(commands: Sequence[Outgoing], sent: int) -> None:
    """Write what was not acknowledged to a file; nothing when there is nothing."""
    if not commands:
        return
    descriptor, name = tempfile.mkstemp(prefix="realname-unsent-", suffix=".jsonl", dir=".")
    with os.fdopen(descriptor, "wb") as file:
        file.writelines(one.value + b"\n" for one in commands)
    remark(
        f"{sent} were sent; the other {len(commands)} were not acknowledged and may or may not "
        f"have arrived: `realname send --file {os.path.basename(name)}` sends them again under the "
        "same ids, which count once"
    )


def _progress(*, shown: bool = True) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        console=err,
        transient=True,
        # Answers go to standard output also while a bar is shown.
        redirect_stdout=False,
        disable=not (shown and err.is_terminal),
    )


def _show_receipt(receipt: Receipt) -> None:
    origin, command = receipt.origin, receipt.command.command
    line(
        f"{command.type:21} {command.subject} ",
        (f"{plain(command.id)} {origin.topic}/{origin.partition}/{origin.offset}", FAINT),
    )


def _answer_line(command: Outgoing, answer: Answer) -> Text:
    if answer.status == "dead_letter":
        return letter_line(answer.at_ms, answer.body)
    return outcome_line(answer.at_ms, command.command.subject, answer.body)
