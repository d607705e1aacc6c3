"""The JSON Schemas of all messages, made from the models.

    python -m schemas.generate            write schemas/json/
    python -m schemas.generate --check    fail when a file there is missing, stale or too many

One file for each message type: commands, events and outcomes as whole envelopes with their data,
dead letters and reference records as they are. A schema says what JSON Schema can say: it knows
neither check characters nor days of the calendar, and it does not compare one field with another.
"""

import json
import sys
from pathlib import Path
from typing import Any, Final

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from schemas.commands import COMMANDS
from schemas.envelope import ATTRIBUTE_PATTERN, SYSTEM_SOURCE, Envelope
from schemas.events import EVENTS
from schemas.outcomes import OUTCOME_TYPE, DeadLetter, Outcome
from schemas.references import REFERENCES

FOLDER: Final = Path(__file__).parent / "json"
DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
REFERENCE_TYPES: Final = {"employers": "employer", "sites": "site", "staff": "staff"}
"""Reference topic → the name of the schema of its records."""


class _Generator(GenerateJsonSchema):
    """Pydantic's, without the titles that repeat names, and without defaults of null."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        made = super().default_schema(schema)
        if made.get("default", ...) is None:
            del made["default"]
        return made


def schemas() -> dict[str, dict[str, Any]]:
    """The schema of each message type."""
    made = {name: _message(name, model) for name, (_, model) in COMMANDS.items()}
    for name, (_, model) in EVENTS.items():
        made[name] = _message(name, model, SYSTEM_SOURCE)
    made[OUTCOME_TYPE] = _message(OUTCOME_TYPE, Outcome, SYSTEM_SOURCE)
    made["dead-letter"] = _plain("dead-letter", DeadLetter)
    for topic, (record, _) in REFERENCES.items():
        made[REFERENCE_TYPES[topic]] = _plain(REFERENCE_TYPES[topic], record)
    return made


def _plain(name: str, model: type) -> dict[str, Any]:
    schema = TypeAdapter(model).json_schema(schema_generator=_Generator)
    del schema["title"]
    return {"$schema": DIALECT, "title": name, **schema}


def _message(name: str, model: type, source: str | None = None) -> dict[str, Any]:
    """The envelope of one type with its data."""
    data = TypeAdapter(model).json_schema(schema_generator=_Generator)
    definitions = data.pop("$defs", None)
    del data["title"]
    schema = _plain(name, Envelope)
    schema["description"] = data.pop("description", "")
    schema["properties"] |= {"type": {"const": name, "type": "string"}, "data": data}
    if source is not None:
        schema["properties"]["source"] = {"const": source, "type": "string"}
    # Other attributes of CloudEvents may be there, under names that CloudEvents allows.
    schema["propertyNames"] = {"pattern": ATTRIBUTE_PATTERN}
    return schema if definitions is None else {**schema, "$defs": definitions}


def files() -> dict[str, str]:
    """What belongs into the folder: name → text."""
    return {
        f"{name}.json": json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
        for name, schema in schemas().items()
    }


def stale(folder: Path) -> list[str]:
    """The names of files that are missing, differ, or do not belong there."""
    return sorted(_mends(folder))


def write(folder: Path) -> None:
    """Makes the folder hold just these files."""
    folder.mkdir(exist_ok=True)
    for name, text in _mends(folder).items():
        if text is None:
            (folder / name).unlink()
        else:
            (folder / name).write_text(text, "utf-8")


def _mends(folder: Path) -> dict[str, str | None]:
    """The files to write, None for one to remove."""
    wanted = files()
    there = {path.name: path.read_text("utf-8") for path in folder.glob("*.json")}
    return {n: wanted.get(n) for n in wanted | there if wanted.get(n) != there.get(n)}


def main() -> None:
    """The command line."""
    if sys.argv[1:] == ["--check"]:
        if names := stale(FOLDER):
            sys.exit(f"stale, run python -m schemas.generate: {', '.join(names)}")
    elif sys.argv[1:]:
        sys.exit(__doc__)
    else:
        write(FOLDER)


if __name__ == "__main__":
    main()
