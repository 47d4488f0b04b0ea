"""Start a Kafka client so that a cancellation leaves nothing open."""

from __future__ import annotations

import asyncio
from typing import Any

_PATIENCE_S = 1.0
"""How long a cancelled start may go on; a broker that answers at all does so within."""


async def start(client: Any) -> None:
    """Start an aiokafka client (producer, consumer or admin client); the caller stops it.

    aiokafka 0.14 loses the connection over which it asks for the cluster's layout if its start is
    cancelled while it waits for the answer; a stop then closes all but that one. A start is
    therefore let finish before the cancellation goes on.

    Raises:
        CancelledError: the caller was cancelled; the client may have started.
        KafkaError: no broker answers or lets us in.
    """
    starting = asyncio.ensure_future(client.start())
    try:
        await asyncio.shield(starting)
    except asyncio.CancelledError:
        await asyncio.wait([starting], timeout=_PATIENCE_S)
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        raise
