"""Six stacked DQNs beside six in a row: an update of all six, replay included.

    make bench-learn ARGS="--parts stacked"

One side is `combat_dqn` with S = 6. The other is six DQNs one after the other: the same type as six
stacks of one, and plain torch (`nn.Linear`, `nn.LayerNorm`, `F.smooth_l1_loss`, autograd, the fused
`torch.optim.AdamW`), each with a one-model replay of ours. All do the same work: a prioritised
batch, Double DQN targets, Huber loss with importance weights, clipped gradient, Polyak target.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import torch
from torch import nn
from torch.nn import functional

from benchmarks.learn import target
from benchmarks.learn_timing import by_turns
from games.arena.practice import ArenaPractice
from games.arena.record import episodes
from learners.model_types.combat_dqn import CLASSIC, MODERN, TYPE
from learners.model_types.value_settings import ValueSettings
from learners.model_types.value_stack import ValueStack
from learners.model_types.value_steps import logged_steps, row_form
from learners.replay.stacked import StackedReplay
from schemas.practice import ARCHETYPES, Episodes, Layout

N_ROWS = 4_096
N_MODELS = len(ARCHETYPES)
ILLEGAL = -1e9

SIZES: dict[str, tuple[ValueSettings, int]] = {
    "small: 64, 64, batch 64": (
        msgspec.structs.replace(MODERN, hidden=(64, 64), batch=64), 32
    ),
    "modern: 128, 128, batch 128": (MODERN, 16),
    "classic: ten layers 1024 to 64, dropout, batch 256": (CLASSIC, 1),
}  # fmt: skip
"""Settings by what they are, and updates of all six that are timed together."""


class PlainNetwork(nn.Module):
    """What a `combat_dqn` is made of, in plain torch."""

    def __init__(self, settings: ValueSettings, n_features: int, n_actions: int) -> None:
        """Make the layers."""
        super().__init__()
        layers: list[nn.Module] = []
        width = n_features
        for hidden in settings.hidden:
            layers.append(nn.Linear(width, hidden))
            if settings.layer_norm:
                layers.append(nn.LayerNorm(hidden, elementwise_affine=False))
            layers.append(nn.ReLU())
            if settings.dropout:
                layers.append(nn.Dropout(settings.dropout))
            width = hidden
        layers.append(nn.Linear(width, n_actions + int(settings.dueling)))
        self.layers, self.dueling = nn.Sequential(*layers), settings.dueling

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return scores [B, A]."""
        scores: torch.Tensor = self.layers(features)
        if not self.dueling:
            return scores
        advantage = scores[:, 1:]
        return scores[:, :1] + advantage - advantage.mean(-1, keepdim=True)


class PlainDqn:
    """Double DQN with prioritised replay as it is commonly written."""

    def __init__(self, settings: ValueSettings, layout: Layout, seed: int, rows: Episodes) -> None:
        """Make one model and fill its replay."""
        torch.manual_seed(seed)
        n_actions = layout.n_actions["combat"]
        self._settings = settings
        self._online = PlainNetwork(settings, layout.n_features, n_actions)
        self._target = copy.deepcopy(self._online).eval()
        self._parameters: list[torch.Tensor] = list(self._online.parameters())
        self._targets: list[torch.Tensor] = list(self._target.parameters())
        self._adam = torch.optim.AdamW(
            self._parameters, settings.learning_rate, weight_decay=settings.weight_decay, fused=True
        )
        self._mean = torch.from_numpy(rows.observation.mean(0))
        self._deviation = torch.from_numpy(rows.observation.std(0) + 1e-3)
        self._replay = StackedReplay(
            row_form(layout, "combat"), settings.capacity, [seed], n_step=settings.n_step,
            discount=settings.discount, alpha=settings.alpha, beta=settings.beta,
        )  # fmt: skip
        self._replay.add(0, logged_steps(rows, "combat"))

    def _features(self, observation: np.ndarray[Any, Any]) -> torch.Tensor:
        return (torch.from_numpy(observation).float() - self._mean) / self._deviation

    def update(self) -> None:
        """Take one gradient step."""
        drawn = self._replay.sample(self._settings.batch)
        batch = drawn.of(0)
        features, following = (
            self._features(batch.observation),
            self._features(batch.next_observation),
        )
        with torch.no_grad():
            legal = torch.from_numpy(batch.next_legal).bool()
            best = self._online(following).masked_fill(~legal, ILLEGAL).argmax(-1, keepdim=True)
            ahead = self._target(following).gather(-1, best)[:, 0]
            wanted = torch.from_numpy(batch.reward) + torch.from_numpy(batch.discount) * ahead
        action = torch.from_numpy(batch.action)[:, None]
        values = self._online(features).gather(-1, action)[:, 0]
        losses = functional.smooth_l1_loss(values, wanted, reduction="none")
        loss = (torch.from_numpy(batch.weight) * losses).mean()
        self._adam.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(self._parameters, self._settings.grad_clip)
        self._adam.step()
        with torch.no_grad():
            torch._foreach_lerp_(self._targets, self._parameters, self._settings.polyak)
        errors = (wanted - values.detach()).numpy()
        self._replay.set_errors(drawn.slots, errors[None])


def stack_of(
    settings: ValueSettings, layout: Layout, seeds: list[int], rows: list[Episodes]
) -> ValueStack:
    """Return a stack that holds rows to learn from."""
    stack = TYPE.make(settings, layout, seeds, [1.0] * len(seeds), torch.device("cpu"))
    stack.fit(rows)
    return stack


def in_a_row(updates: list[Callable[[], object]]) -> Callable[[], None]:
    """Return one call of them all."""

    def call() -> None:
        for update in updates:
            update()

    return call


def contenders(settings: ValueSettings) -> dict[str, Callable[[], object]]:
    """Return an update of all six models by who does it."""
    world = ArenaPractice()
    recorded = episodes(world, N_ROWS)
    rows = [recorded[name] for name in ARCHETYPES]
    seeds = list(range(N_MODELS))
    alone = [stack_of(settings, world.layout, [i], [rows[i]]) for i in seeds]
    plain = [PlainDqn(settings, world.layout, i, rows[i]) for i in seeds]
    return {
        "combat_dqn, six stacked": stack_of(settings, world.layout, seeds, rows).update,
        "combat_dqn, six stacks of one in a row": in_a_row([s.update for s in alone]),
        "plain torch, six in a row": in_a_row([p.update for p in plain]),
    }


def measure(rounds: int) -> dict[str, Any]:
    """Return times and targets of all sizes."""
    rows: list[dict[str, Any]] = []
    targets = []
    for size, (settings, n) in SIZES.items():
        spent = by_turns(contenders(settings), n, rounds, warm=2)
        stacked, alone, plain = spent.values()
        rows += [
            {"network": size, "contender": name, "ms, all six": round(us / 1e3, 2),
             "times the stacked": round(us / stacked, 2)}
            for name, us in spent.items()
        ]  # fmt: skip
        targets += [
            target(f"{size.split(':')[0]}, six in plain torch over six stacked", plain / stacked,
                   "at least", 2.5),
            target(f"{size.split(':')[0]}, six stacks of one over six stacked", alone / stacked,
                   "at least", 2.5),
        ]  # fmt: skip
    return {"rows": rows, "targets": targets}
