"""From a record to a command, or to the reason why it cannot be one (contract: dead letters)."""

from collections.abc import Callable
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Final

import orjson
from pydantic import ConfigDict, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from schemas.commands import COMMANDS
from schemas.envelope import Envelope, is_attribute
from schemas.forms import Form, time_ms
from schemas.identifiers import partition_for
from schemas.limits import VALUE_BYTES_MAX
from schemas.references import describe
from schemas.value import Value


class Command(Value, frozen=True):
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


class Refusal(Value, frozen=True):
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
    command = _command(document)
    if command is None:
        try:
            envelope = Envelope.model_validate(document)
        except ValidationError as error:
            return Refusal("not_an_envelope", describe(error))
        command_type, subject = envelope.type, envelope.subject
    else:
        command_type, subject = command.type, command.subject
    known = COMMANDS.get(command_type)
    if known is None:
        return Refusal("unknown_type", "the type is not a command")
    home, model = known
    if home != topic:
        return Refusal("wrong_topic", f"{command_type} belongs on {home}")
    right_key = subject.encode()
    if key != right_key:
        return Refusal("key_mismatch", "the record key is not the subject")
    if _home(right_key, partitions) != partition:
        return Refusal(
            "wrong_partition",
            f"murmur2 puts this key on partition {_home(right_key, partitions)} of {partitions}",
        )
    if command is not None:
        return command
    try:
        model.model_validate(document["data"])
    except ValidationError as error:
        return Refusal("data_invalid", describe(error))
    raise AssertionError("an envelope and its data are well-formed apart, but not together")


def _command(document: Any) -> Command | None:
    """The command of a document in which everything is well-formed; None of any other, where the
    parts are then looked at one by one for what is wrong."""
    try:
        whole = _WHOLE[document["type"]](document)
        at_ms = time_ms(whole["time"])
    except (KeyError, TypeError, ValueError):
        return None
    if len(whole) > _ATTRIBUTES and not all(map(is_attribute, whole)):
        return None
    data = document["data"]
    return Command(
        whole["id"],
        whole["source"],
        whole["type"],
        whole["time"],
        at_ms,
        whole["subject"],
        whole["data"],
        data.get("batch"),
        # NUL cannot be in a source, so the pair is told apart.
        blake2b(
            f"{whole['source']}\0{whole['id']}".encode(), digest_size=KEY_DIGEST_BYTES
        ).digest(),
        blake2b(
            b"%b\0%b" % (whole["type"].encode(), orjson.dumps(data, option=orjson.OPT_SORT_KEYS)),
            digest_size=CONTENT_DIGEST_BYTES,
        ).digest(),
    )


def _whole(data: type[Form]) -> Callable[[Any], dict[str, Any]]:
    """A validator of `Envelope` with this data in it: one pass, and a dict instead of an object.

    Left to the caller: the form of `time`, and the names of other attributes.
    """
    whole = TypedDict("whole", {**Envelope.__annotations__, "time": str, "data": data})  # type: ignore[misc]
    whole.__pydantic_config__ = ConfigDict(strict=True, extra="allow")  # type: ignore[attr-defined]
    return TypeAdapter(whole).validator.validate_python


_ATTRIBUTES: Final = len(Envelope.model_fields)
_WHOLE: Final = {name: _whole(model) for name, (_, model) in COMMANDS.items()}
