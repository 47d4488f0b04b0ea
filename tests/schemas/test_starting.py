"""A start that is cancelled at any moment leaves no connection behind."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from schemas.starting import start

CLIENTS: dict[str, Callable[..., Any]] = {
    "producer": AIOKafkaProducer,
    "transactional": lambda **kafka: AIOKafkaProducer(**kafka, transactional_id="t-starting"),
    "consumer": AIOKafkaConsumer,
}


class Slow:
    """A client whose broker never answers; its own clean-up is seen."""

    def __init__(self) -> None:
        self.ended = False

    async def start(self) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            self.ended = True


@pytest.mark.integration
@pytest.mark.parametrize("kind", sorted(CLIENTS))
def test_cancelled_start_closes_all_connections(
    broker: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """aiokafka's own start loses one when it is cancelled 2 to 3 ms after it began."""
    left: list[str] = []
    monkeypatch.setattr("sys.unraisablehook", lambda what: left.append(str(what.exc_value)))

    async def once(after_s: float) -> None:
        client = CLIENTS[kind](bootstrap_servers=broker)
        starting = asyncio.ensure_future(start(client))
        await asyncio.sleep(after_s)
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        await client.stop()

    for step in range(20):
        asyncio.run(once(step * 0.0005))
        gc.collect()
        assert not left, f"cancelled after {step * 0.5} ms"


def test_cancelled_start_does_not_wait_for_a_silent_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("schemas.starting._PATIENCE_S", 0.01)

    async def main() -> None:
        client = Slow()
        starting = asyncio.ensure_future(start(client))
        await asyncio.sleep(0)
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        assert starting.cancelled()
        assert client.ended

    asyncio.run(main())
