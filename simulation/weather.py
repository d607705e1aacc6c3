"""Times, delays and losses drawn from a seed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from agents.ledger.log import Place
from agents.ledger.memory import Fate, Weather
from simulation.people import BEGIN_MS

TAIL_S_MAX = 2.0
"""The longest that a delay of the network or of replication lasts, a slow spell included."""


@dataclass(frozen=True)
class Climate:
    """How bad the weather of one history is."""

    delay_s: float
    """Of most requests and answers, at most."""
    tail: float
    """How many, of 1, take up to `TAIL_S_MAX`."""
    lost: float
    """How many, of 1, lose their request or their answer."""
    question_s: float
    """How much longer a question for end offsets may be on its way, each by itself."""
    skew_ms: float
    """How far the brokers' clocks are apart at the beginning, at most."""

    @classmethod
    def drawn(cls, chance: Random) -> Climate:
        return cls(
            delay_s=chance.choice((0.0002, 0.002, 0.01, 0.05)),
            tail=chance.choice((0.0, 0.02, 0.1)),
            lost=chance.choice((0.0, 0.0, 0.005, 0.03)),
            question_s=chance.choice((0.0, 0.0, 0.5)),
            skew_ms=chance.choice((0.0, 0.0, 5.0, 60.0)),
        )


class SimulatedWeather(Weather):
    """The weather of one history."""

    def __init__(
        self,
        chance: Random,
        climate: Climate,
        brokers: int,
        note: Callable[[str], None],
        sent: Callable[[str], None],
    ) -> None:
        """`note` is told what happens on the cluster, `sent` of each request as it is sent."""
        self._chance = chance
        self._climate = climate
        self._note = note
        self._sent = sent
        self._offsets_ms = [chance.random() * climate.skew_ms for _ in range(brokers)]
        self._lowest_ms, self._highest_ms = min(self._offsets_ms), max(self._offsets_ms)
        self._down_until = [0.0] * brokers
        self._slow_until: dict[Place, float] = {}
        self.quiet = False
        """Nothing is lost, and nothing is slow."""

    # --- spells ----------------------------------------------------------------------------------

    def outage(self, broker: int, seconds: float) -> None:
        """This broker takes no requests."""
        self._down_until[broker] = asyncio.get_running_loop().time() + seconds

    def slow(self, place: Place, seconds: float) -> None:
        """What is written to this partition is long in turning visible."""
        self._slow_until[place] = asyncio.get_running_loop().time() + seconds

    def step_clock(self, broker: int, by_ms: float) -> None:
        self._offsets_ms[broker] += by_ms
        self._lowest_ms = min(self._lowest_ms, self._offsets_ms[broker])
        self._highest_ms = max(self._highest_ms, self._offsets_ms[broker])

    @property
    def disagreement_ms(self) -> float:
        """How much brokers' clocks ever differed, from each other or from themselves before."""
        return self._highest_ms - self._lowest_ms

    # --- what the cluster asks -------------------------------------------------------------------

    def fate(self, what: str, broker: int) -> Fate:
        there, back = self._delay_s(), self._delay_s()
        if self.quiet:
            return Fate(there, back)
        self._sent(what)
        if what == "end offsets":
            there += self._chance.random() * self._climate.question_s
        chance, now = self._chance, asyncio.get_running_loop().time()
        if self._down_until[broker % len(self._down_until)] > now:
            return Fate(there, back, "request")
        if self._climate.lost and chance.random() < self._climate.lost:
            if chance.random() < 0.5:
                return Fate(there, back, "answer")
            return Fate(there, back, "request", chance.choice((None, 0.0, chance.random() * 3)))
        return Fate(there, back)

    def replication_s(self, place: Place) -> float:
        return self._spell_s(place)

    def marker_s(self, place: Place) -> float:
        return self._spell_s(place)

    def clock_ms(self, broker: int) -> int:
        now_ms = asyncio.get_running_loop().time() * 1000
        return BEGIN_MS + int(now_ms + self._offsets_ms[broker % len(self._offsets_ms)])

    def groups(self, places: Sequence[Place]) -> Sequence[Sequence[Place]]:
        drawn = list(places)
        self._chance.shuffle(drawn)
        parts = self._chance.randint(1, 3)
        return [group for group in (drawn[at::parts] for at in range(parts)) if group]

    def fetch_records_max(self) -> int:
        return self._chance.choice((1, 2, 5, 100))

    def assignment(self, partitions: int, kept: Mapping[str, Collection[int]]) -> dict[str, int]:
        if self._chance.random() < 0.8:
            return super().assignment(partitions, kept)
        counts = dict.fromkeys(sorted(kept), 0)
        for _ in range(partitions):
            counts[self._chance.choice(sorted(kept))] += 1
        return counts

    def note(self, text: str, *about: object) -> None:
        self._note(f"{text} {' '.join(map(str, about))}")

    def _delay_s(self) -> float:
        climate, chance = self._climate, self._chance
        if climate.tail and not self.quiet and chance.random() < climate.tail:
            return chance.random() * TAIL_S_MAX
        return chance.random() * climate.delay_s

    def _spell_s(self, place: Place) -> float:
        if self.quiet:
            return 0.0
        if self._slow_until.get(place, 0.0) > asyncio.get_running_loop().time():
            return self._chance.random() * TAIL_S_MAX
        return 0.0 if self._chance.random() < 0.5 else self._delay_s()
