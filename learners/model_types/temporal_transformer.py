"""What an actor's next steps bring, from all that it saw and did: return and threat ahead.

Transformer-XL (Dai et al. 2019): attention by relative positions over the segment and over what
each layer held of the steps before it. The memory is an input and an output of the exported graph.
Differs from the paper: layers normalise first, and a memory that is not yet full is masked instead
of read as zeros.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar

import numpy as np
import torch
from msgspec import Meta
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from learners.feeds import Feeds, feeds
from learners.model_types.ahead import (
    begins,
    discounted_ahead,
    following,
    longest,
    pack_steps,
)
from learners.model_types.base import Port, Preset, TypeSettings
from learners.model_types.supervised import (
    Columns,
    SupervisedSettings,
    SupervisedStack,
    SupervisedType,
    Tensors,
    check_heads,
)
from learners.model_types.temporal_served import ServedTemporal
from learners.stack.attention import RelativeBlock, run
from learners.stack.layers import LayerNorm, Linear, unstack
from learners.stack.normaliser import Normaliser
from learners.stack.random import Dropout, Noise
from schemas.practice import Episodes, Layout

JUDGED_STEPS = 256
"""Longer episodes are judged in pieces of so many steps."""

Carried = tuple[torch.Tensor, torch.Tensor]
"""Memory [S, B, L, M, W] and how many of its M steps are filled, from the end, i64[S, B]."""


class TemporalSettings(SupervisedSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of `temporal_transformer`."""

    discount: Annotated[float, Meta(ge=0, lt=1)] = 0.95
    horizon: Annotated[int, Meta(ge=1)] = 8
    """Steps ahead whose rewards and damage are foretold."""
    width: Annotated[int, Meta(ge=2, multiple_of=2)] = 256
    depth: Annotated[int, Meta(ge=1)] = 4
    heads: Annotated[int, Meta(ge=1)] = 8
    inner: Annotated[int, Meta(ge=1)] = 4
    """Width of a layer's middle in widths."""
    dropout: Annotated[float, Meta(ge=0, lt=1)] = 0.1
    segment: Annotated[int, Meta(ge=1)] = 16
    """Steps that are learned from at once."""
    segments: Annotated[int, Meta(ge=1)] = 3
    """Segments of a draw: each but the first has the one before it in memory."""
    memory: Annotated[int, Meta(ge=1)] = 32
    """Steps that each layer remembers."""

    def __post_init__(self) -> None:
        """Check what one field cannot tell.

        Raises:
            ValueError: ``width`` is no multiple of ``heads``.
        """
        check_heads(self.width, self.heads)


class TemporalNet(nn.Module):
    """Steps and memory -> what is ahead in deviations [S, B, T, 1 + E], and the next memory."""

    centre: torch.Tensor
    spread: torch.Tensor

    def __init__(self, settings: TemporalSettings, layout: Layout) -> None:
        """Make a stack of one."""
        super().__init__()
        w = settings.width
        self.n_actions = layout.n_actions["combat"]
        self.again, self.n_kept = settings.checkpointing, settings.memory
        self.observation_norm = Normaliser(1, layout.n_features)
        self.enemy_norm = Normaliser(1, layout.n_enemy_features)
        self.noise, self.dropout = Noise(settings.noise), Dropout(settings.dropout)
        self.of_actor = Linear(1, layout.n_features + self.n_actions, w)
        self.of_enemy, self.of_pack = Linear(1, layout.n_enemy_features, w), Linear(1, w, w)
        self.blocks = nn.ModuleList(
            RelativeBlock(1, w, settings.heads, settings.inner * w, settings.dropout)
            for _ in range(settings.depth)
        )
        self.norm, self.paid = LayerNorm(1, w), Linear(1, w, 1)
        self.past, self.now = Linear(1, w, w), Linear(1, layout.n_enemy_features, w)
        self.hurt = Linear(1, w, 1)
        self.register_buffer("centre", torch.zeros(1, 1 + layout.n_enemies))
        self.register_buffer("spread", torch.ones(1, 1 + layout.n_enemies))

    def forward(
        self,
        observation: torch.Tensor,
        enemies: torch.Tensor,
        action: torch.Tensor,
        carried: Carried,
    ) -> tuple[torch.Tensor, Carried]:
        """Take [S, B, T, D], [S, B, T, E, F] and i64[S, B, T]; the plain form has no S."""
        memory, filled = carried
        facts, there = self._facts(enemies)
        x = self.dropout(self._step(observation, facts, there, action))
        n_steps, n_kept = x.shape[-2], memory.shape[-2]
        key = torch.arange(n_kept + n_steps, device=x.device)
        query = torch.arange(n_steps, device=x.device)[:, None] + n_kept
        allowed = (key <= query) & (key >= n_kept - filled[..., None, None])
        kept = []
        for i, block in enumerate(self.blocks):
            before = memory[..., i, :, :]
            kept.append(torch.cat([before, x.to(before.dtype)], -2)[..., -n_kept:, :])
            x = run(block, x, before, allowed, again=self.again and self.training)
        return self._ahead(x, facts), (torch.stack(kept, -3), (filled + n_steps).clamp(max=n_kept))

    def _facts(self, enemies: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return facts as they are read, 0 of the dead, and who lives, [..., E, 1]."""
        there = (enemies != 0).any(-1, keepdim=True)
        return torch.where(there, self.noise(self.enemy_norm(enemies)), 0.0), there

    def _step(
        self,
        observation: torch.Tensor,
        facts: torch.Tensor,
        there: torch.Tensor,
        action: torch.Tensor,
    ) -> torch.Tensor:
        """Return what a step holds, [S, B, T, W]: enemies are read by the same weights."""
        seen = self.noise(self.observation_norm(observation))
        chosen = functional.one_hot(action, self.n_actions).to(seen.dtype)
        each = torch.where(there, torch.relu(self.of_enemy(facts)), 0.0)
        pack: torch.Tensor = self.of_pack(each.sum(-2) / there.sum(-2).clamp(min=1))
        own: torch.Tensor = self.of_actor(torch.cat([seen, chosen], -1))
        return own + pack

    def _ahead(self, x: torch.Tensor, facts: torch.Tensor) -> torch.Tensor:
        """Return what is ahead: an enemy's part by what it is now and by all that was."""
        x = self.norm(x)
        each = torch.relu(self.now(facts) + self.past(x)[..., None, :])
        return torch.cat([self.paid(x), self.hurt(each).squeeze(-1)], -1)

    def empty(self, *batch: int) -> Carried:
        """Return the memory of a beginning for [S, B] (or [B])."""
        weight = self.norm.weight
        memory = weight.new_zeros(*batch, len(self.blocks), self.n_kept, weight.shape[-1])
        return memory, torch.zeros(batch, dtype=torch.int64, device=weight.device)


class TemporalGraph(nn.Module):
    """Model i alone, in the targets' own units."""

    def __init__(self, net: TemporalNet) -> None:
        """Take the plain form."""
        super().__init__()
        self.net = net

    def forward(
        self,
        observation: torch.Tensor,
        enemies: torch.Tensor,
        action: torch.Tensor,
        memory: torch.Tensor,
        filled: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return what is ahead [B, T, 1 + E], 0 of the dead, and the next memory."""
        ahead, (memory, filled) = self.net(observation, enemies, action, (memory, filled))
        there = (enemies != 0).any(-1).to(ahead.dtype)
        kept = torch.cat([torch.ones_like(ahead[..., :1]), there], -1)
        return (ahead * self.net.spread + self.net.centre) * kept, memory, filled

    def served(self) -> nn.Module:
        """Return the graph that is exported."""
        return ServedTemporal(self.net).eval()


class TemporalStack(SupervisedStack):
    """S transformers in training."""

    _settings: TemporalSettings
    _net: TemporalNet
    _span: int | None = None
    """Steps of a draw where it is not the settings'."""

    def _columns(self, rows: Episodes) -> Columns:
        discount, horizon = self._settings.discount, self._settings.horizon
        behind = following(rows)
        paid, paid_known = discounted_ahead(rows.reward[:, None], behind, discount, horizon)
        where, threat, pack_behind = pack_steps(rows)
        hurt, hurt_known = discounted_ahead(threat, pack_behind, discount, horizon)
        return {
            "observation": rows.observation,
            "enemies": rows.enemies,
            "action": rows.action["combat"],
            "target": np.concatenate([paid, hurt[where]], 1),
            "known": paid_known & hurt_known[where] & (rows.enemies != 0).any((1, 2)),
            "begins": begins(behind),
        }

    def _learnable(self, columns: Columns) -> NDArray[np.int64]:
        """Return where draws begin: as many steps before an end as a draw has, or at a first."""
        span = self._settings.segment * self._settings.segments
        begin, n = columns["begins"], len(columns["begins"])
        if n == 0:
            return np.zeros(0, np.int64)
        starts = np.flatnonzero(begin | (np.arange(n) == 0))
        ends = np.append(starts[1:], n)
        left = np.repeat(ends, ends - starts) - np.arange(n)
        places = np.flatnonzero(begin | (left >= span))
        useful = [columns["known"][at : at + span].any() for at in places]
        return places[np.array(useful, np.bool_)]

    def _fix(self, columns: Sequence[Columns], places: Sequence[NDArray[np.int64]]) -> None:
        net = self._net
        net.observation_norm.fix([one["observation"] for one in columns])
        net.enemy_norm.fix([one["enemies"][(one["enemies"] != 0).any(-1)] for one in columns])
        for i, one in enumerate(columns):
            target = one["target"][one["known"]].astype(np.float64)
            there = (one["enemies"][one["known"]] != 0).any(-1)
            if not len(target):
                continue
            hurt = target[:, 1:][there]
            mean, spread = (
                np.append(f(target[:, 0]), np.full(there.shape[1], f(hurt)))
                for f in (np.mean, np.std)
            )
            net.centre[i] = torch.from_numpy(mean)
            net.spread[i] = torch.from_numpy(np.maximum(spread, 1e-6))

    def _gather(
        self, columns: Columns, places: NDArray[np.int64], rng: np.random.Generator | None
    ) -> Columns:
        span = self._span or self._settings.segment * self._settings.segments
        at = places[:, None] + np.arange(span)
        inside = at < len(columns["known"])
        at = np.minimum(at, len(columns["known"]) - 1)
        later = columns["begins"][at]
        later[:, 0] = False
        inside &= later.cumsum(1) == 0
        batch = {name: column[at] for name, column in columns.items() if name != "begins"}
        batch["known"] &= inside
        return batch

    def _squares(self, batch: Tensors) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return squared errors of returns and of threat, by deviations, and the known [S, B, T].

        A draw runs through the network segment by segment; gradients end at the memory.
        """
        carried = self._net.empty(*batch["action"].shape[:2])
        told, n = [], self._settings.segment
        for start in range(0, batch["action"].shape[2], n):
            part = (batch[k][:, :, start : start + n] for k in ("observation", "enemies", "action"))
            ahead, carried = self._net(*part, carried)
            carried = carried[0].detach(), carried[1]
            told.append(ahead.float())
        return *self._apart(torch.cat(told, 2), batch), batch["known"].float()

    def _apart(self, ahead: torch.Tensor, batch: Tensors) -> tuple[torch.Tensor, torch.Tensor]:
        centre, spread = self._net.centre[:, None, None], self._net.spread[:, None, None]
        error = (ahead - (batch["target"] - centre) / spread).square()
        there = (batch["enemies"] != 0).any(-1).float()
        threat = (error[..., 1:] * there).sum(-1) / there.sum(-1).clamp(min=1)
        return error[..., 0], threat

    def _losses(self, batch: Tensors) -> tuple[torch.Tensor, Tensors]:
        paid, hurt, known = self._squares(batch)
        count = known.sum((1, 2)).clamp(min=1)
        paid, hurt = ((error * known).sum((1, 2)) / count for error in (paid, hurt))
        return 0.5 * (paid + hurt), {"return_error": paid, "threat_error": hurt}

    def _errors(self, batch: Tensors) -> tuple[Tensors, torch.Tensor]:
        paid, hurt, known = self._squares(batch)
        plain = self._apart(torch.zeros_like(batch["target"]), batch)
        told = {
            "loss": 0.5 * (paid + hurt),
            "trivial": 0.5 * (plain[0] + plain[1]),
            "return_error": paid,
            "return_trivial": plain[0],
            "threat_error": hurt,
            "threat_trivial": plain[1],
        }
        return {k: (v * known).sum(2) for k, v in told.items()}, known.sum(2)

    def judge(self, rows: Sequence[Episodes]) -> Mapping[str, NDArray[np.float32]]:
        """Return means [S] over all known steps, each with its whole episode in memory."""
        columns = [self._columns(one) for one in rows]
        places, longest = [], 1
        for one in columns:
            n = len(one["begins"])
            first = np.flatnonzero(one["begins"] | (np.arange(n) == 0))
            length = np.diff(np.append(first, n))
            longest = max(longest, int(length.max(initial=1)))
            offset = np.arange(n) - np.repeat(first, length)
            places.append(np.flatnonzero(offset % JUDGED_STEPS == 0))
        n = self._settings.segment
        self._span = n * -(-min(longest, JUDGED_STEPS) // n)
        try:
            return self._judge(columns, places)
        finally:
            self._span = None

    def graph(self, i: int) -> nn.Module:
        """Return steps and memory -> what is ahead and the next memory, of model i."""
        return TemporalGraph(unstack(self._net, i)).eval()

    def feeds(self, rows: Episodes, n: int) -> Feeds:
        """Return real inputs of the graph: first segments of episodes, with nothing remembered."""
        settings, length = self._settings, longest(rows, self._settings.segment)
        zeros = {"memory": (settings.depth, settings.memory, settings.width), "filled": ()}
        ports = TYPE.inputs(self._layout)
        return feeds(ports, rows, n, head="combat", length=length, zeros=zeros)


class TemporalTransformer(SupervisedType):
    """The type."""

    name: ClassVar[str] = "temporal_transformer"
    settings: ClassVar[type[TypeSettings]] = TemporalSettings
    network: ClassVar[type[nn.Module]] = TemporalNet
    stack: ClassVar[type[SupervisedStack]] = TemporalStack

    def preset(self, name: Preset) -> TemporalSettings:
        """Return the settings of a preset."""
        if name == "classic":
            return TemporalSettings(checkpointing=True)
        return TemporalSettings(
            width=64, depth=2, heads=4, inner=2, batch=16, learning_rate=1e-3, updates=300,
            weight_decay=0.2, noise=0.3, dropout=0.2,
        )  # fmt: skip

    def inputs(self, layout: Layout) -> list[Port]:
        """Return steps of any number, and the memory, which begins as zeros."""
        e, f = layout.n_enemies, layout.n_enemy_features
        return [
            Port("observation", (None, layout.n_features)),
            Port("enemies", (None, e, f)),
            Port("action", (None,), "int64"),
            *self._carried("memory", "filled"),
        ]

    def outputs(self, layout: Layout) -> list[Port]:
        """Return return and threat of each enemy ahead of every step, and the next memory."""
        ahead = Port("ahead", (None, 1 + layout.n_enemies))
        return [ahead, *self._carried("next_memory", "next_filled")]

    def _carried(self, memory: str, filled: str) -> list[Port]:
        """Layers, steps and width of the memory are the settings'; zeros begin an episode."""
        return [Port(memory, (None, None, None)), Port(filled, (), "int64")]


TYPE = TemporalTransformer()
