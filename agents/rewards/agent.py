"""The rewards application: which fold of which topics a worker runs (`streams.faust_app`)."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from agents.rewards.fold import RewardsFold
from schemas.game import Game
from schemas.topics import Topics
from streams.engine.records import Table
from streams.engine.settings import EngineSettings

APP = "rewards"

FETCH_WAIT_MS = 150
FETCH_MIN_BYTES = 200_000
"""A trickle of events from many games would make a transaction of each pack; at most seven a second
and partition cost a fraction of that, and stay far below the second that a reward may take."""


class MakeRewardsFold(msgspec.Struct, frozen=True):
    """Makes the fold of a partition; can be pickled, so that a check can fold in processes."""

    games: Mapping[str, Game]
    topics: Topics

    def __call__(self, partition: int, table: Table) -> RewardsFold:
        """Return the fold of a partition on its recovered table."""
        return RewardsFold(partition, table, self.games, self.topics)


def rewards_settings(topics: Topics) -> EngineSettings:
    """Return the engine's settings for the rewards fold."""
    return EngineSettings(
        app=f"{topics.prefix}{APP}",
        source=topics.game_events,
        changelog=topics.changelog(APP),
        outputs=(topics.experiences, topics.dead_letters),
        fetch_wait_ms=FETCH_WAIT_MS,
        fetch_min_bytes=FETCH_MIN_BYTES,
    )
