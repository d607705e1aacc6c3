"""Random valid histories: what a ledger could have written to the result topics.

Each decision is one command's events with its outcome, in the contract's order. The generator knows
the domain only as far as it must to keep a history possible, and shares no code with the projector.
"""

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from deployment.catalog import Catalog
from schemas.events import EVENTS
from schemas.identifiers import partition_for

EMPLOYERS = ("91350100M000100Y43", "9131029183FQEFLCR0")
SITES = ("s1", "s2", "工地三")
BEGIN = datetime(2026, 3, 1, tzinfo=UTC)


@dataclass
class Made:
    """An event as it was written."""

    topic: str
    person: str
    version: int
    type: str
    time: str
    command: str
    data: dict[str, Any]

    def value(self) -> bytes:
        EVENTS[self.type][1].model_validate(
            {**self.data, "version": self.version, "command": self.command}
        )
        return orjson.dumps(
            {
                "specversion": "1.0",
                "id": f"{self.person}:{self.version}",
                "source": "/realname",
                "type": self.type,
                "time": self.time,
                "subject": self.person,
                "data": {**self.data, "version": self.version, "command": self.command},
            }
        )


@dataclass
class Decision:
    """One command's events and outcome."""

    person: str
    command: str
    command_type: str
    time: str
    status: str
    code: str
    version: int
    events: list[Made]
    batch: str | None = None

    def outcome(self, origin: tuple[str, int, int]) -> bytes:
        topic, partition, offset = origin
        data: dict[str, Any] = {
            "command": self.command,
            "command_source": f"/persons/{self.person}",
            "command_type": self.command_type,
            "status": self.status,
            "code": self.code,
            "version": self.version,
            "events": [f"{self.person}:{made.version}" for made in self.events],
            "origin": {"topic": topic, "partition": partition, "offset": offset},
            "rules_version": 1,
        }
        if self.batch:
            data["batch"] = self.batch
        return orjson.dumps(
            {
                "specversion": "1.0",
                "id": f"{topic}/{partition}/{offset}",
                "source": "/realname",
                "type": "outcome",
                "time": self.time,
                "subject": self.person,
                "data": data,
            }
        )


@dataclass
class _Life:
    """What a person can still do."""

    person: str
    version: int = 0
    identity: str | None = None
    parked: dict[str, str] = field(default_factory=dict)
    made: dict[str, str] = field(default_factory=dict)
    employer: str | None = None
    role: str | None = None
    dismissal: bool = False
    departure: bool = False
    assignment: tuple[str, str, str] | None = None
    confirmed: bool = False
    operator: bool = False
    entry: tuple[str, str] | None = None
    present: tuple[str, str] | None = None
    exiting: bool = False


class Histories:
    """An endless history of `persons` people; `decide` makes the next decision."""

    def __init__(self, seed: int, persons: int) -> None:
        self.random = random.Random(seed)
        self.lives = [
            _Life(hashlib.sha256(f"{seed}/{n}".encode()).hexdigest()[:32]) for n in range(persons)
        ]
        self.count = 0

    def decisions(self, count: int) -> Iterator[Decision]:
        for _ in range(count):
            yield self.decide()

    def decide(self) -> Decision:
        life = self.random.choice(self.lives)
        self.count += 1
        command = f"c{self.count}"
        minute = BEGIN + timedelta(minutes=self.count, seconds=self.random.randrange(-3600, 3600))
        zone = self.random.choice(("+08:00", "Z"))
        time = minute.strftime("%Y-%m-%dT%H:%M:%S") + zone
        steps = list(self._possible(life, command))
        kind, events = self.random.choice(steps) if steps else ("hire.offer", [])
        made = []
        for event, data in events:
            life.version += 1
            made.append(
                Made(EVENTS[event][0], life.person, life.version, event, time, command, data)
            )
        self._evolve(life, command, events)
        rejected = not made
        return Decision(
            life.person,
            command,
            kind,
            time,
            "rejected" if rejected else "accepted",
            "offer_not_open" if rejected else "accepted",
            life.version,
            made,
            self.random.choice((None, "b1")),
        )

    def _possible(self, life: _Life, command: str) -> Iterator[tuple[str, list[tuple[str, Any]]]]:
        pick = self.random.choice
        yield "hire.refuse", []
        if life.identity != "verified":
            yield "identity.upload", [("identity.submitted", {})]
        if life.identity == "submitted":
            opened = [
                ("offer.made", {"offer": offer, "employer": employer})
                if self.random.random() < 0.8
                else ("offer.refused", {"offer": offer, "employer": employer, "cause": "over_age"})
                for offer, employer in life.parked.items()
            ]
            yield "identity.verify", [("identity.verified", {}), *opened]
            yield "identity.verify", [("identity.failed", {"reason": "照片不清"})]
        free = [one for one in EMPLOYERS if one not in (*life.parked.values(), *life.made.values())]
        if life.identity and free and not life.employer:
            step = "offer.made" if life.identity == "verified" else "offer.parked"
            yield "hire.offer", [(step, {"offer": command, "employer": pick(free)})]
        for offer, employer in {**life.parked, **life.made}.items():
            own = {"offer": offer, "employer": employer}
            yield "hire.withdraw", [("offer.withdrawn", own)]
            yield "hire.offer", [("offer.expired", own)]
        for offer, employer in life.made.items():
            own = {"offer": offer, "employer": employer}
            yield "hire.refuse", [("offer.refused", own)]
            others = [
                ("offer.superseded", {"offer": other, "employer": its})
                for other, its in {**life.parked, **life.made}.items()
                if other != offer
            ]
            if not life.employer:
                started = ("employment.started", {"employer": employer})
                confirm = [("offer.accepted", own), started, *others]
                yield "hire.confirm", confirm
                yield "hire.confirm", confirm
        if life.employer:
            yield from self._employed(life, life.employer, command)

    def _employed(
        self, life: _Life, employer: str, command: str
    ) -> Iterator[tuple[str, list[tuple[str, Any]]]]:
        pick = self.random.choice
        own = {"employer": employer}
        if not life.assignment:
            worker = {**own, "role": "worker", "trade": pick(("101", "214"))}
            manager = {**own, "role": "manager", "position": pick(("安全员", "project_manager"))}
            yield "hire.complete", [("employment.registered", pick((worker, manager)))]
            if life.role:
                asked = {"assignment": command, "site": pick(SITES), "employer": employer}
                yield "assignment.request", [("assignment.requested", asked)]
        if life.dismissal:
            yield "dismissal.refuse", [("dismissal.refused", own)]
            yield "dismissal.withdraw", [("dismissal.withdrawn", own)]
            yield "dismissal.agree", self._end(life, employer, "dismissed")
        else:
            yield "dismissal.request", [("dismissal.requested", {**own, "reason": "工程结束\t!"})]
        if life.departure:
            yield "departure.refuse", [("departure.refused", own)]
            yield "departure.withdraw", [("departure.withdrawn", own)]
            yield "departure.approve", self._end(life, employer, "departed")
        else:
            yield "departure.request", [("departure.requested", own)]
        if not life.assignment:
            return
        assignment, site, its = life.assignment
        about = {"assignment": assignment, "site": site, "employer": its}
        there = {"site": site, "employer": its}
        if not life.confirmed:
            yield "assignment.approve", [("assignment.confirmed", about)]
            yield "assignment.approve", [("assignment.confirmed", about)]
            yield "assignment.reject", [("assignment.rejected", about)]
            yield "assignment.withdraw", [("assignment.withdrawn", about)]
            return
        revoked = [("operator.revoked", {**there, "cause": "exit"})] if life.operator else []
        if life.operator:
            yield "operator.revoke", [("operator.revoked", there)]
        else:
            yield "operator.authorize", [("operator.authorized", there)]
        if life.present:
            entry, site = life.present
            for _ in range(4):
                day = (BEGIN + timedelta(days=self.count % 40)).date().isoformat()
                scan = {**there, "day": day, "method": "self", "direction": pick(("in", "out"))}
                staff = {**there, "day": day, "method": "staff", "scanner": "0" * 32}
                yield "scan.checkin", [("attendance.recorded", pick((scan, staff)))]
            if not life.exiting:
                yield "exit.register", [("exit.registered", there)]
            exit_ = {**there, "cause": "exit"}
            yield (
                "exit.self",
                [
                    ("presence.ended", {**exit_, "entry": entry}),
                    *revoked,
                    ("assignment.ended", {**about, "cause": "exit"}),
                ],
            )
        else:
            lapsed = [("entry.lapsed", {"entry": life.entry[0], **there})] if life.entry else []
            yield "scan.entry", [*lapsed, ("entry.scanned", {"entry": command, **there})]
            yield "entry.self", [*lapsed, ("presence.started", {"entry": command, **there})]
            if life.entry:
                started = ("presence.started", {"entry": life.entry[0], **there})
                yield "entry.process", [started]
                yield "entry.process", [started]

    def _end(self, life: _Life, employer: str, cause: str) -> list[tuple[str, Any]]:
        events: list[tuple[str, Any]] = [
            ("employment.ended", {"employer": employer, "cause": cause})
        ]
        if not life.assignment:
            return events
        assignment, site, its = life.assignment
        there = {"site": site, "employer": its}
        if life.present:
            ended = {"entry": life.present[0], **there, "cause": cause}
            events.append(("presence.ended", ended))
        if life.entry:
            events.append(("entry.lapsed", {"entry": life.entry[0], **there}))
        if life.operator:
            events.append(("operator.revoked", {**there, "cause": cause}))
        ended = {"assignment": assignment, **there, "cause": cause}
        events.append(("assignment.ended", ended))
        return events

    def _evolve(self, life: _Life, command: str, events: list[tuple[str, Any]]) -> None:
        for kind, data in events:
            family, step = kind.split(".")
            if family == "identity":
                life.identity = step
            elif kind == "offer.parked":
                life.parked[data["offer"]] = data["employer"]
            elif family == "offer":
                life.parked.pop(data["offer"], None)
                life.made.pop(data["offer"], None)
                if step == "made":
                    life.made[data["offer"]] = data["employer"]
            elif kind == "employment.started":
                life.employer, life.role = data["employer"], None
            elif kind == "employment.registered":
                life.role = data["role"]
            elif kind == "employment.ended":
                life.employer, life.role, life.dismissal, life.departure = None, None, False, False
            elif family == "dismissal":
                life.dismissal = step == "requested"
            elif family == "departure":
                life.departure = step == "requested"
            elif kind == "assignment.requested":
                life.assignment = (data["assignment"], data["site"], data["employer"])
                life.confirmed = False
            elif kind == "assignment.confirmed":
                life.confirmed = True
            elif family == "assignment":
                life.assignment, life.confirmed, life.operator = None, False, False
            elif family == "operator":
                life.operator = step == "authorized"
            elif kind == "entry.scanned":
                life.entry = (data["entry"], data["site"])
            elif kind == "entry.lapsed":
                life.entry = None
            elif kind == "presence.started":
                life.present = (data["entry"], data["site"])
                life.exiting = False
                if life.entry and life.entry[0] == data["entry"]:
                    life.entry = None
            elif kind == "presence.ended":
                life.present = None
            elif kind == "exit.registered":
                life.exiting = True


def home(catalog: Catalog, person: str) -> int:
    """The partition of a person."""
    return partition_for(person.encode(), catalog.partitions)
