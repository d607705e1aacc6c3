"""The JSON Schemas: fresh, valid, and of one mind with the models, by a second validator."""

import json
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

from schemas import generate
from schemas.commands import COMMANDS
from schemas.envelope import SYSTEM_SOURCE, Envelope
from schemas.events import EVENTS
from schemas.outcomes import DeadLetter, Outcome
from schemas.references import REFERENCES
from tests.schemas import examples
from tests.schemas.examples import COMMAND_DATA, EVENT_DATA, PERSON, USCC, envelope

SCHEMAS = generate.schemas()
EXAMPLES: dict[str, dict[str, Any]] = {
    **{name: envelope(name, COMMAND_DATA[name]) for name in COMMANDS},
    **{name: envelope(name, EVENT_DATA[name], SYSTEM_SOURCE) for name in EVENTS},
    "outcome": envelope("outcome", examples.OUTCOME, SYSTEM_SOURCE),
    "dead-letter": examples.DEAD_LETTER,
    **{generate.REFERENCE_TYPES[topic]: record for topic, record in examples.REFERENCES.items()},
}
DATA: dict[str, type[BaseModel]] = {
    **{name: model for name, (_, model) in COMMANDS.items()},
    **{name: model for name, (_, model) in EVENTS.items()},
    "outcome": Outcome,
}
PLAIN: dict[str, type] = {
    "dead-letter": DeadLetter,
    **{generate.REFERENCE_TYPES[topic]: model for topic, (model, _) in REFERENCES.items()},
}


def by_schema(name: str, document: Any) -> bool:
    return _validators[name].is_valid(document)


_validators = {
    name: jsonschema_rs.validator_for(schema, validate_formats=True)
    for name, schema in SCHEMAS.items()
}


def by_model(name: str, document: Any) -> bool:
    """As the program reads it."""
    try:
        if name in PLAIN:
            TypeAdapter(PLAIN[name]).validate_json(json.dumps(document))
        else:
            Envelope.model_validate_json(json.dumps(document))
            DATA[name].model_validate_json(json.dumps(document["data"]))
            assert document["type"] == name
            if name not in COMMANDS:
                assert document["source"] == SYSTEM_SOURCE
    except (ValidationError, AssertionError):
        return False
    return True


def test_the_files_are_fresh() -> None:
    assert generate.stale(generate.FOLDER) == []


def test_the_check_sees_what_is_stale(tmp_path: Path) -> None:
    folder = tmp_path / "json"
    assert len(generate.stale(folder)) == len(SCHEMAS)
    generate.write(folder)
    assert generate.stale(folder) == []
    (folder / "outcome.json").write_text("{}")
    (folder / "extra.json").write_text("{}")
    (folder / "site.json").unlink()
    assert generate.stale(folder) == ["extra.json", "outcome.json", "site.json"]
    generate.write(folder)
    assert generate.stale(folder) == []


def test_there_is_one_for_each_message() -> None:
    assert set(SCHEMAS) == set(EXAMPLES)


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_schema_is_one(name: str) -> None:
    assert jsonschema_rs.meta.is_valid(SCHEMAS[name])
    assert SCHEMAS[name]["title"] == name


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_example_is_valid(name: str) -> None:
    assert by_schema(name, EXAMPLES[name])
    assert by_model(name, EXAMPLES[name])


WRONG: tuple[Any, ...] = (
    None,
    "",
    " ",
    "x",
    "x" * 200,
    "a\x00b",
    "a/b",
    0,
    -1,
    1.5,
    True,
    [],
    {},
    ["x"],
)


@pytest.mark.parametrize("name", SCHEMAS)
def test_of_one_mind_on_every_field(name: str) -> None:
    """Each field absent, unknown, and with all kinds of values: both say the same."""
    for document in _changed(EXAMPLES[name]):
        assert by_schema(name, document) == by_model(name, document), document
    if name not in PLAIN:
        for data in _changed(EXAMPLES[name]["data"]):
            document = {**EXAMPLES[name], "data": data}
            assert by_schema(name, document) == by_model(name, document), data


def _changed(example: dict[str, Any]) -> list[dict[str, Any]]:
    changed = [{**example, name: wrong} for name in example for wrong in WRONG]
    changed += [{**example, "unknown": "x"}, {**example, "Un-known": "x"}]
    changed += [{k: v for k, v in example.items() if k != name} for name in example]
    return changed


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        ("hire.offer", "employer", USCC.lower()),
        ("hire.offer", "employer", USCC + "\n"),
        ("hire.offer", "name_tag", PERSON.upper()),
        ("hire.complete", "trade", "1234"),
        ("hire.complete", "role", "boss"),
        ("hire.complete", "position", "𠮷" * 65),
        ("identity.upload", "sealed", "AAAAA"),
        ("identity.upload", "sealed", "===="),
        ("identity.upload", "birth_date", "2001-02-29"),
        ("identity.upload", "birth_date", "20010228"),
        ("identity.upload", "sex", "Male"),
        ("identity.upload", "notice_accepted", "true"),
        ("scan.checkin", "direction", "inout"),
        ("scan.checkin", "direction", None),
        ("scan.checkin", "site", "𠮷" * 65),
    ],
)
def test_invalid_to_both(name: str, field: str, value: object) -> None:
    document = envelope(name, {**COMMAND_DATA[name], field: value})
    assert not by_model(name, document)
    assert not by_schema(name, document)


@pytest.mark.parametrize(
    "time", ["2026-11-23", "2026-11-23T00:00:00", "2026-11-31T00:00:00Z", "now", ""]
)
def test_a_time_invalid_to_both(time: str) -> None:
    document = {**EXAMPLES["hire.offer"], "time": time}
    assert not by_model("hire.offer", document)
    assert not by_schema("hire.offer", document)


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        ("identity.upload", "notice_accepted", ""),
        ("hire.complete", "trade", " "),
        ("hire.complete", "position", "𠮷" * 64),
        ("dismissal.request", "reason", ""),
        ("scan.checkin", "site", "𠮷" * 64),
    ],
)
def test_valid_to_both(name: str, field: str, value: object) -> None:
    document = envelope(name, {**COMMAND_DATA[name], field: value})
    assert by_model(name, document)
    assert by_schema(name, document)


def test_what_json_schema_cannot_say() -> None:
    """The check character of a credit code is arithmetic: there the model knows more."""
    document = envelope("hire.offer", {**COMMAND_DATA["hire.offer"], "employer": USCC[:-1] + "4"})
    assert by_schema("hire.offer", document)
    assert not by_model("hire.offer", document)
