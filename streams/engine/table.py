"""A partition's states: a dict behind a compacted changelog, recovered in bulk."""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from schemas.kafka import KafkaSettings
from schemas.starting import start
from streams.engine.lean import Bulk
from streams.engine.records import OFFSET_KEY, Table
from streams.engine.settings import EngineError, EngineSettings

_OFFSET = struct.Struct("<q")
_FETCH_BYTES = 4 << 20
"""Read between two turns of the event loop: 50 ms for small states, so that heartbeats go on."""
_WAIT_MS = 20
"""A read returns after so long, for the consumer sees no records: they have gone to the table."""


def pack_offset(offset: int) -> bytes:
    """Return the changelog value that says which source offset the states include."""
    return _OFFSET.pack(offset)


class StateTable:
    """Encoded states by key, and the last source offset that they include."""

    __slots__ = ("_states", "last", "n_records", "view")

    def __init__(self) -> None:
        self._states: dict[bytes, bytes] = {}
        self.view: Table = MappingProxyType(self._states)
        """What the fold sees."""
        self.last = -1
        """Last source offset folded; -1 before the first."""
        self.n_records = 0
        """Changelog records taken over."""

    def apply(self, states: Mapping[bytes, bytes | None]) -> None:
        """Take over the changes of one batch."""
        table = self._states
        for key, value in states.items():
            if value is None:
                table.pop(key, None)
            else:
                table[key] = value

    def load(self, records: Iterable[Any]) -> None:
        """Take over changelog records in order; a million take 1.5 s, reading and all.

        Raises:
            EngineError: one is none that the engine wrote.
        """
        states, n = self._states, 0
        for record in records:
            n += 1
            key, value = record.key, record.value
            if key == OFFSET_KEY:
                self.last = _last_offset(value)
            elif key is None:
                msg = f"the changelog must hold keys; got none at offset {record.offset}"
                raise EngineError(msg)
            elif value is None:
                states.pop(key, None)
            else:
                states[key] = value
        self.n_records += n


def _last_offset(value: bytes | None) -> int:
    if value is None or len(value) != _OFFSET.size:
        msg = f"the changelog's offset must be 8 bytes; got {value!r}"
        raise EngineError(msg)
    last: int = _OFFSET.unpack(value)[0]
    return last


class Recovery:
    """Reads one changelog partition from its beginning to its committed end."""

    def __init__(self, kafka: KafkaSettings, settings: EngineSettings, partition: int) -> None:
        self._kafka = kafka
        self._settings = settings
        self._tp = TopicPartition(settings.changelog, partition)
        self.records = 0
        self.seconds = 0.0

    async def run(self) -> StateTable:
        """Return the table; the caller has fenced the previous owner before.

        Raises:
            EngineError: the changelog holds what no engine wrote.
        """
        table = StateTable()
        consumer = AIOKafkaConsumer(
            **self._kafka.client(),
            isolation_level="read_committed",
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            max_partition_fetch_bytes=_FETCH_BYTES,
            fetch_max_bytes=64 << 20,
            request_timeout_ms=self._settings.request_timeout_ms,
            key_deserializer=Bulk(table.load),
        )
        started = time.monotonic()
        try:
            await start(consumer)
            await self._read(consumer)
            self.records = table.n_records
        finally:
            await consumer.stop()
        self.seconds = time.monotonic() - started
        return table

    async def _read(self, consumer: Any) -> None:
        tp = self._tp
        consumer.assign([tp])
        end = (await consumer.end_offsets([tp]))[tp]
        consumer.seek(tp, (await consumer.beginning_offsets([tp]))[tp])
        while await consumer.position(tp) < end:
            await consumer.getmany(tp, timeout_ms=_WAIT_MS)  # the table takes what was fetched
            await asyncio.sleep(0)
