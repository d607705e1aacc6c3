"""The envelope of every message: CloudEvents 1.0, structured JSON (contract: Envelope)."""

import re
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, model_validator

from schemas.forms import Id, Name, PersonId, Time

SYSTEM_SOURCE: Final = "/realname"

ATTRIBUTE_PATTERN: Final = "^[a-z0-9]+$"
"""The names that CloudEvents allows for attributes."""

is_attribute: Final = re.compile(ATTRIBUTE_PATTERN.strip("^$")).fullmatch


class Envelope(BaseModel):
    """A CloudEvent about one person.

    `source` says who acts, (`source`, `id`) is the idempotency key, `time` is when it happened.
    Other CloudEvents attributes (`datacontenttype`, extensions) may be there and are not read.
    """

    model_config = ConfigDict(strict=True, extra="allow", frozen=True)

    specversion: Literal["1.0"]
    id: Id
    source: Name
    type: Name
    time: Time
    subject: PersonId
    data: dict[str, Any]

    @model_validator(mode="after")
    def _attribute_names(self) -> "Envelope":
        for name in self.__pydantic_extra__ or ():
            if is_attribute(name) is None:
                raise ValueError("an attribute name is not of CloudEvents")
        return self
