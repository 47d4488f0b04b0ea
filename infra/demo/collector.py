"""Follows the topics of a run and keeps its `Facts` up to date, at little cost."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import msgspec
from aiokafka.errors import KafkaError
from aiokafka.structs import ConsumerRecord

from infra import logs
from infra.demo.facts import Facts
from infra.ledger import read_tails
from infra.reading import Look
from infra.settings import Settings
from infra.status import group_lags
from infra.usage import sessions_usage
from schemas.codec import decode_record
from schemas.events import Decision
from schemas.model_events import decode_model_event
from schemas.records import decode_metric, decode_window

log = logs.get(__name__)

SAMPLE_S = 1.5
USAGE_EVERY = 3
"""Samples between two looks at memory and time: the kernel walks every mapping for it."""
FIRST_RECORDS = 200
LATENCY_ROWS = 40
"""Experiences a partition whose latency one sample takes."""


class Collector:
    """Two tasks: one follows the small topics, one samples the large ones at their ends."""

    def __init__(
        self,
        settings: Settings,
        facts: Facts,
        began_ms: float,
        leaders: Callable[[], dict[int, str]],
    ) -> None:
        self._settings = settings
        self._facts = facts
        self._began_ms = began_ms
        self._leaders = leaders
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begins to collect."""
        self._tasks = [
            asyncio.create_task(self._again(self._follow), name="follow"),
            asyncio.create_task(self._again(self._sample_for_ever), name="sample"),
        ]

    async def stop(self) -> None:
        """Ends both tasks."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _again(self, work: Callable[[], Awaitable[None]]) -> None:
        """Runs `work` again when it fails: a broker may be away for a while."""
        while True:
            try:
                await work()
            except KafkaError as error:
                log.warning("the view lost Kafka", error=str(error))
            except Exception as error:  # a run does not end because nobody sees it
                log.exception("the view failed")
                self._facts.notes.append(f"the view failed: {error!r}")
            await asyncio.sleep(1.0)

    async def _follow(self) -> None:
        names = self._settings.topics
        followed = (names.models, names.replay_windows, names.metrics, names.dead_letters)
        self._facts.dead_letters = 0
        async with Look(self._settings.kafka, "grindstone-view") as look:
            async for record in look.follow(*followed):
                try:
                    self._take(record)
                except msgspec.MsgspecError as error:  # whoever acts on it says what is wrong
                    log.warning("passed over", topic=record.topic, error=str(error))

    def _take(self, record: ConsumerRecord) -> None:
        facts, names = self._facts, self._settings.topics
        seconds = (record.timestamp - self._began_ms) / 1000
        if record.topic == names.models:
            facts.on_model(decode_model_event(record.value or b""), seconds)
        elif record.topic == names.replay_windows:
            facts.on_window(decode_window(record.value or b""))
        elif record.topic == names.dead_letters:
            facts.dead_letters += 1
        else:
            facts.on_metric(decode_metric(record.value or b""), seconds)

    async def _sample_for_ever(self) -> None:
        async with Look(self._settings.kafka, "grindstone-view-sample") as look:
            n = 0
            while True:
                await self.sample(look)
                if n % USAGE_EVERY == 0:
                    self.sample_usage()
                n += 1
                await asyncio.sleep(SAMPLE_S)

    async def sample(self, look: Look) -> None:
        """One look at the ends of the large topics and at the groups."""
        facts, names = self._facts, self._settings.topics
        seconds = time.time() - self._began_ms / 1000
        for tail in (await read_tails(look, names.experiences)).values():
            if tail.mark is not None:
                facts.on_watermark(tail.mark, seconds)
            for row, appended_ms in tail.rows[-LATENCY_ROWS:]:
                facts.on_latency(row, appended_ms)
        facts.lag = await group_lags(self._settings, look)
        if facts.first_decision_s is None and facts.decisions:
            await self._find_first_decision(look)

    async def _find_first_decision(self, look: Look) -> None:
        """The first decision stands among the first records, between ticks."""
        topic = self._settings.topics.game_events
        ends = {p: min(end, FIRST_RECORDS) for p, end in (await look.ends(topic)).items() if end}
        async for record in look.read(topic, dict.fromkeys(ends, 0), ends):
            for event in decode_record(record.value):
                if isinstance(event, Decision):
                    seconds = (event.event_time_ms - self._began_ms) / 1000
                    held = self._facts.first_decision_s
                    self._facts.first_decision_s = min(seconds, held or seconds)

    def sample_usage(self) -> None:
        """Memory and processor time of every process of the run."""
        facts, leaders = self._facts, self._leaders()
        usage = sessions_usage(leaders)
        facts.memory_bytes = sum(used.memory_bytes for used in usage.values())
        facts.memory_peak_bytes = max(facts.memory_peak_bytes, facts.memory_bytes)
        for pid, name in leaders.items():
            facts.cpu[name, pid] = usage[name].cpu_s
