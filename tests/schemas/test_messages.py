"""The models of what the system writes and reads besides commands."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from deployment.catalog import load_catalog
from schemas.commands import COMMANDS
from schemas.envelope import SYSTEM_SOURCE, Envelope
from schemas.events import EVENTS
from schemas.forms import Absentable, Form
from schemas.outcomes import DeadLetter, Outcome
from schemas.reasons import (
    CODE_AT,
    DEAD_LETTER_CODES,
    NUMBER_OF,
    OUTCOME_CODES,
    REASONS,
)
from schemas.references import (
    REFERENCES,
    Employer,
    Site,
    Staff,
    describe,
    parse_reference,
    write_reference,
)
from tests.schemas.examples import (
    DEAD_LETTER,
    EVENT_DATA,
    OUTCOME,
    PERSON,
    USCC,
    envelope,
)
from tests.schemas.examples import REFERENCES as RECORDS

# --- events and outcomes --------------------------------------------------------------------------


@pytest.mark.parametrize("event_type", EVENTS)
def test_an_event(event_type: str) -> None:
    _, model = EVENTS[event_type]
    data = EVENT_DATA[event_type]
    assert model.model_validate(data).model_dump(exclude_unset=True) == data
    assert Envelope.model_validate(envelope(event_type, data, SYSTEM_SOURCE)).type == event_type
    # The events of a departure share a model, and have no reason (contract: Departure).
    assert set(model.model_fields) - set(data) <= {"reason"}
    for name, field in model.model_fields.items():
        wrong: Any
        for wrong in (None, [], 1.5):
            with pytest.raises(ValidationError):
                model.model_validate({**data, name: wrong})
        without = {key: value for key, value in data.items() if key != name}
        if field.is_required():
            with pytest.raises(ValidationError):
                model.model_validate(without)
        else:
            model.model_validate(without)
    with pytest.raises(ValidationError):
        model.model_validate({**data, "more": "x"})


def test_events_travel_on_the_contracts_topics() -> None:
    families: dict[str, set[str]] = {}
    for event_type, (topic, _) in EVENTS.items():
        families.setdefault(topic, set()).add(event_type.split(".")[0])
    assert families == {
        "identity-changes": {"identity"},
        "employment-changes": {"offer", "employment", "dismissal", "departure"},
        "assignment-changes": {"assignment", "operator"},
        "presence-changes": {"entry", "presence", "exit"},
        "attendance-records": {"attendance"},
    }
    assert {event.split(".")[1] for event in EVENTS if event.startswith("offer.")} == {
        *("parked", "made", "withdrawn", "refused", "accepted", "superseded", "expired")
    }
    assert len(EVENTS) == 3 + 7 + 3 + 6 + 5 + 2 + 2 + 2 + 1 + 1


def test_commands_travel_on_the_contracts_topics() -> None:
    travels = {
        "identity-uploads": "identity.upload",
        "identity-verifications": "identity.verify",
        "hire-requests": "hire.offer hire.withdraw hire.complete",
        "dismissal-requests": "dismissal.request dismissal.withdraw",
        "departure-requests": "departure.request departure.withdraw",
        "assignment-requests": "assignment.request assignment.withdraw",
        "authorizations": "operator.authorize operator.revoke",
        "confirmations": "hire.confirm hire.refuse dismissal.agree dismissal.refuse "
        "departure.approve departure.refuse assignment.approve assignment.reject",
        "scan-events": "scan.entry scan.attendance scan.checkin",
        "entry-requests": "entry.process entry.self",
        "exit-requests": "exit.register exit.confirm exit.self",
    }
    expected = {name: topic for topic, names in travels.items() for name in names.split()}
    assert {name: topic for name, (topic, _) in COMMANDS.items()} == expected


def test_an_outcome() -> None:
    assert json.loads(Outcome.model_validate_json(json.dumps(OUTCOME)).model_dump_json()) == OUTCOME
    for code in REASONS:
        changed = json.dumps({**OUTCOME, "code": code})
        if code in DEAD_LETTER_CODES:
            with pytest.raises(ValidationError):
                Outcome.model_validate_json(changed)
        else:
            Outcome.model_validate_json(changed)


def test_a_dead_letter() -> None:
    assert DeadLetter.model_validate(DEAD_LETTER).model_dump() == DEAD_LETTER
    for code in REASONS:
        if code in DEAD_LETTER_CODES:
            DeadLetter.model_validate({**DEAD_LETTER, "code": code})
        else:
            with pytest.raises(ValidationError):
                DeadLetter.model_validate({**DEAD_LETTER, "code": code})


def test_absentable_is_for_what_is_not_null_itself() -> None:
    class Fine(Form):
        text: Absentable[str] = None

    assert Fine().text is None
    assert Fine.model_validate({"text": ""}).text == ""
    with pytest.raises(ValidationError):
        Fine.model_validate({"text": None})


# --- reasons --------------------------------------------------------------------------------------


def test_each_code_has_words_in_chinese_and_english() -> None:
    assert len(REASONS) < 256  # a person's memory keeps them as one byte
    for code, reason in REASONS.items():
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", code)
        assert re.search("[一-鿿]", reason.zh), code
        assert reason.en.endswith("."), code
        assert CODE_AT[NUMBER_OF[code]] == code
    assert set(REASONS) == {*OUTCOME_CODES, *DEAD_LETTER_CODES}
    assert len({reason.zh for reason in REASONS.values()}) == len(REASONS)


def test_the_manuals_own_prompts() -> None:
    """Where the operating manual has words, they are the words."""
    for code, words in {
        "duplicate_registration": "重复登记",
        "employed_elsewhere": "在另外一家单位未离职",
        "awaiting_verification": "无需重复登记，大数据中心批量处理后即可用工登记成功",
        "notice_not_accepted": "我已阅读以上填报须知",
        "reason_required": "解聘原因",
        "general_contractor_required": "施工总包的项目经理",
        "project_manager_required": "工地端的项目经理",
        "operator_required": "授权的管理员",
        "registration_incomplete": "完善建筑工人信息",
        "manager_on_site": "管理员身份需在工地端先完成退场",
    }.items():
        assert words in REASONS[code].zh


# --- reference records ----------------------------------------------------------------------------

KEYS = {"employers": USCC, "sites": "s", "staff": PERSON}


def parse(topic: str, record: Any, key: str | None = None) -> Employer | Site | Staff:
    value = record if isinstance(record, bytes) else json.dumps(record).encode()
    return parse_reference(topic, (key or KEYS[topic]).encode(), value)


@pytest.mark.parametrize("topic", REFERENCES)
def test_a_reference_record(topic: str) -> None:
    record = parse(topic, RECORDS[topic])
    assert json.loads(write_reference(record)) == RECORDS[topic]


@pytest.mark.parametrize("topic", REFERENCES)
def test_a_field_that_a_register_adds_is_ignored(topic: str) -> None:
    assert parse(topic, {**RECORDS[topic], "more": 1}) == parse(topic, RECORDS[topic])


@pytest.mark.parametrize("topic", REFERENCES)
def test_the_key_is_the_records(topic: str) -> None:
    with pytest.raises(ValueError, match="key"):
        parse(topic, RECORDS[topic], key="another")


@pytest.mark.parametrize("topic", REFERENCES)
@pytest.mark.parametrize("value", [b"", b"{", b"null", b"[]", b"\xff", b'"x"', b"{}", b"NaN"])
def test_an_unreadable_record_is_a_value_error(topic: str, value: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # its words are for the log
        parse(topic, value)


@pytest.mark.parametrize(
    ("topic", "change"),
    [
        ("employers", {"uscc": USCC[:-1] + "4"}),
        ("employers", {"status": "closed"}),
        ("employers", {"name": None}),
        ("sites", {"site": "a/b"}),
        ("sites", {"status": "Active"}),
        ("sites", {"participants": None}),
        ("sites", {"participants": {}}),
        ("sites", {"participants": ["x"]}),
        ("sites", {"participants": [{"employer": USCC, "type": "owner"}]}),
        ("sites", {"participants": [{"employer": "x", "type": "general_contractor"}]}),
        (
            "sites",
            {
                "participants": [
                    {"employer": USCC, "type": "general_contractor", "project_manager": ""}
                ]
            },
        ),
        ("sites", {"location": {"lat": 91, "lng": 0, "radius_m": 1}}),
        ("sites", {"location": "here"}),
        ("staff", {"operator": "true"}),
        ("staff", {"present": 1}),
        ("staff", {"site": ""}),
    ],
)
def test_what_makes_a_record_unreadable(topic: str, change: dict[str, Any]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        parse(topic, {**RECORDS[topic], **change})


@pytest.mark.parametrize(
    "change",
    [
        {"participants": []},
        {"location": None},
        {"participants": [{"employer": USCC, "type": "general_contractor"}]},
    ],
)
def test_what_a_site_may_lack(change: dict[str, Any]) -> None:
    parse("sites", {**RECORDS["sites"], **change})
    without = {key: value for key, value in RECORDS["sites"].items() if key != "location"}
    parse("sites", {**without, **change})


def test_a_complaint_names_fields_and_no_contents() -> None:
    for topic, record in RECORDS.items():
        for name in record:
            with pytest.raises(ValueError, match=name) as caught:
                parse(topic, {**record, name: {"LEAKED": "LEAKED"}})
            assert "LEAKED" not in str(caught.value)


def test_many_complaints_are_cut_short() -> None:
    class Many(BaseModel):
        a: int
        b: int
        c: int
        d: int
        e: int

    with pytest.raises(ValidationError) as caught:
        Many.model_validate({})
    assert describe(caught.value) == "a: missing; b: missing; c: missing (+2 more)"


# --- the catalog ----------------------------------------------------------------------------------


def test_the_catalog_names_schemas_that_exist() -> None:
    folder = Path(__file__).parents[2] / "schemas" / "json"
    named = {name for topic in load_catalog().topics.values() for name in topic.schemas}
    assert named == {path.stem for path in folder.glob("*.json")}
