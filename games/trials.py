"""Which matches a candidate plays before the release fold judges it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final, Literal

import numpy as np

from agents.policies.choice import Policy
from agents.policies.onnx_policy import OnnxPolicy
from games.connectors import connector
from games.match import Connector, MatchResult, tally
from games.seeds import match_seeds
from schemas.evidence import paired_gain, wilson
from schemas.game import Game
from schemas.model_events import MatchUp

Stage = Literal["gate", "confirm"]

_CHUNKS: Final = 2
"""Parts of a stage; after each the rest is spared where it could change nothing."""
_HOPELESS: Final = 0.99
"""One-sided confidence with which a candidate must be behind the champion to be stopped early."""
_OPENING: Final = 8
"""Random steps before two learned policies meet, about what the packs need to come in sight."""
_LATENCY_CALLS: Final = 200


class Trials:
    """The matches of one candidate: a gate, and for one that would pass a confirmation.

    In each stage the candidate and the champion play the scripted pack on the same seeds, both
    sides of each. A candidate that cannot pass any more is not played on: `matches` says how
    many it did play.
    """

    def __init__(self, game: Game, model: str, n_worlds: int = 64) -> None:
        self._gate = game.gate
        self._model = model
        self._n_worlds = n_worlds
        self._game = connector(game)
        self._scripted = self._game.scripted()
        self.matches: list[MatchUp] = []
        """What has been played so far."""

    def parts(self, candidate: Policy, champion: Policy | None) -> Iterator[Callable[[], None]]:
        """Yields the parts to be called one after the other; each plays about a second."""
        for stage, n in (("gate", self._gate.matches), ("confirm", self._gate.confirm_matches)):
            place = len(self.matches)
            yield from self._stage(_named(stage), n, candidate, champion)
            if not self._passes(self.matches[place:], n):
                return
        if champion is not None and self._gate.head_to_head:
            yield lambda: self._head_to_head(candidate, champion)

    def _stage(
        self, stage: Stage, n: int, candidate: Policy, champion: Policy | None
    ) -> Iterator[Callable[[], None]]:
        seeds = match_seeds(stage, self._model, candidate.version, math.ceil(n / 2))
        label = f"{stage}/{self._model}/{candidate.version}"
        players = [candidate] if champion is None else [candidate, champion]
        played: dict[str, list[MatchResult]] = {player.version: [] for player in players}
        place = len(self.matches)
        size = math.ceil(len(seeds) / _CHUNKS)
        for lo in range(0, len(seeds), size):
            for player in players:

                def part(
                    player: Policy = player, some: Sequence[int] = seeds[lo : lo + size]
                ) -> None:
                    played[player.version] += self._play(player, self._scripted, some)

                yield part
            self.matches[place:] = [
                _match_up(stage, version, self._scripted.version, label, results)
                for version, results in played.items()
            ]
            if self._hopeless(self.matches[place:], 2 * len(seeds)):
                return

    def _head_to_head(self, candidate: Policy, champion: Policy) -> None:
        n = math.ceil(self._gate.head_to_head / 2)
        seeds = match_seeds("gate", self._model, f"{candidate.version}/{champion.version}", n)
        label = f"gate/{self._model}/{candidate.version}/{champion.version}/opening{_OPENING}"
        results = self._game.play(
            candidate, champion, seeds, n_worlds=self._n_worlds, opening=_OPENING
        )
        versions = candidate.version, champion.version
        self.matches.append(_match_up("gate", *versions, label, results))

    def _play(self, home: Policy, away: Policy, seeds: Sequence[int]) -> list[MatchResult]:
        return self._game.play(home, away, seeds, n_worlds=self._n_worlds)

    def _passes(self, matches: Sequence[MatchUp], n: int) -> bool:
        """Whether a stage went as the release fold asks; it alone decides."""
        own, *rivals = matches
        if own.n < n or wilson(own.wins, own.n)[0] < self._gate.min_lower95:
            return False
        gains = [paired_gain(own.outcomes, r.outcomes, self._gate.confidence) for r in rivals]
        return all(lower > self._gate.min_gain for _, lower in gains)

    def _hopeless(self, matches: Sequence[MatchUp], n: int) -> bool:
        """Whether winning every match that is left would not do, or too clearly not come."""
        own, *rivals = matches
        if own.n >= n:
            return False
        if wilson(own.wins + n - own.n, n)[0] < self._gate.min_lower95:
            return True
        behind = [paired_gain(r.outcomes, own.outcomes, _HOPELESS)[1] for r in rivals]
        return any(-lower < self._gate.min_gain for lower in behind)


def decision_latency_p95_ms(policy: OnnxPolicy, game: Connector) -> float:
    """Milliseconds that 95 % of single decisions take at most, from observation to action."""
    observation, legal = game.sample()
    rng = np.random.default_rng(1)
    spans = []
    for _ in range(_LATENCY_CALLS):
        before = time.perf_counter()
        policy.act(observation, legal, rng)
        spans.append(time.perf_counter() - before)
    return float(np.quantile(spans, 0.95) * 1000)


def _named(stage: str) -> Stage:
    return "gate" if stage == "gate" else "confirm"


def _match_up(
    stage: Stage, subject: str, opponent: str, seeds: str, results: Sequence[MatchResult]
) -> MatchUp:
    counted = tally(results)
    return MatchUp(
        stage=stage,
        subject=subject,
        opponent=opponent,
        seeds=seeds,
        n=counted.n,
        wins=counted.wins,
        draws=counted.draws,
        losses=counted.losses,
        outcomes=counted.outcomes,
    )
