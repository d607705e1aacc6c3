"""State changes: one model of `data` for each event type, and the topic each is written to.

Contract: Topics out. Every event carries the person's `version` after it and the id of the
`command` that made it.
"""

from typing import Final, Literal

from schemas.forms import (
    Absentable,
    Date,
    Direction,
    Form,
    Id,
    PersonId,
    Position,
    Role,
    SiteId,
    Text,
    Uscc,
)

EndCause = Literal["dismissed", "departed"]
PresenceCause = Literal["exit", "dismissed", "departed"]
AssignmentCause = Literal["exit", "dismissed", "departed", "withdrawn"]


class EventData(Form):
    """What every event carries."""

    version: int
    command: Id


class IdentityEvent(EventData):
    """`reason` is the centre's, on a failed verification."""

    reason: Absentable[Text] = None


class OfferEvent(EventData):
    """`cause` is the guard that no longer held when a parked offer was looked at again."""

    offer: Id
    employer: Uscc
    cause: Absentable[str] = None


class EmploymentEvent(EventData):
    """`role`, `trade` and `position` on registration, `cause` at the end."""

    employer: Uscc
    role: Absentable[Role] = None
    trade: Absentable[Text] = None
    position: Absentable[Position] = None
    cause: Absentable[EndCause] = None


class NoticeEvent(EventData):
    """A step of a dismissal or a departure."""

    employer: Uscc
    reason: Absentable[Text] = None


class AssignmentEvent(EventData):
    assignment: Id
    site: SiteId
    employer: Uscc
    position: Absentable[Position] = None
    cause: Absentable[PresenceCause] = None


class OperatorEvent(EventData):
    """`cause` when the authorisation ended with the assignment."""

    site: SiteId
    employer: Uscc
    cause: Absentable[AssignmentCause] = None


class EntryEvent(EventData):
    entry: Id
    site: SiteId
    employer: Uscc


class PresenceEvent(EventData):
    entry: Id
    site: SiteId
    employer: Uscc
    cause: Absentable[PresenceCause] = None


class ExitEvent(EventData):
    site: SiteId
    employer: Uscc


class AttendanceEvent(EventData):
    """`day` is the attendance day in Asia/Shanghai; `scanner` when staff scanned."""

    site: SiteId
    employer: Uscc
    day: Date
    direction: Absentable[Direction] = None
    method: Literal["staff", "self"]
    scanner: Absentable[PersonId] = None


_FAMILIES: Final[tuple[tuple[str, type[EventData], str, tuple[str, ...]], ...]] = (
    ("identity-changes", IdentityEvent, "identity", ("submitted", "verified", "failed")),
    (
        "employment-changes",
        OfferEvent,
        "offer",
        (
            "parked",
            "made",
            "withdrawn",
            "refused",
            "accepted",
            "superseded",
            "expired",
        ),
    ),
    ("employment-changes", EmploymentEvent, "employment", ("started", "registered", "ended")),
    ("employment-changes", NoticeEvent, "dismissal", ("requested", "withdrawn", "refused")),
    ("employment-changes", NoticeEvent, "departure", ("requested", "withdrawn", "refused")),
    (
        "assignment-changes",
        AssignmentEvent,
        "assignment",
        ("requested", "withdrawn", "confirmed", "rejected", "ended"),
    ),
    ("assignment-changes", OperatorEvent, "operator", ("authorized", "revoked")),
    ("presence-changes", EntryEvent, "entry", ("scanned", "lapsed")),
    ("presence-changes", PresenceEvent, "presence", ("started", "ended")),
    ("presence-changes", ExitEvent, "exit", ("registered",)),
    ("attendance-records", AttendanceEvent, "attendance", ("recorded",)),
)

EVENTS: Final[dict[str, tuple[str, type[EventData]]]] = {
    f"{family}.{step}": (topic, model)
    for topic, model, family, steps in _FAMILIES
    for step in steps
}
"""Type → (topic, model of its data)."""
