"""The rewards fold in one process, without a log: what benchmarks settle events by."""

from __future__ import annotations

from collections.abc import Sequence

from agents.rewards.fold import RewardsFold
from schemas.codec import encode_pack
from schemas.events import ActorEvent, Tick
from schemas.game import Game
from schemas.records import Experience, decode_rows
from schemas.topics import Topics
from streams.engine import Record

TOPICS = Topics()


class Settling:
    """The rewards fold over one partition, with its table."""

    def __init__(self, game: Game) -> None:
        """Begin with an empty table."""
        self._table: dict[bytes, bytes] = {}
        self._fold = RewardsFold(0, self._table, {game.name: game}, TOPICS)
        self._offset = 0

    def take(self, events: Sequence[ActorEvent | Tick], now_ms: int) -> list[Experience]:
        """Return what these events settle."""
        record = Record(0, self._offset, now_ms, None, encode_pack(list(events)))
        self._offset += 1
        effects = self._fold.fold([record])
        for key, value in effects.states.items():
            if value is None:
                self._table.pop(key, None)
            else:
                self._table[key] = value
        return [
            row
            for output in effects.outputs
            if output.topic == TOPICS.experiences and output.value
            for row in decode_rows(output.value)
            if isinstance(row, Experience)
        ]
