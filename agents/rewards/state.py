"""What the rewards fold keeps: a ledger for the partition, an account for each actor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from schemas.events import Decision
from schemas.records import Origin, Watermark

LEDGER_KEY = b"\0ledger"
_ACTOR = b"a"
_DECISION = b"d"
EPISODES_KEPT = 8
RECENT = 16
"""Settled decisions whose ids an actor remembers, to tell repeats and late outcomes from bad."""


STANDINGS_KEPT = 16
"""Standings are looked through for what can go once there are more of them."""

CACHED = 8_192
"""Decisions, and actors, held decoded, so that most of them are not read back from the table."""


class Ledger(msgspec.Struct, array_like=True):
    """The partition's event time and counts since the log's beginning."""

    max_time_ms: int = 0
    n_decisions: int = 0
    n_settled: int = 0
    n_dead: int = 0
    n_repeated: int = 0
    n_late: int = 0
    n_skewed: int = 0

    def watermark_row(self, origin: Origin, watermark_ms: int) -> Watermark:
        """Return the account as a row of `experiences`."""
        return Watermark(
            origin=origin,
            watermark_ms=watermark_ms,
            n_decisions=self.n_decisions,
            n_settled=self.n_settled,
            n_open=self.n_decisions - self.n_settled,
            n_dead=self.n_dead,
            n_repeated=self.n_repeated,
            n_late=self.n_late,
            n_skewed=self.n_skewed,
        )


class Came(msgspec.Struct, array_like=True, gc=False):
    """The outcome of an open decision."""

    facts: dict[str, float]
    success: bool | None
    terminated: bool
    truncated: bool


class Open(msgspec.Struct, array_like=True, gc=False):
    """A decision that is not settled. Its event is kept apart, under its own key."""

    decision_id: str
    game: str
    domain: str
    episode: str
    time_ms: int
    """Decision time, bounded by the log's own time so that skew cannot keep it open."""
    standing: float | None
    """As of the decision."""
    outcome: Came | None = None
    successor: str | None = None
    """The actor's next decision of the episode, whose observation is this one's next."""
    next_observation: bytes | None = None
    next_legal: bytes | None = None
    ended: bool = False
    """The episode is over: nothing follows."""
    end_terminated: bool = False
    end_truncated: bool = False
    """What the episode's end said, for an outcome that comes after it."""

    @property
    def complete(self) -> bool:
        """Whether outcome and what followed are known."""
        follows = self.successor is not None or self.next_observation is not None or self.ended
        return self.outcome is not None and (follows or self.outcome.terminated)


class Actor(msgspec.Struct, array_like=True):
    """The account of one actor."""

    last_time_ms: int = 0
    episodes: list[tuple[str, int]] = []
    """Latest episodes and the last step seen in each."""
    recent: list[tuple[str, bool]] = []
    """Settled decisions and whether their outcome had come, oldest first."""
    standings: list[tuple[int, str, float]] = []
    """(event time, fact name, value), in event-time order, as far back as open decisions need."""
    open: list[Open] = []

    def find(self, decision_id: str) -> Open | None:
        """Return an open decision."""
        for entry in self.open:
            if entry.decision_id == decision_id:
                return entry
        return None

    def latest(self, episode: str) -> Open | None:
        """Return the newest open decision of an episode that goes on."""
        for entry in reversed(self.open):
            if entry.episode == episode and not entry.ended:
                return entry
        return None

    def settled(self, decision_id: str) -> bool | None:
        """Return whether a recently settled decision had its outcome; None when not known."""
        for known, had_outcome in self.recent:
            if known == decision_id:
                return had_outcome
        return None

    def last_step(self, episode: str) -> int | None:
        """Return the last step seen in an episode."""
        for known, step in reversed(self.episodes):
            if known == episode:
                return step
        return None

    def note_step(self, episode: str, step: int) -> None:
        """Keep the last step of an episode, the latest episode last."""
        if self.episodes and self.episodes[-1][0] == episode:
            self.episodes[-1] = (episode, step)
            return
        self.episodes = [e for e in self.episodes if e[0] != episode][1 - EPISODES_KEPT :]
        self.episodes.append((episode, step))

    def note_settled(self, decision_id: str, had_outcome: bool) -> None:
        """Remember a settled decision, and forget what nothing can ask for any more."""
        self.recent.append((decision_id, had_outcome))
        del self.recent[:-RECENT]
        if len(self.standings) > STANDINGS_KEPT:
            self.forget_standings()

    def note_standing(self, time_ms: int, name: str, value: float) -> None:
        """Keep a standing in its place by event time; a later word on the same time wins."""
        at = len(self.standings)
        while at and self.standings[at - 1][0] > time_ms:
            at -= 1
        self.standings.insert(at, (time_ms, name, value))

    def standing(self, name: str, time_ms: int) -> float | None:
        """Return the standing as of a time: the last one not after it."""
        for at, known, value in reversed(self.standings):
            if at <= time_ms and known == name:
                return value
        return None

    def forget_standings(self) -> None:
        """Drop what no open or coming decision can ask for: all but the last before the oldest."""
        oldest = min((e.time_ms for e in self.open), default=self.last_time_ms)
        keep: list[tuple[int, str, float]] = []
        seen: set[str] = set()
        for at, name, value in reversed(self.standings):
            if at > oldest or name not in seen:
                keep.append((at, name, value))
            if at <= oldest:
                seen.add(name)
        self.standings = keep[::-1]


def actor_key(actor_id: str) -> bytes:
    """Return the table key of an actor's account."""
    return _ACTOR + actor_id.encode()


def decision_key(actor_id: str, decision_id: str) -> bytes:
    """Return the table key of an open decision's event."""
    return _DECISION + actor_id.encode() + b"\0" + decision_id.encode()


_encode = msgspec.msgpack.Encoder().encode
_ledger = msgspec.msgpack.Decoder(Ledger).decode
_actor = msgspec.msgpack.Decoder(Actor).decode
_decision = msgspec.msgpack.Decoder(Decision).decode


T = TypeVar("T")


class Cache:
    """What the table holds of the latest actors and decisions, decoded; the oldest give way."""

    def __init__(self) -> None:
        self.actors: dict[str, Actor] = {}
        self.decisions: dict[bytes, Decision] = {}


def _keep(cache: dict[Any, T], key: Any, value: T) -> None:
    if len(cache) >= CACHED and key not in cache:
        del cache[next(iter(cache))]
    cache[key] = value


class States:
    """The table as one batch sees it: what is there, and what the batch has changed so far."""

    def __init__(self, table: Mapping[bytes, bytes], cache: Cache) -> None:
        self._table = table
        self._cache = cache
        self._actors: dict[str, Actor] = {}
        self._decisions: dict[bytes, Decision | None] = {}
        raw = table.get(LEDGER_KEY)
        self.ledger = Ledger() if raw is None else _ledger(raw)

    def actor(self, actor_id: str) -> Actor:
        """Return an actor's account, a new one for a new actor; it will be written back."""
        actor = self._actors.get(actor_id)
        if actor is None:
            actor = self._cache.actors.get(actor_id)
            if actor is None:
                raw = self._table.get(actor_key(actor_id))
                actor = Actor() if raw is None else _actor(raw)
                _keep(self._cache.actors, actor_id, actor)
            self._actors[actor_id] = actor
        return actor

    def put_decision(self, event: Decision) -> None:
        """Keep an open decision's event."""
        key = decision_key(event.actor_id, event.decision_id)
        self._decisions[key] = event
        _keep(self._cache.decisions, key, event)

    def decision(self, actor_id: str, decision_id: str) -> Decision:
        """Return an open decision's event; ``KeyError`` when it is not there."""
        key = decision_key(actor_id, decision_id)
        event = self._decisions.get(key) or self._cache.decisions.get(key)
        return event if event is not None else _decision(self._table[key])

    def drop_decision(self, actor_id: str, decision_id: str) -> None:
        """Forget a settled decision's event."""
        key = decision_key(actor_id, decision_id)
        self._decisions[key] = None
        self._cache.decisions.pop(key, None)

    def drop_actor(self, actor_id: str) -> None:
        """Forget an actor."""
        self._actors[actor_id] = Actor()
        self._cache.actors.pop(actor_id, None)

    def changes(self) -> dict[bytes, bytes | None]:
        """Return what the batch changed, as the engine writes it."""
        changed: dict[bytes, bytes | None] = {LEDGER_KEY: _encode(self.ledger)}
        for actor_id, actor in self._actors.items():
            key = actor_key(actor_id)
            if actor.last_time_ms:
                changed[key] = _encode(actor)
            elif key in self._table:
                changed[key] = None
        for key, event in self._decisions.items():
            if event is not None:
                changed[key] = _encode(event)
            elif key in self._table:
                changed[key] = None
        return changed


def open_decisions(table: Mapping[bytes, bytes]) -> list[tuple[str, Actor]]:
    """Return every actor's account of a recovered table, to rebuild the timers from."""
    return [(k[1:].decode(), _actor(v)) for k, v in table.items() if k[:1] == _ACTOR]
