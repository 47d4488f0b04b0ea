"""What the rewards fold keeps: a ledger for the partition, an account for each actor, events."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any, Generic, TypeVar

import msgspec

from agents.rewards.account import Actor
from schemas.events import Decision
from schemas.records import Origin, Watermark
from streams.engine.settings import EngineError

LEDGER_KEY = b"\0ledger"
_ACTOR = b"a"
_DECISION = b"d"
CACHED = 8_192
"""Decisions, and actors, held decoded, so that most of them are not read back from the table."""
FORM = 2
"""Of what is kept, in a changelog that outlives the code: counted up whenever it changes."""


class Ledger(msgspec.Struct, array_like=True):
    """The partition's event time and counts since the log's beginning."""

    max_time_ms: int = 0
    n_decisions: int = 0
    n_settled: int = 0
    n_dead: int = 0
    n_repeated: int = 0
    n_late: int = 0
    n_skewed: int = 0
    n_revised: int = 0
    form: int = 0
    """The `FORM` of the code that made the table."""

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
            n_revised=self.n_revised,
        )


def check_form(partition: int, ledger: Ledger) -> None:
    """Make sure that a table is one that this code can read, by its ledger.

    Raises:
        EngineError: code with another `FORM` wrote it.
    """
    if ledger.form != FORM:
        msg = (
            f"the changelog of rewards must hold states of form {FORM}; got {ledger.form} in "
            f"partition {partition}: another version of Grindstone wrote them (go on with that "
            "version, or start anew under another prefix)"
        )
        raise EngineError(msg)


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
Named = tuple[str, str]
"""Actor id and decision id; its key in the table is made only where the table is asked."""


class Cache:
    """What the table holds of the latest actors and decisions, decoded; the oldest give way."""

    def __init__(self) -> None:
        self.actors: dict[str, Actor] = {}
        self.decisions: dict[Named, Decision] = {}


def _keep(cache: dict[Any, T], key: Any, value: T) -> None:
    if len(cache) >= CACHED and key not in cache:
        # Many at once: the more first keys a dict has lost, the longer it looks for the next one.
        for oldest in list(islice(cache, CACHED // 8)):
            del cache[oldest]
    cache[key] = value


class States:
    """The table as one batch sees it: what is there, and what the batch has changed so far."""

    def __init__(self, table: Mapping[bytes, bytes], cache: Cache) -> None:
        self._table = table
        self._cache = cache
        self.actors: dict[str, Actor] = {}
        """Accounts that will be written back."""
        self._decisions: dict[Named, Decision | None] = {}
        self._again: set[Named] = set()
        """Of these, the ones that the batch dropped before it brought them."""
        raw = table.get(LEDGER_KEY)
        self.ledger = Ledger(form=FORM) if raw is None else _ledger(raw)

    def actor(self, actor_id: str) -> Actor:
        """Return an actor's account, a new one for a new actor; it will be written back."""
        actor = self.actors.get(actor_id)
        if actor is None:
            actor = self.actors[actor_id] = self.peek(actor_id)
        return actor

    def peek(self, actor_id: str) -> Actor:
        """Return the same account for reading: it is not written back for that."""
        actor = self.actors.get(actor_id) or self._cache.actors.get(actor_id)
        if actor is None:
            raw = self._table.get(actor_key(actor_id))
            actor = Actor() if raw is None else _actor(raw)
            _keep(self._cache.actors, actor_id, actor)
        return actor

    def put_decision(self, named: Named, event: Decision) -> None:
        """Keep an open decision's event."""
        if self._decisions.setdefault(named, event) is not event:
            self._decisions[named] = event
            self._again.add(named)

    def decision(self, named: Named) -> Decision:
        """Return an open decision's event; ``KeyError`` when it is not there."""
        event = self._decisions.get(named) or self._cache.decisions.get(named)
        return event if event is not None else _decision(self._table[decision_key(*named)])

    def drop_decision(self, named: Named) -> None:
        """Forget a settled decision's event."""
        if self._decisions.pop(named, None) is None or named in self._again:
            self._decisions[named] = None
            self._cache.decisions.pop(named, None)
        # else the batch brought it: neither table nor cache has it

    def may_hold(self, named: Named) -> bool:
        """Return False where a decision is settled and let go; else its actor's account knows.

        An account that must be read from the table first costs more than to look for the event.
        """
        if named[0] in self.actors or named[0] in self._cache.actors:
            return True
        return decision_key(*named) in self._table

    def drop_actor(self, actor_id: str) -> None:
        """Forget an actor."""
        self.actors[actor_id] = Actor()
        self._cache.actors.pop(actor_id, None)

    def changes(self) -> dict[bytes, bytes | None]:
        """Return what the batch changed, as the engine writes it."""
        changed: dict[bytes, bytes | None] = {LEDGER_KEY: _encode(self.ledger)}
        for actor_id, actor in self.actors.items():
            key = actor_key(actor_id)
            if actor.last_time_ms:
                changed[key] = _encode(actor)
            elif key in self._table:
                changed[key] = None
        for named, event in self._decisions.items():
            key = decision_key(*named)
            if event is not None:
                changed[key] = _encode(event)
                _keep(self._cache.decisions, named, event)
            elif key in self._table:
                changed[key] = None
        return changed


class Since(msgspec.Struct, array_like=True, gc=False):
    """What a timer needs of an `Open` where all decisions wait as long: its first field."""

    time_ms: int


class Waiting(msgspec.Struct, array_like=True, gc=False):
    """What it needs else: the first fields."""

    time_ms: int
    game: str
    domain: str


E = TypeVar("E", Since, Waiting)


class Brief(msgspec.Struct, Generic[E], array_like=True, gc=False):
    """What the timers need of an `Actor`, its first fields: decoded in a fraction of the time."""

    last_time_ms: int
    episodes: msgspec.Raw
    recent: msgspec.Raw
    standings: msgspec.Raw
    ids: msgspec.Raw
    open: list[E]
    settled: list[E]


def accounts(table: Mapping[bytes, bytes], entry: type[E]) -> Iterator[tuple[str, Brief[E]]]:
    """Yield every actor's account of a recovered table, to rebuild the timers from."""
    brief: Callable[[bytes], Any] = msgspec.msgpack.Decoder(
        Brief[entry]  # type: ignore[valid-type]
    ).decode
    mark = _ACTOR[0]
    for key in [key for key in table if key[0] == mark]:
        yield key[1:].decode(), brief(table[key])
