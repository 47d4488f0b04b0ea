"""The release process: the fold of `models` on the engine, under a Faust agent."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from agents.release.fold import ReleaseFold
from schemas.game import Game
from schemas.kafka import KafkaSettings
from schemas.topics import Topics
from streams.engine.records import Table
from streams.engine.settings import EngineSettings
from streams.engine.stats import EngineStats
from streams.faust_app import run_fold_worker

APP = "release"


def release_settings(topics: Topics) -> EngineSettings:
    """Return the engine's settings for the release fold."""
    return EngineSettings(
        app=f"{topics.prefix}{APP}",
        source=topics.models,
        changelog=topics.changelog(APP),
        outputs=(topics.models, topics.dead_letters),
    )


def run_release(
    games: Mapping[str, Game],
    kafka: KafkaSettings,
    topics: Topics,
    on_stats: Callable[[EngineStats], None] | None = None,
) -> None:
    """Run the release worker until it is told to stop."""

    def make(partition: int, table: Table) -> ReleaseFold:
        return ReleaseFold(partition, table, games, topics)

    run_fold_worker(APP, release_settings(topics), kafka, make, on_stats)
