"""How good the models of a stack are: held-out rows for predictors, matches for those that act."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from learners.model_types.base import ModelType, Stack
from schemas.practice import Episodes, Practice

Measures = dict[str, NDArray[np.float32]]

JUDGED_DIFFICULTY = 2
"""The traditional AI as well as it plays: what a curriculum does is not what judges it."""


def judge(
    kind: ModelType,
    stack: Stack,
    rows: Sequence[Episodes],
    world: Practice | None,
    n_matches: int,
    seed: int,
) -> tuple[NDArray[np.float64], Measures]:
    """Return the scores [S], higher being better, and all that was measured.

    An acting type is scored by the matches it plays against the traditional AI, the same ones each
    time it is judged, where there is a world and ``n_matches``; else the held-out loss counts.
    """
    measured: Measures = dict(stack.judge(rows))
    if kind.acts is None or world is None or not n_matches:
        loss = measured.get("loss")
        n = stack.n_models
        scores = np.full(n, np.nan) if loss is None else -np.asarray(loss, np.float64)
        return scores, measured
    results = world.play(kind.acts, stack.act, n_matches, seed, JUDGED_DIFFICULTY)
    measured["win_rate"] = (results == 1.0).mean(1).astype(np.float32)
    measured["score"] = results.mean(1)
    return np.asarray(measured["score"], np.float64), measured


def unlike_trivial(measured: Measures) -> NDArray[np.float64] | None:
    """Return by which share [S] the held-out loss is below the trivial predictor's."""
    if "loss" not in measured or "trivial" not in measured:
        return None
    trivial = np.maximum(np.asarray(measured["trivial"], np.float64), 1e-12)
    gain: NDArray[np.float64] = 1.0 - np.asarray(measured["loss"], np.float64) / trivial
    return gain
