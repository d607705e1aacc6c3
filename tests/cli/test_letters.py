"""Dead letters of a real worker: counted, shown, and sent again where they belong."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from cli.context import Deployment
from cli.errors import ANSWERED_NO, FAILED, WRONG
from schemas.identifiers import partition_for
from tests.cli.conftest import Realname, Write

PERSON = "ab" * 16
KEY = PERSON.encode()
HOME = partition_for(KEY, 2)
AWAY = 1 - HOME


def confirm(command_id: str, **more: object) -> bytes:
    envelope = {
        "specversion": "1.0",
        "id": command_id,
        "source": f"/persons/{PERSON}",
        "type": "hire.confirm",
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "subject": PERSON,
        "data": {"offer": "o"},
    }
    return json.dumps({**envelope, **more}).encode()


@pytest.fixture
async def letters(deployment: Deployment, worker: None, write: Write, realname: Realname) -> None:
    """One dead letter of most classes, and the worker done with all of them."""
    long_ago = (datetime.now(UTC) - timedelta(days=8)).isoformat(timespec="milliseconds")
    await write("confirmations", confirm("away"), KEY, AWAY)
    await write("confirmations", confirm("late", time=long_ago), KEY, AWAY)
    await write("hire-requests", confirm("lost"), KEY, HOME)
    await write("confirmations", confirm("unkeyed"), b"somebody", HOME)
    await write("confirmations", confirm("odd", type="hire.dance"), KEY, HOME)
    await write("confirmations", confirm("empty", data={}), KEY, HOME)
    await write("confirmations", b"no \x1b[31mjson", KEY, HOME)
    await write("confirmations", b"\xff\x00", b"\xff", HOME)
    await write("confirmations", b"[" * 70_000, KEY, HOME)
    for person in (PERSON, "0" * 32, "1" * 32, "2" * 32):
        line = json.dumps({"type": "hire.confirm", "subject": person, "data": {"offer": "o"}})
        assert (await realname("send", "-f", "-", "--wait", given=line)).exit_code == ANSWERED_NO


@pytest.mark.usefixtures("letters")
async def test_list_show_and_replay(deployment: Deployment, realname: Realname) -> None:
    listed = await realname("dead-letters", "list")
    counts = [line.split()[:2] for line in listed.stdout.splitlines()[1:7]]
    assert counts == [
        ["1", "too_large"],
        ["2", "not_json"],
        ["1", "unknown_type"],
        ["1", "wrong_topic"],
        ["1", "key_mismatch"],
        ["2", "wrong_partition"],
    ]
    of_class = await realname("dead-letters", "list", "--code", "wrong_topic", "--json")
    (letter,) = map(json.loads, of_class.stdout.splitlines())
    of_topic = await realname("dead-letters", "list", "--topic", "hire-requests", "--json")
    assert [json.loads(line) for line in of_topic.stdout.splitlines()] == [letter]
    of_person = await realname("dead-letters", "list", "--person", "somebody".ljust(32, "0"))
    assert of_person.exit_code == WRONG or "no dead letters" in of_person.stderr

    at = "{topic}/{partition}/{offset}".format(**letter["origin"])
    shown = await realname("dead-letters", "show", at)
    assert '"id": "lost"' in shown.stdout
    broken = await realname("dead-letters", "list", "--code", "not_json", "--json")
    for line in broken.stdout.splitlines():
        origin = "{topic}/{partition}/{offset}".format(**json.loads(line)["origin"])
        shown = await realname("dead-letters", "show", origin)
        assert shown.exit_code == 0
        assert "\x1b[31m" not in shown.stdout
    missing = await realname("dead-letters", "show", "confirmations/0/999")
    assert missing.exit_code == WRONG

    # Dry, a replay says what it would do and does nothing.
    dry = await realname("dead-letters", "replay", "wrong_partition")
    assert dry.exit_code == 0
    wire = deployment.catalog.topics["confirmations"].wire
    assert f"✓ hire.confirm to {wire}/{HOME} away" in dry.stdout
    assert "✗ too_late" in dry.stdout
    assert "nothing was sent; with --yes, 1 of 2 would be" in dry.stderr

    # Done, it is decided once, however often it is done.
    done = await realname("dead-letters", "replay", "wrong_partition", "--yes", "--wait")
    assert done.exit_code == ANSWERED_NO
    assert "rejected offer_not_open" in done.stdout
    assert "not sent: too_late" in done.stderr
    again = await realname("dead-letters", "replay", "wrong_partition", "--yes", "--wait")
    assert "duplicate offer_not_open" in again.stdout
    for code, command in (("wrong_topic", "lost"), ("key_mismatch", "unkeyed")):
        done = await realname("dead-letters", "replay", code, "--yes", "--wait")
        (line,) = done.stdout.splitlines()
        assert "rejected offer_not_open 聘用待确认记录不存在或已失效" in line
        assert line.endswith(command)

    # What still is no command is not sent.
    for code in ("unknown_type", "data_invalid", "not_json", "too_large"):
        done = await realname("dead-letters", "replay", code, "--yes")
        assert done.exit_code == FAILED
        assert f"{code}: " in done.stderr
    assert (await realname("dead-letters", "replay", "nonsense")).exit_code == WRONG
