"""The arena as every process plays it; see `games.match.Connector`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from agents.policies.choice import Policy
from games.arena.draws import keys_of
from games.arena.events import full_mask
from games.arena.matches import play_matches
from games.arena.play import ArenaMatches
from games.arena.rule import ScriptedPolicy
from games.arena.settings import FOLLOWED, ArenaSettings, arena_settings
from games.arena.view import observe
from games.arena.world import Arena
from games.match import Connector, LiveMatches, MatchResult
from schemas.game import Game
from schemas.practice import ARCHETYPES


class ArenaConnector:
    """Packs of five; the champion of one archetype decides for its packs."""

    archetype = FOLLOWED

    def settings(self, game: Game) -> ArenaSettings:
        """See `Connector.settings`."""
        return arena_settings(game)

    def live(self, game: Game, seed: int, incarnation: str) -> LiveMatches:
        """See `Connector.live`."""
        return ArenaMatches(arena_settings(game), seed, incarnation)

    def scripted(self) -> Policy:
        """Return the traditional AI."""
        return ScriptedPolicy(FOLLOWED)

    def play(
        self,
        home: Policy,
        away: Policy,
        seeds: Sequence[int],
        n_worlds: int = 64,
        opening: int = 0,
    ) -> list[MatchResult]:
        """Play every seed from both sides."""
        return play_matches(home, away, seeds, FOLLOWED, n_worlds=n_worlds, opening=opening)

    def sample(self) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """See `Connector.sample`."""
        arena = Arena(1)
        kinds = np.full((2, 1), ARCHETYPES.index(FOLLOWED), np.int64)
        arena.begin(np.arange(1), keys_of(1, 1), kinds, np.zeros(1, np.bool_))
        legal = full_mask("combat", arena.legal("combat")[:, 0].transpose(2, 1, 0))
        return observe(arena, 0)[0, :1], legal[0, :1]


CONNECTOR: Final[Connector] = ArenaConnector()
