"""Plausible histories: what persons, employers, sites, devices and the centre send.

A play is drawn from a seed, by the rules: each next command is likely one that would be accepted if
the commands before it were decided in the order they were sent. Races, duplicates, late commands
and nonsense are drawn in between, and the simulated network makes more of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from hashlib import md5
from random import Random
from typing import Any, Final

import orjson

from rules.authority import World
from rules.codes import issue_person_code, issue_site_code
from rules.decide import decide
from rules.person import Person, staff_record
from schemas.commands import COMMANDS
from schemas.identifiers import make_uscc, partition_for
from schemas.limits import DAY_MS, MINUTE_MS, SECOND_MS
from schemas.reading import Refusal, read_command
from schemas.references import Staff, parse_reference

KEYS: Final[Mapping[int, bytes]] = {1: b"the first key of the simulation"}
BEGIN_MS: Final = 1_795_406_400_000
"""The brokers' time when a simulation begins: 2026-11-23, noon in Shanghai."""

EMPLOYERS: Final = tuple(make_uscc(Random(number)) for number in range(3))
SITES: Final = ("east", "west")


@dataclass(frozen=True)
class Message:
    """A record to send, after a pause."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    person: str
    pause_s: float
    """Since the message before it was due, whoever sent that."""
    after: bool
    """Not before the message of the same person before it was acknowledged."""


@dataclass(frozen=True)
class Change:
    """A reference record to write, with a pause as above."""

    topic: str
    key: str
    value: bytes | None
    pause_s: float


@dataclass(frozen=True)
class Play:
    """What happens, in the order it is due."""

    begin: tuple[Change, ...]
    """Reference records that are there before all else."""
    acts: tuple[Message | Change, ...]


def _hash(text: str) -> str:
    return md5(text.encode(), usedforsecurity=False).hexdigest()


def _rfc3339(at_ms: int) -> str:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=at_ms)
    return moment.isoformat(timespec="milliseconds")


def _employer(uscc: str, status: str = "active") -> Change:
    record = {"uscc": uscc, "name": "an employer", "status": status}
    return Change("employers", uscc, orjson.dumps(record), 0.0)


class _Cast:
    """The persons of a play, living by the rules."""

    def __init__(self, chance: Random, partitions: int, persons: int) -> None:
        self.chance = chance
        self.partitions = partitions
        self.persons = [_hash(f"{chance.random()} {number}") for number in range(persons)]
        self.managers = dict(zip(EMPLOYERS, self.persons, strict=False))
        """Employer -> the person its site records name as project manager."""
        self.states: dict[str, Person] = {}
        self.staff: dict[str, Staff] = {}
        self.references: dict[str, dict[str, Any]] = {"employers": {}, "sites": {}}
        self.now_ms = BEGIN_MS
        self.ids = 0
        self.sent: list[Message] = []

    # --- reference records -----------------------------------------------------------------------

    def put(self, change: Change) -> Change:
        view = self.references[change.topic]
        if change.value is None:
            view.pop(change.key, None)
        else:
            view[change.key] = parse_reference(change.topic, change.key.encode(), change.value)
        return change

    def site(self, site: str, status: str = "active") -> Change:
        kinds = ("general_contractor", "professional_subcontractor", "labor_subcontractor")
        if site == SITES[1]:
            kinds = (kinds[1], kinds[0], kinds[2])
        record = {
            "site": site,
            "name": "a site",
            "status": status,
            "participants": [
                {"employer": employer, "type": kind, "project_manager": self.managers.get(employer)}
                for employer, kind in zip(EMPLOYERS, kinds, strict=True)
            ],
        }
        return Change("sites", site, orjson.dumps(record), 0.0)

    def some_change(self) -> Change:
        chance = self.chance
        if chance.random() < 0.5:
            status = chance.choice(("active", "active", "suspended"))
            return _employer(chance.choice(EMPLOYERS), status)
        if chance.random() < 0.3:
            employer = chance.choice(EMPLOYERS)
            self.managers[employer] = chance.choice(self.persons)
        return self.site(chance.choice(SITES), chance.choice(("active", "active", "suspended")))

    # --- commands --------------------------------------------------------------------------------

    def next(self, person: str) -> tuple[str, str, dict[str, Any]]:
        """(type, source, data) of something this person's life may well go on with."""
        chance = self.chance
        state = self.states.get(person) or Person()
        me = f"/persons/{person}"
        if state.identity_status in ("none", "failed", "unregistered") or state.identity is None:
            return "identity.upload", me, self._papers(person)
        if state.identity_status != "verified" and chance.random() < 0.7:
            result = "verified" if chance.random() < 0.85 else "failed"
            return "identity.verify", "/centre", {"batch": "b1", "result": result}
        work = state.employment
        if work is None:
            if state.offers and chance.random() < 0.8:
                offer = chance.choice(state.offers)
                if chance.random() < 0.8:
                    return "hire.confirm", me, {"offer": offer.id}
                if chance.random() < 0.5:
                    return "hire.refuse", me, {"offer": offer.id}
                data = {"employer": offer.employer, "offer": offer.id}
                return "hire.withdraw", f"/employers/{offer.employer}", data
            employer = self._home(person) if chance.random() < 0.7 else chance.choice(EMPLOYERS)
            data = {"employer": employer, "name_tag": _hash(f"name {person}")}
            return "hire.offer", f"/employers/{employer}", data
        employer = work.employer
        firm = f"/employers/{employer}"
        if work.role is None:
            return "hire.complete", firm, self._registration(person, employer)
        if chance.random() < 0.06:
            return self._leaving(person, employer, firm)
        assignment = state.assignment
        if assignment is None:
            data = {"site": chance.choice(SITES), "employer": employer}
            if self._is_manager(person, employer):
                data["position"] = "project_manager"
            return "assignment.request", firm, data
        site = assignment.site
        boss = self._boss(site)
        staff = f"/sites/{site}/staff/{boss}"
        if assignment.status == "requested":
            verb = "approve" if chance.random() < 0.85 else "reject"
            if chance.random() < 0.1:
                data = {"site": site, "employer": employer, "assignment": assignment.id}
                return "assignment.withdraw", firm, data
            return f"assignment.{verb}", staff, {"assignment": assignment.id, "site": site}
        if work.role == "manager" and chance.random() < 0.2:
            verb = "revoke" if assignment.operator == "authorized" else "authorize"
            return f"operator.{verb}", staff, {"site": site}
        if state.presence is None:
            if person == boss and chance.random() < 0.6:
                return "entry.self", f"/sites/{site}/staff/{person}", {"site": site}
            if state.entry is not None:
                data = {"site": site, "entry": state.entry.id, "batch": "b2"}
                return "entry.process", staff, data
            return "scan.entry", "/devices/gate", self._scan(person, site, boss)
        return self._at_work(person, site, boss, staff)

    def _at_work(
        self, person: str, site: str, boss: str, staff: str
    ) -> tuple[str, str, dict[str, Any]]:
        chance = self.chance
        drawn = chance.random()
        direction = chance.choice(("in", "out"))
        if drawn < 0.4:
            data = {**self._scan(person, site, boss), "direction": direction}
            return "scan.attendance", "/devices/gate", data
        if drawn < 0.7:
            code = issue_site_code(KEYS, site, self.now_ms // SECOND_MS)
            data = {"site": site, "code": code, "direction": direction}
            return "scan.checkin", f"/persons/{person}", data
        if drawn < 0.8:
            return "exit.self", f"/sites/{site}/staff/{person}", {"site": site}
        return chance.choice(("exit.register", "exit.confirm")), staff, {"site": site}

    def _leaving(self, person: str, employer: str, firm: str) -> tuple[str, str, dict[str, Any]]:
        me = f"/persons/{person}"
        data = {"employer": employer}
        return self.chance.choice(
            (
                ("dismissal.request", firm, {**data, "reason": "the work is done"}),
                ("dismissal.withdraw", firm, data),
                ("dismissal.agree", me, data),
                ("dismissal.refuse", me, data),
                ("departure.request", me, data),
                ("departure.withdraw", me, data),
                ("departure.approve", firm, data),
                ("departure.refuse", firm, data),
            )
        )

    def _papers(self, person: str) -> dict[str, Any]:
        return {
            "name_tag": _hash(f"name {person}"),
            "sealed": "c2VhbGVk",
            "front_sha256": "0" * 64,
            "back_sha256": "1" * 64,
            "birth_date": "1990-05-01",
            "sex": "male",
            "notice_accepted": True,
        }

    def _registration(self, person: str, employer: str) -> dict[str, Any]:
        if self._is_manager(person, employer) or self.chance.random() < 0.25:
            return {"employer": employer, "role": "manager", "position": "manager of something"}
        return {"employer": employer, "role": "worker", "trade": "101"}

    def _scan(self, person: str, site: str, boss: str) -> dict[str, Any]:
        code = issue_person_code(KEYS, person, self.now_ms // SECOND_MS)
        return {"site": site, "code": code, "scanner": boss}

    def _home(self, person: str) -> str:
        """The employer that likely hires the person."""
        for employer, manager in self.managers.items():
            if manager == person:
                return employer
        return EMPLOYERS[self.persons.index(person) % len(EMPLOYERS)]

    def _is_manager(self, person: str, employer: str) -> bool:
        return self.managers.get(employer) == person

    def _boss(self, site: str) -> str:
        """Who acts for a site: mostly the general contractor's project manager."""
        general = EMPLOYERS[0] if site == SITES[0] else EMPLOYERS[1]
        if self.chance.random() < 0.15:
            return self.chance.choice(self.persons)
        return self.managers.get(general) or self.persons[0]

    # --- messages --------------------------------------------------------------------------------

    def message(self) -> Message:
        """The next message of somebody."""
        chance = self.chance
        drawn = chance.random()
        if self.sent and drawn < 0.1:
            return self._again(chance.choice(self.sent[-12:]))
        if drawn < 0.14:
            return self._nonsense()
        # Those who manage come first: without them nothing goes on.
        leaders = self.persons[: len(EMPLOYERS)]
        person = chance.choice(leaders if chance.random() < 0.4 else self.persons)
        kind, source, data = self.next(person)
        if drawn < 0.2:
            source = chance.choice(("/centre", "/bureau", f"/persons/{person}", "/devices/gate"))
        at_ms = self.now_ms
        if drawn > 0.97:
            at_ms += chance.choice((-8 * DAY_MS, -2 * DAY_MS, -MINUTE_MS, 10 * MINUTE_MS))
        self.ids += 1
        document = {
            "specversion": "1.0",
            "id": f"c{self.ids}",
            "source": source,
            "type": kind,
            "time": _rfc3339(at_ms),
            "subject": person,
            "data": data,
        }
        return self._sent(COMMANDS[kind][0], person, orjson.dumps(document))

    def _again(self, former: Message) -> Message:
        """The same command a second time, perhaps with another time, rarely with other data."""
        if former.value is not None and self.chance.random() < 0.2:
            try:
                document = orjson.loads(former.value)
                document["time"] = _rfc3339(self.now_ms)
                if self.chance.random() < 0.3:
                    document["data"] = {**document["data"], "batch": "b3"}
                return self._sent(former.topic, former.person, orjson.dumps(document))
            except (ValueError, KeyError, TypeError):
                pass
        return self._sent(former.topic, former.person, former.value)

    def _nonsense(self) -> Message:
        topic = self.chance.choice(sorted({topic for topic, _ in COMMANDS.values()}))
        value = self.chance.choice((None, b"{", b"[]", b"{}", b'{"specversion":"1.0"}', b"\xff"))
        return self._sent(topic, self.chance.choice(self.persons), value)

    def _sent(self, topic: str, person: str, value: bytes | None) -> Message:
        chance = self.chance
        pause = chance.choice((0.0, 0.0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.5)) * chance.random() * 2
        key = person.encode()
        partition = partition_for(key, self.partitions)
        message = Message(topic, partition, key, value, person, pause, chance.random() < 0.6)
        self.now_ms += round(pause * 1000)
        self.sent.append(message)
        self._live(message)
        return message

    def _live(self, message: Message) -> None:
        """Let the person's state follow, as the rules say."""
        command = read_command(
            message.topic, message.partition, self.partitions, message.key, message.value
        )
        if isinstance(command, Refusal):
            return
        world = World(self.references["employers"], self.references["sites"], self.staff, KEYS)
        person = message.person
        decided = decide(self.states.get(person) or Person(), command, self.now_ms, world).person
        self.states[person] = decided
        record = staff_record(person, decided)
        if record is None:
            self.staff.pop(person, None)
        else:
            self.staff[person] = record


@cache
def play(seed: int, partitions: int, persons: int, messages: int) -> Play:
    """The play of a seed."""
    cast = _Cast(Random(seed), partitions, persons)
    begin = [cast.put(_employer(uscc)) for uscc in EMPLOYERS]
    begin += [cast.put(cast.site(site)) for site in SITES]

    def acts() -> Iterator[Message | Change]:
        for _ in range(messages):
            if cast.chance.random() < 0.04:
                yield cast.put(cast.some_change())
            yield cast.message()

    return Play(tuple(begin), tuple(acts()))
