"""What the predicting types share: rows to learn from, draws, the update and the judgement.

A type gives its columns, its network, and the errors of a batch; models differ in rows, weights
and draws and share every kernel.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, cast

import numpy as np
import torch
from msgspec import Meta
from numpy.typing import NDArray
from torch import nn

from learners.feeds import Feeds
from learners.model_types.base import LearnError, Share, TypeSettings, Update, checked
from learners.stack.optimiser import StackedAdamW
from learners.stack.random import set_keys
from learners.stack.seeds import Draws, seeded
from schemas.practice import Episodes, Head, Layout, Practice

Columns = dict[str, NDArray[Any]]
"""Columns of one model's rows, each leading with N, in order of (actor's episode, step)."""

Tensors = dict[str, torch.Tensor]

JUDGED_AT_ONCE = 256
"""Rows a model that `judge` looks at in one pass."""


class SupervisedSettings(TypeSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of all predicting types."""

    practice_matches: Annotated[int, Meta(ge=0)] = 0
    grad_clip: Annotated[float, Meta(ge=0)] = 1.0
    max_rows: Annotated[int, Meta(ge=1)] = 50_000
    """Rows a model that are kept to learn from; the oldest go first."""
    warm_up: Annotated[int, Meta(ge=0)] = 100
    """Updates over which the learning rate rises to its value."""
    final_rate: Share = 0.05
    """Share of the learning rate that is left, by a half cosine, after ``updates``."""
    noise: Annotated[float, Meta(ge=0)] = 0.0
    """Augmentation: deviation of the noise on normalised features."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """bfloat16: matrix products under autocast; faster where the processor has them."""
    checkpointing: bool = False
    """Compute activations twice rather than keep them: memory for a third more time."""


def rate_at(settings: SupervisedSettings, n: int) -> float:
    """Return the share of the learning rate at update n: a rise, then a half cosine."""
    rise = min(1.0, (n + 1) / (settings.warm_up + 1))
    done = min(1.0, n / settings.updates)
    share = settings.final_rate
    return rise * (share + (1.0 - share) * 0.5 * (1.0 + math.cos(math.pi * done)))


class SupervisedStack(abc.ABC):
    """S models that learn from logged rows; a `learners.model_types.base.Stack`."""

    def __init__(
        self,
        settings: SupervisedSettings,
        layout: Layout,
        seeds: Sequence[int],
        rates: Sequence[float],
        device: torch.device,
        make: Callable[[], nn.Module],
    ) -> None:
        """Begin with weights of ``make``, which returns a stack of one."""
        self.n_models = len(seeds)
        self._settings, self._layout, self._device = settings, layout, device
        self._net = seeded(make, seeds).to(device)
        self._rates = [settings.learning_rate * rate for rate in rates]
        self._adam = StackedAdamW(
            list(self._net.parameters()), self._rates, settings.weight_decay, settings.grad_clip
        )
        self._draws = Draws(seeds)
        self._rows: list[Columns] = []
        self._places: list[NDArray[np.int64]] = []
        self._n_updates = 0

    # What a type gives.

    @abc.abstractmethod
    def _columns(self, rows: Episodes) -> Columns:
        """Return the columns that the type reads; targets among them."""

    @abc.abstractmethod
    def _learnable(self, columns: Columns) -> NDArray[np.int64]:
        """Return the rows that can be drawn: those whose target is known."""

    @abc.abstractmethod
    def _fix(self, columns: Sequence[Columns], places: Sequence[NDArray[np.int64]]) -> None:
        """Fix normalisers, and what the trivial predictor predicts, from rows of each model."""

    @abc.abstractmethod
    def _gather(
        self, columns: Columns, places: NDArray[np.int64], rng: np.random.Generator | None
    ) -> Columns:
        """Return one model's batch [B, ...] of these rows; ``rng`` None: no augmentation."""

    @abc.abstractmethod
    def _losses(self, batch: Tensors) -> tuple[torch.Tensor, Tensors]:
        """Return what is descended [S] and scalars [S] of a batch [S, B, ...]."""

    @abc.abstractmethod
    def _errors(self, batch: Tensors) -> tuple[Tensors, torch.Tensor]:
        """Return sums [S, B] of measures ("loss", "trivial", ...) and their weights [S, B]."""

    @property
    def _n_drawn(self) -> int:
        """Rows a model that an update draws."""
        return self._settings.batch

    # What all have.

    def fit(self, rows: Sequence[Episodes]) -> None:
        """Take rows for each model [S]; the first ones fix the normalisers."""
        fresh = [self._columns(one) for one in rows]
        if not self._rows:
            self._fix(fresh, [self._learnable(one) for one in fresh])
            self._rows = [{name: column[:0] for name, column in one.items()} for one in fresh]
        self._rows = [
            _newest(old, new, self._settings.max_rows)
            for old, new in zip(self._rows, fresh, strict=True)
        ]
        self._places = [self._learnable(one) for one in self._rows]

    def update(self) -> Update:
        """Take one gradient step of all models.

        Raises:
            LearnError: there is nothing to learn from, or a loss is not finite.
        """
        self._check_places(self._places)
        parts = []
        for rows, places, rng in zip(self._rows, self._places, self._draws.models, strict=True):
            drawn = places[rng.integers(0, len(places), self._n_drawn)]
            parts.append(self._gather(rows, drawn, rng))
        self._net.train()
        set_keys(self._net, [int(rng.integers(2**32)) for rng in self._draws.models])
        with self._autocast():
            loss, scalars = self._losses(self._tensors(parts))
        told = loss.detach().float().cpu().numpy()
        if not np.isfinite(told).all():
            bad = int(np.flatnonzero(~np.isfinite(told))[0])
            msg = f"loss[{bad}] must be finite; got {told[bad]} at update {self._n_updates}: "
            raise LearnError(msg + "lower learning_rate or set grad_clip")
        share = rate_at(self._settings, self._n_updates)
        self._adam.set_rates([rate * share for rate in self._rates])
        self._adam.step(loss.sum())
        self._n_updates += 1
        return Update(told, {k: v.detach().float().cpu().numpy() for k, v in scalars.items()})

    def practise(self, world: Practice, seed: int) -> Mapping[str, NDArray[np.float32]]:
        """Return nothing: what is predicted here is learned from rows alone."""
        return {}

    def judge(self, rows: Sequence[Episodes]) -> Mapping[str, NDArray[np.float32]]:
        """Return means [S] over rows: "loss", "trivial", and what the type adds.

        Raises:
            LearnError: a model has no row to be judged by.
        """
        columns = [self._columns(one) for one in rows]
        return self._judge(columns, [self._learnable(one) for one in columns])

    @torch.no_grad()
    def _judge(
        self, columns: Sequence[Columns], places: Sequence[NDArray[np.int64]]
    ) -> dict[str, NDArray[np.float32]]:
        self._check_places(places)
        self._net.eval()
        sums: dict[str, NDArray[np.float64]] = {}
        weights = np.zeros(self.n_models)
        for start in range(0, max(map(len, places)), JUDGED_AT_ONCE):
            at = np.arange(start, min(start + JUDGED_AT_ONCE, max(map(len, places))))
            parts = [
                self._gather(one, where[np.minimum(at, len(where) - 1)], None)
                for one, where in zip(columns, places, strict=True)
            ]
            # Models with fewer rows see their last one again, with no weight.
            there = torch.from_numpy(np.stack([at < len(where) for where in places]))
            with self._autocast():
                errors, weight = self._errors(self._tensors(parts))
            weights += (weight.cpu() * there).sum(1).double().numpy()
            for name, error in errors.items():
                total = torch.where(there, error.float().cpu(), 0.0).sum(1).double().numpy()
                sums[name] = sums.get(name, np.zeros(self.n_models)) + total
        return {k: (v / np.maximum(weights, 1e-9)).astype(np.float32) for k, v in sums.items()}

    def act(self, view: Any, *, greedy: bool = True) -> NDArray[Any]:
        """Refuse: a predicting type chooses nothing.

        Raises:
            LearnError: always.
        """
        msg = "type must be one that acts; got one that predicts: ask its graph instead"
        raise LearnError(msg)

    @abc.abstractmethod
    def graph(self, i: int) -> nn.Module:
        """Return model i alone as it is exported."""

    @abc.abstractmethod
    def feeds(self, rows: Episodes, n: int) -> Feeds:
        """Return real inputs of the graph."""

    def modules(self) -> Mapping[str, nn.Module]:
        """Return the one network."""
        return {"net": self._net}

    def optimisers(self) -> Mapping[str, StackedAdamW]:
        """Return the one optimiser."""
        return {"net": self._adam}

    def state(self) -> dict[str, torch.Tensor]:
        """Return copies of weights, moments, generators and count; rows come by `fit` again."""
        weights = {f"net.{k}": v.cpu().clone() for k, v in self._net.state_dict().items()}
        adam = {f"adam.{k}": v for k, v in self._adam.state().items()}
        count = torch.tensor(self._n_updates, dtype=torch.int64)
        return {**weights, **adam, "draws": self._draws.state(), "updates": count}

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """Take a `state`."""

        def under(name: str) -> dict[str, torch.Tensor]:
            return {k.removeprefix(name): v for k, v in state.items() if k.startswith(name)}

        self._net.load_state_dict(under("net."))
        self._adam.restore(under("adam."))
        self._draws.restore(state["draws"])
        self._n_updates = int(state["updates"])

    def _tensors(self, parts: Sequence[Columns]) -> Tensors:
        return {
            name: torch.from_numpy(np.stack([part[name] for part in parts])).to(self._device)
            for name in parts[0]
        }

    def _autocast(self) -> torch.autocast:
        wanted = self._settings.precision == "bfloat16"
        return torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=wanted)

    def _check_places(self, places: Sequence[NDArray[np.int64]]) -> None:
        empty = [i for i, where in enumerate(places) if not len(where)]
        if empty or not places:
            at = f"rows[{empty[0]}]" if empty else "rows"
            msg = f"{at} must hold steps whose target is known; got none: fit rows of more matches"
            raise LearnError(msg)


def _newest(old: Columns, new: Columns, most: int) -> Columns:
    """Return old rows and new ones behind them, the last ``most`` of them."""
    if not len(next(iter(old.values()))):
        return {name: column[-most:] for name, column in new.items()}
    return {name: np.concatenate([old[name], new[name]])[-most:] for name in new}


class SupervisedType:
    """A type that predicts; a subclass names its settings, network and stack, and has ports."""

    name: ClassVar[str]
    acts: ClassVar[Head | None] = None
    settings: ClassVar[type[TypeSettings]]
    network: ClassVar[type[nn.Module]]
    """Made of settings and layout, a stack of one."""
    stack: ClassVar[type[SupervisedStack]]

    def make(
        self,
        settings: TypeSettings,
        layout: Layout,
        seeds: Sequence[int],
        rates: Sequence[float],
        device: torch.device,
    ) -> SupervisedStack:
        """Return a new stack."""
        own = cast(SupervisedSettings, checked(settings, self.settings))
        return self.stack(own, layout, seeds, rates, device, lambda: self.network(own, layout))


def check_heads(width: int, heads: int) -> None:
    """Check that attention's heads share a width evenly.

    Raises:
        ValueError: they do not.
    """
    if width % heads:
        msg = f"$.width must be a multiple of heads ({heads}); got {width}"
        raise ValueError(msg)
