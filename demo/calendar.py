"""The play's calendar: six days in Shanghai, the last of them yesterday, from 8 on the first.

Commands say when something happened, within seven days of the broker's clock. So all of a project's
week can be played at once and still be judged as if it had been lived: every time here is at most
6 days and 16 hours old, even when the play begins just before midnight.
"""

from datetime import datetime, timedelta, timezone
from typing import Final

from rules.calendar import shanghai_date
from schemas.limits import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS

DAYS: Final = 6

_SHANGHAI: Final = timezone(timedelta(hours=8))


class Calendar:
    """`now_ms` is the moment the play begins, in Unix milliseconds."""

    def __init__(self, now_ms: int) -> None:
        self.now_ms = now_ms
        today = shanghai_date(now_ms)
        midnight = datetime(today.year, today.month, today.day, tzinfo=_SHANGHAI)
        self.start_ms = int(midnight.timestamp()) * SECOND_MS - DAYS * DAY_MS

    def at(self, day: int, clock: str, seconds: int = 0) -> int:
        """Unix milliseconds of "HH:MM" in Shanghai on a day of the play, 1 to 6."""
        hours, minutes = map(int, clock.split(":"))
        return (
            self.start_ms
            + (day - 1) * DAY_MS
            + hours * HOUR_MS
            + minutes * MINUTE_MS
            + seconds * SECOND_MS
        )

    def day_of(self, date: str) -> int:
        """The day of the play that a date, YYYY-MM-DD, is."""
        first = shanghai_date(self.start_ms)
        return (datetime.fromisoformat(date).date() - first).days + 1


def rfc3339(at_ms: int) -> str:
    """A time as clients write it, with Shanghai's offset."""
    moment = datetime.fromtimestamp(at_ms / SECOND_MS, _SHANGHAI)
    return moment.isoformat(timespec="milliseconds")
