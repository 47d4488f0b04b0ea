"""How a worker ends when going on could write something wrong."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from aiokafka.errors import InvalidProducerEpoch, ProducerFenced

EXIT_FENCED = 75
"""Another worker owns a partition of ours; starting again is right."""
EXIT_FATAL = 76
"""Bad state, failed write or lost input; starting again helps when the cause was outside."""


def is_fenced(error: BaseException | None) -> bool:
    """Return whether a newer owner of the transactional id was the cause."""
    while error is not None:
        if isinstance(error, (ProducerFenced, InvalidProducerEpoch)):
            return True
        error = error.__cause__
    return False


def die(reason: str, error: BaseException | None = None) -> NoReturn:
    """End the process now, with one line on the stream that Faust does not redirect."""
    code = EXIT_FENCED if is_fenced(error) else EXIT_FATAL
    name, text = type(error).__name__, str(error)  # Kafka's errors begin with their name
    detail = "" if error is None else f": {text if text.startswith(name) else f'{name}: {text}'}"
    stream = sys.__stderr__
    if stream is not None:
        stream.write(f"fatal: {reason}{detail} (exit {code})\n".replace("\n", " ").strip() + "\n")
        stream.flush()
    os._exit(code)
