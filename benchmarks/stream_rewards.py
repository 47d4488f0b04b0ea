"""The rewards agent on the peers' events, told as Grindstone's own.

    python -m benchmarks.stream_rewards BOOTSTRAP EVENTS_JSONL     loads the topic rewards-events

It does more than the peers' rule: checks each event against the game's description, keeps what
follows a decision, orders by event time, counts into a ledger, and writes whole experiences.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from aiokafka import AIOKafkaProducer

from agents.rewards.fold import RewardsFold
from schemas.codec import encode_pack
from schemas.events import Decision, Event, Outcome
from schemas.game import Game, parse_game
from schemas.kafka import KafkaSettings
from schemas.topics import Topics, TopicSpec
from streams.admin import ensure_topics
from streams.engine import Effects, EngineSettings, Record
from streams.engine.records import Table
from streams.partitioner import Partitioner

TOPIC = "rewards-events"
PARTITIONS = 4
PACK_EVENTS = 256
TOPICS = Topics("bench-")


def bench_game(**domain: Any) -> Game:
    """Return the description of the peers' game: 16 floats, 8 actions, 10 s to an outcome."""
    described = {"reward": "battle@1", "outcome_timeout_ms": 10_000} | domain
    names = ["aggressive", "defensive", "economic", "balanced", "opportunist"]
    return parse_game(
        {
            "game": "peers",
            "observation": {"layout": "peers@1", "shape": [16]},
            "actions": {"names": [f"a{i}" for i in range(8)]},
            "rewards": {"battle@1": {"weights": {"won": 1.0, "own_casualties": -0.001}}},
            "domains": {"battle": described},
            "archetypes": {name: {"model": name} for name in names},
            "time": {"allowed_lateness_ms": 100},
        }
    )


class Teller:
    """Tells the peers' events as Grindstone's: one endless episode an actor."""

    def __init__(self) -> None:
        self._steps: dict[str, int] = {}

    def __call__(self, e: dict[str, Any]) -> Event:
        """Return one event."""
        actor, at = e["actor_id"], e["event_time_ms"]
        if e["type"] == "outcome":
            facts = {
                "won": float(e["won"]),
                "enemy_casualties": float(e["enemy_casualties"]),
                "own_casualties": float(e["own_casualties"]),
                "resources_gained": float(e["resources_gained"]),
                "predicted_won": float(e["predicted_won"]),
            }
            return Outcome(
                decision_id=e["decision_id"], game="peers", actor_id=actor, event_time_ms=at,
                facts=facts, success=e["won"],
            )  # fmt: skip
        step = self._steps[actor] = self._steps.get(actor, -1) + 1
        return Decision(
            decision_id=e["decision_id"], game="peers", world="w", episode="e", actor_id=actor,
            archetype=e["archetype"], domain=e["domain"], event_time_ms=at, step=step,
            observation=np.asarray(e["observation"], "<f4").tobytes(), action=e["action"],
            propensity=e["propensity"], policy_version=e["policy_version"],
        )  # fmt: skip


def packs(events_file: Path) -> Iterator[tuple[int, bytes]]:
    """Yield partition and pack of all events of the file, in order within each partition."""
    tell, place = Teller(), Partitioner(PARTITIONS)
    decode = msgspec.json.Decoder().decode
    waiting: list[list[Event]] = [[] for _ in range(PARTITIONS)]
    with events_file.open("rb") as lines:
        for line in lines:
            event = decode(line)
            partition = place(event["actor_id"])
            waiting[partition].append(tell(event))
            if len(waiting[partition]) == PACK_EVENTS:
                yield partition, encode_pack(waiting[partition])
                waiting[partition] = []
    for partition, rest in enumerate(waiting):
        if rest:
            yield partition, encode_pack(rest)


class RewardsCount:
    """The rewards fold of a partition, counted from its input and output bytes."""

    def __init__(self, fold: RewardsFold) -> None:
        self._fold = fold
        self.n_events = self.n_rows = 0
        self.total = 0.0
        """Not summed here: it would take the rows apart again."""

    def fold(self, records: Sequence[Record]) -> Effects:
        """Fold and count."""
        self.n_events += sum(n_in_array(r.value or b"\x90") for r in records)
        effects = self._fold.fold(records)
        rows = (o for o in effects.outputs if o.topic == TOPICS.experiences)
        self.n_rows += sum(n_in_array(o.value or b"\x90") for o in rows)
        return effects


def n_in_array(value: bytes) -> int:
    """Return how many elements a MessagePack array has, from its header."""
    first = value[0]
    if 0x90 <= first <= 0x9F:
        return first & 0x0F
    return int.from_bytes(value[1:3] if first == 0xDC else value[1:5], "big")


def rewards_count(partition: int, table: Table) -> RewardsCount:
    """Return the fold of a partition."""
    game = bench_game()
    return RewardsCount(RewardsFold(partition, table, {game.name: game}, TOPICS))


def rewards_engine(app: str, source: str, out: str, fetch_bytes: int) -> EngineSettings:
    """Return the engine's settings for the rewards fold; its topics are fixed: no `out`."""
    del out
    return EngineSettings(
        app=app,
        source=source,
        changelog=f"{app}-changelog",
        outputs=(TOPICS.experiences, TOPICS.dead_letters),
        partition_fetch_bytes=fetch_bytes,
        compression=None,
    )


async def load(bootstrap: str, events_file: Path) -> int:
    """Write the events to the topic; returns how many packs there were."""
    kafka = KafkaSettings(bootstrap_servers=bootstrap)
    await ensure_topics(kafka, [TopicSpec(name=TOPIC, partitions=PARTITIONS, cleanup="delete")])
    n = 0
    async with AIOKafkaProducer(
        **kafka.client(), enable_idempotence=True, linger_ms=20, max_batch_size=900_000
    ) as producer:
        for partition, pack in packs(events_file):
            await producer.send(TOPIC, pack, partition=partition)
            n += 1
        await producer.flush()
    return n


def main() -> int:
    """Load the topic."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("bootstrap")
    parser.add_argument("events", type=Path, help="the peers' events.jsonl")
    options = parser.parse_args()
    print(f"{asyncio.run(load(options.bootstrap, options.events))} packs", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
