"""Topics on a real broker: what is done, what is refused, and that nothing else is touched."""

import asyncio
from dataclasses import replace

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from deployment.catalog import Catalog, load_catalog
from deployment.topics import BrokersUnavailable, TopicsUnfit, apply, plan, show, verify

DAY_MS = 24 * 3600 * 1000


def few(prefix: str, *names: str) -> Catalog:
    """A catalog of some topics only, with two partitions: a broker creates it in no time."""
    whole = load_catalog(prefix, partitions=2)
    names = names or ("hire-requests", "sites", "outcomes", "person-state")
    return Catalog(prefix, {name: whole.topics[name] for name in names})


def with_config(catalog: Catalog, name: str, **config: str) -> Catalog:
    topic = catalog.topics[name]
    changed = {**topic.config, **{key.replace("_", "."): value for key, value in config.items()}}
    return Catalog(catalog.prefix, {**catalog.topics, name: replace(topic, config=changed)})


def kinds(made):
    return {change.topic: change.kind for change in made.changes}


@pytest.fixture
async def admin(broker):
    client = AIOKafkaAdminClient(bootstrap_servers=broker)
    await client.start()
    yield client
    await client.close()


async def set_by_hand(admin, wire: str, **config: str) -> None:
    """Replace all that is set on a topic, as an operator with Kafka's own tools could."""
    configs = {key.replace("_", "."): value for key, value in config.items()}
    for response in await admin.alter_configs(
        [ConfigResource(ConfigResourceType.TOPIC, wire, configs=configs)]
    ):
        assert [one[0] for one in response.resources] == [0]


async def until(broker, catalog, name, key, value):
    """Wait until the broker shows a setting: it becomes visible a little after it is accepted."""
    for _ in range(100):
        if (await show(broker, catalog))[name].config.get(key) == value:
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"{name}: {key} never became {value}")


async def test_the_whole_catalog_is_created_once(broker, prefix):
    catalog = load_catalog(prefix)
    planned = await plan(broker, catalog, replication=1)
    assert set(kinds(planned).values()) == {"create"}
    assert len(planned.changes) == len(catalog.topics)

    done = await apply(broker, catalog, replication=1)
    assert done == planned

    again = await plan(broker, catalog, replication=1)
    assert set(kinds(again).values()) == {"keep"}
    assert (await apply(broker, catalog, replication=1)) == again
    await verify(broker, catalog)

    for name, standing in (await show(broker, catalog)).items():
        topic = catalog.topics[name]
        assert standing.partitions == topic.partitions
        assert standing.pinned == {**topic.config, "min.insync.replicas": "1"}


async def test_applying_at_once_from_several_places(broker, prefix):
    catalog = few(prefix)
    await asyncio.gather(*(apply(broker, catalog, replication=1) for _ in range(4)))
    assert set(kinds(await plan(broker, catalog, replication=1)).values()) == {"keep"}


async def test_a_missing_topic_is_added_to_the_others(broker, prefix):
    await apply(broker, few(prefix, "sites"), replication=1)
    done = await apply(broker, few(prefix, "sites", "outcomes"), replication=1)
    assert kinds(done) == {f"{prefix}sites": "keep", f"{prefix}outcomes": "create"}


async def test_drift_is_repaired_and_what_others_set_stays(broker, prefix, admin):
    catalog = few(prefix)
    wire = f"{prefix}hire-requests"
    await apply(broker, catalog, replication=1)
    await set_by_hand(admin, wire, max_message_bytes="2048", segment_ms="7200000")
    await until(broker, catalog, "hire-requests", "max.message.bytes", "2048")

    planned = await plan(broker, catalog, replication=1)
    assert [change.topic for change in planned.work] == [wire]
    assert "max.message.bytes: 2048 -> 1048588" in planned.work[0].detail
    # In force by the broker's own default, but not set on the topic: that default may change.
    assert "unclean.leader.election.enable: false -> false" in planned.work[0].detail

    assert (await apply(broker, catalog, replication=1)).work == planned.work
    standing = (await show(broker, catalog))["hire-requests"]
    assert standing.pinned == {
        **catalog.topics["hire-requests"].config,
        "min.insync.replicas": "1",
        "segment.ms": "7200000",
    }


async def test_client_timestamps_on_commands_are_repaired(broker, prefix, admin):
    catalog = few(prefix, "hire-requests")
    await admin.create_topics(
        [
            NewTopic(
                f"{prefix}hire-requests",
                2,
                1,
                topic_configs={"message.timestamp.type": "CreateTime", "retention.ms": "1000"},
            )
        ]
    )
    with pytest.raises(TopicsUnfit, match=r"message\.timestamp\.type is CreateTime"):
        await verify(broker, catalog)
    assert (await apply(broker, catalog, replication=1)).work
    await verify(broker, catalog)
    assert (await show(broker, catalog))["hire-requests"].config["retention.ms"] == "3024000000"


@pytest.mark.parametrize("there", [1, 3])
async def test_other_partition_counts_are_refused(broker, prefix, admin, there):
    catalog = few(prefix)
    await admin.create_topics([NewTopic(f"{prefix}outcomes", there, 1)])
    done = await apply(broker, catalog, replication=1)
    assert [change.topic for change in done.refused] == [f"{prefix}outcomes"]
    assert f"has {there} partitions, the catalog says 2" in done.refused[0].detail
    assert f"REALNAME_PARTITIONS={there}" in done.refused[0].mend

    # A plan with a refusal is not carried out at all.
    assert (await show(broker, catalog))["sites"] is None
    with pytest.raises(TopicsUnfit, match="sites is missing") as caught:
        await verify(broker, catalog)
    assert len(caught.value.problems) == 4
    assert f"{prefix}outcomes has {there} partitions" in str(caught.value)
    assert "realname topics apply" in str(caught.value)


async def test_a_reference_topic_of_several_partitions_is_refused(broker, prefix, admin):
    catalog = few(prefix, "sites")
    await admin.create_topics([NewTopic(f"{prefix}sites", 2, 1)])
    done = await apply(broker, catalog, replication=1)
    assert "2 partitions, the catalog says 1" in done.refused[0].detail
    assert "REALNAME_PARTITIONS" not in done.refused[0].mend


@pytest.mark.parametrize(
    ("name", "key", "lower", "before"),
    [
        ("hire-requests", "retention_ms", str(31 * DAY_MS), "3024000000"),
        ("outcomes", "retention_ms", str(31 * DAY_MS), "-1"),
        ("outcomes", "retention_bytes", "1000000", "-1"),
        ("sites", "min_compaction_lag_ms", str(31 * DAY_MS), "3024000000"),
    ],
)
async def test_lower_retention_is_refused_unless_asked_for(
    broker, prefix, name, key, lower, before
):
    catalog = few(prefix)
    await apply(broker, catalog, replication=1)
    lowered = with_config(catalog, name, **{key: lower})
    kafka_key = key.replace("_", ".")

    done = await apply(broker, lowered, replication=1)
    assert [change.topic for change in done.refused] == [prefix + name]
    assert f"{kafka_key} is {before} and would fall to {lower}" in done.refused[0].detail
    assert (await show(broker, catalog))[name].config[kafka_key] == before

    done = await apply(broker, lowered, replication=1, allow_lower_retention=True)
    assert not done.refused
    assert (await show(broker, catalog))[name].config[kafka_key] == lower


async def test_longer_retention_is_set(broker, prefix):
    catalog = few(prefix)
    await apply(broker, catalog, replication=1)
    longer = with_config(catalog, "hire-requests", retention_ms="-1")
    assert (await apply(broker, longer, replication=1)).work
    assert (await show(broker, catalog))["hire-requests"].config["retention.ms"] == "-1"


@pytest.mark.parametrize(("name", "now"), [("outcomes", "compact"), ("sites", "delete")])
async def test_compaction_is_not_turned_on_or_off(broker, prefix, admin, name, now):
    catalog = few(prefix, name)
    count = catalog.topics[name].partitions
    await admin.create_topics(
        [NewTopic(prefix + name, count, 1, topic_configs={"cleanup.policy": now})]
    )
    done = await apply(broker, catalog, replication=1, allow_lower_retention=True)
    assert [change.detail for change in done.refused if "cleanup.policy" in change.detail]
    assert (await show(broker, catalog))[name].config["cleanup.policy"] == now
    with pytest.raises(TopicsUnfit, match=f"cleanup.policy is {now}"):
        await verify(broker, catalog)


async def test_commands_do_not_leave_the_brokers_clock(broker, prefix):
    catalog = few(prefix, "hire-requests")
    await apply(broker, catalog, replication=1)
    changed = with_config(catalog, "hire-requests", message_timestamp_type="CreateTime")
    done = await apply(broker, changed, replication=1)
    assert "would leave LogAppendTime" in done.refused[0].detail
    standing = (await show(broker, catalog))["hire-requests"]
    assert standing.config["message.timestamp.type"] == "LogAppendTime"


async def test_durability_is_not_lowered(broker, prefix, admin):
    catalog = few(prefix, "hire-requests")
    await apply(broker, catalog, replication=1)
    pinned = {**catalog.topics["hire-requests"].config, "min.insync.replicas": "2"}
    await set_by_hand(admin, f"{prefix}hire-requests", **pinned)
    await until(broker, catalog, "hire-requests", "min.insync.replicas", "2")
    done = await apply(broker, catalog, replication=1)
    assert "min.insync.replicas is 2 and would fall to 1" in done.refused[0].detail


async def test_other_replication_is_reported_and_no_more_in_sync_asked_than_there_are(
    broker, prefix
):
    catalog = few(prefix)
    await apply(broker, catalog, replication=1)
    done = await apply(broker, catalog)
    assert set(kinds(done).values()) == {"keep"}
    assert all("replication 1 (wanted: 3)" in change.detail for change in done.changes)
    assert all("kafka-reassign-partitions" in change.mend for change in done.changes)
    standings = await show(broker, catalog)
    assert {one.config["min.insync.replicas"] for one in standings.values()} == {"1"}


async def test_unknown_topics_are_left_alone(broker, prefix, admin):
    other = f"{prefix}other"
    await admin.create_topics([NewTopic(other, 3, 1, topic_configs={"retention.ms": "5000"})])
    done = await apply(broker, few(prefix), replication=1)
    assert other not in kinds(done)
    assert other in await admin.list_topics()


async def test_no_broker_is_said_so():
    with pytest.raises(BrokersUnavailable, match=r"127\.0\.0\.1:1"):
        await plan("127.0.0.1:1", load_catalog())
