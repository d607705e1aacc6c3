"""One valid example of each message, with every field that there may be."""

from typing import Any

from schemas.commands import COMMANDS
from schemas.events import EVENTS

PERSON = "0123456789abcdef0123456789abcdef"
USCC = "91350100M000100Y43"
SHA = "ab" * 32

COMMAND_DATA: dict[str, dict[str, Any]] = {
    "identity.upload": {
        "name_tag": PERSON,
        "sealed": "c2VhbGVkLi4=",
        "front_sha256": SHA,
        "back_sha256": SHA,
        "birth_date": "1992-02-29",
        "sex": "female",
        "notice_accepted": True,
    },
    "identity.verify": {
        "batch": "2026-11-23",
        "result": "failed",
        "upload": "u1",
        "reason": "照片不清晰",
    },
    "hire.offer": {"employer": USCC, "name_tag": PERSON},
    "hire.withdraw": {"employer": USCC, "offer": "o1"},
    "hire.complete": {
        "employer": USCC,
        "role": "worker",
        "trade": "101",
        "position": "foreman",
    },
    "dismissal.request": {"employer": USCC, "reason": "工程结束"},
    "assignment.request": {
        "site": "工地 7",
        "employer": USCC,
        "position": "project_manager",
        "batch": "b",
    },
    "assignment.withdraw": {"site": "s", "employer": USCC, "assignment": "a"},
    "hire.confirm": {"offer": "o1"},
    "hire.refuse": {"offer": "o1"},
    "assignment.approve": {"assignment": "a", "site": "s", "batch": "b"},
    "assignment.reject": {"assignment": "a", "site": "s", "batch": "b"},
    "scan.entry": {"site": "s", "code": "RN:AB", "scanner": PERSON},
    "scan.attendance": {"site": "s", "code": "RN:AB", "scanner": PERSON, "direction": "in"},
    "scan.checkin": {"site": "s", "code": "RN:AB", "direction": "out"},
    "entry.process": {"site": "s", "entry": "e", "batch": "b"},
    "exit.register": {"site": "s", "batch": "b"},
    "exit.confirm": {"site": "s", "batch": "b"},
}
for _type in COMMANDS:
    _usual = {"employer": USCC} if _type.startswith(("dismissal", "departure")) else {"site": "s"}
    COMMAND_DATA.setdefault(_type, _usual)

_EVENT_FIELDS: dict[str, dict[str, Any]] = {
    "identity": {"reason": "照片不清晰"},
    "offer": {"offer": "o1", "employer": USCC, "cause": "under_age"},
    "employment": {
        "employer": USCC,
        "role": "manager",
        "trade": "101",
        "position": "foreman",
        "cause": "dismissed",
    },
    "dismissal": {"employer": USCC, "reason": "工程结束"},
    "departure": {"employer": USCC},
    "assignment": {
        "assignment": "a",
        "site": "s",
        "employer": USCC,
        "position": "foreman",
        "cause": "exit",
    },
    "operator": {"site": "s", "employer": USCC, "cause": "departed"},
    "entry": {"entry": "e", "site": "s", "employer": USCC},
    "presence": {"entry": "e", "site": "s", "employer": USCC, "cause": "exit"},
    "exit": {"site": "s", "employer": USCC},
    "attendance": {
        "site": "s",
        "employer": USCC,
        "day": "2026-11-23",
        "direction": "in",
        "method": "staff",
        "scanner": PERSON,
    },
}
EVENT_DATA = {
    event: {"version": 7, "command": "c1", **_EVENT_FIELDS[event.split(".")[0]]} for event in EVENTS
}

ORIGIN = {"topic": "hire-requests", "partition": 3, "offset": 0}
OUTCOME = {
    "command": "c1",
    "command_source": f"/employers/{USCC}",
    "command_type": "hire.offer",
    "status": "accepted",
    "code": "awaiting_verification",
    "version": 7,
    "events": [f"{PERSON}:7"],
    "batch": "b",
    "origin": ORIGIN,
    "rules_version": 1,
}
DEAD_LETTER = {
    "code": "not_json",
    "detail": "unexpected character at character 0",
    "origin": ORIGIN,
    "encoding": "base64",
    "key": None,
    "value": "/w==",
    "length": 1,
    "sha256": SHA,
}
REFERENCES: dict[str, dict[str, Any]] = {
    "employers": {"uscc": USCC, "name": "上海某劳务公司", "status": "active"},
    "sites": {
        "site": "s",
        "name": "浦东工地",
        "status": "active",
        "participants": [
            {"employer": USCC, "type": "general_contractor", "project_manager": PERSON},
            {"employer": USCC, "type": "labor_subcontractor", "project_manager": None},
        ],
        "location": {"lat": 31.2, "lng": 121.5, "radius_m": 300},
    },
    "staff": {
        "person": PERSON,
        "employer": USCC,
        "position": "foreman",
        "site": None,
        "operator": False,
        "present": False,
    },
}


def envelope(message_type: str, data: Any, source: str = f"/persons/{PERSON}") -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": "c1",
        "source": source,
        "type": message_type,
        "time": "2026-11-23T08:00:00.123+08:00",
        "subject": PERSON,
        "data": data,
    }
