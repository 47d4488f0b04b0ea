"""The release application: which fold of which topics a worker runs (`streams.faust_app`)."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from agents.release.fold import ReleaseFold
from schemas.game import Game
from schemas.topics import Topics
from streams.engine.records import Table
from streams.engine.settings import EngineSettings

APP = "release"


class MakeReleaseFold(msgspec.Struct, frozen=True):
    """Makes the fold of a partition."""

    games: Mapping[str, Game]
    topics: Topics

    def __call__(self, partition: int, table: Table) -> ReleaseFold:
        """Return the fold of a partition on its recovered table."""
        return ReleaseFold(partition, table, self.games, self.topics)


def release_settings(topics: Topics) -> EngineSettings:
    """Return the engine's settings for the release fold."""
    return EngineSettings(
        app=f"{topics.prefix}{APP}",
        source=topics.models,
        changelog=topics.changelog(APP),
        outputs=(topics.models, topics.dead_letters),
    )
