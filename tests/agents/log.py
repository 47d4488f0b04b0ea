"""A log of one partition, written by hand in tests, and a table that a fold runs on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from agents.rewards.fold import RewardsFold
from schemas.codec import encode_event, encode_pack
from schemas.events import Decision, EpisodeEnd, Event, Outcome, Snapshot, Tick
from schemas.game import Game, parse_game
from schemas.records import (
    DeadLetter,
    Experience,
    Row,
    Watermark,
    decode_dead_letter,
    decode_rows,
)
from schemas.topics import Topics
from streams.engine.records import Record

TOPICS = Topics()


def duel(**domain: Any) -> Game:
    """A game of two floats and three actions; hits pay 0.5, ``standing`` is a fact."""
    described = {"reward": "duel@1", "outcome_timeout_ms": 1_000} | domain
    return parse_game(
        {
            "game": "duel",
            "observation": {"layout": "duel@1", "shape": [2]},
            "actions": {"names": ["wait", "hit", "run"]},
            "rewards": {"duel@1": {"weights": {"hits": 0.5, "losses": -0.25}}},
            "domains": {"combat": described},
            "archetypes": {"fighter": {"model": "duel-fighter"}},
            "time": {"allowed_lateness_ms": 100},
        }
    )


def decision(
    step: int, time_ms: int, actor: str = "a", episode: str = "e1", **more: Any
) -> Decision:
    fields: dict[str, Any] = {
        "decision_id": f"{actor}/{episode}/{step}",
        "game": "duel",
        "world": "w",
        "episode": episode,
        "actor_id": actor,
        "archetype": "fighter",
        "domain": "combat",
        "event_time_ms": time_ms,
        "step": step,
        "observation": np.array([step, time_ms], "<f4").tobytes(),
        "action": step % 3,
        "propensity": 0.5,
        "policy_version": "scripted",
    }
    return Decision(**(fields | more))


def outcome(step: int, time_ms: int, actor: str = "a", episode: str = "e1", **more: Any) -> Outcome:
    fields: dict[str, Any] = {
        "decision_id": f"{actor}/{episode}/{step}",
        "game": "duel",
        "actor_id": actor,
        "event_time_ms": time_ms,
        "facts": {"hits": 1.0},
    }
    return Outcome(**(fields | more))


def end(time_ms: int, actor: str = "a", episode: str = "e1", truncated: bool = True) -> EpisodeEnd:
    return EpisodeEnd(
        game="duel",
        world="w",
        episode=episode,
        actor_id=actor,
        event_time_ms=time_ms,
        terminated=not truncated,
        truncated=truncated,
    )


def snapshot(time_ms: int, standing: float, actor: str = "a") -> Snapshot:
    return Snapshot(
        game="duel", actor_id=actor, event_time_ms=time_ms, facts={"standing": standing}
    )


def tick(time_ms: int) -> Tick:
    return Tick(event_time_ms=time_ms, source="test")


class Run:
    """Runs a fold over records as the engine would, one partition, table and all."""

    def __init__(self, game: Game) -> None:
        self.game = game
        self.table: dict[bytes, bytes] = {}
        self.rows: list[Row] = []
        self.letters: list[DeadLetter] = []
        self.offset = 0
        self.restart()

    def restart(self) -> None:
        self.fold = RewardsFold(0, self.table, {self.game.name: self.game}, TOPICS)

    def record(
        self, value: bytes | Event | Sequence[Event], append_ms: int | None = None
    ) -> Record:
        if isinstance(value, Sequence) and not isinstance(value, bytes):
            append_ms = max(e.event_time_ms for e in value) if append_ms is None else append_ms
            value = encode_pack(list(value))
        elif not isinstance(value, bytes):
            append_ms = value.event_time_ms if append_ms is None else append_ms
            value = encode_event(value)
        self.offset += 1
        return Record(0, self.offset - 1, append_ms or 0, None, value)

    def feed(self, records: Sequence[Record]) -> None:
        effects = self.fold.fold(records)
        for output in effects.outputs:
            assert output.value is not None
            if output.topic == TOPICS.experiences:
                self.rows += decode_rows(output.value)
            else:
                self.letters.append(decode_dead_letter(output.value))
        for key, value in effects.states.items():
            if value is None:
                self.table.pop(key, None)
            else:
                self.table[key] = value

    def take(self, *values: bytes | Event | Sequence[Event]) -> list[Experience]:
        before = len(self.experiences)
        self.feed([self.record(v) for v in values])
        return self.experiences[before:]

    @property
    def experiences(self) -> list[Experience]:
        return [r for r in self.rows if isinstance(r, Experience)]

    @property
    def ledger(self) -> Watermark:
        return [r for r in self.rows if isinstance(r, Watermark)][-1]
