"""Stacked attention is each model's own; relative positions are what the paper's sum says."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from learners.stack.attention import (
    Attention,
    Block,
    RelativeAttention,
    RelativeBlock,
    relative_shift,
    run,
    sinusoids,
)
from learners.stack.layers import unstack
from learners.stack.normaliser import Normaliser
from learners.stack.random import Dropout, Noise, set_keys


def test_attention_equals_torchs_own() -> None:
    torch.manual_seed(0)
    ours, x = Attention(1, 8, 2), torch.randn(1, 3, 5, 8)
    known = torch.tensor([[True] * 5, [True] * 3 + [False] * 2, [True] * 4 + [False]])[None]
    theirs, _ = functional.multi_head_attention_forward(
        x[0].transpose(0, 1), x[0].transpose(0, 1), x[0].transpose(0, 1), 8, 2,
        ours.mixed.weight[0], ours.mixed.bias[0], None, None, False, 0.0,  # type: ignore[index]
        ours.out.weight[0], ours.out.bias[0], key_padding_mask=~known[0],  # type: ignore[index]
    )  # fmt: skip
    torch.testing.assert_close(ours(x, known)[0], theirs.transpose(0, 1))


@pytest.mark.parametrize(("n_queries", "n_keys"), [(1, 1), (3, 3), (3, 7), (1, 4)])
def test_relative_shift_equals_the_naive_lookup(n_queries: int, n_keys: int) -> None:
    scores = torch.randn(2, n_queries, n_keys)
    shifted = relative_shift(scores)
    for i in range(n_queries):
        for j in range(n_keys - n_queries + i + 1):
            distance = n_keys - n_queries + i - j
            assert torch.equal(shifted[:, i, j], scores[:, i, n_keys - 1 - distance])


def test_relative_attention_equals_the_sum_over_pairs() -> None:
    torch.manual_seed(1)
    layer = unstack(RelativeAttention(1, 8, 2), 0)
    x, memory = torch.randn(1, 3, 8), torch.randn(1, 4, 8)
    layer.by_content.weight.data.normal_()
    layer.by_distance.weight.data.normal_()
    allowed = torch.ones(1, 3, 7, dtype=torch.bool).tril(4)
    allowed[:, :, 0] = False
    found = layer(x, memory, allowed)
    q = layer.query(x)[0].reshape(3, 2, 4)
    k, v = (t[0].reshape(7, 2, 4) for t in layer.remembered(torch.cat([memory, x], 1)).chunk(2, -1))
    r = layer.distance(sinusoids(7, 8, x)).reshape(7, 2, 4)
    content, distance = (t.weight.reshape(2, 4) for t in (layer.by_content, layer.by_distance))
    expected = torch.zeros(3, 2, 4)
    for i in range(3):
        for h in range(2):
            seen = range(1, 4 + i + 1)
            scores = torch.stack([
                ((q[i, h] + content[h]) @ k[j, h] + (q[i, h] + distance[h]) @ r[6 - (4 + i - j), h])
                / 2.0
                for j in seen
            ])  # fmt: skip
            expected[i, h] = scores.softmax(0) @ v[list(seen), h]
    torch.testing.assert_close(found[0], layer.out(expected.reshape(3, 8)))


def test_blocks_of_a_stack_are_its_models_one_by_one() -> None:
    torch.manual_seed(2)
    x, memory = torch.randn(3, 2, 4, 8), torch.randn(3, 2, 5, 8)
    allowed = torch.ones(3, 2, 4, 9, dtype=torch.bool).tril(5)
    known = torch.ones(3, 2, 4, dtype=torch.bool)
    known[1, 0, 2:] = False
    block, relative = Block(3, 8, 2, 16), RelativeBlock(3, 8, 2, 16)
    with torch.no_grad():
        whole, other = block(x, known), relative(x, memory, allowed)
        for i in range(3):
            torch.testing.assert_close(unstack(block, i)(x[i], known[i]), whole[i])
            alone = unstack(relative, i)(x[i], memory[i], allowed[i])
            torch.testing.assert_close(alone, other[i])


def test_what_is_computed_twice_draws_the_same() -> None:
    torch.manual_seed(3)
    block, x = Block(2, 8, 2, 16, dropout=0.3), torch.randn(2, 3, 4, 8)
    set_keys(block, [7, 9])
    gradients = []
    for again in (False, True):
        loss = run(block, x, None, again=again).square().sum()
        gradients.append(torch.autograd.grad(loss, list(block.parameters())))
    for once, twice in zip(*gradients, strict=True):
        torch.testing.assert_close(once, twice)


def test_draws_of_a_model_depend_on_its_key_alone() -> None:
    x = torch.ones(2, 1000)
    for layer in (Dropout(0.25), Noise(0.5)):
        assert torch.equal(layer(x), x)
        set_keys(layer, [3, 4])
        both = layer(x)
        set_keys(layer, [4])
        assert torch.equal(layer(x[1:]), both[1:])
        assert not torch.equal(both[0], both[1])
        assert abs(both.mean().item() - 1.0) < 0.05
        assert torch.equal(layer.eval()(x), x)


def test_normaliser_is_each_models_own_and_leaves_constants_alone() -> None:
    norm = Normaliser(2, 2)
    rows = np.array([[1.0, 5.0], [3.0, 5.0]], np.float32)
    norm.fix([rows, 10 * rows])
    x = torch.tensor(np.stack([rows, 10 * rows]))
    expected = torch.tensor([[-1.0, 0.0], [1.0, 0.0]])
    torch.testing.assert_close(norm(x), torch.stack([expected, expected]))
    torch.testing.assert_close(unstack(norm, 1)(x[1]), expected)
