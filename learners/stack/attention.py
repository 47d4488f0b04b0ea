"""Attention over stacks: S is folded into the batch, projections are stacked `Linear`.

All take [S, B, T, W] in the stacked form and [B, T, W] in the plain one.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from learners.stack.layers import LayerNorm, Linear, Table
from learners.stack.random import Dropout

MASKED = -1e9
"""Score of a pair that may not attend: its weight is 0 in float32, and finite where all are."""


def _heads(x: torch.Tensor, n_heads: int) -> torch.Tensor:
    """Return [S, B, T, W] (or [B, T, W]) as [S * B, heads, T, W / heads]."""
    length, width = x.shape[-2:]
    return x.reshape(-1, length, n_heads, width // n_heads).transpose(1, 2)


def _joined(x: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return x.transpose(1, 2).reshape(like.shape)


class Attention(nn.Module):
    """Multi-head self-attention (Vaswani et al. 2017)."""

    def __init__(self, n_models: int, width: int, n_heads: int) -> None:
        """Make the projections; ``width`` is a multiple of ``n_heads``."""
        super().__init__()
        self.n_heads = n_heads
        self.mixed = Linear(n_models, width, 3 * width)
        self.out = Linear(n_models, width, width)

    def forward(self, x: torch.Tensor, known: torch.Tensor | None = None) -> torch.Tensor:
        """Return what each step gathers; ``known`` [S, B, T] says which steps may be seen."""
        query, key, value = (_heads(part, self.n_heads) for part in self.mixed(x).chunk(3, -1))
        mask = None
        if known is not None:
            mask = torch.where(known, 0.0, MASKED).to(query.dtype)
            mask = mask.reshape(-1, 1, 1, known.shape[-1])
        mixed = functional.scaled_dot_product_attention(query, key, value, mask)
        result: torch.Tensor = self.out(_joined(mixed, x))
        return result


def relative_shift(scores: torch.Tensor) -> torch.Tensor:
    """Return scores by key of scores by distance, [..., T, K] each.

    Column c of the input stands for distance K - 1 - c; row i, column j of the result for the
    distance K - T + i - j of query i from key j. Entries with j > K - T + i mean nothing: they
    lie in the future. (Dai et al. 2019, appendix B.)
    """
    n_queries, n_keys = scores.shape[-2:]
    padded = functional.pad(scores, (1, 0))
    padded = padded.reshape(*scores.shape[:-2], n_keys + 1, n_queries)
    return padded[..., 1:, :].reshape(*scores.shape[:-2], n_queries, n_keys)


def sinusoids(length: int, width: int, like: torch.Tensor) -> torch.Tensor:
    """Return codes [length, width] of the distances length - 1 down to 0."""
    distance = torch.arange(length, device=like.device).flip(0).to(like.dtype)
    rates = torch.arange(0, width, 2, device=like.device).to(like.dtype)
    angle = distance[:, None] * torch.exp(rates * (-math.log(10_000.0) / width))
    return torch.cat([angle.sin(), angle.cos()], 1)


class RelativeAttention(nn.Module):
    """Self-attention with relative positions over memory and segment (Dai et al. 2019, eq. 5)."""

    def __init__(self, n_models: int, width: int, n_heads: int) -> None:
        """Make the projections; ``width`` is a multiple of ``n_heads`` and of 2."""
        super().__init__()
        self.n_heads = n_heads
        self.query = Linear(n_models, width, width, bias=False)
        self.remembered = Linear(n_models, width, 2 * width, bias=False)
        self.distance = Linear(n_models, width, width, bias=False)
        self.by_content = Table(n_models, 1, width)
        self.by_distance = Table(n_models, 1, width)
        self.out = Linear(n_models, width, width)

    def forward(self, x: torch.Tensor, memory: torch.Tensor, allowed: torch.Tensor) -> torch.Tensor:
        """Return what each step of x gathers from ``memory`` [S, B, M, W] and x up to itself.

        ``allowed`` [S, B, T, M + T] says which pairs may attend.
        """
        query = self.query(x)
        key, value = self.remembered(torch.cat([memory, x], -2)).chunk(2, -1)
        stacked = x.dim() == 4
        content, distance = self.by_content(), self.by_distance()
        if stacked:
            content, distance = content[:, None], distance[:, None]
        scores = self._by_distance(query + distance, key.shape[-2], stacked)
        mask = relative_shift(scores) * (x.shape[-1] // self.n_heads) ** -0.5
        allowed = allowed.reshape(-1, 1, *allowed.shape[-2:])
        mixed = functional.scaled_dot_product_attention(
            _heads(query + content, self.n_heads),
            _heads(key, self.n_heads),
            _heads(value, self.n_heads),
            torch.where(allowed, mask, MASKED).to(query.dtype),
        )
        result: torch.Tensor = self.out(_joined(mixed, x))
        return result

    def _by_distance(self, query: torch.Tensor, n_keys: int, stacked: bool) -> torch.Tensor:
        """Return scores [S * B, heads, T, K] of queries with the codes of K distances."""
        width = query.shape[-1]
        code = sinusoids(n_keys, width, query)
        if stacked:
            code = code.expand(query.shape[0], *code.shape)
        code = self.distance(code)
        heads = (self.n_heads, width // self.n_heads)
        code = code.reshape(*code.shape[:-1], *heads)
        split = query.reshape(*query.shape[:-1], *heads)
        if not stacked:  # onnxruntime has slow sums by Einstein's convention, and fast products
            scores: torch.Tensor = split.transpose(-3, -2) @ code.permute(1, 2, 0)
            return scores
        scores = torch.einsum("sbthd,skhd->sbhtk", split, code)
        return scores.reshape(-1, *scores.shape[-3:])


class Mlp(nn.Module):
    """Two layers with GELU between."""

    def __init__(self, n_models: int, width: int, inner: int, dropout: float) -> None:
        """Make layers W -> inner -> W."""
        super().__init__()
        self.first = Linear(n_models, width, inner)
        self.dropout = Dropout(dropout)
        self.last = Linear(n_models, inner, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return values of x's shape."""
        result: torch.Tensor = self.last(self.dropout(functional.gelu(self.first(x))))
        return result


class Block(nn.Module):
    """A transformer layer that normalises first (Xiong et al. 2020), steadier without warm-up."""

    def __init__(
        self, n_models: int, width: int, n_heads: int, inner: int, dropout: float = 0.0
    ) -> None:
        """Make attention and the layers behind it."""
        super().__init__()
        self.first_norm = LayerNorm(n_models, width)
        self.attention = Attention(n_models, width, n_heads)
        self.second_norm = LayerNorm(n_models, width)
        self.mlp = Mlp(n_models, width, inner, dropout)
        self.dropout = Dropout(dropout)

    def forward(self, x: torch.Tensor, known: torch.Tensor | None = None) -> torch.Tensor:
        """Return values of x's shape."""
        x = x + self.dropout(self.attention(self.first_norm(x), known))
        result: torch.Tensor = x + self.dropout(self.mlp(self.second_norm(x)))
        return result


class RelativeBlock(nn.Module):
    """`Block` with `RelativeAttention`; its memory holds inputs of the block."""

    def __init__(
        self, n_models: int, width: int, n_heads: int, inner: int, dropout: float = 0.0
    ) -> None:
        """Make attention and the layers behind it."""
        super().__init__()
        self.first_norm = LayerNorm(n_models, width)
        self.attention = RelativeAttention(n_models, width, n_heads)
        self.second_norm = LayerNorm(n_models, width)
        self.mlp = Mlp(n_models, width, inner, dropout)
        self.dropout = Dropout(dropout)

    def forward(self, x: torch.Tensor, memory: torch.Tensor, allowed: torch.Tensor) -> torch.Tensor:
        """Return values of x's shape."""
        gathered = self.attention(self.first_norm(x), self.first_norm(memory), allowed)
        x = x + self.dropout(gathered)
        result: torch.Tensor = x + self.dropout(self.mlp(self.second_norm(x)))
        return result


def run(block: Callable[..., torch.Tensor], *inputs: object, again: bool) -> torch.Tensor:
    """Return ``block(*inputs)``; ``again``: forget its activations and compute them twice.

    Gradient checkpointing (Chen et al. 2016) holds one block's activations at a time, for about a
    third more operations. What the block draws is drawn the same the second time.
    """
    if not again:
        return block(*inputs)
    result: torch.Tensor = checkpoint(block, *inputs, use_reentrant=False, preserve_rng_state=False)
    return result
