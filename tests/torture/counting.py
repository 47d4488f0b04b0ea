"""The fold under torture: counts records by key, so that any slip shows in a number."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from streams.engine import Effects, EngineSettings, Output, Record, Table

STATE = struct.Struct("<qqq")
"""Count, source offset, worker's process id."""
ANSWER = struct.Struct("<qqqq")
"""Source partition, source offset, count of the key, worker's process id."""


def settings(prefix: str, **more: object) -> EngineSettings:
    """Return the application under one prefix."""
    fields: dict[str, object] = {
        "app": f"{prefix}count",
        "source": f"{prefix}in",
        "changelog": f"{prefix}count-changelog",
        "outputs": (f"{prefix}out",),
    }
    return EngineSettings(**{**fields, **more})  # type: ignore[arg-type]


class CountFold:
    """Answers each record with how many of its key there were."""

    def __init__(self, table: Table, topic: str, pid: int) -> None:
        self._table = table
        self._topic = topic
        self._pid = pid

    def fold(self, records: Sequence[Record]) -> Effects:
        """Answer each record."""
        effects = Effects()
        for record in records:
            key = record.key or b""
            raw = effects.states.get(key) or self._table.get(key)
            n = STATE.unpack(raw)[0] + 1 if raw else 1
            effects.states[key] = STATE.pack(n, record.offset, self._pid)
            answer = ANSWER.pack(record.partition, record.offset, n, self._pid)
            effects.outputs.append(Output(self._topic, answer, key))
        return effects
