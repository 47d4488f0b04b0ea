"""Where an actor is going: a vision transformer over its map tells a chance for each patch.

ViT-tiny (Dosovitskiy et al. 2021; sizes of Touvron et al. 2021). Differs from the paper: there is
no class token, every patch's own token tells its score, so that a target is a place and not a
class; layers normalise first; channels are normalised by what the first rows show.
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
from learners.model_types.base import LearnError, Port, Preset, TypeSettings
from learners.model_types.supervised import (
    Columns,
    SupervisedSettings,
    SupervisedStack,
    SupervisedType,
    Tensors,
    check_heads,
)
from learners.stack.attention import Block, run
from learners.stack.layers import LayerNorm, Linear, Table, unstack
from schemas.practice import Episodes, Layout

PATCH = 8
"""Pixels along a side of a patch: that of `schemas.practice.Episodes.target`."""

LOOKED_AT = 512
"""Maps from which the normaliser is fixed: thousands more would tell the same."""

LEAST_DEVIATION = 0.02
"""In steps of a channel's 256: one that hardly ever shows anything is not blown up further."""


def choice_loss(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return the cross-entropy [...] of targets [...] under logits [..., K]."""
    chance = functional.log_softmax(logits, -1)
    return -chance.gather(-1, target[..., None]).squeeze(-1)


def frequencies(target: NDArray[np.int64], n: int) -> NDArray[np.float32]:
    """Return log chances [n] by count, each counted once more than it was seen."""
    count = np.bincount(target, minlength=n) + 1.0
    chances: NDArray[np.float32] = np.log(count / count.sum()).astype(np.float32)
    return chances


def flipped(
    maps: NDArray[np.uint8], target: NDArray[np.int64], across: NDArray[np.bool_], axis: int
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return maps [B, C, H, W] turned over along an axis (2 or 3) where asked, and their targets.

    Targets are patches in rows; a patch in column x of n lies in column n - 1 - x afterwards.
    """
    n_rows, n_columns = (side // PATCH for side in maps.shape[2:])
    row, column = np.divmod(target, n_columns)
    if axis == 2:
        row = np.where(across, n_rows - 1 - row, row)
    else:
        column = np.where(across, n_columns - 1 - column, column)
    turned = np.where(across[:, None, None, None], np.flip(maps, axis), maps)
    return turned, row * n_columns + column


class VitSettings(SupervisedSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of `spatial_vit`."""

    width: Annotated[int, Meta(ge=2)] = 192
    depth: Annotated[int, Meta(ge=1)] = 12
    heads: Annotated[int, Meta(ge=1)] = 3
    inner: Annotated[int, Meta(ge=1)] = 4
    """Width of a layer's middle in widths."""
    dropout: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    flip_x: bool = False
    """Augmentation: mirror maps left to right. Only where the game has no sides."""
    flip_y: bool = False
    """Augmentation: mirror maps top to bottom."""

    def __post_init__(self) -> None:
        """Check what one field cannot tell.

        Raises:
            ValueError: ``width`` is no multiple of ``heads``.
        """
        check_heads(self.width, self.heads)


class VitNet(nn.Module):
    """Maps uint8 [S, B, C, H, W] -> scores [S, B, P] of the patches in rows."""

    prior: torch.Tensor
    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, settings: VitSettings, layout: Layout) -> None:
        """Make a stack of one.

        Raises:
            LearnError: the sides of the map are no multiples of a patch's.
        """
        super().__init__()
        channels, height, width = layout.map_shape
        if height % PATCH or width % PATCH:
            msg = f"layout.map_shape must have sides that are multiples of {PATCH}; "
            raise LearnError(msg + f"got {layout.map_shape}")
        self.grid = (height // PATCH, width // PATCH)
        n_patches, w = self.grid[0] * self.grid[1], settings.width
        self.again = settings.checkpointing
        self.patch = Linear(1, channels * PATCH * PATCH, w)
        self.position = Table(1, n_patches, w)
        self.blocks = nn.ModuleList(
            Block(1, w, settings.heads, settings.inner * w, settings.dropout)
            for _ in range(settings.depth)
        )
        self.norm, self.score = LayerNorm(1, w), Linear(1, w, 1)
        self.register_buffer("prior", torch.zeros(1, n_patches))
        self.register_buffer("mean", torch.zeros(1, channels))
        self.register_buffer("scale", torch.full((1, channels), 1.0 / 255.0))

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Return scores; the plain form takes [B, C, H, W]."""
        mean, scale, position = self.mean, self.scale, self.position()
        if maps.dim() == 5:  # the stacked form: the batch comes behind S
            mean, scale, position = mean[:, None], scale[:, None], position[:, None]
        colours = (maps.to(scale.dtype) - mean[..., None, None]) * scale[..., None, None]
        x = self.patch(self._patches(colours)) + position
        for block in self.blocks:
            x = run(block, x, again=self.again and self.training)
        scores: torch.Tensor = self.score(self.norm(x)).squeeze(-1)
        return scores

    def _patches(self, maps: torch.Tensor) -> torch.Tensor:
        """Return [S, B, P, C * 64] of maps [S, B, C, H, W]."""
        lead, (rows, columns) = maps.shape[:-3], self.grid
        x = maps.reshape(-1, maps.shape[-3], rows, PATCH, columns, PATCH)
        x = x.permute(0, 2, 4, 1, 3, 5)
        return x.reshape(*lead, rows * columns, maps.shape[-3] * PATCH * PATCH)


class VitGraph(nn.Module):
    """Model i alone."""

    def __init__(self, net: VitNet) -> None:
        """Take the plain form."""
        super().__init__()
        self.net = net

    def forward(self, maps: torch.Tensor) -> tuple[torch.Tensor]:
        """Return scores [B, P] of uint8 [B, C, H, W]."""
        return (self.net(maps),)


class VitStack(SupervisedStack):
    """S transformers in training."""

    _settings: VitSettings
    _net: VitNet

    def _columns(self, rows: Episodes) -> Columns:
        if rows.maps is None:
            msg = "rows.maps must be kept; got None: gather rows with their maps"
            raise LearnError(msg)
        return {"maps": rows.maps, "target": rows.target}

    def _learnable(self, columns: Columns) -> NDArray[np.int64]:
        return np.flatnonzero(columns["target"] >= 0)

    def _fix(self, columns: Sequence[Columns], places: Sequence[NDArray[np.int64]]) -> None:
        n = self._net.prior.shape[1]
        for i, (one, where) in enumerate(zip(columns, places, strict=True)):
            self._net.prior[i] = torch.from_numpy(frequencies(one["target"][where], n))
            some = one["maps"][where[:: max(1, len(where) // LOOKED_AT)]]
            if len(some):
                wide = some.astype(np.float32)
                deviation = np.maximum(wide.std((0, 2, 3)), LEAST_DEVIATION)
                self._net.mean[i] = torch.from_numpy(wide.mean((0, 2, 3)))
                self._net.scale[i] = torch.from_numpy(1.0 / deviation)

    def _gather(
        self, columns: Columns, places: NDArray[np.int64], rng: np.random.Generator | None
    ) -> Columns:
        maps, target = columns["maps"][places], columns["target"][places]
        if rng is not None:
            for wanted, axis in ((self._settings.flip_y, 2), (self._settings.flip_x, 3)):
                if wanted:
                    maps, target = flipped(maps, target, rng.random(len(places)) < 0.5, axis)
        return {"maps": maps, "target": target}

    def _losses(self, batch: Tensors) -> tuple[torch.Tensor, Tensors]:
        scores = self._net(batch["maps"]).float()
        right = (scores.argmax(-1) == batch["target"]).float().mean(1)
        return choice_loss(scores, batch["target"]).mean(1), {"accuracy": right}

    def _errors(self, batch: Tensors) -> tuple[Tensors, torch.Tensor]:
        scores, target = self._net(batch["maps"]).float(), batch["target"]
        prior = self._net.prior[:, None].expand_as(scores)
        told = {
            "loss": choice_loss(scores, target),
            "trivial": choice_loss(prior, target),
            "accuracy": (scores.argmax(-1) == target).float(),
            "trivial_accuracy": (prior.argmax(-1) == target).float(),
        }
        return told, torch.ones_like(told["loss"])

    def graph(self, i: int) -> nn.Module:
        """Return ``maps -> scores`` of model i."""
        return VitGraph(unstack(self._net, i)).eval()

    def feeds(self, rows: Episodes, n: int) -> Feeds:
        """Return real inputs of the graph."""
        return feeds(TYPE.inputs(self._layout), rows, n)


class SpatialVit(SupervisedType):
    """The type."""

    name: ClassVar[str] = "spatial_vit"
    settings: ClassVar[type[TypeSettings]] = VitSettings
    network: ClassVar[type[nn.Module]] = VitNet
    stack: ClassVar[type[SupervisedStack]] = VitStack

    def preset(self, name: Preset) -> VitSettings:
        """Return the settings of a preset."""
        if name == "classic":
            return VitSettings(learning_rate=3e-4, checkpointing=True)
        return VitSettings(
            width=64, depth=3, heads=4, inner=2, batch=64, learning_rate=1e-3, updates=300,
            weight_decay=0.05, dropout=0.1, flip_y=True,
        )  # fmt: skip

    def inputs(self, layout: Layout) -> list[Port]:
        """Return the map."""
        return [Port("maps", layout.map_shape, "uint8")]

    def outputs(self, layout: Layout) -> list[Port]:
        """Return a score for each patch, in rows: the softmax is a chance."""
        _, height, width = layout.map_shape
        return [Port("scores", ((height // PATCH) * (width // PATCH),))]


TYPE = SpatialVit()
