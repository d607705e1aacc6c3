"""Bringing a broker's topics to what the catalog says, without ever moving or losing a record.

`plan` compares, `apply` compares and acts, `show` tells what is there, `verify` is what a worker or
projector asks before it starts. All are safe to run at any time, from several places at once.

What is never done, but refused by name:

    partitions    fewer or more: the key's partition is the person's home
    compaction    turned on or off: it would delete history, or keep what must be forgotten
    retention     lower than the broker has, unless asked for: records would be deleted
    timestamps    away from LogAppendTime on commands: their order is the broker's clock
    durability    fewer in-sync replicas than the broker asks for

A plan with a refusal is not applied at all. Topics that the catalog does not know are left alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, UnknownTopicOrPartitionError

from deployment.catalog import Catalog, Topic
from schemas.limits import TOPICS_APPLY_MS_MAX, TOPICS_POLL_MS, TOPICS_REQUEST_MS_MAX

APPLY: Final = "run `realname topics apply`"

ChangeKind = Literal["create", "alter", "refuse", "keep"]


class TopicsError(Exception):
    """Topics could not be read, changed or relied on; the text says which and why."""


class BrokersUnavailable(TopicsError):
    """No broker answered, or not in time. The one kind of `TopicsError` that may pass by itself."""


class TopicsUnfit(TopicsError):
    """`verify` found topics with which no process may start; `problems` has one line for each."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        self.problems = problems
        super().__init__(
            "\n".join(["the topics are not as they must be:", *map("  {}".format, problems)])
        )


@dataclass(frozen=True, slots=True)
class Standing:
    """A topic as the broker has it. `config` is what is in force, `pinned` the part of it that is
    set on the topic itself rather than inherited from the broker."""

    partitions: int
    replication: int
    config: Mapping[str, str] = field(hash=False)
    pinned: Mapping[str, str] = field(hash=False)


@dataclass(frozen=True, slots=True)
class Change:
    """What a plan says of one topic. `topic` is the wire name; `mend` what an operator can do about
    a refusal or a remark, empty where there is nothing to do."""

    kind: ChangeKind
    topic: str
    detail: str
    mend: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """Every topic of the catalog and what is to be done about it."""

    changes: tuple[Change, ...]

    @property
    def refused(self) -> tuple[Change, ...]:
        """What stands in the way; with any of these nothing is applied."""
        return tuple(change for change in self.changes if change.kind == "refuse")

    @property
    def work(self) -> tuple[Change, ...]:
        """What `apply` does when nothing is refused."""
        return tuple(change for change in self.changes if change.kind in ("create", "alter"))


async def plan(
    brokers: str,
    catalog: Catalog,
    replication: int | None = None,
    *,
    allow_lower_retention: bool = False,
    options: Mapping[str, Any] | None = None,
) -> Plan:
    """What `apply` would do, and refuse.

    `replication` overrules the catalog's, for clusters with fewer brokers; in-sync replicas then
    are as many as the catalog asks, or all but one, or the one. `options` go to the Kafka client
    (`Settings.kafka_options()`). Raises `TopicsError`.
    """
    async with _admin(brokers, options) as admin:
        return _compare(
            catalog, await _standings(admin, catalog), replication, allow_lower_retention
        )


async def apply(
    brokers: str,
    catalog: Catalog,
    replication: int | None = None,
    *,
    allow_lower_retention: bool = False,
    options: Mapping[str, Any] | None = None,
) -> Plan:
    """Create what is missing and set what differs; returns the plan that was carried out.

    A returned plan with `refused` was not carried out. Returns once the brokers show the topics as
    planned. Arguments as for `plan`. Raises `TopicsError`.
    """
    done: dict[str, Change] = {}
    async with _admin(brokers, options) as admin, _deadline(TOPICS_APPLY_MS_MAX, "apply"):
        while True:
            standings = await _standings(admin, catalog)
            current = _compare(catalog, standings, replication, allow_lower_retention)
            if current.refused:
                return current
            if not current.work:
                return Plan(tuple(done.get(one.topic, one) for one in current.changes))
            await _carry_out(admin, catalog, current, standings, replication)
            for change in current.work:
                done.setdefault(change.topic, change)
            await asyncio.sleep(TOPICS_POLL_MS / 1000)


async def show(
    brokers: str, catalog: Catalog, *, options: Mapping[str, Any] | None = None
) -> dict[str, Standing | None]:
    """The catalog's topics as the broker has them, by logical name; None: there is none."""
    async with _admin(brokers, options) as admin:
        standings = await _standings(admin, catalog)
    return {name: standings.get(topic.wire) for name, topic in catalog.topics.items()}


async def verify(
    brokers: str, catalog: Catalog, *, options: Mapping[str, Any] | None = None
) -> None:
    """Raise `TopicsUnfit` unless every topic can be relied on: it is there, has the catalog's
    number of partitions, is compacted exactly if the catalog says so, and commands carry the
    broker's timestamps. `BrokersUnavailable` when that cannot be asked."""
    standings = await show(brokers, catalog, options=options)
    problems: list[str] = []
    for topic in catalog.topics.values():
        standing = standings[topic.name]
        if standing is None:
            problems.append(f"{topic.wire} is missing; {APPLY}")
            continue
        if standing.partitions != topic.partitions:
            problems.append(f"{topic.wire} {'; '.join(_partitions_differ(topic, standing))}")
        problems += (
            f"{topic.wire}: {key} is {standing.config.get(key)}, must be {topic.config[key]}; "
            "run `realname topics plan`"
            for key in ("cleanup.policy", "message.timestamp.type")
            if standing.config.get(key) != topic.config[key]
            and (key == "cleanup.policy" or topic.kind == "command")
        )
    if problems:
        raise TopicsUnfit(tuple(problems))


# --- comparing -----------------------------------------------------------------------------------


def _partitions_differ(topic: Topic, standing: Standing) -> tuple[str, str]:
    """What differs, and what can be done about it."""
    detail = f"has {standing.partitions} partitions, the catalog says {topic.partitions}"
    if topic.kind == "reference":
        return (
            f"{detail}: its records are one order",
            "delete the topic, apply, and write its records again",
        )
    return (
        f"{detail}: a person's partition would move",
        f"set REALNAME_PARTITIONS={standing.partitions}, or begin a new deployment under another "
        "REALNAME_TOPIC_PREFIX",
    )


def _wanted_config(topic: Topic, replication: int) -> dict[str, str]:
    in_sync = min(topic.min_isr, max(1, replication - 1))
    return {**topic.config, "min.insync.replicas": str(in_sync)}


def _compare(
    catalog: Catalog,
    standings: Mapping[str, Standing],
    replication: int | None,
    allow_lower_retention: bool,
) -> Plan:
    changes: list[Change] = []
    for topic in catalog.topics.values():
        standing = standings.get(topic.wire)
        copies = topic.replication if replication is None else replication
        if standing is None:
            detail = f"{topic.partitions} partitions, replication {copies}"
            changes.append(Change("create", topic.wire, detail))
        else:
            changes += _compare_one(topic, standing, copies, allow_lower_retention)
    return Plan(tuple(changes))


def _compare_one(
    topic: Topic, standing: Standing, copies: int, allow_lower_retention: bool
) -> list[Change]:
    refusals: list[Change] = []

    def refuse(detail: str, mend: str) -> None:
        refusals.append(Change("refuse", topic.wire, detail, mend))

    if standing.partitions != topic.partitions:
        refuse(*_partitions_differ(topic, standing))

    # What can be asked of the copies there are, not of those there should be: more in-sync
    # replicas than copies would stop all writing.
    wanted = _wanted_config(topic, min(copies, standing.replication))
    differing: list[str] = []
    for key, value in wanted.items():
        now = standing.config.get(key, "")
        if standing.pinned.get(key) == value:
            continue
        if now and not _same(now, value):
            refusal = _refusal(topic, key, now, value, allow_lower_retention)
            if refusal is not None:
                refuse(*refusal)
        differing.append(f"{key}: {now or 'unset'} -> {value}")
    if refusals:
        return refusals

    mend = ""
    detail = f"{standing.partitions} partitions, replication {standing.replication}"
    if standing.replication != copies:
        detail += f" (wanted: {copies})"
        mend = "move replicas with kafka-reassign-partitions, then apply again"
    if differing:
        return [Change("alter", topic.wire, "; ".join(differing), mend)]
    return [Change("keep", topic.wire, detail, mend)]


def _same(now: str, wanted: str) -> bool:
    """Kafka writes a number back in its own way (0.2, 0.20)."""
    try:
        return float(now) == float(wanted)
    except ValueError:
        return now == wanted


def _refusal(
    topic: Topic, key: str, now: str, wanted: str, allow_lower_retention: bool
) -> tuple[str, str] | None:
    """Why `key` of `topic` may not go from `now` to `wanted`, and what to do; None if it may."""
    if key == "cleanup.policy":
        return (
            f"cleanup.policy is {now}, the catalog says {wanted}: it is not turned on or off",
            "set it by hand after making sure that no record is lost by it",
        )
    if key == "message.timestamp.type" and topic.kind == "command" and now == "LogAppendTime":
        return (
            f"message.timestamp.type would leave LogAppendTime for {wanted}",
            "leave it: the order of commands is the broker's clock",
        )
    if key == "min.insync.replicas" and int(wanted) < int(now):
        return (
            f"min.insync.replicas is {now} and would fall to {wanted}: acknowledged commands could "
            "be lost with one broker",
            "run without a lower replication, or set it by hand",
        )
    how_long = _HOW_LONG_COMPACTED if topic.kind == "reference" else _HOW_LONG
    keeps_less = key in how_long and _forever(now) > _forever(wanted)
    if keeps_less and not allow_lower_retention:
        return (
            f"{key} is {now} and would fall to {wanted}: records would be deleted",
            f"put {now} into topics.yaml, or allow it with --allow-lower-retention",
        )
    return None


_HOW_LONG: Final = frozenset({"retention.ms", "retention.bytes"})
_HOW_LONG_COMPACTED: Final = frozenset({"min.compaction.lag.ms", "delete.retention.ms"})
"""Settings that say how much stays; -1 is without end."""


def _forever(value: str) -> float:
    number = int(value)
    return float("inf") if number < 0 else number


# --- asking and telling the broker ---------------------------------------------------------------


@asynccontextmanager
async def _deadline(milliseconds: int, doing: str) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(milliseconds / 1000):
            yield
    except TimeoutError:
        raise BrokersUnavailable(f"{doing}: not done within {milliseconds} ms") from None


@asynccontextmanager
async def _admin(
    brokers: str, options: Mapping[str, Any] | None
) -> AsyncIterator[AIOKafkaAdminClient]:
    """A started admin client; what goes wrong in its use becomes a `TopicsError`."""
    client = AIOKafkaAdminClient(
        bootstrap_servers=brokers, request_timeout_ms=TOPICS_REQUEST_MS_MAX, **(options or {})
    )
    try:
        await client.start()
        yield client
    except TimeoutError as error:
        raise BrokersUnavailable(f"brokers {brokers}: no answer in time") from error
    except KafkaError as error:
        kind = BrokersUnavailable if error.retriable else TopicsError
        raise kind(f"brokers {brokers}: {error}") from error
    finally:
        await client.close()


async def _standings(admin: AIOKafkaAdminClient, catalog: Catalog) -> dict[str, Standing]:
    """The catalog's topics that exist, by wire name."""
    # All topics are listed: asking for one by name may create it on a broker that is so set.
    there = {
        one["topic"]: one["partitions"]
        for one in await admin.describe_topics()
        if one["topic"] in catalog.by_wire and one["partitions"]
    }
    if not there:
        return {}
    responses = await admin.describe_configs(
        [ConfigResource(ConfigResourceType.TOPIC, wire) for wire in there]
    )
    standings: dict[str, Standing] = {}
    for code, message, _, wire, entries in (one for r in responses for one in r.resources):
        if code == UnknownTopicOrPartitionError.errno:
            continue  # created or deleted this moment: not every broker knows
        if code:
            raise TopicsError(f"{wire}: its settings cannot be read: {message or f'error {code}'}")
        partitions = there[wire]
        standings[wire] = Standing(
            partitions=len(partitions),
            replication=min(len(partition["replicas"]) for partition in partitions),
            config={entry[0]: entry[1] or "" for entry in entries},
            pinned={entry[0]: entry[1] or "" for entry in entries if entry[3] == _SET_ON_TOPIC},
        )
    return standings


_SET_ON_TOPIC: Final = 1
"""DescribeConfigs' source of a value that is set on the topic itself."""


async def _carry_out(
    admin: AIOKafkaAdminClient,
    catalog: Catalog,
    todo: Plan,
    standings: Mapping[str, Standing],
    replication: int | None,
) -> None:
    new: list[NewTopic] = []
    altered: list[ConfigResource] = []
    for change in todo.work:
        topic = catalog.by_wire[change.topic]
        copies = topic.replication if replication is None else replication
        if change.kind == "create":
            config = _wanted_config(topic, copies)
            new.append(NewTopic(topic.wire, topic.partitions, copies, topic_configs=config))
        else:
            # The request replaces all that is set on the topic: what others set goes along.
            standing = standings[topic.wire]
            wanted = _wanted_config(topic, min(copies, standing.replication))
            altered.append(
                ConfigResource(
                    ConfigResourceType.TOPIC, topic.wire, configs={**standing.pinned, **wanted}
                )
            )
    if new:
        response = await admin.create_topics(new, timeout_ms=TOPICS_REQUEST_MS_MAX)
        for wire, code, message in response.topic_errors:
            # Somebody else was faster: the next comparison says whether it is the same topic.
            if code and code != TopicAlreadyExistsError.errno:
                raise TopicsError(f"{wire} could not be created: {message or f'error {code}'}")
    if altered:
        for response in await admin.alter_configs(altered):
            for code, message, _, wire in response.resources:
                if code:
                    raise TopicsError(f"{wire} could not be changed: {message or f'error {code}'}")
