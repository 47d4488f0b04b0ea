"""A clock moved by hand, a follower fed by hand and a writer that keeps what it is given."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from games.champions import ModelRecord
from schemas.events import ActorEvent
from schemas.model_events import Champion, Registered
from schemas.records import Origin, WindowFile

MODEL = "battle-pack"


class ManualClock:
    """Time goes on by sleeping alone, and no real time passes in it."""

    def __init__(self) -> None:
        self.seconds = 1_000.0
        self.slept: list[float] = []

    def now_ms(self) -> int:
        return round(self.seconds * 1000)

    def monotonic(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.seconds += seconds
        await asyncio.sleep(0)


class KeepingWriter:
    def __init__(self, clock: ManualClock | None = None, takes_s: float = 0.0) -> None:
        self.events: list[ActorEvent] = []
        self._clock = clock
        self._takes_s = takes_s

    async def send(self, event: ActorEvent) -> None:
        self.events.append(event)
        if self._clock is not None:
            self._clock.seconds += self._takes_s


class FedFollower:
    """Yields what is put in; None raises an error, as a lost connection would."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[list[ModelRecord] | None] = asyncio.Queue()

    async def batches(self) -> AsyncIterator[list[ModelRecord]]:
        while True:
            records = await self.queue.get()
            if records is None:
                raise ConnectionError
            yield records


def champion(
    version: str,
    files: list[WindowFile],
    appended_ms: int = 0,
    model: str = MODEL,
    folder: str | None = None,
) -> ModelRecord:
    event = Champion(
        model=model,
        version=version,
        time_ms=appended_ms,
        origin=Origin(0, 0, 0),
        previous=None,
        reasons=[],
        folder=folder or f"{MODEL}/{version}",
        files=files,
        win_rate=0.5,
        lower95=0.4,
        n=200,
    )
    return ModelRecord(event, appended_ms)


def registered(version: str, files: list[WindowFile], model: str = MODEL) -> ModelRecord:
    event = Registered(
        model=model,
        version=version,
        time_ms=0,
        game="battle",
        archetype="fighter",
        algorithm="dqn",
        folder=f"{model}/{version}",
        files=files,
        source_offsets={},
        n_windows=0,
        last_window="",
        n_rows=0,
        n_updates=0,
        reward_versions=[],
        seed=0,
        settings={},
        settings_digest="",
        code_version="",
        metrics={},
    )
    return ModelRecord(event, 0)


def model_folder(models: Path, version: str) -> Path:
    return models / MODEL / version
