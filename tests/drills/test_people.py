"""The population's lives get somewhere, and what it sends is what it means to send."""

from __future__ import annotations

import time
from collections import Counter

from drills.people import Message, Population
from rules.authority import World
from rules.decide import decide
from rules.person import Person, staff_record
from schemas.commands import COMMANDS
from schemas.events import EVENTS
from schemas.identifiers import partition_for
from schemas.reading import Refusal, read_command

KEYS = {1: b"a key of sixteen"}
PARTITIONS = 8


class Town:
    """Answers the population at once, by the rules."""

    def __init__(self, people: Population, now_ms: int) -> None:
        self.people, self.now_ms = people, now_ms
        self.persons: dict[str, Person] = {}
        self.staff: dict[str, object] = {}
        self.said: Counter[str] = Counter()

    def take(self, message: Message) -> None:
        partition = message.partition
        if partition is None:
            partition = partition_for(message.key or b"", PARTITIONS)
        command = read_command(message.topic, partition, PARTITIONS, message.key, message.value)
        if isinstance(command, Refusal):
            self.said[f"dead letter {command.code}"] += 1
            return
        world = World(self.people.employers, self.people.sites, self.staff, KEYS)  # type: ignore[arg-type]
        before = self.persons.get(command.subject, Person())
        decision = decide(before, command, self.now_ms, world)
        self.persons[command.subject] = decision.person
        self.staff[command.subject] = staff_record(command.subject, decision.person)
        self.said[command.type] += 1
        self.said[decision.status] += 1
        self.said.update(event.type for event in decision.events)
        self.people.learn(command.subject, decision.person)
        self.people.answered(command.subject)


def play(seed: int, messages: int, **options: float) -> Town:
    now_ms = int(time.time() * 1000)
    town = Town(Population(seed, KEYS, PARTITIONS, now_ms, **options), now_ms)
    for _ in range(messages):
        town.now_ms += 5
        town.take(town.people.next(town.now_ms))
    return town


def test_every_command_is_sent_and_most_of_what_can_happen_happens() -> None:
    said = Counter[str]()
    for seed in range(3):
        said += play(seed, 4_000).said
    assert {kind for kind in COMMANDS if not said[kind]} == set()
    assert {kind for kind in EVENTS if not said[kind]} <= {"offer.expired"}
    assert said["accepted"] > said["rejected"]
    assert said["duplicate"] > 100
    letters = {"not_json", "not_an_envelope", "wrong_topic", "key_mismatch", "too_large"}
    assert {code for code in letters if not said[f"dead letter {code}"]} == set()


def test_a_client_with_another_partitioner_is_among_them() -> None:
    assert play(1, 3_000, bad=0.5).said["dead letter wrong_partition"] > 10


def test_nothing_goes_to_a_topic_that_is_held_back() -> None:
    people = Population(5, KEYS, PARTITIONS, int(time.time() * 1000))
    people.held = frozenset({"identity-uploads", "exit-requests"})
    topics = {people.next(int(time.time() * 1000)).topic for _ in range(500)}
    assert not topics & people.held
