"""Dates in Shanghai. China keeps one offset from UTC and, since 1991, no summer time."""

from datetime import date, timedelta
from functools import lru_cache
from typing import Final

from schemas.limits import DAY_MS, HOUR_MS

_OFFSET_MS: Final = 8 * HOUR_MS
_EPOCH: Final = date(1970, 1, 1)


def shanghai_date(at_ms: int) -> date:
    """The date in Asia/Shanghai at a time in Unix milliseconds."""
    return _date((at_ms + _OFFSET_MS) // DAY_MS)


def shanghai_day(at_ms: int) -> str:
    """The same date as text, `YYYY-MM-DD`."""
    return _day((at_ms + _OFFSET_MS) // DAY_MS)


@lru_cache(maxsize=64)
def _day(days: int) -> str:
    return _date(days).isoformat()


def _date(days: int) -> date:
    return _EPOCH + timedelta(days=days)


def full_years(birth_date: str, at_ms: int) -> int:
    """Age in full years on the Shanghai date of a time; someone born on 29 February has the
    birthday on 1 March in other years."""
    born = date.fromisoformat(birth_date)
    today = shanghai_date(at_ms)
    return today.year - born.year - ((today.month, today.day) < (born.month, born.day))
