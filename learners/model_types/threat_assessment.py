"""Threat of each enemy: the damage it will do to the actor's pack in the next steps, and how sure.

A deep ensemble (Lakshminarayanan et al. 2017): members of one form learn from other first weights
and other draws; each tells a mean and a deviation, and they are read as one normal distribution
whose deviation is then scaled to fit matches that no member learned from.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, ClassVar

import numpy as np
import torch
from msgspec import Meta
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from learners.feeds import Feeds, feeds
from learners.model_types.ahead import discounted_ahead, pack_steps
from learners.model_types.base import Port, Preset, Share, TypeSettings
from learners.model_types.supervised import (
    Columns,
    SupervisedSettings,
    SupervisedStack,
    SupervisedType,
    Tensors,
)
from learners.stack.layers import Stacked, unstack
from learners.stack.normaliser import Normaliser
from learners.stack.random import Noise
from schemas.practice import Episodes, Layout

LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Central intervals whose coverage makes the calibration error (Kuleshov et al. 2018)."""

Z_90 = 1.6448536
"""Half the width of the central 90 % of a normal distribution, in deviations."""

HALF_LOG_2_PI = 0.5 * math.log(2.0 * math.pi)


def normal_loss(
    target: torch.Tensor, mean: torch.Tensor, variance: torch.Tensor, beta: float = 0.0
) -> torch.Tensor:
    """Return the negative log-likelihood of targets under normal distributions, of their shape.

    ``beta`` > 0 weighs each by ``variance^beta`` without gradient (Seitzer et al. 2022): far off
    means keep learning where a large variance would have excused them.
    """
    loss = 0.5 * (variance.log() + (target - mean).square() / variance) + HALF_LOG_2_PI
    return loss * variance.detach() ** beta if beta > 0 else loss


def mixed(mean: torch.Tensor, variance: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return mean and variance of the even mixture over axis 0 (the paper's section 2.4)."""
    centre = mean.mean(0)
    return centre, (variance + mean.square()).mean(0) - centre.square()


class Members(Stacked):
    """``x W^T + b`` of M members in each of S models: [S, M, ..., D] -> [S, M, ..., D'].

    Members lie inside the weights [S, M * D', D], so that a model is still one slice of them.
    """

    def __init__(self, n_models: int, n_members: int, n_in: int, n_out: int) -> None:
        """Draw as `torch.nn.Linear` does."""
        super().__init__()
        self.n_members, bound = n_members, 1.0 / math.sqrt(n_in)
        wide = n_members * n_out
        self.weight = nn.Parameter(torch.empty(n_models, wide, n_in).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(n_models, wide).uniform_(-bound, bound))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the products; the plain form takes [M, ..., D]."""
        weight = self.weight.reshape(-1, self.weight.shape[-2] // self.n_members, x.shape[-1])
        bias = self.bias.reshape(weight.shape[0], 1, -1)
        lead = x.shape[:1] if self.plain else x.shape[:2]
        rows = x.reshape(weight.shape[0], -1, x.shape[-1])
        product = torch.baddbmm(bias, rows, weight.transpose(1, 2))
        return product.reshape(*lead, *x.shape[len(lead) : -1], weight.shape[1])


class ThreatSettings(SupervisedSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of `threat_assessment`."""

    discount: Annotated[float, Meta(ge=0, lt=1)] = 0.95
    horizon: Annotated[int, Meta(ge=1)] = 8
    """Steps ahead whose damage counts."""
    members: Annotated[int, Meta(ge=1)] = 5
    hidden: tuple[Annotated[int, Meta(ge=1)], ...] = (256, 256, 256)
    beta: Share = 0.0
    """0: the likelihood itself; 0.5: means learn faster where the spread is wide."""
    least_deviation: Annotated[float, Meta(gt=0)] = 0.05
    """In deviations of all targets: nobody is surer than that."""
    calibration: Annotated[float, Meta(ge=0, lt=1)] = 0.1
    """Share of the matches, spread over all, that no member learns from: they fix the
    temperature."""


class ThreatNet(nn.Module):
    """Facts of all, of one enemy, and of the enemies together -> mean and variance of each."""

    centre: torch.Tensor
    spread: torch.Tensor
    temperature: torch.Tensor
    """[S] what deviations are multiplied by behind this network."""

    def __init__(self, settings: ThreatSettings, layout: Layout) -> None:
        """Make a stack of one."""
        super().__init__()
        m, width = settings.members, settings.hidden[0]
        self.n_members, self.least = m, settings.least_deviation**2
        self.observation_norm = Normaliser(1, layout.n_features)
        self.enemy_norm = Normaliser(1, layout.n_enemy_features)
        self.register_buffer("centre", torch.zeros(1))
        self.register_buffer("spread", torch.ones(1))
        self.register_buffer("temperature", torch.ones(1))
        self.noise = Noise(settings.noise)
        self.of_actor = Members(1, m, layout.n_features, width)
        self.of_enemy = Members(1, m, layout.n_enemy_features, width)
        self.of_all = Members(1, m, layout.n_enemy_features, width)
        sizes = [*settings.hidden, 2]
        self.layers = nn.ModuleList(
            Members(1, m, a, b) for a, b in zip(sizes[:-1], sizes[1:], strict=True)
        )

    def forward(
        self, observation: torch.Tensor, enemies: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return mean and variance [S, M, B, E] in deviations of the target.

        Takes [S, M, B, D] and [S, M, B, E, F]; the plain form has no S.
        """
        seen = self.noise(self.observation_norm(observation))
        there = there_are(enemies)[..., None]
        facts = torch.where(there, self.noise(self.enemy_norm(enemies)), 0.0)
        together = facts.sum(-2) / there.sum(-2).clamp(min=1)
        x = self.of_enemy(facts) + (self.of_actor(seen) + self.of_all(together))[..., None, :]
        for layer in self.layers:
            x = layer(functional.gelu(x))
        mean, raw = x.unbind(-1)
        return mean, functional.softplus(raw) + self.least


def there_are(enemies: torch.Tensor) -> torch.Tensor:
    """Return which enemies of [..., E, F] live: the facts of the dead are all zeros."""
    return (enemies != 0).any(-1)


class ThreatGraph(nn.Module):
    """Model i alone: the mixture of its members in the target's own unit, calibrated."""

    def __init__(self, net: ThreatNet) -> None:
        """Take the plain form."""
        super().__init__()
        self.net = net

    def forward(
        self, observation: torch.Tensor, enemies: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return mean and deviation [B, E] of [B, D] and [B, E, F]; both 0 for the dead."""
        m = self.net.n_members
        mean, variance = mixed(
            *self.net(observation.expand(m, *observation.shape), enemies.expand(m, *enemies.shape))
        )
        there = there_are(enemies).to(mean.dtype)
        deviation = variance.sqrt() * (self.net.temperature * self.net.spread)
        return (mean * self.net.spread + self.net.centre) * there, deviation * there


class ThreatStack(SupervisedStack):
    """S ensembles in training."""

    _settings: ThreatSettings
    _net: ThreatNet

    @property
    def _n_drawn(self) -> int:
        return self._settings.batch * self._settings.members  # each member draws its own

    def _columns(self, rows: Episodes) -> Columns:
        where, threat, behind = pack_steps(rows)
        settings = self._settings
        target, known = discounted_ahead(threat, behind, settings.discount, settings.horizon)
        return {
            "observation": rows.observation,
            "enemies": rows.enemies,
            "target": target[where],
            "known": known[where],
            "kept": spread_matches(rows.match, settings.calibration),
        }

    def _usable(self, columns: Columns) -> NDArray[np.bool_]:
        there: NDArray[np.bool_] = (columns["enemies"] != 0).any((1, 2))
        return there & columns["known"]

    def _learnable(self, columns: Columns) -> NDArray[np.int64]:
        return np.flatnonzero(self._usable(columns) & ~columns["kept"])

    def _fix(self, columns: Sequence[Columns], places: Sequence[NDArray[np.int64]]) -> None:
        net = self._net
        net.observation_norm.fix([one["observation"] for one in columns])
        live = [(one["enemies"] != 0).any(-1) for one in columns]
        net.enemy_norm.fix([one["enemies"][at] for one, at in zip(columns, live, strict=True)])
        for i, (one, at, where) in enumerate(zip(columns, live, places, strict=True)):
            target = one["target"][where][at[where]]
            if len(target):
                net.centre[i] = float(target.mean())
                net.spread[i] = max(float(target.std()), 1e-6)

    def _gather(
        self, columns: Columns, places: NDArray[np.int64], rng: np.random.Generator | None
    ) -> Columns:
        return {name: columns[name][places] for name in ("observation", "enemies", "target")}

    def _losses(self, batch: Tensors) -> tuple[torch.Tensor, Tensors]:
        m = self._settings.members
        batch = {k: v.reshape(len(v), m, -1, *v.shape[2:]) for k, v in batch.items()}
        mean, variance = self._net(batch["observation"], batch["enemies"])
        there = there_are(batch["enemies"])
        target = self._standard(batch["target"])
        loss = normal_loss(target, mean.float(), variance.float(), self._settings.beta)
        count = there.flatten(2).sum(2).clamp(min=1)
        # Summed over members, so that each takes the gradient that it would take alone.
        by_member = torch.where(there, loss, 0.0).flatten(2).sum(2) / count
        error = torch.where(there, (target - mean).square(), 0.0).flatten(2).sum(2) / count
        deviation = torch.where(there, variance.sqrt(), 0.0).flatten(2).sum(2) / count
        scalars = {"rmse": error.mean(1).sqrt(), "deviation": deviation.mean(1)}
        return by_member.sum(1), {"loss_of_member": by_member.mean(1), **scalars}

    def _standard(self, target: torch.Tensor) -> torch.Tensor:
        form = (-1, *[1] * (target.dim() - 1))
        return (target - self._net.centre.view(form)) / self._net.spread.view(form)

    def _mixture(self, batch: Tensors) -> tuple[torch.Tensor, torch.Tensor]:
        m = self._settings.members
        inputs = (
            batch[name][:, None].expand(-1, m, *batch[name].shape[1:])
            for name in ("observation", "enemies")
        )
        mean, variance = self._net(*inputs)
        return mixed(mean.float().transpose(0, 1), variance.float().transpose(0, 1))

    def _errors(self, batch: Tensors) -> tuple[Tensors, torch.Tensor]:
        mean, variance = self._mixture(batch)
        there = there_are(batch["enemies"])
        target = self._standard(batch["target"])
        scale = self._net.temperature.view(-1, 1, 1)
        z = (target - mean).abs() / (variance.sqrt() * scale)
        inside = torch.erf(z / math.sqrt(2.0))
        told = {
            "loss": normal_loss(target, mean, variance * scale.square()),
            "trivial": normal_loss(target, torch.zeros_like(mean), torch.ones_like(mean)),
            "squared": (target - mean).square(),
            "squared_z": z.square(),
            "coverage_90": (z <= Z_90).float(),
            **{f"coverage_{level}": (inside <= level).float() for level in LEVELS},
        }
        sums = {k: torch.where(there, v, 0.0).sum(-1) for k, v in told.items()}
        return sums, there.sum(-1)

    def calibrate(self) -> None:
        """Fit the temperatures to the kept matches, where there are some; no update reads them.

        The scale of greatest likelihood has a closed form: the root of the mean squared error in
        deviations.
        """
        kept = [np.flatnonzero(self._usable(one) & one["kept"]) for one in self._rows]
        if kept and all(map(len, kept)):
            self._net.temperature.fill_(1.0)
            found = super()._judge(self._rows, kept)["squared_z"]
            self._net.temperature.copy_(torch.from_numpy(np.sqrt(np.maximum(found, 1e-6))))

    def _judge(
        self, columns: Sequence[Columns], places: Sequence[NDArray[np.int64]]
    ) -> dict[str, NDArray[np.float32]]:
        self.calibrate()
        told = super()._judge(columns, places)
        missed = [np.abs(told.pop(f"coverage_{level}") - level) for level in LEVELS]
        told.pop("squared_z")
        rmse = np.sqrt(told.pop("squared"))
        return {
            **told,
            "rmse": rmse,
            "calibration_error": np.mean(missed, axis=0).astype(np.float32),
            "temperature": self._net.temperature.cpu().numpy().copy(),
        }

    def graph(self, i: int) -> nn.Module:
        """Return ``(observation, enemies) -> (mean, deviation)`` of model i."""
        self.calibrate()
        return ThreatGraph(unstack(self._net, i)).eval()

    def feeds(self, rows: Episodes, n: int) -> Feeds:
        """Return real inputs of the graph."""
        return feeds(TYPE.inputs(self._layout), rows, n)


def spread_matches(match: NDArray[np.int64], share: float) -> NDArray[np.bool_]:
    """Return which rows are of a ``share`` of matches at even distances: none of a single match.

    The newest ones alone may all be against one kind of opponents.
    """
    matches = np.unique(match)
    if share == 0.0 or len(matches) < 2:
        return np.zeros(len(match), np.bool_)
    n = min(max(1, round(share * len(matches))), len(matches) - 1)
    return np.isin(match, matches[((np.arange(n) + 0.5) * len(matches) / n).astype(np.int64)])


class ThreatAssessment(SupervisedType):
    """The type."""

    name: ClassVar[str] = "threat_assessment"
    settings: ClassVar[type[TypeSettings]] = ThreatSettings
    network: ClassVar[type[nn.Module]] = ThreatNet
    stack: ClassVar[type[SupervisedStack]] = ThreatStack

    def preset(self, name: Preset) -> ThreatSettings:
        """Return the settings of a preset; the specification leaves the classic one open."""
        if name == "classic":
            return ThreatSettings()
        return ThreatSettings(
            hidden=(64, 64), batch=128, learning_rate=1e-3, updates=600, beta=0.5,
            weight_decay=1e-2, noise=0.3, calibration=0.2,
        )  # fmt: skip

    def inputs(self, layout: Layout) -> list[Port]:
        """Return what the actor sees and the facts of its enemies: zeros for one that is dead."""
        return [
            Port("observation", (layout.n_features,)),
            Port("enemies", (layout.n_enemies, layout.n_enemy_features)),
        ]

    def outputs(self, layout: Layout) -> list[Port]:
        """Return mean and deviation of each enemy's damage in the next ``horizon`` steps."""
        return [Port("threat", (layout.n_enemies,)), Port("deviation", (layout.n_enemies,))]


TYPE = ThreatAssessment()
