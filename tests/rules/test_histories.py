"""Random histories of many persons, employers and sites; what is asserted is in histories.py."""

from collections import Counter
from random import Random

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from schemas.events import EVENTS
from schemas.reasons import OUTCOME_CODES
from tests.rules.histories import Player

SEEDS = range(8)
MOVES = 4_000

_said: Counter[str] = Counter()


@pytest.mark.parametrize("seed", SEEDS)
def test_a_long_history_keeps_every_promise(seed: int) -> None:
    player = Player(Random(seed).choice)
    for _ in range(MOVES):
        player.move()
    _said.update(player.said)


RARE = {"too_many", "registration_incomplete"}
"""Codes that random histories need not reach."""


def test_the_long_histories_got_everywhere() -> None:
    """Run after them: a generator that never gets past the gate proves nothing."""
    if not _said:
        pytest.skip("needs the histories above")
    assert {event for event in EVENTS if _said[event] < 20} == set()
    assert {code for code in OUTCOME_CODES if not _said[code]} <= RARE


class Histories(RuleBasedStateMachine):
    """The same moves, chosen and shrunk by Hypothesis."""

    @initialize(data=st.data())
    def begin(self, data: st.DataObject) -> None:
        self.player = Player(lambda options: data.draw(st.sampled_from(options)))

    @rule(data=st.data())
    def move(self, data: st.DataObject) -> None:
        self.player.pick = lambda options: data.draw(st.sampled_from(options))
        self.player.move()


TestHistories = Histories.TestCase
TestHistories.settings = settings(
    max_examples=25,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
