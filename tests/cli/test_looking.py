"""Codes, persons and the live view."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest
import zxingcpp
from PIL import Image

from cli.context import Deployment
from cli.errors import ANSWERED_NO, WRONG
from rules.codes import Code, parse
from tests.cli.conftest import Realname

PERSON = "ab" * 16
USCC = "91350100M000100Y43"


async def test_a_shown_code_verifies_in_its_window(
    deployment: Deployment, realname: Realname, tmp_path: Path
) -> None:
    at = "2026-11-23T08:00:30+08:00"
    shown = await realname("code", "show", "--person", PERSON, "--at", at, "--text")
    text = shown.stdout.strip()
    assert isinstance(parse(deployment.code_keys, text), Code)
    verified = await realname("code", "verify", text, "--at", "2026-11-23T08:02:59+08:00")
    assert verified.exit_code == 0
    assert PERSON in verified.stdout
    for time in ("2026-11-23T08:03:00+08:00", "2026-11-23T07:58:59+08:00"):
        expired = await realname("code", "verify", text, "--at", time)
        assert expired.exit_code == ANSWERED_NO
        assert "code_expired 二维码已过期" in expired.stdout
    forged = await realname("code", "verify", text[:-1] + ("A" if text[-1] != "A" else "B"))
    assert forged.exit_code == ANSWERED_NO
    assert "code_invalid" in forged.stdout

    png = tmp_path / "gate.png"
    drawn = await realname("code", "show", "--site", "S1", "--png", str(png))
    assert drawn.exit_code == 0
    (found,) = zxingcpp.read_barcodes(Image.open(png))
    code = parse(deployment.code_keys, found.text)
    assert isinstance(code, Code)
    assert (code.kind, code.id) == ("site", "S1")
    assert "█" in (await realname("code", "show", "--site", "S1")).stdout
    for wrong in (("--site", "a/b"), ("--site", "S1", "--png", "x.gif"), ("--person", "x"), ()):
        assert (await realname("code", "show", *wrong)).exit_code == WRONG


def watched(count: int, *arguments: str) -> list[str]:
    """So many lines of `realname watch`, which goes on until it is ended."""
    command = [sys.executable, "-m", "cli.main", "watch", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None
        lines = [watching.stdout.readline() for _ in range(count)]
        watching.terminate()
    return lines


@pytest.mark.usefixtures("worker")
async def test_a_person_is_shown_with_what_is_missing(
    deployment: Deployment, realname: Realname
) -> None:
    employer = {"uscc": USCC, "name": "一建", "status": "active"}
    contractor = {"employer": USCC, "type": "general_contractor"}
    site = {"site": "S1", "name": "浦东一号", "status": "active", "participants": [contractor]}
    await realname("reference", "put", "employers", "-", given=json.dumps(employer))
    await realname("reference", "put", "sites", "-", given=json.dumps(site))

    unknown = await realname("person", PERSON)
    assert "nothing is known of this person" in unknown.stderr
    assert "本人：在随申办市民云完成个人信息登记" in unknown.stdout

    upload = {"name_tag": "cd" * 16, "sealed": "AAAA", "front_sha256": "0" * 64}
    upload |= {"back_sha256": "0" * 64, "birth_date": "1991-01-01", "sex": "male"}
    story: list[dict[str, object]] = [
        {"type": "identity.upload", "data": {**upload, "notice_accepted": True}},
        {"type": "hire.offer", "id": "o", "data": {"employer": USCC, "name_tag": "cd" * 16}},
        {"type": "identity.verify", "data": {"batch": "b", "result": "verified"}},
        {"type": "hire.confirm", "data": {"offer": "o"}},
        {"type": "hire.complete", "data": {"employer": USCC, "role": "worker", "trade": "001"}},
        {
            "type": "assignment.request",
            "source": f"/employers/{USCC}",
            "data": {"employer": USCC, "site": "S1"},
        },
    ]
    text = json.dumps([{**one, "subject": PERSON} for one in story])
    assert (await realname("send", "-f", "-", "--wait", given=text)).exit_code == 0

    shown = (await realname("person", PERSON)).stdout
    assert f"{USCC} 一建  registered worker 001" in shown
    assert "S1 浦东一号  requested" in shown
    assert "scan.entry at S1 浦东一号  no: project_manager_required" in shown
    # Every guard, not only the first that fails.
    assert "✗ assignment_not_confirmed  该人员未分配确认" in shown
    assert "→ 工地端：在人员分配模块点击同意" in shown
    assert "✓ 工地已登记" in shown
    assert "may scan: nobody" in shown
    elsewhere = (await realname("person", PERSON, "--site", "S9")).stdout
    assert "no: site_unknown" in elsewhere
    code = (await realname("code", "show", "--person", "0" * 32, "--text")).stdout.strip()
    judged = (await realname("person", PERSON, "--code", code)).stdout
    assert "no: code_not_this_person" in judged

    lines = await asyncio.to_thread(watched, 14, "--since", "1h")
    assert {line.split()[2] for line in lines} >= {
        "identity.submitted",
        "identity.upload",
        "assignment.requested",
        "assignment.request",
    }
    assert any(f"employer={USCC} 一建" in line for line in lines)
    assert any("awaiting_verification 无需重复登记" in line for line in lines)
    answers = await asyncio.to_thread(watched, 2, "--since", "1h", "--person", PERSON, "--json")
    assert [json.loads(line)["subject"] for line in answers] == [PERSON, PERSON]


async def test_a_person_is_named_by_id_or_by_number(
    deployment: Deployment, realname: Realname
) -> None:
    number = "360426199101010071"
    given = await realname("id", "--id-number", number)
    asked = await realname("id", "--id-number", "-", given=f"{number}\n")
    assert given.stdout == asked.stdout != ""
    for wrong in ((), (given.stdout.strip(), "--id-number", number), ("XYZ",)):
        ended = await realname("person", *wrong)
        assert ended.exit_code == WRONG
    ended = await realname("id", "--id-number", "360426199101010072")
    assert ended.exit_code == WRONG
    assert "360426" not in ended.output
