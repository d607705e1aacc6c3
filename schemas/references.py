"""Reference records: employers, sites and staff, plain JSON on compacted topics.

Contract: Topics in, reference topics. A null value removes; an unreadable record is ignored and
reported, and the last good one stays.
"""

from typing import Final, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, field_validator
from pydantic.dataclasses import dataclass

from schemas.forms import Name, PersonId, SiteId, Uscc

# Dataclasses, for the rules read a dozen of their fields for each command: of a slot that takes a
# fraction of what it does of a model, which looks whether it has such an attribute at all.
_CONFIG: Final = ConfigDict(strict=True, extra="ignore")
"""These come from registers of others: a field they add makes no record unreadable."""


ParticipantType = Literal["general_contractor", "professional_subcontractor", "labor_subcontractor"]


@dataclass(frozen=True, slots=True, kw_only=True, config=_CONFIG)
class Employer:
    """用人单位, by its unified social credit code."""

    uscc: Uscc
    name: Name
    status: Literal["active", "suspended"]


@dataclass(frozen=True, slots=True, kw_only=True, config=_CONFIG)
class Participant:
    """参建单位: an employer on a site, and the person its record names as project manager."""

    employer: Uscc
    type: ParticipantType
    project_manager: PersonId | None = None


@dataclass(frozen=True, slots=True, kw_only=True, config=_CONFIG)
class Location:
    """Where a site lies: degrees (WGS 84) and metres. It informs only."""

    lat: float = Field(ge=-90, le=90)
    lng: float = Field(ge=-180, le=180)
    radius_m: float = Field(gt=0)


@dataclass(frozen=True, slots=True, kw_only=True, config=_CONFIG)
class Site:
    """工地, 项目. One participant is the general contractor 施工总包."""

    site: SiteId
    name: Name
    status: Literal["active", "suspended", "completed"]
    participants: tuple[Participant, ...]
    location: Location | None = None

    @field_validator("participants", mode="before")
    @classmethod
    def _list(cls, value: object) -> object:
        return tuple(value) if isinstance(value, list) else value


@dataclass(frozen=True, slots=True, kw_only=True, config=_CONFIG)
class Staff:
    """A registered manager, as the system itself writes it.

    `site` is that of the confirmed assignment, or None; `operator` and `present` are meant there.
    """

    person: PersonId
    employer: Uscc
    position: str
    site: SiteId | None
    operator: bool
    present: bool


Reference = Employer | Site | Staff

REFERENCES: Final[dict[str, tuple[type[Reference], str]]] = {
    "employers": (Employer, "uscc"),
    "sites": (Site, "site"),
    "staff": (Staff, "person"),
}
"""Topic → (model, the field that is the record's key)."""

_FORMS: Final = {model: TypeAdapter(model) for model, _ in REFERENCES.values()}


def parse_reference(topic: str, key: bytes, value: bytes) -> Reference:
    """Reads one record of a reference topic.

    Raises ValueError, with words that name fields and no contents, when the record is unreadable
    or its key is not what its value says.
    """
    model, key_field = REFERENCES[topic]
    try:
        record = _FORMS[model].validate_json(value)
    except ValidationError as error:
        raise ValueError(describe(error)) from None
    if getattr(record, key_field).encode() != key:
        raise ValueError(f"the record key is not its {key_field}")
    return record


def write_reference(record: Reference) -> bytes:
    """The record as JSON."""
    return _FORMS[type(record)].dump_json(record)


def describe(error: ValidationError) -> str:
    """The first complaints of a failed validation: where and what, never the contents."""
    parts = []
    for item in error.errors(include_url=False, include_context=False, include_input=False)[:3]:
        # The name of an unknown field is the sender's text and may be anything.
        known = item["loc"][:-1] if item["type"] == "extra_forbidden" else item["loc"]
        parts.append(f"{'.'.join(map(str, known)) or 'value'}: {item['type']}")
    more = error.error_count() - len(parts)
    return "; ".join(parts) + (f" (+{more} more)" if more > 0 else "")
