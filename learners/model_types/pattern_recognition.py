"""Which kind of opponents these are, from the numbers of a fight's last steps.

A transformer reads a window of steps; a head names the kind and another gives an embedding in which
windows against one kind lie close: cross-entropy and the supervised contrastive loss (Khosla et al.
2020) together, each batch seen twice under different noise and crops. The embedding serves
searches for similar fights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar

import numpy as np
import torch
from msgspec import Meta
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from learners.feeds import Feeds, feeds
from learners.model_types.ahead import begins, following, longest
from learners.model_types.base import Port, Preset, Share, TypeSettings
from learners.model_types.spatial_vit import choice_loss, frequencies
from learners.model_types.supervised import (
    JUDGED_AT_ONCE,
    Columns,
    SupervisedSettings,
    SupervisedStack,
    SupervisedType,
    Tensors,
    check_heads,
)
from learners.stack.attention import MASKED, Block, run
from learners.stack.layers import LayerNorm, Linear, Table, unstack
from learners.stack.normaliser import Normaliser
from learners.stack.random import Dropout, Noise
from schemas.practice import ARCHETYPES, Episodes, Layout

FACTS = ("observation", "enemies", "threat")
"""What a step tells, in the order of the graph's inputs; threat is the damage the step brought."""


def contrastive_loss(
    embedding: torch.Tensor, label: torch.Tensor, temperature: float
) -> torch.Tensor:
    """Return the supervised contrastive loss [S] of unit vectors [S, B, Z] and labels [S, B].

    The paper's L_out (equation 2): the mean over anchors, and over each one's positives, of
    ``-log(exp(z_i z_p / t) / sum_{a != i} exp(z_i z_a / t))``. Anchors without a positive count 0.
    """
    n = label.shape[1]
    itself = torch.eye(n, dtype=torch.bool, device=label.device)
    likeness = torch.bmm(embedding, embedding.mT) / temperature
    chance = functional.log_softmax(likeness.masked_fill(itself, MASKED), -1)
    same = (label[:, :, None] == label[:, None]) & ~itself
    positives = same.sum(2).clamp(min=1)
    return -(torch.where(same, chance, 0.0).sum(2) / positives).mean(1)


N_REFERENCES = 1_000
"""Windows of what was learned from that held-out ones are compared with."""

N_NEIGHBOURS = 10


class PatternSettings(SupervisedSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of `pattern_recognition`."""

    learning_rate: Annotated[float, Meta(gt=0)] = 1e-4
    width: Annotated[int, Meta(ge=2)] = 512
    depth: Annotated[int, Meta(ge=1)] = 6
    heads: Annotated[int, Meta(ge=1)] = 16
    inner: Annotated[int, Meta(ge=1)] = 4
    """Width of a layer's middle in widths."""
    enemy_width: Annotated[int, Meta(ge=1)] = 64
    """Width of what is told of one enemy before all are averaged."""
    dropout: Annotated[float, Meta(ge=0, lt=1)] = 0.1
    window: Annotated[int, Meta(ge=1)] = 16
    """Steps that are read at most."""
    least_window: Annotated[int, Meta(ge=1)] = 4
    """Augmentation: windows are cropped to a random length from this on."""
    embedding: Annotated[int, Meta(ge=1)] = 64
    contrast: Annotated[float, Meta(ge=0)] = 0.5
    """Weight of the contrastive loss beside the cross-entropy; 0 leaves it out."""
    temperature: Annotated[float, Meta(gt=0)] = 0.1
    smoothing: Share = 0.0
    """Share of each target that is spread over all kinds: matches are few, names are sure."""
    blind: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    """Augmentation: share of windows without the actor's own observation, which knows a match (its
    hills, its gale) better than an opponent."""

    def __post_init__(self) -> None:
        """Check what one field cannot tell.

        Raises:
            ValueError: ``width`` is no multiple of ``heads``, or the crop is wider than the window.
        """
        check_heads(self.width, self.heads)
        if self.least_window > self.window:
            msg = f"$.least_window must be at most window ({self.window}); got {self.least_window}"
            raise ValueError(msg)


def neighbours(
    embedding: torch.Tensor, references: torch.Tensor, label: torch.Tensor
) -> torch.Tensor:
    """Return the kind [S, B] that most of the nearest references [S, R, Z] have, by their cosine.

    Ties go to the lower kind.
    """
    n = min(N_NEIGHBOURS, references.shape[1])
    nearest = torch.bmm(embedding, references.mT).topk(n, -1).indices
    kinds = label[:, None].expand(-1, embedding.shape[1], -1).gather(2, nearest)
    votes = functional.one_hot(kinds, len(ARCHETYPES)).sum(2)
    return votes.argmax(-1)


class PatternNet(nn.Module):
    """Windows -> scores [S, B, kinds] and unit embeddings [S, B, Z]."""

    prior: torch.Tensor

    def __init__(self, settings: PatternSettings, layout: Layout) -> None:
        """Make a stack of one."""
        super().__init__()
        w = settings.width
        self.again = settings.checkpointing
        self.observation_norm = Normaliser(1, layout.n_features)
        self.enemy_norm = Normaliser(1, layout.n_enemy_features)
        self.threat_norm = Normaliser(1, 1)
        self.noise, self.dropout = Noise(settings.noise), Dropout(settings.dropout)
        self.blind = Dropout(settings.blind)
        self.of_actor = Linear(1, layout.n_features, w)
        each = settings.enemy_width
        self.of_enemy = Linear(1, layout.n_enemy_features + 1, each)
        self.of_deeds, self.of_pack = Linear(1, each, each), Linear(1, each, w)
        self.position = Table(1, settings.window, w)
        self.blocks = nn.ModuleList(
            Block(1, w, settings.heads, settings.inner * w, settings.dropout)
            for _ in range(settings.depth)
        )
        self.norm, self.kind = LayerNorm(1, w), Linear(1, w, len(ARCHETYPES))
        self.wide, self.narrow = Linear(1, w, w), Linear(1, w, settings.embedding)
        self.register_buffer("prior", torch.zeros(1, len(ARCHETYPES)))

    def forward(
        self,
        observation: torch.Tensor,
        enemies: torch.Tensor,
        threat: torch.Tensor,
        known: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Take [S, B, T, D], [S, B, T, E, F], [S, B, T, E] and bool[S, B, T]; plain: no S."""
        x = self._of_actor(observation) + self._of_enemies(enemies, threat)
        position = self.position()[..., : x.shape[-2], :]
        x = self.dropout(x + (position[:, None] if x.dim() == 4 else position))
        for block in self.blocks:
            x = run(block, x, known, again=self.again and self.training)
        weight = known[..., None].to(x.dtype)
        x = (self.norm(x) * weight).sum(-2) / weight.sum(-2).clamp(min=1.0)
        embedding = self.narrow(functional.gelu(self.wide(x)))
        return self.kind(x), functional.normalize(embedding, dim=-1)

    def _of_actor(self, observation: torch.Tensor) -> torch.Tensor:
        seen = self.noise(self.observation_norm(observation))
        if self.training:
            seen = seen * self.blind(seen.new_ones(*seen.shape[:-2], 1, 1))
        told: torch.Tensor = self.of_actor(seen)
        return told

    def _of_enemies(self, enemies: torch.Tensor, threat: torch.Tensor) -> torch.Tensor:
        """Return what the living tell together, [S, B, T, W]: all are read by the same weights."""
        there = (enemies != 0).any(-1, keepdim=True)
        done = self.threat_norm(threat[..., None])
        facts = self.noise(torch.cat([self.enemy_norm(enemies), done], -1))
        told = torch.relu(self.of_deeds(torch.relu(self.of_enemy(facts))))
        told = torch.where(there, told, 0.0)
        pack: torch.Tensor = self.of_pack(told.sum(-2) / there.sum(-2).clamp(min=1))
        return pack


class PatternStack(SupervisedStack):
    """S transformers in training."""

    _settings: PatternSettings
    _net: PatternNet
    _references: tuple[torch.Tensor, torch.Tensor] | None = None
    """While it judges: embeddings [S, R, Z] of learned windows and their kinds [S, R]."""

    def _columns(self, rows: Episodes) -> Columns:
        return {
            **{name: getattr(rows, name) for name in FACTS},
            "label": rows.enemy_kind,
            "begins": begins(following(rows)),
        }

    def _learnable(self, columns: Columns) -> NDArray[np.int64]:
        """Return the rows that windows end at: all whose kind is named."""
        label = columns["label"]
        return np.flatnonzero((label >= 0) & (label < len(ARCHETYPES)))

    def _fix(self, columns: Sequence[Columns], places: Sequence[NDArray[np.int64]]) -> None:
        net = self._net
        net.observation_norm.fix([one["observation"] for one in columns])
        net.threat_norm.fix([one["threat"].reshape(-1, 1) for one in columns])
        net.enemy_norm.fix([one["enemies"][(one["enemies"] != 0).any(-1)] for one in columns])
        for i, (one, where) in enumerate(zip(columns, places, strict=True)):
            chances = frequencies(one["label"][where], len(ARCHETYPES))
            net.prior[i] = torch.from_numpy(chances)

    def _gather(
        self, columns: Columns, places: NDArray[np.int64], rng: np.random.Generator | None
    ) -> Columns:
        if rng is None:
            return self._windows(columns, places, np.full(len(places), self._settings.window))
        least, most = self._settings.least_window, self._settings.window
        twice = np.concatenate([places, places])  # two views of each, cropped apart
        return self._windows(columns, twice, rng.integers(least, most + 1, len(twice)))

    def _windows(
        self, columns: Columns, places: NDArray[np.int64], length: NDArray[np.int64]
    ) -> Columns:
        """Return windows that end at some rows: padded behind, never across a beginning."""
        back = np.arange(self._settings.window)
        at = np.maximum(places[:, None] - back, 0)
        since = columns["begins"][at].cumsum(1) - columns["begins"][at]
        n_known = ((since == 0) & (places[:, None] >= back)).sum(1)
        n_known = np.minimum(n_known, length)
        forward = places[:, None] - n_known[:, None] + 1 + back
        known = back < n_known[:, None]
        rows = np.where(known, forward, places[:, None])
        batch = {name: columns[name][rows] for name in FACTS}
        return {**batch, "known": known, "label": columns["label"][places]}

    def _losses(self, batch: Tensors) -> tuple[torch.Tensor, Tensors]:
        settings, label = self._settings, batch["label"]
        scores, embedding = self._net(*(batch[name] for name in FACTS), batch["known"])
        scores = scores.float()
        named = choice_loss(scores, label)
        even = -functional.log_softmax(scores, -1).mean(-1)
        named = torch.lerp(named, even, settings.smoothing).mean(1)
        told = {"accuracy": (scores.argmax(-1) == label).float().mean(1), "kind_loss": named}
        if settings.contrast == 0.0:
            return named, told
        contrast = contrastive_loss(embedding.float(), label, settings.temperature)
        return named + settings.contrast * contrast, {**told, "contrastive_loss": contrast}

    def _errors(self, batch: Tensors) -> tuple[Tensors, torch.Tensor]:
        label = batch["label"]
        scores, embedding = self._net(*(batch[name] for name in FACTS), batch["known"])
        prior = self._net.prior[:, None].expand_as(scores)
        told = {
            "loss": choice_loss(scores.float(), label),
            "trivial": choice_loss(prior, label),
            "accuracy": (scores.argmax(-1) == label).float(),
            "trivial_accuracy": (prior.argmax(-1) == label).float(),
        }
        if self._references is not None:
            named = neighbours(embedding.float(), *self._references)
            told["neighbour_accuracy"] = (named == label).float()
        return told, torch.ones_like(told["loss"])

    def _judge(
        self, columns: Sequence[Columns], places: Sequence[NDArray[np.int64]]
    ) -> dict[str, NDArray[np.float32]]:
        if all(map(len, self._places)) and self._places:
            self._references = self._embedded()
        try:
            return super()._judge(columns, places)
        finally:
            self._references = None

    @torch.no_grad()
    def _embedded(self) -> tuple[torch.Tensor, torch.Tensor]:
        parts = []
        for rows, places in zip(self._rows, self._places, strict=True):
            some = np.linspace(0, len(places) - 1, N_REFERENCES).astype(np.int64)
            parts.append(self._gather(rows, places[some], None))
        self._net.eval()
        batch = self._tensors(parts)
        found = []
        for start in range(0, N_REFERENCES, JUDGED_AT_ONCE):
            part = {k: v[:, start : start + JUDGED_AT_ONCE] for k, v in batch.items()}
            with self._autocast():
                found.append(self._net(*(part[name] for name in FACTS), part["known"])[1])
        return torch.cat(found, 1).float(), batch["label"]

    def graph(self, i: int) -> nn.Module:
        """Return ``(observation, enemies, threat, known) -> (scores, embedding)`` of model i."""
        return unstack(self._net, i).eval()

    def feeds(self, rows: Episodes, n: int) -> Feeds:
        """Return real inputs of the graph: whole windows."""
        length = longest(rows, self._settings.window)
        return feeds(TYPE.inputs(self._layout), rows, n, length=length)


class PatternRecognition(SupervisedType):
    """The type."""

    name: ClassVar[str] = "pattern_recognition"
    settings: ClassVar[type[TypeSettings]] = PatternSettings
    network: ClassVar[type[nn.Module]] = PatternNet
    stack: ClassVar[type[SupervisedStack]] = PatternStack

    def preset(self, name: Preset) -> PatternSettings:
        """Return the settings of a preset."""
        if name == "classic":
            return PatternSettings(checkpointing=True)
        return PatternSettings(
            width=64, depth=2, heads=4, inner=2, enemy_width=32, batch=32, learning_rate=5e-4,
            updates=800, weight_decay=0.05, noise=0.1, smoothing=0.05, blind=0.2,
        )  # fmt: skip

    def inputs(self, layout: Layout) -> list[Port]:
        """Return a window of steps, ``known`` false where it is padded behind its last one."""
        e = layout.n_enemies
        return [
            Port("observation", (None, layout.n_features)),
            Port("enemies", (None, e, layout.n_enemy_features)),
            Port("threat", (None, e)),
            Port("known", (None,), "bool"),
        ]

    def outputs(self, layout: Layout) -> list[Port]:
        """Return a score of each kind, the softmax being its chance, and the embedding."""
        return [Port("kinds", (len(ARCHETYPES),)), Port("embedding", (None,))]


TYPE = PatternRecognition()
