"""The stream that is measured is what it says it is."""

from collections import Counter

import pytest

from bench.work import (
    ATTENDANCE,
    ENTRIES_AND_EXITS,
    REJECTIONS,
    SCANS,
    TOPICS,
    Message,
    Oracle,
    Shape,
    Work,
    seed_from_json,
    seed_json,
    state_of,
)
from rules.person import decode, encode
from schemas.identifiers import partition_for

NOW_MS = 1_795_000_000_000
SHAPE = Shape(30_000, persons=1_500)


@pytest.fixture(scope="module")
def messages() -> list[Message]:
    return list(Work(SHAPE, NOW_MS).messages())


@pytest.fixture(scope="module")
def oracle(messages: list[Message]) -> Oracle:
    oracle = Oracle(Work(SHAPE, NOW_MS))
    offsets: Counter[tuple[str, int]] = Counter()
    for message in messages:
        place = (message.topic, message.partition)
        oracle.follow(message, offsets[place], NOW_MS)
        offsets[place] += 1
    return oracle


def test_one_shape_and_moment_is_one_stream(messages: list[Message]) -> None:
    assert messages == list(Work(SHAPE, NOW_MS).messages())


def test_every_message_is_where_its_key_belongs(messages: list[Message]) -> None:
    assert all(
        one.topic in TOPICS and one.partition == partition_for(one.key, SHAPE.partitions)
        for one in messages
    )


def test_two_topics_of_one_person_are_never_in_one_round(messages: list[Message]) -> None:
    first: dict[tuple[int, bytes], str] = {}
    seen: set[bytes] = set()
    for one in messages:
        # What is said again is answered the same wherever it falls.
        if one.value in seen:
            continue
        seen.add(one.value)
        assert first.setdefault((one.round, one.key), one.topic) == one.topic


def test_the_mix_is_the_promised_one(messages: list[Message], oracle: Oracle) -> None:
    statuses = Counter(answer.status for answer in oracle.answers.values())
    share = {status: count / len(messages) for status, count in statuses.items()}
    duplicates = 1 - ATTENDANCE - ENTRIES_AND_EXITS - REJECTIONS
    assert share["accepted"] == pytest.approx(ATTENDANCE + ENTRIES_AND_EXITS, abs=0.02)
    assert share["rejected"] == pytest.approx(REJECTIONS, abs=0.02)
    assert share["duplicate"] == pytest.approx(duplicates, abs=0.02)
    elsewhere = sum(one.topic != SCANS for one in messages) / len(messages)
    assert 0.05 < elsewhere < ENTRIES_AND_EXITS


def test_many_guards_are_met(oracle: Oracle) -> None:
    assert {answer.code for answer in oracle.answers.values()} >= {
        "accepted",
        "already_present",
        "code_expired",
        "code_invalid",
        "not_present",
        "operator_required",
        "wrong_site",
    }


def test_nothing_but_the_moving_people_are_turned_away(
    messages: list[Message], oracle: Oracle
) -> None:
    """Entries and exits are accepted: they come in their causal order."""
    moves = [
        answer
        for (topic, _, _), answer in oracle.answers.items()
        if topic != SCANS and answer.status != "duplicate"
    ]
    assert {answer.code for answer in moves} == {"accepted"}


def test_seeds_are_the_same_state_on_every_way() -> None:
    for seed in Work(Shape(1, persons=50), NOW_MS).seeds:
        assert seed_from_json(seed_json(seed)) == state_of(seed)
        assert decode(encode(state_of(seed))) == state_of(seed)


def test_segments_have_ids_of_their_own() -> None:
    def ids(segment: int) -> set[bytes]:
        shape = Shape(500, persons=200, moving=False, segment=segment)
        return {one.value[:60] for one in Work(shape, NOW_MS).messages()}

    assert not ids(1) & ids(2)
