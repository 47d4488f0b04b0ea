"""Logs: JSON lines without secrets, and an outage that does not fill the disk."""

import io
import json
import logging
from collections.abc import Iterator

import pytest

from infra import logs


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """A stream that the logs go to; the root logger is as before afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    out = io.StringIO()
    logs.configure("tested", "info", out)
    yield out
    root.handlers[:] = handlers
    root.setLevel(level)


def test_configure_writes_json_lines_without_secrets(stream: io.StringIO) -> None:
    logs.get("x").info("connected", sasl_plain_password="hunter2", user="u")
    line = json.loads(stream.getvalue())
    assert line["event"] == "connected"
    assert line["process"] == "tested"
    assert line["sasl_plain_password"] == logs.HIDDEN
    assert "hunter2" not in stream.getvalue()


def test_configure_takes_the_standard_librarys_loggers_too(stream: io.StringIO) -> None:
    logging.getLogger("aiokafka.client").error("lost %s", "a broker")
    logging.getLogger("aiokafka.client").info("chatter")
    line = json.loads(stream.getvalue())
    assert (line["event"], line["level"]) == ("lost a broker", "error")


def test_repeat_filter_counts_what_it_leaves_out() -> None:
    now = 0.0
    repeats = logs.RepeatFilter(lambda: now)

    def record() -> logging.LogRecord:
        return logging.LogRecord("x", logging.ERROR, "f.py", 1, "lost", None, None)

    shown = sum(repeats.filter(record()) for _ in range(100))
    assert shown == logs.REPEATS_SHOWN
    now = logs.REPEAT_WINDOW_S + 1
    first = record()
    assert repeats.filter(first)
    assert first.msg == "lost (95 more like this were left out)"
