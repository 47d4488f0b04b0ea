"""How scores are learned: Double DQN and discrete CQL by values, IQL and AWAC by a policy.

Sources: van Hasselt et al. 2016, Schaul et al. 2016, Hester et al. 2018 (margin), Kumar et al. 2020
(CQL), Kostrikov et al. 2022 (IQL), Nair et al. 2020 (AWAC). Differs from them: targets are n-step,
target networks follow by Polyak averaging, and IQL's and AWAC's policies are over a few actions,
so that AWAC's expectations are exact.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import nn
from torch.nn import functional

from learners.dqn import double_q_targets, margin_losses
from learners.model_types.value_nets import Keep, StateValue, Twin
from learners.model_types.value_settings import ValueSettings
from learners.networks import mask_illegal
from learners.offline import (
    advantage_weights,
    conservative_losses,
    expectile_losses,
    imitation_losses,
    policy_values,
)
from learners.stack.layers import per_model, unstack
from learners.stack.optimiser import StackedAdamW, flatten
from learners.stack.seeds import seeded

Make = Callable[[], nn.Module]

Judge = Callable[
    [torch.Tensor, torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor, torch.Tensor]
]
"""Values [N, A] of rows, the next states' value [N] and the scores [N, A] that choose; from
features, next features and the next masks, without S."""


@dataclasses.dataclass(frozen=True, slots=True)
class Tensors:
    """A batch on its device: B transitions of each of S models; features are normalised."""

    features: torch.Tensor
    next_features: torch.Tensor
    action: torch.Tensor
    """int64 [S, B, 1]."""
    legal: torch.Tensor
    """bool [S, B, A]."""
    next_legal: torch.Tensor
    reward: torch.Tensor
    discount: torch.Tensor
    weight: torch.Tensor
    logged: torch.Tensor
    """float32 [S, B]: 1 where the row came by `fit`."""
    demonstration: torch.Tensor


@dataclasses.dataclass(frozen=True, slots=True)
class Losses:
    """What a step minimises, each [S], by the optimiser that takes it."""

    by_optimiser: dict[str, torch.Tensor]
    errors: torch.Tensor
    """TD errors [S, B]."""
    scalars: dict[str, torch.Tensor]
    """[S] each, detached."""


class Method(Protocol):
    """The networks of one method and what they minimise."""

    modules: dict[str, nn.Module]
    optimisers: dict[str, StackedAdamW]
    scores: nn.Module
    """What acts and is exported."""

    def losses(self, batch: Tensors, keep: Keep) -> Losses:
        """Return the losses of a batch."""
        ...

    def follow(self) -> None:
        """Let the target networks follow, after a step."""
        ...

    def judge(self, i: int) -> Judge:
        """Return what model i makes of rows."""
        ...


def huber(error: torch.Tensor) -> torch.Tensor:
    """Return ``e^2 / 2``, or ``|e| - 1/2`` beyond 1, of each error."""
    return functional.smooth_l1_loss(error, torch.zeros_like(error), reduction="none")


def _twin_of(module: nn.Module) -> tuple[nn.Module, torch.Tensor]:
    """Return a copy that takes no gradients, and all its weights as one tensor."""
    target = copy.deepcopy(module).requires_grad_(False)
    return target, flatten(list(target.parameters()))


class ValueMethod:
    """Double DQN; with ``conservative`` above 0 it is discrete CQL.

    What is exported is the target network: the average of the last hundreds of steps plays better
    and more steadily than the last one (Polyak and Juditsky 1992).
    """

    def __init__(
        self, settings: ValueSettings, make: Make, seeds: Sequence[int], rates: Sequence[float]
    ) -> None:
        """Make the networks and their optimiser."""
        self._settings = settings
        self._online = seeded(make, seeds)
        self.scores, self._average = _twin_of(self._online)
        self._adam = StackedAdamW(
            list(self._online.parameters()), rates, settings.weight_decay, settings.grad_clip
        )
        self.modules = {"online": self._online, "target": self.scores}
        self.optimisers = {"online": self._adam}

    def losses(self, batch: Tensors, keep: Keep) -> Losses:
        """Return Huber losses of TD errors, and what margin and conservatism add."""
        settings = self._settings
        with torch.no_grad():
            target = double_q_targets(
                batch.reward, batch.discount, self._online(batch.next_features),
                self.scores(batch.next_features), batch.next_legal,
            )  # fmt: skip
        values = self._online(batch.features, keep)
        taken = values.gather(-1, batch.action)[..., 0]
        error = target - taken
        loss = per_model(batch.weight * huber(error))
        seen = taken.detach()
        scalars = {"q_mean": per_model(seen), "q_max": seen.amax(1), "loss_td": loss.detach()}
        if settings.conservative > 0:
            rows = conservative_losses(values, batch.action, batch.legal)
            share = 1.0 if settings.method == "cql" else batch.logged
            extra = per_model(share * rows)
            scalars["loss_conservative"] = extra.detach()
            loss = loss + settings.conservative * extra
        if settings.margin_weight > 0:
            rows = margin_losses(values, batch.action, batch.legal, settings.margin)
            extra = per_model(batch.demonstration * rows)
            scalars["loss_margin"] = extra.detach()
            loss = loss + settings.margin_weight * extra
        return Losses({"online": loss}, error.detach(), scalars)

    def follow(self) -> None:
        """Move the target towards the online network."""
        with torch.no_grad():
            self._average.lerp_(self._adam.flat, self._settings.polyak)

    def judge(self, i: int) -> Judge:
        """Return what model i makes of rows: the next value is the best legal action's."""
        scores = unstack(self.scores, i)

        def judged(
            features: torch.Tensor, next_features: torch.Tensor, next_legal: torch.Tensor
        ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
            values = scores(features)
            return values, mask_illegal(scores(next_features), next_legal).amax(-1), values

        return judged


class _PolicyMethod:
    """Twin critics and their target, a policy, and what they have in common."""

    def __init__(
        self, settings: ValueSettings, make: Make, seeds: Sequence[int], rates: Sequence[float]
    ) -> None:
        """Make the networks and their optimisers."""
        self._settings, self._rates = settings, rates
        self._critics = seeded(lambda: Twin(make), seeds)
        self._target, self._average = _twin_of(self._critics)
        self.scores = seeded(make, seeds)
        self.modules: dict[str, nn.Module] = {
            "critics": self._critics, "target": self._target, "policy": self.scores
        }  # fmt: skip
        self.optimisers = {
            "critics": self._optimiser(self._critics), "policy": self._optimiser(self.scores)
        }  # fmt: skip

    def _optimiser(self, module: nn.Module) -> StackedAdamW:
        settings = self._settings
        return StackedAdamW(
            list(module.parameters()), self._rates, settings.weight_decay, settings.grad_clip
        )

    def _critic(
        self, batch: Tensors, target: torch.Tensor, keep: Keep
    ) -> tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
        """Return the critics' loss [S], TD errors [S, B] and scalars."""
        taken = [
            q.gather(-1, batch.action)[..., 0] for q in self._critics.both(batch.features, keep)
        ]
        loss = sum((per_model(batch.weight * huber(target - q)) for q in taken), torch.zeros(()))
        seen = taken[0].detach()
        scalars = {"q_mean": per_model(seen), "q_max": seen.amax(1), "loss_td": loss.detach()}
        return loss, (target - taken[0]).detach(), scalars

    def _imitate(self, batch: Tensors, advantage: torch.Tensor, keep: Keep) -> torch.Tensor:
        """Return the policy's loss [S]: the log's actions, the better the more."""
        settings = self._settings
        weight = advantage_weights(advantage, settings.temperature, settings.largest_weight)
        scores = self.scores(batch.features, keep)
        return per_model(imitation_losses(scores, batch.action, batch.legal, weight))

    def follow(self) -> None:
        """Move the target towards the critics."""
        with torch.no_grad():
            self._average.lerp_(self.optimisers["critics"].flat, self._settings.polyak)

    def judge(self, i: int) -> Judge:
        """Return what model i makes of rows: the next value is the policy's."""
        critics, scores = unstack(self._target, i), unstack(self.scores, i)

        def judged(
            features: torch.Tensor, next_features: torch.Tensor, next_legal: torch.Tensor
        ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
            ahead = policy_values(scores(next_features), critics(next_features), next_legal)
            return critics(features), ahead, scores(features)

        return judged


class Awac(_PolicyMethod):
    """Critics value the policy; the policy follows the log's better actions."""

    def losses(self, batch: Tensors, keep: Keep) -> Losses:
        """Return the losses of critics and policy."""
        with torch.no_grad():
            ahead = policy_values(
                self.scores(batch.next_features), self._target(batch.next_features),
                batch.next_legal,
            )  # fmt: skip
            target = batch.reward + batch.discount * ahead
            values = self._critics(batch.features)
            mean = policy_values(self.scores(batch.features), values, batch.legal)
            advantage = values.gather(-1, batch.action)[..., 0] - mean
        loss, errors, scalars = self._critic(batch, target, keep)
        policy = self._imitate(batch, advantage, keep)
        scalars["loss_policy"] = policy.detach()
        return Losses({"critics": loss, "policy": policy}, errors, scalars)


class Iql(_PolicyMethod):
    """A value of the state nears the best of the log's actions; critics and policy follow it."""

    def __init__(
        self, settings: ValueSettings, make: Make, seeds: Sequence[int], rates: Sequence[float],
        n_features: int,
    ) -> None:  # fmt: skip
        """Make the networks, the value of the state too."""
        super().__init__(settings, make, seeds, rates)
        self._value = seeded(lambda: StateValue(settings, n_features), seeds)
        self.modules["value"] = self._value
        self.optimisers["value"] = self._optimiser(self._value)

    def losses(self, batch: Tensors, keep: Keep) -> Losses:
        """Return the losses of critics, value and policy."""
        with torch.no_grad():
            target = batch.reward + batch.discount * self._value(batch.next_features)
            taken = self._target(batch.features).gather(-1, batch.action)[..., 0]
        difference = taken - self._value(batch.features, keep)
        value = per_model(expectile_losses(difference, self._settings.expectile))
        loss, errors, scalars = self._critic(batch, target, keep)
        policy = self._imitate(batch, difference.detach(), keep)
        scalars |= {"loss_value": value.detach(), "loss_policy": policy.detach()}
        return Losses({"critics": loss, "value": value, "policy": policy}, errors, scalars)


def make_method(
    settings: ValueSettings,
    make: Make,
    seeds: Sequence[int],
    rates: Sequence[float],
    n_features: int,
) -> Method:
    """Return the settings' method with fresh networks; ``rates`` are learning rates [S]."""
    if settings.method == "iql":
        return Iql(settings, make, seeds, rates, n_features)
    if settings.method == "awac":
        return Awac(settings, make, seeds, rates)
    return ValueMethod(settings, make, seeds, rates)
