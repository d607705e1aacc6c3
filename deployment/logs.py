"""Structured logs: one JSON object a line, or coloured text for a terminal. No personal data.

    log = structlog.get_logger()
    log.info("partition owned", partition=3, restored_records=81_204)

The event is a fixed phrase in lower case; what varies are fields, with their unit in the name. A
log is read by more people than a topic, so two guards stand before every line, whoever writes it:
fields whose name promises personal data, raw records or secrets are dropped, and the line says so
under `withheld`; ID numbers in any text, tracebacks included, are blacked out. Records of the
standard library's `logging` (Kafka client, Faust) take the same way.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping
from typing import Any, Final, Literal, TextIO

import orjson
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from deployment.settings import SECRETS

WITHHELD: Final = frozenset(
    {
        "back_sha256",
        "birth_date",
        "data",
        "details",
        "front_sha256",
        "id_number",
        "key",
        "name",
        "name_tag",
        "password",
        "payload",
        "record",
        "sealed",
        "sealing_private_key",
        "secret",
        "sex",
        "value",
        *SECRETS,
    }
)
"""Names of fields that are not logged."""

ID_NUMBER: Final = re.compile(
    r"(?<![0-9A-Za-z])\d{6}(?:19|20)\d\d(?:0\d|1[0-2])(?:[0-2]\d|3[01])\d{3}[0-9Xx](?![0-9A-Za-z])"
)
"""What looks like an ID number (GB 11643); a few credit codes of digits only do too."""

CHATTERING: Final = ("aiokafka", "asyncio", "faust", "kafka", "mode")
"""Libraries that say little of use below a warning and put whole requests into debug lines."""


def withhold(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """structlog processor: drop the `WITHHELD` fields, at any depth, and name them."""
    dropped: set[str] = set()
    kept = _without(event, dropped)
    if dropped:
        kept["withheld"] = sorted(dropped)
    return kept


def black_out(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """structlog processor: no text of the line shows an ID number."""
    return {name: _blacked_out(value) for name, value in event.items()}


def _without(fields: Mapping[Any, Any], dropped: set[str]) -> dict[Any, Any]:
    kept: dict[Any, Any] = {}
    for name, value in fields.items():
        if str(name).lower() in WITHHELD or isinstance(value, bytes | bytearray | memoryview):
            dropped.add(str(name))
        else:
            kept[name] = _without(value, dropped) if isinstance(value, Mapping) else value
    return kept


def _blacked_out(value: Any) -> Any:
    if isinstance(value, str):
        return ID_NUMBER.sub("[ID number]", value)
    if isinstance(value, Mapping):
        return {_blacked_out(name): _blacked_out(one) for name, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_blacked_out(one) for one in value]
    if isinstance(value, int | float | None):
        return value
    return _blacked_out(str(value))


def configure_logs(
    log_format: Literal["json", "console"] = "json",
    level: Literal["debug", "info", "warning", "error"] = "info",
    *,
    stream: TextIO | None = None,
) -> None:
    """Send all logs of this process to `stream` (standard error) in this form, from `level` up."""
    stream = stream or sys.stderr
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        withhold,
    ]
    # Tracebacks become text before the second guard, and never show local variables.
    closing: list[Processor] = [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        structlog.processors.format_exc_info,
        black_out,
    ]
    if log_format == "json":
        closing.append(structlog.processors.JSONRenderer(serializer=_json))
    else:
        closing.append(structlog.dev.ConsoleRenderer(colors=stream.isatty()))

    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=closing)
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in CHATTERING:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    logging.captureWarnings(True)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def _json(fields: EventDict, **_: Any) -> str:
    return orjson.dumps(fields, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
