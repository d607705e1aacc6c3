"""Identifiers that come from outside, the ids derived from them, and the partition of a key.

- `normalise_id_number`, `birth_date_of`, `sex_of`: ID numbers 公民身份号码 (GB 11643);
- `check_uscc`: unified social credit codes 统一社会信用代码 (GB 32100);
- `person_id`, `name_tag`: what stands for an ID number and a name everywhere else;
- `murmur2`, `partition_for`: Kafka's default partitioner;
- `make_id_number`, `make_uscc`: test data.

No error here shows the number or the name that it is about.
"""

from __future__ import annotations

import hmac
import re
import unicodedata
from datetime import date
from operator import mul
from random import Random
from struct import unpack_from
from typing import Final, Literal


class InvalidIdentifier(ValueError):
    """An identifier that cannot be one. The words never contain it."""


class InvalidIdNumber(InvalidIdentifier):
    """Not an ID number of GB 11643."""


class InvalidCreditCode(InvalidIdentifier):
    """Not a unified social credit code of GB 32100."""


class InvalidName(InvalidIdentifier):
    """Not a name: blank, or not text."""


# --- ID numbers (GB 11643) -----------------------------------------------------------------------

BIRTH_YEAR_MIN: Final = 1900
"""An earlier year is a typing error, not a worker."""

_ID_NUMBER: Final = re.compile(r"([0-9]{6})([0-9]{4})([0-9]{2})([0-9]{2})[0-9]{3}[0-9X]")
_ID_DIGITS: Final = "0123456789X"
# ISO 7064 MOD 11-2: 2^(17 - i) mod 11; with the check character's own weight the sum is 1 mod 11.
_ID_WEIGHTS: Final = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2, 1)
_ID_VALUES: Final = {character: value for value, character in enumerate(_ID_DIGITS)}
# The first two digits are the province; 81, 82 and 83 also begin the residence permits of people
# from Hong Kong, Macao and Taiwan. A 9 before the province makes a foreigner's permanent residence
# card, with three digits for the nationality.
_ISSUED_IN: Final = re.compile(r"9?(?:1[1-5]|2[1-3]|3[1-7]|4[1-6]|5[0-4]|6[1-5]|71|8[1-3])")


def normalise_id_number(text: str) -> str:
    """The 18 characters of an ID number, a final `x` in upper case.

    Takes ID numbers of citizens, and those of residence permits in the same form (81, 82, 83 for
    people from Hong Kong, Macao, Taiwan; 9 for foreigners). Blanks and other separators are
    refused, not removed. Raises InvalidIdNumber.
    """
    number = text[:-1] + "X" if text.endswith("x") else text
    parts = _ID_NUMBER.fullmatch(number)
    if parts is None:
        raise InvalidIdNumber("an ID number has 17 digits and a check character (0-9 or X)")
    region, year, month, day = parts.groups()
    if _ISSUED_IN.match(region) is None:
        raise InvalidIdNumber("the ID number's region is none that exists")
    if int(year) < BIRTH_YEAR_MIN:
        raise InvalidIdNumber("the ID number's birth year is too long ago")
    try:
        date(int(year), int(month), int(day))
    except ValueError:
        raise InvalidIdNumber("the ID number's birth date is not a day of the calendar") from None
    if sum(map(mul, _ID_WEIGHTS, map(_ID_VALUES.__getitem__, number))) % 11 != 1:
        raise InvalidIdNumber("the ID number's check character does not match")
    return number


def birth_date_of(id_number: str) -> date:
    """The birth date in an ID number. Raises InvalidIdNumber."""
    number = normalise_id_number(id_number)
    return date(int(number[6:10]), int(number[10:12]), int(number[12:14]))


def sex_of(id_number: str) -> Literal["male", "female"]:
    """The sex in an ID number: an odd 17th digit is male. Raises InvalidIdNumber."""
    return "male" if int(normalise_id_number(id_number)[16]) % 2 else "female"


# --- unified social credit codes (GB 32100) ------------------------------------------------------

# Without I, O, S, V and Z; a character's place is its value.
_USCC_ALPHABET: Final = "0123456789ABCDEFGHJKLMNPQRTUWXY"
_USCC_VALUES: Final = {character: value for value, character in enumerate(_USCC_ALPHABET)}
# 3^i mod 31; the check character itself weighs 1, and the whole sum is 0 mod 31.
_USCC_WEIGHTS: Final = (*(pow(3, i, 31) for i in range(17)), 1)
_USCC_LENGTH: Final = 18


def check_uscc(code: str) -> str:
    """The code itself, when it is a unified social credit code; else raises InvalidCreditCode.

    Judged are length, alphabet (upper case) and check character (contract: Topics in, Forms).
    """
    if len(code) != _USCC_LENGTH:
        raise InvalidCreditCode("a unified social credit code has 18 characters")
    try:
        total = sum(map(mul, _USCC_WEIGHTS, map(_USCC_VALUES.__getitem__, code)))
    except KeyError:
        raise InvalidCreditCode(
            "a unified social credit code has digits and upper-case letters without I, O, S, V, Z"
        ) from None
    if total % 31:
        raise InvalidCreditCode("the unified social credit code's check character does not match")
    return code


# --- what stands for a person --------------------------------------------------------------------

_PSEUDONYM_CHARS: Final = 32


def person_id(secret: bytes, id_number: str) -> str:
    """The person id of an ID number: 32 lower-case hex characters, 128 bits of an HMAC-SHA256.

    The same for every spelling that normalises to the same number. Raises InvalidIdNumber.
    """
    return _pseudonym(secret, normalise_id_number(id_number).encode())


def name_tag(secret: bytes, name: str) -> str:
    """The tag of a name: the HMAC of `person_id` over the trimmed name in Unicode form NFKC.

    Raises InvalidName when nothing is left, or when it cannot be encoded.
    """
    text = unicodedata.normalize("NFKC", name).strip()
    if not text:
        raise InvalidName("a name must not be blank")
    try:
        encoded = text.encode()
    except UnicodeEncodeError:
        # Not chained: that error holds the name.
        raise InvalidName("the name is not valid Unicode text") from None
    return _pseudonym(secret, encoded)


def _pseudonym(secret: bytes, message: bytes) -> str:
    return hmac.digest(secret, message, "sha256").hex()[:_PSEUDONYM_CHARS]


# --- Kafka's default partitioner -----------------------------------------------------------------

_MURMUR_SEED: Final = 0x9747B28C
_MURMUR_M: Final = 0x5BD1E995
_32_BITS: Final = 0xFFFFFFFF


def murmur2(key: bytes) -> int:
    """MurmurHash2 as Kafka's Java client computes it: a signed number of 32 bits."""
    size = len(key)
    value = _MURMUR_SEED ^ size & _32_BITS
    for word in unpack_from(f"<{size >> 2}I", key):
        # The multiplications may grow past 32 bits: only the low ones reach the result.
        word *= _MURMUR_M
        value = (value * _MURMUR_M ^ (word ^ word >> 24 & 0xFF) * _MURMUR_M) & _32_BITS
    if tail := size & 3:
        value = (value ^ int.from_bytes(key[-tail:], "little")) * _MURMUR_M & _32_BITS
    value ^= value >> 13
    value = value * _MURMUR_M & _32_BITS
    value ^= value >> 15
    return value - (1 << 32) if value >> 31 else value


def partition_for(key: bytes, partitions: int) -> int:
    """The partition of a key, 0 to `partitions` - 1, as the Java client and aiokafka choose it."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions


# --- test data -----------------------------------------------------------------------------------

# Counties whose codes have been in force for all of these birth years.
_MADE_REGIONS: Final = (
    "110101", "310104", "330122", "340121", "360121", "510121", "522322", "532322",
)  # fmt: skip


def make_id_number(rng: Random, birth_date: date, sex: Literal["male", "female"]) -> str:
    """A valid ID number for tests and demonstrations; it may be some real person's.

    Not unique: there are some 4,000 for one birth date and sex.
    """
    order = rng.randrange(1, 1000, 2) if sex == "male" else rng.randrange(2, 1000, 2)
    body = f"{rng.choice(_MADE_REGIONS)}{birth_date:%Y%m%d}{order:03}"
    total = sum(map(mul, _ID_WEIGHTS, map(int, body)))
    return body + _ID_DIGITS[(1 - total) % 11]


def make_uscc(rng: Random) -> str:
    """A valid unified social credit code for tests and demonstrations; it may be in use."""
    organisation = "".join(rng.choices(_USCC_ALPHABET, k=9))
    body = f"91{rng.choice(_MADE_REGIONS)}{organisation}"
    total = sum(map(mul, _USCC_WEIGHTS, map(_USCC_VALUES.__getitem__, body)))
    return body + _USCC_ALPHABET[-total % 31]
