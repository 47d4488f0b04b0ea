"""What `models` already says of a model, so that a version is announced once."""

from __future__ import annotations

import time
from collections.abc import Collection

import msgspec
from aiokafka import AIOKafkaConsumer

from schemas.kafka import KafkaSettings
from schemas.model_events import Champion, Registered, decode_model_event
from schemas.starting import start

READ_S = 10.0
"""A read that takes longer is given up: readers of `models` take a repeated version as one."""


class History(msgspec.Struct):
    """What `models` says of some models."""

    registered: dict[str, str] = {}
    """``model@version`` -> SHA-256 of its ONNX file."""
    champions: dict[str, str] = {}
    """Model -> version of its champion."""


async def history_of(kafka: KafkaSettings, topic: str, models: Collection[str]) -> History:
    """Return what was said of models so far."""
    consumer = AIOKafkaConsumer(
        topic, **kafka.client(), group_id=None, isolation_level="read_committed",
        auto_offset_reset="earliest", enable_auto_commit=False,
    )  # fmt: skip
    found = History()
    try:
        await start(consumer)
        ends = await consumer.end_offsets(consumer.assignment())
        deadline = time.monotonic() + READ_S
        while time.monotonic() < deadline:
            if all([await consumer.position(p) >= end for p, end in ends.items()]):
                break
            for records in (await consumer.getmany(timeout_ms=200)).values():
                for record in records:
                    _note(found, record.value, models)
    finally:
        await consumer.stop()
    return found


def _note(found: History, value: bytes, models: Collection[str]) -> None:
    try:
        event = decode_model_event(value)
    except msgspec.MsgspecError:
        return  # not ours to judge: the release fold dead-letters it
    if event.model not in models:
        return
    if isinstance(event, Registered):
        found.registered[f"{event.model}@{event.version}"] = digest_of(event)
    elif isinstance(event, Champion):
        found.champions[event.model] = event.version


def digest_of(event: Registered) -> str:
    """Return the SHA-256 of a version's ONNX file."""
    return next((file.sha256 for file in event.files if file.path.endswith(".onnx")), "")
