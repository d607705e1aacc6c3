"""From a record to a command, or to the reason why it cannot be one (contract: dead letters)."""

from collections.abc import Container
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Final

import msgspec
import orjson
from pydantic import TypeAdapter, ValidationError

from schemas.commands import COMMANDS
from schemas.envelope import Envelope
from schemas.forms import PersonId, time_ms
from schemas.identifiers import partition_for
from schemas.limits import HOMES_KNOWN_MAX, VALUE_BYTES_MAX
from schemas.recognising import DATA, recognise
from schemas.references import describe
from schemas.value import Value


class Command(Value, frozen=True):
    """A well-formed command, as the rules see it.

    `data` is a struct of `schemas.recognising.DATA`, a field that is absent None in it; `at_ms` its
    `time` in Unix milliseconds; `key_digest` stands for (source, id) and `content_digest` for
    (type, data), which together decide what is a duplicate.
    """

    id: str
    source: str
    type: str
    time: str
    at_ms: int
    subject: str
    data: Any
    batch: str | None
    key_digest: bytes
    content_digest: bytes


class Refusal(Value, frozen=True):
    """Why a record cannot be a command; `detail` holds no contents of it."""

    code: str
    detail: str


KEY_DIGEST_BYTES: Final = 12
CONTENT_DIGEST_BYTES: Final = 8


def read_command(
    topic: str,
    partition: int,
    partitions: int,
    key: bytes | None,
    value: bytes | None,
    at_home: Container[bytes] = (),
) -> Command | Refusal:
    """Reads one record of the command topic `topic`, checking in the contract's order.

    `at_home`: keys that are known to be a person's and to belong on this partition.
    """
    if value is None:
        return Refusal("not_json", "the record has no value")
    if len(value) > VALUE_BYTES_MAX:
        return Refusal("too_large", f"{len(value)} bytes, at most {VALUE_BYTES_MAX}")
    # The quick way, if all is seen to be right.
    envelope = recognise(value)
    if envelope is not None and envelope.topic == topic and envelope.subject.encode() == key:
        try:
            at_ms = time_ms(envelope.time)
            right = key in at_home or _home(envelope.subject, partitions) == partition
        except ValueError:
            right = False
        if right:
            return _command(envelope, at_ms, envelope.data, _write(envelope.data))
    return read_by_models(topic, partition, partitions, key, value)


_write: Final = msgspec.json.Encoder().encode
"""Writes recognised data as JSON, byte for byte as the long way does."""


def read_by_models(
    topic: str, partition: int, partitions: int, key: bytes | None, value: bytes
) -> Command | Refusal:
    """The long way, which alone refuses: the models, one after the other."""
    try:
        document = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        return Refusal("not_json", f"{error.msg} at character {error.pos}")
    try:
        envelope = Envelope.model_validate(document)
    except ValidationError as error:
        return Refusal("not_an_envelope", describe(error))
    known = COMMANDS.get(envelope.type)
    if known is None:
        return Refusal("unknown_type", "the type is not a command")
    home, model = known
    if home != topic:
        return Refusal("wrong_topic", f"{envelope.type} belongs on {home}")
    if key != envelope.subject.encode():
        return Refusal("key_mismatch", "the record key is not the subject")
    right = _home(envelope.subject, partitions)
    if partition != right:
        return Refusal(
            "wrong_partition", f"murmur2 puts this key on partition {right} of {partitions}"
        )
    try:
        data = model.model_validate(envelope.data)
    except ValidationError as error:
        return Refusal("data_invalid", describe(error))
    return _command(
        envelope,
        time_ms(envelope.time),
        DATA[model](**dict(data)),
        orjson.dumps(envelope.data, option=orjson.OPT_SORT_KEYS),
    )


@lru_cache(maxsize=HOMES_KNOWN_MAX)
def _home(subject: str, partitions: int) -> int:
    """The partition of a person's records. Raises ValueError when `subject` is no person id."""
    return partition_for(_person(subject).encode(), partitions)


_person: Final = TypeAdapter(PersonId).validate_python

# To copy one costs half of what a new one does.
_new_key: Final = blake2b(digest_size=KEY_DIGEST_BYTES).copy
_new_content: Final = {
    name: blake2b(name.encode() + b"\0", digest_size=CONTENT_DIGEST_BYTES).copy for name in COMMANDS
}


def _command(envelope: Any, at_ms: int, data: Any, written: bytes) -> Command:
    """A command; `written` is its data as the sender wrote it, as JSON with sorted keys."""
    key = _new_key()
    # NUL cannot be in a source, so the pair is told apart.
    key.update(f"{envelope.source}\0{envelope.id}".encode())
    content = _new_content[envelope.type]()
    content.update(written)
    return Command(
        envelope.id,
        envelope.source,
        envelope.type,
        envelope.time,
        at_ms,
        envelope.subject,
        data,
        getattr(data, "batch", None),
        key.digest(),
        content.digest(),
    )
