"""The page of the wire contract, written from the models and the topic catalog.

``python -m deployment.contract`` prints docs/contract.md; a test holds the page to it.
"""

import json
from collections.abc import Iterable
from typing import Final

from pydantic import TypeAdapter

from deployment.catalog import load_catalog
from schemas.commands import COMMANDS
from schemas.events import EVENTS
from schemas.limits import (
    FUTURE_MS_MAX,
    HOUR_MS,
    ID_CHARS_MAX,
    MINUTE_MS,
    OFFER_OPEN_MS_MAX,
    PAST_MS_MAX,
    VALUE_BYTES_MAX,
)
from schemas.outcomes import DeadLetter, Outcome
from schemas.reasons import DEAD_LETTER_CODES, REASONS
from schemas.references import REFERENCES

_EXAMPLE: Final = {
    "specversion": "1.0",
    "id": "9d7f5c1e-6a0b-4a53-9f0e-0c9f5a3f2b11",
    "source": "/employers/91350100M000100Y43",
    "type": "hire.offer",
    "time": "2026-03-02T08:15:00+08:00",
    "subject": "0b7d0f4c1c4f4b9e8f6a2d3e4c5b6a79",
    "data": {
        "employer": "91350100M000100Y43",
        "name_tag": "5f2b7c9d0e1a4b3c8d7e6f5a4b3c2d1e",
    },
}

_SOURCES: Final = (
    ("`/persons/{person}`", "the person the command is about"),
    ("`/employers/{uscc}`", "the employer the command names"),
    ("`/sites/{site}/staff/{person}`", "staff of the site the command names; the rules say which"),
    ("`/devices/{device}`", "scan.entry and scan.attendance"),
    ("`/centre`", "identity.verify"),
    ("`/bureau`", "departure.approve in the stead of an employer that is silent"),
)


def fields(model: type, hidden: Iterable[str] = ()) -> str:
    """The fields of a message, those that may be absent with a question mark."""
    schema = TypeAdapter(model).json_schema()
    return ", ".join(
        f"`{name}`" + ("" if name in schema.get("required", ()) else "?")
        for name in schema["properties"]
        if name not in hidden
    )


def rows(*lines: Iterable[str]) -> str:
    """A Markdown table; the first line is its head."""
    head, *body = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *body))


def page() -> str:
    """The whole page."""
    catalog = load_catalog()
    commands = rows(
        ("topic", "type", "data"),
        *(
            (f"`{topic.name}`", f"`{kind}`", fields(model))
            for topic in catalog.commands
            for kind, (home, model) in COMMANDS.items()
            if home == topic.name
        ),
    )
    events = rows(
        ("topic", "type", "data, beside `version` and `command`"),
        *(
            (f"`{home}`", f"`{kind}`", fields(model, ("version", "command")))
            for kind, (home, model) in EVENTS.items()
        ),
    )
    references = rows(
        ("topic", "key", "record"),
        *((f"`{topic}`", f"`{key}`", fields(model)) for topic, (model, key) in REFERENCES.items()),
    )
    letters = rows(
        ("code", "中文", "English"),
        *((f"`{code}`", REASONS[code].zh, REASONS[code].en) for code in DEAD_LETTER_CODES),
    )
    return f"""\
# The wire contract

<!-- written by `python -m deployment.contract`; change that, not this page -->

Everything travels as [CloudEvents 1.0](https://cloudevents.io) in structured JSON, one a record.
The JSON Schema of every message is in [`schemas/json/`](../schemas/json), the pydantic models in
[`schemas/`](../schemas); [`topics.yaml`](../topics.yaml) has the topics themselves.

```json
{json.dumps(_EXAMPLE, indent=2)}
```

- The **record key** is the `subject`, as UTF-8: a person id. The **partition** is Kafka's murmur2
  of the key, which is the default of the Java client and of aiokafka; with librdkafka set
  `partitioner=murmur2_random`. Another partitioner is caught: `wrong_partition`.
- (`source`, `id`) is the **idempotency key**. Send again as often as you like within
  {PAST_MS_MAX // HOUR_MS // 24} days: the outcome says `duplicate`, repeats the first answer, and
  nothing happens twice.
- `time` is when it happened: RFC 3339 with an offset, at most {FUTURE_MS_MAX // MINUTE_MS} minutes
  ahead of the broker's clock and {PAST_MS_MAX // HOUR_MS // 24} days behind it.
- A **person id** is the first 32 hex characters of HMAC-SHA256 over the ID number (18 characters,
  `x` upper-cased) with the deployment's secret; `name_tag` the same of the name (trimmed, NFKC).
  The details themselves travel only in `sealed` of `identity.upload`.
- Ids have 1 to {ID_CHARS_MAX} characters, a value at most {VALUE_BYTES_MAX:,} bytes. Fields are
  strings (`notice_accepted` is a boolean); no coercion, no unknown fields; what is optional is left
  out, not null.

`realname send` does all of this for you, see [the command line](cli.md).

## Who speaks

{rows(("source", "may send"), *_SOURCES)}

Anyone else is answered `not_authorized`.

## Commands

The topics stand in their causal order: of two commands of one person with the same broker time, the
one whose topic stands higher is decided first.

{commands}

An offer expires {OFFER_OPEN_MS_MAX // HOUR_MS // 24} days after it was sent.

## Reference records

Plain JSON on compacted topics of one partition; a null value removes. `staff` is written by the
system itself, the others by whoever keeps the registers. A record that cannot be read is ignored,
counted and listed (`realname reference list --bad`); the last good one stays.

{references}

## Outcomes

`outcomes` has exactly one record for each command, of type `outcome`, with key and `subject` the
person, `time` the command's, and data: {fields(Outcome)}.

`status` is `accepted`, `rejected` or `duplicate`; `code` is `accepted`, `awaiting_verification` or
the reason, see [the code table](rules.md#codes); `version` is the person's after the command;
`events` are the ids of the events it made; `origin` names the record that was answered. The header
`witness` names the turn and the reference offsets that the decision used.
A person's outcomes stand in the order of deciding; of different persons' their order says nothing.

## Events

CloudEvents of source `/realname`. A person's events count up `version` without a gap, across all
topics.

{events}

## Dead letters

What cannot be a command at all gets a record on `dead-letters` instead of an outcome: plain JSON
with {fields(DeadLetter)}. Checked in this order:

{letters}
"""


if __name__ == "__main__":
    print(page(), end="")
