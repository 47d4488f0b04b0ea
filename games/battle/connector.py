"""The battle as every process plays it; see `games.match.Connector`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from agents.policies.choice import Policy
from games.battle.legal import legal_actions
from games.battle.matches import play_matches
from games.battle.play import BattleMatches
from games.battle.scripted import ScriptedPolicy
from games.battle.settings import ARCHETYPE, BattleSettings, battle_settings
from games.battle.world import RED, BattleWorld
from games.match import Connector, LiveMatches, MatchResult
from schemas.game import Game


class Battle:
    """Two packs of six."""

    archetype = ARCHETYPE

    def settings(self, game: Game) -> BattleSettings:
        """See `Connector.settings`."""
        return battle_settings(game)

    def live(self, game: Game, seed: int, incarnation: str) -> LiveMatches:
        """See `Connector.live`."""
        return BattleMatches(battle_settings(game), seed, incarnation)

    def scripted(self) -> Policy:
        """Returns the scripted pack."""
        return ScriptedPolicy()

    def play(
        self,
        home: Policy,
        away: Policy,
        seeds: Sequence[int],
        n_worlds: int = 64,
        opening: int = 0,
    ) -> list[MatchResult]:
        """Plays every seed as red and as blue."""
        return play_matches(home, away, seeds, n_worlds=n_worlds, opening=opening)

    def sample(self) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """See `Connector.sample`."""
        world = BattleWorld()
        world.reset(1)
        observation = world.observations(RED)[:1].copy()
        return observation, legal_actions(observation)


CONNECTOR: Final[Connector] = Battle()
