"""The connector's own settings, from the `settings` table of the game's description."""

from __future__ import annotations

from typing import Final

from games.checks import fitted
from games.match import LiveSettings, Share
from games.tribes import rules
from games.tribes.view import N_FEATURES
from schemas.game import Game

ARCHETYPE: Final = "chief"
ECONOMIC: Final = "economic"
BATTLE: Final = "battle"
DIPLOMATIC: Final = "diplomatic"


class TribesSettings(LiveSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the live game is played."""

    opponent_earlier: Share = 0.1
    """Share of matches in which a former champion leads the three rivals; the script while there
    is none."""


def tribes_settings(game: Game) -> TribesSettings:
    """Returns the settings of a description that fits this connector; see `fitted`."""
    return fitted(
        game,
        TribesSettings,
        shape=[N_FEATURES],
        actions=list(rules.ACTION_NAMES),
        archetypes=[ARCHETYPE],
        domains=[ECONOMIC, BATTLE, DIPLOMATIC],
    )


def domain_of(action: int) -> str:
    """Returns the domain of an action."""
    if action >= rules.TRADE:
        return DIPLOMATIC
    return BATTLE if action >= rules.ATTACK else ECONOMIC
