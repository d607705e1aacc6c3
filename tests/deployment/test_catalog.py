"""Governance of topics.yaml: what it must say, and that it cannot say otherwise."""

from pathlib import Path

import pytest
import yaml

from deployment.catalog import CatalogError, catalog_path, load_catalog
from schemas.commands import COMMANDS as COMMAND_TYPES
from schemas.events import EVENTS

COMMANDS = (
    "identity-uploads",
    "identity-verifications",
    "hire-requests",
    "dismissal-requests",
    "departure-requests",
    "assignment-requests",
    "confirmations",
    "authorizations",
    "scan-events",
    "entry-requests",
    "exit-requests",
)
REFERENCES = ("employers", "sites", "staff")
OUTPUTS = (
    "outcomes",
    "identity-changes",
    "employment-changes",
    "assignment-changes",
    "presence-changes",
    "attendance-records",
    "dead-letters",
)
DAY_MS = 24 * 3600 * 1000

CATALOG = load_catalog()


def names(topics):
    return tuple(topic.name for topic in topics)


def test_every_topic_of_the_contract_is_there_and_no_other():
    assert names(CATALOG.commands) == COMMANDS
    assert set(names(CATALOG.references)) == set(REFERENCES)
    assert set(names(CATALOG.outputs)) == set(OUTPUTS)
    assert CATALOG.state.name == "person-state"
    assert len(CATALOG.topics) == len(COMMANDS) + len(REFERENCES) + len(OUTPUTS) + 1


def test_ranks_are_the_order_of_the_file():
    assert [topic.rank for topic in CATALOG.commands] == list(range(len(COMMANDS)))
    assert {topic.rank for topic in CATALOG.topics.values() if topic.kind != "command"} == {-1}


def test_a_persons_partition_is_the_same_everywhere():
    keyed = [topic for topic in CATALOG.topics.values() if topic.kind != "reference"]
    assert {topic.partitions for topic in keyed} == {16} == {CATALOG.partitions}
    assert {topic.partitions for topic in CATALOG.references} == {1}


@pytest.mark.parametrize("topic", CATALOG.topics.values(), ids=lambda topic: topic.name)
def test_no_acknowledged_record_is_lost_with_one_broker(topic):
    assert (topic.replication, topic.min_isr) == (3, 2)
    assert topic.config["min.insync.replicas"] == "2"
    assert topic.config["unclean.leader.election.enable"] == "false"


@pytest.mark.parametrize("topic", CATALOG.topics.values(), ids=lambda topic: topic.name)
def test_time_is_the_brokers(topic):
    assert topic.config["message.timestamp.type"] == "LogAppendTime"


def test_what_is_kept_and_for_how_long():
    for topic in CATALOG.commands:
        assert not topic.compacted
        assert topic.retention_ms is not None
        assert topic.retention_ms >= 30 * DAY_MS
        assert topic.config["retention.bytes"] == "-1"
    for topic in CATALOG.outputs:
        assert not topic.compacted
        assert topic.retention_ms is None
        assert topic.config["retention.ms"] == topic.config["retention.bytes"] == "-1"
    for topic in (*CATALOG.references, CATALOG.state):
        assert topic.compacted
        assert topic.retention_ms is None
    for topic in CATALOG.references:
        assert int(topic.config["min.compaction.lag.ms"]) >= CATALOG.commands[0].retention_ms
    assert int(CATALOG.state.config["segment.bytes"]) <= 64 << 20


def test_sizes():
    assert all(topic.max_message_bytes >= 1 << 20 for topic in CATALOG.topics.values())
    # The received key of up to 1 MiB is the dead letter's key and stands escaped in its value.
    assert CATALOG.topics["dead-letters"].max_message_bytes >= 7 << 20
    assert CATALOG.state.max_message_bytes > 1 << 20


def test_every_type_travels_where_the_schemas_say():
    travels = {one: name for name, topic in CATALOG.topics.items() for one in topic.schemas}
    assert len(travels) == sum(len(topic.schemas) for topic in CATALOG.topics.values())
    others = {
        "outcome": "outcomes",
        "dead-letter": "dead-letters",
        "employer": "employers",
        "site": "sites",
        "staff": "staff",
    }
    known = {**COMMAND_TYPES, **EVENTS}
    assert travels == {**{one: topic for one, (topic, _) in known.items()}, **others}


def test_only_the_worker_writes_what_it_decides_and_only_clients_write_commands():
    for topic in (*CATALOG.outputs, CATALOG.state, CATALOG.topics["staff"]):
        assert topic.writers == ("worker",)
    for topic in CATALOG.commands:
        assert "worker" not in topic.writers
        assert "worker" in topic.readers
    for topic in CATALOG.outputs:
        assert "projector" in topic.readers


def test_the_prefix_goes_before_every_name_on_the_wire():
    catalog = load_catalog("pudong-", partitions=4)
    assert all(topic.wire == f"pudong-{name}" for name, topic in catalog.topics.items())
    assert catalog.by_wire["pudong-sites"] is catalog.topics["sites"]
    assert catalog.group == "pudong-realname"
    assert catalog.transactional_id(3) == "pudong-realname-3"
    assert catalog.partitions == 4
    assert {topic.partitions for topic in catalog.references} == {1}


@pytest.mark.parametrize("prefix", ["a b", "测试", "a/", "x" * 101])
def test_a_prefix_that_kafka_would_refuse(prefix):
    with pytest.raises(CatalogError, match="prefix"):
        load_catalog(prefix)


@pytest.mark.parametrize("partitions", [0, -1, 1001])
def test_an_impossible_partition_count(partitions):
    with pytest.raises(CatalogError, match="partitions"):
        load_catalog(partitions=partitions)


def set_in(*path):
    """A change to the file's document: set what `path` leads to."""
    *way, last, value = path

    def change(document):
        at = document
        for step in way:
            at = at.setdefault(step, {})
        at[last] = value

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (set_in("topics", "sites", "retention", 3), "Extra inputs"),
        (set_in("kinds", "command", "config", "retention.msec", 1), "unknown config"),
        (set_in("kinds", "command", "config", "retention.ms", 29 * DAY_MS), "30 days"),
        (set_in("topics", "scan-events", "config", "retention.ms", 7 * DAY_MS), "scan-events"),
        (set_in("kinds", "command", "config", "message.timestamp.type", "CreateTime"), "LogAppend"),
        (set_in("kinds", "command", "config", "unclean.leader.election.enable", True), "unclean"),
        (set_in("kinds", "output", "config", "retention.ms", 365 * DAY_MS), "rebuild"),
        (set_in("kinds", "output", "config", "retention.bytes", 1 << 30), "age alone"),
        (set_in("kinds", "output", "config", "cleanup.policy", "compact"), "compacted"),
        (set_in("kinds", "reference", "config", "min.compaction.lag.ms", DAY_MS), "min.compaction"),
        (set_in("kinds", "reference", "config", "cleanup.policy", "compact,delete"), "compacted"),
        (set_in("kinds", "reference", "partitions", 3), "one order"),
        (set_in("kinds", "state", "partitions", 8), "one partition count"),
        (set_in("kinds", "state", "min_isr", 4), "nothing could be written"),
        (set_in("kinds", "state", "partitions", "16"), "valid integer"),
        (set_in("topics", "Sites", {}), "Sites"),
        (set_in("topics", "sites", "kind", "state"), "exactly one state topic"),
        (set_in("topics", "sites", "writers", ["everybody"]), "writers"),
        (set_in("version", 2), "version"),
    ],
)
def test_what_the_file_cannot_say(tmp_path: Path, change, words):
    document = yaml.safe_load(catalog_path().read_bytes())
    change(document)
    changed = tmp_path / "topics.yaml"
    changed.write_text(yaml.safe_dump(document, sort_keys=False))
    with pytest.raises(CatalogError, match=words):
        load_catalog(path=changed)


def test_a_key_that_stands_twice(tmp_path: Path):
    changed = tmp_path / "topics.yaml"
    changed.write_text(catalog_path().read_text() + "\n  sites:\n    kind: output\n")
    with pytest.raises(CatalogError, match="'sites' stands twice"):
        load_catalog(path=changed)


def test_a_file_that_is_not_there(tmp_path: Path):
    with pytest.raises(CatalogError, match=r"none\.yaml"):
        load_catalog(path=tmp_path / "none.yaml")
