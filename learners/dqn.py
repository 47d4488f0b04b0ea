"""Double DQN on n-step transitions, with a large margin on demonstrations.

Sources: van Hasselt et al. 2016 (target), Schaul et al. 2016 (importance weights), Hester et al.
2018 (margin). Differs from them: the target network follows by Polyak averaging, and what is
exported is a slower average still (Polyak and Juditsky 1992), for the average of many steps plays
better and more steadily than the last one. Both begin by polynomial-decay averaging (Shamir and
Zhang 2013), or they would hold on to the first, random weights for hundreds of steps.
"""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional
from torch.nn.utils import clip_grad_norm_

from learners.adam import Adam
from learners.networks import ValueGraph, mask_illegal
from learners.replay.form import Batch
from learners.settings import ModelSettings

MIN_DEVIATION = 1e-2
"""A feature that hardly varies is not blown up by the normaliser."""

DECAY = 8
"""Shamir and Zhang's eta: an average's early steps reach back over a ninth of all steps so far."""


@dataclasses.dataclass(frozen=True, slots=True)
class Update:
    """What one gradient step tells."""

    errors: NDArray[np.float32]
    """TD errors [B] before the step."""
    loss: float
    margin_loss: float
    q_mean: float
    """Mean value of the actions taken."""


def averaging_step(rate: float, n: int) -> float:
    """Return the weight of the newest value in its ``n``-th average, counted from 1.

    ``(eta + 1) / (n + eta)`` (Shamir and Zhang 2013), 1 at first, until it has come
    down to ``rate``; from there on an exponential average.
    """
    return max(rate, (DECAY + 1) / (n + DECAY))


def double_q_targets(
    reward: torch.Tensor,
    discount: torch.Tensor,
    next_online: torch.Tensor,
    next_target: torch.Tensor,
    next_legal: torch.Tensor,
) -> torch.Tensor:
    """Return ``R + gamma^m * Q_target(s', argmax_legal Q_online(s', a))`` for each row [..., B].

    Args:
        reward: n-step returns [..., B].
        discount: ``gamma^m`` [..., B], 0 where the episode terminated.
        next_online: Q of the online network [..., B, A].
        next_target: Q of the target network [..., B, A].
        next_legal: bool [..., B, A]; where nothing is legal nothing is bootstrapped.
    """
    best = mask_illegal(next_online, next_legal).argmax(-1, keepdim=True)
    value = next_target.gather(-1, best)[..., 0]
    return reward + torch.where(next_legal.any(-1), discount, 0.0) * value


def margin_losses(
    values: torch.Tensor, action: torch.Tensor, legal: torch.Tensor, margin: float
) -> torch.Tensor:
    """Return ``max_a [Q(s, a) + margin (a != a_E)] - Q(s, a_E)`` over legal actions, for each row.

    Args:
        values: Q [..., B, A].
        action: the demonstrator's actions [..., B, 1].
        legal: bool [..., B, A].
        margin: how far the demonstrator's action must stand above the others.
    """
    taken = values.gather(-1, action)
    raised = (values + margin).scatter(-1, action, taken)
    return mask_illegal(raised, legal).max(-1).values - taken[..., 0]


class DoubleDqn:
    """The algorithm "dqn": an online network, its average and an optimiser."""

    name = "dqn"

    def __init__(self, settings: ModelSettings, device: torch.device) -> None:
        """Make the networks from the settings' seed; the same seed makes the same weights."""
        self._learner = settings.learner
        self._device = device
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.derived_seed("weights"))
            online = ValueGraph(settings.shape, settings.learner)
        self.online = online.to(device)
        self.target = copy.deepcopy(self.online).requires_grad_(False)
        self._parameters: list[torch.Tensor] = list(self.online.parameters())
        self._averages: list[torch.Tensor] = list(self.target.parameters())
        self.average = copy.deepcopy(self.target)
        self._slow: list[torch.Tensor] = list(self.average.parameters())
        self._optimiser = Adam(self._parameters, settings.learner.learning_rate)

    @property
    def policy(self) -> ValueGraph:
        """The graph that games are given."""
        return self.average

    def fit_normaliser(self, observations: NDArray[np.float32]) -> None:
        """Fix mean and scale from observations [N, D], if the settings ask for it."""
        if not self._learner.normalise:
            return
        mean = observations.mean(0, dtype=np.float64)
        deviation = np.maximum(observations.std(0, dtype=np.float64), MIN_DEVIATION)
        for graph in (self.online, self.target, self.average):
            graph.mean.copy_(torch.from_numpy(mean))
            graph.scale.copy_(torch.from_numpy(1.0 / deviation))

    def update(self, batch: Batch) -> Update:
        """Take one gradient step."""
        learner = self._learner
        target = self._targets(batch)
        action = self._tensor(batch.action)[:, None]
        values = self.online.values(self._tensor(batch.observation).float())
        taken = values.gather(1, action)[:, 0]
        weight = self._tensor(batch.weight)
        loss = (weight * functional.smooth_l1_loss(taken, target, reduction="none")).mean()
        margin_loss = torch.zeros((), device=self._device)
        if learner.margin_weight > 0:
            legal = self._tensor(batch.legal).bool()
            rows = margin_losses(values, action, legal, learner.margin)
            margin_loss = (self._tensor(batch.columns["demonstration"]).float() * rows).mean()
        self._step(loss + learner.margin_weight * margin_loss)
        detached = taken.detach()
        return Update(
            errors=(target - detached).cpu().numpy(),
            loss=float(loss.detach()),
            margin_loss=float(margin_loss.detach()),
            q_mean=float(detached.mean()),
        )

    def _targets(self, batch: Batch) -> torch.Tensor:
        with torch.no_grad():
            following = self._tensor(batch.next_observation).float()
            return double_q_targets(
                self._tensor(batch.reward) * self._learner.reward_scale,
                self._tensor(batch.discount),
                self.online.values(following),
                self.target.values(following),
                self._tensor(batch.next_legal).bool(),
            )

    def _step(self, loss: torch.Tensor) -> None:
        self._optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        clip_grad_norm_(self._parameters, self._learner.grad_clip)
        self._optimiser.step()
        n = self._optimiser.n_steps
        with torch.no_grad():
            step = averaging_step(self._learner.polyak, n)
            torch._foreach_lerp_(self._averages, self._parameters, step)
            step = averaging_step(self._learner.average, n)
            torch._foreach_lerp_(self._slow, self._averages, step)

    def _tensor(self, values: NDArray[Any]) -> torch.Tensor:
        return torch.from_numpy(values).to(self._device)

    def values(
        self, observation: NDArray[np.float32], legal: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        """Return the policy's values [B, A], illegal actions at `ILLEGAL_Q`."""
        with torch.no_grad():
            values = self.average(self._tensor(observation), self._tensor(legal))
        result: NDArray[np.float32] = values.cpu().numpy()
        return result

    def state(self) -> dict[str, torch.Tensor]:
        """Return copies of all tensors that the next update depends on."""
        tensors = {f"online.{k}": v for k, v in self.online.state_dict().items()}
        tensors |= {f"target.{k}": v for k, v in self.target.state_dict().items()}
        tensors |= {f"average.{k}": v for k, v in self.average.state_dict().items()}
        tensors |= {f"adam.{k}": v for k, v in self._optimiser.state().items()}
        return {k: v.detach().cpu().clone() for k, v in tensors.items()}

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        """Take a `state`."""
        graphs = {"online.": self.online, "target.": self.target, "average.": self.average}
        for prefix, graph in graphs.items():
            graph.load_state_dict(_part(state, prefix))
        self._optimiser.restore(_part(state, "adam."))


def _part(state: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
