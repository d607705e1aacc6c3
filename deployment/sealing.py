"""The sealed envelope: a person's details (name, ID number, …), readable by the centre only.

A client seals to the deployment's public key (setting `sealing_key`); the text travels as `sealed`
in identity-uploads (contract: Words, Person id), and nothing that handles commands can open it.
The private key belongs to whoever checks the papers and to no process of the backend.

Libsodium's sealed box: X25519 to a one-time key, XSalsa20-Poly1305. A change of any bit is noticed.
It does not prove who sealed it: the envelope's `source` says who claims to have.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
from nacl.exceptions import CryptoError
from nacl.public import PrivateKey, PublicKey, SealedBox

_KEY_BYTES: Final = 32


class CannotOpen(ValueError):
    """Not sealed to this key, changed on the way, or no sealed details. Shows nothing of them."""


@dataclass(frozen=True)
class KeyPair:
    """Two X25519 keys of 32 bytes."""

    private: bytes = field(repr=False)
    public: bytes


def make_key_pair() -> KeyPair:
    """A new key pair, from the system's randomness."""
    private = PrivateKey.generate()
    return KeyPair(private=bytes(private), public=bytes(private.public_key))


def seal(public_key: bytes, details: Mapping[str, Any]) -> str:
    """The details as JSON, sealed to this public key, in standard base64 with padding.

    Sealing the same details again gives another text. Raises ValueError for a key that is not 32
    bytes and TypeError for details that are not JSON.
    """
    box = SealedBox(PublicKey(_key(public_key)))
    return b64encode(box.encrypt(orjson.dumps(dict(details)))).decode()


def open_sealed(private_key: bytes, text: str) -> dict[str, Any]:
    """The details in a text that `seal` made for this key's public half.

    Raises CannotOpen, and ValueError for a key that is not 32 bytes.
    """
    box = SealedBox(PrivateKey(_key(private_key)))
    try:
        details = orjson.loads(box.decrypt(b64decode(text, validate=True)))
    except (ValueError, CryptoError):  # not base64, not JSON; not for this key, changed
        # Not chained: the errors hold what was opened.
        raise CannotOpen("not sealed to this key, or changed since") from None
    if not isinstance(details, dict):
        raise CannotOpen("what was sealed are no details")
    return details


def _key(key: bytes) -> bytes:
    if len(key) != _KEY_BYTES:
        raise ValueError(f"a sealing key has {_KEY_BYTES} bytes, not {len(key)}")
    return key
