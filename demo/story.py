"""What the storylines share: who has charge, ids, the registers, and the steps nearly all take."""

from dataclasses import dataclass, field
from typing import Final

import orjson

from demo.acting import Play
from demo.cast import SCHOOL, SITES, Firm, Person
from demo.verbs import approve, assign, complete, confirm, offer, process, scan

OPERATOR_POSITIONS: Final = ("安全员", "质量员", "施工员", "劳资专管员")


@dataclass
class Story:
    """The play and what the storylines must remember: ids, by handle of the person."""

    play: Play
    offers: dict[str, str] = field(default_factory=dict)
    uploads: dict[str, str] = field(default_factory=dict)
    assignments: dict[str, str] = field(default_factory=dict)
    entries: dict[str, str] = field(default_factory=dict)

    def at(self, day: int, clock: str, seconds: int = 0) -> int:
        return self.play.calendar.at(day, clock, seconds)

    def chief(self, site: str, firm: str) -> Person:
        """The named project manager."""
        return self.play.cast.chiefs[site, firm]

    def operator(self, site: str, firm: str) -> Person:
        """A present operator of the firm; the general contractor's have charge of everyone."""
        return next(
            manager
            for manager in self.play.cast.managers
            if manager.site == site
            and manager.firm.short == firm
            and manager.position in OPERATOR_POSITIONS
        )

    def gatekeeper(self, person: Person) -> Person:
        """Whose scan lets the person in: a professional subcontractor's own project manager, for
        all others the general contractor's."""
        firm = "专业" if person.firm.short == "专业" else "总包"
        return self.chief(person.site, firm)

    # --- steps that nearly everyone takes ------------------------------------------------------

    async def hire(self, person: Person, day: int, clock: str, firm: Firm | None = None) -> None:
        """Offered, unless it was before, and confirmed."""
        firm = firm or person.firm
        at_ms = self.at(day, clock, person.number * 7 % 3600)
        if person.handle not in self.offers:
            made = await offer(self.play, person, firm, at_ms)
            self.offers[person.handle] = made.id
        await confirm(self.play, person, self.offers.pop(person.handle), at_ms + 600_000)

    async def employ(self, person: Person, day: int, clock: str, firm: Firm | None = None) -> None:
        """Hired and registered as what the person is."""
        await self.hire(person, day, clock, firm)
        await complete(
            self.play,
            person,
            firm or person.firm,
            self.at(day, clock, person.number * 7 % 3600 + 900),
            trade=person.trade,
            position=person.position,
        )

    async def station(self, person: Person, day: int, clock: str) -> None:
        """Assigned by the employer and approved by the general contractor's project manager."""
        at_ms = self.at(day, clock, person.number * 5 % 1800)
        made = await assign(self.play, person, person.firm, person.site, at_ms)
        self.assignments[person.handle] = made.id
        chief = self.chief(person.site, "总包")
        await approve(self.play, person, person.site, made.id, chief, at_ms + 600_000)

    async def admit(self, person: Person, day: int, clock: str) -> None:
        """Scanned at the gate and processed."""
        at_ms = self.at(day, clock, person.number * 11 % 1800)
        gatekeeper = self.gatekeeper(person)
        made = await scan(self.play, person, person.site, gatekeeper, at_ms)
        chief = self.chief(person.site, "总包")
        await process(self.play, person, person.site, made.id, chief, at_ms + 300_000)


async def put_employer(story: Story, firm: Firm, status: str | None = "active") -> None:
    """Write the register's record of a firm; without status remove it."""
    record = {"uscc": firm.uscc, "name": firm.name, "status": status}
    value = None if status is None else orjson.dumps(record)
    await story.play.client.put("employers", firm.uscc, value)


async def put_site(
    story: Story, site: str, status: str = "active", chiefs: dict[str, Person] | None = None
) -> None:
    """Write a site's record; `chiefs` names other project managers by firm."""
    cast = story.play.cast
    participants = []
    if site != SCHOOL:
        for firm in cast.firms.values():
            if firm.participant:
                chief = (chiefs or {}).get(firm.short) or cast.chiefs.get((site, firm.short))
                participants.append(
                    {
                        "employer": firm.uscc,
                        "type": firm.participant,
                        "project_manager": chief and chief.id,
                    }
                )
    else:
        participants.append(
            {
                "employer": cast.fair[0].uscc,
                "type": "general_contractor",
                "project_manager": None,
            }
        )
    record = {
        "site": site,
        "name": SITES[site],
        "status": status,
        "participants": participants,
        "location": {"lat": 31.2, "lng": 121.5, "radius_m": 500.0},
    }
    await story.play.client.put("sites", site, orjson.dumps(record))
