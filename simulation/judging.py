"""Hands a history to the checker's judge: the same one that judges real deployments."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agents.ledger.memory import Partition as Kept
from agents.ledger.progress import PROGRESS_KEY
from checker.answers import Deployment
from checker.history import Log, Partition, Record, Sighting, Versions, collect, read_progress
from checker.judge import Judge
from checker.report import Violation
from schemas.outcomes import OUTCOMES_TOPIC
from simulation.people import BEGIN_MS, KEYS
from simulation.weather import TAIL_S_MAX

if TYPE_CHECKING:
    from simulation.world import World


def judge(world: World) -> list[str]:
    """What is wrong with a history that has ended."""
    layout, cluster = world.layout, world.cluster
    world.result.commands = sum(
        len(_log(cluster.partitions[topic, number]).records)
        for topic in layout.commands
        for number in range(layout.partitions)
    )
    references = {}
    for topic in layout.references:
        log = _log(cluster.partitions[topic, 0])
        references[topic] = Versions(topic)
        references[topic].extend(log.records, log.end)
        references[topic].high = log.high
    sightings = [
        Sighting(
            OUTCOMES_TOPIC,
            number,
            record.offset,
            seen_ms=BEGIN_MS + kept.readable_at(record.offset) * 1000,
        )
        for number in range(layout.partitions)
        for kept in [cluster.partitions[OUTCOMES_TOPIC, number]]
        for record in kept.visible(0, kept.stable)
    ]
    deployment = Deployment(world.wire, layout.commands, layout.partitions, KEYS)
    disagreement_ms = world.weather.disagreement_ms
    judged = Judge(
        deployment,
        references,
        collect(world.acks, sightings),
        epsilon_ms=disagreement_ms + 1,
        append_ms=disagreement_ms + 1 + TAIL_S_MAX * 1000,
    )
    for number in range(layout.partitions):
        judged.partition(_partition(world, number))
    return [_words(one) for one in judged.finish().violations]


def _words(violation: Violation) -> str:
    story = "".join(f"\n      {line}" for line in violation.story)
    return f"{violation.promise} ({violation.judgement}): {violation.words}{story}"


def _log(kept: Kept) -> Log:
    topic, number = kept.place
    records = [
        Record(topic, number, one.offset, one.timestamp, one.key, one.value, one.headers)
        for one in kept.visible(kept.start, kept.stable)
    ]
    return Log(records, kept.start, kept.stable, kept.high)


def _partition(world: World, number: int) -> Partition:
    layout, partitions = world.layout, world.cluster.partitions
    state = _log(partitions[layout.state, number])
    states: dict[bytes, bytes] = {}
    for record in state.records:
        if record.key is not None and record.value is not None:
            states[record.key] = record.value
    progress = states.pop(PROGRESS_KEY, None)
    return Partition(
        number,
        {topic: _log(partitions[topic, number]) for topic in layout.commands},
        {topic: _log(partitions[topic, number]) for topic in world.outputs},
        Log(start=state.start, end=state.end, high=state.high),
        states,
        None if progress is None else read_progress(progress),
    )
