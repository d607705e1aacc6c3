"""What a log line looks like, and what it never shows."""

import io
import json
import logging
import warnings

import pytest
import structlog

from deployment.logs import WITHHELD, configure_logs

ID_NUMBER = "11010519491231002X"


@pytest.fixture
def lines():
    """Configured JSON logs, and a function that gives the lines so far."""
    root = logging.getLogger()
    before = (root.handlers[:], root.level, structlog.get_config())
    stream = io.StringIO()
    configure_logs(stream=stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    logging.captureWarnings(False)
    root.handlers[:], root.level = before[0], before[1]
    structlog.reset_defaults()
    structlog.configure(**before[2])


def test_a_line_is_one_json_object(lines):
    structlog.get_logger("ledger").info("partition owned", partition=3, site="工地-1")
    [line] = lines()
    assert line["event"] == "partition owned"
    assert (line["level"], line["logger"]) == ("info", "ledger")
    assert (line["partition"], line["site"]) == (3, "工地-1")
    assert line["timestamp"].endswith("Z")


@pytest.mark.parametrize("name", sorted(WITHHELD))
def test_forbidden_fields_are_dropped_and_named(lines, name):
    structlog.get_logger().warning("no command", **{name: "张三"}, offset=7)
    [line] = lines()
    assert "张三" not in json.dumps(line, ensure_ascii=False)
    assert name not in line
    assert line["withheld"] == [name]
    assert line["offset"] == 7


def test_forbidden_fields_are_dropped_at_any_depth_and_case(lines):
    structlog.get_logger().info("seen", command={"id": "a", "Data": {"name": "张三"}}, blob=b"x")
    [line] = lines()
    assert line["command"] == {"id": "a"}
    assert line["withheld"] == ["Data", "blob"]


def test_what_is_bound_is_guarded_too(lines):
    with structlog.contextvars.bound_contextvars(name_tag="t", partition=1):
        structlog.get_logger().bind(sealed="s").info("seen")
    [line] = lines()
    assert line["withheld"] == ["name_tag", "sealed"]
    assert line["partition"] == 1


def test_id_numbers_are_blacked_out_wherever_they_stand(lines):
    log = structlog.get_logger()
    log.info(f"person {ID_NUMBER}", seen=[{ID_NUMBER: ID_NUMBER}], odd=ValueError(ID_NUMBER))
    try:
        local_value = ID_NUMBER
        raise ValueError(f"bad id {local_value}")
    except ValueError:
        log.exception("failed")
    logging.getLogger("client").error("key %s", ID_NUMBER)
    assert len(lines()) == 3
    assert ID_NUMBER not in json.dumps(lines())
    assert "ValueError: bad id [ID number]" in lines()[1]["exception"]


def test_what_is_not_an_id_number_stays(lines):
    told = {"person": "0" * 32, "offset": 110105194912310021, "digits": "110105194913310021"}
    structlog.get_logger().info("seen", **told)
    assert told.items() <= lines()[0].items()


def test_other_libraries_take_the_same_way(lines):
    logging.getLogger("client").info("joined %s", "group", extra={"ignored": 1})
    logging.getLogger("aiokafka.consumer").info("chatter")
    logging.getLogger("aiokafka.consumer").warning("heartbeat failed")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old", UserWarning, stacklevel=1)
    events = [line["event"] for line in lines()]
    assert events[:2] == ["joined group", "heartbeat failed"]
    assert "UserWarning: old" in events[2]


def test_levels(lines):
    structlog.get_logger().debug("detail")
    assert lines() == []


def test_the_console_form():
    stream = io.StringIO()
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    configure_logs("console", "debug", stream=stream)
    try:
        structlog.get_logger().debug("partition owned", partition=3, name="张三")
    finally:
        root.handlers[:], root.level = handlers, level
        logging.captureWarnings(False)
        structlog.reset_defaults()
    assert "partition owned" in stream.getvalue()
    assert "partition=3" in stream.getvalue()
    assert "张三" not in stream.getvalue()
