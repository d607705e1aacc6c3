"""Who sends what: persons, firms and sites with plausible lives, some of them careless.

The population keeps, for each person, the state that its commands should have led to, and mostly
sends what fits it. What the ledger really made of them comes back through `learn`, so that a life
goes on from where it is. Every choice comes from one seeded generator; what is chosen also depends
on when answers come, so a seed gives the same kind of load again, not the same bytes.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from random import Random
from typing import Any, Final, NamedTuple

from rules.authority import World
from rules.codes import issue_person_code, issue_site_code
from rules.decide import decide
from rules.person import Person, staff_record
from schemas import limits
from schemas.commands import COMMANDS
from schemas.identifiers import make_uscc, partition_for
from schemas.reading import Refusal, read_command
from schemas.references import Employer, Participant, Site, Staff, write_reference

PERSONS: Final = 160
LIFE_COMMANDS: Final = 150
"""After about this many commands a person is seen no more, and somebody new comes."""

RECENT_MAX: Final = 300
PAST_MS: Final = 5 * limits.DAY_MS
"""Lives begin this long ago and are uploaded late, so that there is something to scan late for."""

Move = tuple[str, str, dict[str, Any]]
"""Command type, source, data."""


class Message(NamedTuple):
    """A record to send."""

    topic: str
    """Logical name."""
    key: bytes | None
    value: bytes | None
    id: str | None
    partition: int | None = None
    """None: the key's own."""
    person: str | None = None
    """Whose next command should wait for this one's acknowledgement, if anybody's."""


@dataclass
class Life:
    """One person as the population knows it."""

    person: str
    name_tag: str
    boss: bool
    """Becomes a manager, where possible."""
    at_ms: int
    """The person's own present."""
    guess: Person = field(default_factory=Person)
    known: Person = field(default_factory=Person)
    open: int = 0
    """Commands sent and not answered yet."""
    sent: int = 0
    manager_of: tuple[str, str] | None = None
    """Site and employer of a named project manager."""


class Population:
    """Makes the next message, and the next change of a reference record."""

    def __init__(
        self, seed: int, keys: dict[int, bytes], partitions: int, now_ms: int, bad: float = 0.02
    ) -> None:
        self._random = Random(seed)
        self._keys = keys
        self._partitions = partitions
        self._bad = bad
        self._count = 0
        self._seed = seed
        self.held: frozenset[str] = frozenset()
        """Topics that nothing is sent to for now."""
        self.employers: dict[str, Employer] = {}
        for number in range(5):
            uscc = make_uscc(self._random)
            self.employers[uscc] = Employer(uscc=uscc, name=f"firm {number}", status="active")
        self.sites: dict[str, Site] = {}
        self.staff: dict[str, Staff] = {}
        self.lives: dict[str, Life] = {}
        self._recent: deque[Message] = deque(maxlen=RECENT_MAX)
        firms = list(self.employers)
        for number in range(3):
            parts = []
            kinds = ("general_contractor", "professional_subcontractor", "labor_subcontractor")
            for step, kind in enumerate(kinds):
                employer = firms[(number + step) % len(firms)]
                manager = self._born(now_ms, boss=True)
                manager.manager_of = (f"site-{number}", employer)
                parts.append(
                    Participant(employer=employer, type=kind, project_manager=manager.person)  # type: ignore[arg-type]
                )
            site = Site(
                site=f"site-{number}", name="a site", status="active", participants=tuple(parts)
            )
            self.sites[site.site] = site
        self._leaders = list(self.lives)
        self._others = [self._born(now_ms).person for _ in range(PERSONS - len(self._leaders))]

    def references(self) -> Iterator[Message]:
        """All employers and sites as they are now."""
        for uscc, employer in self.employers.items():
            yield Message("employers", uscc.encode(), write_reference(employer), None)
        for name, site in self.sites.items():
            yield Message("sites", name.encode(), write_reference(site), None)

    def change_reference(self) -> Message:
        """Somebody is suspended, or well again; now and then a record cannot be read."""
        pick = self._random.choice
        if self._random.random() < 0.1:
            return Message("sites", pick(list(self.sites)).encode(), b"{not a site", None)
        if self._random.random() < 0.5:
            uscc = list(self.employers)[-1]
            employer = self.employers[uscc]
            employer = replace(
                employer, status="suspended" if employer.status == "active" else "active"
            )
            self.employers[uscc] = employer
            return Message("employers", uscc.encode(), write_reference(employer), None)
        name = "site-2"
        site = self.sites[name]
        site = replace(site, status="suspended" if site.status == "active" else "active")
        self.sites[name] = site
        return Message("sites", name.encode(), write_reference(site), None)

    def learn(self, person: str, state: Person) -> None:
        """The state that the ledger has stored."""
        life = self.lives.get(person)
        if life is not None:
            life.known = state
            self._note_staff(person, state)

    def answered(self, person: str) -> None:
        """One command of the person was answered."""
        life = self.lives.get(person)
        if life is not None:
            life.open -= 1

    # --- what comes next -------------------------------------------------------------------------

    def next(self, now_ms: int, person: str | None = None) -> Message:
        """The next record to send; of this person, if one is named and still there."""
        chance = self._random.random()
        if person is None and chance < self._bad:
            return self._trash()
        if person is None and chance < self._bad + 0.05 and self._recent:
            again = self._random.choice(self._recent)
            if again.topic not in self.held:
                if again.person in self.lives:
                    self.lives[again.person].open += 1
                return again
        for _ in range(20):
            life = self.lives.get(person) if person else None
            message = self._command(life or self._somebody(), now_ms)
            if message.topic not in self.held:
                return message
        return self._trash()

    def _born(self, now_ms: int, boss: bool = False) -> Life:
        self._count += 1
        person = hashlib.md5(f"{self._seed} {self._count}".encode()).hexdigest()
        tag = hashlib.md5(f"name {person}".encode()).hexdigest()
        boss = boss or self._random.random() < 0.25
        at_ms = now_ms - self._random.randrange(limits.HOUR_MS, PAST_MS)
        life = self.lives[person] = Life(person, tag, boss, at_ms)
        return life

    def _somebody(self) -> Life:
        # Without the leaders nobody can be sent to a site: they get going first.
        for leader in self._leaders:
            life = self.lives[leader]
            if life.guess.assignment is None and life.open < 3 and self._random.random() < 0.2:
                return life
        if self._random.random() < 0.08:
            return self.lives[self._random.choice(self._leaders)]
        return self.lives[self._random.choice(self._others)]

    def _command(self, life: Life, now_ms: int) -> Message:
        random = self._random
        if life.open <= 0:
            life.open, life.guess = 0, life.known
        life.at_ms = min(now_ms, life.at_ms + random.randrange(limits.MINUTE_MS, limits.HOUR_MS))
        at_ms, dice = life.at_ms, random.random()
        if dice < 0.004:
            at_ms = now_ms - limits.PAST_MS_MAX - limits.HOUR_MS
        elif dice < 0.007:
            at_ms = now_ms + limits.FUTURE_MS_MAX + limits.MINUTE_MS
        command_type, source, data = self._move(life, at_ms)
        if dice > 0.97:
            source = random.choice(("/centre", "/devices/gate", self._staff("site-0")))
        self._count += 1
        command_id = f"{self._seed}-{self._count}"
        if dice < 0.02 and self._recent:
            command_id = random.choice(self._recent).id or command_id
        moment = datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds")
        value = json.dumps(
            {
                "specversion": "1.0",
                "id": command_id,
                "source": source,
                "type": command_type,
                "time": moment,
                "subject": life.person,
                "data": {name: value for name, value in data.items() if value is not None},
            }
        ).encode()
        topic = COMMANDS[command_type][0]
        message = Message(topic, life.person.encode(), value, command_id, person=life.person)
        self._expect(life, message, now_ms)
        self._recent.append(message)
        if life.sent > LIFE_COMMANDS and life.person in self._others:
            self._others[self._others.index(life.person)] = self._born(now_ms).person
            del self.lives[life.person]
        return message

    def _expect(self, life: Life, message: Message, now_ms: int) -> None:
        """What the rules would answer, if nothing comes in between."""
        life.open += 1
        life.sent += 1
        key = message.key or b""
        command = read_command(
            message.topic,
            partition_for(key, self._partitions),
            self._partitions,
            key,
            message.value,
        )
        assert not isinstance(command, Refusal), command
        world = World(self.employers, self.sites, self.staff, self._keys)
        life.guess = decide(life.guess, command, now_ms, world).person
        self._note_staff(life.person, life.guess)

    def _note_staff(self, person: str, state: Person) -> None:
        record = staff_record(person, state)
        if record is None:
            self.staff.pop(person, None)
        else:
            self.staff[person] = record

    # --- what fits a person ----------------------------------------------------------------------

    def _staff(self, site: str) -> str:
        """A source on the side of the site: mostly somebody who may speak for it."""
        part = self._random.choice((0, 0, 0, 1, 2))
        return f"/sites/{site}/staff/{self.sites[site].participants[part].project_manager}"

    def _move(self, life: Life, at_ms: int) -> Move:
        person, random = life.guess, self._random
        me = f"/persons/{life.person}"
        if random.random() < 0.03 and not life.manager_of:
            return self._anything(life)
        if person.identity is None or person.identity.status == "failed":
            return "identity.upload", me, self._papers(life)
        moves: list[Move] = []
        if person.identity.status == "submitted":
            result = "verified" if life.manager_of or random.random() < 0.9 else "failed"
            moves += [("identity.verify", "/centre", {"batch": "b", "result": result})] * 3
        if person.employment is None:
            moves += self._offers(life, me)
        else:
            moves += self._employed(life, me, at_ms)
        return random.choice(moves)

    def _papers(self, life: Life) -> dict[str, Any]:
        return {
            "name_tag": life.name_tag,
            "sealed": base64.b64encode(b"sealed").decode(),
            "front_sha256": "0" * 64,
            "back_sha256": "f" * 64,
            "birth_date": "1990-05-01"
            if life.boss
            else f"19{self._random.randrange(70, 99)}-02-03",
            "sex": "male",
            "notice_accepted": True,
        }

    def _offers(self, life: Life, me: str) -> list[Move]:
        random, person = self._random, life.guess
        moves: list[Move] = []
        if len(person.offers) < 2:
            employer = life.manager_of[1] if life.manager_of else random.choice([*self.employers])
            data = {"employer": employer, "name_tag": life.name_tag}
            moves.append(("hire.offer", f"/employers/{employer}", data))
        for offer in person.offers:
            moves += [("hire.confirm", me, {"offer": offer.id})] * 3
            if not life.manager_of:
                withdraw = {"employer": offer.employer, "offer": offer.id}
                moves.append(("hire.withdraw", f"/employers/{offer.employer}", withdraw))
                if random.random() < 0.3:
                    moves.append(("hire.refuse", me, {"offer": offer.id}))
        return moves

    def _employed(self, life: Life, me: str, at_ms: int) -> list[Move]:
        random, person = self._random, life.guess
        employment, assignment = person.employment, person.assignment
        assert employment is not None
        employer = employment.employer
        firm = f"/employers/{employer}"
        own = {"employer": employer}
        if employment.role is None:
            if life.boss:
                position = "project_manager" if life.manager_of else "foreman"
                done = {**own, "role": "manager", "position": position}
            else:
                done = {**own, "role": "worker", "trade": "102"}
            return [("hire.complete", firm, done)]
        moves: list[Move] = []
        if not life.manager_of and random.random() < 0.06:
            moves += [
                ("dismissal.request", firm, {**own, "reason": "done"}),
                ("departure.request", me, own),
            ]
        if employment.dismissal == "requested":
            moves += [("dismissal.agree", me, own)] * 2
            moves += [("dismissal.refuse", me, own), ("dismissal.withdraw", firm, own)]
        if employment.departure == "requested":
            moves += [
                ("departure.approve", random.choice((firm, "/bureau")), own),
                ("departure.refuse", firm, own),
                ("departure.withdraw", me, own),
            ]
        if assignment is None:
            homes = [
                name
                for name, site in self.sites.items()
                if any(part.employer == employer for part in site.participants)
            ]
            site = life.manager_of[0] if life.manager_of else random.choice(homes or ["site-0"])
            request = {**own, "site": site}
            return [*moves, *[("assignment.request", firm, request)] * 3]
        return moves + self._on_site(life, me, at_ms)

    def _on_site(self, life: Life, me: str, at_ms: int) -> list[Move]:
        random, person = self._random, life.guess
        assignment = person.assignment
        assert assignment is not None
        site, there = assignment.site, {"site": assignment.site}
        staff = self._staff(site)
        if assignment.status == "requested":
            answer = {**there, "assignment": assignment.id}
            myself = f"/sites/{site}/staff/{life.person}" if life.manager_of else staff
            moves: list[Move] = [("assignment.approve", myself, answer)] * 5
            if not life.manager_of:
                moves.append(("assignment.reject", staff, answer))
                withdrawn = {**answer, "employer": assignment.employer}
                firm = f"/employers/{assignment.employer}"
                moves.append(("assignment.withdraw", firm, withdrawn))
            return moves
        scanner = staff.rpartition("/")[2]
        source = random.choice((staff, "/devices/gate"))
        code = issue_person_code(self._keys, life.person, at_ms // 1000)
        scan = {**there, "code": code, "scanner": scanner}
        direction = random.choice((None, "in", "out"))
        moves = []
        if life.manager_of:
            myself = f"/sites/{site}/staff/{life.person}"
            if person.presence is None:
                moves.append(("entry.self", myself, there))
            elif random.random() < 0.05:
                moves.append(("exit.self", myself, there))
        elif person.is_manager:
            step = "revoke" if assignment.operator == "authorized" else "authorize"
            moves.append((f"operator.{step}", staff, there))
        if person.presence is not None:
            place = issue_site_code(self._keys, site, at_ms // 1000)
            moves += [
                ("scan.attendance", source, {**scan, "direction": direction}),
                ("scan.attendance", source, {**scan, "direction": direction}),
                ("scan.checkin", me, {**there, "code": place, "direction": direction}),
            ]
            if not life.manager_of:
                step = "confirm" if person.presence_status == "exit_registered" else "register"
                moves.append((f"exit.{step}", staff, there))
            return moves
        if person.entry is not None:
            moves += [("entry.process", staff, {**there, "entry": person.entry.id})] * 3
        if not life.manager_of:
            moves.append(("scan.entry", source, scan))
        return moves or [("scan.attendance", source, scan)]

    def _anything(self, life: Life) -> Move:
        """A command that most probably does not fit."""
        random = self._random
        employer, site = random.choice([*self.employers]), random.choice([*self.sites])
        firm, staff = f"/employers/{employer}", self._staff(site)
        moves: list[Move] = [
            ("hire.offer", firm, {"employer": employer, "name_tag": life.name_tag}),
            ("dismissal.agree", f"/persons/{life.person}", {"employer": employer}),
            ("departure.withdraw", f"/persons/{life.person}", {"employer": employer}),
            ("operator.revoke", staff, {"site": site}),
            ("exit.confirm", staff, {"site": site}),
            ("entry.process", staff, {"site": site, "entry": "none"}),
            ("identity.verify", "/centre", {"batch": "b", "result": "failed"}),
        ]
        return random.choice(moves)

    # --- what is no command ----------------------------------------------------------------------

    def _trash(self) -> Message:
        """A record that must become a dead letter."""
        random = self._random
        life = self.lives[random.choice(self._others)]
        key = life.person.encode()
        topic = random.choice([topic for topic in TOPICS if topic not in self.held])
        good = self._recent[-1].value if self._recent else b"{}"
        kinds: list[Callable[[], Message]] = [
            lambda: Message(topic, key, None, None),
            lambda: Message(topic, key, b"{ no json", None),
            lambda: Message(topic, key, random.randbytes(random.randrange(1, 400)), None),
            lambda: Message(topic, random.randbytes(20), b"[1]", None),
            lambda: Message(topic, None, b"x", None, random.randrange(self._partitions)),
            lambda: Message(topic, key, b"x" * (limits.VALUE_BYTES_MAX + 1), None),
            lambda: Message(topic, key, good, None),
            lambda: Message(topic, b"another", good, None),
            lambda: self._misplaced(self._recent[-1]) if self._recent else kinds[0](),
        ]
        return random.choice(kinds)()

    def _misplaced(self, message: Message) -> Message:
        """As a client with another partitioner sends it."""
        right = partition_for(message.key or b"", self._partitions)
        partition = (right + self._random.randrange(1, self._partitions)) % self._partitions
        return Message(message.topic, message.key, message.value, None, partition)


TOPICS: Final = tuple(dict.fromkeys(topic for topic, _ in COMMANDS.values()))
