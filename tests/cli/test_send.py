"""From what is typed to the topics and back to an outcome."""

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from cli.completing import Unfit, complete
from cli.context import Deployment
from cli.errors import ANSWERED_NO, FAILED, WRONG
from deployment.sealing import make_key_pair, open_sealed
from deployment.settings import Settings
from deployment.topics import show
from schemas.commands import COMMANDS
from schemas.identifiers import name_tag, partition_for, person_id
from tests.cli.conftest import Realname

NOW = datetime(2026, 11, 23, 8, tzinfo=UTC)
SECRET = bytes.fromhex("0f" * 32)
NUMBER = "360426199101010071"
PERSON = person_id(SECRET, NUMBER)
STAFF = "ab" * 16
USCC = "91350100M000100Y43"
SHA = "0" * 64


@pytest.fixture
def offline() -> Deployment:
    """A deployment without servers, with secrets."""
    return Deployment(Settings(person_secret=SECRET, sealing_key=make_key_pair().public))


DATA = {
    "employer": USCC,
    "site": "S1",
    "offer": "o",
    "assignment": "a",
    "entry": "e",
    "batch": "b",
    "result": "verified",
    "role": "worker",
    "code": "RN:X",
    "scanner": STAFF,
    "name_tag": "cd" * 16,
    "front_sha256": SHA,
    "back_sha256": SHA,
    "sealed": "AAAA",
    "birth_date": "1991-01-01",
    "sex": "male",
}
EMPLOYER = f"/employers/{USCC}"
SOURCES = {
    "identity": f"/persons/{PERSON}",
    "hire": EMPLOYER,
    "hire.confirm": f"/persons/{PERSON}",
    "hire.refuse": f"/persons/{PERSON}",
    "identity.verify": "/centre",
    "dismissal": EMPLOYER,
    "dismissal.agree": f"/persons/{PERSON}",
    "dismissal.refuse": f"/persons/{PERSON}",
    "departure": f"/persons/{PERSON}",
    "departure.approve": EMPLOYER,
    "departure.refuse": EMPLOYER,
    "scan.checkin": f"/persons/{PERSON}",
    "entry.self": f"/sites/S1/staff/{PERSON}",
    "exit.self": f"/sites/S1/staff/{PERSON}",
}
"""Who acts where the type leaves no choice, by type or its first part; others are asked for."""


@pytest.mark.parametrize("command_type", COMMANDS)
def test_the_source_is_completed_only_where_it_is_plain(
    command_type: str, offline: Deployment
) -> None:
    fields = COMMANDS[command_type][1].model_fields
    short = {
        "type": command_type,
        "subject": PERSON,
        "data": {name: value for name, value in DATA.items() if name in fields},
    }
    plain = SOURCES.get(command_type, SOURCES.get(command_type.partition(".")[0]))
    if plain is None:
        with pytest.raises(Unfit, match="say who"):
            complete(offline, short, NOW)
        short["by"] = STAFF
        plain = f"/sites/S1/staff/{STAFF}"
    made = complete(offline, short, NOW)
    assert made.command.source == plain
    assert made.topic == COMMANDS[command_type][0]
    assert made.partition == partition_for(PERSON.encode(), offline.catalog.partitions)


def test_details_of_a_person_travel_only_sealed() -> None:
    pair = make_key_pair()
    deployment = Deployment(Settings(person_secret=SECRET, sealing_key=pair.public))
    short = {
        "type": "identity.upload",
        "id_number": NUMBER,
        "name": "张三",
        "data": {"front_sha256": SHA, "back_sha256": SHA, "notice_accepted": True},
    }
    made = complete(deployment, short, NOW)
    assert NUMBER.encode() not in made.value
    assert "张三".encode() not in made.value
    data = json.loads(made.value)["data"]
    assert data["name_tag"] == name_tag(SECRET, "张三")
    assert (data["birth_date"], data["sex"]) == ("1991-01-01", "male")
    assert open_sealed(pair.private, data["sealed"]) == {"name": "张三", "id_number": NUMBER}
    assert made.key.decode() == PERSON


@pytest.mark.parametrize(
    ("short", "words"),
    [
        ([], "not a JSON object"),
        ({"type": "hire.ofer"}, "did you mean hire.offer"),
        ({"type": "hire.offer", "nme": "x"}, "unknown fields nme"),
        ({"type": "hire.offer", "data": {}}, "say who"),
        ({"type": "hire.offer", "id_number": "1"}, "17 digits"),
        (
            {"type": "hire.offer", "subject": PERSON, "data": {"employer": USCC}},
            "name_tag: missing",
        ),
        ({"type": "hire.confirm", "subject": PERSON, "name": "x"}, "no use for a name"),
        ({"specversion": "1.0"}, "not_an_envelope"),
    ],
)
def test_what_is_no_command_is_told_in_words(
    short: object, words: str, offline: Deployment
) -> None:
    with pytest.raises(Unfit, match=words):
        complete(offline, short, NOW)


def confirm(number: int) -> str:
    return json.dumps(
        {"type": "hire.confirm", "subject": f"{number:032x}", "id": "c", "data": {"offer": "o"}}
    )


async def written(deployment: Deployment, topic: str) -> list[dict[str, object]]:
    """The values of a topic, partition by partition."""
    consumer = AIOKafkaConsumer(bootstrap_servers=deployment.brokers, auto_offset_reset="earliest")
    await consumer.start()
    wire = deployment.catalog.topics[topic].wire
    places = [TopicPartition(wire, partition) for partition in range(2)]
    consumer.assign(places)
    found: list[dict[str, object]] = []
    try:
        ends = await consumer.end_offsets(places)
        while len(found) < sum(ends.values()):
            for records in (await consumer.getmany(timeout_ms=200)).values():
                found += [json.loads(record.value) for record in records]
    finally:
        await consumer.stop()
    return found


async def test_nothing_is_sent_when_one_line_is_wrong(
    deployment: Deployment, realname: Realname
) -> None:
    lines = "\n".join([confirm(1), '{"type": "hire.confirm"}', confirm(2), "{}"])
    ended = await realname("send", "--file", "-", given=lines)
    assert ended.exit_code == WRONG
    assert "stdin:2: say who" in ended.stderr
    assert "stdin:4: the type is none" in ended.stderr
    assert await written(deployment, "confirmations") == []
    broken = await realname("send", "--file", "-", given=confirm(1) + "\n{")
    assert broken.exit_code == WRONG
    assert "stdin:2: not JSON" in broken.stderr


async def test_a_file_arrives_whole_and_a_person_in_its_order(
    deployment: Deployment, realname: Realname, tmp_path: Path
) -> None:
    file = tmp_path / "commands.jsonl"
    lines = [
        {"type": "hire.confirm", "subject": f"{at % 7:032x}", "id": str(at), "data": {"offer": "o"}}
        for at in range(200)
    ]
    file.write_text("\n".join(map(json.dumps, lines)))
    ended = await realname("send", "-f", str(file))
    assert ended.exit_code == 0, ended.output
    assert len(ended.stdout.splitlines()) == 200
    found = await written(deployment, "confirmations")
    for person in range(7):
        ids = [int(str(one["id"])) for one in found if one["subject"] == f"{person:032x}"]
        assert ids == list(range(person, 200, 7))


async def test_a_dry_run_prints_what_can_be_sent_later(
    deployment: Deployment, realname: Realname
) -> None:
    dry = await realname("send", "--dry-run", "-f", "-", given=confirm(1))
    assert dry.exit_code == 0
    envelope = json.loads(dry.stdout)
    assert envelope["source"] == f"/persons/{1:032x}"
    assert await written(deployment, "confirmations") == []
    ended = await realname("send", "-f", "-", given=dry.stdout)
    assert ended.exit_code == 0
    assert await written(deployment, "confirmations") == [envelope]


@pytest.mark.usefixtures("worker")
async def test_waiting_tells_the_outcome_and_its_prompt(
    deployment: Deployment, realname: Realname
) -> None:
    upload = ("send", "identity.upload", "--id-number", NUMBER, "--name", "张三", "--id", "u1")
    fields = ("--data", f"front_sha256={SHA}", "--data", f"back_sha256={SHA}", "--wait")
    refused = await realname(*upload, *fields)
    assert refused.exit_code == ANSWERED_NO
    assert "rejected notice_not_accepted 请勾选我已阅读以上填报须知" in refused.stdout
    ticked = ("--data", "notice_accepted=true", "--id", "u2")
    accepted = await realname(*upload, *fields, *ticked)
    assert accepted.exit_code == 0, accepted.output
    assert "accepted, version 1" in accepted.stdout
    # The id makes it a duplicate only with the same data, and sealing is never the same.
    again = await realname(*upload, *fields, *ticked)
    assert "rejected id_reused" in again.stdout


@pytest.mark.usefixtures("worker")
async def test_one_by_one_each_sees_what_the_former_did(
    deployment: Deployment, realname: Realname
) -> None:
    # Two persons: only the outcome, not the order of one person, lets the second rely on the first.
    lines = [
        {"type": "hire.confirm", "subject": f"{at:032x}", "id": str(at), "data": {"offer": "o"}}
        for at in range(3)
    ]
    ended = await realname("send", "-f", "-", "--one-by-one", given=json.dumps(lines))
    assert ended.exit_code == ANSWERED_NO
    assert [line.split()[3] for line in ended.stdout.splitlines()] == [
        f"{at:032x}" for at in range(3)
    ]


async def test_what_the_broker_did_not_take_is_kept_to_be_sent_again(
    deployment: Deployment, realname: Realname
) -> None:
    catalog = deployment.catalog
    topic = catalog.topics["dismissal-requests"]
    small = {**topic.config, "min.insync.replicas": "1", "max.message.bytes": "1000"}
    admin = AIOKafkaAdminClient(bootstrap_servers=deployment.brokers)
    await admin.start()
    resource = ConfigResource(ConfigResourceType.TOPIC, topic.wire, configs=small)
    await admin.alter_configs([resource])
    await admin.close()
    while True:
        standing = (await show(deployment.brokers, catalog))[topic.name]
        if standing is not None and standing.config["max.message.bytes"] == "1000":
            break
    lines = [
        {
            "type": "dismissal.request",
            "subject": PERSON,
            "id": command_id,
            "data": {"employer": USCC, "reason": reason},
        }
        for command_id, reason in (("1", "x"), ("2", "x" * 2_000), ("3", "x"))
    ]
    ended = await realname("send", "-f", "-", given="\n".join(map(json.dumps, lines)))
    assert ended.exit_code == FAILED
    assert "1 were sent; the other 2 were not acknowledged" in ended.stderr
    (kept,) = await asyncio.to_thread(lambda: list(Path().glob("realname-unsent-*")))
    assert [json.loads(line)["id"] for line in kept.read_text().splitlines()] == ["2", "3"]
    assert [one["id"] for one in await written(deployment, "dismissal-requests")] == ["1"]


async def test_no_outcome_in_time_is_a_failure_that_loses_nothing(
    deployment: Deployment, realname: Realname
) -> None:
    ended = await realname("send", "-f", "-", "--wait", "--timeout", "1s", given=confirm(1))
    assert ended.exit_code == FAILED
    assert "no outcome within 1 s" in ended.stderr
    assert len(await written(deployment, "confirmations")) == 1
    assert "unsent" not in ended.stderr
