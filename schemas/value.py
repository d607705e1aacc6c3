"""The base of what a decision is made of."""

import msgspec


class Value(msgspec.Struct, frozen=True, gc=False):
    """Immutable, and cheap to make: some ten of them are made for each command. None can be in a
    cycle, so the collector need not look at any (`gc`)."""
