"""Normalisers inside the exported graph, each model its own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from learners.stack.layers import Stacked

LIMIT = 10.0
"""Deviations: what a feature that hardly ever moved may say when it does."""

SMALLEST = 1e-2
"""Deviation below which a feature counts as constant; it is then only moved, not magnified."""


class Normaliser(Stacked):
    """``(x - mean) / deviation`` of x [S, ..., D], limited to +-10; the identity until `fix`."""

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, n_models: int, width: int) -> None:
        """Make buffers [S, D]."""
        super().__init__()
        self.register_buffer("mean", torch.zeros(n_models, width))
        self.register_buffer("scale", torch.ones(n_models, width))

    def fix(self, rows: Sequence[NDArray[np.float32]]) -> None:
        """Take mean and deviation from rows [N, D] of each model."""
        for i, x in enumerate(rows):
            wide = np.asarray(x, np.float64)
            deviation = wide.std(0)
            scale = np.where(deviation > SMALLEST, 1.0 / np.maximum(deviation, SMALLEST), 1.0)
            self.mean[i] = torch.as_tensor(wide.mean(0), dtype=torch.float32)
            self.scale[i] = torch.as_tensor(scale, dtype=torch.float32)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return normalised values of x's shape."""
        if self.plain:
            return ((x - self.mean) * self.scale).clamp(-LIMIT, LIMIT)
        form = (x.shape[0], *[1] * (x.dim() - 2), x.shape[-1])
        return (x - self.mean.view(form)).mul_(self.scale.view(form)).clamp_(-LIMIT, LIMIT)
