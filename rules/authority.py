"""Who may act: sources, project managers, operators, the site side (contract: Words, Envelope)."""

from collections.abc import Mapping
from typing import Protocol

from rules.codes import Code, parse
from schemas.references import Employer, Participant, Site, Staff
from schemas.value import Value


class StaffView(Protocol):
    """Registered managers by person id."""

    def get(self, person: str, /) -> Staff | None: ...


class World(Value, frozen=True):
    """What the rules know besides the person: reference records and the keys of codes.

    `codes` holds texts of codes that were read before, with what they stand for.
    """

    employers: Mapping[str, Employer]
    sites: Mapping[str, Site]
    staff: StaffView
    code_keys: Mapping[int, bytes]
    codes: Mapping[str, Code | None] = {}

    def code(self, text: str) -> Code | None:
        """The code a text stands for, or None (`rules.codes.parse`)."""
        try:
            return self.codes[text]
        except KeyError:
            return parse(self.code_keys, text)


def staff_source(source: str, site: str) -> str | None:
    """The person of a source ``/sites/{site}/staff/{person}`` at this site."""
    prefix = f"/sites/{site}/staff/"
    return source[len(prefix) :] or None if source.startswith(prefix) else None


def is_device(source: str) -> bool:
    """Whether the source is ``/devices/{device}``."""
    head, _, device = source.rpartition("/")
    return head == "/devices" and device != ""


def is_general_contractor(site: Site | None, employer: str) -> bool:
    return site is not None and any(
        participant.type == "general_contractor" and participant.employer == employer
        for participant in site.participants
    )


def participates(site: Site, employer: str) -> bool:
    return employer in [participant.employer for participant in site.participants]


def named_for(world: World, site: Site | None, person: str | None) -> list[Participant]:
    """The participants of the site for which the person is the named project manager: on the
    site's record, and by `staff` a registered manager of that employer."""
    staff = world.staff.get(person) if person is not None else None
    return [] if staff is None or site is None else _named_on(site, staff)


def confirmed_for(world: World, site: Site | None, person: str | None) -> list[Participant]:
    """As `named_for`, and the person's own assignment at the site is confirmed."""
    staff = world.staff.get(person) if person is not None else None
    if staff is None or site is None or staff.site != site.site:
        return []
    return _named_on(site, staff)


def _named_on(site: Site, staff: Staff) -> list[Participant]:
    person, employer = staff.person, staff.employer
    return [
        participant
        for participant in site.participants
        if participant.project_manager == person and participant.employer == employer
    ]


def is_operator(world: World, site: str, person: str | None) -> bool:
    """Whether the person is an authorised operator of the site."""
    staff = world.staff.get(person) if person is not None else None
    return staff is not None and staff.operator and staff.site == site


def is_site_side(world: World, site_id: str, person: str | None, employer: str | None) -> bool:
    """Whether the person speaks for the site about someone of `employer`: a named project
    manager, or a present operator, of the general contractor or of that employer."""
    staff = world.staff.get(person) if person is not None else None
    if staff is None:
        return False
    site = world.sites.get(site_id)
    for participant in named_for(world, site, person):
        if participant.type == "general_contractor" or participant.employer == employer:
            return True
    return (
        is_operator(world, site_id, person)
        and staff.present
        and (staff.employer == employer or is_general_contractor(site, staff.employer))
    )
