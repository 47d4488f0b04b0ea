"""What the tests of writer, archiver, reader and verification share: a toy game and its rows."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import msgspec
from aiokafka import AIOKafkaProducer

from schemas.codec import BadEvent, decode_record
from schemas.events import Decision, Event, Outcome, Tick
from schemas.game import Game, parse_game
from schemas.kafka import KafkaSettings
from schemas.records import (
    DeadLetter,
    Experience,
    Origin,
    Row,
    Watermark,
    WindowRule,
    encode_dead_letter,
    encode_rows,
)
from schemas.topics import Topics
from streams.admin import ensure_topics
from streams.engine import Effects, Output, PartitionFold, Record, Table

N_FLOATS, N_ACTIONS = 4, 3


def toy_game(max_rows: int = 50, max_span_ms: int = 400) -> Game:
    """A game of two archetypes, four floats and three actions."""
    return parse_game(
        {
            "game": "toy",
            "observation": {"layout": "toy@1", "shape": [N_FLOATS]},
            "actions": {"names": ["a", "b", "c"]},
            "rewards": {"toy@1": {"weights": {"hit": 1.0}}},
            "domains": {"combat": {"reward": "toy@1"}},
            "archetypes": {"wolf": {"model": "wolf"}, "bear": {"model": "bear"}},
            "windows": {"max_rows": max_rows, "max_span_ms": max_span_ms},
        }
    )


def floats(seed: int) -> bytes:
    """An observation."""
    return struct.pack("<4f", *(seed % 7, seed % 5, seed, 0.5))


def decision(n: int, actor_id: str = "actor-0", **more: Any) -> Decision:
    """The decision number `n` of an actor."""
    fields: dict[str, Any] = {
        "decision_id": f"d{n}",
        "game": "toy",
        "world": "w0",
        "episode": "e0",
        "actor_id": actor_id,
        "archetype": "wolf",
        "domain": "combat",
        "event_time_ms": 1_000 + n,
        "step": n,
        "observation": floats(n),
        "action": n % N_ACTIONS,
        "propensity": 0.5,
        "policy_version": "scripted",
    }
    return Decision(**{**fields, **more})


def outcome(n: int, actor_id: str = "actor-0") -> Outcome:
    """What came of the decision number `n`."""
    return Outcome(
        decision_id=f"d{n}",
        game="toy",
        actor_id=actor_id,
        event_time_ms=1_000 + n,
        facts={"hit": float(n % 2)},
    )


def experience(origin: Origin, n: int = 0, archetype: str = "wolf", **more: Any) -> Experience:
    """A settled row."""
    fields: dict[str, Any] = {
        "decision_id": f"d{origin.partition}-{origin.offset}-{origin.index}",
        "origin": origin,
        "game": "toy",
        "world": "w0",
        "episode": "e0",
        "actor_id": f"actor-{n % 5}",
        "archetype": archetype,
        "domain": "combat",
        "step": n,
        "decision_time_ms": 1_000 + n,
        "settled_time_ms": 1_000 + n,
        "observation": floats(n),
        "legal": None if n % 3 else b"\1\0\1",
        "action": n % N_ACTIONS,
        "propensity": 0.5,
        "policy_version": f"v{n // 40}",
        "next_observation": None if n % 4 == 0 else floats(n + 1),
        "terminated": n % 4 == 0,
        "facts": {"b": 1.0, "a": float(n)} if n % 2 else None,
        "outcome_facts": {"hit": 1.0},
        "immediate": 0.25,
        "long_term": 0.0,
        "total": 0.25,
        "reward_version": "toy@1",
        "status": "observed",
    }
    return Experience(**{**fields, **more})


def watermark(origin: Origin, watermark_ms: int) -> Watermark:
    """An account of nothing, at a time."""
    return Watermark(
        origin=origin, watermark_ms=watermark_ms, n_decisions=0, n_settled=0, n_open=0, n_dead=0
    )


def rows_of_log(partition: int, n: int, tick_every: int = 10) -> list[Row]:
    """The first `n` rows of a partition: two archetypes, a watermark now and then."""
    rows: list[Row] = []
    for i in range(n):
        origin = Origin(partition, i // 3, i % 3)
        if i % tick_every == tick_every - 1:
            rows.append(watermark(origin, 1_000 + i))
        else:
            rows.append(experience(origin, i, "bear" if i % 4 == 1 else "wolf"))
    return rows


def rule_of(rule: WindowRule) -> Callable[[Experience], WindowRule | None]:
    """The same rule for every window."""
    return lambda _: rule


class ToyFold:
    """A fold as simple as one can be: an outcome settles its decision; a tick gives an account."""

    def __init__(self, partition: int, table: Table, topics: Topics) -> None:
        self._partition, self._table, self._topics = partition, table, topics

    def fold(self, records: Sequence[Record]) -> Effects:
        """Return experiences, watermarks and dead letters of these records."""
        changed: dict[bytes, bytes | None] = {}
        outputs: list[Output] = []
        for record in records:
            rows: list[Row] = []
            for index, event in enumerate(decode_record(record.value)):
                origin = Origin(self._partition, record.offset, index)
                if isinstance(event, BadEvent):
                    outputs.append(self._letter(record, event))
                    self._add(changed, "dead", 1)
                else:
                    rows += self._take(event, origin, changed)
            if rows:
                outputs.append(Output(self._topics.experiences, encode_rows(rows)))
        return Effects(outputs=outputs, states=changed)

    def _take(self, event: Event, origin: Origin, changed: dict[bytes, bytes | None]) -> list[Row]:
        if isinstance(event, Tick):
            n, done = self._count(changed, "all"), self._count(changed, "done")
            account = watermark(origin, event.event_time_ms or 1_000)
            fields = {"n_decisions": n, "n_settled": done, "n_open": n - done}
            return [msgspec.structs.replace(account, **fields)]
        key = getattr(event, "decision_id", "").encode()
        if isinstance(event, Decision):
            changed[key] = msgspec.msgpack.encode(event)
            self._add(changed, "all", 1)
        elif isinstance(event, Outcome):
            known = changed.get(key) or self._table[key]
            changed[key] = None
            self._add(changed, "done", 1)
            made = msgspec.msgpack.decode(known, type=Decision)
            fixed = {"decision_id": made.decision_id, "observation": made.observation}
            return [experience(origin, made.step, made.archetype, **fixed)]
        return []

    def _count(self, changed: Mapping[bytes, bytes | None], name: str) -> int:
        key = b"\0" + name.encode()
        return int(changed.get(key) or self._table.get(key) or b"0")

    def _add(self, changed: dict[bytes, bytes | None], name: str, n: int) -> None:
        changed[b"\0" + name.encode()] = str(self._count(changed, name) + n).encode()

    def _letter(self, record: Record, bad: BadEvent) -> Output:
        letter = DeadLetter(
            topic=self._topics.game_events,
            partition=self._partition,
            offset=record.offset,
            index=bad.index,
            reason=bad.reason,
            path=bad.path,
            time_ms=record.timestamp,
            raw=bad.raw,
            n_bytes=len(bad.raw),
        )
        return Output(self._topics.dead_letters, encode_dead_letter(letter), b"x", 0)


class MakeToyFold(msgspec.Struct, frozen=True):
    """Makes a `ToyFold`; pickles."""

    topics: Topics

    def __call__(self, partition: int, table: Table) -> PartitionFold:
        """Return the fold of a partition."""
        return ToyFold(partition, table, self.topics)


async def make_topics(
    bootstrap: str, prefix: str, partitions: int = 2
) -> tuple[KafkaSettings, Topics]:
    """Make the topics of one test."""
    kafka, topics = KafkaSettings(bootstrap_servers=bootstrap), Topics(prefix)
    await ensure_topics(kafka, topics.specs(partitions))
    return kafka, topics


async def write_rows(
    kafka: KafkaSettings, topics: Topics, partition: int, rows: Sequence[Row], pack: int = 7
) -> None:
    """Write rows as the engine does: packs in transactions, one of which is aborted."""
    producer = AIOKafkaProducer(**kafka.client(), transactional_id=f"{topics.prefix}{partition}")
    await producer.start()
    try:
        for i in range(0, len(rows), 3 * pack):
            await producer.begin_transaction()
            for j in range(i, min(i + 3 * pack, len(rows)), pack):
                value = encode_rows(list(rows[j : j + pack]))
                await producer.send_and_wait(topics.experiences, value, partition=partition)
            if i == 3 * pack:
                await producer.abort_transaction()
                await producer.begin_transaction()
                for j in range(i, min(i + 3 * pack, len(rows)), pack):
                    value = encode_rows(list(rows[j : j + pack]))
                    await producer.send_and_wait(topics.experiences, value, partition=partition)
            await producer.commit_transaction()
    finally:
        await producer.stop()


async def run_until(
    work: Callable[[asyncio.Event], Awaitable[object]],
    done: Callable[[], bool],
    limit_s: float = 60,
) -> None:
    """Run `work` and set its stop event when `done` says so."""
    stop = asyncio.Event()
    task = asyncio.ensure_future(work(stop))
    try:
        async with asyncio.timeout(limit_s):
            while not done() and not task.done():
                await asyncio.sleep(0.02)
    finally:
        stop.set()
        await task
