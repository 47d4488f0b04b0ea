"""soft_actor_critic: where to aim, two numbers in [-1, 1], by SAC (Haarnoja et al. 2018)."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from msgspec import Meta
from numpy.typing import NDArray
from torch import nn

from learners import policy_losses as losses
from learners.feeds import Feeds, feeds
from learners.fragments import gather
from learners.model_types.base import (
    LearnError,
    Port,
    Preset,
    Share,
    Stack,
    TypeSettings,
    Update,
    checked,
)
from learners.model_types.policy_stack import NOTHING_TO_LEARN, PolicyStack
from learners.stack.layers import Stacked, per_model, unstack
from learners.stack.mlp import Mlp, level_out
from learners.stack.normaliser import Normaliser
from learners.stack.optimiser import StackedAdamW, flatten
from learners.stack.seeds import seeded
from learners.transitions import Transitions
from schemas.practice import Episodes, Floats, Head, Layout, Practice, View

MIN_LOG_STD, MAX_LOG_STD = -5.0, 2.0
"""The narrowest and widest normal distribution before tanh."""


class SacSettings(TypeSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of `soft_actor_critic`."""

    actor: tuple[int, ...] = (256, 256, 256)
    critic: tuple[int, ...] = (256, 256, 256)
    layer_norm: bool = False
    """In the critics: holds values of choices down that no row has (Ball et al. 2023)."""
    capacity: Annotated[int, Meta(ge=1)] = 50_000
    """Gathered rows that are kept for each model."""
    practice_steps: Annotated[int, Meta(ge=1)] = 128
    """Steps of a practice; as long as a match, or its end is never seen."""
    result_weight: Annotated[float, Meta(ge=0)] = 0.0
    """What a won match adds to each actor's last reward while practising, and a lost one takes."""
    reward_weight: Annotated[float, Meta(ge=0)] = 1.0
    """What the archetype's own rewards count."""
    gain_weight: Annotated[float, Meta(ge=0)] = 0.0
    """What an actor's own part in its pack's lead counts, step by step, while practising."""
    polyak: Annotated[float, Meta(gt=0, le=1)] = 0.005
    """Share that the target critics move towards the critics in an update."""
    target_entropy: float = -2.0
    """What the temperature steers to; minus the number of aims, as the paper has it."""
    first_temperature: Annotated[float, Meta(gt=0)] = 1.0
    temperature_rate: Annotated[float, Meta(gt=0)] = 1.0
    """Its learning rate beside the others': at theirs a short training ends before it falls."""
    first_log_std: Annotated[float, Meta(ge=MIN_LOG_STD, le=MAX_LOG_STD)] = 0.0
    n_step: Annotated[int, Meta(ge=1)] = 1
    """Steps of gathered play whose rewards are summed before the critics bootstrap."""
    clone_updates: Annotated[int, Meta(ge=0)] = 0
    """Updates in which the actor only copies logged aims while the critics learn already."""
    settle_updates: Annotated[int, Meta(ge=0)] = 0
    """Updates after those in which the actor practises as it is, and only the critics learn."""
    clone_weight: Annotated[float, Meta(ge=0)] = 0.0
    """Of the squared distance to the batch's aims when the actor follows the critics."""
    random_start: Share = 0.0
    """Share of the first practice's steps that is drawn uniformly, where nothing was logged."""


class Actor(nn.Module):
    """Mean and log deviation of the aims before tanh, [S, B, D] -> 2 x [S, B, K]."""

    def __init__(self, settings: SacSettings, n_features: int, n_aims: int) -> None:
        """Make a stack of one."""
        super().__init__()
        self.normaliser = Normaliser(1, n_features)
        self.net = Mlp(1, n_features, settings.actor, 2 * n_aims, layer_norm=settings.layer_norm)
        level_out(self.net)
        self.offset = settings.first_log_std
        self.n_aims = n_aims

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return mean and log deviation for normalised observations."""
        mean, spread = self.net(x).split(self.n_aims, -1)
        return mean, (spread + self.offset).clamp(MIN_LOG_STD, MAX_LOG_STD)


class Critics(nn.Module):
    """Two values of normalised observations and aims, [S, B, D], [S, B, K] -> [2, S, B]."""

    def __init__(self, settings: SacSettings, n_features: int, n_aims: int) -> None:
        """Make a stack of one."""
        super().__init__()
        sizes = (1, n_features + n_aims, settings.critic, 1)
        self.first = Mlp(*sizes, layer_norm=settings.layer_norm)
        self.second = Mlp(*sizes, layer_norm=settings.layer_norm)

    def forward(self, x: torch.Tensor, aim: torch.Tensor, *, fixed: bool = False) -> torch.Tensor:
        """Return both; ``fixed`` sends gradients to the aims alone."""
        both = torch.cat([x, aim], -1)
        pair = [self.first(both, fixed=fixed), self.second(both, fixed=fixed)]
        return torch.stack(pair)[..., 0]


class Temperature(Stacked):
    """The logarithm of the weight of entropy, [S, 1]."""

    def __init__(self, first: float) -> None:
        """Make a stack of one."""
        super().__init__()
        self.log = nn.Parameter(torch.full((1, 1), float(np.log(first))))


class AimGraph(nn.Module):
    """What is exported: the most likely aims [B, K] and their log deviations before tanh."""

    def __init__(self, actor: Actor) -> None:
        """Take the plain form of one model."""
        super().__init__()
        self.actor = actor

    def forward(self, observation: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return aims and log deviations."""
        mean, log_std = self.actor(self.actor.normaliser(observation))
        return mean.tanh(), log_std


class SacStack(PolicyStack):
    """Models of `soft_actor_critic` in training."""

    def __init__(
        self,
        settings: SacSettings,
        layout: Layout,
        seeds: Sequence[int],
        rates: Sequence[float],
        device: torch.device,
    ) -> None:
        """Make networks, optimisers and an empty replay."""
        sizes = (layout.n_features, layout.n_actions["aim"])
        self._actor = seeded(lambda: Actor(settings, *sizes), seeds).to(device)
        super().__init__(seeds, self._actor.normaliser, device)
        self._settings, self._layout = settings, layout
        # other seeds than the actor's, or their first layers would be drawn alike
        apart = [seed ^ 0x5DEECE66 for seed in seeds]
        self._critics = seeded(lambda: Critics(settings, *sizes), apart).to(device)
        self._target = copy.deepcopy(self._critics).requires_grad_(False)
        self._temperature = seeded(lambda: Temperature(settings.first_temperature), seeds)
        self._temperature.to(device)
        rates = [settings.learning_rate * rate for rate in rates]
        self._optimisers = {
            name: StackedAdamW(
                list(module.parameters()),
                [factor * rate for rate in rates],
                decay,
                settings.grad_clip,
            )  # fmt: skip
            for name, module, factor, decay in (
                ("actor", self._actor, 1.0, settings.weight_decay),
                ("critics", self._critics, 1.0, settings.weight_decay),
                ("temperature", self._temperature, settings.temperature_rate, 0.0),
            )
        }
        self._average = flatten(list(self._target.parameters()))
        self._rows = Transitions(self.n_models, settings.capacity, *sizes, device)

    def fit(self, rows: Sequence[Episodes]) -> None:
        """Take logged rows, of whatever policy: SAC learns off-policy."""
        self._rows.set_logged(rows, self._settings.reward_weight)
        self._fix([r.observation for r in rows])

    def _normals(self, *shape: int) -> torch.Tensor:
        drawn = [rng.standard_normal(shape, np.float32) for rng in self._draws.models]
        return torch.from_numpy(np.stack(drawn)).to(self._device)

    def _before(self, n_updates: int) -> bool:
        """Whether there is a log, and fewer updates were taken: what copies none has no start."""
        return bool((self._rows.n_logged > 0).all()) and self._n_updates < n_updates

    @property
    def _cloning(self) -> bool:
        return self._before(self._settings.clone_updates)

    @property
    def _settling(self) -> bool:
        """Whether the critics alone learn, or the actor copies: it follows no critic yet."""
        return self._before(self._settings.clone_updates + self._settings.settle_updates)

    def update(self) -> Update:
        """Take one step of critics, actor and temperature."""
        if (self._rows.sizes == 0).any():
            raise LearnError(NOTHING_TO_LEARN)
        batch = self._rows.draw(self._draws.models, self._settings.batch)
        x = self._actor.normaliser(batch["observation"])
        values, critic_loss = self._learn_values(batch, x)
        actor_loss, log_prob = self._learn_aims(x, batch["aim"])
        temperature = self._learn_temperature(log_prob)
        with torch.no_grad():
            self._average.lerp_(self._optimisers["critics"].flat, self._settings.polyak)
        self._n_updates += 1
        told = {
            "critic_loss": critic_loss, "actor_loss": actor_loss, "entropy": -per_model(log_prob),
            "temperature": temperature, "q_mean": per_model(values.movedim(1, 0)),
            "q_max": values.amax((0, 2)),
        }  # fmt: skip
        return self._told(critic_loss, told)

    def _targets(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        with torch.no_grad():
            following = self._actor.normaliser(batch["next_observation"])
            mean, log_std = self._actor(following)
            noise = self._normals(*mean.shape[1:])
            aim, log_prob = losses.squashed_log_prob(mean, log_std, noise)
            temperature = self._temperature.log[:, 0].exp()
            return losses.soft_targets(
                batch["reward"], batch["terminated"],
                self._settings.discount ** batch["n_steps"],
                self._target(following, aim), log_prob, temperature,
            )  # fmt: skip

    def _learn_values(
        self, batch: Mapping[str, torch.Tensor], x: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        target = self._targets(batch)
        values = self._critics(x, batch["aim"])
        loss = (values - target).square().mean(2).sum(0)
        self._optimisers["critics"].step(loss.sum())
        return values.detach(), loss

    def _learn_aims(
        self, x: torch.Tensor, logged: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        mean, log_std = self._actor(x)
        aim, log_prob = losses.squashed_log_prob(mean, log_std, self._normals(*mean.shape[1:]))
        if self._cloning:
            loss = per_model((mean.tanh() - logged).square())
        elif self._settling:
            return torch.zeros(self.n_models, device=self._device), log_prob.detach()
        else:
            value = self._critics(x, aim, fixed=True).min(0).values
            temperature = self._temperature.log.detach().exp()
            loss = per_model(temperature * log_prob - value)
            if self._settings.clone_weight > 0:
                apart = per_model((mean.tanh() - logged).square())
                loss = loss + self._settings.clone_weight * apart
        self._optimisers["actor"].step(loss.sum())
        return loss, log_prob.detach()

    def _learn_temperature(self, log_prob: torch.Tensor) -> torch.Tensor:
        if not self._settling:
            log = self._temperature.log[:, 0]
            loss = losses.temperature_loss(log, log_prob, self._settings.target_entropy)
            self._optimisers["temperature"].step(loss.sum())
        return self._temperature.log[:, 0].detach().exp()

    def practise(self, world: Practice, seed: int) -> Mapping[str, NDArray[np.float32]]:
        """Gather rows by acting; an empty mapping while logged aims are still being copied."""
        settings = self._settings
        if settings.practice_matches == 0 or self._cloning:
            return {}
        n_rows, steps = settings.practice_matches * self._layout.pack, settings.practice_steps
        n_random = round(settings.random_start * steps) if (self._rows.sizes == 0).all() else 0
        noise = self._normals(steps, n_rows, self._layout.n_actions["aim"])
        uniform = 2.0 * self._draws.random(n_random, *noise.shape[2:]) - 1.0

        def act(t: int, view: View) -> tuple[NDArray[Any], NDArray[Any]]:
            aim, log_prob = self._decide(view, noise[:, t])
            return (uniform[:, t] if t < n_random else aim), log_prob

        fragments, measures = gather(
            world, "aim", act, settings.practice_matches, steps, seed,
            settings.result_weight, settings.reward_weight, settings.gain_weight,
        )  # fmt: skip
        self._fix_by(fragments)
        self._rows.add(fragments, settings.n_step, settings.discount)
        return measures

    def _decide(self, view: View, noise: torch.Tensor | None) -> tuple[Floats, Floats]:
        with torch.no_grad():
            observation = torch.from_numpy(view.observation).to(self._device)
            mean, log_std = self._actor(self._actor.normaliser(observation))
            still = torch.zeros_like(mean) if noise is None else noise
            aim, log_prob = losses.squashed_log_prob(mean, log_std, still)
            return aim.cpu().numpy(), log_prob.cpu().numpy()

    def act(self, view: View, *, greedy: bool = True) -> Floats:
        """Return aims [S, B, 2]: the most likely ones before tanh, or drawn ones."""
        shape = (view.alive.shape[1], self._layout.n_actions["aim"])
        return self._decide(view, None if greedy else self._normals(*shape))[0]

    def judge(self, rows: Sequence[Episodes]) -> Mapping[str, NDArray[np.float32]]:
        """Return how well the critics foresee held-out rows, and how far aims are from the log's.

        "loss" is the mean squared Bellman error of the first critic, "trivial" that of the best
        constant; "aim_error" is the mean squared distance to the log's aims.
        """
        held = Transitions(
            self.n_models, 1, self._layout.n_features, self._layout.n_actions["aim"], self._device
        )
        held.set_logged(rows, self._settings.reward_weight)
        rngs = [np.random.default_rng(0) for _ in rows]
        batch = held.draw(rngs, int(max(held.sizes.max(), 1)))
        kept = self._draws.state()
        with torch.no_grad():
            x = self._actor.normaliser(batch["observation"])
            target = self._targets(batch)
            loss = per_model((self._critics(x, batch["aim"])[0] - target).square())
            trivial = per_model((target - per_model(target)[:, None]).square())
            aim = per_model((self._actor(x)[0].tanh() - batch["aim"]).square())
        self._draws.restore(kept)
        told = {"loss": loss, "trivial": trivial, "aim_error": aim}
        return {name: v.cpu().numpy().astype(np.float32) for name, v in told.items()}

    def graph(self, i: int) -> nn.Module:
        """Return model i's actor alone as it is exported."""
        return AimGraph(unstack(self._actor, i)).eval()

    def feeds(self, rows: Episodes, n: int) -> Feeds:
        """Return real inputs of the graph."""
        return feeds(TYPE.inputs(self._layout), rows, n)

    def modules(self) -> Mapping[str, nn.Module]:
        """Return actor, critics, target critics and temperature."""
        return {
            "actor": self._actor, "critics": self._critics, "target": self._target,
            "temperature": self._temperature,
        }  # fmt: skip

    def optimisers(self) -> Mapping[str, StackedAdamW]:
        """Return the optimisers of actor, critics and temperature."""
        return self._optimisers

    def _rows_state(self) -> dict[str, torch.Tensor]:
        return self._rows.state("rows.")

    def _restore_rows(self, state: Mapping[str, torch.Tensor]) -> None:
        self._rows.restore(state, "rows.")


class SoftActorCritic:
    """The registered type."""

    name: ClassVar[str] = "soft_actor_critic"
    acts: ClassVar[Head | None] = "aim"
    settings: ClassVar[type[TypeSettings]] = SacSettings

    def preset(self, name: Preset) -> SacSettings:
        """Return a preset; docs/learners/soft_actor_critic.md says what it showed."""
        if name == "classic":
            return SacSettings(grad_clip=0.0)
        return SacSettings(
            actor=(128, 128), critic=(128, 128), layer_norm=True, updates=5_000,
            clone_updates=600, first_temperature=0.05, temperature_rate=3.0, first_log_std=-1.5,
            learning_rate=5e-4, discount=0.9, polyak=0.01, practise_every=100, practice_matches=8,
            capacity=100_000, reward_weight=0.0, gain_weight=25.0,
        )  # fmt: skip

    def inputs(self, layout: Layout) -> list[Port]:
        """Return the observation."""
        return [Port("observation", (layout.n_features,))]

    def outputs(self, layout: Layout) -> list[Port]:
        """Return the aims, and what a host draws with that wants to explore."""
        shape = (layout.n_actions["aim"],)
        return [Port("aim", shape), Port("log_std", shape)]

    def make(
        self,
        settings: TypeSettings,
        layout: Layout,
        seeds: Sequence[int],
        rates: Sequence[float],
        device: torch.device,
    ) -> Stack:
        """Return a new stack."""
        own = checked(settings, SacSettings)
        return SacStack(own, layout, seeds, rates, device)


TYPE = SoftActorCritic()
