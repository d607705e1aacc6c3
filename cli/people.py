"""Who is meant: person ids as typed, or made from an ID number that nothing else ever sees."""

from __future__ import annotations

import re
import sys
from getpass import getpass

from cli.errors import WRONG, Trouble
from schemas.identifiers import InvalidIdentifier, name_tag, person_id


def person_id_of(text: str) -> str:
    """A person id as typed. Raises Trouble."""
    if re.fullmatch(r"[0-9a-f]{32}", text) is None:
        raise Trouble(
            "a person id has 32 lower-case hexadecimal characters",
            "copy it from `realname watch`, or give --id-number instead",
            WRONG,
        )
    return text


def id_of(secret: bytes, id_number: str) -> str:
    """The person id of an ID number. Raises Trouble, without the number."""
    try:
        return person_id(secret, id_number)
    except InvalidIdentifier as error:
        raise Trouble(str(error), "mend the ID number", WRONG) from None


def tag_of(secret: bytes, name: str) -> str:
    """The tag of a name. Raises Trouble, without the name."""
    try:
        return name_tag(secret, name)
    except InvalidIdentifier as error:
        raise Trouble(str(error), "mend the name", WRONG) from None


def asked(id_number: str | None) -> str | None:
    """The option's value; for `-` what is asked for, unseen by shell history and process lists."""
    if id_number != "-":
        return id_number
    if sys.stdin.isatty():
        return getpass("ID number: ").strip()
    return sys.stdin.readline().strip()
