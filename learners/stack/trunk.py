"""What stacked networks are made of: a normaliser of observations and fully connected layers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from learners.stack.layers import LayerNorm, Linear, Stacked

MIN_DEVIATION = 1e-2
"""A feature that hardly varies is not blown up."""

LIMIT = 10.0
"""Normalised features are cut here: one outlier does not saturate a network."""


class Normaliser(Stacked):
    """``(x - mean) scale`` with buffers [S, D]; the identity until `fix`."""

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, n_models: int, width: int) -> None:
        """Begin as the identity."""
        super().__init__()
        self.register_buffer("mean", torch.zeros(n_models, width))
        self.register_buffer("scale", torch.ones(n_models, width))

    def fix(self, i: int, observations: NDArray[np.float32]) -> None:
        """Take mean and deviation of observations [N, D] for model ``i``."""
        mean = observations.mean(0, dtype=np.float64)
        deviation = np.maximum(observations.std(0, dtype=np.float64), MIN_DEVIATION)
        self.mean[i] = torch.from_numpy(mean)
        self.scale[i] = torch.from_numpy(1.0 / deviation)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return normalised values of x's shape [S, ..., D]."""
        if self.plain:
            return ((x - self.mean) * self.scale).clamp(-LIMIT, LIMIT)
        form = (x.shape[0], *[1] * (x.dim() - 2), x.shape[-1])
        return ((x - self.mean.view(form)) * self.scale.view(form)).clamp(-LIMIT, LIMIT)


class Trunk(nn.Module):
    """Linear layers, each followed by a layer normalisation (where asked for) and a ReLU."""

    def __init__(
        self, n_models: int, n_in: int, widths: Sequence[int], *, layer_norm: bool = False
    ) -> None:
        """Make the layers; none at all is the identity."""
        super().__init__()
        sizes = [n_in, *widths]
        self.layers = nn.ModuleList(
            Linear(n_models, a, b) for a, b in zip(sizes[:-1], sizes[1:], strict=True)
        )
        self.norms = nn.ModuleList(LayerNorm(n_models, b) for b in widths if layer_norm)
        self.n_out = sizes[-1]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return features [S, ..., n_out]."""
        for i, layer in enumerate(self.layers):
            x = layer(x)
            if len(self.norms):
                x = self.norms[i](x)
            x = functional.relu(x)
        return x


def small_head(n_models: int, n_in: int, n_out: int, scale: float = 0.01) -> Linear:
    """Return a last layer whose first choices are nearly equal (Andrychowicz et al. 2021)."""
    head = Linear(n_models, n_in, n_out)
    with torch.no_grad():
        head.weight.mul_(scale)
        if head.bias is not None:
            head.bias.zero_()
    return head
