"""The benchmark's fold against a batch computation that shares nothing with it."""

from __future__ import annotations

import json
import random
from typing import Any

import msgspec
import pytest

from benchmarks.stream_fold import JoinFold
from streams.engine import Record

Row = dict[str, Any]


def a_log(seed: int, n: int = 600, actors: int = 7) -> list[Row]:
    """Return events of few actors: outcomes missing, late by more than the horizon, and strange."""
    rng = random.Random(seed)
    at = 1_000
    events: list[Row] = []
    open_: list[Row] = []
    for i in range(n):
        at += rng.choice([1, 50, 400])
        if open_ and rng.random() < 0.45:
            decision = open_.pop(rng.randrange(len(open_)))
            events.append(an_outcome(rng, decision["decision_id"], decision["actor_id"], at))
        elif rng.random() < 0.05:
            events.append(an_outcome(rng, "strange", f"actor-{rng.randrange(actors)}", at))
        else:
            events.append(a_decision(rng, f"d{i}", f"actor-{rng.randrange(actors)}", at))
            if rng.random() < 0.9:
                open_.append(events[-1])
    return events


def a_decision(rng: random.Random, decision_id: str, actor: str, at: int) -> Row:
    return {
        "type": "decision",
        "decision_id": decision_id,
        "actor_id": actor,
        "event_time_ms": at,
        "archetype": "balanced",
        "domain": "battle",
        "observation": [round(rng.uniform(-1, 1), 5) for _ in range(4)],
        "action": rng.randrange(8),
        "propensity": 0.25,
        "policy_version": "v1",
    }


def an_outcome(rng: random.Random, decision_id: str, actor: str, at: int) -> Row:
    return {
        "type": "outcome",
        "decision_id": decision_id,
        "actor_id": actor,
        "event_time_ms": at,
        "won": rng.random() < 0.5,
        "enemy_casualties": rng.randrange(400),
        "own_casualties": rng.randrange(3) * 50,
        "resources_gained": rng.randrange(60_000),
        "predicted_won": rng.random() < 0.5,
        "trace_id": "of no concern",
    }


def in_batch(events: list[Row]) -> list[Row]:
    """Settle each decision by looking through all that its actor says afterwards."""
    rows = []
    for i, d in enumerate(events):
        if d["type"] != "decision":
            continue
        for e in events[i + 1 :]:
            if e["actor_id"] != d["actor_id"]:
                continue
            if e["event_time_ms"] >= d["event_time_ms"] + 10_000:
                rows.append(settled(d, 0.0, "timeout"))
                break
            if e["type"] == "outcome" and e["decision_id"] == d["decision_id"]:
                rows.append(settled(d, by_hand(e), "outcome"))
                break
    return rows


def settled(d: Row, reward: float, how: str) -> Row:
    row = {k: v for k, v in d.items() if k != "type"}
    return row | {"reward": reward, "settled": how}


def by_hand(o: Row) -> float:
    parts = [0.5 if o["won"] else -0.5]
    if o["own_casualties"]:
        parts.append(min(0.3, o["enemy_casualties"] / o["own_casualties"] / 10))
    parts.append(min(0.2, o["resources_gained"] / 100_000))
    parts.append(0.1 if o["won"] is o["predicted_won"] else 0.0)
    return min(1.0, max(-1.0, sum(parts)))


def records(events: list[Row], kind: str, pack: int = 16) -> list[Record]:
    if kind == "single":
        values = [json.dumps(e).encode() for e in events]
    else:
        groups = [events[i : i + pack] for i in range(0, len(events), pack)]
        values = [msgspec.msgpack.encode(group) for group in groups]
    return [Record(0, i, 0, None, value) for i, value in enumerate(values)]


def streamed(log: list[Record], kind: Any, whole: bool, batch: int, restart: bool) -> list[Row]:
    """Fold batch by batch; with `restart` each batch is folded by a new owner of the table."""
    table: dict[bytes, bytes] = {}
    fold = JoinFold(table, "out", kind, whole=whole)
    rows: list[Row] = []
    for i in range(0, len(log), batch):
        effects = fold.fold(log[i : i + batch])
        for output in effects.outputs:
            assert output.value is not None
            if kind == "single":
                rows.append(json.loads(output.value))
            else:
                rows += msgspec.msgpack.decode(output.value)
        for key, value in effects.states.items():
            if value is None:
                del table[key]
            else:
                table[key] = value
        if restart:
            fold = JoinFold(table, "out", kind, whole=whole)
    return rows


@pytest.mark.parametrize("kind", ["single", "packs"])
@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize(("batch", "restart"), [(1, True), (7, True), (10_000, False)])
def test_fold_equals_the_batch_computation(
    kind: str, whole: bool, batch: int, restart: bool
) -> None:
    for seed in range(3):
        events = a_log(seed)
        wanted = {row["decision_id"]: row for row in in_batch(events)}
        got = streamed(records(events, kind), kind, whole, batch, restart)
        assert len(got) == len(wanted)
        assert {row["decision_id"]: row for row in got} == wanted
        assert {row["settled"] for row in got} == {"outcome", "timeout"}
