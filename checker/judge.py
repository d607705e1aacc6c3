"""Judges a deployment, partition by partition. No IO: the data is given, findings are collected.

    judge = Judge(deployment, references, clients)
    for each partition number: judge.partition(partition, tables)
    report = judge.finish()

Commands, answers, events and states of a person are all in one partition number, so a partition is
judged whole and forgotten; only what clients noted is judged across partitions, in `finish`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property
from hashlib import sha256
from itertools import accumulate, groupby
from operator import attrgetter
from typing import NamedTuple

import orjson

from checker.answers import (
    Answer,
    Deployment,
    Event,
    Letter,
    letter_bytes,
    read_answer,
    read_event,
    read_letter,
)
from checker.history import (
    STAFF,
    Ack,
    Clients,
    Log,
    Partition,
    Record,
    Sighting,
    Versions,
)
from checker.order import Clocks, Floors, Inversion, Timed, inversions, merge_inversions
from checker.replay import AFTERWARDS, DELETED, Replayed, replay
from checker.report import Report
from checker.tables import Fold, Misfit, Tables, fold_person, judge_tables
from rules.person import NewerState, decode
from schemas.identifiers import partition_for
from schemas.limits import (
    CHECK_APPEND_MS_MAX,
    CHECK_EPSILON_MS,
    CHECK_STORY_LINES_MAX,
    DEAD_LETTER_VALUE_BYTES_MAX,
    KEY_BYTES_MAX,
    TRANSACTION_MS_MAX,
)
from schemas.outcomes import DEAD_LETTERS_TOPIC, OUTCOMES_TOPIC
from schemas.reading import Refusal, read_command

WAITING = "commands that are not decided yet"
IN_FLIGHT = "written while the check was reading"
TRUNCATED = "records were deleted from an output topic"


class _Noted(NamedTuple):
    """A decision whose command a producer noted."""

    command: str
    ack: Ack
    seen: Mapping[str, int]


class _Data:
    """A partition, read."""

    def __init__(self, partition: Partition) -> None:
        self.partition = partition
        self.number = partition.number
        self.answers: list[Answer] = []
        self.letters: list[Letter] = []
        self.events: dict[str, list[Event]] = {}
        """By person, each topic's in the order of offsets."""
        self.commands: dict[tuple[str, int], Record] = {}
        self.acks: dict[tuple[str, int], Ack] = {}
        """Of the commands that a producer noted."""
        self.times: dict[tuple[str, int], tuple[int, int]] = {}
        """By topic and offset: the broker's time, and the latest up to there in the partition."""
        self.truncated = any(log.start > 0 for log in partition.outputs.values())
        for topic, log in partition.commands.items():
            latest = 0
            for record in log.records:
                latest = max(latest, record.timestamp)
                self.commands[topic, record.offset] = record
                self.times[topic, record.offset] = record.timestamp, latest

    def all_answers(self) -> Iterator[Answer | Letter]:
        yield from self.answers
        yield from self.letters

    @cached_property
    def by_person(self) -> dict[str, list[Answer]]:
        """The answers of each person, in order; to be asked for once all are read."""
        persons: dict[str, list[Answer]] = {}
        for answer in self.answers:
            persons.setdefault(answer.subject, []).append(answer)
        return persons


class Judge:
    """Collects what all partitions of a deployment come to, see the module.

    `references` may grow between partitions: each must reach what the partition used.
    `epsilon_ms`: by the clients' clocks, what lies closer together is not judged. `append_ms`: the
    same by the brokers' clocks.
    """

    def __init__(
        self,
        deployment: Deployment,
        references: Mapping[str, Versions],
        clients: Clients | None = None,
        *,
        epsilon_ms: float = CHECK_EPSILON_MS,
        append_ms: float = CHECK_APPEND_MS_MAX,
    ) -> None:
        self.report = Report()
        self._deployment = deployment
        self._references = references
        self._clients = clients or Clients()
        self._epsilon_ms = epsilon_ms
        self._append_ms = append_ms
        self._ranks = {topic: rank for rank, topic in enumerate(deployment.commands)}
        self._clocks = Clocks(self._clients.names)
        self._noted: dict[str, list[_Noted]] = {}
        self._staff_written: dict[tuple[int, int], int] = {}
        """(partition, offset of an outcome) -> offset of the staff record its turn wrote."""
        self._sighted: dict[tuple[int, int], Sighting] = {}
        """(partition, offset of an outcome) -> when a reader saw it."""

    def partition(self, partition: Partition, tables: Tables | None = None) -> None:
        """Judge one partition number; with its rows where there is a database."""
        data = _Data(partition)
        self._read(data)
        self._judge_answers(data)
        self._judge_acks(data)
        by_person = data.by_person
        self._judge_offsets(data)
        self._judge_broker_time(data, by_person)
        self._judge_references(data)
        events = self._judge_events(data)
        self._judge_halves(data, by_person, events)
        replayed = self._judge_rules(data, by_person, events)
        self._judge_states(data, replayed)
        self._judge_staff(data, replayed)
        self._judge_progress(data)
        self._judge_letters(data)
        self._judge_sightings(data)
        self._judge_transactions(data)
        histories = {
            person: [versions[one] for one in sorted(versions)]
            for person, versions in events.items()
        }
        misfits = self._judge_employers(histories)
        if tables is not None:
            judge_tables(
                self.report,
                data.number,
                partition.outputs,
                histories,
                data.answers,
                data.letters,
                misfits,
                tables,
                self._deployment.wire,
            )

    def finish(self) -> Report:
        """Judge what needs all partitions; then the report is complete."""
        self._judge_real_time()
        for words in self._clocks.words():
            self.report.note(words)
        for judgement, left in (
            ("acknowledged", self._clients.acks),
            ("sightings", self._clients.sightings),
        ):
            for (topic, partition), noted in left.items():
                self.report.unjudged(
                    judgement, f"records of {topic}/{partition}, which is not read", len(noted)
                )
        staff = self._references[STAFF]
        self.report.judged("transactions")
        if staff.high > staff.end:
            self._hanging(STAFF, 0, staff.end, staff.high)
        return self.report

    # --- reading ---------------------------------------------------------------------------------

    def _read(self, data: _Data) -> None:
        logical = self._deployment.logical
        for topic, log in data.partition.outputs.items():
            for record in log.records:
                try:
                    if topic == OUTCOMES_TOPIC:
                        data.answers.append(read_answer(record, logical))
                    elif topic == DEAD_LETTERS_TOPIC:
                        data.letters.append(read_letter(record, logical))
                    else:
                        event = read_event(record)
                        data.events.setdefault(event.person, []).append(event)
                except ValueError as error:
                    judgement = "rules" if topic != DEAD_LETTERS_TOPIC else "dead letters"
                    self.report.judged(judgement)
                    self.report.broken(judgement, f"{record.place} is {error}")
        if not data.partition.quiet:
            self._leave_in_flight(data)

    def _leave_in_flight(self, data: _Data) -> None:
        """Leave out what was written after the progress record that was read."""
        progress = data.partition.progress
        turn = progress.turn if progress else 0
        offsets = progress.offsets if progress else {}
        answers = [one for one in data.answers if one.turn <= turn]
        letters = [one for one in data.letters if one.offset < offsets.get(one.topic, 0)]
        left = len(data.answers) - len(answers) + len(data.letters) - len(letters)
        self.report.unjudged("answers", IN_FLIGHT, left)
        data.answers, data.letters = answers, letters
        last: dict[str, int] = {}
        for answer in answers:
            versions = [_version(one) for one in answer.data["events"]]
            last[answer.subject] = max([last.get(answer.subject, 0), *versions])
        for person, events in data.events.items():
            data.events[person] = [one for one in events if one.version <= last.get(person, 0)]

    # --- P1 --------------------------------------------------------------------------------------

    def _judge_answers(self, data: _Data) -> None:
        report, partition = self.report, data.partition
        answered: dict[tuple[str, int], list[Answer | Letter]] = {}
        for one in data.all_answers():
            if one.partition == data.number and one.topic in partition.commands:
                answered.setdefault((one.topic, one.offset), []).append(one)
            else:
                report.judged("answers")
                report.broken(
                    "answers",
                    f"{one.record.place} answers {one.command}, which is no command of partition "
                    f"{data.number}",
                )
        progress = partition.progress.offsets if partition.progress else {}
        for topic, log in partition.commands.items():
            upto = progress.get(topic, 0)
            for record in log.records:
                answers = answered.pop((topic, record.offset), [])
                if not answers and record.offset >= upto:
                    report.unjudged("answers", WAITING)
                    continue
                report.judged("answers")
                if len(answers) != 1:
                    places = " and ".join(one.record.place for one in answers)
                    report.broken(
                        "answers",
                        f"command {record.place} has {len(answers)} answers: {places}"
                        if answers
                        else f"command {record.place} has no answer, but the progress is past it",
                        _text(record.key),
                        [_command_line(record), *self._story_at(data, record)],
                    )
        for (topic, offset), answers in answered.items():
            log = partition.commands[topic]
            if offset < log.start:
                report.unjudged("answers", DELETED, len(answers))
                if len(answers) == 1:
                    continue
            report.judged("answers")
            report.broken(
                "answers",
                f"{' and '.join(one.record.place for one in answers)} answer "
                f"{topic}/{data.number}/{offset}, where no command is",
            )

    def _judge_acks(self, data: _Data) -> None:
        report, partition = self.report, data.partition
        for topic, log in partition.commands.items():
            acks = self._clients.acks.pop((topic, data.number), [])
            ids = _ids(log) if any(ack.offset is None for ack in acks) else {}
            upto = partition.progress.offsets.get(topic, 0) if partition.progress else 0
            for ack in acks:
                place = f"{topic}/{data.number}/{'?' if ack.offset is None else ack.offset}"
                offset = ids.get(ack.id) if ack.offset is None else ack.offset
                record = None if offset is None else data.commands.get((topic, offset))
                if offset is not None and offset < log.start:
                    report.unjudged("acknowledged", DELETED)
                    continue
                report.judged("acknowledged")
                if record is None or offset is None:
                    report.broken(
                        "acknowledged",
                        f"{place} (id {ack.id}) was acknowledged and is not in the log",
                    )
                    continue
                if ack.id is not None and _id(record) != ack.id:
                    report.broken(
                        "acknowledged",
                        f"{place} was acknowledged as {ack.id}, but is {_id(record)}",
                        _text(record.key),
                    )
                    continue
                if offset >= upto:
                    report.unjudged("acknowledged", WAITING)
                self._clocks.observe(ack, record.timestamp)
                data.acks[topic, offset] = ack
        for answer in data.answers:
            noted = data.acks.get((answer.topic, answer.offset))
            if noted is not None:
                self._noted.setdefault(answer.subject, []).append(
                    _Noted(answer.command, noted, answer.seen)
                )

    def _judge_events(self, data: _Data) -> dict[str, dict[int, Event]]:
        """Each event once, and versions without gaps. Answers the events by person and version."""
        report = self.report
        found: dict[str, dict[int, Event]] = {}
        for person, events in data.events.items():
            versions: dict[int, Event] = {}
            last: dict[str, Event] = {}
            report.judged("versions")
            disorder = None
            for event in events:
                first = versions.setdefault(event.version, event)
                if first is not event:
                    report.broken(
                        "effects",
                        f"v{event.version} is there twice: {first.type} at {first.record.place} "
                        f"and {event.type} at {event.record.place}",
                        person,
                        self._story(data, person, first.data.get("command")),
                    )
                    continue
                report.judged("effects")
                before = last.get(event.record.topic)
                if before is not None and before.version > event.version:
                    disorder = (
                        f"v{event.version} at {event.record.place} comes after v{before.version}"
                    )
                last[event.record.topic] = event
            missing = sorted(set(range(1, max(versions) + 1)) - versions.keys())
            if missing and data.truncated:
                report.unjudged("versions", TRUNCATED)
            elif missing or disorder or min(versions) < 1:
                words = disorder or (
                    f"versions run to {max(versions)}, but {_few(missing)} are in no topic"
                )
                report.broken("versions", words, person, self._story(data, person))
            found[person] = versions
        return found

    # --- P2 --------------------------------------------------------------------------------------

    def _judge_rules(
        self,
        data: _Data,
        by_person: Mapping[str, Sequence[Answer]],
        events: Mapping[str, Mapping[int, Event]],
    ) -> Replayed:
        report = self.report
        usable = [
            one
            for one in data.answers
            if one.topic in data.partition.commands
            and one.partition == data.number
            and one.seen.keys() == self._references.keys()
        ]
        for one in data.answers:
            if one.seen.keys() != self._references.keys():
                report.judged("rules")
                report.broken(
                    "rules", f"the witness of {one.record.place} names other views", one.subject
                )
        replayed = replay(
            self._deployment,
            data.number,
            usable,
            data.commands,
            {topic: log.start for topic, log in data.partition.commands.items()},
            events,
            self._references,
        )
        report.judged("rules", replayed.judged)
        for answer, mistake in replayed.mistakes:
            if mistake.judgement != "rules":
                report.judged(mistake.judgement)
            report.broken(
                mistake.judgement,
                f"{answer.record.place}, {answer.data['command_type']} at {answer.command}: "
                f"{mistake.words}",
                answer.subject,
                self._story_around(by_person[answer.subject], answer, events),
            )
        for reason, count in replayed.unjudged.items():
            report.unjudged("rules", reason, count)
        return replayed

    def _judge_employers(self, histories: Mapping[str, Sequence[Event]]) -> set[str]:
        """One active employer, always; and that the events can follow each other at all. Answers
        the persons of whom that does not hold."""
        misfits = set()
        for person, history in histories.items():
            if [one.version for one in history] != list(range(1, len(history) + 1)):
                self.report.unjudged("employers", "versions of the person are missing")
                misfits.add(person)
                continue
            self.report.judged("employers")
            active = None
            for event in history:
                if event.type == "employment.started":
                    if active is not None:
                        self.report.broken(
                            "employers",
                            f"v{event.version} starts an employment with "
                            f"{event.data.get('employer')}, but the one with "
                            f"{active.data.get('employer')} of v{active.version} has not ended",
                            person,
                            [one.told for one in history if one.type.startswith("empl")],
                        )
                        misfits.add(person)
                        break
                    active = event
                elif event.type == "employment.ended":
                    active = None
            else:
                try:
                    fold_person(Fold(), history, self._deployment.wire)
                except (Misfit, KeyError, ValueError) as error:
                    misfits.add(person)
                    self.report.judged("rules")
                    self.report.broken("rules", f"events that do not fit: {error}", person)
        return misfits

    # --- P3 --------------------------------------------------------------------------------------

    def _judge_offsets(self, data: _Data) -> None:
        """Turn after turn, and within one those of each person."""
        before: Answer | None = None
        ended: dict[str, Answer] = {}
        for _, turn in groupby(data.answers, key=attrgetter("turn")):
            last: dict[tuple[str, str], Answer] = {}
            for answer in turn:
                self.report.judged("offsets")
                own = answer.topic, answer.subject
                earlier = last.get(own, ended.get(answer.topic))
                if earlier is not None and answer.offset < earlier.offset:
                    self.report.broken(
                        "offsets",
                        f"{earlier.command} was decided before {answer.command} of the same "
                        "partition",
                        answer.subject,
                        self._story(data, answer.subject, answer.data["command"]),
                    )
                else:
                    last[own] = answer
                if before is not None and answer.turn < before.turn:
                    self.report.judged("offsets")
                    self.report.broken(
                        "offsets",
                        f"turn {answer.turn} at {answer.record.place} follows turn {before.turn}",
                        answer.subject,
                    )
                before = answer
            for answer in last.values():
                latest = ended.get(answer.topic)
                if latest is None or latest.offset < answer.offset:
                    ended[answer.topic] = answer

    def _judge_broker_time(self, data: _Data, by_person: Mapping[str, Sequence[Answer]]) -> None:
        report = self.report
        for person, answers in by_person.items():
            known = [one for one in answers if (one.topic, one.offset) in data.times]
            report.judged("broker time", len(known))
            found: list[Inversion[Answer]] = []
            for _, turn in groupby(known, key=lambda one: one.turn):
                found += merge_inversions(list(turn), data.times, self._ranks)
            # Whether a noted command was there before another was sent, its producer knows best.
            timed = [
                Timed(one, *data.times[one.topic, one.offset])
                for one in known
                if (one.topic, one.offset) not in data.acks
            ]
            found += inversions(timed, self._append_ms)
            for first, second, gap in found:
                where = "in one turn" if first.turn == second.turn else "in an earlier turn"
                report.broken(
                    "broker time",
                    f"{first.command} was decided {where} before {second.command}, which the "
                    f"broker got {gap:.0f} ms earlier"
                    + ("" if gap else " and whose topic comes first"),
                    person,
                    self._story(data, person, first.data["command"]),
                )

    def _judge_references(self, data: _Data) -> None:
        """Views against what the broker had long before the command, and against each other."""
        before: Answer | None = None
        for answer in data.answers:
            self.report.judged("references")
            times = data.times.get((answer.topic, answer.offset))
            words = None
            for topic, seen in answer.seen.items():
                versions = self._references.get(topic)
                if versions is None:
                    continue
                # A staff record may have been readable only at the end of its transaction.
                slack = self._append_ms + (TRANSACTION_MS_MAX if topic == STAFF else 0)
                noted = (topic, 0) in self._clients.acks
                floor = versions.before(times[0] - slack) if times and not noted else 0
                if before is not None and before.turn <= answer.turn:
                    same = before.turn == answer.turn
                    earlier = before.seen.get(topic, 0)
                    if earlier > seen or (same and earlier != seen):
                        words = f"{topic} as of {seen}, the decision before it as of {earlier}"
                if seen < floor:
                    words = f"{topic} as of {seen}, but {floor} was there long before it was sent"
                if seen > max(versions.end, versions.high):
                    words = f"{topic} as of {seen}, but it ends at {versions.end}"
            if words is not None:
                self.report.broken(
                    "references",
                    f"{answer.command} (turn {answer.turn}) was decided with {words}",
                    answer.subject,
                    [_answer_line(answer)],
                )
            before = answer

    def _judge_real_time(self) -> None:
        """By the clients' clocks: one person's decisions, and the references they must see."""
        report, clocks = self.report, self._clocks
        floors = self._floors()
        for person, noted in self._noted.items():
            report.judged("real time", len(noted))
            found: list[tuple[Inversion[_Noted], str]] = []
            by_client: dict[str, list[_Noted]] = {}
            for one in noted:
                by_client.setdefault(one.ack.client, []).append(one)
            for own in by_client.values():
                timed = [Timed(one, one.ack.sent_ms, one.ack.acked_ms) for one in own]
                found += ((one, "") for one in inversions(timed, self._epsilon_ms))
            if len(by_client) > 1:
                timed = [
                    Timed(
                        one,
                        clocks.at_earliest(one.ack.client, one.ack.sent_ms),
                        clocks.at_latest(one.ack.client, one.ack.acked_ms),
                    )
                    for one in noted
                ]
                found += (
                    (one, ", clocks allowed for")
                    for one in inversions(timed, self._epsilon_ms)
                    if one.first.ack.client != one.second.ack.client
                )
            for (first, second, gap), how in found:
                report.broken(
                    "real time",
                    f"{first.command} was decided before {second.command}, whose acknowledgement "
                    f"came {gap:.1f} ms before the other was sent{how}",
                    person,
                    [
                        f"{one.command}: id {one.ack.id}, sent {_clock(one.ack.sent_ms)}, "
                        f"acknowledged {_clock(one.ack.acked_ms)}"
                        for one in (second, first)
                    ],
                )
            for one in noted:
                sent = clocks.at_earliest(one.ack.client, one.ack.sent_ms) - self._epsilon_ms
                for topic, known in floors.items():
                    report.judged("references")
                    if one.seen.get(topic, 0) < known.at(sent):
                        report.broken(
                            "references",
                            f"{one.command}, sent {_clock(one.ack.sent_ms)}, was decided with "
                            f"{topic} as of {one.seen.get(topic)}, but by then the clients knew "
                            f"of {known.at(sent) - 1}",
                            person,
                        )

    def _floors(self) -> dict[str, Floors]:
        """What the clients knew of the reference topics, by time."""
        report, known = self.report, {}
        for topic, versions in self._references.items():
            times: list[tuple[float, int]] = []
            acks = self._clients.acks.pop((topic, 0), [])
            for ack in acks:
                at = None if ack.offset is None else versions.time_of(ack.offset)
                if ack.offset is None or (at is None and versions.compacted):
                    report.unjudged("acknowledged", "compacted or unknown reference records")
                    continue
                report.judged("acknowledged")
                if at is None:
                    report.broken(
                        "acknowledged", f"{topic}/0/{ack.offset} was acknowledged and is not there"
                    )
                else:
                    self._clocks.observe(ack, at)
            times += (
                (self._clocks.at_latest(ack.client, ack.acked_ms), ack.offset)
                for ack in acks
                if ack.offset is not None and self._clocks.knows(ack.client)
            )
            known[topic] = times
        for place, sighting in self._sighted.items():
            written = self._staff_written.get(place)
            if written is None or sighting.seen_ms is None:
                continue
            if self._clocks.knows(sighting.client):
                seen = self._clocks.at_latest(sighting.client, sighting.seen_ms)
                known[STAFF].append((seen, written))
            else:
                report.unjudged("references", "seen by a clock that no producer has")
        return {topic: Floors(times) for topic, times in known.items() if times}

    # --- P4 --------------------------------------------------------------------------------------

    def _judge_halves(
        self,
        data: _Data,
        by_person: Mapping[str, Sequence[Answer]],
        events: Mapping[str, Mapping[int, Event]],
    ) -> None:
        report = self.report
        for person in events.keys() | by_person.keys():
            there = events.get(person, {})
            listed: set[int] = set()
            for answer in by_person.get(person, ()):
                report.judged("halves")
                versions = [_version(one) for one in answer.data["events"]]
                listed.update(versions)
                missing = [one for one in versions if one not in there]
                if missing and data.truncated:
                    report.unjudged("halves", TRUNCATED)
                elif missing:
                    report.broken(
                        "halves",
                        f"the outcome {answer.record.place} names {_few(missing)}, which are in no "
                        "topic",
                        person,
                        self._story_around(by_person[person], answer, events),
                    )
            alone = sorted(there.keys() - listed)
            if alone and data.partition.outputs[OUTCOMES_TOPIC].start:
                report.unjudged("halves", TRUNCATED, len(alone))
            elif alone:
                report.judged("halves")
                report.broken(
                    "halves",
                    f"events without an outcome: {_few(alone)}",
                    person,
                    [there[one].told for one in alone[:CHECK_STORY_LINES_MAX]],
                )

    def _judge_states(self, data: _Data, replayed: Replayed) -> None:
        report, states = self.report, data.partition.states
        for key in states.keys() | {person.encode() for person in replayed.persons}:
            person = _text(key)
            if person in replayed.doubts:
                report.unjudged("states", AFTERWARDS)
                continue
            stored, expected = states.get(key), replayed.persons.get(person)
            words = None
            try:
                if stored is None:
                    words = "there is no state"
                elif expected is None:
                    words = "there is a state, but no decision that made it"
                else:
                    held = decode(stored)
                    if held != expected:
                        fields = (
                            name
                            for name in expected.__struct_fields__
                            if getattr(held, name) != getattr(expected, name)
                        )
                        words = f"the state differs from the decisions in {', '.join(fields)}"
            except NewerState as error:
                report.unjudged("states", str(error))
                continue
            except ValueError as error:
                words = f"the state cannot be read: {type(error).__name__}"
            report.judged("states")
            if words is not None:
                report.broken("states", words, person, self._story(data, person))

    def _judge_staff(self, data: _Data, replayed: Replayed) -> None:
        report, versions = self.report, self._references[STAFF]
        partitions = self._deployment.partitions
        here = {
            one
            for one in versions.names()
            if partition_for(one.encode(), partitions) == data.number
        }
        wrote: dict[int, int] = {}
        for person in replayed.staff.keys() | here:
            if person in replayed.doubts:
                report.unjudged("states", AFTERWARDS)
                continue
            changes = replayed.staff.get(person, [])
            written = versions.of(person)
            expected = [one.record for one in changes]
            found = [one.record for one in written]
            report.judged("states")
            if versions.compacted:
                report.unjudged("states", "staff records that may have been compacted")
                expected, found = expected[-1:], found[-1:]
            elif not data.partition.quiet:
                found = found[: len(expected)]
            if expected != found:
                same = 0
                while same < min(len(expected), len(found)) and expected[same] == found[same]:
                    same += 1
                offset = written[same].offset if same < len(written) else "none"
                report.broken(
                    "states",
                    f"staff records differ from the decisions from the {same + 1}. on: "
                    f"{len(found)} there, {len(expected)} decided (offset {offset})",
                    person,
                    self._story(data, person),
                )
            elif not versions.compacted:
                for change, version in zip(changes, written, strict=False):
                    for answer in change.answers:
                        self._staff_written[data.number, answer.record.offset] = version.offset
                        wrote[answer.turn] = max(wrote.get(answer.turn, -1), version.offset)
        self._judge_own_staff(data, wrote)

    def _judge_own_staff(self, data: _Data, wrote: Mapping[int, int]) -> None:
        """A turn sees what earlier turns of its partition wrote to `staff`.

        `wrote`: turn -> offset of its last staff record.
        """
        report = self.report
        turns = sorted(wrote)
        floors = list(accumulate((wrote[turn] for turn in turns), max))
        for answer in data.answers:
            earlier = bisect_left(turns, answer.turn)
            if not earlier:
                continue
            report.judged("references")
            if answer.seen.get(STAFF, 0) <= floors[earlier - 1]:
                report.broken(
                    "references",
                    f"turn {answer.turn} of partition {data.number} saw {STAFF} before offset "
                    f"{answer.seen.get(STAFF, 0)}, but turn {turns[earlier - 1]} or one before it "
                    f"had written offset {floors[earlier - 1]}",
                    answer.subject,
                    self._story(data, answer.subject),
                )

    def _judge_progress(self, data: _Data) -> None:
        report, progress = self.report, data.partition.progress
        answered: dict[str, int] = {}
        for one in data.all_answers():
            answered[one.topic] = max(answered.get(one.topic, -1), one.offset)
        if progress is None:
            if answered:
                report.judged("progress")
                report.broken("progress", f"partition {data.number} has answers and no progress")
            return
        report.judged("progress")
        turn = max((one.turn for one in data.answers), default=0)
        if turn > progress.turn:
            report.broken(
                "progress",
                f"partition {data.number}: progress is at turn {progress.turn}, there are outcomes "
                f"of turn {turn}",
            )
        for topic, last in answered.items():
            if progress.offsets.get(topic, 0) <= last and topic in data.partition.commands:
                report.broken(
                    "progress",
                    f"progress of {topic}/{data.number} is {progress.offsets.get(topic, 0)}, but "
                    f"{last} is answered: it would be decided again",
                )

    def _judge_transactions(self, data: _Data) -> None:
        for topic, log in (*data.partition.outputs.items(), ("person-state", data.partition.state)):
            self.report.judged("transactions")
            if log.high > log.end:
                self._hanging(topic, data.number, log.end, log.high)
        for topic, log in data.partition.commands.items():
            if log.high > log.end:
                self.report.unjudged(
                    "answers", f"a stranger's open transaction on {topic}", log.high - log.end
                )

    def _hanging(self, topic: str, number: int, end: int, high: int) -> None:
        self.report.broken(
            "transactions",
            f"{topic}/{number} is readable to {end} only and ends at {high}: an open transaction",
        )

    def _judge_sightings(self, data: _Data) -> None:
        report = self.report
        logs = {**data.partition.commands, **data.partition.outputs}
        for topic, log in logs.items():
            sightings = self._clients.sightings.pop((topic, data.number), [])
            there = {one.offset: one for one in log.records} if sightings else {}
            for sighting in sightings:
                if sighting.offset < log.start:
                    report.unjudged("sightings", "the record was deleted by retention")
                    continue
                report.judged("sightings")
                record = there.get(sighting.offset)
                place = f"{topic}/{data.number}/{sighting.offset}"
                if record is None:
                    report.broken(
                        "sightings",
                        f"a reader saw {place}, which is not in the log: aborted, or lost",
                    )
                elif (
                    sighting.sha256 is not None
                    and record.value_cut is None
                    and sha256(record.value or b"").hexdigest() != sighting.sha256
                ):
                    report.broken("sightings", f"a reader saw other contents at {place}")
                elif topic == OUTCOMES_TOPIC and sighting.seen_ms is not None:
                    self._sighted[data.number, sighting.offset] = sighting

    # --- P6 --------------------------------------------------------------------------------------

    def _judge_letters(self, data: _Data) -> None:
        report = self.report
        for letter in data.letters:
            record = data.commands.get((letter.topic, letter.offset))
            if record is None:
                # Told of with the answers; a command deleted since cannot be read again.
                report.unjudged("dead letters", DELETED)
                continue
            report.judged("dead letters")
            words = _letter_mistake(letter, record, self._deployment.partitions)
            if words is not None:
                report.broken(
                    "dead letters", f"{letter.record.place} for {letter.command}: {words}"
                )

    # --- stories ---------------------------------------------------------------------------------

    def _story(self, data: _Data, person: str, command: object = None) -> list[str]:
        """The person's decisions around the first about `command`; the last ones without."""
        answers = data.by_person.get(person, [])
        around = next((one for one in answers if one.data["command"] == command), None)
        events: dict[str, dict[int, Event]] = {person: {}}
        for event in data.events.get(person, ()):
            events[person].setdefault(event.version, event)
        return self._story_around(answers, around, events)

    def _story_at(self, data: _Data, record: Record) -> list[str]:
        """The person's decisions up to those of the time of `record`."""
        person = _text(record.key)
        before = [
            one
            for one in data.by_person.get(person, ())
            if data.times.get((one.topic, one.offset), (0, 0))[0] <= record.timestamp
        ]
        return self._story(data, person, before[-1].data["command"]) if before else []

    @staticmethod
    def _story_around(
        answers: Sequence[Answer],
        around: Answer | None,
        events: Mapping[str, Mapping[int, Event]],
    ) -> list[str]:
        at = len(answers) - 1 if around is None else answers.index(around)
        begin = max(0, min(at + 3, len(answers)) - CHECK_STORY_LINES_MAX)
        lines = []
        if begin:
            lines.append(f"({begin} decisions before)")
        for answer in answers[begin : begin + CHECK_STORY_LINES_MAX]:
            lines.append(_answer_line(answer) + (" ◀" if answer is around else ""))
            for event_id in answer.data["events"]:
                event = events.get(answer.subject, {}).get(_version(event_id))
                lines.append("    " + (event.told if event else f"{event_id} is not there"))
        return lines


def _answer_line(answer: Answer) -> str:
    data = answer.data
    return (
        f"{_clock(answer.record.timestamp)} turn {answer.turn} {answer.command} "
        f"{data['command_type']} {data['command']}: {data['status']} {data['code']} "
        f"v{data['version']} ({answer.record.place})"
    )


def _command_line(record: Record) -> str:
    return f"{_clock(record.timestamp)} {record.place} id {_id(record)}"


def _clock(milliseconds: float) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(" ", "milliseconds")[:-6]


def _few(numbers: Sequence[int]) -> str:
    shown = ", ".join(f"v{one}" for one in numbers[:10])
    return shown + (f" and {len(numbers) - 10} more" if len(numbers) > 10 else "")


def _version(event_id: object) -> int:
    """The version that an event's id names; 0 where it names none."""
    digits = str(event_id).rpartition(":")[2]
    return int(digits) if digits.isascii() and digits.isdigit() else 0


def _text(key: bytes | None) -> str:
    return (key or b"").decode("utf-8", "backslashreplace")


def _id(record: Record) -> str | None:
    """The id of a command, if it has one."""
    try:
        document = orjson.loads(record.value or b"")
    except orjson.JSONDecodeError:
        return None
    found = document.get("id") if isinstance(document, dict) else None
    return found if isinstance(found, str) else None


def _ids(log: Log) -> dict[str | None, int]:
    return {_id(record): record.offset for record in log.records}


def _letter_mistake(letter: Letter, record: Record, partitions: int) -> str | None:
    """What is wrong with a dead letter, if something is."""
    value = record.value or b""
    if record.value_cut is not None:
        refusal: Refusal = Refusal("too_large", "")
        length, digest = record.value_cut
    else:
        read = read_command(record.topic, record.partition, partitions, record.key, record.value)
        if not isinstance(read, Refusal):
            return "the record is a command"
        refusal, length, digest = read, len(value), sha256(value).hexdigest()
    document = letter.document
    if document.get("code") != refusal.code:
        return f"the code is {document.get('code')}, must be {refusal.code}"
    if (document.get("length"), document.get("sha256")) != (length, digest):
        return "length or hash are not those of the record"
    key, kept = letter_bytes(document, "key"), letter_bytes(document, "value")
    if (kept is None) != (record.value is None):
        return "a value where the record has none, or none where it has one"
    whole = value[:DEAD_LETTER_VALUE_BYTES_MAX]
    # As text, it may lack the character that the cut broke.
    if kept is not None and not (whole.startswith(kept) and len(whole) - len(kept) < 4):
        return "the value is not the record's"
    if kept is not None and length <= DEAD_LETTER_VALUE_BYTES_MAX and kept != value:
        return "the value is not all of the record's"
    # Of an oversized key the worker keeps the beginning.
    if key != record.key and not (
        key is not None
        and record.key is not None
        and len(key) >= KEY_BYTES_MAX - 3
        and record.key.startswith(key)
    ):
        return "the key is not the record's"
    return None
