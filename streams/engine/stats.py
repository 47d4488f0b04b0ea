"""What an engine says about itself, counted per batch."""

from __future__ import annotations

from collections import deque

import msgspec


class EngineStats(msgspec.Struct, frozen=True, kw_only=True):
    """A picture of one worker."""

    app: str
    records: int
    """Source records folded and committed since the start."""
    batches: int
    outputs: int
    commit_p50_ms: float
    """From the start of the fold to the end of the commit, over the last 1,000 batches."""
    commit_p95_ms: float
    fold_ms: float
    """Time in folds since the start."""
    partitions: tuple[int, ...]
    """Recovered and taking records."""
    recovering: tuple[int, ...]
    recovered_records: int
    """Changelog records read for the partitions held now."""
    keys: int
    """Keys in the tables held now."""
    lag: dict[int, int]
    """Records of the source not yet durable, by partition; as of the last look."""


class Meter:
    """Counts what the engine does."""

    def __init__(self) -> None:
        self.records = 0
        self.batches = 0
        self.outputs = 0
        self.fold_s = 0.0
        self._commits: deque[float] = deque(maxlen=1_000)

    def committed(self, n_records: int, n_outputs: int, seconds: float) -> None:
        """Count one batch."""
        self.records += n_records
        self.outputs += n_outputs
        self.batches += 1
        self._commits.append(seconds)

    def quantile_ms(self, q: float) -> float:
        """Return a quantile of the recent commit times; 0 before the first."""
        if not self._commits:
            return 0.0
        times = sorted(self._commits)
        return round(times[min(len(times) - 1, int(len(times) * q))] * 1000, 2)
