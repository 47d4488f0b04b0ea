"""movement_ppo: where to go, by PPO with V-trace; exports scores of 9 moves and a value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import nn

from learners.feeds import Feeds, feeds
from learners.model_types.actor_critic import OnPolicySettings, OnPolicyStack
from learners.model_types.base import Port, Preset, Stack, TypeSettings, checked
from learners.networks import mask_illegal
from learners.on_policy import CHUNK_ROWS, Batch, Windows
from learners.stack.layers import unstack
from learners.stack.mlp import Mlp, level_out
from learners.stack.normaliser import Normaliser
from learners.stack.seeds import seeded
from schemas.practice import Episodes, Head, Layout


class MovementSettings(OnPolicySettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of `movement_ppo`."""

    shared: tuple[int, ...] = (1024, 1024, 512, 512, 256, 256)
    """Widths of the layers that actor and critic share."""
    actor: tuple[int, ...] = (256, 256)
    """Widths before the actor's last layer."""
    critic: tuple[int, ...] = (256, 256)
    layer_norm: bool = False


class MovementNet(nn.Module):
    """Logits of moves and a value of observations, [S, ..., D] -> [S, ..., A], [S, ...]."""

    def __init__(self, settings: MovementSettings, n_features: int, n_actions: int) -> None:
        """Make a stack of one."""
        super().__init__()
        norm, shared = settings.layer_norm, settings.shared
        self.normaliser = Normaliser(1, n_features)
        self.shared = (
            Mlp(1, n_features, shared[:-1], shared[-1], layer_norm=norm) if shared else None
        )
        width = shared[-1] if shared else n_features
        self.actor = Mlp(1, width, settings.actor, n_actions, layer_norm=norm)
        self.critic = Mlp(1, width, settings.critic, 1, layer_norm=norm)
        level_out(self.actor)

    def features(self, observation: torch.Tensor) -> torch.Tensor:
        """Return what actor and critic share."""
        x: torch.Tensor = self.normaliser(observation)
        return x if self.shared is None else self.shared(x).relu()

    def forward(self, observation: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return logits and values."""
        features = self.features(observation)
        return self.actor(features), self.critic(features)[..., 0]

    def score(self, observation: torch.Tensor) -> torch.Tensor:
        """Return logits alone."""
        logits: torch.Tensor = self.actor(self.features(observation))
        return logits

    def worth(self, observation: torch.Tensor) -> torch.Tensor:
        """Return values alone."""
        value: torch.Tensor = self.critic(self.features(observation))
        return value[..., 0]


class MovementGraph(nn.Module):
    """What is exported: masked scores [B, A] and values [B]."""

    def __init__(self, net: MovementNet) -> None:
        """Take the plain form of one model."""
        super().__init__()
        self.net = net

    def forward(
        self, observation: torch.Tensor, legal: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return scores and values."""
        logits, value = self.net(observation)
        return mask_illegal(logits, legal), value


class MovementStack(OnPolicyStack):
    """Models of `movement_ppo` in training."""

    _net: MovementNet

    def _start(self, n_rows: int) -> None:
        return None

    def _step(
        self, observation: torch.Tensor, first: torch.Tensor, state: Any
    ) -> tuple[torch.Tensor, Any]:
        return self._net.score(observation), None

    def _appraise_logits(
        self, observation: torch.Tensor, first: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        return torch.cat([self._net.score(part) for part in _chunks(observation)], 1), None

    def _values(self, observation: torch.Tensor, alive: torch.Tensor) -> torch.Tensor:
        return torch.cat([self._net.worth(part) for part in _chunks(observation)], 1)

    def _forward(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        logits, values = self._net(batch.observation)
        return logits, values

    def graph(self, i: int) -> nn.Module:
        """Return model i alone as it is exported."""
        return MovementGraph(unstack(self._net, i)).eval()

    def feeds(self, rows: Episodes, n: int) -> Feeds:
        """Return real inputs of the graph."""
        return feeds(TYPE.inputs(self._layout), rows, n, head="movement")


def _chunks(observation: torch.Tensor) -> list[torch.Tensor]:
    """Cut observations [S, T, B, D] along T, to bound what a wide network holds at once."""
    steps = max(1, CHUNK_ROWS // max(observation.shape[2], 1))
    return list(torch.split(observation, steps, 1))


class MovementPpo:
    """The registered type."""

    name: ClassVar[str] = "movement_ppo"
    acts: ClassVar[Head | None] = "movement"
    settings: ClassVar[type[TypeSettings]] = MovementSettings

    def preset(self, name: Preset) -> MovementSettings:
        """Return a preset; docs/learners/movement_ppo.md says what it showed."""
        if name == "classic":
            return MovementSettings(learning_rate=3e-5, clone_updates=500)
        return MovementSettings(
            shared=(), actor=(64, 64), critic=(64, 64), layer_norm=True,
            learning_rate=1.5e-3, batch=4096, practise_every=10, practice_matches=32,
            fragment_steps=128, clone_updates=60, grad_clip=0.5, trace=0.95, entropy=0.003,
            result_weight=2.0, reward_weight=0.2, updates=1400,
        )  # fmt: skip

    def inputs(self, layout: Layout) -> list[Port]:
        """Return observation and mask."""
        n = layout.n_actions["movement"]
        return [Port("observation", (layout.n_features,)), Port("legal", (n,), "bool")]

    def outputs(self, layout: Layout) -> list[Port]:
        """Return scores (the best is taken) and the value."""
        return [Port("scores", (layout.n_actions["movement"],)), Port("value", ())]

    def make(
        self,
        settings: TypeSettings,
        layout: Layout,
        seeds: Sequence[int],
        rates: Sequence[float],
        device: torch.device,
    ) -> Stack:
        """Return a new stack."""
        own = checked(settings, MovementSettings)
        n_actions = layout.n_actions["movement"]
        net = seeded(lambda: MovementNet(own, layout.n_features, n_actions), seeds)
        net = net.to(device)
        return MovementStack(
            own, layout, seeds, rates, device,
            net=net, normaliser=net.normaliser, head="movement", windows=Windows(),
        )  # fmt: skip


TYPE = MovementPpo()
