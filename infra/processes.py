"""What `grindstone run` starts: settings in, one process of the system out.

    python -m infra.processes NAME        (settings from the environment, as supervisors do it)

Each function imports its own part of the system, so that a game does not load torch.
"""

import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import msgspec

from infra import logs
from infra.code_version import code_version
from infra.errors import is_no_broker
from infra.memory import tune
from infra.settings import Settings, load
from infra.supervisor import EXIT_NO_BROKER, PARENT_VARIABLE, die_with_parent
from schemas.errors import SchemaError

if TYPE_CHECKING:
    from infra.metrics import MetricWriter
    from learners.process import LearnerConfig
    from streams.archiver.service import Archiver
    from streams.engine.records import FoldFactory
    from streams.engine.settings import EngineSettings
    from streams.engine.stats import EngineStats
    from streams.timescale.service import Sink

log = logs.get(__name__)

NICE = {"archiver": 5, "sink": 5, "evaluator": 5, "learner": 10}
"""Learning takes what is left of the machine, so that deciding and rewarding stay prompt; a window
or a verdict may come a little later."""

KEEP_MEMORY = {"archiver", "sink"}
"""They work on one window after the other."""

CONNECT_S = 3.0
REPORT_S = 1.0


class UnknownProcess(Exception):
    """There is no process of that name."""


def run(name: str, settings: Settings) -> int:
    """Runs one process until it is asked to stop; returns its exit code."""
    die_with_parent()
    logs.configure(name, settings.log_level)
    if name not in PROCESSES:
        msg = f"process must be one of {', '.join(PROCESSES)}; got {name!r}"
        raise UnknownProcess(msg)
    if not broker_listens(settings):
        log.warning("no broker answers", bootstrap=settings.kafka.bootstrap_servers)
        return EXIT_NO_BROKER
    if PARENT_VARIABLE not in os.environ:  # a supervisor has made them before it starts anything
        asyncio.run(ensure_topics(settings))
    os.nice(NICE.get(name, 0))
    tune(keep=name in KEEP_MEMORY)
    log.info("starts")
    try:
        PROCESSES[name](settings)
    except Exception as error:
        if not is_no_broker(error):
            raise
        log.warning("the broker cannot be reached", error=str(error))
        return EXIT_NO_BROKER
    log.info("stopped")
    return 0


def broker_listens(settings: Settings) -> bool:
    """Whether one of the bootstrap servers takes a connection."""
    for address in settings.kafka.bootstrap_servers.split(","):
        host, _, port = address.strip().rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), CONNECT_S).close()
        except OSError:
            continue
        return True
    return False


async def ensure_topics(settings: Settings) -> None:
    """Makes the topics that are absent."""
    from streams.admin import ensure_topics as ensure

    await ensure(settings.kafka, settings.topics.specs(settings.partitions))


def _until_stopped(work: Callable[[asyncio.Event], Awaitable[object]]) -> None:
    """Runs `work` with an event that SIGTERM or SIGINT sets."""

    async def main() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await work(stop)

    asyncio.run(main())


@asynccontextmanager
async def _metrics(settings: Settings, process: str) -> AsyncIterator["MetricWriter"]:
    from infra.metrics import MetricWriter

    metrics = MetricWriter(settings.kafka, settings.topics, process)
    try:
        yield metrics
    finally:
        await metrics.close()


def _ticker(settings: Settings) -> None:
    from streams.ticker import TickerSettings, run_ticker

    tick = TickerSettings(tick_ms=settings.load_game().time.tick_ms)

    async def work(stop: asyncio.Event) -> None:
        await run_ticker(
            settings.kafka,
            settings.topics,
            tick,
            now_ms=lambda: time.time_ns() // 1_000_000,
            stop=stop,
        )

    _until_stopped(work)


def _archiver(settings: Settings) -> None:
    from streams.archiver.service import Archiver, ArchiverSettings

    game = settings.load_game()
    settings.windows_dir.mkdir(parents=True, exist_ok=True)
    archiver = Archiver(
        ArchiverSettings(archive_url=str(settings.windows_dir.resolve())),
        settings.kafka,
        settings.topics,
        {game.name: game},
    )
    _keep(settings, "archiver", archiver)


def _sink(settings: Settings) -> None:
    from streams.timescale.service import Sink, SinkSettings

    sink = Sink(SinkSettings(database=settings.timescale), settings.kafka, settings.topics)
    _keep(settings, "sink", sink)


def _keep(settings: Settings, name: str, keeper: "Archiver | Sink") -> None:
    """Run what stores experience, and say now and then how far it is."""

    async def report(metrics: "MetricWriter") -> None:
        while True:
            await asyncio.sleep(REPORT_S)
            stats = msgspec.structs.asdict(keeper.stats)
            metrics.offer({what: float(n) for what, n in stats.items() if n is not None})

    async def work(stop: asyncio.Event) -> None:
        async with _metrics(settings, name) as metrics:
            reporting = asyncio.create_task(report(metrics))
            try:
                await keeper.run(stop)
            finally:
                reporting.cancel()

    _until_stopped(work)


def _supervised(engine: "EngineSettings") -> "EngineSettings":
    """Under a supervisor there is one worker of a kind: its successor takes its place at once."""
    if PARENT_VARIABLE not in os.environ:
        return engine
    return msgspec.structs.replace(engine, instance_id=f"{engine.app}-supervised")


def _fold_worker(
    settings: Settings, app: str, engine: "EngineSettings", make: "FoldFactory"
) -> None:
    """Runs a fold as a Faust worker until it is told to stop."""
    from streams.faust_app import build_app, run_worker

    async def work() -> None:
        async with _metrics(settings, app) as metrics:

            def report(stats: "EngineStats") -> None:
                metrics.offer(
                    {
                        "records": stats.records,
                        "batches": stats.batches,
                        "commit_p95_ms": stats.commit_p95_ms,
                        "lag": sum(stats.lag.values()),
                        "keys": stats.keys,
                    }
                )

            engine_of_one = _supervised(engine)
            await run_worker(build_app(engine_of_one, settings.kafka, make, on_stats=report))

    asyncio.run(work())


def _rewards(settings: Settings) -> None:
    from agents.rewards.agent import APP, MakeRewardsFold, rewards_settings

    game = settings.load_game()
    make = MakeRewardsFold({game.name: game}, settings.topics)
    _fold_worker(settings, APP, rewards_settings(settings.topics), make)


def _release(settings: Settings) -> None:
    from agents.release.agent import APP, MakeReleaseFold, release_settings

    game = settings.load_game()
    make = MakeReleaseFold({game.name: game}, settings.topics)
    _fold_worker(settings, APP, release_settings(settings.topics), make)


def _learner(settings: Settings) -> None:
    from learners.process import LearnerConfig, run_learner
    from learners.session import Workplace

    config = LearnerConfig(
        kafka=settings.kafka,
        topics=settings.topics,
        games=[settings.load_game()],
        place=Workplace(
            archive=str(settings.windows_dir.resolve()),
            models=settings.models_dir.resolve(),
            checkpoints=settings.checkpoints_dir.resolve(),
            code_version=code_version(),
        ),
        seed=settings.seed,
        device=settings.device,
    )
    _until_stopped(lambda stop: run_learner(config, stop))


def run_trainer(settings: Settings, config: "LearnerConfig") -> int:
    """Runs a learner process of its own configuration; returns its exit code, see `run`."""
    from learners.process import run_learner

    logs.configure(config.process, settings.log_level)
    if not broker_listens(settings):
        return EXIT_NO_BROKER
    asyncio.run(ensure_topics(settings))
    os.nice(NICE["learner"])
    log.info("starts", windows=config.sessions().keys(), group=config.group)
    _until_stopped(lambda stop: run_learner(config, stop))
    log.info("stopped")
    return 0


def _evaluator(settings: Settings) -> None:
    from games.clock import SystemClock
    from games.evaluator import EvaluatorConfig, run_evaluator

    config = EvaluatorConfig(models_dir=settings.models_dir.resolve())

    async def work(stop: asyncio.Event) -> None:
        async with _metrics(settings, "evaluator") as metrics:
            await run_evaluator(
                config,
                settings.kafka,
                settings.topics,
                settings.load_game(),
                SystemClock(),
                stop,
                metrics.offer,
            )

    _until_stopped(work)


def _game(settings: Settings) -> None:
    from games.clock import SystemClock
    from games.live import GameConfig, run_game
    from infra.privacy import protect_of

    config = GameConfig(
        models_dir=settings.models_dir.resolve(),
        seed=settings.seed,
        protect=protect_of(settings, settings.load_game()),
    )

    async def work(stop: asyncio.Event) -> None:
        async with _metrics(settings, "game") as metrics:
            await run_game(
                config,
                settings.kafka,
                settings.topics,
                settings.load_game(),
                SystemClock(),
                stop,
                metrics.offer,
            )

    _until_stopped(work)


PROCESSES: dict[str, Callable[[Settings], None]] = {
    "game": _game,
    "rewards": _rewards,
    "ticker": _ticker,
    "archiver": _archiver,
    "sink": _sink,
    "learner": _learner,
    "evaluator": _evaluator,
    "release": _release,
}


def wanted(settings: Settings) -> list[str]:
    """The processes of a whole system: all, the sink only where there is a database for it."""
    return [name for name in PROCESSES if name != "sink" or settings.sink == "timescale"]


def main() -> None:
    """Runs the process that the command line names."""
    try:
        code = run(sys.argv[1], load())
    except (SchemaError, UnknownProcess) as error:
        print(f"grindstone: {error}", file=sys.stderr)
        code = 2
    sys.exit(code)


if __name__ == "__main__":
    main()
