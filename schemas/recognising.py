"""Recognises well-formed commands in one pass over their bytes.

Nearly all commands are well-formed, and to see only that costs much less than to say what is wrong
with the others: msgspec reads a command straight into structs, and pydantic is asked only about
the texts of which msgspec cannot tell. Structs and questions are made from the models, so the
models alone say what a command is. What is not recognised is not refused either: the models read it
(`schemas.reading`). So this may be stricter than they are, and is never laxer.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache, reduce
from operator import attrgetter, or_
from types import UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin, get_type_hints

import msgspec
from pydantic import BaseModel, StringConstraints, TypeAdapter

from schemas.commands import COMMANDS
from schemas.envelope import Envelope
from schemas.forms import NO_NUL, PLAIN, Form, Id, Name, PersonId, SiteId, Uscc, present
from schemas.limits import RECURRING_TEXTS_MAX
from schemas.value import Value

USUAL_ATTRIBUTES: Final = (
    "datacontenttype", "dataschema", "partitionkey", "sequence", "traceparent", "tracestate",
)  # fmt: skip
"""Of CloudEvents, and not read. A command with others is not recognised."""


def recognise(value: bytes) -> Any | None:
    """What `Envelope` would make of a command, but with a struct of `DATA` as its data; or None,
    which says nothing about `value`.

    Left to the caller, who needs more of them than that: the forms of `time` and `subject`.
    """
    try:
        envelope = _decode(value)
        data = envelope.data
        # In JSON a control character is an escape or DEL: mostly, none needs to be looked for.
        if _BACKSLASH not in value and _DEL not in value:
            checks = _CHECKS_IF_PLAIN[type(data)]
        else:
            _check_id(envelope.id)
            _check_name(envelope.source)
            checks = _CHECKS[type(data)]
        for get, check in checks:
            check(get(data))
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
    return envelope


_BACKSLASH: Final = ord("\\")
_DEL: Final = 0x7F


# --- what msgspec can tell ------------------------------------------------------------------------


def _forms(model: type[BaseModel]) -> dict[str, Any]:
    return get_type_hints(model, include_extras=True)


def _bare(form: Any) -> Any:
    """As much of a form as msgspec can judge: the type, the words to choose from, the length.

    Null is of no type: what is absent may not be there at all.
    """
    form = present(form)
    if form in (str, bool) or get_origin(form) is Literal:
        return form
    if get_origin(form) in (Union, UnionType):
        return reduce(or_, map(_bare, get_args(form)))
    if get_origin(form) is Annotated:
        bare = _bare(form.__origin__)
        for one in form.__metadata__:
            if isinstance(one, StringConstraints):
                return Annotated[
                    bare, msgspec.Meta(min_length=one.min_length, max_length=one.max_length)
                ]
        return bare
    raise TypeError(f"no way to recognise {form}")


def _data(model: type[Form]) -> type[msgspec.Struct]:
    """A struct with the fields of `model`; an absent one is None.

    It is written as the sender wrote it: fields in alphabetical order, absent ones left out. So a
    field whose default is not None must be there: it would be written whether it was sent or not.
    """
    fields: list[Any] = []
    for name, form in sorted(_forms(model).items()):
        optional = model.model_fields[name].get_default() is None
        fields.append((name, _bare(form), None) if optional else (name, _bare(form)))
    return msgspec.defstruct(
        model.__name__,
        fields,
        bases=(Value,),
        kw_only=True,
        omit_defaults=True,
        forbid_unknown_fields=True,
    )


DATA: Final = {model: _data(model) for _, model in COMMANDS.values()}
"""Model → the struct of the data of its commands."""


def _envelope(command_type: str, topic: str, model: type[Form]) -> type[msgspec.Struct]:
    """A struct of the envelopes of one type of command, the tag by which msgspec chooses it."""
    types = {
        name: DATA[model] if name == "data" else _bare(form)
        for name, form in _forms(Envelope).items()
        if name != "type"
    }
    return msgspec.defstruct(
        "Envelope",
        [*types.items(), *((name, str, None) for name in USUAL_ATTRIBUTES)],
        bases=(Value,),
        namespace={"type": command_type, "topic": topic},
        tag_field="type",
        tag=command_type,
        forbid_unknown_fields=True,
    )


_decode: Final[Callable[[bytes], Any]] = msgspec.json.Decoder(
    reduce(or_, (_envelope(name, topic, model) for name, (topic, model) in COMMANDS.items()))
).decode


# --- what is left to check ------------------------------------------------------------------------

_Check = Callable[[Any], object]
"""Raises ValueError when a text has not its form."""


def _check(form: Any) -> _Check:
    """Pydantic's own. It lets None pass, which stands for what is absent."""
    return TypeAdapter(form | None, config=Form.model_config).validator.validate_python


_check_id: Final = _check(Id)
_check_name: Final = _check(Name)

_RECURRING: Final = [
    (form, lru_cache(maxsize=RECURRING_TEXTS_MAX)(_check(form)))
    for form in (PersonId, Uscc, SiteId)
]
"""The same ones come again and again: those that passed, all of them short, are remembered."""


def _check_of(form: Any) -> _Check:
    for recurring, remembering in _RECURRING:
        if form == recurring:
            return remembering
    return _check(form)


def _is_plain(form: Any) -> bool:
    """Whether a form asks of a text its length, no control characters, and nothing else."""
    for one in get_args(form):
        if isinstance(one, StringConstraints):
            lengths = StringConstraints(min_length=one.min_length, max_length=one.max_length)
            return form in [Annotated[str, replace(lengths, pattern=p)] for p in (PLAIN, NO_NUL)]
    return False


def _checks(model: type[Form], *, plain: bool) -> tuple[tuple[Callable[[Any], Any], _Check], ...]:
    """How to get what msgspec leaves open of such data, and the check of it.

    `plain`: there are no control characters in it.
    """
    return tuple(
        (attrgetter(name), _check_of(form))
        for name, form in _forms(model).items()
        if get_origin(present(form)) is not Literal and not (plain and _is_plain(present(form)))
    )


_CHECKS: Final = {data: _checks(model, plain=False) for model, data in DATA.items()}
_CHECKS_IF_PLAIN: Final = {data: _checks(model, plain=True) for model, data in DATA.items()}
