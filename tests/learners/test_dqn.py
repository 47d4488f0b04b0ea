"""Double DQN: numbers worked by hand, and Adam against torch's own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from learners.adam import Adam
from learners.dqn import DoubleDqn, averaging_step, double_q_targets, margin_losses
from learners.networks import ILLEGAL_Q, mask_illegal
from learners.replay.form import Batch
from tests.learners import toy

YES, NO = True, False


def targets(legal: list[bool], discount: float) -> float:
    """Target of one row with R = 0.5; the networks disagree about the best action."""
    online = torch.tensor([[1.0, 3.0, 9.0]])
    target = torch.tensor([[10.0, 20.0, 40.0]])
    got = double_q_targets(
        torch.tensor([0.5]), torch.tensor([discount]), online, target, torch.tensor([legal])
    )
    return float(got[0])


def test_target_takes_the_online_networks_choice_at_the_target_networks_value() -> None:
    assert targets([YES, YES, YES], 0.25) == 0.5 + 0.25 * 40.0


def test_target_never_bootstraps_an_illegal_action() -> None:
    assert targets([YES, YES, NO], 0.25) == 0.5 + 0.25 * 20.0


def test_target_of_a_terminated_step_is_its_return() -> None:
    assert targets([YES, YES, YES], 0.0) == 0.5


def test_target_without_a_legal_action_is_its_return() -> None:
    assert targets([NO, NO, NO], 0.25) == 0.5


def test_margin_loss_by_hand() -> None:
    values = torch.tensor([[1.0, 2.0, 9.0], [5.0, 1.0, 0.0], [1.0, 2.0, 9.0]])
    legal = torch.tensor([[YES, YES, NO], [YES, YES, YES], [YES, YES, YES]])
    action = torch.tensor([[0], [0], [0]])
    losses = margin_losses(values, action, legal, 0.3)
    # 2 + 0.3 - 1; the demonstrator's action stands 4 above; 9 + 0.3 - 1
    assert losses.tolist() == pytest.approx([1.3, 0.0, 8.3])


def test_mask_leaves_only_legal_actions() -> None:
    masked = mask_illegal(torch.tensor([[-5.0, 1.0]]), torch.tensor([[YES, NO]]))
    assert masked.tolist() == [[-5.0, ILLEGAL_Q]]


def batch(n: int = 8, **changes: object) -> Batch:
    rng = np.random.default_rng(0)
    values: dict[str, object] = {
        "observation": rng.random((n, toy.N_CELLS)).astype(np.float32),
        "legal": np.ones((n, toy.N_ACTIONS), np.uint8),
        "next_observation": rng.random((n, toy.N_CELLS)).astype(np.float32),
        "next_legal": np.ones((n, toy.N_ACTIONS), np.uint8),
        "action": rng.integers(0, toy.N_ACTIONS, n),
        "reward": np.ones(n, np.float32),
        "discount": np.zeros(n, np.float32),
        "weight": np.ones(n, np.float32),
        "slots": np.arange(n),
        "columns": {"demonstration": np.zeros(n, np.bool_)},
    }
    return Batch(**{**values, **changes})  # type: ignore[arg-type]


def learner(**changes: object) -> DoubleDqn:
    return DoubleDqn(toy.settings(0, **changes), torch.device("cpu"))


def copies(graph: torch.nn.Module) -> list[NDArray[np.float32]]:
    return [p.detach().numpy().copy() for p in graph.parameters()]


def test_update_reports_target_minus_value_and_the_huber_loss() -> None:
    dqn = learner(reward_scale=0.5)
    given = batch()
    with torch.no_grad():
        values = dqn.online.values(torch.from_numpy(given.observation).float())
    taken = values.gather(1, torch.from_numpy(given.action)[:, None])[:, 0].numpy()
    result = dqn.update(given)
    errors = 0.5 * given.reward - taken
    assert result.errors == pytest.approx(errors, abs=1e-6)
    small = np.abs(errors) < 1
    huber = np.where(small, 0.5 * errors**2, np.abs(errors) - 0.5)
    assert result.loss == pytest.approx(float(huber.mean()), abs=1e-6)
    assert result.q_mean == pytest.approx(float(taken.mean()), abs=1e-6)


def test_importance_weights_scale_each_rows_share() -> None:
    weight = np.zeros(8, np.float32)
    weight[3] = 1.0
    one = learner().update(batch(weight=weight))
    alone = 0.5 * one.errors[3] ** 2 if abs(one.errors[3]) < 1 else abs(one.errors[3]) - 0.5
    assert one.loss == pytest.approx(float(alone) / 8, abs=1e-6)


def test_margin_acts_on_demonstrations_only() -> None:
    shown = np.zeros(8, np.bool_)
    assert (
        learner(margin_weight=1.0).update(batch(columns={"demonstration": shown})).margin_loss
        == 0.0
    )
    shown[2] = True
    assert (
        learner(margin_weight=1.0).update(batch(columns={"demonstration": shown})).margin_loss > 0.0
    )


@pytest.mark.parametrize(
    ("rate", "n", "step"),
    [(0.01, 1, 1.0), (0.01, 2, 0.9), (0.01, 10, 0.5), (0.01, 892, 0.01), (0.6, 10, 0.6)],
)
def test_averages_begin_by_polynomial_decay(rate: float, n: int, step: float) -> None:
    assert averaging_step(rate, n) == pytest.approx(step)


def test_target_follows_the_online_network_and_the_policy_the_target() -> None:
    dqn = learner(polyak=0.25, average=0.95)
    target, policy = (copies(graph) for graph in (dqn.target, dqn.average))
    for step, slow in ((1.0, 1.0), (0.9, 0.95), (9 / 11, 0.95)):
        dqn.update(batch())
        target = [t + step * (o - t) for t, o in zip(target, copies(dqn.online), strict=True)]
        policy = [p + slow * (t - p) for p, t in zip(policy, target, strict=True)]
        for wanted, graph in ((target, dqn.target), (policy, dqn.policy)):
            for one, other in zip(wanted, copies(graph), strict=True):
                assert other == pytest.approx(one, abs=1e-6)


def test_a_restored_learner_averages_on_from_where_it_was() -> None:
    dqn, other = learner(polyak=0.25), learner(polyak=0.25)
    dqn.update(batch())
    other.restore(dqn.state())
    for one in (dqn, other):
        one.update(batch())
    for here, there in zip(copies(dqn.target), copies(other.target), strict=True):
        assert (here == there).all()


def test_gradient_is_clipped() -> None:
    dqn = learner(grad_clip=1e-3)
    dqn.update(batch(reward=np.full(8, 1e3, np.float32)))
    norms = [p.grad.norm() for p in dqn.online.parameters() if p.grad is not None]
    assert float(torch.stack(norms).norm()) == pytest.approx(1e-3, rel=1e-3)


def test_normaliser_is_fixed_from_observations_and_only_when_asked() -> None:
    observations = np.random.default_rng(1).normal(3.0, 2.0, (500, toy.N_CELLS))
    observations[:, 0] = 7.0  # never varies
    dqn = learner(normalise=True)
    dqn.fit_normaliser(observations.astype(np.float32))
    assert dqn.target.mean.numpy() == pytest.approx(observations.mean(0), rel=1e-4)
    assert float(dqn.target.scale[1]) == pytest.approx(1 / observations[:, 1].std(), rel=1e-4)
    assert float(dqn.target.scale[0]) == pytest.approx(100.0)
    plain = learner()
    plain.fit_normaliser(observations.astype(np.float32))
    assert float(plain.target.mean.abs().max()) == 0.0


def test_adam_takes_the_steps_of_the_paper() -> None:
    parameters = [torch.tensor([1.0, -2.0, 3.0]), torch.tensor([[0.5]])]
    adam = Adam(parameters, 0.1)
    values = [p.numpy().astype(np.float64) for p in parameters]
    first, second = ([np.zeros_like(v) for v in values] for _ in range(2))
    for t in range(1, 6):
        for i, parameter in enumerate(parameters):
            parameter.grad = torch.cos(parameter) * t
            gradient = parameter.grad.numpy().astype(np.float64)
            first[i] = 0.9 * first[i] + 0.1 * gradient
            second[i] = 0.999 * second[i] + 0.001 * gradient**2
            mean, square = first[i] / (1 - 0.9**t), second[i] / (1 - 0.999**t)
            values[i] = values[i] - 0.1 * mean / (np.sqrt(square) + 1e-8)
        adam.step()
        for parameter, value in zip(parameters, values, strict=True):
            assert parameter.numpy() == pytest.approx(value, rel=1e-5)
