"""The topics of a deployment, as `topics.yaml` writes them down.

`load_catalog()` reads and checks the file and answers with a `Catalog`. A topic has two names: the
logical one of the contract (`hire-requests`), by which all code speaks of it, and the wire one,
with the deployment's prefix before it, under which the broker knows it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from schemas.limits import COMMAND_RETENTION_MS_MIN, REFERENCE_COMPACTION_LAG_MS_MIN

Kind = Literal["command", "reference", "output", "state"]

Party = Literal[
    "persons",
    "employers",
    "sites",
    "devices",
    "centre",
    "bureau",
    "administration",
    "worker",
    "projector",
]
"""Who may write or read a topic: clients of the contract, and the deployment's own processes."""

PREFIX_PATTERN = r"[A-Za-z0-9._-]{0,100}"
"""What a topic prefix may look like: Kafka's own alphabet, with room left for the names."""


class CatalogError(ValueError):
    """`topics.yaml` cannot be read or breaks one of its own rules; the text says where."""


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic.

    `rank` is a command topic's place in the causal order (0 is decided first); -1 for other kinds.
    `retention_ms` is None where records stay for ever or are compacted. `config` holds every
    setting the broker is to have on the topic, by Kafka's names, `min.insync.replicas` included.
    """

    name: str
    wire: str
    kind: Kind
    rank: int
    partitions: int
    replication: int
    min_isr: int
    retention_ms: int | None
    compacted: bool
    max_message_bytes: int
    config: Mapping[str, str] = field(hash=False)
    description: str
    writers: tuple[Party, ...]
    readers: tuple[Party, ...]
    schemas: tuple[str, ...]


@dataclass(frozen=True)
class Catalog:
    """All topics of one deployment, by logical name, in the order of the file."""

    prefix: str
    topics: Mapping[str, Topic]

    @cached_property
    def commands(self) -> tuple[Topic, ...]:
        """The command topics in causal order: `commands[i].rank == i`."""
        return self._of("command")

    @cached_property
    def references(self) -> tuple[Topic, ...]:
        """`employers`, `sites`, `staff`: one partition each, whole on every instance."""
        return self._of("reference")

    @cached_property
    def outputs(self) -> tuple[Topic, ...]:
        """What the projector reads: outcomes, changes, attendance records, dead letters."""
        return self._of("output")

    @cached_property
    def state(self) -> Topic:
        """`person-state`, whose partitions are the unit of ownership."""
        return self._of("state")[0]

    @cached_property
    def by_wire(self) -> Mapping[str, Topic]:
        """The same topics by the name the broker knows."""
        return {topic.wire: topic for topic in self.topics.values()}

    @property
    def partitions(self) -> int:
        """The partition count that commands, outputs and state share."""
        return self.state.partitions

    @property
    def group(self) -> str:
        """The consumer group in which the workers of this deployment share the partitions."""
        return f"{self.prefix}realname"

    def transactional_id(self, partition: int) -> str:
        """Producer identity of the one owner of `partition`; a later owner fences an earlier."""
        return f"{self.prefix}realname-{partition}"

    def _of(self, kind: Kind) -> tuple[Topic, ...]:
        return tuple(topic for topic in self.topics.values() if topic.kind == kind)


def catalog_path() -> Path:
    """Where `topics.yaml` is: beside this module in a wheel, else at the root of the tree."""
    packed = Path(__file__).with_name("topics.yaml")
    return packed if packed.exists() else packed.parent.parent / "topics.yaml"


def load_catalog(
    prefix: str = "", *, partitions: int | None = None, path: Path | None = None
) -> Catalog:
    """The deployment's topics, checked.

    `prefix` goes before every wire name. `partitions` overrules the count shared by commands,
    outputs and state: to be chosen once, before the first command (references keep their one).
    Raises `CatalogError` for a file that is missing, unreadable or inconsistent.
    """
    if re.fullmatch(PREFIX_PATTERN, prefix) is None:
        raise CatalogError(f"topic prefix {prefix!r}: only letters, digits and . _ -, at most 100")
    path = path or catalog_path()
    try:
        document = _File.model_validate(yaml.load(path.read_bytes(), _UniqueKeys))
    except (OSError, yaml.YAMLError) as error:
        raise CatalogError(f"{path}: {error}") from error
    except ValidationError as error:
        lines = (
            f"  {'.'.join(str(part) for part in one['loc'])}: {one['msg']}"
            for one in error.errors()
        )
        raise CatalogError("\n".join([f"{path}:", *lines])) from error
    return _assemble(document, prefix, partitions)


def _assemble(document: _File, prefix: str, partitions: int | None) -> Catalog:
    topics: dict[str, Topic] = {}
    rank = 0
    for name, entry in document.topics.items():
        shared = document.kinds[entry.kind]
        config = document.config_of(name)
        count = shared.partitions
        if partitions is not None and entry.kind != "reference":
            count = partitions
        if not 1 <= count <= 1000:
            raise CatalogError(f"{name}: {count} partitions; 1 to 1000 are possible")
        compacted = config["cleanup.policy"] == "compact"
        retention_ms = -1 if compacted else int(config["retention.ms"])
        topics[name] = Topic(
            name=name,
            wire=prefix + name,
            kind=entry.kind,
            rank=rank if entry.kind == "command" else -1,
            partitions=count,
            replication=shared.replication,
            min_isr=shared.min_isr,
            retention_ms=None if retention_ms < 0 else retention_ms,
            compacted=compacted,
            max_message_bytes=int(config["max.message.bytes"]),
            config={**config, "min.insync.replicas": str(shared.min_isr)},
            description=" ".join(entry.description.split()),
            writers=entry.writers,
            readers=entry.readers,
            schemas=entry.schemas,
        )
        rank += entry.kind == "command"
    return Catalog(prefix, topics)


class _UniqueKeys(yaml.SafeLoader):
    """YAML lets a later key silently replace an earlier one; a catalog must not."""


def _mapping_of_unique_keys(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node)
        if key in seen:
            raise yaml.constructor.ConstructorError(
                None, None, f"the key {key!r} stands twice", key_node.start_mark
            )
        seen.add(key)
    return loader.construct_mapping(node, deep=True)


_UniqueKeys.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping_of_unique_keys)


# --- the file's own form -------------------------------------------------------------------------

_KNOWN_CONFIG = frozenset(
    {
        "cleanup.policy",
        "compression.type",
        "delete.retention.ms",
        "max.compaction.lag.ms",
        "max.message.bytes",
        "message.timestamp.type",
        "min.cleanable.dirty.ratio",
        "min.compaction.lag.ms",
        "retention.bytes",
        "retention.ms",
        "segment.bytes",
        "segment.ms",
        "unclean.leader.election.enable",
    }
)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class _Kind(_Strict):
    """What all topics of a kind share."""

    partitions: int
    replication: Annotated[int, Field(ge=1)]
    min_isr: Annotated[int, Field(ge=1)]
    config: dict[str, Any]

    @model_validator(mode="after")
    def _survives_one_broker(self) -> Self:
        if self.min_isr > self.replication:
            raise ValueError("min_isr is above replication: nothing could be written")
        return self


class _Entry(_Strict):
    """One topic of the file."""

    kind: Kind
    description: Annotated[str, Field(min_length=1)]
    writers: Annotated[tuple[Party, ...], Field(strict=False, min_length=1)]
    readers: Annotated[tuple[Party, ...], Field(strict=False, min_length=1)]
    schemas: Annotated[tuple[str, ...], Field(strict=False)]
    config: dict[str, Any] = {}


class _File(_Strict):
    """The whole file."""

    version: Literal[1]
    kinds: dict[Kind, _Kind]
    topics: dict[Annotated[str, Field(pattern=r"^[a-z][a-z-]{0,60}$")], _Entry]

    def config_of(self, name: str) -> dict[str, str]:
        entry = self.topics[name]
        merged = {**self.kinds[entry.kind].config, **entry.config}
        return {key: _as_kafka_writes(value) for key, value in sorted(merged.items())}

    @model_validator(mode="after")
    def _holds_together(self) -> Self:
        missing = set(get_args(Kind)) - set(self.kinds)
        if missing:
            raise ValueError(f"no settings for the kinds {sorted(missing)}")
        shared = {self.kinds[kind].partitions for kind in ("command", "output", "state")}
        if len(shared) != 1:
            raise ValueError(
                "commands, outputs and state must have one partition count: the key's partition is "
                "the person's home in all of them"
            )
        if self.kinds["reference"].partitions != 1:
            raise ValueError("reference topics have one partition: their records are one order")
        if sum(entry.kind == "state" for entry in self.topics.values()) != 1:
            raise ValueError("there is exactly one state topic")
        for name, entry in self.topics.items():
            _check_config(name, entry.kind, self.config_of(name))
        return self


def _as_kafka_writes(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float | str):
        return str(value)
    raise ValueError(f"a config value must be a text, a number or a bool, not {value!r}")


def _check_config(name: str, kind: Kind, config: Mapping[str, str]) -> None:
    """Refuse what would break a promise, whatever else the file says."""

    def must(holds: bool, words: str) -> None:
        if not holds:
            raise ValueError(f"{name}: {words}")

    unknown = sorted(set(config) - _KNOWN_CONFIG)
    must(not unknown, f"unknown config {unknown}")
    for key in ("cleanup.policy", "message.timestamp.type", "max.message.bytes"):
        must(key in config, f"{key} is missing")
    compacted = kind in ("reference", "state")
    must(
        config["cleanup.policy"] == ("compact" if compacted else "delete"),
        "references and state are compacted, all else is not",
    )
    must(
        config["message.timestamp.type"] == "LogAppendTime",
        "message.timestamp.type must be LogAppendTime: order and age are the broker's",
    )
    must(
        config.get("unclean.leader.election.enable") == "false",
        "unclean.leader.election.enable must be false: acknowledged records would be lost",
    )
    if not compacted:
        must(config.get("retention.bytes") == "-1", "retention.bytes must be -1: age alone deletes")
        must("retention.ms" in config, "retention.ms is missing")
    if kind == "command":
        retention_ms = int(config["retention.ms"])
        must(
            retention_ms == -1 or retention_ms >= COMMAND_RETENTION_MS_MIN,
            f"retention.ms must be at least {COMMAND_RETENTION_MS_MIN} (30 days)",
        )
    if kind == "output":
        must(
            config["retention.ms"] == "-1", "retention.ms must be -1: a rebuild needs every record"
        )
    if kind == "reference":
        must(
            int(config.get("min.compaction.lag.ms", "0")) >= REFERENCE_COMPACTION_LAG_MS_MIN,
            f"min.compaction.lag.ms must be at least {REFERENCE_COMPACTION_LAG_MS_MIN} (30 days): "
            "kept decisions are checked against the references of their time",
        )
