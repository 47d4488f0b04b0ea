"""When a model has stopped getting better: a plateau of its held-out score."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class Plateau:
    """Best score so far of S models, and how long ago it was; higher is better."""

    def __init__(self, n_models: int, patience: int, min_gain: float = 0.0) -> None:
        """Stop a model after ``patience`` judgements without a gain; 0 stops none.

        ``min_gain`` is a share of the best score's size: what gains less counts as none.
        """
        self._patience, self._min_gain = patience, min_gain
        self.best: NDArray[np.float64] = np.full(n_models, -np.inf)
        self.stale: NDArray[np.int64] = np.zeros(n_models, np.int64)

    def add(self, scores: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Take a judgement [S]; returns which models gained. Stopped ones never gain.

        NaN is no gain: a score that could not be measured proves nothing.
        """
        going = ~self.stopped
        needed = self.best + self._min_gain * np.abs(np.where(np.isfinite(self.best), self.best, 0))
        gained: NDArray[np.bool_] = going & (scores > needed)
        self.best = np.where(gained, scores, self.best)
        self.stale = np.where(gained, 0, self.stale + going)
        return gained

    @property
    def stopped(self) -> NDArray[np.bool_]:
        """Which models [S] are to change no more."""
        found: NDArray[np.bool_] = (self.stale >= self._patience) & (self._patience > 0)
        return found
