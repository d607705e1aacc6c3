"""From a record to a command, or to the reason why it cannot be one (contract: dead letters)."""

from functools import lru_cache
from hashlib import blake2b
from typing import Any, Final, NamedTuple

import orjson
from pydantic import ValidationError

from schemas.commands import COMMANDS
from schemas.envelope import Envelope
from schemas.forms import Form, time_ms
from schemas.identifiers import partition_for
from schemas.limits import VALUE_BYTES_MAX
from schemas.references import describe


class Command(NamedTuple):
    """A well-formed command, as the rules see it.

    `at_ms` is its `time` in Unix milliseconds; `key_digest` stands for (source, id) and
    `content_digest` for (type, data), which together decide what is a duplicate.
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


class Refusal(NamedTuple):
    """Why a record cannot be a command; `detail` holds no contents of it."""

    code: str
    detail: str


KEY_DIGEST_BYTES: Final = 12
CONTENT_DIGEST_BYTES: Final = 8


@lru_cache(maxsize=65_536)
def _home(key: bytes, partitions: int) -> int:
    return partition_for(key, partitions)


def read_command(
    topic: str, partition: int, partitions: int, key: bytes | None, value: bytes | None
) -> Command | Refusal:
    """Reads one record of the command topic `topic`, checking in the contract's order."""
    if value is None:
        return Refusal("not_json", "the record has no value")
    if len(value) > VALUE_BYTES_MAX:
        return Refusal("too_large", f"{len(value)} bytes, at most {VALUE_BYTES_MAX}")
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
    subject = envelope.subject.encode()
    if key != subject:
        return Refusal("key_mismatch", "the record key is not the subject")
    if _home(subject, partitions) != partition:
        return Refusal(
            "wrong_partition",
            f"murmur2 puts this key on partition {_home(subject, partitions)} of {partitions}",
        )
    return _command(envelope, model)


def _command(envelope: Envelope, model: type[Form]) -> Command | Refusal:
    data = envelope.data
    try:
        form = model.model_validate(data)
    except ValidationError as error:
        return Refusal("data_invalid", describe(error))
    return Command(
        envelope.id,
        envelope.source,
        envelope.type,
        envelope.time,
        time_ms(envelope.time),
        envelope.subject,
        form,
        data.get("batch"),
        # NUL cannot be in a source, so the pair is told apart.
        blake2b(
            b"%b\0%b" % (envelope.source.encode(), envelope.id.encode()),
            digest_size=KEY_DIGEST_BYTES,
        ).digest(),
        blake2b(
            b"%b\0%b" % (envelope.type.encode(), orjson.dumps(data, option=orjson.OPT_SORT_KEYS)),
            digest_size=CONTENT_DIGEST_BYTES,
        ).digest(),
    )
