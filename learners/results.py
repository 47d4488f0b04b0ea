"""A match's result as a reward: paid to all of its actors, the fallen too.

The archetypes' rewards pay for what each actor is there for, and some of them are had best by a
pack that loses. A policy that is to win has to be told who won.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from schemas.practice import Bools, Floats

End = tuple[int, int, int, float]
"""Step, model, number of the match among its own, and its result."""


def ended_matches(
    t: int, first: Bools, matches: Sequence[tuple[int, float]], pack: int
) -> list[End]:
    """Return the matches that ended with step ``t``: those of which the next view is of a new one.

    Args:
        t: the step.
        first: [S, B] of the next view.
        matches: of the step's result, in order of model and of the match among its own.
        pack: actors of a match.
    """
    anew = [(s, m) for s, row in enumerate(first) for m in _matches(row, pack)]
    if [s for s, _ in anew] != [s for s, _ in matches]:
        return []  # a world that does not tell which match it was: nobody is paid
    return [(t, s, m, score) for (s, m), (_, score) in zip(anew, matches, strict=True)]


def _matches(first: Bools, pack: int) -> list[int]:
    found: list[int] = np.flatnonzero(first.reshape(-1, pack).any(axis=1)).tolist()
    return found


def credit(
    reward: Floats,
    valid: Bools,
    limited: Bools,
    ended: Sequence[End],
    pack: int,
    weight: float,
) -> None:
    """Add ``weight`` to each actor's last reward of a won match and take it where it was lost.

    Args:
        reward: [S, T, B], changed in place.
        valid: [S, T, B] where an actor lived and chose.
        limited: [S, T, B] where a match reached its limit of steps: it counts for nobody.
        ended: in order of their steps.
        pack: actors of a match.
        weight: of a result.
    """
    begun: dict[tuple[int, int], int] = {}
    for t, s, m, score in ended:
        span, columns = slice(begun.get((s, m), 0), t + 1), slice(m * pack, (m + 1) * pack)
        begun[(s, m)] = t + 1
        if limited[s, t, columns].any():
            continue
        lived = valid[s, span, columns]
        last = t - lived[::-1].argmax(0)
        there = np.flatnonzero(lived.any(axis=0))
        reward[s, last[there], m * pack + there] += weight * (2.0 * score - 1.0)
