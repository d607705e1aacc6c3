"""What is recognised is exactly what the models make of it: same command, same digests, for any
bytes. And that is recognised which is usual, or the quick way would be the long one."""

import json
import re
from datetime import datetime
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.commands import COMMANDS
from schemas.envelope import Envelope, is_attribute
from schemas.forms import time_ms
from schemas.identifiers import partition_for
from schemas.limits import ID_CHARS_MAX, POSITION_CHARS_MAX, SITE_CHARS_MAX
from schemas.reading import Command, Refusal, read_by_models, read_command
from schemas.recognising import DATA, USUAL_ATTRIBUTES, recognise
from tests.schemas.examples import COMMAND_DATA, PERSON, USCC, envelope

PARTITIONS = 16
KEY = PERSON.encode()
HOME = partition_for(KEY, PARTITIONS)


def both_ways(
    value: bytes, topic: str, *, key: bytes | None = KEY, partition: int = HOME
) -> Command | Refusal:
    """What is read of a record, which must be what the models alone read."""
    read = read_command(topic, partition, PARTITIONS, key, value)
    alone = read_by_models(topic, partition, PARTITIONS, key, value)
    assert read == alone
    if isinstance(read, Command) and isinstance(alone, Command):
        # 1 is True, but no command says 1.
        assert repr(read) == repr(alone)
    return read


def written(document: Any, **how: Any) -> bytes:
    return json.dumps(document, **how).encode()


def example(command_type: str, **change: Any) -> dict[str, Any]:
    return envelope(command_type, {**COMMAND_DATA[command_type], **change})


def topic_of(command_type: str) -> str:
    return COMMANDS[command_type][0]


# --- what is recognised ---------------------------------------------------------------------------


@pytest.mark.parametrize("command_type", COMMANDS)
@pytest.mark.parametrize("ascii_only", [True, False], ids=["escaped", "unicode"])
@pytest.mark.parametrize("indent", [None, 2])
def test_each_type_is_recognised(command_type: str, ascii_only: bool, indent: int | None) -> None:
    """With every optional field there, and with each one absent."""
    for absent in (None, *COMMAND_DATA[command_type]):
        document = example(command_type)
        document["data"].pop(absent, None)
        value = written(document, ensure_ascii=ascii_only, indent=indent)
        read = both_ways(value, topic_of(command_type))
        # What is absent would be written into the digest, were its default not None.
        quick = isinstance(read, Command) and absent != "notice_accepted"
        assert (recognise(value) is not None) is quick, absent


@pytest.mark.parametrize("name", USUAL_ATTRIBUTES)
def test_usual_attributes_are_recognised(name: str) -> None:
    assert is_attribute(name)
    value = written(example("scan.entry") | {name: "https://example.com/工地"})
    assert recognise(value) is not None
    both_ways(value, "scan-events")


@pytest.mark.parametrize("text", ["x" * 64, "𠮷" * 64, "é 号", "\u2028", "\u3000", "\x80"])
def test_texts_of_any_script_are_recognised(text: str) -> None:
    document = example("assignment.request", site=text, position=text, batch=text)
    for ascii_only in (True, False):
        value = written(document | {"id": text, "source": text}, ensure_ascii=ascii_only)
        assert recognise(value) is not None
        both_ways(value, "assignment-requests")


def test_the_models_say_all_in_the_forms_of_their_fields() -> None:
    """A validator of a whole model, or an alias, would not be asked."""
    for model, struct in DATA.items():
        fields = vars(model)["__pydantic_decorators__"]
        assert not any(getattr(fields, kind) for kind in fields.__dataclass_fields__)
        assert set(struct.__struct_fields__) == set(model.model_fields)
        assert not any(field.alias for field in model.model_fields.values())


# --- digests are stored ---------------------------------------------------------------------------

KEY_DIGEST = "541e9c5480583e8e2ade3ad4"
CONTENT_DIGESTS = {
    "identity.upload": "29d33ebfed102a12",
    "identity.verify": "d56036097d044828",
    "hire.offer": "3408db831428cd28",
    "hire.withdraw": "9c5dd99ac2c1f480",
    "hire.complete": "bcbad536f3961f5f",
    "dismissal.request": "7e4f585f0737a55e",
    "dismissal.withdraw": "8b89d7f1a6f63a6d",
    "departure.request": "696a8b199454d0fe",
    "departure.withdraw": "9e37adcb5ec0dd0f",
    "assignment.request": "f30cd44f3fdb2a09",
    "assignment.withdraw": "152690ad610bb933",
    "operator.authorize": "41f927010e9ff1a1",
    "operator.revoke": "c3c761f2204f6750",
    "hire.confirm": "1667252c9741910e",
    "hire.refuse": "aae645b5cfb2b43d",
    "dismissal.agree": "56363dcfe1695f80",
    "dismissal.refuse": "5822d13441e8b468",
    "departure.approve": "ce887f9fea676bd8",
    "departure.refuse": "2bf595d73ee2b4d9",
    "assignment.approve": "02164ef624b6eef3",
    "assignment.reject": "d3184548bde4d5fa",
    "scan.entry": "050d544edf0e7c58",
    "scan.attendance": "e399c868144a0420",
    "scan.checkin": "9f8ad8fcec2c2f73",
    "entry.process": "b965c3955c07b259",
    "entry.self": "9b8c9b0688e8dc2d",
    "exit.register": "a6c2beac41ea7bc2",
    "exit.confirm": "2398fa78cab6aeb0",
    "exit.self": "5e8de91bcf9df7b2",
}


@pytest.mark.parametrize("command_type", COMMANDS)
def test_digests_are_what_they_have_always_been(command_type: str) -> None:
    """They are in stored states: another digest would let a duplicate through."""
    read = both_ways(written(example(command_type)), topic_of(command_type))
    assert isinstance(read, Command)
    assert read.key_digest.hex() == KEY_DIGEST
    assert read.content_digest.hex() == CONTENT_DIGESTS[command_type]


def test_a_default_that_was_sent_is_other_content_than_one_that_was_not() -> None:
    said = both_ways(written(example("identity.upload", notice_accepted=False)), "identity-uploads")
    document = example("identity.upload")
    del document["data"]["notice_accepted"]
    unsaid = both_ways(written(document), "identity-uploads")
    assert isinstance(said, Command)
    assert isinstance(unsaid, Command)
    assert said.data == unsaid.data
    assert said.content_digest != unsaid.content_digest


def test_every_character_is_written_alike() -> None:
    """Whatever is escaped in what the digest is of, both ways escape it alike."""
    characters = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    for at in range(0, len(characters), 4_096):
        document = example("dismissal.request", reason="".join(characters[at : at + 4_096]))
        for value in (orjson.dumps(document), written(document)):
            assert isinstance(both_ways(value, "dismissal-requests"), Command) is (at > 0)


# --- JSON's dark corners --------------------------------------------------------------------------

GOOD = written(example("scan.attendance"), separators=(",", ":"))


@pytest.mark.parametrize("field", [b'"id":"c1"', b'"site":"s"', b'"code":"RN:AB"'])
def test_every_escape_that_is_not_a_mere_character(field: bytes) -> None:
    name, _, _ = field.partition(b":")
    for code in (*range(0x100), *range(0xD7FF, 0xE001)):
        value = GOOD.replace(field, name + b':"x\\u%04x"' % code)
        assert value != GOOD
        both_ways(value, "scan-events")


def test_every_byte_at_every_place() -> None:
    for at in range(len(GOOD)):
        both_ways(GOOD[:at] + GOOD[at + 1 :], "scan-events")
        for byte in range(256):
            both_ways(GOOD[:at] + bytes([byte]) + GOOD[at + 1 :], "scan-events")


BAD_UTF_8 = [b"\xff", b"\x80", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xf0\x9f\x98"]
NUMBERS = [b"1", b"-0", b"01", b"1e999", b"NaN", b"9" * 400]
NESTS = [b"[" * depth + b"]" * depth for depth in (10, 1_022, 1_024, 30_000)]
NAMES = [b"x", b"dataschema", b"data", b"type"]


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b" ",
        b"null",
        b"\xef\xbb\xbf" + GOOD,
        GOOD.decode().encode("utf-16"),
        *(GOOD + tail for tail in (b"\x00", b" \r\n\t", b"\x0b", b"{}", b",", GOOD)),
        *(head + GOOD for head in (b" \r\n\t", b"\x0c", b"\xa0", b"//x\n")),
        *(GOOD.replace(b"RN:AB", bad) for bad in BAD_UTF_8),
        *(GOOD[:-1] + b',"dataschema":"' + bad + b'"}' for bad in BAD_UTF_8),
        *(GOOD[:-1] + b',"x":"' + bad + b'"}' for bad in BAD_UTF_8),
        *(b'{"data":{"site":"' + bad + b'"},' + GOOD[1:] for bad in BAD_UTF_8),
        # of a repeated key the last counts, also of the type and when it is written otherwise
        GOOD[:-1] + b',"id":"c2"}',
        b'{"id":"c2",' + GOOD[1:],
        b'{"id":7,' + GOOD[1:],
        GOOD[:-1] + b',"\\u0069d":"c2"}',
        GOOD[:-1] + b',"type":"scan.attendance"}',
        GOOD[:-1] + b',"type":"scan.entry"}',
        b'{"type":"scan.entry",' + GOOD[1:],
        b'{"ty\\u0070e":"scan.entry",' + GOOD[1:],
        GOOD[:-1] + b',"data":{}}',
        GOOD[:-1] + b',"data":null}',
        b'{"data":{},' + GOOD[1:],
        b'{"data":{"site":"first","code":"","scanner":""},' + GOOD[1:],
        GOOD[:-2] + b',"site":"second"}}',
        GOOD[:-2] + b',"direction":null}}',
        GOOD[:-2] + b',"direction":null,"direction":"in"}}',
        GOOD[:-1] + b',"dataschema":1,"dataschema":"x"}',
        # numbers and depths, read and not read
        *(GOOD.replace(b'"c1"', number) for number in NUMBERS),
        *(GOOD[:-1] + b',"' + name + b'":' + number + b"}" for number in NUMBERS for name in NAMES),
        *(GOOD[:-1] + b',"' + name + b'":' + nest + b"}" for nest in NESTS for name in NAMES),
        *(b'{"' + name + b'":' + nest + b"," + GOOD[1:] for nest in NESTS for name in NAMES),
        b"[" * 60_000,
        b'{"x":' * 10_000,
    ],
)
def test_dark_corners(value: bytes) -> None:
    both_ways(value, "scan-events")


LENGTHS = (SITE_CHARS_MAX, POSITION_CHARS_MAX, ID_CHARS_MAX)
TEXTS: list[Any] = [
    None, 0, 1, 1.0, True, False, [], {}, ["x"], {"x": 1},
    "", " ", "\u3000", "\x1c", "\x85", "\x00", "a\x00", "\n", "\t", "\x7f", "\x1f", "\x80", '"',
    "\\", "/", "a/b", "x", " x ", "号", "𠮷", "\ufeff", "\uffff", "\U0010ffff", "true",
    *(one * length for one in "x𠮷" for limit in LENGTHS for length in (limit, limit + 1)),
    USCC, USCC[:-1] + "4", USCC.lower(), USCC + "\n", "f" * 64,
    PERSON, PERSON.upper(), PERSON[:-1], PERSON + "\n",
    "101", "１０１", "101\n", " 1", "worker", "manager", "male", "female", "in", "out", "IN",
    "verified", "failed", "1992-02-29", "1993-02-29", "0000-01-01", "2000-W01-1", "20000101",
    "AAAA", "AAA=", "AA==", "AA=A", "AAAA\n",
]  # fmt: skip


@pytest.mark.parametrize("command_type", COMMANDS)
def test_every_text_in_every_field(command_type: str) -> None:
    """And absent, and where there is no such field."""
    for name in (*COMMAND_DATA[command_type], "batch", "unknown"):
        for text in TEXTS:
            document = example(command_type, **{name: text})
            both_ways(written(document), topic_of(command_type))
            both_ways(orjson.dumps(document), topic_of(command_type))


@pytest.mark.parametrize("name", [*Envelope.model_fields, *USUAL_ATTRIBUTES, "other", "Bad", ""])
def test_every_text_in_every_attribute(name: str) -> None:
    for text in [*TEXTS, *COMMANDS]:
        both_ways(orjson.dumps(example("exit.register") | {name: text}), "exit-requests")
        both_ways(written(example("exit.register") | {name: text}), "exit-requests")
    document = example("exit.register")
    document.pop(name, None)
    both_ways(written(document), "exit-requests")


def test_what_is_in_the_wrong_place() -> None:
    for topic in {topic for topic, _ in COMMANDS.values()} | {"elsewhere"}:
        both_ways(GOOD, topic)
    for partition in range(PARTITIONS):
        both_ways(GOOD, "scan-events", partition=partition)
    for key in (None, b"", b"x", KEY.upper(), KEY + b"\n", b"\xff"):
        both_ways(GOOD, "scan-events", key=key)


@pytest.mark.parametrize(
    "subject", ["", "x", PERSON.upper(), PERSON + "\n", "f" * 33, "f" * 32, "号"]
)
def test_a_subject_is_a_person_id_even_where_the_key_is_the_same(subject: str) -> None:
    key = subject.encode()
    value = written(example("scan.attendance") | {"subject": subject})
    both_ways(value, "scan-events", key=key, partition=partition_for(key, PARTITIONS))


# --- anything at all ------------------------------------------------------------------------------

SPLINTERS = st.sampled_from([
    b"", b"\\", b'"', b"\x00", b"\x7f", *BAD_UTF_8, b"\\u0000", b"\\ud800", b"\\ud83d\\ude00",
    b"\\n", b"\\/", b"\\x", b",", b":", b"{", b"}", b"[", b"null", b"true", b"1", b"NaN", b" ",
    b"\n", b"\x0b", b'"id":"z",', b'"data":{},', b'"type":"scan.entry",', b'"batch":"q",',
    b'"tracestate":"u",', b'"x":1,',
]) | st.binary(max_size=4)  # fmt: skip
CUTS = st.tuples(st.integers(0, 500), st.integers(0, 12), SPLINTERS)


@st.composite
def documents(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """A command with some fields left out or other than they should be, in any order."""
    command_type = draw(st.sampled_from(sorted(COMMANDS)))
    data = dict(draw(st.permutations(list(COMMAND_DATA[command_type].items()))))
    for name in draw(st.lists(st.sampled_from(sorted(data)), max_size=2)):
        data.pop(name, None)
    values = st.sampled_from(TEXTS) | st.text(max_size=12)
    data |= draw(
        st.dictionaries(st.sampled_from(sorted(COMMAND_DATA[command_type])), values, max_size=1)
    )
    document = envelope(command_type, data)
    names = st.sampled_from([*document, *USUAL_ATTRIBUTES])
    document |= draw(st.dictionaries(names, values, max_size=1) | st.just({}))
    return command_type, dict(draw(st.permutations(list(document.items()))))


@settings(max_examples=1_000, deadline=None, suppress_health_check=list(HealthCheck))
@given(documents(), st.booleans(), st.lists(CUTS, max_size=3))
def test_any_bytes_are_read_both_ways_alike(
    made: tuple[str, dict[str, Any]], ascii_only: bool, cuts: list[tuple[int, int, bytes]]
) -> None:
    command_type, document = made
    value = written(document, ensure_ascii=ascii_only)
    both_ways(value, topic_of(command_type))
    for at, length, splinter in cuts:
        at %= len(value) + 1
        value = value[:at] + splinter + value[at + length :]
        both_ways(value, topic_of(command_type))


# --- time -----------------------------------------------------------------------------------------

RFC_3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?"
    r"([Zz]|[+-][0-9]{2}:[0-9]{2})"
)


def plainly(text: str) -> int | None:
    """`time_ms` without a quick way."""
    if RFC_3339.fullmatch(text) is None:
        return None
    try:
        moment = datetime.fromisoformat(text.upper())
    except ValueError:
        return None
    since = moment - datetime.fromisoformat("1970-01-01T00:00:00+00:00")
    return (since.days * 86_400 + since.seconds) * 1_000 + since.microseconds // 1_000


def two(last: int) -> st.SearchStrategy[str]:
    return st.integers(0, last).map("{:02}".format)


MOMENTS = st.builds(
    "{:04}-{}-{}{}{}:{}:{}{}{}".format,
    st.integers(0, 9_999), two(13), two(32), st.sampled_from("TTTt "), two(24), two(60), two(60),
    st.just("") | st.from_regex(r"\A\.[0-9]{0,12}\Z", alphabet="0123456789."),
    st.sampled_from(["Z", "z", "", "+08", "+0800"])
    | st.builds("{}{}:{}".format, st.sampled_from("+-"), two(24), two(60)),
)  # fmt: skip


@settings(max_examples=1_000, deadline=None)
@given(
    MOMENTS,
    st.none() | st.tuples(st.integers(0, 40), st.sampled_from("0-:.,+WZT ９\ud800") | st.just("")),
)
def test_a_time_is_read_as_ever(text: str, change: tuple[int, str] | None) -> None:
    if change is not None:
        at, other = change
        text = text[:at] + other + text[at + 1 :]
    try:
        found: int | None = time_ms(text)
    except ValueError:
        found = None
    assert found == plainly(text)
