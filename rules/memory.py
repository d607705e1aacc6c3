"""The memory of commands seen, by which a duplicate is known (contract: Always first).

Packed, 32 bytes a command: digest of (source, id), digest of (type, data), the command's `time`
with the number of the answered code, and the version answered.
"""

import struct
from typing import Final

from rules import packed
from rules.person import Person
from schemas.limits import DAY_MS, PAST_MS_MAX, SEEN_IDS_MAX
from schemas.reading import CONTENT_DIGEST_BYTES, KEY_DIGEST_BYTES, Command
from schemas.reasons import CODE_AT, NUMBER_OF
from schemas.value import Value

_RECORD: Final = struct.Struct(f">{KEY_DIGEST_BYTES}s{CONTENT_DIGEST_BYTES}sQI")
_RECORD_BYTES: Final = _RECORD.size
_TIME: Final = struct.Struct(f">{KEY_DIGEST_BYTES + CONTENT_DIGEST_BYTES}xQ")
_CODE_BITS: Final = 8

PRUNE_SLACK_MS: Final = DAY_MS
"""Commands are forgotten when they are this much older than they need be: a day's worth at once,
so that the memory is not rewritten for each command."""

_KEPT_MS: Final = PAST_MS_MAX + PRUNE_SLACK_MS
_SEEN_BYTES_MAX: Final = SEEN_IDS_MAX * _RECORD_BYTES


class Seen(Value, frozen=True):
    """What was answered to a command seen before."""

    content_digest: bytes
    code: str
    version: int


def recall(person: Person, key_digest: bytes) -> Seen | None:
    """The answer that a command of this (source, id) had, if it is remembered."""
    if person.seen.find(key_digest) < 0:  # true of nearly all
        return None
    at = packed.find(person.seen, key_digest, _RECORD_BYTES)
    if at < 0:
        return None
    _, content_digest, time_and_code, version = _RECORD.unpack_from(person.seen, at)
    return Seen(content_digest, CODE_AT[time_and_code & 0xFF], version)


def remember(person: Person, command: Command, code: str, now_ms: int) -> None:
    """Adds an answer to `person`, which must be a fresh copy; forgets what is too old."""
    seen = person.seen
    if seen and _TIME.unpack_from(seen)[0] >> _CODE_BITS < now_ms - _KEPT_MS:
        # The floor keeps what is forgotten too late also for a broker clock that steps back.
        person.seen_floor_ms = max(person.seen_floor_ms, now_ms - PAST_MS_MAX - 1)
        seen = packed.since(seen, now_ms - PAST_MS_MAX, _time, _RECORD_BYTES)
    seen += _RECORD.pack(
        command.key_digest,
        command.content_digest,
        command.at_ms << _CODE_BITS | NUMBER_OF[code],
        person.version,
    )
    if len(seen) > _SEEN_BYTES_MAX:
        seen, forgotten_ms = packed.without_earliest(seen, _time, _RECORD_BYTES)
        person.seen_floor_ms = max(person.seen_floor_ms, forgotten_ms)
    person.seen = seen


def _time(seen: bytes, at: int) -> int:
    time_and_code: int = _TIME.unpack_from(seen, at)[0]
    return time_and_code >> _CODE_BITS
