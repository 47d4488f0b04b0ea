"""Structured logs of every process: JSON lines on stderr, plain colours on a terminal."""

import logging
import sys
import time
from collections.abc import Callable, MutableMapping
from typing import Any, TextIO

import structlog

Event = MutableMapping[str, Any]

SECRET_WORDS = ("password", "secret", "token", "sasl_plain", "master_key")
HIDDEN = "***"

# A broker that is away makes aiokafka write about 640 lines a worker a minute; five of a kind in
# ten seconds tell as much.
REPEATS_SHOWN = 5
REPEAT_WINDOW_S = 10.0


def hide_secrets(_logger: object, _method: str, event: Event) -> Event:
    """The event with the value of every key that names a secret replaced."""
    for key in event:
        if any(word in key.lower() for word in SECRET_WORDS):
            event[key] = HIDDEN
    return event


class RepeatFilter(logging.Filter):
    """Lets `REPEATS_SHOWN` records of one source line pass in a window, then counts in silence."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._seen: dict[tuple[str, int], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """True when the record is shown; the first one after a silence says what was left out."""
        if record.levelno >= logging.CRITICAL:
            return True
        key = (record.pathname, record.lineno)
        now = self._clock()
        since, count = self._seen.get(key, (now, 0))
        if now - since > REPEAT_WINDOW_S:
            left_out = count - REPEATS_SHOWN
            if left_out > 0:
                record.msg = f"{record.msg} ({left_out} more like this were left out)"
            since, count = now, 0
        self._seen[key] = (since, count + 1)
        return count < REPEATS_SHOWN


def configure(process: str, level: str = "info", stream: TextIO | None = None) -> None:
    """Sends structlog and the standard library's loggers of this process to one stream.

    Faust replaces `sys.stderr` by its own log, so the default is the stream Python started with.
    """
    out = stream or sys.__stderr__ or sys.stderr
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        hide_secrets,
    ]
    structlog.configure(
        processors=[
            *shared,
            structlog.processors.StackInfoRenderer(),
            structlog.processors.format_exc_info,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(process=process)
    render: Any = (
        structlog.dev.ConsoleRenderer() if out.isatty() else structlog.processors.JSONRenderer()
    )
    handler = logging.StreamHandler(out)
    handler.addFilter(RepeatFilter())
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.processors.format_exc_info],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, render],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # Below warning these describe each request; above info they still tell of a lost broker.
    for chatty in ("aiokafka", "faust", "mode", "asyncio", "matplotlib"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, root.level))


def get(name: str) -> structlog.stdlib.BoundLogger:
    """The structured logger of a module."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger
