"""What `models` already says of a model, so that a version is announced once."""

from __future__ import annotations

import time

import msgspec
from aiokafka import AIOKafkaConsumer

from schemas.kafka import KafkaSettings
from schemas.model_events import Registered, decode_model_event
from schemas.starting import start

READ_S = 10.0
"""A read that takes longer is given up: readers of `models` take a repeated version as one."""


async def registered_versions(kafka: KafkaSettings, topic: str, model: str) -> dict[str, str]:
    """Return the versions of a model that were announced, each with its ONNX file's SHA-256."""
    consumer = AIOKafkaConsumer(
        topic, **kafka.client(), group_id=None, isolation_level="read_committed",
        auto_offset_reset="earliest", enable_auto_commit=False,
    )  # fmt: skip
    found: dict[str, str] = {}
    try:
        await start(consumer)
        ends = await consumer.end_offsets(consumer.assignment())
        deadline = time.monotonic() + READ_S
        while time.monotonic() < deadline:
            if all([await consumer.position(p) >= end for p, end in ends.items()]):
                break
            for records in (await consumer.getmany(timeout_ms=200)).values():
                for record in records:
                    found |= _registered(record.value, model)
    finally:
        await consumer.stop()
    return found


def _registered(value: bytes, model: str) -> dict[str, str]:
    try:
        event = decode_model_event(value)
    except msgspec.MsgspecError:
        return {}  # not ours to judge: the release fold dead-letters it
    if not isinstance(event, Registered) or event.model != model:
        return {}
    return {event.version: digest_of(event)}


def digest_of(event: Registered) -> str:
    """Return the SHA-256 of a version's ONNX file."""
    return next((file.sha256 for file in event.files if file.path.endswith(".onnx")), "")
