"""A stack of models is those models one by one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from learners.stack.layers import LayerNorm, Linear, Table, per_model, unstack
from learners.stack.optimiser import StackedAdamW


class Net(nn.Module):
    def __init__(self, n_models: int) -> None:
        super().__init__()
        self.first, self.norm = Linear(n_models, 3, 8), LayerNorm(n_models, 8)
        self.last = Linear(n_models, 8, 2, bias=False)
        self.register_buffer("scale", torch.rand(n_models, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.last(torch.relu(self.norm(self.first(x))))
        return result


def test_stack_equals_its_models_one_by_one() -> None:
    torch.manual_seed(0)
    net, x = Net(4), torch.randn(4, 5, 6, 3)
    with torch.no_grad():
        whole = net(x)
        for i in range(4):
            torch.testing.assert_close(unstack(net, i)(x[i]), whole[i])


def test_unstack_has_no_stack_axis_and_leaves_the_stack_alone() -> None:
    net = Net(2)
    alone = unstack(net, 1)
    assert {k: list(v.shape) for k, v in alone.state_dict().items()} == {
        k: list(v.shape[1:]) for k, v in net.state_dict().items()
    }
    alone.first.weight.data.zero_()
    assert net.first.weight.abs().min() > 0
    with pytest.raises(IndexError):
        unstack(net, 2)


def test_table_is_drawn_for_each_model() -> None:
    table = Table(3, 5, 4)
    assert table().shape == (3, 5, 4)
    assert unstack(table, 0)().shape == (5, 4)


def test_adamw_of_a_stack_of_one_takes_torchs_steps() -> None:
    torch.manual_seed(1)
    net, twin = Linear(1, 4, 3), nn.Linear(4, 3)
    twin.load_state_dict({k: v[0] for k, v in net.state_dict().items()})
    ours = StackedAdamW(list(net.parameters()), [1e-2], weight_decay=0.1)
    groups: list[dict[str, Any]] = [
        {"params": [twin.weight]},
        {"params": [twin.bias], "weight_decay": 0.0},
    ]
    theirs = torch.optim.AdamW(groups, lr=1e-2, weight_decay=0.1)
    for _ in range(5):
        x = torch.randn(7, 4)
        ours.step(per_model(net(x[None]).square()).sum())
        theirs.zero_grad()
        twin(x).square().mean().backward()
        theirs.step()
    torch.testing.assert_close(net.weight[0], twin.weight)
    assert net.bias is not None
    torch.testing.assert_close(net.bias[0], twin.bias)


def test_models_of_a_stack_do_not_touch_each_other() -> None:
    """Rate, clip and gradient of one model leave the others bit for bit as they were."""
    torch.manual_seed(2)
    pair, single, x = Linear(2, 4, 3), Linear(1, 4, 3), torch.randn(2, 7, 4)
    single.load_state_dict({k: v[1:] for k, v in pair.state_dict().items()})
    both = StackedAdamW(list(pair.parameters()), [0.5, 1e-2], grad_clip=0.1)
    one = StackedAdamW(list(single.parameters()), [1e-2], grad_clip=0.1)
    for _ in range(3):
        both.step(per_model(pair(x).square()).sum())
        one.step(per_model(single(x[1:]).square()).sum())
    torch.testing.assert_close(pair.weight[1:], single.weight)


def test_adamw_goes_on_from_its_state() -> None:
    torch.manual_seed(3)
    net, x = Linear(2, 4, 3), torch.randn(2, 7, 4)
    first = StackedAdamW(list(net.parameters()), [1e-2, 1e-3], weight_decay=0.1, grad_clip=1.0)
    first.step(net(x).square().sum())
    weights, kept = {k: v.clone() for k, v in net.state_dict().items()}, first.state()
    first.step(net(x).square().sum())
    expected = net.weight.detach().clone()
    net.load_state_dict(weights)
    second = StackedAdamW(list(net.parameters()), [1e-2, 1e-3], weight_decay=0.1, grad_clip=1.0)
    second.restore(kept)
    second.step(net(x).square().sum())
    assert torch.equal(net.weight, expected)


def test_adamw_that_forgets_steps_like_a_new_one() -> None:
    torch.manual_seed(5)
    net, x = Linear(2, 4, 3), torch.randn(2, 7, 4)
    old = StackedAdamW(list(net.parameters()), [1e-2, 1e-3])
    old.step(net(1e3 * x).square().sum())
    old.forget()
    twin = Linear(2, 4, 3)
    twin.load_state_dict(net.state_dict())
    new = StackedAdamW(list(twin.parameters()), [1e-2, 1e-3])
    for _ in range(2):
        old.step(net(x).square().sum())
        new.step(twin(x).square().sum())
    assert torch.equal(net.weight, twin.weight)


def test_adamw_averages_the_gradients_of_several_losses() -> None:
    torch.manual_seed(4)
    net, x = Linear(2, 4, 3), torch.randn(2, 8, 4)
    twin = Linear(2, 4, 3)
    twin.load_state_dict(net.state_dict())
    parts = StackedAdamW(list(net.parameters()), [1e-2, 1e-2], grad_clip=0.5)
    parts.accumulate(2)
    whole = StackedAdamW(list(twin.parameters()), [1e-2, 1e-2], grad_clip=0.5)
    for _ in range(2):
        parts.step(per_model(net(x[:, :4]).square()).sum())
        kept = parts.state()
        parts = StackedAdamW(list(net.parameters()), [1e-2, 1e-2], grad_clip=0.5)
        parts.accumulate(2)
        parts.restore(kept)  # between two losses of a step
        parts.step(per_model(net(x[:, 4:]).square()).sum())
        whole.step(per_model(twin(x).square()).sum())
    torch.testing.assert_close(net.weight, twin.weight)
    assert parts.n_steps == 2


def test_frozen_weights_and_models_stay() -> None:
    torch.manual_seed(5)
    net, x = Net(2), torch.randn(2, 7, 3)
    optimiser = StackedAdamW(list(net.parameters()), [1e-2, 1e-2], weight_decay=0.1)
    optimiser.freeze(net.first.parameters())
    optimiser.scale_rates([1.0, 0.0])
    before = {k: v.clone() for k, v in net.state_dict().items()}
    optimiser.step(net(x).square().sum())
    assert torch.equal(net.first.weight, before["first.weight"])
    assert torch.equal(net.last.weight[1], before["last.weight"][1])
    assert not torch.equal(net.last.weight[0], before["last.weight"][0])
