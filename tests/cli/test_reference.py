"""Reference records: into their topics, and out again as the workers have them."""

import json

from cli.context import Deployment
from cli.errors import WRONG
from tests.cli.conftest import Realname, Write

FIRST, SECOND = "91350100M000100Y43", "9131029183FQEFLCR0"
MANAGER = "ab" * 16


def employer(uscc: str, name: str, **more: object) -> dict[str, object]:
    return {"uscc": uscc, "name": name, "status": "active", **more}


def site(*participants: dict[str, object], **more: object) -> dict[str, object]:
    return {
        "site": "S1",
        "name": "浦东一号",
        "status": "active",
        "participants": participants,
        **more,
    }


async def listed(realname: Realname, *arguments: str) -> list[dict[str, object]]:
    ended = await realname("reference", "list", *arguments, "--json")
    assert ended.exit_code == 0, ended.output
    return [json.loads(line) for line in ended.stdout.splitlines()]


async def test_put_replace_list_remove(deployment: Deployment, realname: Realname) -> None:
    array = json.dumps([employer(FIRST, "一建"), employer(SECOND, "二建", group="x")])
    ended = await realname("reference", "put", "employers", "-", given=array)
    assert ended.exit_code == 0, ended.output
    assert "not read: group" in ended.stderr
    contractor = {"employer": FIRST, "type": "general_contractor", "project_manager": MANAGER}
    one = json.dumps(site(contractor), indent=2)
    assert (await realname("reference", "put", "sites", "-", given=one)).exit_code == 0
    lines = json.dumps(employer(FIRST, "一建集团"))
    await realname("reference", "put", "employers", "-", given=lines)

    found = await listed(realname)
    assert [one.get("name") for one in found] == ["一建集团", "二建", "浦东一号"]
    shown = await realname("reference", "list")
    assert MANAGER in shown.stdout
    # What is listed can be put again.
    text = "\n".join(json.dumps(one) for one in await listed(realname, "sites"))
    assert (await realname("reference", "put", "sites", "-", given=text)).exit_code == 0

    ended = await realname("reference", "remove", "employers", SECOND, "NOBODY")
    assert ended.exit_code == 0
    assert "NOBODY is not in employers" in ended.stderr
    assert [one["uscc"] for one in await listed(realname, "employers")] == [FIRST]


async def test_nothing_is_written_when_one_is_unreadable(
    deployment: Deployment, realname: Realname
) -> None:
    broken = [employer(FIRST, "一建"), employer("91350100M000100Y44", "x"), {"name": "x"}, 7]
    text = "\n".join(json.dumps(one) for one in broken)
    ended = await realname("reference", "put", "employers", "-", given=text)
    assert ended.exit_code == WRONG
    for line in ("-:2: uscc: value_error", "-:3: there is no uscc", "-:4: there is no uscc"):
        assert line.replace("-:", "stdin:") in ended.stderr
    assert await listed(realname) == []


async def test_a_site_without_one_general_contractor_is_remarked(
    deployment: Deployment, realname: Realname
) -> None:
    ended = await realname("reference", "put", "sites", "-", given=json.dumps(site()))
    assert ended.exit_code == 0
    assert "a site has one general_contractor, this one has 0" in ended.stderr


async def test_an_unreadable_record_is_listed_and_the_last_good_one_stays(
    deployment: Deployment, realname: Realname, write: Write
) -> None:
    await realname("reference", "put", "employers", "-", given=json.dumps(employer(FIRST, "一建")))
    await write("employers", b'{"uscc": "' + FIRST.encode() + b'"}', FIRST.encode(), 0)
    await write("employers", b"\xff\x1b[31m", b"\xff", 0)
    assert [one["name"] for one in await listed(realname, "employers")] == ["一建"]
    told = await realname("reference", "list", "employers")
    assert "2 records cannot be read" in told.stderr

    bad = await listed(realname, "--bad")
    assert [(one["topic"], one["offset"]) for one in bad] == [("employers", at) for at in (1, 2)]
    assert "name: missing" in str(bad[0]["reason"])
    shown = await realname("reference", "list", "--bad")
    assert FIRST in shown.stdout
    assert "\x1b[31m" not in shown.stdout
