"""What the engine holds for one partition of the source."""

from __future__ import annotations

import asyncio
from collections import deque

from aiokafka import TopicPartition

from streams.engine.commit import Committer
from streams.engine.pace import Pace
from streams.engine.records import Batch, PartitionFold, Record
from streams.engine.source import Cursor
from streams.engine.table import StateTable


class Part:
    """One owned partition: its table, producer, place in the source and work in hand."""

    def __init__(
        self, topic: str, partition: int, batches_out: int, pace: Pace | None = None
    ) -> None:
        self.partition = partition
        self.tp = TopicPartition(topic, partition)
        self.table = StateTable()
        self.fold: PartitionFold | None = None
        self.committer: Committer | None = None
        self.cursor = Cursor(0)
        self.pace = pace or Pace(8_000_000, 10_000)
        self.committed = -1
        """Last source offset that is durable."""
        self.live = True
        """False: the partition belongs to another worker now."""
        self.ready = False
        """Records may be taken: recovered, assigned, and no rebalance under way."""
        self.rest: list[Record] = []
        """Accepted records that did not fit into the batch before."""
        self.pending: deque[Batch] = deque()
        """Batches on the way to the fold."""
        self.in_flight = 0
        """Batches folded and not yet committed."""
        self.idle = asyncio.Event()
        """Set while nothing is in flight."""
        self.room = asyncio.Event()
        """Set while one more batch may be taken."""
        self.tail: asyncio.Task[None] | None = None
        """The latest commit; the next one waits for it."""
        self.recovering: asyncio.Task[None] | None = None
        self.feeding: asyncio.Task[None] | None = None
        self.recovered_records = 0
        self._batches_out = batches_out
        self.idle.set()

    def go(self) -> int:
        """Allow batches and return the source offset to seek to."""
        self.quiesce()
        self.cursor = Cursor(self.table.last + 1)
        self.ready = True
        self.update()
        return self.cursor.want

    def quiesce(self) -> None:
        """Take no more records, and give up those that are not folded yet."""
        self.ready = False
        for batch in self.pending:
            batch.cancelled = True
        self.pending.clear()
        self.rest = []
        self.update()

    def update(self) -> None:
        """Set the events to what the counts say."""
        if self.ready and len(self.pending) + self.in_flight < self._batches_out:
            self.room.set()
        else:
            self.room.clear()
        if self.in_flight:
            self.idle.clear()
        else:
            self.idle.set()

    @property
    def position(self) -> int:
        """The source offset before which everything is durable."""
        if self.ready and not (self.pending or self.in_flight or self.rest):
            return self.cursor.want  # may stand behind transaction markers
        return self.committed + 1
