"""Random histories of a town that get somewhere, and a second opinion on what came of them.

`Player.move` makes the next move of a history: mostly a command that fits the state it finds, often
with something wrong; commands sent before, again; the passing of time; changed reference records.
Whoever chooses is given from outside: a seeded random generator, or Hypothesis.

`Shadow` believes nothing but events. It folds them without the rules' code and asserts what the
contract promises of every history.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from rules.person import staff_record
from schemas.limits import (
    CLOCK_INS_MAX,
    DAY_MS,
    HOUR_MS,
    MINUTE_MS,
    OFFER_OPEN_MS_MAX,
    PAST_MS_MAX,
    TENURES_MAX,
)
from schemas.reading import Command
from tests.rules.town import (
    BUILD,
    BUILD_PM,
    BUREAU,
    CREW,
    CREW2,
    CREW_PM,
    EAST,
    GU,
    HE,
    LI,
    OTHER,
    STEEL,
    STEEL_PM,
    WEST,
    WEST_PM,
    WU,
    Answer,
    Town,
    as_employer,
    as_person,
    as_staff,
    busy_town,
    code,
    employers,
    site_code,
    sites,
    tag,
)

T = TypeVar("T")
Pick = Callable[[Sequence[Any]], Any]
"""Chooses one of a sequence."""

MANAGERS = (BUILD_PM, STEEL_PM, CREW_PM, WEST_PM)
PEOPLE = (LI, WU, GU, HE, *MANAGERS)
EMPLOYERS = (BUILD, STEEL, CREW, CREW2, OTHER)
SITES = (EAST, WEST)
DIRECTIONS = (None, "in", "out")


@dataclass
class Player:
    """Plays one history in a busy town."""

    pick: Pick
    town: Town = field(default_factory=busy_town)
    shadow: Shadow = field(default_factory=lambda: Shadow())
    said: Counter[str] = field(default_factory=Counter)
    sent: list[Command] = field(default_factory=list)

    def __post_init__(self) -> None:
        # What the busy town has lived through is not in the shadow; it only takes over the result.
        self.shadow.take_over(self.town)

    def move(self) -> None:
        kind = self.pick(
            ("fits",) * 14 + ("any",) * 3 + ("again", "reuse", "time", "time", "world", "world")
        )
        if kind == "time":
            self.town.later(minutes=self.pick((1, 1, 2, 5, 10, 60, 600, 1440, 3 * 1440)))
            if self.pick((False,) * 15 + (True,)):
                self.town.later(days=31)
        elif kind == "world":
            self._world()
        else:
            answer = getattr(self, f"_{kind}")()
            if answer is not None:
                self._look(answer)

    # --- moves ------------------------------------------------------------------------------------

    def _fits(self) -> Answer:
        """A command that the person's state waits for."""
        town, pick, who = self.town, self.pick, self.pick(PEOPLE)
        person = town.person(who)
        there = [
            name
            for name, record in town.sites.items()
            if any(part.employer == person.employer for part in record.participants)
        ]
        site = pick([*there * 3, *SITES])
        moves: list[Callable[[], Answer]] = []
        if person.identity_status != "verified":
            birth = pick(("1990-05-01",) * 12 + ("2008-12-24", "1967-03-01"))
            name = tag(pick((who,) * 6 + (LI,)))
            tick = pick((True,) * 6 + (None,))
            moves += [
                lambda: town.upload(who, birth_date=birth, name_tag=name, notice_accepted=tick),
                lambda: town.verify(who, pick(("verified", "failed"))),
            ]
        if person.identity is not None and person.employment is None:
            name_now = person.identity.name_tag
            moves.append(
                lambda: town.offer(who, pick(EMPLOYERS[:4] * 2 + (OTHER,)), name_tag=name_now)
            )
        if person.offers:
            offer = pick(person.offers)
            moves += [
                lambda: town.confirm(who, offer.id),
                lambda: town.confirm(who, offer.id),
                lambda: pick((town.refuse, town.confirm))(who, offer.id),
                lambda: town.withdraw_offer(who, offer.employer, offer.id),
            ]
        if person.employment is not None:
            moves += self._employed(who, site)
        if person.assignment is not None:
            moves += self._assigned(who)
        if not moves or pick((False,) * 15 + (True,)):
            moves = self._out_of_turn(who, site)
        return pick(moves)()  # type: ignore[no-any-return]

    def _out_of_turn(self, who: str, site: str) -> list[Callable[[], Answer]]:
        town, pick = self.town, self.pick
        employer = town.person(who).employer or CREW
        staff = self._staff(site)
        return [
            lambda: town.upload(who),
            lambda: town.offer(who, pick((employer, CREW))),
            lambda: town.complete(who, employer, "worker", trade=None),
            lambda: town.complete(who, employer, "manager", position=" "),
            lambda: town.assign(who, site, employer),
            lambda: town.authorize(who, site, staff),
            lambda: town.scan(who, site, staff),
            lambda: town.check_in(who, site),
            lambda: town.register_exit(who, site, staff),
        ]

    def _employed(self, who: str, site: str) -> list[Callable[[], Answer]]:
        town, pick = self.town, self.pick
        employment = town.person(who).employment
        assert employment is not None
        employer = employment.employer
        role = "manager" if who in (*MANAGERS, HE, GU) else "worker"
        if employment.role is None:
            return [lambda: town.complete(who, employer, role)] * 2
        moves: list[Callable[[], Answer]] = []
        if pick((False,) * 3 + (True,)):
            reason = pick(("done",) * 5 + (None,))
            moves += [
                lambda: town.dismiss(who, employer, reason),
                lambda: town.departure("request", who, employer),
                lambda: town.complete(who, employer, pick(("worker", role))),
            ]
        if town.person(who).assignment is None:
            position = pick((None, None, "foreman", "project_manager"))
            moves += [lambda: town.assign(who, site, position=position)] * 3
        if employment.dismissal == "requested":
            moves += [lambda: town.dismissal(pick(("withdraw", "agree", "refuse")), who, employer)]
        if employment.departure == "requested":
            by = pick((None, None, BUREAU))
            steps = ("approve",) if by else ("withdraw", "approve", "refuse")
            moves += [lambda: town.departure(pick(steps), who, employer, by=by)]
        return moves

    def _assigned(self, who: str) -> list[Callable[[], Answer]]:
        town, pick = self.town, self.pick
        person = town.person(who)
        assignment = person.assignment
        assert assignment is not None
        site, at = assignment.site, assignment.id
        staff = self._staff(site)
        at_ms = town.now_ms - pick((0, 0, 0, MINUTE_MS, HOUR_MS, 9 * HOUR_MS, 3 * DAY_MS))
        if assignment.status == "requested":
            return [
                *[lambda: town.approve(who, site, at, staff)] * 4,
                lambda: town.reject(who, site, at, staff),
                lambda: town.unassign(who, site, assignment.employer, at),
            ]
        moves: list[Callable[[], Answer]] = []
        if person.is_manager:
            moves += [lambda: pick((town.authorize, town.authorize, town.revoke))(who, site, staff)]
        if person.presence is not None:
            moves += [
                lambda: town.clock(who, site, staff, pick(DIRECTIONS), at_ms=at_ms),
                lambda: town.check_in(who, site, pick(DIRECTIONS), at_ms=at_ms),
                lambda: town.register_exit(who, site, staff),
                lambda: town.confirm_exit(who, site, staff),
                lambda: town.exit_self(who, site),
                lambda: town.unassign(who, site, assignment.employer, at),
            ]
            return moves
        where = pick((site,) * 8 + SITES)
        shown = pick((at_ms,) * 8 + (at_ms - 2 * MINUTE_MS, at_ms - 9 * MINUTE_MS))
        moves += [
            *[lambda: town.scan(who, where, staff, at_ms=at_ms, code=code(who, shown))] * 3,
            *[lambda: town.enter_self(who, site)] * (who in MANAGERS),
        ]
        if pick((False,) * 5 + (True,)):
            moves += [lambda: town.unassign(who, site, assignment.employer, at)]
        if person.entry is not None:
            entry = person.entry.id
            moves += [lambda: town.process(who, site, entry, staff)] * 3
        return moves

    def _staff(self, site: str) -> str:
        """Mostly somebody who may: a named project manager or an operator of the site."""
        staff = self.town.staff
        record = self.town.sites.get(site)
        named = [part.project_manager for part in record.participants] if record else []
        may = [who for who in named if who in staff and staff[who].site == site]
        may += [who for who in staff if staff[who].operator and staff[who].site == site]
        chosen: str = self.pick([*may, *may, *(who for who in named if who), HE])
        return chosen

    def _any(self) -> Answer | None:
        """Any command at all, about anything that there is or was."""
        town, pick = self.town, self.pick
        who, other, site, employer = pick(PEOPLE), pick(PEOPLE), pick(SITES), pick(EMPLOYERS)
        thing = pick([command.id for command in self.sent[-30:]] or ["nothing"])
        at_ms = town.now_ms + pick((0,) * 12 + (-DAY_MS, -8 * DAY_MS, 6 * MINUTE_MS))
        by = pick((as_staff(site, other), as_employer(employer), as_person(who), BUREAU))
        shown = pick((code(who, at_ms), code(other, at_ms), site_code(site, at_ms), "RN:AAAA"))
        plain: dict[str, dict[str, Any]] = {
            "identity.verify": {"batch": "b", "result": "failed", "upload": thing},
            "hire.offer": {"employer": employer, "name_tag": tag(other)},
            "hire.withdraw": {"employer": employer, "offer": thing},
            "hire.complete": {"employer": employer, "role": pick(("worker", "manager"))},
            "hire.confirm": {"offer": thing},
            "hire.refuse": {"offer": thing},
            "assignment.request": {"site": site, "employer": employer, "position": "x"},
            "assignment.withdraw": {"site": site, "employer": employer, "assignment": thing},
            "assignment.approve": {"site": site, "assignment": thing},
            "assignment.reject": {"site": site, "assignment": thing},
            "scan.entry": {"site": site, "code": shown, "scanner": other},
            "scan.attendance": {"site": site, "code": shown, "scanner": other},
            "scan.checkin": {"site": site, "code": shown},
            "entry.process": {"site": site, "entry": thing},
            "dismissal.request": {"employer": employer},
            **{f"dismissal.{s}": {"employer": employer} for s in ("withdraw", "agree", "refuse")},
            **{f"departure.{s}": {"employer": employer} for s in ("request", "withdraw")},
            **{f"departure.{s}": {"employer": employer} for s in ("approve", "refuse")},
            **{f"operator.{s}": {"site": site} for s in ("authorize", "revoke")},
            **{f"exit.{s}": {"site": site} for s in ("register", "confirm", "self")},
            "entry.self": {"site": site},
        }
        command_type = pick(sorted(plain))
        return town.send(command_type, by, who, at_ms=at_ms, **plain[command_type])

    def _again(self) -> Answer | None:
        """A command sent before, byte for byte."""
        return self.town.again(self.pick(self.sent[-50:])) if self.sent else None

    def _reuse(self) -> Answer | None:
        """Another command under an id that was used before."""
        if not self.sent:
            return None
        old = self.pick(self.sent[-50:])
        return self.town.send(
            "hire.refuse", as_person(old.subject), old.subject, id=old.id, offer="x"
        )

    def _world(self) -> None:
        """Reference records change; more often than not they get well again."""
        town, pick = self.town, self.pick
        change = pick(("well",) * 9 + ("employer", "gone", "site", "nowhere", "manager", "part"))
        if change == "well":
            town.employers, town.sites = employers(), sites()
            # Where a named project manager has left, another manager of the employer is named.
            for site, record in town.sites.items():
                for part in record.participants:
                    own = [who for who in PEOPLE if self._manages(who, part.employer)]
                    if own and part.project_manager not in own:
                        town.set_manager(site, part.employer, pick(own))
        elif change == "employer" and town.employers:
            town.set_employer(pick(sorted(town.employers)), "suspended")
        elif change == "gone" and town.employers:
            del town.employers[pick(sorted(town.employers))]
        elif town.sites:
            site = pick(sorted(town.sites))
            if change == "site":
                town.set_site(site, pick(("suspended", "completed")))
            elif change == "nowhere":
                del town.sites[site]
            elif change == "manager":
                town.set_manager(site, pick(EMPLOYERS), pick((None, *PEOPLE)))
            else:
                town.drop_participant(site, pick(EMPLOYERS))

    def _manages(self, who: str, employer: str) -> bool:
        return who in self.town.staff and self.town.staff[who].employer == employer

    def _look(self, answer: Answer) -> None:
        self.said[answer.code] += 1
        self.sent.append(answer.command)
        for event in answer.decision.events:
            self.said[event.type] += 1
        self.shadow.see(answer, self.town.now_ms)
        for who, person in self.town.persons.items():
            assert self.town.staff.get(who) == staff_record(who, person)


# --- the second opinion ---------------------------------------------------------------------------


@dataclass
class Life:
    """What the events tell of one person."""

    version: int = 0
    identity: str = "none"
    offers: dict[str, tuple[str, int]] = field(default_factory=dict)
    """Open ones: employer, and when they were sent."""
    closed: set[str] = field(default_factory=set)
    employers: set[str] = field(default_factory=set)
    assignments: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Live ones: site, status."""
    operator: bool = False
    waiting: str | None = None
    present: tuple[str, str, int] | None = None
    """Entry, site, since."""
    tenures: list[tuple[str, int, int]] = field(default_factory=list)
    ins: list[tuple[str, int]] = field(default_factory=list)
    codes: set[str] = field(default_factory=set)
    accepted: dict[tuple[str, str], int] = field(default_factory=dict)

    def present_at(self, at_ms: int) -> set[str]:
        found = {site for site, start, end in self.tenures if start <= at_ms <= end}
        if self.present is not None and self.present[2] <= at_ms:
            found.add(self.present[1])
        return found


class Shadow:
    """Folds events and holds the promises against them."""

    def __init__(self) -> None:
        self.lives: dict[str, Life] = {}

    def take_over(self, town: Town) -> None:
        for who, person in town.persons.items():
            life = self.lives[who] = Life(person.version, person.identity_status)
            if person.employer is not None:
                life.employers.add(person.employer)
            if person.assignment is not None:
                life.assignments[person.assignment.id] = (
                    person.assignment.site,
                    person.assignment.status,
                )

    def see(self, answer: Answer, now_ms: int) -> None:
        command = answer.command
        life = self.lives.setdefault(command.subject, Life())
        if answer.decision.status == "accepted":
            key = (command.source, command.id)
            # At most once, for as long as a resend of it is not too late.
            assert life.accepted.get(key, -1) < now_ms - PAST_MS_MAX
            life.accepted[key] = command.at_ms
        if command.type in ("scan.attendance", "scan.checkin"):
            self._absence(life, answer)
        for event in answer.decision.events:
            life.version += 1
            self._fold(life, command, event.type, event.data, now_ms)
        if answer.decision.status != "duplicate":
            assert answer.decision.version == life.version
        assert len(life.employers) <= 1, "two active employers"
        assert len(life.assignments) <= 1, "two live assignments"

    def _fold(
        self, life: Life, command: Command, event_type: str, data: dict[str, Any], now_ms: int
    ) -> None:
        family, step = event_type.split(".")
        if family == "identity":
            life.identity = step
        elif family == "offer":
            self._offer(life, step, data, now_ms)
        elif event_type == "employment.started":
            assert not life.offers.keys() - life.closed or life.offers
            life.employers.add(data["employer"])
        elif event_type == "employment.ended":
            life.employers.remove(data["employer"])
        elif family == "assignment":
            self._assignment(life, step, data)
        elif family == "operator":
            assert life.operator == (step == "revoked")
            assert (data["site"], "confirmed") in life.assignments.values()
            life.operator = step == "authorized"
        elif family in ("entry", "presence", "exit"):
            self._presence(life, command, event_type, data)
        elif family == "attendance":
            assert data["site"] in life.present_at(command.at_ms)
            assert data["day"] == _day(life, command, data) or len(life.ins) > CLOCK_INS_MAX
            if data.get("direction") == "in":
                life.ins.append((data["site"], command.at_ms))

    def _offer(self, life: Life, step: str, data: dict[str, Any], now_ms: int) -> None:
        offer = data["offer"]
        assert offer not in life.closed, "an offer that was over"
        if step in ("parked", "made"):
            life.offers.setdefault(offer, (data["employer"], now_ms))
            assert (step == "made") == (life.identity == "verified")
            assert not life.employers
            return
        employer, sent_ms = life.offers.pop(offer)
        life.closed.add(offer)
        assert employer == data["employer"]
        assert (step == "expired") == (now_ms >= sent_ms + OFFER_OPEN_MS_MAX)

    def _assignment(self, life: Life, step: str, data: dict[str, Any]) -> None:
        assignment, site = data["assignment"], data["site"]
        if step == "requested":
            assert life.employers == {data["employer"]}
            life.assignments[assignment] = (site, step)
            return
        assert life.assignments[assignment][0] == site
        if step == "confirmed":
            life.assignments[assignment] = (site, step)
            return
        del life.assignments[assignment]
        assert not life.operator
        assert life.present is None
        assert life.waiting is None

    def _presence(
        self, life: Life, command: Command, event_type: str, data: dict[str, Any]
    ) -> None:
        entry, site = data.get("entry"), data["site"]
        if event_type == "presence.ended":
            assert life.present is not None
            assert life.present[:2] == (entry, site)
            start_ms = life.present[2]
            life.tenures.append((site, start_ms, max(start_ms, command.at_ms)))
            life.present = None
            return
        assert (site, "confirmed") in life.assignments.values() or event_type == "entry.lapsed"
        if event_type == "entry.scanned":
            assert life.waiting is None
            assert life.present is None
            assert command.data.code not in life.codes, "a spent code"
            life.codes.add(command.data.code)
            life.waiting = entry
        elif event_type == "entry.lapsed":
            assert life.waiting == entry
            life.waiting = None
        elif event_type == "presence.started":
            assert life.present is None
            assert life.waiting in (None, entry)
            life.waiting, life.present = None, (str(entry), site, command.at_ms)

    def _absence(self, life: Life, answer: Answer) -> None:
        """Nobody is told to be absent who was there."""
        there = life.present_at(answer.command.at_ms)
        if len(life.tenures) > TENURES_MAX:
            return
        if answer.said == "not_present":
            assert not there
        if answer.said == "wrong_site" and answer.command.type == "scan.attendance":
            assert answer.command.data.site not in there


def _day(life: Life, command: Command, data: dict[str, Any]) -> str:
    """The attendance day, computed the long way."""
    shanghai = UTC, timedelta(hours=8)
    at_ms = command.at_ms
    if data.get("direction") == "out":
        before = [ms for site, ms in life.ins if site == data["site"] and ms < at_ms]
        if before and at_ms < max(before) + 16 * HOUR_MS:
            at_ms = max(before)
    moment = datetime.fromtimestamp(at_ms / 1000, shanghai[0]) + shanghai[1]
    return moment.date().isoformat()
