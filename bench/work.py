"""The work that is measured: the scan stream of living sites.

Persons are hired, registered and assigned before it begins, most of them are present. Then come
their scans: attendance 70 %, entries and exits 10 %, rejections 12 %, duplicates 8 %. Everything is
drawn from one seeded generator, so a `Shape` names the same stream again but for the moment it
begins at.

The stream comes in rounds. Two messages of one person in different topics are never in the same
round, and rounds are loaded one after another: the broker's time alone then says in which order
they belong, for every engine that can merge topics by it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from random import Random
from typing import Any, Final, NamedTuple

import orjson

from rules.authority import World
from rules.codes import issue_person_code, issue_site_code
from rules.decide import Decision, decide
from rules.packed import digest
from rules.person import Assignment, Employment, Identity, Person, Presence
from schemas.identifiers import make_uscc, partition_for
from schemas.limits import DAY_MS, HOUR_MS, MINUTE_MS
from schemas.reading import Refusal, read_command
from schemas.references import Employer, Participant, Site, Staff, write_reference

CODE_KEY: Final = bytes(range(32))
CODE_KEYS: Final = {1: CODE_KEY}

ATTENDANCE: Final = 0.70
ENTRIES_AND_EXITS: Final = 0.10
REJECTIONS: Final = 0.12
"""The rest are duplicates."""

SEED_VERSION: Final = 9
"""Upload, verification, offer, acceptance, start, registration, request, approval, entry or not."""

PERSONS_A_SITE: Final = 200

SCANS, ENTRIES, EXITS = "scan-events", "entry-requests", "exit-requests"
TOPICS: Final = (SCANS, ENTRIES, EXITS)
"""In causal order."""


@dataclass(frozen=True)
class Shape:
    """What a stream is like."""

    inputs: int
    persons: int = 0
    """0: one for 20 inputs."""
    partitions: int = 16
    seed: int = 1
    moving: bool = True
    """Whether persons enter and leave; without it all of them stay present."""
    span_ms: int = 12 * HOUR_MS
    """The stream's own times go over this long, up to the moment it is made for."""
    segment: int = 0
    """Another stream of the same persons, with ids of its own; only where nobody moves."""
    others: tuple[str, ...] = ()
    """A fifth of the stream goes to these topics, and changes nothing there."""
    home: int | None = None
    """Only persons of this partition act."""

    @property
    def people(self) -> int:
        return self.persons or max(200, self.inputs // 20)

    @property
    def round(self) -> int:
        """Inputs loaded at once: few enough that most persons are free for any topic."""
        return max(200, self.people // 2)


class Message(NamedTuple):
    topic: str
    partition: int
    key: bytes
    value: bytes
    round: int


class Seed(NamedTuple):
    """One person before the stream begins, in a form that every engine can read."""

    person: str
    employer: str
    site: str
    assignment: str
    entry: str | None
    """The entry by which the person is present; None: not yet."""
    since_ms: int


def state_of(seed: Seed) -> Person:
    """The person's state as the rules have it."""
    named = [digest(f"offer-{seed.person}"), digest(seed.assignment)]
    presence = None
    if seed.entry is not None:
        presence = Presence(seed.entry, seed.site, seed.employer, seed.since_ms)
        named.append(digest(seed.entry))
    return Person(
        version=SEED_VERSION + (seed.entry is not None),
        identity=Identity("verified", f"upload-{seed.person}", seed.person, "1990-05-01", "male"),
        employment=Employment(seed.employer, "registered", "worker", "102"),
        assignment=Assignment(seed.assignment, seed.site, seed.employer, None, "confirmed", "none"),
        presence_status="absent" if presence is None else "present",
        presence=presence,
        named=b"".join(named),
    )


def seed_json(seed: Seed) -> bytes:
    """The wire form of a seed; `version` goes along."""
    return orjson.dumps({**seed._asdict(), "version": SEED_VERSION + (seed.entry is not None)})


def seed_from_json(raw: bytes) -> Person:
    """The state that a seed on the wire stands for."""
    document = orjson.loads(raw)
    del document["version"]
    return state_of(Seed(**document))


@dataclass(eq=False)
class _Somebody:
    seed: Seed
    key: bytes
    partition: int
    topic: str = ""
    round: int = -1
    waiting: str | None = None
    registered: bool = False
    inside: bool = True


@dataclass
class Work:
    """A stream, and the world it happens in."""

    shape: Shape
    now_ms: int
    """The stream's times end here; it must be loaded soon after."""
    employers: dict[str, Employer] = field(default_factory=dict)
    sites: dict[str, Site] = field(default_factory=dict)
    staff: dict[str, Staff] = field(default_factory=dict)
    seeds: list[Seed] = field(default_factory=list)

    def __post_init__(self) -> None:
        random = Random(self.shape.seed)
        began_ms = self.now_ms - self.shape.span_ms
        count = max(2, self.shape.people // PERSONS_A_SITE)
        firms = [make_uscc(random) for _ in range(max(3, count))]
        for uscc in firms:
            self.employers[uscc] = Employer(uscc=uscc, name="firm", status="active")
        kinds = ("general_contractor", "professional_subcontractor", "labor_subcontractor")
        for number in range(count):
            site = f"site-{number:05}"
            parts = []
            for step, kind in enumerate(kinds):
                uscc, boss = firms[(number + step) % len(firms)], _id(f"boss {site} {step}")
                self.staff[boss] = Staff(
                    person=boss, employer=uscc, position="project_manager", site=site,
                    operator=False, present=True,
                )  # fmt: skip
                parts.append(Participant(employer=uscc, type=kind, project_manager=boss))  # type: ignore[arg-type]
            gate = _id(f"gate {site}")
            self.staff[gate] = Staff(
                person=gate, employer=parts[0].employer, position="foreman", site=site,
                operator=True, present=True,
            )  # fmt: skip
            self.sites[site] = Site(
                site=site, name="a site", status="active", participants=tuple(parts)
            )
        names = list(self.sites)
        inside = 0.55 if self.shape.moving else 1.0
        for number in range(self.shape.people):
            person = _id(f"{self.shape.seed} {number}")
            site = names[number % count]
            employer = self.sites[site].participants[number // count % 3].employer
            present = random.random() < inside
            self.seeds.append(
                Seed(
                    person, employer, site, f"assignment-{person}",
                    f"entry-{person}" if present else None, began_ms - DAY_MS if present else 0,
                )
            )  # fmt: skip

    def world(self) -> World:
        return World(self.employers, self.sites, self.staff, CODE_KEYS)

    def messages(self) -> Iterator[Message]:
        """The stream, in the order it is to be loaded."""
        return _Stream(self).messages()


class _Stream:
    def __init__(self, work: Work) -> None:
        self._work = work
        self._random = Random(f"{work.shape.seed} {work.shape.segment}")
        self._people = []
        for seed in work.seeds:
            key = seed.person.encode()
            home = partition_for(key, work.shape.partitions)
            if work.shape.home in (None, home):
                self._people.append(_Somebody(seed, key, home, inside=seed.entry is not None))
        self._outside = [one for one in self._people if not one.inside]
        self._random.shuffle(self._outside)
        self._inside = [one for one in self._people if one.inside]
        self._gone: list[_Somebody] = []
        self._recent: list[Message] = []
        self._number = 0
        self._round = 0

    def messages(self) -> Iterator[Message]:
        shape, random = self._work.shape, self._random
        step_ms = shape.span_ms / shape.inputs
        began_ms = self._work.now_ms - shape.span_ms
        moving = ENTRIES_AND_EXITS if shape.moving else 0.0
        for number in range(shape.inputs):
            if number % shape.round == 0:
                self._round += 1
                self._recent = self._recent[-2_000:]
            at_ms = began_ms + int(number * step_ms)
            dice = random.random()
            message = None
            if dice < moving:
                message = self._enter(at_ms) if dice < moving / 2 else self._leave(at_ms)
            elif dice < moving + REJECTIONS:
                message = self._wrong(at_ms)
            elif shape.others and dice < moving + REJECTIONS + 0.2:
                message = self._elsewhere(at_ms)
            elif dice > ATTENDANCE + ENTRIES_AND_EXITS + REJECTIONS:
                message = self._again()
            message = message or self._attend(at_ms)
            if len(self._recent) < 4_000:
                self._recent.append(message)
            else:
                self._recent[random.randrange(4_000)] = message
            yield message

    # --- who ------------------------------------------------------------------------------------

    def _pick(self, people: list[_Somebody], topic: str) -> _Somebody | None:
        """Somebody whose message in this topic may be in this round."""
        for _ in range(20):
            if not people:
                return None
            one = people[self._random.randrange(len(people))]
            if one.round != self._round or one.topic == topic:
                return one
        return None

    # --- what -----------------------------------------------------------------------------------

    def _attend(self, at_ms: int) -> Message:
        one = self._pick(self._inside, SCANS)
        while one is None:
            one = self._pick(self._people, SCANS)
        return self._attendance(one, at_ms, one.seed.site)

    def _attendance(self, one: _Somebody, at_ms: int, site: str) -> Message:
        direction = "in" if self._random.random() < 0.5 else "out"
        if self._random.random() < 0.4:
            code = _site_code(site, at_ms // DAY_MS)
            data = {"site": site, "code": code, "direction": direction}
            return self._send(
                one, SCANS, "scan.checkin", f"/persons/{one.seed.person}", at_ms, data
            )
        data = {"site": site, "code": _code(one, at_ms), "scanner": gate_of(site),
                "direction": direction}  # fmt: skip
        return self._send(one, SCANS, "scan.attendance", f"/devices/gate-{site}", at_ms, data)

    def _enter(self, at_ms: int) -> Message | None:
        topic = SCANS if self._random.random() < 0.5 else ENTRIES
        one = self._pick(self._outside, topic)
        if one is None or (one.waiting is None) != (topic == SCANS):
            topic = ENTRIES if topic == SCANS else SCANS
            if one is None or (one.round == self._round and one.topic != topic):
                return None
        site = one.seed.site
        if topic == SCANS:
            data = {"site": site, "code": _code(one, at_ms), "scanner": boss_of(site)}
            message = self._send(one, SCANS, "scan.entry", f"/devices/gate-{site}", at_ms, data)
            one.waiting = self._id()
            return message
        data = {"site": site, "entry": one.waiting or ""}
        one.waiting, one.inside = None, True
        self._outside.remove(one) if len(self._outside) < 64 else self._drop(self._outside, one)
        self._inside.append(one)
        return self._send(one, ENTRIES, "entry.process", _staff(site), at_ms, data)

    def _leave(self, at_ms: int) -> Message | None:
        one = self._pick(self._inside[: max(32, len(self._inside) // 8)], EXITS)
        if one is None:
            return None
        site = one.seed.site
        if not one.registered:
            one.registered = True
            return self._send(one, EXITS, "exit.register", _staff(site), at_ms, {"site": site})
        self._drop(self._inside, one)
        self._gone.append(one)
        return self._send(one, EXITS, "exit.confirm", _staff(site), at_ms, {"site": site})

    @staticmethod
    def _drop(people: list[_Somebody], one: _Somebody) -> None:
        people.remove(one)

    def _wrong(self, at_ms: int) -> Message | None:
        """Something that must be rejected, each in its own way."""
        random = self._random
        kind = random.randrange(6)
        pool = (self._outside or self._gone) if kind == 5 else self._inside
        one = self._pick(pool, SCANS)
        if one is None:
            return None
        site = one.seed.site
        device = f"/devices/gate-{site}"
        data = {
            "site": site,
            "code": _code(one, at_ms),
            "scanner": gate_of(site),
            "direction": "in",
        }
        if kind == 0:
            data["code"] = _code(one, at_ms - 10 * MINUTE_MS)
        elif kind == 1:
            data["code"] = data["code"][:-3] + ("AAA" if data["code"][-3:] != "AAA" else "BAA")
        elif kind == 2:
            data["scanner"] = one.seed.person
        elif kind == 3:
            return self._attendance(
                one, at_ms, "site-00000" if site != "site-00000" else "site-00001"
            )
        elif kind == 4:
            data = {"site": site, "code": data["code"], "scanner": boss_of(site)}
            return self._send(one, SCANS, "scan.entry", device, at_ms, data)
        return self._send(one, SCANS, "scan.attendance", device, at_ms, data)

    def _elsewhere(self, at_ms: int) -> Message | None:
        """Something on another topic that the person's state does not call for."""
        topic = self._random.choice(self._work.shape.others)
        one = self._pick(self._inside, topic)
        if one is None:
            return None
        me, firm, site = f"/persons/{one.seed.person}", one.seed.employer, one.seed.site
        own = {"employer": firm}
        made: dict[str, tuple[str, str, dict[str, Any]]] = {
            "identity-uploads": ("identity.upload", me, PAPERS),
            "identity-verifications": (
                "identity.verify", "/centre", {"batch": "b", "result": "verified"},
            ),
            "hire-requests": ("hire.withdraw", f"/employers/{firm}", {**own, "offer": "none"}),
            "dismissal-requests": ("dismissal.withdraw", f"/employers/{firm}", own),
            "departure-requests": ("departure.withdraw", me, own),
            "assignment-requests": (
                "assignment.withdraw", f"/employers/{firm}",
                {**own, "site": site, "assignment": "none"},
            ),
            "confirmations": ("hire.confirm", me, {"offer": "none"}),
            "authorizations": ("operator.authorize", _staff(site), {"site": site}),
            "entry-requests": ("entry.process", _staff(site), {"site": site, "entry": "none"}),
            "exit-requests": ("exit.confirm", _staff(site), {"site": site}),
        }  # fmt: skip
        kind, source, data = made[topic]
        return self._send(one, topic, kind, source, at_ms, data)

    def _again(self) -> Message | None:
        """The same once more."""
        if not self._recent:
            return None
        return self._recent[self._random.randrange(len(self._recent))]._replace(round=self._round)

    # --- how ------------------------------------------------------------------------------------

    def _id(self) -> str:
        return f"{self._work.shape.segment:02x}-{self._number:08x}"

    def _send(
        self, one: _Somebody, topic: str, kind: str, source: str, at_ms: int, data: dict[str, Any]
    ) -> Message:
        self._number += 1
        one.topic, one.round = topic, self._round
        value = orjson.dumps(
            {
                "specversion": "1.0",
                "id": self._id(),
                "source": source,
                "type": kind,
                "time": moment(at_ms),
                "subject": one.seed.person,
                "data": data,
            }
        )
        return Message(topic, one.partition, one.key, value, self._round)


def moment(at_ms: int) -> str:
    """RFC 3339 in UTC, with milliseconds."""
    return f"{_second(at_ms // 1000)}.{at_ms % 1000:03}Z"


@cache
def _second(at_s: int) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _id(text: str) -> str:
    return hashlib.md5(text.encode()).hexdigest()


@cache
def gate_of(site: str) -> str:
    return _id(f"gate {site}")


@cache
def boss_of(site: str) -> str:
    return _id(f"boss {site} 0")


PAPERS: Final = {
    "name_tag": "0" * 32,
    "sealed": "c2VhbGVk",
    "front_sha256": "0" * 64,
    "back_sha256": "f" * 64,
    "birth_date": "1990-05-01",
    "sex": "male",
    "notice_accepted": True,
}


def _staff(site: str) -> str:
    return f"/sites/{site}/staff/{boss_of(site)}"


@cache
def _site_code(site: str, day: int) -> str:
    return issue_site_code(CODE_KEYS, site, day * DAY_MS // 1000)


def _code(one: _Somebody, at_ms: int) -> str:
    return issue_person_code(CODE_KEYS, one.seed.person, at_ms // 1000)


class Answer(NamedTuple):
    """What an outcome says, as far as engines are compared."""

    status: str
    code: str
    version: int


class Oracle:
    """The pure rules on the stream, in the order it was loaded: what every engine should say."""

    def __init__(self, work: Work, sample: int = 1) -> None:
        """Of the persons, every `sample`-th is followed."""
        self._world = work.world()
        self._partitions = work.shape.partitions
        self._people: dict[bytes, Person] = {
            seed.person.encode(): state_of(seed) for seed in work.seeds[::sample]
        }
        self.answers: dict[tuple[str, int, int], Answer] = {}
        """(logical topic, partition, offset) -> answer."""
        self.events = 0

    def follow(self, message: Message, offset: int, now_ms: int) -> None:
        person = self._people.get(message.key)
        if person is None:
            return
        decision = decide_raw(self._world, self._partitions, person, message, now_ms)
        self._people[message.key] = decision.person
        self.events += len(decision.events)
        self.answers[message.topic, message.partition, offset] = Answer(
            decision.status, decision.code, decision.version
        )


def decide_raw(
    world: World, partitions: int, person: Person, message: Message, now_ms: int
) -> Decision:
    """Read and decide one message of the stream, which has nothing but commands."""
    command = read_command(message.topic, message.partition, partitions, message.key, message.value)
    if isinstance(command, Refusal):
        raise TypeError(f"the stream has something that is no command: {command}")
    return decide(person, command, now_ms, world)


def references(work: Work) -> Iterator[tuple[str, bytes, bytes]]:
    """(logical topic, key, value) of every reference record."""
    views: tuple[tuple[str, Mapping[str, Any]], ...] = (
        ("employers", work.employers),
        ("sites", work.sites),
        ("staff", work.staff),
    )
    for topic, view in views:
        for key, record in view.items():
            yield topic, key.encode(), write_reference(record)
