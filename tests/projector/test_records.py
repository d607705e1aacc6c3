"""Reading result records: odd times, NUL, bytes of dead letters, what cannot be read."""

from datetime import UTC, datetime
from typing import Any

import pytest

from projector.records import Unreadable, digest, moment, read_dead_letter, read_event, read_outcome
from tests.projector import lines
from tests.projector.test_fold import Record, event
from tests.projector.writing import dead_letter

ONE = "1" * 32


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("2026-03-01T08:00:00+08:00", datetime(2026, 3, 1, tzinfo=UTC)),
        ("2026-03-01T23:59:00.123456+23:59", datetime(2026, 3, 1, 0, 0, 0, 123_456, tzinfo=UTC)),
        ("2026-03-01T00:00:00.1234567Z", datetime(2026, 3, 1, 0, 0, 0, 123_456, tzinfo=UTC)),
        ("2026-W10-1T00:00:00Z", datetime(2026, 3, 2, tzinfo=UTC)),
        ("2026-03-01t00:00:00.5z", datetime(2026, 3, 1, 0, 0, 0, 500_000, tzinfo=UTC)),
        ("9999-12-31T23:59:59-12:00", datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)),
        ("0001-01-01T00:00:00+14:00", datetime(1, 1, 1, tzinfo=UTC)),
    ],
)
async def test_moments(tables: Any, text: str, at: datetime) -> None:
    """PostgreSQL reads what a table is given as the same instant."""
    read, written = moment(text)
    assert read == at
    assert await tables.fetchval("select $1::text::timestamptz", written) == at


@pytest.mark.parametrize("text", ["", "2026-02-29T00:00:00Z", "2026-03-01T00:00:60Z", "now", "١"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"Invalid isoformat string|must be in|out of range"):
        moment(text)


def test_nul_becomes_what_a_table_can_hold() -> None:
    record = event(ONE, 1, "identity.submitted")
    assert record.value is not None
    command = rb'"command":"\u0000\u0000\\u0000\\\u0000"'
    changed = record._replace(value=record.value.replace(b'"command":"c"', command))
    assert read_event("identity-changes", changed).command == "\ufffd\ufffd\\u0000\\\ufffd"


@pytest.mark.parametrize("value", [b"a\0b \xe4\xb8\xad", b"\xff\x00\xfe", b"", None])
def test_dead_letters_give_back_the_bytes(value: bytes | None) -> None:
    encoding = "base64" if value and b"\xff" in value else "utf-8"
    line = read_dead_letter(Record("dead-letters", 0, 0, 5, value, dead_letter(7, value, encoding)))
    row = lines.row("dead_letters", line)
    assert (row[6], row[7]) == (value, value)
    assert row[8] == len(value or b"")


@pytest.mark.parametrize(
    "value",
    [None, b"", b"{", b"[]", b'{"type":"offer.vanished","data":{}}', b'{"type":[],"data":{}}'],
)
def test_what_cannot_be_read_is_named_by_its_place_and_not_quoted(value: bytes | None) -> None:
    record = Record("t", 3, 9, 0, None, value)
    for read in (lambda: read_event("identity-changes", record), lambda: read_outcome(record)):
        with pytest.raises(Unreadable, match="t/3/9") as caught:
            read()
        assert "vanished" not in str(caught.value)


def test_an_event_on_another_topic_is_refused() -> None:
    with pytest.raises(Unreadable, match="does not belong"):
        read_event("presence-changes", event(ONE, 1, "identity.submitted"))


def test_a_digest_tells_records_apart() -> None:
    record = Record("t", 0, 0, 1, b"k", b"v")
    others = [record._replace(timestamp=2), record._replace(value=b"w"), record._replace(key=None)]
    assert len({digest(record), *map(digest, others)}) == 4
