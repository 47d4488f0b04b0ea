"""The connector's own settings, from the `settings` table of the game's description."""

from __future__ import annotations

from typing import Final

from games.battle.legal import ACTION_NAMES
from games.battle.world import CHANNELS, VIEW
from games.checks import fitted, refuse_fit
from games.match import LiveSettings, Share
from schemas.game import Game

ARCHETYPE: Final = "fighter"
DOMAIN: Final = "combat"


class BattleSettings(LiveSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the live game is played."""

    opponent_random: Share = 0.05
    """Share of matches against the random pack."""
    opponent_earlier: Share = 0.1
    """Share of matches against earlier champions, while there are none the scripted pack."""


def battle_settings(game: Game) -> BattleSettings:
    """Returns the settings of a description that fits this connector.

    Raises SchemaError for a setting that is unknown or out of range, and for a description of
    another observation, other actions, or without the archetype and domain of the pack.
    """
    settings = fitted(
        game,
        BattleSettings,
        shape=[VIEW, VIEW, CHANNELS],
        actions=list(ACTION_NAMES),
        archetypes=[ARCHETYPE],
        domains=[DOMAIN],
    )
    shares = settings.opponent_random + settings.opponent_earlier
    if shares > 1:
        rule = "at most 1 together with opponent_random"
        refuse_fit("$.settings.opponent_earlier", rule, settings.opponent_earlier)
    return settings
