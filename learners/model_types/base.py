"""What every model type gives; `learners.model_types.registry` holds all nine."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, Protocol, TypeVar

import msgspec
import numpy as np
import torch
from msgspec import Meta
from numpy.typing import NDArray
from torch import nn

from learners.stack.optimiser import StackedAdamW
from schemas.practice import Episodes, Head, Layout, Practice

Preset = Literal["classic", "modern"]
Share = Annotated[float, Meta(ge=0, le=1)]


class TypeSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings that every type has; a type adds its own in a subclass."""

    batch: Annotated[int, Meta(ge=1)] = 256
    learning_rate: Annotated[float, Meta(gt=0)] = 3e-4
    discount: Annotated[float, Meta(ge=0, lt=1)] = 0.99
    weight_decay: Annotated[float, Meta(ge=0)] = 0.0
    grad_clip: Annotated[float, Meta(ge=0)] = 10.0
    updates: Annotated[int, Meta(ge=1)] = 2_000
    """Gradient steps of a whole training, practice included."""
    practice_matches: Annotated[int, Meta(ge=0)] = 16
    """Matches an archetype that run side by side while a type practises; 0: only logged data."""
    practise_every: Annotated[int, Meta(ge=1)] = 100
    """Updates between two calls of `Stack.practise`; the first comes before the first update."""
    accumulate: Annotated[int, Meta(ge=1)] = 1
    """Batches whose gradients are averaged into one step: for cards that hold no larger batch.
    The trainer sets it on the stack's `optimisers`."""


@dataclasses.dataclass(frozen=True, slots=True)
class Update:
    """What one gradient step tells, each array [S]."""

    loss: NDArray[np.float32]
    scalars: Mapping[str, NDArray[np.float32]]
    """By TensorBoard's name: q_mean, q_max, td_error, entropy, ..."""


@dataclasses.dataclass(frozen=True, slots=True)
class Port:
    """One input or output of an exported graph; the first axis is the batch."""

    name: str
    shape: tuple[int | None, ...]
    """Without the batch axis; None: any length."""
    dtype: Literal["float32", "int64", "bool", "uint8"] = "float32"


class Stack(Protocol):
    """S models of one type in training: equal seeds and rows make equal weights on one CPU."""

    n_models: int

    def fit(self, rows: Sequence[Episodes]) -> None:
        """Take rows for each model [S] to learn from; the first ones fix the normalisers."""
        ...

    def update(self) -> Update:
        """Take one gradient step of all models on what `fit` and `practise` brought.

        Raises:
            LearnError: there is nothing to learn from, or a loss is not finite.
        """
        ...

    def practise(self, world: Practice, seed: int) -> Mapping[str, NDArray[np.float32]]:
        """Gather fresh rows by acting; returns measures [S] (reward, episode_length, win_rate).

        Every call begins new matches by its seed: nothing of the world outlives a call, so that a
        training that was killed goes on as if it had not been. Types that learn from rows alone
        return an empty mapping at once.
        """
        ...

    def judge(self, rows: Sequence[Episodes]) -> Mapping[str, NDArray[np.float32]]:
        """Return held-out measures [S]: "loss", "trivial" (the trivial predictor's), and others."""
        ...

    def act(self, view: Any, *, greedy: bool = True) -> NDArray[Any]:
        """Return choices [S, B] (aims [S, B, 2]) for a `View`; acting types only."""
        ...

    def graph(self, i: int) -> nn.Module:
        """Return model i alone as it is exported: normaliser, mask and recurrent state inside.

        Its ``forward`` takes tensors in the order of `ModelType.inputs` and returns a tuple in the
        order of `ModelType.outputs`.
        """
        ...

    def feeds(self, rows: Episodes, n: int) -> dict[str, NDArray[Any]]:
        """Return up to n real inputs [B, ...] of the graph by port (see `learners.feeds`).

        The graph is traced, verified and timed with them.
        """
        ...

    def modules(self) -> Mapping[str, nn.Module]:
        """Return all stacked networks by name, targets too, with normalisers as buffers [S, ...].

        Warm start and transfer copy model by model from one stack's to another's.
        """
        ...

    def optimisers(self) -> Mapping[str, StackedAdamW]:
        """Return the optimisers by name: a training freezes models and layers on them."""
        ...

    def state(self) -> dict[str, torch.Tensor]:
        """Return copies of all that the next update depends on: gathered rows and generators, too.

        What `fit` brought need not be in it: `restore` comes behind a `fit` with the same rows.
        """
        ...

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """Take a `state`: what follows is bit for bit what would have followed."""
        ...


class ModelType(Protocol):
    """A registered type."""

    name: ClassVar[str]
    acts: ClassVar[Head | None]
    """The head it decides, or None for one that predicts."""
    settings: ClassVar[type[TypeSettings]]

    def preset(self, name: Preset) -> TypeSettings:
        """Return the settings of a preset."""
        ...

    def inputs(self, layout: Layout) -> list[Port]:
        """Return the inputs of an exported graph."""
        ...

    def outputs(self, layout: Layout) -> list[Port]:
        """Return the outputs of an exported graph; the first is what a decision is read from."""
        ...

    def make(
        self,
        settings: TypeSettings,
        layout: Layout,
        seeds: Sequence[int],
        rates: Sequence[float],
        device: torch.device,
    ) -> Stack:
        """Return a new stack of ``len(seeds)`` models.

        Model i's weights and draws come from ``seeds[i]`` alone; ``rates`` multiply the settings'
        learning rate (an archetype may have its own).
        """
        ...


def wants_maps(kind: ModelType, layout: Layout) -> bool:
    """Return whether a type's inputs are maps, which take most of a row's bytes."""
    return any(port.name == "maps" for port in kind.inputs(layout))


class LearnError(ValueError):
    """What cannot be learned from or learned on; the message names the field and the rule."""


Settings = TypeVar("Settings", bound=TypeSettings)


def checked(settings: TypeSettings, kind: type[Settings]) -> Settings:
    """Return the settings as a type's own.

    Raises:
        LearnError: they are another type's.
    """
    if not isinstance(settings, kind):
        msg = f"settings must be {kind.__name__}; got {type(settings).__name__}"
        raise LearnError(msg)
    return settings
