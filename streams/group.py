"""A member of a consumer group that keeps its offsets itself, beside what it wrote.

Kafka shares the partitions out and no more: where each one is read on is said by its keeper, whose
files or tables own the offset.
"""

from __future__ import annotations

from typing import Any, Generic, Protocol, TypeVar

import msgspec
import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition

from schemas.kafka import KafkaSettings
from schemas.starting import start
from schemas.topics import Topics

_log = structlog.get_logger(__name__)
S = TypeVar("S")
S_co = TypeVar("S_co", covariant=True)

_MARKS = 2
"""Offsets that the marks of one committed and one aborted transaction take up between records."""


class GroupSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How a group's member reads; the settings of a keeper add what it writes."""

    group: str
    """Members of one group share the partitions."""
    session_timeout_ms: int = 10_000
    """After this long without a sign of life a dead member's partitions move to another."""
    max_records: int = 200
    """Packs taken at once."""
    fetch_bytes: int = 4_000_000
    """What is fetched ahead, a partition."""
    fetch_min_bytes: int = 500_000
    fetch_wait_ms: int = 300
    """The broker waits for so much or so long: windows and rows are counted in seconds anyway."""


class Keeper(Protocol[S_co]):
    """Whoever keeps the offsets of the partitions."""

    async def open_partition(self, partition: int) -> tuple[S_co, int]:
        """Return the keeper's state of a partition, and the offset to read on from."""

    def lost(self, where: str, partition: int, wanted: int, begin: int) -> Exception:
        """Return what to raise when the log has lost what was not read yet."""

    def ahead(self, where: str, wanted: int, end: int) -> Exception:
        """Return what to raise when the keeper is further than the log: it is of another one."""


class Part(Generic[S]):
    """One partition that this member owns."""

    def __init__(self, tp: TopicPartition) -> None:
        self.tp = tp
        self.next_offset = 0
        self.state: S | None = None
        """None until the keeper has opened it."""
        self.proven = False
        """Whether the consumer stands where the keeper says; see `GroupReader._accept`."""
        self.asked: tuple[int, int] | None = None


class GroupReader(ConsumerRebalanceListener, Generic[S]):  # type: ignore[misc]
    """Reads its share of `experiences`: committed records only, in order and without holes."""

    def __init__(
        self, kafka: KafkaSettings, topics: Topics, settings: GroupSettings, keeper: Keeper[S]
    ) -> None:
        self.parts: dict[int, Part[S]] = {}
        self._topic = topics.experiences
        self._settings = settings
        self._keeper = keeper
        self._consumer = AIOKafkaConsumer(
            **kafka.client(),
            client_id=f"grindstone-{settings.group}",
            group_id=f"{topics.prefix}{settings.group}",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            session_timeout_ms=settings.session_timeout_ms,
            heartbeat_interval_ms=max(settings.session_timeout_ms // 5, 100),
            max_partition_fetch_bytes=settings.fetch_bytes,
            fetch_min_bytes=settings.fetch_min_bytes,
            fetch_max_wait_ms=settings.fetch_wait_ms,
        )

    async def start(self) -> None:
        """Join the group."""
        self._consumer.subscribe([self._topic], listener=self)
        await start(self._consumer)

    async def stop(self) -> None:
        """Leave it."""
        await self._consumer.stop()

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        """Nothing to do: what is half done will be done again by the next owner, alike."""

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        """Take the share; aiokafka forgets positions in every rebalance, so all are sought anew."""
        before = self.parts
        self.parts = {tp.partition: before.get(tp.partition) or Part(tp) for tp in assigned}
        for part in self.parts.values():
            part.proven, part.asked = False, None
            if part.state is not None:
                self._consumer.seek(part.tp, part.next_offset)
        _log.info("group.assigned", topic=self._topic, partitions=sorted(self.parts))

    def forget(self) -> None:
        """Let the keeper say again where each partition is read on."""
        for part in self.parts.values():
            part.state = None

    async def take(self) -> list[tuple[Part[S], list[Any]]]:
        """Return what has come: records of some partitions, those behind the keeper's offset.

        The caller sets `Part.next_offset` as it takes them.

        Raises:
            Exception: what the keeper says, when it and the log contradict each other.
        """
        for part in list(self.parts.values()):
            if part.state is None:
                part.state, part.next_offset = await self._keeper.open_partition(part.tp.partition)
                part.proven, part.asked = False, None
                if self.parts.get(part.tp.partition) is part:  # no rebalance in between
                    self._consumer.seek(part.tp, part.next_offset)
        fetched = await self._consumer.getmany(
            timeout_ms=200, max_records=self._settings.max_records
        )
        taken = []
        for tp, records in fetched.items():
            mine = self.parts.get(tp.partition)
            if mine is None or mine.state is None:
                continue
            if await self._accept(mine, records[0].offset):
                fresh = [r for r in records if r.offset >= mine.next_offset and r.value is not None]
                taken.append((mine, fresh))
        return taken

    async def lag(self) -> int:
        """Return the offsets between what is read and what is committed, all partitions."""
        lag = 0
        for part in self.parts.values():
            end = self._consumer.last_stable_offset(part.tp) or 0
            read = part.next_offset
            if part.state is not None:  # it has been sought
                # The position passes the marks that end transactions, which hold no rows.
                read = max(read, await self._consumer.position(part.tp))
            lag += max(end - read, 0)
        return lag

    async def _accept(self, part: Part[S], first: int) -> bool:
        """Whether records that begin at `first` follow what was read.

        Offsets have holes where transactions end. But after a rebalance a hole may also mean that
        the records were fetched before the seek: ask once more, the same answer is a true one.
        """
        wanted = part.next_offset
        if first == wanted or (part.proven and 0 < first - wanted <= _MARKS):
            part.proven = True
            return True
        if not part.proven and part.asked != (wanted, first):
            part.asked = (wanted, first)
            self._consumer.seek(part.tp, wanted)
            return False
        await self._check_kept(part.tp, wanted)
        part.proven = True
        return True

    async def _check_kept(self, tp: TopicPartition, wanted: int) -> None:
        """Make sure that the log still has what is wanted, and is the log that was read before."""
        begin: int = (await self._consumer.beginning_offsets([tp]))[tp]
        end: int = (await self._consumer.end_offsets([tp]))[tp]
        where = f"{tp.topic} partition {tp.partition}"
        if 0 < wanted < begin:
            raise self._keeper.lost(where, tp.partition, wanted, begin)
        if wanted > end:
            raise self._keeper.ahead(where, wanted, end)
