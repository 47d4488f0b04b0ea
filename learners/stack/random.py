"""Layers that draw numbers in training: model i's come from its own key, whatever S is.

A draw depends on the key and on the layer's number alone, not on what was drawn before: a forward
pass that gradient checkpointing repeats meets the same numbers, and no state needs to be kept.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

_LAYER_STEP = 0x9E3779B1
"""Odd, so that no two layers of a model share a key (Knuth's multiplicative hash of 32 bits)."""


class _Drawing(nn.Module):
    """Base: the identity outside of training and before the first `set_keys`."""

    def __init__(self) -> None:
        super().__init__()
        self.keys: list[int] = []

    def _generators(self, x: torch.Tensor) -> list[torch.Generator]:
        return [torch.Generator(x.device).manual_seed(key) for key in self.keys]


class Dropout(_Drawing):
    """Dropout (Srivastava et al. 2014) of x [S, ...] in training."""

    def __init__(self, share: float) -> None:
        """Zero a ``share`` of the values in [0, 1) and scale the others up."""
        super().__init__()
        self.share = share

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return x with values dropped."""
        if not (self.training and self.keys and self.share > 0):
            return x
        keep = torch.empty_like(x)
        for part, generator in zip(keep, self._generators(x), strict=True):
            part.bernoulli_(1.0 - self.share, generator=generator)
        return x * keep.div_(1.0 - self.share)


class Noise(_Drawing):
    """Adds normal noise to x [S, ...] in training: augmentation of normalised features."""

    def __init__(self, deviation: float) -> None:
        """Add noise of this deviation."""
        super().__init__()
        self.deviation = deviation

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return x with noise."""
        if not (self.training and self.keys and self.deviation > 0):
            return x
        noise = torch.empty_like(x)
        for part, generator in zip(noise, self._generators(x), strict=True):
            part.normal_(0.0, self.deviation, generator=generator)
        return x + noise


def set_keys(module: nn.Module, keys: Sequence[int]) -> None:
    """Give every drawing layer its keys, one a model [S]; new ones for every update."""
    layers = [part for part in module.modules() if isinstance(part, _Drawing)]
    for number, layer in enumerate(layers):
        layer.keys = [(key + number * _LAYER_STEP) % 2**32 for key in keys]
