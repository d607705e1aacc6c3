"""The forms of single fields, shared by every message (contract: Topics in, Forms)."""

import re
from datetime import date, datetime
from functools import reduce
from operator import or_
from types import NoneType
from typing import Annotated, Any, Final, Literal, TypeVar, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    StringConstraints,
)
from pydantic_core import CoreSchema

from schemas.identifiers import check_uscc
from schemas.limits import ID_CHARS_MAX, POSITION_CHARS_MAX, SITE_CHARS_MAX


class Form(BaseModel):
    """Base of every message: strict types, no unknown fields."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class _NotNull:
    """Takes null out of what ``T | None`` accepts: None only stands for a field that is absent."""

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        schema = handler(source)
        if schema["type"] != "nullable":
            raise TypeError("Absentable[T] is for a T that is not null itself")
        inner: CoreSchema = schema["schema"]
        return inner


T = TypeVar("T")
Absentable = Annotated[T | None, _NotNull()]
"""The type of an optional field, with the default None. Null on the wire is refused, as any other
value that is no text (contract: Forms, no coercion, absent = optional)."""


def present(form: Any) -> Any:
    """The T of ``Absentable[T]``; any other form itself."""
    match getattr(form, "__metadata__", ()):
        case (_NotNull(),):
            return reduce(or_, (one for one in get_args(form.__origin__) if one is not NoneType))
    return form


# Control characters are refused in whatever names a thing: they cannot be stored in PostgreSQL
# (NUL) and only ever come from a broken client.
PLAIN: Final = r"^[^\x00-\x1f\x7f]*$"
NO_NUL: Final = r"^[^\x00]*$"

Id = Annotated[str, StringConstraints(min_length=1, max_length=ID_CHARS_MAX, pattern=PLAIN)]
Name = Annotated[str, StringConstraints(min_length=1, pattern=PLAIN)]
"""A source or a type: what it means is judged later, the value's size bounds it."""
PersonId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
NameTag = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
SiteId = Annotated[
    str, StringConstraints(min_length=1, max_length=SITE_CHARS_MAX, pattern=r"^[^/\x00-\x1f\x7f]*$")
]
Text = Annotated[str, StringConstraints(pattern=NO_NUL)]
Base64 = Annotated[
    str,
    StringConstraints(
        min_length=4,
        pattern=r"^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$",
    ),
]
Trade = Annotated[str, StringConstraints(pattern=r"^([0-9]{3}|\s*)$")]
"""National 工种 code of three digits; blank counts as absent and the rule answers."""
Position = Annotated[str, StringConstraints(max_length=POSITION_CHARS_MAX, pattern=NO_NUL)]
"""Free text of 1 to 64; blank counts as absent and the rule answers."""
Sex = Literal["male", "female"]
Role = Literal["worker", "manager"]
Direction = Literal["in", "out"]


def _date(text: str) -> str:
    date.fromisoformat(text)
    return text


Uscc = Annotated[
    str, StringConstraints(pattern=r"^[0-9A-HJ-NP-RTUWXY]{18}$"), AfterValidator(check_uscc)
]
"""A unified social credit code (GB 32100), its check character verified."""
Date = Annotated[
    str,
    StringConstraints(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"),
    AfterValidator(_date),
    Field(json_schema_extra={"format": "date"}),
]

_RFC3339: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?"
    r"([Zz]|[+-][0-9]{2}:[0-9]{2})"
).fullmatch
# Most times are of these shapes; to look one up costs a third of what the expression does.
_DIGITS_TO_0: Final = bytes.maketrans(b"123456789", b"000000000")
_USUAL: Final = frozenset(
    b"0000-00-00T00:00:00" + fraction + offset
    for fraction in (b"", *(b"." + b"0" * digits for digits in range(1, 10)))
    for offset in (b"Z", b"+00:00", b"-00:00")
)


def time_ms(text: str) -> int:
    """Unix milliseconds of an RFC 3339 time with offset, finer fractions cut off.

    Raises ValueError when `text` is no such time.
    """
    if text.encode().translate(_DIGITS_TO_0) not in _USUAL:
        if _RFC3339(text) is None:
            raise ValueError("not an RFC 3339 time with an offset")
        text = text.upper()
    since = _moment(text) - _EPOCH
    # Not timestamp(): a float would round the milliseconds of some times up.
    return (since.days * 86_400 + since.seconds) * 1_000 + since.microseconds // 1_000


_moment: Final = datetime.fromisoformat
_EPOCH: Final = _moment("1970-01-01T00:00:00+00:00")


def _time(text: str) -> str:
    time_ms(text)
    return text


Time = Annotated[str, AfterValidator(_time), Field(json_schema_extra={"format": "date-time"})]
"""RFC 3339 with offset, kept as it was written."""
