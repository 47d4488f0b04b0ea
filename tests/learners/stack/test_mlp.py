"""Written-out gradients are the automatic ones, and the plain form is the stack's model."""

from __future__ import annotations

import pytest
import torch

from learners.stack.layers import unstack
from learners.stack.mlp import Mlp


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("dropped", [False, True])
def test_gradients_are_those_of_autograd(norm: bool, dropped: bool) -> None:
    torch.manual_seed(4)
    net = Mlp(3, 5, [8, 6], 4, layer_norm=norm).double()
    x = torch.randn(3, 7, 5, dtype=torch.float64, requires_grad=True)
    keep = [(torch.rand(3, 7, h) > 0.3).double() / 0.7 for h in (8, 6)] if dropped else []
    ours = net(x, keep)
    h = x
    for i, layer in enumerate(net.layers):
        h = layer(h)
        if i < 2:
            h = torch.nn.functional.layer_norm(h, (h.shape[-1],)) if norm else h
            h = torch.relu(h) * (keep[i] if dropped else 1.0)
    torch.testing.assert_close(ours, h)
    inputs = [x, *net.parameters()]
    away = torch.randn_like(h)
    expected = torch.autograd.grad((h * away).sum(), inputs)
    found = torch.autograd.grad((ours * away).sum(), inputs)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)
        assert a.is_contiguous()


def test_plain_form_is_the_model_of_the_stack() -> None:
    torch.manual_seed(5)
    net, x = Mlp(2, 5, [8], 4, layer_norm=True), torch.randn(2, 3, 7, 5)
    with torch.no_grad():
        torch.testing.assert_close(unstack(net, 1)(x[1]), net(x)[1])
