"""The memory of recorded attendance scans with direction `in`, by which an `out` finds its day
(contract: Attendance).

Packed, 16 bytes a scan: its time (Unix milliseconds) and the digest of its site.
"""

import struct
from functools import lru_cache
from typing import Final

from rules import packed
from schemas.limits import CLOCK_INS_MAX, NIGHT_SHIFT_MS, PAST_MS_MAX, SITE_DIGESTS_KNOWN_MAX

_RECORD: Final = struct.Struct(f">Q{packed.DIGEST_BYTES}s")
_RECORD_BYTES: Final = _RECORD.size
_BYTES_MAX: Final = CLOCK_INS_MAX * _RECORD_BYTES

_KEPT_MS: Final = PAST_MS_MAX + NIGHT_SHIFT_MS

_digest: Final = lru_cache(maxsize=SITE_DIGESTS_KNOWN_MAX)(packed.digest)


def pack(site: str, at_ms: int) -> bytes:
    """One scan."""
    return _RECORD.pack(at_ms, _digest(site))


def remember(ins: bytes, site: str, at_ms: int, now_ms: int) -> bytes:
    """`ins` and one more, without those that no `out` can reach any more."""
    oldest_ms = now_ms - _KEPT_MS
    if ins and _RECORD.unpack_from(ins)[0] < oldest_ms:
        ins = packed.since(ins, oldest_ms, _time, _RECORD_BYTES)
    ins += _RECORD.pack(at_ms, _digest(site))
    if len(ins) > _BYTES_MAX:
        ins, _ = packed.without_earliest(ins, _time, _RECORD_BYTES)
    return ins


def latest(ins: bytes, site: str, after_ms: int, before_ms: int) -> int | None:
    """The time of the latest one at the site between both times, neither included."""
    found_ms = after_ms
    wanted = _digest(site)
    for at_ms, where in _RECORD.iter_unpack(ins):
        if found_ms < at_ms < before_ms and where == wanted:
            found_ms = at_ms
    return found_ms if found_ms > after_ms else None


def _time(ins: bytes, at: int) -> int:
    at_ms: int = _RECORD.unpack_from(ins, at)[0]
    return at_ms
