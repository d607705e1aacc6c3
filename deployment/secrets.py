"""The secrets of an embedded deployment: made once, kept in its home.

A deployment with brokers of its own is given its secrets by settings. One that `realname up` makes
on a machine makes them itself, so that nothing has to be set to begin.
"""

from __future__ import annotations

import os
import secrets
import tempfile
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from deployment.sealing import make_key_pair
from deployment.settings import Settings

FILE: Final = "secrets.json"

_KEY_BYTES: Final = 32


class SecretsError(Exception):
    """The home's secrets are there and cannot be used; they are never replaced by new ones."""


class Secrets(BaseModel):
    """What an embedded deployment must keep to itself; keys are 32 bytes, in the file in hex.

    `sealing_private_key` opens what is sealed to `sealing_key`; only who plays the centre needs it.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        ser_json_bytes="hex",
        val_json_bytes="hex",
    )

    person_secret: bytes = Field(repr=False)
    code_keys: dict[int, bytes] = Field(repr=False)
    sealing_key: bytes = Field(repr=False)
    sealing_private_key: bytes = Field(repr=False)


def ensure_secrets(home: Path) -> Secrets:
    """The secrets of `home`, made (mode 0600) if there are none; the same to everybody who asks.

    Raises `SecretsError` when the file cannot be used: with other secrets every person would become
    a stranger to the records already written, so they are not made again.
    """
    path = home / FILE
    if not path.exists():
        _make(path)
    try:
        if path.stat().st_mode & 0o077:
            raise SecretsError(f"{path} can be read by others; chmod 600 {path}")
        return Secrets.model_validate_json(path.read_bytes())
    except OSError as error:
        raise SecretsError(f"{path}: {error.strerror}") from error
    except ValidationError as error:
        # Not chained and not quoted: the error may show what is in the file.
        where = ", ".join(sorted({".".join(map(str, one["loc"])) for one in error.errors()}))
        raise SecretsError(
            f"{path} is damaged ({where or 'not JSON'}); restore it from a backup, or begin a new "
            "home: other secrets would make every person a stranger"
        ) from None


def with_secrets(settings: Settings) -> Settings:
    """`settings`, the unset secrets filled in from the home where the broker is embedded."""
    if not settings.embedded_broker:
        return settings
    made = ensure_secrets(settings.home)
    missing = {
        name: getattr(made, name)
        for name in ("person_secret", "code_keys", "sealing_key")
        if getattr(settings, name) is None
    }
    return settings.model_copy(update=missing)


def _make(path: Path) -> None:
    """Write new secrets whole or not at all; of several makers at once the first one counts."""
    pair = make_key_pair()
    new = Secrets(
        person_secret=secrets.token_bytes(_KEY_BYTES),
        code_keys={1: secrets.token_bytes(_KEY_BYTES)},
        sealing_key=pair.public,
        sealing_private_key=pair.private,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=FILE)  # mode 0600
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(new.model_dump_json(indent=2) + "\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)
        except FileExistsError:
            return
    finally:
        os.unlink(draft)
