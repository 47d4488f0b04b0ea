"""The tribes as every process plays them; see `games.match.Connector`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from agents.policies.choice import Policy
from games.match import Connector, LiveMatches, MatchResult
from games.tribes.matches import play_matches
from games.tribes.play import TribesMatches
from games.tribes.scripted import ScriptedPolicy
from games.tribes.settings import ARCHETYPE, TribesSettings, tribes_settings
from games.tribes.view import observe
from games.tribes.world import Tribes
from schemas.game import Game


class TribesConnector:
    """One chief of four."""

    archetype = ARCHETYPE

    def settings(self, game: Game) -> TribesSettings:
        """See `Connector.settings`."""
        return tribes_settings(game)

    def live(self, game: Game, seed: int, incarnation: str) -> LiveMatches:
        """See `Connector.live`."""
        return TribesMatches(tribes_settings(game), seed, incarnation)

    def scripted(self) -> Policy:
        """Returns the scripted chief."""
        return ScriptedPolicy()

    def play(
        self,
        home: Policy,
        away: Policy,
        seeds: Sequence[int],
        n_worlds: int = 64,
        opening: int = 0,
    ) -> list[MatchResult]:
        """Plays every seed from two seats, against three of `away`."""
        return play_matches(home, away, seeds, n_worlds=n_worlds, opening=opening)

    def sample(self) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """See `Connector.sample`."""
        worlds = Tribes(1)
        worlds.reset(0, 1)
        return observe(worlds)[:, 0], worlds.legal()[:, 0]


CONNECTOR: Final[Connector] = TribesConnector()
