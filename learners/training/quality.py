"""What trained models are worth, each with a 95 % interval: matches won, or loss held out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from learners.model_types.base import ModelType, Stack
from learners.training.curriculum import bounds
from learners.training.judging import JUDGED_DIFFICULTY, unlike_trivial
from schemas.evidence import wilson
from schemas.practice import Episodes, Practice

ACTING_BOUND = 0.70
"""An acting model is good when the lower bound of its win rate against the traditional AI is above
this."""
PREDICTING_BOUND = 0.0
"""One that predicts is good when the lower bound of its gain on the trivial predictor is above
this: the share by which its held-out loss is lower."""

GROUPS = 10
"""Parts that held-out matches are split into: the interval is that of the parts' mean."""


def qualities(
    kind: ModelType,
    stack: Stack,
    archetypes: Sequence[str],
    rows: Sequence[Episodes],
    world: Practice | None,
    n_matches: int,
    seed: int,
) -> dict[str, dict[str, Any]]:
    """Return by archetype what each model of a stack is worth.

    An acting type plays ``n_matches`` paired matches on seeds that nothing was chosen by.
    """
    measured = {k: np.asarray(v) for k, v in stack.judge(rows).items()}
    plain = [{k: float(v[i]) for k, v in measured.items()} for i in range(len(archetypes))]
    if kind.acts is not None and world is not None and n_matches:
        found = _by_matches(kind, stack, world, n_matches, seed)
    else:
        found = _by_rows(stack, rows)
    return {name: {**plain[i], **found[i]} for i, name in enumerate(archetypes)}


def _by_matches(
    kind: ModelType, stack: Stack, world: Practice, n_matches: int, seed: int
) -> list[dict[str, Any]]:
    if kind.acts is None:
        return []
    results = world.play(kind.acts, stack.act, n_matches, seed, JUDGED_DIFFICULTY)
    found = []
    for some in results:
        won = int((some == 1.0).sum())
        low, high = wilson(won, len(some))
        found.append(
            {
                "measure": "win_rate",
                "value": won / len(some),
                "low": low,
                "high": high,
                "n": len(some),
                "score": float(some.mean()),
                "target": ACTING_BOUND,
                "good": low > ACTING_BOUND,
            }  # fmt: skip
        )
    return found


def _by_rows(stack: Stack, rows: Sequence[Episodes]) -> list[dict[str, Any]]:
    gains: list[list[float]] = [[] for _ in rows]
    n_groups = min(GROUPS, *(len(np.unique(some.match)) for some in rows))
    for group in range(n_groups):
        parts = [_group(some, group, n_groups) for some in rows]
        gain = unlike_trivial({k: np.asarray(v) for k, v in stack.judge(parts).items()})
        if gain is not None:
            for i, value in enumerate(gain):
                gains[i].append(float(value))
    found: list[dict[str, Any]] = []
    for some, values in zip(rows, gains, strict=True):
        if len(values) < 2:
            found.append({"measure": "loss", "good": False, "n": len(some)})
            continue
        low, high = bounds(values, 0.025, shares=False)
        found.append(
            {
                "measure": "gain",
                "value": float(np.mean(values)),
                "low": low,
                "high": high,
                "n": len(some),
                "target": PREDICTING_BOUND,
                "good": low > PREDICTING_BOUND,
            }  # fmt: skip
        )
    return found


def _group(rows: Episodes, group: int, n_groups: int) -> Episodes:
    """Return the rows of every n-th match."""
    place = np.searchsorted(np.unique(rows.match), rows.match)
    return rows.take(np.flatnonzero(place % n_groups == group))
