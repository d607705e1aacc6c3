"""What the tables must hold, said as plainly as possible: each row is looked up in the person's
whole history, nothing is carried along. Slow, and independent of the projector."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from tests.projector.histories import Decision, Made

Table = set[tuple[Any, ...]]


def tables(decisions: Iterable[Decision]) -> dict[str, Table]:
    """Rows by table, without what depends on where a record stands in its topic."""
    made = [event for decision in decisions for event in decision.events]
    people: dict[str, list[Made]] = {}
    for event in made:
        people.setdefault(event.person, []).append(event)
    return {
        "events": {(e.person, e.version, e.type, _at(e), e.command, _frozen(e.data)) for e in made},
        "attendance": {
            (
                e.person,
                e.version,
                e.data["day"],
                _at(e),
                e.data["site"],
                e.data["employer"],
                e.data.get("direction"),
                e.data["method"],
                e.data.get("scanner"),
            )
            for e in made
            if e.type == "attendance.recorded"
        },
        "persons": {_person(history) for history in people.values()},
        "offers": {row for history in people.values() for row in _offers(history)},
        "employments": {row for history in people.values() for row in _employments(history)},
        "assignments": {row for history in people.values() for row in _assignments(history)},
        "entries": {row for history in people.values() for row in _entries(history)},
        "presences": {row for history in people.values() for row in _presences(history)},
    }


def _at(event: Made | None) -> datetime | None:
    return datetime.fromisoformat(event.time) if event else None


def _frozen(data: Mapping[str, Any]) -> frozenset[tuple[str, Any]]:
    return frozenset(data.items())


def _of(history: Iterable[Made], *types: str) -> list[Made]:
    return [e for e in history if e.type in types or e.type.split(".")[0] in types]


def _last(history: Iterable[Made], *types: str) -> Made | None:
    return (_of(history, *types) or [None])[-1]  # type: ignore[list-item]


def _until(history: list[Made], begin: int, *ends: str) -> list[Made]:
    """From `begin` to the first of `ends`, both included."""
    for index in range(begin, len(history)):
        if history[index].type in ends:
            return history[begin : index + 1]
    return history[begin:]


def _person(history: list[Made]) -> tuple[Any, ...]:
    identity = _last(history, "identity")
    return (
        history[0].person,
        len(history),
        identity and identity.type.split(".")[1],
        _at(identity),
        identity and identity.data.get("reason"),
    )


def _offers(history: list[Made]) -> Iterator[tuple[Any, ...]]:
    for offer in {e.data["offer"] for e in _of(history, "offer")}:
        story = [e for e in _of(history, "offer") if e.data["offer"] == offer]
        status = story[-1].type.split(".")[1]
        closed = status not in ("parked", "made")
        yield (
            story[0].person,
            story[0].version,
            story[-1].version,
            offer,
            story[0].data["employer"],
            status,
            _at(_last(story, "offer.parked")),
            _at(_last(story, "offer.made")),
            _at(story[-1]) if closed else None,
            story[-1].data.get("cause") if closed else None,
        )


def _employments(history: list[Made]) -> Iterator[tuple[Any, ...]]:
    for begin, start in enumerate(history):
        if start.type != "employment.started":
            continue
        story = _of(
            _until(history, begin, "employment.ended"), "employment", "dismissal", "departure"
        )
        registered = _last(story, "employment.registered")
        dismissal, departure = _last(story, "dismissal"), _last(story, "departure")
        if dismissal and dismissal.type != "dismissal.requested":
            dismissal = None
        if departure and departure.type != "departure.requested":
            departure = None
        ended = _last(story, "employment.ended")
        yield (
            start.person,
            start.version,
            story[-1].version,
            start.data["employer"],
            "ended" if ended else "active",
            _at(start),
            registered and registered.data["role"],
            registered and registered.data.get("trade"),
            registered and registered.data.get("position"),
            _at(registered),
            _at(dismissal),
            dismissal and dismissal.data["reason"],
            _at(departure),
            _at(ended),
            ended and ended.data["cause"],
        )


def _assignments(history: list[Made]) -> Iterator[tuple[Any, ...]]:
    closing = ("assignment.withdrawn", "assignment.rejected", "assignment.ended")
    for begin, start in enumerate(history):
        if start.type != "assignment.requested":
            continue
        story = _of(_until(history, begin, *closing), "assignment", "operator")
        closed = story[-1] if story[-1].type in closing else None
        operator = _last(story, "operator")
        if operator and operator.type == "operator.revoked":
            operator = None
        state = _last(story, "assignment")
        assert state is not None
        yield (
            start.person,
            start.version,
            story[-1].version,
            start.data["assignment"],
            start.data["site"],
            start.data["employer"],
            start.data.get("position"),
            state.type.split(".")[1],
            _at(start),
            _at(_last(story, "assignment.confirmed")),
            _at(closed),
            closed and closed.data.get("cause"),
            _at(operator),
        )


def _entries(history: list[Made]) -> Iterator[tuple[Any, ...]]:
    for start in _of(history, "entry.scanned"):
        story = [
            e
            for e in _of(history, "entry", "presence.started")
            if e.data["entry"] == start.data["entry"]
        ]
        status = {"scanned": "waiting", "lapsed": "lapsed", "started": "processed"}
        yield (
            start.person,
            start.version,
            story[-1].version,
            start.data["entry"],
            start.data["site"],
            start.data["employer"],
            status[story[-1].type.split(".")[1]],
            _at(start),
            _at(story[-1]) if len(story) > 1 else None,
        )


def _presences(history: list[Made]) -> Iterator[tuple[Any, ...]]:
    for begin, start in enumerate(history):
        if start.type != "presence.started":
            continue
        story = _of(_until(history, begin, "presence.ended"), "presence", "exit")
        ended = _last(story, "presence.ended")
        assignment = _last(history[:begin], "assignment.confirmed")
        yield (
            start.person,
            start.version,
            story[-1].version,
            start.data["entry"],
            assignment and assignment.data["assignment"],
            start.data["site"],
            start.data["employer"],
            _at(start),
            _at(_last(story, "exit.registered")),
            _at(ended),
            ended and ended.data["cause"],
        )
