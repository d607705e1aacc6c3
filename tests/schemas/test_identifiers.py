"""Identifiers, held against the standards' own examples and against other implementations."""

import hmac
import random
import unicodedata
from collections.abc import Callable
from datetime import date
from functools import partial
from typing import Literal

import aiokafka.partitioner
import pytest
import stdnum.cn.ric
import stdnum.cn.uscc
from hypothesis import example, given, settings
from hypothesis import strategies as st
from id_validator import validator

from schemas.identifiers import (
    InvalidCreditCode,
    InvalidIdentifier,
    InvalidIdNumber,
    InvalidName,
    birth_date_of,
    check_uscc,
    make_id_number,
    make_uscc,
    murmur2,
    name_tag,
    normalise_id_number,
    partition_for,
    person_id,
    sex_of,
)

SECRET = bytes(range(32))
ID_CHARACTERS = "0123456789X"
USCC_CHARACTERS = "0123456789ABCDEFGHJKLMNPQRTUWXY"

rngs = st.integers(0, 2**64).map(random.Random)
birth_dates = st.dates(date(1950, 1, 1), date(2012, 12, 31))
sexes: st.SearchStrategy[Literal["male", "female"]] = st.sampled_from(["male", "female"])
id_numbers = st.builds(make_id_number, rngs, birth_dates, sexes)
usccs = st.builds(make_uscc, rngs)


def with_id_check_character(body: str) -> str:
    """The 17 digits and the character by which the standard's sum comes to 1 mod 11."""
    for last in ID_CHARACTERS:
        number = body + last
        if sum(ID_CHARACTERS.index(c) * 2 ** (17 - i) for i, c in enumerate(number)) % 11 == 1:
            return number
    raise AssertionError


def refusal(check: Callable[[str], object], text: str) -> InvalidIdentifier | None:
    try:
        check(text)
    except InvalidIdentifier as error:
        return error
    return None


# --- ID numbers ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given_number", "number", "born", "sex"),
    [
        ("360426199101010071", "360426199101010071", date(1991, 1, 1), "male"),
        ("11010519491231002X", "11010519491231002X", date(1949, 12, 31), "female"),
        ("11010519491231002x", "11010519491231002X", date(1949, 12, 31), "female"),
        ("440524188001010014", None, None, None),  # the standard's own, too old to be a worker's
        (with_id_check_character("81000019900101001"), "", date(1990, 1, 1), "male"),
        (with_id_check_character("82000019900101002"), "", date(1990, 1, 1), "female"),
        (with_id_check_character("83000020000229003"), "", date(2000, 2, 29), "male"),
        (with_id_check_character("93115619850630004"), "", date(1985, 6, 30), "female"),
    ],
)
def test_id_numbers_of_each_kind(
    given_number: str, number: str | None, born: date | None, sex: str | None
) -> None:
    if number is None:
        with pytest.raises(InvalidIdNumber):
            normalise_id_number(given_number)
        return
    assert normalise_id_number(given_number) == (number or given_number)
    assert birth_date_of(given_number) == born
    assert sex_of(given_number) == sex


@pytest.mark.parametrize(
    "number",
    [
        "",
        "36042619910101007",
        "3604261991010100711",
        "360426910101007",  # 15 digits, of the first generation
        " 360426199101010071",
        "360426199101010071 ",
        "360426199101010071\n",
        "360426 19910101 0071",
        "３60426199101010071",
        "٣60426199101010071",
        "1101051949123100２X",
        "X1010519491231002X",
        "-60426199101010071",
        with_id_check_character("00042619910101007"),
        with_id_check_character("16042619910101007"),
        with_id_check_character("84042619910101007"),
        with_id_check_character("99042619910101007"),
        with_id_check_character("36042618991231007"),
        with_id_check_character("36042600000101007"),
        with_id_check_character("36042619910001007"),
        with_id_check_character("36042619911301007"),
        with_id_check_character("36042619910100007"),
        with_id_check_character("36042619910431007"),
        with_id_check_character("36042619910229007"),
        with_id_check_character("36042619000229007"),
    ],
)
def test_what_is_no_id_number(number: str) -> None:
    with pytest.raises(InvalidIdNumber):
        normalise_id_number(number)
    with pytest.raises(InvalidIdNumber):
        birth_date_of(number)
    with pytest.raises(InvalidIdNumber):
        sex_of(number)
    with pytest.raises(InvalidIdNumber):
        person_id(SECRET, number)


@settings(max_examples=50, deadline=None)  # id-validator is slow
@given(rngs, birth_dates, sexes)
def test_a_made_id_number_is_valid_to_everybody(
    rng: random.Random, born: date, sex: Literal["male", "female"]
) -> None:
    number = make_id_number(rng, born, sex)
    assert normalise_id_number(number) == number
    assert normalise_id_number(number.lower()) == number
    assert (birth_date_of(number), sex_of(number)) == (born, sex)
    assert stdnum.cn.ric.is_valid(number)
    info = validator.get_info(number, strict_mode=True)
    assert (info["birthday_code"], info["sex"]) == (f"{born:%Y-%m-%d}", int(sex == "male"))


@given(id_numbers, st.integers(0, 17), st.sampled_from("0123456789Xx"))
def test_one_wrong_character_is_always_noticed(number: str, at: int, other: str) -> None:
    changed = number[:at] + other + number[at + 1 :]
    if changed.upper() == number:
        return
    with pytest.raises(InvalidIdNumber):
        normalise_id_number(changed)


@given(id_numbers, st.integers(0, 16))
def test_two_neighbours_swapped_are_always_noticed(number: str, at: int) -> None:
    swapped = number[:at] + number[at + 1] + number[at] + number[at + 2 :]
    if swapped == number:
        return
    with pytest.raises(InvalidIdNumber):
        normalise_id_number(swapped)


@settings(max_examples=50, deadline=None)  # id-validator is slow
@given(
    st.from_regex(
        # Districts that are still there: the others know when a county ended.
        r"(110101|310104)(19[5-9]|20[01])[0-9][01][0-9][0-3][0-9]{4}",
        fullmatch=True,
    ),
    st.one_of(st.none(), st.sampled_from(ID_CHARACTERS)),
)
@example("11010120000229001", None)
@example("11010119990229001", None)
def test_others_judge_the_same(body: str, last: str | None) -> None:
    """Of days that are none too, and of check characters that do not match."""
    number = with_id_check_character(body) if last is None else body + last
    accepted = refusal(normalise_id_number, number) is None
    assert stdnum.cn.ric.is_valid(number) == accepted
    assert bool(validator.is_valid(number)) == accepted


# --- unified social credit codes -----------------------------------------------------------------


@pytest.mark.parametrize("code", ["91350100M000100Y43", "9131029183FQEFLCR0"])
def test_credit_codes(code: str) -> None:
    assert check_uscc(code) == code


@pytest.mark.parametrize(
    "code",
    [
        "",
        "91350100M000100Y4",
        "91350100M000100Y433",
        "91350100m000100y43",
        "91350100M000100Y43 ",
        "91350100M000100Y4\n",
        "91350100M000100Y44",
        "91350100I000100Y43",
        "91350100O000100Y43",
        "91350100S000100Y43",
        "91350100V000100Y43",
        "91350100Z000100Y43",
        "９1350100M000100Y43",
    ],
)
def test_what_is_no_credit_code(code: str) -> None:
    with pytest.raises(InvalidCreditCode):
        check_uscc(code)


@given(usccs)
def test_a_made_credit_code_is_valid_to_everybody(code: str) -> None:
    assert check_uscc(code) == code
    assert stdnum.cn.uscc.is_valid(code)


@given(usccs, st.integers(0, 17), st.sampled_from(USCC_CHARACTERS))
def test_one_wrong_character_of_a_credit_code_is_always_noticed(
    code: str, at: int, other: str
) -> None:
    if other == code[at]:
        return
    with pytest.raises(InvalidCreditCode):
        check_uscc(code[:at] + other + code[at + 1 :])


@given(
    st.text("0123456789", min_size=8, max_size=8), st.text(USCC_CHARACTERS, min_size=9, max_size=9)
)
def test_one_check_character_fits_any_body(digits: str, organisation: str) -> None:
    codes = [digits + organisation + last for last in USCC_CHARACTERS]
    fitting = [code for code in codes if refusal(check_uscc, code) is None]
    assert len(fitting) == 1
    assert fitting == [code for code in codes if stdnum.cn.uscc.is_valid(code)]


# --- person ids and name tags --------------------------------------------------------------------


def test_a_person_id_is_the_hmac_of_the_normalised_number() -> None:
    expected = hmac.new(SECRET, b"11010519491231002X", "sha256").hexdigest()[:32]
    assert person_id(SECRET, "11010519491231002X") == expected
    assert person_id(SECRET, "11010519491231002x") == expected
    assert person_id(SECRET[1:], "11010519491231002X") != expected


@pytest.mark.parametrize(
    "name",
    [
        "阿依古丽·买买提",
        " 阿依古丽·买买提",
        "\u3000阿依古丽·买买提\t",
        "\u2f00",
        "Ａnna",
        "e\u0301",
    ],
)
def test_a_name_tag_is_the_hmac_of_the_trimmed_name_in_nfkc(name: str) -> None:
    text = unicodedata.normalize("NFKC", name.strip())
    expected = hmac.new(SECRET, text.encode(), "sha256").hexdigest()[:32]
    assert name_tag(SECRET, name) == expected
    assert name_tag(SECRET, text) == expected


@given(st.text(st.characters(codec="utf-8"), min_size=1).filter(lambda name: name.strip()))
def test_blanks_around_a_name_do_not_matter(name: str) -> None:
    assert name_tag(SECRET, f" {name}\u3000") == name_tag(SECRET, name)
    assert name_tag(SECRET, unicodedata.normalize("NFKC", name)) == name_tag(SECRET, name)


@pytest.mark.parametrize("name", ["", " ", "\u3000\u00a0\n", "\ud800张三"])
def test_what_is_no_name(name: str) -> None:
    with pytest.raises(InvalidName):
        name_tag(SECRET, name)


KNOWN_WORDS = {
    "an ID number has 17 digits and a check character (0-9 or X)",
    "the ID number's region is none that exists",
    "the ID number's birth year is too long ago",
    "the ID number's birth date is not a day of the calendar",
    "the ID number's check character does not match",
    "a unified social credit code has 18 characters",
    "a unified social credit code has digits and upper-case letters without I, O, S, V, Z",
    "the unified social credit code's check character does not match",
    "a name must not be blank",
    "the name is not valid Unicode text",
}


@pytest.mark.parametrize("check", [normalise_id_number, check_uscc, partial(name_tag, SECRET)])
@given(text=st.one_of(st.text(st.characters()), id_numbers.map(lambda number: "1" + number)))
@example(text="11010519491231002Y")
@example(text="36042619910229007X")
@example(text="\ud800张三")
def test_no_error_tells_what_it_is_about(check: Callable[[str], object], text: str) -> None:
    error = refusal(check, text)
    if error is not None:
        assert str(error) in KNOWN_WORDS
        assert error.__suppress_context__ or error.__context__ is None


# --- Kafka's default partitioner -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "value"),
    [  # those of Kafka's own test of its Java client
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_murmur2_gives_what_java_gives(key: bytes, value: int) -> None:
    assert murmur2(key) == value


@given(st.binary(max_size=200))
@example(b"\xff" * 64)
def test_murmur2_gives_what_aiokafka_gives(key: bytes) -> None:
    assert murmur2(key) & 0xFFFFFFFF == aiokafka.partitioner.murmur2(key) & 0xFFFFFFFF
    assert -(2**31) <= murmur2(key) < 2**31


@given(st.binary(max_size=200), st.integers(1, 10_000))
def test_a_key_goes_where_aiokafka_sends_it(key: bytes, partitions: int) -> None:
    numbers = list(range(partitions))
    sent = aiokafka.partitioner.DefaultPartitioner()(key, numbers, numbers)
    assert partition_for(key, partitions) == sent


def test_the_hash_of_a_megabyte_is_like_any_other() -> None:
    key = random.Random(1).randbytes(2**20)
    assert murmur2(key) & 0xFFFFFFFF == aiokafka.partitioner.murmur2(key) & 0xFFFFFFFF
