"""Codes to scan: the text behind the personal code 个人建设码 and the site code 工地建设码.

A code is ``RN:`` and the base32 (RFC 4648 alphabet, upper case, no padding) of

====== ===== ============================================================================
field  bytes meaning
====== ===== ============================================================================
kind   1     1 person, 2 site
key id 1     which of the deployment's keys made the tag, 0 to 255
step   4     big endian; Unix time / 60 s for a person, / 86,400 s for a site, rounded down
id     n     a person id's 16 bytes, or the site id (1 to 64 characters) in UTF-8
tag    16    the first bytes of HMAC-SHA256, by that key, over all the bytes before it
====== ===== ============================================================================

One code has exactly one text: lower case, padding, blanks and non-zero spare bits are refused.
All characters are of the QR alphanumeric set, so the drawn symbol stays small.

The key with the highest id issues, every key in the mapping verifies; docs/codes.md has the steps
of a rotation.

Nothing here reads a clock: whoever issues or judges a code says at what time.
"""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from hashlib import sha256
from hmac import compare_digest
from typing import TYPE_CHECKING, Final, Literal

from schemas.limits import (
    PERSON_CODE_STEP_MS,
    SECOND_MS,
    SITE_CHARS_MAX,
    SITE_CODE_STEP_MS,
    SITE_CODES_KNOWN_MAX,
)
from schemas.value import Value

if TYPE_CHECKING:
    from hashlib import _Hash as Hash

PREFIX: Final = "RN:"

Kind = Literal["person", "site"]
Keys = Mapping[int, bytes]
"""Code keys by key id."""

_HEADER: Final = struct.Struct(">BBI")
_HEADER_BYTES: Final = _HEADER.size
_PERSON_BYTE: Final = 1
_SITE_BYTE: Final = 2
_PERSON_ID_BYTES: Final = 16
_TAG_BYTES: Final = 16

# UTF-8 spends at most four bytes a character, base32 eight characters on five bytes.
_LAYOUTS: Final = {
    len(PREFIX) + characters: (
        struct.Struct(f"{signed_bytes}s{_TAG_BYTES}s{left_bytes}s"),
        "A" * (-characters % 8),
        bytes(left_bytes),
    )
    for id_bytes in range(1, 4 * SITE_CHARS_MAX + 1)
    for signed_bytes in [_HEADER_BYTES + id_bytes]
    for characters in [-(-(signed_bytes + _TAG_BYTES) * 8 // 5)]
    for left_bytes in [-(-characters // 8) * 5 - signed_bytes - _TAG_BYTES]
}
"""By the length of a text: how its bytes are laid out when the characters are filled up to eights,
what they are filled up with, and the bytes that must then be left over: none of the spare bits of
the last character may be set. A length in between would have a whole character too many."""

# int() reads base 32 with the digits 0-9a-v in one call, where base64.b32decode loops in Python.
# Every byte that is no base32 character becomes "!", which int() refuses; the plain call would
# let signs, blanks, underscores and lower case through.
_BASE32: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_INT_DIGITS: Final = b"0123456789abcdefghijklmnopqrstuv"
_TO_INT_DIGITS: Final = bytes(
    _INT_DIGITS[_BASE32.index(byte)] if byte in _BASE32 else ord("!") for byte in range(256)
)


class Code(Value, frozen=True):
    """A code whose tag was verified. It may still be outside its window: see `in_window`."""

    kind: Kind
    key_id: int
    step: int
    """Minutes (person) or days (site) since the Unix epoch, when the code was issued."""
    id: str
    """A person id (32 lower-case hex characters) or a site id, by kind."""


_known_site_codes: Final[dict[str, tuple[Code, bytes]]] = {}
"""Texts that were verified, and by which key: all day everybody at a site scans the same one. What
was refused is not kept, so nobody without a key can fill it."""


def issue_person_code(keys: Keys, person: str, at_unix_s: int) -> str:
    """The text of a person's code at this Unix time in seconds.

    Raises ValueError for a person id that is not 32 lower-case hex characters, a time outside the
    format, or no usable key.
    """
    try:
        person_bytes = bytes.fromhex(person)
    except ValueError:
        person_bytes = b""
    if len(person_bytes) != _PERSON_ID_BYTES or person_bytes.hex() != person:
        raise ValueError("a person id is 32 lower-case hexadecimal characters")
    return _issue(keys, _PERSON_BYTE, at_unix_s * SECOND_MS // PERSON_CODE_STEP_MS, person_bytes)


def issue_site_code(keys: Keys, site: str, at_unix_s: int) -> str:
    """The text of a site's code at this Unix time in seconds.

    Raises ValueError for a site id that is not 1 to 64 characters without ``/``, a time outside
    the format, or no usable key.
    """
    if not _is_site_id(site):
        raise ValueError("a site id has 1 to 64 characters and no '/'")
    return _issue(keys, _SITE_BYTE, at_unix_s * SECOND_MS // SITE_CODE_STEP_MS, site.encode())


def parse(keys: Keys, text: str) -> Code | None:
    """The code a text stands for, or None, which the rules answer with ``code_invalid``.

    None: another prefix, a text that is not the one base32 form, a wrong length, an unknown kind
    or key id, a tag that does not match. The window is not judged here.
    """
    return parse_each(keys, [text])[text]


def parse_each(keys: Keys, texts: Iterable[str]) -> dict[str, Code | None]:
    """As `parse`, of several: those of one length are turned into bytes together, which costs
    little more than to do it for one."""
    codes: dict[str, Code | None] = {}
    alike: defaultdict[int, list[str]] = defaultdict(list)
    for text in dict.fromkeys(texts):  # a command sent twice shows the same one
        known = _known_site_codes.get(text)
        if known is not None and keys.get(known[0].key_id) == known[1]:
            codes[text] = known[0]
        elif len(text) in _LAYOUTS and text.startswith(PREFIX):
            alike[len(text)].append(text)
        else:
            codes[text] = None
    for length, ones in alike.items():
        for text, code in zip(ones, _read(keys, length, ones), strict=True):
            codes[text] = code
            if code is not None and code.kind == "site":
                if len(_known_site_codes) >= SITE_CODES_KNOWN_MAX:
                    _known_site_codes.clear()
                _known_site_codes[text] = code, keys[code.key_id]
    return codes


def _read(keys: Keys, length: int, texts: Sequence[str]) -> list[Code | None]:
    layout, fill, left_over = _LAYOUTS[length]
    characters = "".join([text[len(PREFIX) :] + fill for text in texts])
    try:
        number = int(characters.encode().translate(_TO_INT_DIGITS), 32)
    except ValueError:
        if len(texts) == 1:
            return [None]
        return [code for text in texts for code in _read(keys, length, [text])]
    return [
        _verified(keys, signed, tag) if left == left_over else None
        for signed, tag, left in layout.iter_unpack(number.to_bytes(layout.size * len(texts)))
    ]


def _verified(keys: Keys, signed: bytes, tag: bytes) -> Code | None:
    kind_byte, key_id, step = _HEADER.unpack_from(signed)
    key = keys.get(key_id)
    if key is None or not compare_digest(_tag(key, signed), tag):
        return None
    identifier = signed[_HEADER_BYTES:]
    if kind_byte == _PERSON_BYTE:
        if len(identifier) != _PERSON_ID_BYTES:
            return None
        return Code("person", key_id, step, identifier.hex())
    if kind_byte == _SITE_BYTE:
        try:
            site = identifier.decode()
        except UnicodeDecodeError:
            return None
        return Code("site", key_id, step, site) if _is_site_id(site) else None
    return None


def in_window(code: Code, at_ms: int) -> bool:
    """Whether a code is accepted at this time, in Unix milliseconds; if not: ``code_expired``.

    A person's code is accepted from one step (minute) before to two steps after its own, a site's
    on its day (UTC) and the next.
    """
    if code.kind == "person":
        return -1 <= at_ms // PERSON_CODE_STEP_MS - code.step <= 2
    return 0 <= at_ms // SITE_CODE_STEP_MS - code.step <= 1


def _issue(keys: Keys, kind_byte: int, step: int, identifier: bytes) -> str:
    if not keys:
        raise ValueError("no code key is configured, so no code can be issued")
    key_id = max(keys)
    try:
        signed = _HEADER.pack(kind_byte, key_id, step) + identifier
    except struct.error as error:
        raise ValueError(
            f"key id {key_id} must fit in 1 byte and step {step} in 4 bytes, unsigned"
        ) from error
    body = signed + _tag(keys[key_id], signed)
    length = -(-len(body) * 8 // 5)
    number = int.from_bytes(body, "big") << (5 * length - 8 * len(body))
    characters = (_BASE32[number >> shift & 31] for shift in range(5 * (length - 1), -5, -5))
    return PREFIX + bytes(characters).decode("ascii")


def _tag(key: bytes, signed: bytes) -> bytes:
    """HMAC-SHA256 (RFC 2104) of the two hashes it consists of: `hmac.HMAC` costs twice as much."""
    begun, ended = _keyed(key)
    inner, outer = begun.copy(), ended.copy()
    inner.update(signed)
    outer.update(inner.digest())
    return outer.digest()[:_TAG_BYTES]


@lru_cache(maxsize=256)
def _keyed(key: bytes) -> tuple[Hash, Hash]:
    """The key's part of the work, which is half of it, done once."""
    block_bytes = sha256().block_size
    block = (key if len(key) <= block_bytes else sha256(key).digest()).ljust(block_bytes, b"\0")
    return (
        sha256(bytes(byte ^ 0x36 for byte in block)),
        sha256(bytes(byte ^ 0x5C for byte in block)),
    )


def _is_site_id(text: str) -> bool:
    return 1 <= len(text) <= SITE_CHARS_MAX and "/" not in text
