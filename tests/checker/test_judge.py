"""The judge passes a clean history, and finds each thing that a test breaks in it."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from typing import Any

import orjson
import pytest
from msgspec.structs import replace

from agents import deciding
from checker.history import Ack, Log, Partition, Sighting, collect
from checker.report import JUDGEMENTS, Report
from rules.person import decode, encode
from tests.checker.village import (
    BUILDERS,
    COMMAND_TOPICS,
    LI,
    MAYOR,
    NOON,
    PAINTERS,
    SITE,
    WU,
    Village,
    someone,
)


@pytest.fixture
def village() -> Village:
    return Village().play()


def broken(report: Report) -> set[str]:
    """The judgements that found something."""
    return {name for name, tally in report.tallies.items() if tally.broken}


def unjudged(report: Report) -> set[str]:
    return {name for name, tally in report.tallies.items() if tally.unjudged}


def words(report: Report, judgement: str) -> str:
    return "\n".join(one.words for one in report.violations if one.judgement == judgement)


def test_a_clean_history_passes(village: Village) -> None:
    tables = {number: village.tables(number) for number in (0, 1)}
    report = village.judge(clients=village.clients(), tables=tables)
    assert report.violations == []
    assert unjudged(report) == set()
    assert report.exit_code == 0
    silent = {name for name in JUDGEMENTS if not report.tallies[name].judged}
    assert silent == {"sightings", "probes"}


def test_nothing_at_all_is_not_a_pass() -> None:
    report = Village().judge()
    assert broken(report) == set()
    assert report.exit_code == 2


# --- P1: answers ---------------------------------------------------------------------------------


def test_a_lost_outcome(village: Village) -> None:
    lost = village.of("outcomes", LI)[4]
    village.remove(lost)
    report = village.judge()
    assert "answers" in broken(report)
    assert "has no answer" in words(report, "answers")
    assert report.exit_code == 1


def test_a_lost_dead_letter(village: Village) -> None:
    village.remove(village.logs["dead-letters", 0][0])
    assert broken(village.judge()) == {"answers"}


def test_a_doubled_outcome(village: Village) -> None:
    twin = village.of("outcomes", LI)[4]
    village.append("outcomes", 0, twin.key, twin.value, tuple(twin.headers))
    report = village.judge()
    assert "answers" in broken(report)
    assert "has 2 answers" in words(report, "answers")


@pytest.mark.parametrize(
    "origin",
    [
        {"topic": "v.hire-requests", "partition": 0, "offset": 4_000},
        {"topic": "v.hire-requests", "partition": 1, "offset": 0},
        {"topic": "v.outcomes", "partition": 0, "offset": 0},
        {"topic": "strange", "partition": 0, "offset": 0},
    ],
)
def test_an_outcome_of_nothing(village: Village, origin: dict[str, Any]) -> None:
    twin = village.of("outcomes", LI)[-1]
    extra = village.append("outcomes", 0, twin.key, twin.value, tuple(twin.headers))
    village.edit(extra, origin=origin, events=[])
    assert "answers" in broken(village.judge())


def test_an_unreadable_outcome(village: Village) -> None:
    village.replace(village.of("outcomes", LI)[4], headers=())
    assert {"answers", "rules"} <= broken(village.judge())


def test_an_acknowledged_command_that_the_log_lost(village: Village) -> None:
    gone = village.of("hire-requests", WU)[0]
    village.remove(gone)
    report = village.judge(clients=village.clients())
    assert {"acknowledged", "answers"} <= broken(report)


def test_another_command_in_the_place_of_the_acknowledged(village: Village) -> None:
    village.acks[3] = village.acks[3]._replace(id="another")
    assert broken(village.judge(clients=village.clients())) == {"acknowledged"}


def test_an_acknowledgement_without_an_offset_is_found_by_its_id(village: Village) -> None:
    village.acks[3] = village.acks[3]._replace(offset=None)
    assert broken(village.judge(clients=village.clients())) == set()
    village.acks[3] = village.acks[3]._replace(id="gone")
    assert broken(village.judge(clients=village.clients())) == {"acknowledged"}


def test_an_unacknowledged_command_may_be_there(village: Village) -> None:
    del village.acks[5]
    report = village.judge(clients=village.clients())
    assert report.exit_code == 0


def test_a_doubled_event(village: Village) -> None:
    twin = village.of("employment-changes", LI)[0]
    village.append(twin.topic, 0, twin.key, twin.value)
    report = village.judge()
    assert broken(report) == {"effects"}


# --- P2: the rules -------------------------------------------------------------------------------


def test_a_wrong_code(village: Village) -> None:
    village.edit(village.of("outcomes", LI)[3], code="too_many")
    report = village.judge()
    assert broken(report) == {"rules"}
    assert "the rules give 'accepted'" in words(report, "rules")
    assert report.violations[0].person == LI
    assert any("too_many" in line and line.endswith("◀") for line in report.violations[0].story)


def test_an_event_with_other_contents(village: Village) -> None:
    village.edit(village.of("employment-changes", WU)[-1], cause="departed")
    assert broken(village.judge()) == {"rules"}


def test_an_event_of_another_type(village: Village) -> None:
    record = village.of("identity-changes", WU)[-1]
    document = orjson.loads(record.value or b"")
    village.replace(record, value=orjson.dumps(document | {"type": "identity.failed"}))
    assert broken(village.judge()) == {"rules"}


def test_events_in_another_order(village: Village) -> None:
    accepted, started = village.of("employment-changes", LI)[1:3]
    village.replace(accepted, value=started.value)
    village.replace(started, value=accepted.value)
    assert "versions" in broken(village.judge())


def test_a_version_gap(village: Village) -> None:
    last = village.of("outcomes", LI)[-1]
    event = village.of("presence-changes", LI)[-1]
    village.edit(last, version=13, events=[f"{LI}:13"])
    village.edit(event, version=13)
    assert {"versions", "rules"} <= broken(village.judge())


def test_a_duplicate_that_was_not_known(village: Village) -> None:
    """The memory of a person is lost between two turns, and a command comes twice."""
    first = village.send("hire.refuse", WU, f"/persons/{WU}", offer="none", id="again")
    village.turn(1)
    key = WU.encode()
    village.states[1][key] = encode(replace(decode(village.states[1][key]), seen=b""))
    village.send("hire.refuse", WU, f"/persons/{WU}", offer="none", id="again", time=_time(first))
    village.turn(1)
    report = village.judge()
    assert "rules" in broken(report)
    assert "'rejected', the rules give 'duplicate'" in words(report, "rules")


def _time(record: Any) -> str:
    return str(orjson.loads(record.value)["time"])


def test_staff_writes_of_the_turn_that_were_not_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        deciding._StaffBefore, "get", lambda self, person: self.committed.get(person)
    )
    report = Village().play().judge()
    assert "rules" in broken(report)
    assert "not_authorized" in words(report, "rules")


def test_two_active_employers(village: Village) -> None:
    """The worker forgets that a person is employed."""
    key = LI.encode()
    village.states[0][key] = encode(
        replace(decode(village.states[0][key]), employment=None, assignment=None)
    )
    offer = village.offered(LI, PAINTERS)
    village.send("hire.confirm", LI, f"/persons/{LI}", offer=offer)
    village.turn(0)
    report = village.judge(tables={0: village.tables(0)})
    assert {"employers", "rules"} <= broken(report)
    assert "tables" not in broken(report), "no fold can say what the rows must be"
    assert "tables" in unjudged(report)


def test_a_person_is_told_of_once(village: Village) -> None:
    for outcome in village.of("outcomes", LI)[3:6]:
        village.edit(outcome, code="too_many")
    assert village.judge().tallies["rules"].broken == 1


# --- P3: the order -------------------------------------------------------------------------------


def test_swapped_decisions_of_one_topic(village: Village) -> None:
    village.send("hire.refuse", LI, f"/persons/{LI}", offer="none")
    village.send("hire.refuse", LI, f"/persons/{LI}", offer="nothing")
    village.turn(0)
    first, second = village.of("outcomes", LI)[-2:]
    village.replace(first, value=second.value)
    village.replace(second, value=first.value)
    assert "offsets" in broken(village.judge())


def test_a_decision_in_a_later_turn_than_those_behind_it(village: Village) -> None:
    """Of different persons: within a turn that would be no matter."""
    for person in (LI, MAYOR):
        village.send("hire.refuse", person, f"/persons/{person}", offer="none")
        village.turn(0)
    first, second = (village.of("outcomes", person)[-1] for person in (LI, MAYOR))
    village.replace(first, key=second.key, value=second.value)
    village.replace(second, key=first.key, value=first.value)
    assert "offsets" in broken(village.judge())


def test_swapped_decisions_of_two_topics(village: Village) -> None:
    first, second = village.of("outcomes", LI)[3:5]
    village.replace(first, value=second.value)
    village.replace(second, value=first.value)
    assert {"broker time", "rules"} <= broken(village.judge())


def test_a_turn_that_was_not_merged_by_time(village: Village) -> None:
    village.send("departure.withdraw", LI, f"/persons/{LI}", employer=BUILDERS)
    village.send("hire.refuse", LI, f"/persons/{LI}", offer="none")
    village.turn(0, order=lambda one: -one.timestamp)
    report = village.judge()
    assert broken(report) == {"broker time"}
    assert "in one turn" in words(report, "broker time")


def test_at_the_same_time_the_topics_rank_decides(village: Village) -> None:
    village.send("hire.refuse", LI, f"/persons/{LI}", offer="none")
    village.now_ms -= 10
    village.send("departure.withdraw", LI, f"/persons/{LI}", employer=BUILDERS)
    village.turn(0, order=lambda one: one.topic)
    assert broken(village.judge()) == {"broker time"}


@pytest.mark.parametrize("first", ["departure-requests", "confirmations"])
def test_a_clock_that_steps_back(village: Village, first: str) -> None:
    """A record after the step back comes no earlier than the one it stands behind."""
    village.send("hire.refuse", LI, f"/persons/{LI}", offer="none")
    village.now_ms -= 5_000
    village.send("hire.refuse", LI, f"/persons/{LI}", offer="nothing")
    village.send("departure.withdraw", LI, f"/persons/{LI}", employer=BUILDERS)
    village.turn(0, order=lambda one: (one.topic != first, one.offset))
    late = first == "confirmations"
    assert broken(village.judge()) == ({"broker time"} if late else set())


def test_an_order_against_the_brokers_clock_between_turns(village: Village) -> None:
    village.send("departure.withdraw", LI, f"/persons/{LI}", employer=BUILDERS)
    village.now_ms += 10_000
    village.send("hire.refuse", LI, f"/persons/{LI}", offer="none")
    village.turn(0, topics=["confirmations"])
    village.turn(0)
    report = village.judge()
    assert broken(report) == {"broker time"}
    assert "in an earlier turn" in words(report, "broker time")


def test_a_record_that_turned_visible_late_is_no_violation(village: Village) -> None:
    """The broker's time is given before a record is there: its producer waited all the while."""
    village.send("departure.withdraw", LI, f"/persons/{LI}", employer=BUILDERS)
    village.now_ms += 10_000
    village.acks[-1] = village.acks[-1]._replace(acked_ms=village.now_ms)
    village.send("hire.refuse", LI, f"/persons/{LI}", offer="none")
    village.turn(0, topics=["confirmations"])
    village.turn(0)
    assert broken(village.judge(clients=village.clients())) == set()


def test_an_order_against_real_time(village: Village) -> None:
    """The brokers' clocks hide it: only the clients know."""
    village.send("departure.withdraw", LI, f"/persons/{LI}", employer=BUILDERS)
    village.send("hire.refuse", LI, f"/persons/{LI}", offer="none")
    village.turn(0, topics=["confirmations"])
    village.turn(0)
    assert broken(village.judge()) == set()
    report = village.judge(clients=village.clients())
    assert broken(report) == {"real time"}
    assert "came 7.0 ms before" in words(report, "real time")


def test_an_order_against_real_time_seen_by_two_clients(village: Village) -> None:
    """The second client's clock is an hour ahead, which its own records show."""
    village.send("departure.withdraw", LI, f"/persons/{LI}", employer=BUILDERS)
    village.send("hire.refuse", LI, f"/persons/{LI}", offer="none")
    hour = 3_600_000
    village.acks = [
        ack._replace(client="b", sent_ms=ack.sent_ms + hour, acked_ms=ack.acked_ms + hour)
        if ack.topic == "confirmations"
        else ack._replace(client="a")
        for ack in village.acks
    ]
    village.turn(0)
    report = village.judge(clients=village.clients())
    assert broken(report) == set()
    assert any("client b" in note and "-3600001.5" in note for note in report.notes)
    village.send("departure.withdraw", LI, f"/persons/{LI}", employer=BUILDERS)
    village.acks[-1] = village.acks[-1]._replace(client="a")
    village.now_ms += 20
    village.send("hire.refuse", LI, f"/persons/{LI}", offer="none")
    last = village.acks[-1]
    village.acks[-1] = last._replace(
        client="b", sent_ms=last.sent_ms + hour, acked_ms=last.acked_ms + hour
    )
    village.turn(0, topics=["confirmations"])
    village.turn(0)
    assert broken(village.judge(clients=village.clients())) == {"real time"}


def test_what_was_under_way_together_may_be_decided_either_way(village: Village) -> None:
    village.send("departure.withdraw", LI, f"/persons/{LI}", employer=BUILDERS)
    village.send("hire.refuse", LI, f"/persons/{LI}", offer="none")
    village.acks[-2] = village.acks[-2]._replace(acked_ms=village.acks[-1].sent_ms - 4)
    village.turn(0, topics=["confirmations"])
    village.turn(0)
    assert broken(village.judge(clients=village.clients())) == set()


def test_a_stale_reference_view(village: Village) -> None:
    village.put("employers", {"uscc": PAINTERS, "name": "p", "status": "suspended"})
    village.now_ms += 10_000
    village.offered(WU, PAINTERS)
    village.turn(1, stale=["employers"])
    report = village.judge()
    assert broken(report) == {"references"}
    assert "employers as of 2, but 3" in words(report, "references")


def test_a_stale_reference_view_that_only_the_clients_know_of(village: Village) -> None:
    put = village.put("employers", {"uscc": PAINTERS, "name": "p", "status": "suspended"})
    village.acks.append(Ack("employers", 0, put.offset, None, put.timestamp - 1, put.timestamp + 1))
    village.offered(WU, PAINTERS)
    village.turn(1, stale=["employers"])
    assert broken(village.judge()) == set()
    assert broken(village.judge(clients=village.clients())) == {"references"}


def test_a_stale_view_of_staff_that_only_a_reader_knows_of(village: Village) -> None:
    village.send(
        "dismissal.request", MAYOR, f"/employers/{BUILDERS}", employer=BUILDERS, reason="x"
    )
    site_staff = f"/sites/{SITE}/staff/{MAYOR}"
    village.send("exit.self", MAYOR, site_staff, site=SITE)
    village.turn(0)
    outcome = village.of("outcomes", MAYOR)[-1]
    sighting = Sighting("outcomes", 0, outcome.offset, None, float(village.now_ms))
    village.now_ms += 20
    village.send("entry.process", WU, site_staff, site=SITE, entry="none")
    village.turn(1, stale=["staff"])
    clients = collect(village.acks, [sighting])
    assert broken(village.judge(clients=village.clients())) == set()
    assert broken(village.judge(clients=clients)) == {"references"}
    elsewhere = village.judge(clients=collect(village.acks, [sighting._replace(client="reader")]))
    assert broken(elsewhere) == set()
    assert "references" in unjudged(elsewhere), "whose clock is it?"


def test_a_stale_view_of_staff_that_the_partition_itself_wrote(village: Village) -> None:
    village.send("exit.self", MAYOR, f"/sites/{SITE}/staff/{MAYOR}", site=SITE)
    village.turn(0)
    village.send(
        "dismissal.request", MAYOR, f"/employers/{BUILDERS}", employer=BUILDERS, reason="x"
    )
    village.turn(0, stale=["staff"])
    report = village.judge()
    assert broken(report) == {"references"}
    assert "had written offset" in words(report, "references")


def test_a_witness_that_names_another_view(village: Village) -> None:
    for outcome in village.of("outcomes", WU)[:5]:
        witness = dict(outcome.headers)["witness"].replace(b"employers=2", b"employers=0")
        village.replace(outcome, headers=(("witness", witness),))
    assert {"rules"} <= broken(village.judge())


def test_views_that_go_back(village: Village) -> None:
    outcome = village.of("outcomes", WU)[-1]
    witness = dict(outcome.headers)["witness"].replace(b"staff=4", b"staff=2")
    village.replace(outcome, headers=(("witness", witness),))
    assert "references" in broken(village.judge())


# --- P4: all or nothing --------------------------------------------------------------------------


def test_a_half_decision_without_an_event(village: Village) -> None:
    village.remove(village.of("presence-changes", LI)[-1])
    assert broken(village.judge()) == {"halves"}


def test_a_half_decision_without_its_outcome(village: Village) -> None:
    village.remove(village.of("outcomes", LI)[-1])
    assert {"halves", "answers", "states"} <= broken(village.judge())


def test_a_state_that_differs(village: Village) -> None:
    key = WU.encode()
    state = decode(village.states[1][key])
    village.states[1][key] = encode(replace(state, seen_floor_ms=5))
    report = village.judge()
    assert broken(report) == {"states"}
    assert "differs from the decisions in seen_floor_ms" in words(report, "states")


@pytest.mark.parametrize(
    "change",
    [
        lambda states: states.pop(LI.encode()),
        lambda states: states.update({someone("nobody", 0).encode(): states[LI.encode()]}),
        lambda states: states.update({LI.encode(): b"\x01rubbish"}),
    ],
)
def test_a_state_that_is_missing_or_of_nobody(
    village: Village, change: Callable[[dict[bytes, bytes]], None]
) -> None:
    change(village.states[0])
    assert broken(village.judge()) == {"states"}


def test_a_lost_staff_record(village: Village) -> None:
    village.remove(village.logs["staff", 0][-1])
    assert "states" in broken(village.judge())


def test_a_staff_record_that_no_decision_made(village: Village) -> None:
    record = village.logs["staff", 0][-1]
    village.append("staff", 0, record.key, record.value)
    assert "states" in broken(village.judge())


def test_progress_behind_the_answers(village: Village) -> None:
    village.offsets[0]["confirmations"] -= 1
    assert broken(village.judge()) == {"progress"}


def test_progress_of_an_earlier_turn(village: Village) -> None:
    village.turns[1] -= 1
    assert broken(village.judge()) == {"progress"}


def test_no_progress_at_all(village: Village) -> None:
    village.turns[1] = 0
    assert "progress" in broken(village.judge())


@pytest.mark.parametrize("topic", ["outcomes", "presence-changes", "person-state", "staff"])
def test_a_hanging_transaction(village: Village, topic: str) -> None:
    versions = village.versions()
    partitions = [village.partition(number) for number in (0, 1)]
    if topic == "staff":
        versions["staff"].high = versions["staff"].end + 2
    elif topic == "person-state":
        partitions[0].state = Log(end=5, high=6)
    else:
        partitions[0].outputs[topic].high += 1
    assert broken(village.judge(partitions=partitions, versions=versions)) == {"transactions"}


def test_a_reader_saw_what_was_aborted(village: Village) -> None:
    seen = [
        Sighting(one.topic, one.partition, one.offset, sha256(one.value or b"").hexdigest())
        for one in village.of("outcomes", LI)
    ]
    assert broken(village.judge(clients=collect(None, seen))) == set()
    marker = village.ends["outcomes", 0] - 1
    lost = Sighting("outcomes", 0, marker)
    assert broken(village.judge(clients=collect(None, [*seen, lost]))) == {"sightings"}
    other = seen[0]._replace(sha256="0" * 64)
    assert broken(village.judge(clients=collect(None, [other]))) == {"sightings"}


# --- P6: dead letters ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"code": "not_an_envelope"},
        {"length": 2},
        {"sha256": "0" * 64},
        {"value": "}"},
        {"value": None},
        {"key": "somebody else"},
    ],
)
def test_a_wrong_dead_letter(village: Village, change: dict[str, Any]) -> None:
    letter = village.logs["dead-letters", 0][0]
    document = orjson.loads(letter.value or b"") | change
    village.replace(letter, value=orjson.dumps(document))
    assert broken(village.judge()) == {"dead letters"}


def test_a_dead_letter_for_a_good_command(village: Village) -> None:
    letter = village.logs["dead-letters", 0][0]
    outcome = village.of("outcomes", LI)[-1]
    document = orjson.loads(letter.value or b"")
    document["origin"] = orjson.loads(outcome.value or b"")["data"]["origin"]
    village.append("dead-letters", 0, letter.key, orjson.dumps(document))
    assert broken(village.judge()) == {"answers", "dead letters"}


# --- what cannot be judged is said, never passed over --------------------------------------------


def test_commands_that_wait(village: Village) -> None:
    village.send("hire.refuse", LI, f"/persons/{LI}", offer="none")
    report = village.judge(clients=village.clients())
    assert broken(report) == set()
    assert unjudged(report) == {"answers", "acknowledged"}
    assert report.exit_code == 2


def test_commands_deleted_by_retention(village: Village) -> None:
    log = village.logs["identity-uploads", 0]
    deleted = log.pop(0)
    partition = village.partition(0)
    partition.commands["identity-uploads"].start = deleted.offset + 1
    report = village.judge(partitions=[partition, village.partition(1)], clients=village.clients())
    assert broken(report) == set()
    assert {"answers", "rules", "states", "acknowledged"} <= unjudged(report)
    assert report.exit_code == 2
    # The mayor's are all in doubt, and nobody else's but for what the mayor's staff record bore.
    assert report.tallies["rules"].judged > 20


def test_reference_records_that_were_compacted(village: Village) -> None:
    """A version that was in force is gone: with it, or without, the decision cannot be told."""
    village.put("employers", {"uscc": PAINTERS, "name": "p", "status": "suspended"})
    village.offered(WU, PAINTERS)
    village.turn(1)
    village.put("employers", {"uscc": PAINTERS, "name": "p", "status": "active"})
    village.remove(village.logs["employers", 0][2])
    old = village.versions(settled_ms=village.now_ms)
    report = village.judge(versions=old)
    assert broken(report) == set()
    assert "rules" in unjudged(report)
    assert broken(village.judge()) == {"rules"}, "nothing is old enough to be compacted"


def test_decisions_of_other_rules(village: Village) -> None:
    for outcome in village.of("outcomes", WU):
        witness = dict(outcome.headers)["witness"].replace(b"rules=1", b"rules=0")
        village.replace(outcome, headers=(("witness", witness),))
    report = village.judge()
    assert broken(report) == set()
    assert {"rules", "states"} <= unjudged(report)


def test_what_was_written_while_it_was_read_is_left_out(village: Village) -> None:
    before = village.partition(0)
    village.send("exit.confirm", LI, f"/sites/{SITE}/staff/{MAYOR}", site=SITE)
    village.send("exit.self", MAYOR, f"/sites/{SITE}/staff/{MAYOR}", site=SITE)
    village.turn(0)
    after = village.partition(0)
    moving = Partition(
        0, after.commands, after.outputs, Log(), before.states, before.progress, quiet=False
    )
    report = village.judge(partitions=[moving, village.partition(1)])
    assert report.violations == []
    assert unjudged(report) == {"answers"}
    assert report.exit_code == 2


# --- P5: tables ----------------------------------------------------------------------------------


def tables_report(village: Village, change: Callable[[Any], None]) -> Report:
    tables = village.tables(1)
    change(tables)
    return village.judge(partitions=[village.partition(1)], tables={1: tables})


def test_rows_that_follow_the_stored_offsets_are_right_even_if_late(village: Village) -> None:
    """A projector that lags is no violation: what is not there yet is said."""
    upto = dict.fromkeys(("outcomes", "dead-letters"), 0)
    tables = village.tables(1, upto)
    report = village.judge(partitions=[village.partition(1)], tables={1: tables})
    assert broken(report) == set()
    assert unjudged(report) == {"tables"}


@pytest.mark.parametrize(
    "table",
    [
        "persons",
        "offers",
        "employments",
        "assignments",
        "entries",
        "presences",
        "events",
        "attendance",
        "outcomes",
        "dead_letters",
    ],
)
def test_a_row_missing_extra_or_changed(village: Village, table: str) -> None:
    report = tables_report(village, lambda tables: tables.rows[table].pop(0))
    assert broken(report) == {"tables"}
    assert "the row is missing" in words(report, "tables")

    report = tables_report(
        village, lambda tables: tables.rows[table].append(dict(tables.rows[table][0]))
    )
    assert "stands there twice" in words(report, "tables")

    def another(tables: Any) -> None:
        row = dict(tables.rows[table][0])
        for column in ("since", "version", "origin_offset"):
            if column in row:
                row[column] += 1_000
        row["person"] = row.get("person") and someone("stranger", 1)
        tables.rows[table].append(row)

    assert "comes from no record" in words(tables_report(village, another), "tables")

    def changed(tables: Any) -> None:
        row = tables.rows[table][0]
        column = next(one for one in reversed(row) if row[one] is not None)
        row[column] = "another"

    assert "must be" in words(tables_report(village, changed), "tables")


def test_a_row_of_an_earlier_version(village: Village) -> None:
    late = {topic: end for (topic, number), end in village.ends.items() if number == 1}
    late["employment-changes"] = village.of("employment-changes", WU)[-1].offset
    late["assignment-changes"] = village.of("assignment-changes", WU)[-1].offset
    late["presence-changes"] = village.of("presence-changes", WU)[-1].offset
    old = village.tables(1, late)

    def stale(tables: Any) -> None:
        tables.rows["employments"] = old.rows["employments"]

    report = tables_report(village, stale)
    assert broken(report) == {"tables"}
    assert "status is 'active', must be 'ended'" in words(report, "tables")


def test_offsets_behind_the_rows(village: Village) -> None:
    behind = {topic: end for (topic, number), end in village.ends.items() if number == 1}
    last = village.of("outcomes", WU)[-1]
    behind["outcomes"] = last.offset

    def back(tables: Any) -> None:
        tables.stored.update(village.tables(1, behind).stored)

    report = tables_report(village, back)
    assert broken(report) == {"tables"}
    assert "do not hold yet" in words(report, "tables")


def test_offsets_ahead_of_the_rows(village: Village) -> None:
    behind = {topic: end for (topic, number), end in village.ends.items() if number == 1}
    behind["outcomes"] = village.of("outcomes", WU)[-1].offset

    def ahead(tables: Any) -> None:
        tables.rows["outcomes"] = village.tables(1, behind).rows["outcomes"]

    assert "the row is missing" in words(tables_report(village, ahead), "tables")


def test_offsets_ahead_of_the_topic(village: Village) -> None:
    def ahead(tables: Any) -> None:
        stored = tables.stored["v.outcomes", 1]
        tables.stored["v.outcomes", 1] = type(stored)(stored.next_offset + 5, stored.last_offset)

    assert broken(tables_report(village, ahead)) == {"positions"}


def test_offsets_that_hold_a_later_version_without_the_one_before(village: Village) -> None:
    behind = {topic: end for (topic, number), end in village.ends.items() if number == 1}
    behind["identity-changes"] = 0

    def gap(tables: Any) -> None:
        tables.stored["v.identity-changes", 1] = type(tables.stored["v.outcomes", 1])(0, None)

    assert "positions" in broken(tables_report(village, gap))


def test_all_command_topics_are_judged(village: Village) -> None:
    """What the village sends is judged wherever it was sent."""
    commands = {topic for topic, _ in village.logs} & set(COMMAND_TOPICS)
    report = village.judge()
    judged = report.tallies["answers"].judged
    assert judged == sum(len(log) for (topic, _), log in village.logs.items() if topic in commands)
    assert village.now_ms > NOON
