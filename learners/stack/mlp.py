"""Dense layers of a stack with their gradients written out: a small net is mostly overhead.

At widths of 64 to 256 an automatic gradient spends more time on its graph, on fresh memory and on
transposed weight gradients than on products. Here a whole chain of layers is one step of that
graph, works in place, and hands out weight gradients as the optimiser wants them
(`benchmarks/learn_stacked.py` measures it).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from learners.stack.layers import Linear

EPSILON = 1e-5
"""Of the normalisation, as `torch.nn.LayerNorm` has it."""

NARROW = 32
"""Fewer outputs than these are multiplied the other way round: rows fill vectors that few columns
do not. 128 rows of 128 values to 11 take 62 us instead of 115, six models at once."""


class Mlp(nn.Module):
    """Layers of ``linear, [norm,] ReLU[, dropout]`` and a last linear one, [S, ..., D] -> D'.

    The norm is layer normalisation (Ba et al. 2016) without gain and offset, which cost a third of
    a small layer's time and changed no result we measured.
    """

    def __init__(
        self,
        n_models: int,
        n_in: int,
        hidden: Sequence[int],
        n_out: int,
        *,
        layer_norm: bool = False,
    ) -> None:
        """Make the layers; ``hidden`` may be empty."""
        super().__init__()
        widths = [n_in, *hidden, n_out]
        self.layers = nn.ModuleList(
            Linear(n_models, a, b) for a, b in zip(widths[:-1], widths[1:], strict=True)
        )
        self.layer_norm = layer_norm

    def forward(
        self, x: torch.Tensor, keep: Sequence[torch.Tensor] = (), *, fixed: bool = False
    ) -> torch.Tensor:
        """Return the values.

        Args:
            x: inputs; rows [S, B, D] are cheapest.
            keep: dropout, one factor [S, B, H] a hidden layer: 0 or 1 / (1 - share dropped).
            fixed: whether gradients go to x alone and those of the weights are not worked out.
        """
        linear = [layer for layer in self.layers if isinstance(layer, Linear)]
        if linear[0].plain:
            return self._plain(x, linear)
        weights: list[torch.Tensor | None] = []
        for layer in linear:
            weights += [layer.weight, layer.bias]
        if fixed:
            weights = [w if w is None else w.detach() for w in weights]
        rows = x.reshape(x.shape[0], -1, x.shape[-1])
        values: torch.Tensor = _Dense.apply(rows, self.layer_norm, list(keep), *weights)  # type: ignore[no-untyped-call]
        return values.reshape(*x.shape[:-1], values.shape[-1])

    def _plain(self, x: torch.Tensor, linear: list[Linear]) -> torch.Tensor:
        for layer in linear[:-1]:
            x = layer(x)
            if self.layer_norm:
                # the width of the weights: that of x is no constant where a graph is traced
                x = functional.layer_norm(x, (layer.weight.shape[-2],), eps=EPSILON)
            x = torch.relu(x)
        result: torch.Tensor = linear[-1](x)
        return result


def level_out(mlp: Mlp, scale: float = 0.01) -> None:
    """Shrink the last layer so that first outputs are nearly equal (Andrychowicz et al. 2021)."""
    last = mlp.layers[-1]
    with torch.no_grad():
        for weight in last.parameters():
            weight.mul_(scale)


class _Dense(torch.autograd.Function):
    """The layers of `Mlp` on rows [S, B, D]; weights come as w0, b0, w1, b1, ..."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, norm: bool, keep: list[torch.Tensor], *weights: torch.Tensor
    ) -> torch.Tensor:
        ctx.norm, ctx.keep, ctx.norms, ctx.n = norm, keep, [], len(weights) // 2
        hidden = [x]
        for i in range(ctx.n):
            weight, bias = weights[2 * i], weights[2 * i + 1]
            if i == ctx.n - 1 and weight.shape[1] < NARROW:
                x = torch.baddbmm(bias[:, :, None], weight, x.mT).mT
                break
            x = torch.baddbmm(bias[:, None], x, weight.mT)
            if i == ctx.n - 1:
                break
            if norm:
                unit = _unit(x.shape[-1], x.dtype, x.device)
                normal = torch.native_layer_norm(x, [x.shape[-1]], *unit, EPSILON)
                ctx.norms.append((x, normal[1], normal[2]))
                x = normal[0]
            torch.relu_(x)
            if keep:
                x.mul_(keep[i])
            hidden.append(x)
        ctx.hidden, ctx.weights = hidden, weights
        return x

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        """Return the gradients of x and of every weight; W's is [S, D', D] and contiguous."""
        out: list[torch.Tensor | None] = [None] * (2 * ctx.n)
        for i in reversed(range(ctx.n)):
            if ctx.needs_input_grad[3 + 2 * i]:
                out[2 * i] = torch.bmm(gradient.mT, ctx.hidden[i])
                out[2 * i + 1] = gradient.sum(1)
            if i == 0 and not ctx.needs_input_grad[0]:
                return (None, None, None, *out)
            gradient = torch.bmm(gradient, ctx.weights[2 * i])
            if i > 0:
                gradient = _through(gradient, i - 1, ctx)
        return (gradient, None, None, *out)


@functools.cache
def _unit(
    width: int, dtype: torch.dtype, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a gain of 1 and an offset of 0: torch normalises in 95 us with them, in 160 without.

    (98,304 values on the CPU: its kernel for neither uses no vectors.)
    """
    gain = torch.ones(width, dtype=dtype, device=device)
    return gain, torch.zeros_like(gain)


def _through(gradient: torch.Tensor, i: int, ctx: Any) -> torch.Tensor:
    """Return the gradient before hidden layer ``i``'s norm, ReLU and dropout; may overwrite it."""
    if ctx.keep:
        gradient.mul_(ctx.keep[i])
    passed = ctx.hidden[i + 1]
    torch.ops.aten.threshold_backward.grad_input(gradient, passed, 0, grad_input=gradient)
    if not ctx.norm:
        return gradient
    before, mean, deviation = ctx.norms[i]
    back = torch.ops.aten.native_layer_norm_backward(
        gradient, before, [before.shape[-1]], mean, deviation, None, None, [True, False, False]
    )
    result: torch.Tensor = back[0]
    return result
