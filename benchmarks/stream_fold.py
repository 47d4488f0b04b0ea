"""The peers' work as a fold of the partition engine: decode, join, reward, state, output.

A decision waits for its outcome under its actor. The outcome settles it with the battle reward; the
first event of the actor at or after decision time + 10 s settles it without one, with reward 0.
Events are single JSON records, or packs (a MessagePack array of 256), and outputs take the form of
their source.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import msgspec

from streams.engine import Effects, Output, Record

HORIZON_MS = 10_000
ROWS_PER_RECORD = 256
"""Of packed output: what the packs of the source hold."""

Kind = Literal["single", "packs"]
Numbers = list[float]


class Decided(msgspec.Struct, gc=False, tag_field="type", tag="decision"):
    """A decision. Its observation is passed on as it was written, without a look into it."""

    decision_id: str
    actor_id: str
    event_time_ms: int
    archetype: str
    domain: str
    observation: msgspec.Raw
    action: int
    propensity: float
    policy_version: str


class DecidedWhole(msgspec.Struct, gc=False, tag_field="type", tag="decision"):
    """The same with every number of the observation decoded and written anew, as the peers do."""

    decision_id: str
    actor_id: str
    event_time_ms: int
    archetype: str
    domain: str
    observation: Numbers
    action: int
    propensity: float
    policy_version: str


class Came(msgspec.Struct, gc=False, tag_field="type", tag="outcome"):
    """An outcome."""

    decision_id: str
    actor_id: str
    event_time_ms: int
    won: bool
    enemy_casualties: int
    own_casualties: int
    resources_gained: int
    predicted_won: bool


class Rewarded(msgspec.Struct, gc=False):
    """A settled decision, with the fields that every peer writes."""

    decision_id: str
    archetype: str
    domain: str
    policy_version: str
    event_time_ms: int
    observation: Any
    action: int
    propensity: float
    actor_id: str
    reward: float
    settled: Literal["outcome", "timeout"]


def battle_reward(o: Came) -> float:
    """Return the peers' battle reward of an outcome, in [-1, 1]."""
    reward = 0.5 if o.won else -0.5
    if o.own_casualties > 0:
        ratio = o.enemy_casualties / o.own_casualties / 10
        reward += ratio if ratio < 0.3 else 0.3
    gained = o.resources_gained / 100_000
    reward += gained if gained < 0.2 else 0.2
    if o.predicted_won == o.won:
        reward += 0.1
    return reward if -1.0 <= reward <= 1.0 else max(-1.0, min(1.0, reward))


class JoinFold:
    """The rule of one partition.

    Args:
        table: what was open, by actor id: MessagePack arrays of decisions.
        topic: where settled decisions go.
        kind: the form of the source.
        whole: decode the observations too.
    """

    def __init__(
        self, table: Mapping[bytes, bytes], topic: str, kind: Kind, *, whole: bool = False
    ) -> None:
        decision: Any = DecidedWhole if whole else Decided
        event: Any = decision | Came
        self._table = table
        self._topic = topic
        self._packed = kind == "packs"
        format_: Any = msgspec.msgpack if self._packed else msgspec.json
        self._decode: Callable[[bytes], Any] = format_.Decoder(
            list[event] if self._packed else event
        ).decode
        self._encode: Callable[[Any], bytes] = format_.Encoder().encode
        read = format_.Decoder(list[decision]).decode  # a Raw must stay in the form it came in
        self._open: dict[str, list[Any]] = {key.decode(): read(v) for key, v in table.items()}
        self.n_events = self.n_rows = 0
        self.total = 0.0

    def fold(self, records: Sequence[Record]) -> Effects:
        """Return settled decisions, and the actors whose open decisions changed."""
        rows: list[Rewarded] = []
        touched: dict[str, None] = {}
        decode = self._decode
        if self._packed:
            for record in records:
                self._join(decode(record.value or b""), rows, touched)
        else:
            self._join([decode(record.value or b"") for record in records], rows, touched)
        self.n_rows += len(rows)
        self.total += sum([row.reward for row in rows])
        return Effects(outputs=self._outputs(rows), states=self._states(touched))

    def _join(self, events: list[Any], rows: list[Rewarded], touched: dict[str, None]) -> None:
        self.n_events += len(events)
        open_ = self._open
        for event in events:
            actor = event.actor_id
            waiting = open_.get(actor)
            if waiting is None:
                if type(event) is not Came:
                    open_[actor] = [event]
                    touched[actor] = None
                continue
            touched[actor] = None
            first = waiting[0]
            in_time = event.event_time_ms - first.event_time_ms < HORIZON_MS
            if type(event) is not Came:
                if not in_time:
                    self._settle(actor, waiting, event, rows)
                waiting.append(event)
            elif in_time and len(waiting) == 1 and first.decision_id == event.decision_id:
                rows.append(_rewarded(first, actor, battle_reward(event), "outcome"))
                del open_[actor]  # as a rule
            else:
                self._settle(actor, waiting, event, rows)
                if not waiting:
                    del open_[actor]

    def _settle(self, actor: str, waiting: list[Any], event: Any, rows: list[Rewarded]) -> None:
        """Move what the event settles from `waiting` to `rows`."""
        now = event.event_time_ms
        decision_id = event.decision_id if type(event) is Came else None
        keep = []
        for d in waiting:
            if now - d.event_time_ms >= HORIZON_MS:
                rows.append(_rewarded(d, actor, 0.0, "timeout"))
            elif d.decision_id == decision_id:
                rows.append(_rewarded(d, actor, battle_reward(event), "outcome"))
            else:
                keep.append(d)
        waiting[:] = keep

    def _outputs(self, rows: list[Rewarded]) -> list[Output]:
        encode, topic = self._encode, self._topic
        if self._packed:
            step = ROWS_PER_RECORD
            parts = [rows[i : i + step] for i in range(0, len(rows), step)]
            return [Output(topic, encode(part)) for part in parts]
        return [Output(topic, encode(row), row.actor_id.encode()) for row in rows]

    def _states(self, touched: dict[str, None]) -> dict[bytes, bytes | None]:
        """Return what is open of the actors that were touched; most have nothing left."""
        states: dict[bytes, bytes | None] = {}
        for actor in touched:
            waiting = self._open.get(actor)
            key = actor.encode()
            if waiting is not None:
                states[key] = self._encode(waiting)
                for decision in waiting:
                    _release(decision)
            elif key in self._table:
                states[key] = None
        return states


def _rewarded(
    d: Any, actor: str, reward: float, settled: Literal["outcome", "timeout"]
) -> Rewarded:
    return Rewarded(
        d.decision_id,
        d.archetype,
        d.domain,
        d.policy_version,
        d.event_time_ms,
        d.observation,
        d.action,
        d.propensity,
        actor,
        reward,
        settled,
    )


def _release(decision: Any) -> None:
    """Let a decision that stays open keep its own bytes, not the whole record it came in."""
    if type(decision) is Decided:
        decision.observation = decision.observation.copy()
