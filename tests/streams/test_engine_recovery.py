"""A recovery takes from the changelog what was committed, and nothing else."""

from __future__ import annotations

import asyncio

import pytest
from aiokafka import AIOKafkaProducer

from streams.engine import OFFSET_KEY
from streams.engine.table import Recovery, pack_offset
from tests.streams.enginekit import app_settings, make_topics

pytestmark = pytest.mark.integration


def test_recovery_takes_only_what_was_committed(broker: str, topics_prefix: str) -> None:
    """Every second transaction is aborted; each makes a batch of data and one of markers."""

    async def main() -> None:
        app = app_settings(topics_prefix)
        kafka = await make_topics(broker, app)
        async with AIOKafkaProducer(
            bootstrap_servers=broker, transactional_id=f"{topics_prefix}writer"
        ) as producer:
            for i in range(20):
                await producer.begin_transaction()
                for key, value in (
                    (b"k%d" % (i // 2 % 5), b"%d" % i),
                    (b"gone", None if i == 18 else b"x"),
                    (OFFSET_KEY, pack_offset(i)),
                ):
                    await producer.send(app.changelog, value, key=key, partition=1)
                await (producer.abort_transaction if i % 2 else producer.commit_transaction)()
        recovery = Recovery(kafka, app, 1)
        table = await recovery.run()
        assert dict(table.view) == {b"k%d" % k: b"%d" % (10 + 2 * k) for k in range(5)}
        assert table.last == 18
        assert recovery.records == 30

        empty = await Recovery(kafka, app, 0).run()
        assert (len(empty.view), empty.last) == (0, -1)

    asyncio.run(main())
