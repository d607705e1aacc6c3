"""Every transition of every state machine, as data.

A person is six small machines that share a record. A pair that is not in a table cannot happen:
`decide` guards against it with a reason code, and `step` raises if it ever does. The diagrams of
the documentation are printed from these tables (``python -m rules.machines``).
"""

from collections.abc import Mapping
from typing import Final, NamedTuple


class ImpossibleTransition(Exception):
    """A decision made an event that the state does not allow: a defect in the rules."""


class Machine(NamedTuple):
    """`table` maps (state, event type) to the next state; `start` is the state before any event."""

    name: str
    about: str
    start: str
    table: Mapping[tuple[str, str], str]

    def step(self, state: str, event_type: str) -> str:
        """The state after an event; raises ImpossibleTransition."""
        try:
            return self.table[state, event_type]
        except KeyError:
            raise ImpossibleTransition(f"{self.name}: {event_type} in state {state}") from None


IDENTITY: Final = Machine(
    "identity",
    "一、使用说明: a person's identity, verified by the centre in batches",
    "none",
    {
        ("none", "identity.submitted"): "submitted",
        ("submitted", "identity.submitted"): "submitted",
        ("submitted", "identity.verified"): "verified",
        ("submitted", "identity.failed"): "failed",
        ("failed", "identity.submitted"): "submitted",
    },
)

OFFER: Final = Machine(
    "offer",
    "二、如何进行用工登记: 聘用待确认; one machine for each offer",
    "none",
    {
        ("none", "offer.parked"): "parked",
        ("none", "offer.made"): "made",
        ("parked", "offer.made"): "made",
        ("parked", "offer.withdrawn"): "closed",
        ("parked", "offer.refused"): "closed",
        ("parked", "offer.expired"): "closed",
        ("made", "offer.accepted"): "closed",
        ("made", "offer.withdrawn"): "closed",
        ("made", "offer.refused"): "closed",
        ("made", "offer.superseded"): "closed",
        ("made", "offer.expired"): "closed",
    },
)

EMPLOYMENT: Final = Machine(
    "employment",
    "二、如何进行用工登记: 聘用成功; never two at a time",
    "none",
    {
        ("none", "employment.started"): "started",
        ("started", "employment.registered"): "registered",
        ("registered", "employment.registered"): "registered",
        ("started", "employment.ended"): "none",
        ("registered", "employment.ended"): "none",
    },
)

DISMISSAL: Final = Machine(
    "dismissal",
    "八、如何操作解聘: asked by the employer, agreed by the person",
    "none",
    {
        ("none", "dismissal.requested"): "requested",
        ("requested", "dismissal.withdrawn"): "none",
        ("requested", "dismissal.refused"): "none",
        ("requested", "employment.ended"): "none",
        ("none", "employment.ended"): "none",
    },
)

DEPARTURE: Final = Machine(
    "departure",
    "用工登记常见问题 2: asked by the person, approved by the employer",
    "none",
    {
        ("none", "departure.requested"): "requested",
        ("requested", "departure.withdrawn"): "none",
        ("requested", "departure.refused"): "none",
        ("requested", "employment.ended"): "none",
        ("none", "employment.ended"): "none",
    },
)

ASSIGNMENT: Final = Machine(
    "assignment",
    "三、如何进行分配项目; 四、分配人员确认: one live assignment a person",
    "none",
    {
        ("none", "assignment.requested"): "requested",
        ("requested", "assignment.confirmed"): "confirmed",
        ("requested", "assignment.rejected"): "none",
        ("requested", "assignment.withdrawn"): "none",
        ("requested", "assignment.ended"): "none",
        ("confirmed", "assignment.withdrawn"): "none",
        ("confirmed", "assignment.ended"): "none",
    },
)

OPERATOR: Final = Machine(
    "operator",
    "六、如何考勤: 授权的管理员, 现场操作用户; ends with the assignment",
    "none",
    {
        ("none", "operator.authorized"): "authorized",
        ("authorized", "operator.revoked"): "none",
    },
)

PRESENCE: Final = Machine(
    "presence",
    "五、如何操作进场; 七、如何操作退场: project tenure, not the daily attendance",
    "absent",
    {
        ("absent", "entry.scanned"): "waiting",
        ("waiting", "entry.lapsed"): "absent",
        ("waiting", "presence.started"): "present",
        ("absent", "presence.started"): "present",
        ("present", "exit.registered"): "exit_registered",
        ("present", "presence.ended"): "absent",
        ("exit_registered", "presence.ended"): "absent",
    },
)

MACHINES: Final = (
    IDENTITY,
    OFFER,
    EMPLOYMENT,
    DISMISSAL,
    DEPARTURE,
    ASSIGNMENT,
    OPERATOR,
    PRESENCE,
)


def table(machine: Machine) -> str:
    """The machine as a Markdown table."""
    rows = [f"| {state} | `{event}` | {then} |" for (state, event), then in machine.table.items()]
    return "\n".join(["| state | event | next |", "|---|---|---|", *rows])


def diagram(machine: Machine) -> str:
    """The machine as a Mermaid state diagram."""
    lines = ["stateDiagram-v2", f"    [*] --> {machine.start}"]
    lines += [f"    {state} --> {then}: {event}" for (state, event), then in machine.table.items()]
    return "\n".join(lines)


def page() -> str:
    """All machines, for the documentation."""
    return "\n\n".join(
        f"### {machine.name}\n\n{machine.about}\n\n```mermaid\n{diagram(machine)}\n```\n\n"
        f"{table(machine)}"
        for machine in MACHINES
    )


if __name__ == "__main__":
    print(page())
