"""What a model draws does not depend on its neighbours."""

from __future__ import annotations

import numpy as np
import torch

from learners.stack.layers import Linear
from learners.stack.seeds import Draws, seeded


def test_weights_of_a_model_come_from_its_seed_alone() -> None:
    before = torch.random.get_rng_state()
    pair = seeded(lambda: Linear(1, 3, 2), [5, 7])
    alone = seeded(lambda: Linear(1, 3, 2), [7])
    assert pair.weight.shape == (2, 2, 3)
    assert torch.equal(pair.weight[1:], alone.weight)
    assert not torch.equal(pair.weight[0], pair.weight[1])
    assert torch.equal(torch.random.get_rng_state(), before)


def test_draws_of_a_model_come_from_its_seed_alone_and_go_on_from_a_state() -> None:
    pair, alone = Draws([5, 7]), Draws([7])
    np.testing.assert_array_equal(pair.random(3, 2)[1:], alone.random(3, 2))
    kept = pair.state()
    expected = pair.random(4)
    other = Draws([0, 0])
    other.restore(kept)
    np.testing.assert_array_equal(other.random(4), expected)
    assert not np.array_equal(Draws([5]).random(4), Draws([5], purpose=1).random(4))
