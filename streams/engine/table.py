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
from streams.engine.lean import Lean
from streams.engine.records import OFFSET_KEY, Table
from streams.engine.settings import EngineError, EngineSettings

_OFFSET = struct.Struct("<q")
_RECOVER_RECORDS = 20_000
"""Read between two turns of the event loop: some 20 ms, so heartbeats go on."""


def pack_offset(offset: int) -> bytes:
    """Return the changelog value that says which source offset the states include."""
    return _OFFSET.pack(offset)


class StateTable:
    """Encoded states by key, and the last source offset that they include."""

    __slots__ = ("_states", "last", "view")

    def __init__(self) -> None:
        self._states: dict[bytes, bytes] = {}
        self.view: Table = MappingProxyType(self._states)
        """What the fold sees."""
        self.last = -1
        """Last source offset folded; -1 before the first."""

    def apply(self, states: Mapping[bytes, bytes | None]) -> None:
        """Take over the changes of one batch."""
        table = self._states
        for key, value in states.items():
            if value is None:
                table.pop(key, None)
            else:
                table[key] = value

    def load(self, records: Iterable[Any]) -> None:
        """Take over changelog records in order; see `take`."""
        for record in records:
            self.take(None, record)

    def take(self, tp: object, record: Any) -> None:
        """Take over a changelog record; a million take about two seconds, reading and all.

        Raises:
            EngineError: it is none that the engine wrote.
        """
        key, value = record.key, record.value
        if key == OFFSET_KEY:
            if value is None or len(value) != _OFFSET.size:
                msg = f"the changelog's offset must be 8 bytes; got {value!r}"
                raise EngineError(msg)
            self.last = _OFFSET.unpack(value)[0]
        elif key is None:
            msg = f"the changelog must hold keys; got none at offset {record.offset}"
            raise EngineError(msg)
        elif value is None:
            self._states.pop(key, None)
        else:
            self._states[key] = value


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
            max_partition_fetch_bytes=8 << 20,
            fetch_max_bytes=64 << 20,
            request_timeout_ms=self._settings.request_timeout_ms,
            key_deserializer=Lean(table.take),
        )
        started = time.monotonic()
        try:
            await start(consumer)
            await self._read(consumer)
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
            got = await consumer.getmany(tp, timeout_ms=200, max_records=_RECOVER_RECORDS)
            for records in got.values():  # the table has taken them
                self.records += len(records)
            await asyncio.sleep(0)
