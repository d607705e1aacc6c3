"""Codes to scan, held against the contract's text and a slow second reading of it."""

import doctest
import hmac
import string
from base64 import b32decode, b32encode
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rules import codes
from rules.codes import Code, in_window, issue_person_code, issue_site_code, parse, parse_each

KEYS = {1: bytes(range(32)), 2: bytes(range(32, 64))}
PERSON = "0123456789abcdef0123456789abcdef"
NOON_S = 1_764_072_000  # 2025-11-25T12:00:00Z
MINUTE = NOON_S // 60
DAY = NOON_S // 86_400

QR_ALPHANUMERIC = set(string.digits + string.ascii_uppercase + " $%*+-./:")

persons = st.binary(min_size=16, max_size=16).map(bytes.hex)
sites = st.text(st.characters(codec="utf-8", exclude_characters="/"), min_size=1, max_size=64)
seconds = st.integers(0, 60 * (2**32 - 1))
key_rings = st.dictionaries(st.integers(0, 255), st.binary(min_size=16, max_size=64), min_size=1)


def text_of(body: bytes) -> str:
    return "RN:" + b32encode(body).decode().rstrip("=")


def signed(
    kind: int, key_id: int, step: int, identifier: bytes, keys: Mapping[int, bytes] = KEYS
) -> str:
    """A code with a right tag, whatever it says."""
    body = bytes([kind, key_id]) + step.to_bytes(4, "big") + identifier
    return text_of(body + hmac.new(keys[key_id], body, "sha256").digest()[:16])


def bytes_of(text: str) -> bytes:
    return b32decode(text[3:] + "=" * (-len(text[3:]) % 8))


# --- the format ----------------------------------------------------------------------------------


def test_a_code_written_down() -> None:
    # From openssl dgst -mac HMAC and coreutils' base32.
    text = issue_person_code({7: b"sixteen bytes ok"}, PERSON, NOON_S)
    assert text == "RN:AEDQDQFAOAASGRLHRGV433YBENCWPCNLZXX4BLMKTI3UHFEERCIYGRRICF6FK"
    assert parse({7: b"sixteen bytes ok"}, text) == Code("person", 7, 29_401_200, PERSON)


@given(key_rings, persons, seconds)
def test_a_persons_code_follows_the_format_and_reads_back(
    keys: dict[int, bytes], person: str, at_s: int
) -> None:
    text = issue_person_code(keys, person, at_s)
    key_id = max(keys)
    assert text == signed(1, key_id, at_s // 60, bytes.fromhex(person), keys)
    assert parse(keys, text) == Code("person", key_id, at_s // 60, person)
    assert set(text) <= QR_ALPHANUMERIC


@given(key_rings, sites, seconds)
@example({0: b"k" * 16}, "𠮷" * 64, 0)
def test_a_sites_code_follows_the_format_and_reads_back(
    keys: dict[int, bytes], site: str, at_s: int
) -> None:
    text = issue_site_code(keys, site, at_s)
    key_id = max(keys)
    assert text == signed(2, key_id, at_s // 86_400, site.encode(), keys)
    assert parse(keys, text) == Code("site", key_id, at_s // 86_400, site)
    assert set(text) <= QR_ALPHANUMERIC


@pytest.mark.parametrize("length", [1, 63, 64, 65, 200])
def test_a_key_may_be_longer_than_a_block_of_the_hash(length: int) -> None:
    keys = {1: bytes(range(length))}
    text = issue_person_code(keys, PERSON, NOON_S)
    assert text == signed(1, 1, MINUTE, bytes.fromhex(PERSON), keys)
    assert parse(keys, text) == Code("person", 1, MINUTE, PERSON)


# --- what is refused -----------------------------------------------------------------------------

anything = st.one_of(
    st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"),
    st.sampled_from(string.printable),
    st.characters(),
)


@given(st.data(), st.one_of(persons.map(lambda p: ("person", p)), sites.map(lambda s: ("site", s))))
def test_a_change_of_any_one_character_is_refused(
    data: st.DataObject, subject: tuple[str, str]
) -> None:
    kind, identifier = subject
    issue = issue_person_code if kind == "person" else issue_site_code
    text = issue(KEYS, identifier, NOON_S)
    at = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(anything.filter(lambda character: character != text[at]))
    assert parse(KEYS, text[:at] + other + text[at + 1 :]) is None, "replaced"
    assert parse(KEYS, text[:at] + other + text[at:]) is None, "inserted"
    assert parse(KEYS, text + other) is None, "appended"
    assert parse(KEYS, text[:at] + text[at + 1 :]) is None, "left out"


def test_every_other_last_character_is_refused() -> None:
    """Spare bits make 2 (person) to 16 characters decode to the same bytes."""
    for site in ("A", "AB", "ABC", "ABCD", "ABCDE"):
        text = issue_site_code(KEYS, site, NOON_S)
        for last in "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567":
            assert (parse(KEYS, text[:-1] + last) is None) == (last != text[-1])


@pytest.mark.parametrize("bit", range(38 * 8))
def test_a_change_of_any_one_bit_is_refused(bit: int) -> None:
    body = bytearray(bytes_of(issue_person_code(KEYS, PERSON, NOON_S)))
    body[bit // 8] ^= 0x80 >> bit % 8
    assert parse(KEYS, text_of(bytes(body))) is None


@given(st.text(st.characters()))
def test_any_text_is_answered(text: str) -> None:
    assert parse(KEYS, text) is None
    assert parse(KEYS, "RN:" + text) is None


@given(st.binary(max_size=400))
def test_any_bytes_without_the_key_are_refused(body: bytes) -> None:
    assert parse(KEYS, text_of(body)) is None


@pytest.mark.parametrize(
    "spell",
    [
        str.lower,
        lambda text: text.replace("RN:", "rn:"),
        lambda text: text.replace("RN:", "RN"),
        lambda text: text.replace("RN:", ""),
        lambda text: "RN:" + text,
        lambda text: text + "=" * (-len(text[3:]) % 8),
        lambda text: text + "A",
        lambda text: text + "\n",
        lambda text: " " + text,
        lambda text: text.replace("RN:", "RN: "),
        lambda text: text.replace("RN:", "RN:+"),
        lambda text: text.replace("RN:", "RN:A"),
        lambda text: text[:10] + "_" + text[10:],
        lambda text: text.translate({ord("A"): "Ａ"}),
        lambda text: text.translate({ord("A"): "a"}),
    ],
)
def test_another_spelling_of_a_code_is_refused(spell) -> None:  # type: ignore[no-untyped-def]
    text = issue_person_code(KEYS, PERSON, NOON_S)
    assert parse(KEYS, text) is not None
    assert spell(text) != text
    assert parse(KEYS, spell(text)) is None


PERSON_BYTES = bytes.fromhex(PERSON)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(signed(0, 1, MINUTE, PERSON_BYTES), id="kind 0"),
        pytest.param(signed(3, 1, MINUTE, PERSON_BYTES), id="kind 3"),
        pytest.param(signed(9, 9, MINUTE, PERSON_BYTES, {9: b"?"}), id="key id unknown"),
        pytest.param(signed(1, 1, MINUTE, PERSON_BYTES, {1: KEYS[2]}), id="another's key"),
        pytest.param(signed(1, 1, MINUTE, PERSON_BYTES[1:]), id="person id too short"),
        pytest.param(signed(1, 1, MINUTE, PERSON_BYTES + b"0"), id="person id too long"),
        pytest.param(signed(1, 1, MINUTE, b""), id="no person id"),
        pytest.param(signed(2, 1, DAY, b""), id="no site id"),
        pytest.param(signed(2, 1, DAY, b"x" * 65), id="site id too long"),
        pytest.param(signed(2, 1, DAY, "工".encode() * 65), id="site id too long, in characters"),
        pytest.param(signed(2, 1, DAY, b"a/b"), id="site id with a slash"),
        pytest.param(signed(2, 1, DAY, b"\xff"), id="site id not UTF-8"),
        pytest.param(signed(2, 1, DAY, b"\xed\xa0\x80"), id="site id a surrogate"),
        pytest.param(signed(2, 1, DAY, b"\xc0\x80"), id="site id overlong"),
        pytest.param("RN:", id="nothing"),
        pytest.param("", id="no text"),
    ],
)
def test_a_right_tag_does_not_make_a_wrong_code_right(text: str) -> None:
    assert parse(KEYS, text) is None


@pytest.mark.parametrize("person", ["", PERSON[1:], PERSON + "0", PERSON.upper(), "g" * 32])
def test_no_code_is_issued_for_what_is_no_person_id(person: str) -> None:
    with pytest.raises(ValueError, match="person id"):
        issue_person_code(KEYS, person, NOON_S)


@pytest.mark.parametrize("site", ["", "a/b", "x" * 65, "\ud800"])
def test_no_code_is_issued_for_what_is_no_site_id(site: str) -> None:
    with pytest.raises(ValueError, match=r"site id|surrogates"):
        issue_site_code(KEYS, site, NOON_S)


@pytest.mark.parametrize(
    ("keys", "at_s"),
    [({}, NOON_S), ({256: b"k"}, NOON_S), ({-1: b"k"}, NOON_S), (KEYS, -1), (KEYS, 60 * 2**32)],
)
def test_no_code_is_issued_outside_the_format(keys: dict[int, bytes], at_s: int) -> None:
    with pytest.raises(ValueError, match="key"):
        issue_person_code(keys, PERSON, at_s)


# --- several -------------------------------------------------------------------------------------

right = st.one_of(
    persons.map(lambda person: issue_person_code(KEYS, person, NOON_S)),
    sites.map(lambda site: issue_site_code(KEYS, site, NOON_S)),
)


@given(
    st.lists(
        st.one_of(
            right,
            right.map(lambda text: text[:-1] + "!"),  # of a right length, and no base32
            right.map(lambda text: text[:-1] + "Ａ"),
            right.map(lambda text: text[:-1] + ("B" if text[-1] == "A" else "A")),
            st.binary(min_size=38, max_size=38).map(text_of),
            st.text(st.characters()),
        )
    )
)
def test_of_several_each_is_read_as_it_is_alone(texts: list[str]) -> None:
    read = parse_each(KEYS, texts)
    assert read == {text: parse(KEYS, text) for text in texts}
    for text in texts:
        codes._known_site_codes.pop(text, None)
    assert read == parse_each(KEYS, texts[::-1])


# --- what is known -------------------------------------------------------------------------------


def test_a_site_code_known_by_one_key_is_refused_by_another() -> None:
    text = issue_site_code(KEYS, "SH-0001", NOON_S)
    code = Code("site", 2, DAY, "SH-0001")
    assert parse(KEYS, text) == code
    assert parse({1: KEYS[1]}, text) is None, "its key was dropped"
    assert parse({1: KEYS[2], 2: KEYS[1]}, text) is None, "its key has another id"
    assert parse({}, text) is None
    assert parse({2: KEYS[2]}, text) == code


def test_what_is_known_is_bounded_and_has_nothing_that_was_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known: dict[str, tuple[Code, bytes]] = {}
    monkeypatch.setattr(codes, "_known_site_codes", known)
    monkeypatch.setattr(codes, "SITE_CODES_KNOWN_MAX", 3)
    others = {1: KEYS[2], 2: KEYS[1]}
    for number in range(10):
        site = f"SH-{number}"
        assert parse(KEYS, issue_site_code(others, site, NOON_S)) is None
        assert parse(KEYS, issue_site_code(KEYS, site, NOON_S)) == Code("site", 2, DAY, site)
        assert parse(KEYS, issue_person_code(KEYS, PERSON, NOON_S + number)) is not None
        assert list(known)[-1] == issue_site_code(KEYS, site, NOON_S)
        assert len(known) == number % 3 + 1


# --- windows -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("issued_s", "from_ms", "until_ms"),
    [
        # On its step's first and last second: the window hangs on the step, not on the second.
        (NOON_S, (NOON_S - 60) * 1_000, (NOON_S + 180) * 1_000),
        (NOON_S + 59, (NOON_S - 60) * 1_000, (NOON_S + 180) * 1_000),
        (NOON_S + 60, NOON_S * 1_000, (NOON_S + 240) * 1_000),
        (30, -60_000, 180_000),
    ],
)
def test_a_persons_code_is_accepted_from_one_step_before_to_two_after(
    issued_s: int, from_ms: int, until_ms: int
) -> None:
    code = parse(KEYS, issue_person_code(KEYS, PERSON, issued_s))
    assert code is not None
    assert not in_window(code, from_ms - 1)
    assert in_window(code, from_ms)
    assert in_window(code, until_ms - 1)
    assert not in_window(code, until_ms)


@pytest.mark.parametrize("issued_s", [DAY * 86_400, NOON_S, DAY * 86_400 + 86_399])
def test_a_sites_code_is_accepted_on_its_day_and_the_next(issued_s: int) -> None:
    code = parse(KEYS, issue_site_code(KEYS, "SH-0001", issued_s))
    assert code is not None
    assert not in_window(code, DAY * 86_400_000 - 1)
    assert in_window(code, DAY * 86_400_000)
    assert in_window(code, (DAY + 2) * 86_400_000 - 1)
    assert not in_window(code, (DAY + 2) * 86_400_000)


# --- rotation ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("issuer", "verifier", "read"),
    [
        ({1}, {1}, True),
        ({1}, {1, 2}, True),  # the verifiers know the new key first
        ({1, 2}, {1}, False),  # the other way round breaks
        ({1, 2}, {1, 2}, True),
        ({1, 2}, {2}, True),  # the highest id issued
        ({1}, {2}, False),  # the old key was dropped
        ({2, 9, 10}, {10}, True),  # by number, not by text
        ({255}, {0, 255}, True),
        ({0}, {0, 255}, True),
    ],
)
def test_the_highest_key_issues_and_all_verify(
    issuer: set[int], verifier: set[int], read: bool
) -> None:
    keys = {key_id: key_id.to_bytes(32, "big") for key_id in issuer | verifier}
    text = issue_person_code({key_id: keys[key_id] for key_id in issuer}, PERSON, NOON_S)
    code = parse({key_id: keys[key_id] for key_id in verifier}, text)
    assert code == (Code("person", max(issuer), MINUTE, PERSON) if read else None)


# --- the documentation ---------------------------------------------------------------------------


def test_the_examples_of_the_documentation_are_true(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = Path(__file__).parents[2] / "docs" / "codes.md"
    monkeypatch.chdir(tmp_path)  # one of them draws a file
    result = doctest.testfile(str(page), module_relative=False, encoding="utf-8")
    assert result.attempted > 0
    assert result.failed == 0
    assert (tmp_path / "gate.svg").exists()
