"""Layers whose weights lead with S, so that S models take one kernel an operation instead of S.

Each layer has two forms with the same names of weights: stacked, [S, ..., D] -> [S, ..., D'], as
it is trained; and plain, [..., D] -> [..., D'], which `unstack` takes out of it for the export.
"""

from __future__ import annotations

import copy
import math
from typing import TypeVar

import torch
from torch import nn
from torch.nn import functional

Module = TypeVar("Module", bound=nn.Module)


class Stacked(nn.Module):
    """Base of all modules that own weights [S, ...]; modules made of these need no base."""

    plain: bool = False
    """Whether this is the plain form of one model: its weights have no S."""


class Linear(Stacked):
    """``x W^T + b`` of each model, [S, ..., D] -> [S, ..., D'], drawn as `torch.nn.Linear` is."""

    def __init__(self, n_models: int, n_in: int, n_out: int, *, bias: bool = True) -> None:
        """Make weights [S, D', D] and biases [S, D'], uniform in +-1/sqrt(D)."""
        super().__init__()
        bound = 1.0 / math.sqrt(n_in)
        self.weight = nn.Parameter(torch.empty(n_models, n_out, n_in).uniform_(-bound, bound))
        self.bias = (
            nn.Parameter(torch.empty(n_models, n_out).uniform_(-bound, bound)) if bias else None
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the products."""
        if self.plain:
            return functional.linear(x, self.weight, self.bias)
        rows = x.reshape(x.shape[0], -1, x.shape[-1])
        if self.bias is None:
            product = torch.bmm(rows, self.weight.mT)
        else:
            product = torch.baddbmm(self.bias[:, None], rows, self.weight.mT)
        return product.reshape(*x.shape[:-1], product.shape[-1])


class LayerNorm(Stacked):
    """Layer normalisation (Ba et al. 2016) over the last axis with weights [S, D] of each model."""

    def __init__(self, n_models: int, width: int, eps: float = 1e-5) -> None:
        """Begin as the identity of the normalised values."""
        super().__init__()
        self.weight = nn.Parameter(torch.ones(n_models, width))
        self.bias = nn.Parameter(torch.zeros(n_models, width))
        self.eps = eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return normalised values of x's shape."""
        width = (self.weight.shape[-1],)  # that of x is no constant where a graph is traced
        if self.plain:
            return functional.layer_norm(x, width, self.weight, self.bias, self.eps)
        form = (x.shape[0], *[1] * (x.dim() - 2), x.shape[-1])
        normal = functional.layer_norm(x, width, None, None, self.eps)
        return torch.addcmul(self.bias.view(form), normal, self.weight.view(form))


class Table(Stacked):
    """A learned table [S, N, E] of each model: embeddings, positions, tokens."""

    def __init__(self, n_models: int, n_rows: int, width: int, scale: float = 0.02) -> None:
        """Draw the rows from a normal distribution of deviation ``scale``."""
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_models, n_rows, width).normal_(0.0, scale))

    def forward(self) -> torch.Tensor:
        """Return the table: [S, N, E], or [N, E] in the plain form."""
        return self.weight


def unstack(module: Module, i: int) -> Module:
    """Return a copy of model ``i`` alone, in the plain form, on the CPU and without gradients.

    Buffers [S, ...] (normalisers) lose their S as weights do.

    Raises:
        IndexError: there is no such model.
    """
    alone = copy.deepcopy(module).cpu()
    for part in alone.modules():
        owns = isinstance(part, Stacked)
        for name, weight in list(part._parameters.items()):
            if weight is not None:
                part._parameters[name] = nn.Parameter(weight[i].detach().clone(), False)
        for name, buffer in list(part._buffers.items()):
            if buffer is not None:
                part._buffers[name] = buffer[i].detach().clone()
        if owns:
            part.plain = True  # type: ignore[assignment]
    return alone.eval()


def per_model(values: torch.Tensor) -> torch.Tensor:
    """Return the mean of values [S, ...] over all but S: one number [S] a model."""
    return values.flatten(1).mean(1)
