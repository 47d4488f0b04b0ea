"""Faust around the engine: app, agent on a channel of batches, service, worker.

Faust's own consumer, producer and tables stay off (they lose inputs in a rebalance); its agents
stay the place where rules meet the stream.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterable, Callable
from typing import Any

import faust
import faust.app.base

from schemas.kafka import KafkaSettings
from streams.engine.engine import PartitionEngine
from streams.engine.fatal import die
from streams.engine.records import Batch, FoldFactory
from streams.engine.serve import stop_signals
from streams.engine.settings import EngineSettings
from streams.engine.stats import EngineStats

OnStats = Callable[[EngineStats], None]


class _Boot(faust.app.base.BootStrategy):
    enable_kafka = False


class FoldApp(faust.App):
    """A Faust app whose log path is the partition engine."""

    BootStrategy = _Boot
    engine: PartitionEngine
    batches: Any

    def _create_directories(self) -> None:
        """Nothing is kept on disk, so no ``{app}-data`` folder appears where a worker starts."""


class _Worker(faust.Worker):
    """A worker inside a running loop; titles, logs and output streams stay as they are."""

    def _setproctitle(self, info: str, *, ident: str = "") -> None:
        """Leave the process its command line, by which people find it."""

    def install_signal_handlers(self) -> None:
        """`run_worker` has its own, which wait until the stop is complete."""


def build_app(
    settings: EngineSettings,
    kafka: KafkaSettings,
    make_fold: FoldFactory,
    *,
    on_stats: OnStats | None = None,
) -> FoldApp:
    """Return an app with one agent, which hands each batch to the engine. Needs a running loop."""
    app = FoldApp(
        settings.app,
        broker=f"kafka://{kafka.bootstrap_servers}",
        store="memory://",
        web_enabled=False,
        topic_disable_leader=True,
        topic_allow_declare=False,
        autodiscover=False,
    )
    app.batches = app.channel(maxsize=settings.channel_batches)
    app.engine = PartitionEngine(
        settings, kafka, make_fold, deliver=app.batches.put, on_stats=on_stats
    )

    @app.agent(app.batches, name=settings.app)
    async def fold(batches: AsyncIterable[Batch]) -> None:
        async for batch in batches:
            await app.engine.process(batch)

    app.service(_service(app))
    return app


def _service(app: FoldApp) -> type[faust.Service]:
    class Source(faust.Service):
        """Starts, keeps and stops the engine with the app."""

        async def on_start(self) -> None:
            app.flow_control.resume()  # Faust's consumer would; without it no batch is delivered

        @faust.Service.task
        async def pump(self) -> None:
            try:
                await app.engine.start()  # in a task, so that a stop need not wait for a broker
            except Exception as error:
                die(f"{app.engine.settings.app} could not start", error)
            await app.engine.pump()

        async def on_stop(self) -> None:
            await app.engine.stop()

    return Source


async def run_worker(app: FoldApp) -> None:
    """Run a Faust worker for the app until SIGTERM or SIGINT, then stop it cleanly."""
    loop = asyncio.get_running_loop()
    worker = _Worker(
        app, loop=loop, override_logging=False, redirect_stdouts=False, quiet=True, daemon=True
    )
    worker.spinner = None
    gc.freeze()  # what was imported stays: to look through it again and again cost 7 % of a batch
    with stop_signals() as stop:
        running = loop.create_task(worker.start())
        asked = loop.create_task(stop.wait())
        await asyncio.wait((running, asked), return_when=asyncio.FIRST_COMPLETED)
        asked.cancel()
        await worker.stop()
        await running


def run_fold_worker(
    name: str,
    settings: EngineSettings,
    kafka: KafkaSettings,
    make_fold: FoldFactory,
    on_stats: OnStats | None = None,
) -> None:
    """Run a fold as a Faust worker in this process; returns after a clean stop.

    Args:
        name: what the process does, for its log.
        settings: the engine application.
        kafka: the brokers.
        make_fold: the rule of a partition.
        on_stats: called about once a second.

    A failure ends the process with one line on stderr: exit 75 when another worker has taken a
    partition over, 76 for all else.
    """

    async def main() -> None:
        await run_worker(build_app(settings, kafka, make_fold, on_stats=on_stats))

    asyncio.run(main())
