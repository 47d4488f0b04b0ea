"""Reads what the workers left in the topics and compares it with what the input says."""

from __future__ import annotations

import struct
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition

from streams.engine import OFFSET_KEY
from tests.torture.counting import ANSWER, STATE, settings


class Verdict(msgspec.Struct, kw_only=True):
    """What went wrong; all but `inputs` and `answers` must be 0."""

    inputs: int
    answers: int
    missing: int
    doubled: int
    wrong_counts: int
    state_regressions: int
    offset_regressions: int
    wrong_states: int

    @property
    def clean(self) -> bool:
        """Whether every input was answered once, with the right count, and no state went back."""
        return self.inputs == self.answers and not any(
            (
                self.missing,
                self.doubled,
                self.wrong_counts,
                self.state_regressions,
                self.offset_regressions,
                self.wrong_states,
            )
        )


async def read_committed(bootstrap: str, topic: str, partitions: int) -> list[Any]:
    """Return every committed record of a topic, each partition in order."""
    tps = [TopicPartition(topic, p) for p in range(partitions)]
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=4 << 20,
    )
    await consumer.start()
    try:
        consumer.assign(tps)
        ends = await consumer.end_offsets(tps)
        for tp, start in (await consumer.beginning_offsets(tps)).items():
            consumer.seek(tp, start)
        records: list[Any] = []
        while True:
            left = [tp for tp in tps if await consumer.position(tp) < ends[tp]]
            if not left:
                return records
            got = await consumer.getmany(*left, timeout_ms=200, max_records=20_000)
            for some in got.values():
                records += some
    finally:
        await consumer.stop()


async def judge(bootstrap: str, prefix: str, partitions: int) -> Verdict:
    """Refold the input and compare."""
    app = settings(prefix)
    inputs = await read_committed(bootstrap, app.source, partitions)
    answers = await read_committed(bootstrap, app.outputs[0], partitions)
    changelog = await read_committed(bootstrap, app.changelog, partitions)
    truth: dict[tuple[int, int], int] = {}
    counts: Counter[bytes] = Counter()
    for record in inputs:
        counts[record.key] += 1
        truth[record.partition, record.offset] = counts[record.key]
    got: dict[tuple[int, int], list[int]] = defaultdict(list)
    for record in answers:
        partition, offset, n, _pid = ANSWER.unpack(record.value)
        got[partition, offset].append(n)
    states, state_regressions, offset_regressions = _replay(changelog)
    return Verdict(
        inputs=len(inputs),
        answers=len(answers),
        missing=len(truth.keys() - got.keys()),
        doubled=sum(len(ns) - 1 for ns in got.values()) + len(got.keys() - truth.keys()),
        wrong_counts=sum(any(n != truth.get(at) for n in ns) for at, ns in got.items()),
        state_regressions=state_regressions,
        offset_regressions=offset_regressions,
        wrong_states=sum(states.get(key) != n for key, n in counts.items()),
    )


def _replay(changelog: Iterable[Any]) -> tuple[dict[bytes, int], int, int]:
    """Return the last count of each key, and how often a state or an offset went back."""
    counts: dict[bytes, int] = {}
    seen: dict[bytes, int] = {}
    offsets: dict[int, int] = {}
    state_regressions = offset_regressions = 0
    for record in changelog:
        if record.key == OFFSET_KEY:
            (offset,) = struct.unpack("<q", record.value)
            offset_regressions += offset <= offsets.get(record.partition, -1)
            offsets[record.partition] = offset
            continue
        n, offset, _pid = STATE.unpack(record.value)
        state_regressions += offset <= seen.get(record.key, -1)
        seen[record.key], counts[record.key] = offset, n
    return counts, state_regressions, offset_regressions
