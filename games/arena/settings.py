"""The connector's own settings, from the `settings` table of the game's description."""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta

from games.arena import rules
from games.arena.rule import HEADS
from games.checks import fitted
from games.match import LiveSettings
from schemas.game import Game
from schemas.practice import ARCHETYPES

GAME: Final = "arena"
FOLLOWED: Final = "aggressive"
"""The archetype whose champion plays live; the others play their script."""


class ArenaSettings(LiveSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the live game is played."""

    difficulty: Annotated[int, Meta(ge=0, le=4)] = 2
    """How well the opponents play."""
    champion_worlds: Annotated[int, Meta(ge=0, le=1024)] = 0
    """How many of the worlds are the champion's archetype's alone; the others are dealt evenly."""


def arena_settings(game: Game) -> ArenaSettings:
    """Return the settings of a description that fits this connector.

    Raises:
        SchemaError: a setting is unknown or out of range, or the description has another
            observation, other actions, or lacks an archetype or a domain.
    """
    return fitted(
        game,
        ArenaSettings,
        shape=[rules.FEATURES],
        actions=list(rules.ACTION_NAMES),
        archetypes=ARCHETYPES,
        domains=HEADS,
    )
