"""From records to commands or dead letters: every reason, their order, and JSON's dark corners."""

import json
import string
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import asdict

from schemas.commands import COMMANDS
from schemas.envelope import Envelope
from schemas.identifiers import partition_for
from schemas.limits import ID_CHARS_MAX, POSITION_CHARS_MAX, SITE_CHARS_MAX, VALUE_BYTES_MAX
from schemas.reading import Command, Refusal, read_command
from schemas.reasons import DEAD_LETTER_CODES
from tests.schemas.examples import COMMAND_DATA, PERSON, SHA, USCC, envelope

PARTITIONS = 16
KEY = PERSON.encode()
HOME = partition_for(KEY, PARTITIONS)
MARKER = "LEAKED"
"""Contents that no detail may show."""


def read(
    document: Any,
    topic: str | None = None,
    *,
    key: bytes | None = KEY,
    partition: int = HOME,
    command_type: str = "hire.offer",
) -> Command | Refusal:
    """Reads a record; `document` is its value as bytes, text, or what becomes JSON."""
    if isinstance(document, str):
        document = document.encode()
    elif document is not None and not isinstance(document, bytes):
        document = json.dumps(document).encode()
    topic = topic or COMMANDS[command_type][0]
    return read_command(topic, partition, PARTITIONS, key, document)


def code_of(result: Command | Refusal) -> str | None:
    """The refusal's code, or None for a command. Checks that the detail shows no contents."""
    if isinstance(result, Command):
        return None
    assert result.code in DEAD_LETTER_CODES
    assert MARKER not in result.detail
    return result.code


def offer(**more: Any) -> dict[str, Any]:
    return {**envelope("hire.offer", dict(COMMAND_DATA["hire.offer"])), **more}


def with_data(command_type: str, **change: Any) -> dict[str, Any]:
    return envelope(command_type, {**COMMAND_DATA[command_type], **change})


# --- what is a command ----------------------------------------------------------------------------


@pytest.mark.parametrize("command_type", COMMANDS)
def test_each_command_is_read(command_type: str) -> None:
    topic, _ = COMMANDS[command_type]
    document = envelope(command_type, COMMAND_DATA[command_type])
    command = read(document, topic)
    assert isinstance(command, Command)
    assert (command.id, command.type, command.subject) == ("c1", command_type, PERSON)
    assert (command.time, command.at_ms) == ("2026-11-23T08:00:00.123+08:00", 1_795_392_000_123)
    assert command.batch == COMMAND_DATA[command_type].get("batch")


@pytest.mark.parametrize("command_type", COMMANDS)
def test_optional_fields_may_be_absent_and_others_may_not(command_type: str) -> None:
    topic, model = COMMANDS[command_type]
    for name, field in model.model_fields.items():
        data = {key: value for key, value in COMMAND_DATA[command_type].items() if key != name}
        found = code_of(read(envelope(command_type, data), topic))
        assert found == ("data_invalid" if field.is_required() else None), name


OPTIONAL = {
    "identity.upload": {"notice_accepted"},
    "identity.verify": {"upload", "reason"},
    "hire.complete": {"trade", "position"},
    "dismissal.request": {"reason"},
    "assignment.request": {"position", "batch"},
    "assignment.approve": {"batch"},
    "assignment.reject": {"batch"},
    "scan.attendance": {"direction"},
    "scan.checkin": {"direction"},
    "entry.process": {"batch"},
    "exit.register": {"batch"},
    "exit.confirm": {"batch"},
}
"""As the contract's table marks them."""


@pytest.mark.parametrize("command_type", COMMANDS)
def test_what_is_optional(command_type: str) -> None:
    fields = COMMANDS[command_type][1].model_fields
    optional = {name for name, field in fields.items() if not field.is_required()}
    assert optional == OPTIONAL.get(command_type, set())
    assert set(fields) == set(COMMAND_DATA[command_type])


@pytest.mark.parametrize("command_type", COMMANDS)
@pytest.mark.parametrize("wrong", [None, 7, 1.5, [], {}, ["x"]], ids=repr)
def test_nothing_is_coerced(command_type: str, wrong: object) -> None:
    topic, _ = COMMANDS[command_type]
    for name in COMMAND_DATA[command_type]:
        assert code_of(read(with_data(command_type, **{name: wrong}), topic)) == "data_invalid"
    assert code_of(read(with_data(command_type, **{MARKER: wrong}), topic)) == "data_invalid"


def test_a_text_is_no_bool_and_a_bool_no_text() -> None:
    topic = "identity-uploads"
    for value in ("true", "yes", 1, 0):
        document = with_data("identity.upload", notice_accepted=value)
        assert code_of(read(document, topic)) == "data_invalid"
    assert code_of(read(with_data("hire.offer", employer=True))) == "data_invalid"


@pytest.mark.parametrize(
    ("command_type", "field", "values"),
    [
        ("identity.upload", "notice_accepted", [True, False, "", "  "]),
        ("hire.complete", "trade", ["", " ", "\u3000", "101", "000"]),
        ("hire.complete", "position", ["", "  ", "项目经理", "p" * POSITION_CHARS_MAX]),
        ("dismissal.request", "reason", ["", " \n", "x" * 5000]),
        ("scan.entry", "code", ["", "not a code"]),
        ("scan.checkin", "direction", ["in", "out"]),
        ("identity.verify", "result", ["verified", "failed"]),
        ("hire.offer", "employer", [USCC, "9131029183FQEFLCR0"]),
        ("identity.upload", "birth_date", ["2000-02-29", "0001-01-01", "9999-12-31"]),
        ("identity.upload", "sealed", ["AAAA", "AAA=", "AA==", "+/+/" * 1000]),
        ("hire.confirm", "offer", ["x", "x" * ID_CHARS_MAX, "𠮷" * ID_CHARS_MAX, "é / 号"]),
        ("scan.checkin", "site", ["s" * SITE_CHARS_MAX, "𠮷" * SITE_CHARS_MAX, "a:b c"]),
    ],
)
def test_what_a_field_takes(command_type: str, field: str, values: list[object]) -> None:
    topic, _ = COMMANDS[command_type]
    for value in values:
        assert code_of(read(with_data(command_type, **{field: value}), topic)) is None, value


@pytest.mark.parametrize(
    ("command_type", "field", "values"),
    [
        ("hire.complete", "role", ["", "Worker", "boss"]),
        ("hire.complete", "trade", ["1", "12", "1234", "12a", "１２３", "101\n", MARKER]),
        ("hire.complete", "position", ["p" * 65, "𠮷" * 65, "a\x00b"]),
        ("dismissal.request", "reason", ["a\x00b"]),
        ("scan.checkin", "direction", ["", "IN", "inout"]),
        ("identity.verify", "result", ["", "ok"]),
        ("identity.verify", "batch", ["", "x" * 129]),
        ("hire.offer", "employer", ["", USCC[:-1], USCC.lower(), USCC[:-1] + "4", USCC + "\n"]),
        ("hire.offer", "name_tag", ["", "a" * 31, "a" * 33, "A" * 32, "g" * 32, "a" * 32 + "\n"]),
        ("identity.upload", "front_sha256", ["", "a" * 63, "A" * 64, SHA + " "]),
        ("identity.upload", "sex", ["", "Male", "男"]),
        (
            "identity.upload",
            "birth_date",
            ["", "2001-02-29", "2001-13-01", "0000-01-01", "20010101", "2001-1-1", "2001-W01-1"],
        ),
        (
            "identity.upload",
            "sealed",
            ["", "A", "AA", "AAA", "AAAAA", "AA=A", "AA_-", "AAAA\n", "====", " AAAA"],
        ),
        ("hire.confirm", "offer", ["", "x" * 129, "𠮷" * 129, "a\x00b", "a\nb", "\x7f"]),
        ("scan.checkin", "site", ["", "s" * 65, "a/b", "/", "a\x00"]),
        ("scan.entry", "scanner", ["", "x" * 32, PERSON[:-1], PERSON.upper()]),
        ("scan.entry", "code", ["\x00"]),
    ],
)
def test_what_a_field_does_not_take(command_type: str, field: str, values: list[object]) -> None:
    topic, _ = COMMANDS[command_type]
    for value in values:
        found = code_of(read(with_data(command_type, **{field: value}), topic))
        assert found == "data_invalid", value


# --- the envelope ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        *({name: None} for name in ("specversion", "id", "source", "type", "time", "subject")),
        *({name: 1} for name in ("specversion", "id", "source", "type", "time", "subject")),
        *({name: ""} for name in ("specversion", "id", "source", "type", "time", "subject")),
        {"specversion": "0.3"},
        {"specversion": 1.0},
        {"id": "x" * 129},
        {"id": "𠮷" * 129},
        {"id": "a\x00b"},
        {"source": "a\x00b"},
        {"type": "a\x00b"},
        {"subject": PERSON.upper()},
        {"subject": PERSON[:-1]},
        {"subject": MARKER},
        {"data": None},
        {"data": []},
        {"data": "{}"},
        {"data": 1},
        {"Time": "x"},
        {"data_base64": "AAAA"},
        {"trace-parent": MARKER},
        {"": MARKER},
        {"名": MARKER},
    ],
    ids=repr,
)
def test_what_is_no_envelope(change: dict[str, Any]) -> None:
    assert code_of(read(offer(**change))) == "not_an_envelope"


@pytest.mark.parametrize("name", ["specversion", "id", "source", "type", "time", "subject", "data"])
def test_every_attribute_is_needed(name: str) -> None:
    document = offer()
    del document[name]
    assert code_of(read(document)) == "not_an_envelope"


@pytest.mark.parametrize("value", ["[]", "1", "null", '"x"', "true", f'["{MARKER}"]'])
def test_json_that_is_no_object(value: str) -> None:
    assert code_of(read(value)) == "not_an_envelope"


def test_other_attributes_of_cloudevents_are_not_read() -> None:
    document = offer(
        datacontenttype="application/json",
        dataschema="https://example.com/schema",
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        sequence=17,
    )
    plain = read(offer())
    assert isinstance(plain, Command)
    assert read(document) == plain


@pytest.mark.parametrize("length", [1, 128])
@pytest.mark.parametrize("character", ["x", "号", "𠮷"])
def test_an_id_counts_characters(length: int, character: str) -> None:
    assert code_of(read(offer(id=character * length))) is None


@pytest.mark.parametrize(
    ("time", "at_ms"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("2026-11-23T00:00:00Z", 1_795_392_000_000),
        ("2026-11-23t00:00:00z", 1_795_392_000_000),
        ("2026-11-23T08:00:00+08:00", 1_795_392_000_000),
        ("2026-11-22T19:00:00-05:00", 1_795_392_000_000),
        ("2026-11-23T00:00:00-00:00", 1_795_392_000_000),
        ("2026-11-23T05:45:00.5+05:45", 1_795_392_000_500),
        ("2026-11-23T00:00:00.001Z", 1_795_392_000_001),
        ("2026-11-23T00:00:00.0019999Z", 1_795_392_000_001),
        ("2026-11-23T00:00:00.123456789012345Z", 1_795_392_000_123),
        ("2024-02-29T23:59:59.999+23:59", 1_709_164_859_999),
        ("1969-12-31T23:59:59.9995Z", -1),
        ("0001-01-01T00:00:00Z", -62_135_596_800_000),
        ("0001-01-01T00:00:00+14:00", -62_135_647_200_000),
        ("9999-12-31T23:59:59-12:00", 253_402_343_999_000),
    ],
)
def test_rfc_3339(time: str, at_ms: int) -> None:
    command = read(offer(time=time))
    assert isinstance(command, Command)
    assert (command.time, command.at_ms) == (time, at_ms)


@pytest.mark.parametrize(
    "time",
    [
        "2026-11-23",
        "2026-11-23T00:00:00",
        "2026-11-23 00:00:00Z",
        "2026-11-23T00:00Z",
        "2026-11-23T00:00:00.Z",
        "2026-11-23T00:00:00,5Z",
        "2026-11-23T00:00:00+0800",
        "2026-11-23T00:00:00+08",
        "2026-11-23T00:00:00+24:00",
        "2026-11-23T24:00:00Z",
        "2026-11-23T23:60:00Z",
        "2026-11-31T00:00:00Z",
        "2025-02-29T00:00:00Z",
        "0000-01-01T00:00:00Z",
        "20261123T000000Z",
        "2026-W48-1T00:00:00Z",
        "2026-11-23T00:00:00Z ",
        "2026-11-23T00:00:00Z\n",
        "２026-11-23T00:00:00Z",
        "1795392000000",
        MARKER,
    ],
)
def test_what_is_no_time(time: str) -> None:
    assert code_of(read(offer(time=time))) == "not_an_envelope"


# --- JSON -----------------------------------------------------------------------------------------

GOOD = json.dumps(offer())


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b" ",
        b"\x00",
        b"\xff",
        b"{",
        GOOD.encode() + b"}",
        GOOD.encode() * 2,
        b"\xef\xbb\xbf" + GOOD.encode(),
        GOOD.encode("utf-16"),
        GOOD.encode("utf-16-le"),
        GOOD.encode("utf-32"),
        GOOD.replace('"c1"', '"\xe9"').encode("latin-1"),
        GOOD.replace('"c1"', '"\\ud800"').encode(),
        GOOD.replace('"c1"', '"\\udc00\\ud800"').encode(),
        GOOD.replace('"c1"', '"a\tb"').encode(),
        GOOD.replace('"c1"', "NaN").encode(),
        GOOD.replace('"c1"', "Infinity").encode(),
        GOOD.replace('"c1"', "1e999").encode(),
        GOOD.replace('"c1"', "01").encode(),
        GOOD.replace('"c1"', "'c1'").encode(),
        GOOD[:-1].encode() + b",}",
        b"[" * 30_000,
        b"[" * 30_000 + b"]" * 30_000,
        b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
        f"// {MARKER}\n{{}}".encode(),
        MARKER.encode(),
    ],
)
def test_what_is_not_json(value: bytes | None) -> None:
    assert code_of(read(value)) == "not_json"


def test_escapes_and_white_space_make_no_other_command() -> None:
    plain = read(GOOD)
    for same in (
        GOOD.replace("hire", "\\u0068ire"),
        json.dumps(offer(), indent=8),
        " \r\n\t" + GOOD + "\n",
        json.dumps(dict(reversed(offer().items()))),
    ):
        assert read(same) == plain


def test_of_a_repeated_key_the_last_counts() -> None:
    """As with most readers of JSON; a dead letter would be as good, a crash would not."""
    command = read(GOOD[:-1] + ', "id": "c2"}')
    assert isinstance(command, Command)
    assert command.id == "c2"


def test_deep_and_huge_things_where_nothing_is_read() -> None:
    deep: Any = 1
    for _ in range(500):
        deep = [deep]
    assert code_of(read(offer(extension=deep))) is None
    number = GOOD[:-1] + ', "extension": ' + "9" * 300 + "}"
    assert code_of(read(number)) is None
    assert code_of(read(offer(data={"employer": deep, "name_tag": PERSON}))) == "data_invalid"


def test_nul_is_no_text_that_can_be_kept() -> None:
    for document in (offer(id="\x00"), offer(source="\x00")):
        assert code_of(read(document)) == "not_an_envelope"


# --- the order ------------------------------------------------------------------------------------


def test_every_reason_in_its_order() -> None:
    """A record with a flaw for each reason, mended one at a time from the first on."""
    other = "f" * 32
    found = []
    wrong_place = (HOME + 1) % PARTITIONS
    padding = " " * VALUE_BYTES_MAX

    def look(value: str, topic: str, key: bytes, partition: int) -> None:
        found.append(
            code_of(read_command(topic, partition, PARTITIONS, key, value.encode())) or "accepted"
        )

    bad_type = envelope("hire.nothing", {MARKER: 1})
    bad_data = envelope("hire.offer", {MARKER: 1})
    look("{" + padding, "elsewhere", other.encode(), wrong_place)
    look("{", "elsewhere", other.encode(), wrong_place)
    look(json.dumps({**bad_type, "time": "never"}), "elsewhere", other.encode(), wrong_place)
    look(json.dumps(bad_type), "elsewhere", other.encode(), wrong_place)
    look(json.dumps(bad_data), "elsewhere", other.encode(), wrong_place)
    look(json.dumps(bad_data), "hire-requests", other.encode(), wrong_place)
    look(json.dumps(bad_data), "hire-requests", KEY, wrong_place)
    look(json.dumps(bad_data), "hire-requests", KEY, HOME)
    look(json.dumps(offer()), "hire-requests", KEY, HOME)
    assert found == [*DEAD_LETTER_CODES, "accepted"]


def test_exactly_the_size_that_is_allowed() -> None:
    padded = GOOD + " " * (VALUE_BYTES_MAX - len(GOOD.encode()))
    assert code_of(read(padded)) is None
    assert code_of(read(padded + " ")) == "too_large"


@pytest.mark.parametrize("command_type", COMMANDS)
def test_each_type_on_its_own_topic_only(command_type: str) -> None:
    home, _ = COMMANDS[command_type]
    document = envelope(command_type, COMMAND_DATA[command_type])
    for topic in {topic for topic, _ in COMMANDS.values()} - {home}:
        assert code_of(read(document, topic)) == "wrong_topic"


@pytest.mark.parametrize(
    "message_type", ["outcome", "offer.made", "Hire.offer", "hire.offer ", MARKER]
)
def test_what_is_no_command(message_type: str) -> None:
    assert code_of(read(offer(type=message_type))) == "unknown_type"


@pytest.mark.parametrize(
    "key", [None, b"", b"x", PERSON.upper().encode(), b"f" * 32, KEY + b"\n", b"\xff\xfe"]
)
def test_the_key_is_the_subject(key: bytes | None) -> None:
    assert code_of(read(offer(), key=key)) == "key_mismatch"


def test_the_partition_is_the_keys() -> None:
    for partition in range(PARTITIONS):
        found = code_of(read(offer(), partition=partition))
        assert found == (None if partition == HOME else "wrong_partition")


def test_of_a_key_known_to_be_at_home_nothing_else_is_taken_for_granted() -> None:
    topic = COMMANDS["hire.offer"][0]
    elsewhere = (HOME + 1) % PARTITIONS

    def said(key: bytes, known: bytes, partition: int) -> str | None:
        document = json.dumps(offer()).encode()
        return code_of(read_command(topic, partition, PARTITIONS, key, document, {known}))

    assert said(KEY, KEY, elsewhere) is None  # whoever says so has seen to it
    assert said(b"f" * 32, b"f" * 32, HOME) == "key_mismatch"
    assert said(KEY, b"f" * 32, elsewhere) == "wrong_partition"


# --- anything at all ------------------------------------------------------------------------------

FUZZ = settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner),
    max_leaves=8,
)
spoilt_fields = st.dictionaries(
    st.sampled_from(["specversion", "id", "source", "type", "time", "subject", "data", "extra"]),
    json_values | st.text(string.printable),
    max_size=3,
)


@FUZZ
@given(st.binary(), st.none() | st.binary(max_size=40), st.integers(0, PARTITIONS - 1))
def test_no_bytes_make_it_raise(value: bytes, key: bytes | None, partition: int) -> None:
    code_of(read(value, key=key, partition=partition))


@FUZZ
@given(st.sampled_from(sorted(COMMANDS)), spoilt_fields, json_values, st.data())
def test_a_spoilt_command_is_read_only_where_its_parts_are_well_formed(
    command_type: str, spoilt: dict[str, Any], value: Any, data: st.DataObject
) -> None:
    """It never raises, and the pass that reads all at once is no laxer than the models."""
    field = data.draw(st.sampled_from([*COMMAND_DATA[command_type], "unknown"]))
    document = envelope(command_type, {**COMMAND_DATA[command_type], field: value}) | spoilt
    result = read(json.dumps(document).encode(), command_type=command_type)
    if isinstance(result, Command):
        found = Envelope.model_validate(document)
        data = COMMANDS[command_type][1].model_validate(found.data)
        assert data.model_dump() == asdict(result.data)
    else:
        code_of(result)


@FUZZ
@given(st.binary(max_size=6), st.integers(0, len(GOOD)), st.integers(0, 12))
def test_no_damage_makes_it_raise(splinter: bytes, at: int, length: int) -> None:
    value = GOOD.encode()
    code_of(read(value[:at] + splinter + value[at + length :]))


@FUZZ
@given(st.text(max_size=60))
def test_no_detail_shows_contents(text: str) -> None:
    """Wherever a text of the sender's stands, the detail does not repeat it."""
    secret = f"{MARKER}{text}"
    documents: list[dict[str, Any]] = [offer(**{name: secret}) for name in offer()]
    documents += [offer(**{secret: 1}), offer(data={secret: secret})]
    documents += [with_data("hire.offer", **{name: secret}) for name in COMMAND_DATA["hire.offer"]]
    for document in documents:
        result = read(document)
        assert isinstance(result, Command) or MARKER not in result.detail
