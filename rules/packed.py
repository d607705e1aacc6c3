"""What a person's state remembers many of, packed into bytes: records of one size, oldest first.

As structs they would be made anew whenever a state is read, and there are dozens of them a person.
"""

from collections.abc import Callable
from hashlib import blake2b
from typing import Final

DIGEST_BYTES: Final = 8

Time = Callable[[bytes, int], int]
"""The time of the record that begins there, in Unix milliseconds."""

_empty_digest: Final = blake2b(digest_size=DIGEST_BYTES)


def digest(text: str) -> bytes:
    """What stands for an id."""
    # Copied, because `blake2b` takes as long to read its parameters as to digest an id.
    made = _empty_digest.copy()
    made.update(text.encode())
    return made.digest()


def find(packed: bytes, start: bytes, record_bytes: int = DIGEST_BYTES) -> int:
    """Where a record begins with `start`; -1 when none does."""
    at = packed.find(start)
    while at >= 0 and at % record_bytes:
        at = packed.find(start, at + 1)
    return at


def since(packed: bytes, oldest_ms: int, time: Time, record_bytes: int) -> bytes:
    """The records of this time and later."""
    return b"".join(
        packed[at : at + record_bytes]
        for at in range(0, len(packed), record_bytes)
        if time(packed, at) >= oldest_ms
    )


def without_earliest(packed: bytes, time: Time, record_bytes: int) -> tuple[bytes, int]:
    """The records but for the earliest in time, the oldest of several; and that time."""
    at = min(range(0, len(packed), record_bytes), key=lambda at: time(packed, at))
    return packed[:at] + packed[at + record_bytes :], time(packed, at)
