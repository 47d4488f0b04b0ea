"""How hard the practice is: a stage a model, up when it is proven, down when it is lost.

The plain rule (`mean`) goes up when the mean of the last ten scores crosses a threshold; by luck it
does so sooner or later. The rule `bound` asks for a lower confidence bound, spends its error over
the looks it takes, and goes down a stage where the upper bound stays below what was passed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from statistics import NormalDist, fmean, stdev
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Share = Annotated[float, Meta(ge=0, le=1)]


class CurriculumRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a stage is passed, and when it is lost."""

    rule: Literal["bound", "mean"] = "bound"
    thresholds: Annotated[list[float], Meta(min_length=1)]
    """Mean score that passes each stage, rising; the last one passes the whole."""
    difficulties: list[Annotated[int, Meta(ge=0, le=4)]]
    """Difficulty of the world in each stage."""
    min_episodes: Annotated[int, Meta(ge=2)] = 10
    """Episodes in a stage before it can be passed, and between two looks at the bound."""
    max_variance: Annotated[float, Meta(gt=0)] | None = 0.2
    """Largest deviation of the scores over their mean in a stage that is passed; None: any, for
    scores that are only won or lost."""
    patience: Annotated[int, Meta(ge=1)] = 20
    """Episodes for which the upper bound must stay below the last stage's threshold to go down."""
    hysteresis: Share = 0.1
    """How far below that threshold, as a share of it."""
    error: Annotated[float, Meta(gt=0, lt=0.5)] = 0.05
    """Chance of passing a stage by luck, over all looks together."""
    window: Annotated[int, Meta(ge=10)] = 100
    """Scores of a stage that count, the newest ones."""


COMBAT_LEVELS = CurriculumRule(
    thresholds=[50.0, 100.0, 200.0, 400.0, 800.0], difficulties=[0, 1, 2, 3, 4]
)
"""The five levels of combat, in sums of reward an episode."""

PHASES = CurriculumRule(thresholds=[50.0, 100.0, 200.0, 500.0], difficulties=[0, 1, 2, 3])
"""The four phases, in sums of reward an episode."""

WIN_LEVELS = CurriculumRule(
    thresholds=[0.6] * 5, difficulties=[0, 1, 2, 3, 4], max_variance=None, hysteresis=0.5
)
"""The five levels by matches won: the same whatever a game's rewards are."""


class StageState(msgspec.Struct):
    """Where one model stands; what a checkpoint keeps."""

    stage: int = 0
    scores: list[float] = []
    """Of the episodes in this stage, the newest ``window`` of them."""
    n_episodes: int = 0
    """Episodes in this stage."""
    n_low: int = 0
    """Episodes in a row after which the upper bound lay below what was passed."""


class Curriculum:
    """Stages of S models, driven by the scores of their episodes."""

    def __init__(self, rule: CurriculumRule, n_models: int, start: int = 0) -> None:
        """Begin all models at stage ``start``."""
        if len(rule.difficulties) != len(rule.thresholds):
            n = len(rule.thresholds)
            msg = f"difficulties must be {n}, one a threshold; got {len(rule.difficulties)}"
            raise ValueError(msg)
        self.rule = rule
        self.models = [StageState(stage=start) for _ in range(n_models)]

    def difficulties(self) -> list[int]:
        """Return the difficulty [S] of each model's present stage."""
        return [self.rule.difficulties[model.stage] for model in self.models]

    def add(self, model: int, score: float) -> int:
        """Take the score of an episode; returns +1, 0 or -1, the stages gone up or down."""
        state, rule = self.models[model], self.rule
        state.scores = [*state.scores[-(rule.window - 1) :], score]
        state.n_episodes += 1
        if self._passes(state):
            if state.stage + 1 < len(rule.thresholds):
                self._enter(model, state.stage + 1)
                return 1
        elif self._is_lost(state):
            self._enter(model, state.stage - 1)
            return -1
        return 0

    def add_all(self, matches: Iterable[tuple[int, float]]) -> None:
        """Take the scores of a practice: pairs of a model and a score, in the order they ended.

        All were played at the difficulty that the practice began with, so they tell of the stage
        that a model stood at then, and of no other: once it has gone up or down, its others are
        not counted. Else one practice of many easy wins would pass all stages at once.
        """
        moved: set[int] = set()
        for model, score in matches:
            if model not in moved and self.add(model, score) != 0:
                moved.add(model)

    def _enter(self, model: int, stage: int) -> None:
        self.models[model] = StageState(stage=stage)

    def _passes(self, state: StageState) -> bool:
        rule, threshold = self.rule, self.rule.thresholds[state.stage]
        if state.n_episodes < rule.min_episodes:
            return False
        if rule.rule == "mean":
            last = state.scores[-rule.min_episodes :]
            return fmean(last) >= threshold and self._is_steady(last)
        if state.n_episodes % rule.min_episodes:
            return False
        look = state.n_episodes // rule.min_episodes
        low, _ = bounds(state.scores, rule.error / (look * (look + 1)))  # the errors sum to `error`
        return low >= threshold and self._is_steady(state.scores)

    def _is_steady(self, scores: list[float]) -> bool:
        largest = self.rule.max_variance
        return largest is None or stdev(scores) <= largest * abs(fmean(scores))

    def _is_lost(self, state: StageState) -> bool:
        rule = self.rule
        if rule.rule == "mean" or state.stage == 0 or state.n_episodes < rule.min_episodes:
            return False
        floor = rule.thresholds[state.stage - 1] * (1.0 - rule.hysteresis)
        _, high = bounds(state.scores, rule.error)
        state.n_low = state.n_low + 1 if high < floor else 0
        return state.n_low >= rule.patience


def bounds(scores: list[float], error: float, *, shares: bool | None = None) -> tuple[float, float]:
    """Return one-sided bounds of the mean, each wrong with probability ``error``.

    With ``shares`` (None: where all scores lie in [0, 1]) scores are matches won (Wilson 1927: a
    run of wins proves no certainty); others count by their deviation, with the normal's quantile
    taken to Student's by the first two terms of its expansion (Abramowitz and Stegun, 26.7.5).
    """
    n, mean = len(scores), fmean(scores)
    z = NormalDist().inv_cdf(1.0 - error)
    if shares is None:
        shares = all(0.0 <= score <= 1.0 for score in scores)
    if shares:
        centre = mean + z * z / (2 * n)
        spread = z * math.sqrt(mean * (1 - mean) / n + z * z / (4 * n * n))
        return (centre - spread) / (1 + z * z / n), (centre + spread) / (1 + z * z / n)
    t = z + (z**3 + z) / (4 * (n - 1))
    spread = t * stdev(scores) / math.sqrt(n)
    return mean - spread, mean + spread
