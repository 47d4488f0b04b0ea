"""The stacked LSTM is torch's, model by model."""

from __future__ import annotations

import torch
from torch import nn

from learners.stack.layers import unstack
from learners.stack.recurrent import Lstm


def _torchs(ours: Lstm, i: int, n_in: int) -> nn.LSTM:
    theirs = nn.LSTM(n_in, ours.width, ours.n_layers)
    alone = unstack(ours, i)
    with torch.no_grad():
        for n, layer in enumerate(alone.layers):
            parts = dict(layer.named_parameters())
            getattr(theirs, f"weight_ih_l{n}").copy_(parts["inner.weight"])
            getattr(theirs, f"weight_hh_l{n}").copy_(parts["recurrent.weight"])
            getattr(theirs, f"bias_ih_l{n}").copy_(parts["inner.bias"])
            getattr(theirs, f"bias_hh_l{n}").zero_()
    return theirs


def test_lstm_is_torchs_and_so_are_its_gradients() -> None:
    torch.manual_seed(0)
    ours, x = Lstm(2, 3, 5, 2), torch.randn(2, 7, 4, 3)
    h, c = torch.randn(2, 2, 4, 2, 5)
    first = torch.zeros(2, 7, 4, dtype=torch.bool)
    outputs = ours(x, (h, c), first)
    weight = dict(ours.named_parameters())["layers.0.recurrent.weight"]
    (gradient,) = torch.autograd.grad(outputs.square().sum(), weight)
    for i in range(2):
        theirs = _torchs(ours, i, 3)
        state = (h[i].transpose(0, 1).contiguous(), c[i].transpose(0, 1).contiguous())
        expected, _ = theirs(x[i], state)
        torch.testing.assert_close(outputs[i], expected)
        theirs_weight = dict(theirs.named_parameters())["weight_hh_l0"]
        (wanted,) = torch.autograd.grad(expected.square().sum(), theirs_weight)
        torch.testing.assert_close(gradient[i], wanted)


def test_steps_are_the_sequence_and_first_forgets() -> None:
    torch.manual_seed(1)
    ours, x = Lstm(2, 3, 5, 2), torch.randn(2, 6, 4, 3)
    first = torch.zeros(2, 6, 4, dtype=torch.bool)
    first[:, 3, 1] = True
    whole = ours(x, ours.zeros(2, 4), first)
    state, steps = ours.zeros(2, 4), []
    for t in range(6):
        goes_on = (~first[:, t]).float()[..., None, None]
        out, state = ours.step(x[:, t], (state[0] * goes_on, state[1] * goes_on))
        steps.append(out)
    torch.testing.assert_close(torch.stack(steps, 1), whole)
    begun = ours(x[:, 3:], ours.zeros(2, 4), first[:, 3:])
    torch.testing.assert_close(whole[:, 3:, 1], begun[:, :, 1])


def test_plain_form_steps_alike() -> None:
    torch.manual_seed(2)
    ours, x = Lstm(3, 4, 6, 2), torch.randn(3, 5, 4)
    h, c = torch.randn(2, 3, 5, 2, 6)
    out, (next_h, _) = ours.step(x, (h, c))
    alone, (alone_h, _) = unstack(ours, 2).step(x[2], (h[2], c[2]))
    torch.testing.assert_close(alone, out[2])
    torch.testing.assert_close(alone_h, next_h[2])
