"""What stacks that learn a policy share, on-policy or off: what is counted, checked and kept."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from learners.fragments import Fragments
from learners.model_types.base import LearnError, Update
from learners.stack.normaliser import Normaliser
from learners.stack.optimiser import StackedAdamW
from learners.stack.seeds import Draws

NOTHING_TO_LEARN = "rows must be at least 1 to learn from; got 0: fit logged rows or practise"


class PolicyStack(abc.ABC):
    """The common part of a `Stack`: draws, normaliser, count of updates, and its state."""

    def __init__(self, seeds: Sequence[int], normaliser: Normaliser, device: torch.device) -> None:
        """Begin at no updates, the normaliser not yet fixed."""
        self.n_models = len(seeds)
        self._device = device
        self._draws = Draws(seeds)
        self._normaliser = normaliser
        self._fixed = False
        self._n_updates = 0

    @abc.abstractmethod
    def modules(self) -> Mapping[str, nn.Module]:
        """See `Stack.modules`."""

    @abc.abstractmethod
    def optimisers(self) -> Mapping[str, StackedAdamW]:
        """See `Stack.optimisers`."""

    @abc.abstractmethod
    def _rows_state(self) -> dict[str, torch.Tensor]:
        """Return copies of what was gathered, and of what was reckoned from it."""

    @abc.abstractmethod
    def _restore_rows(self, state: Mapping[str, torch.Tensor]) -> None:
        """Take a `_rows_state`."""

    def _fix(self, observations: Sequence[NDArray[np.float32]]) -> None:
        """Take mean and deviation from the first rows [S] of [N, D] that are seen, only once."""
        if not self._fixed:
            self._normaliser.fix(observations)
            self._fixed = True

    def _fix_by(self, fragments: Fragments) -> None:
        seen = zip(fragments.observation, fragments.valid, strict=True)
        self._fix([rows[valid] for rows, valid in seen])

    def _told(self, loss: torch.Tensor, scalars: Mapping[str, torch.Tensor]) -> Update:
        """Return what an update tells.

        Raises:
            LearnError: a loss is not finite.
        """
        told = {k: v.detach().cpu().numpy().astype(np.float32) for k, v in scalars.items()}
        update = Update(loss.detach().cpu().numpy().astype(np.float32), told)
        for name, values in {"loss": update.loss, **told}.items():
            if name.endswith("loss") and not np.isfinite(values).all():
                bad = int(np.flatnonzero(~np.isfinite(values))[0])
                msg = f"{name}[{bad}] must be finite; got {values[bad]}: lower the learning rate"
                raise LearnError(msg)
        return update

    def state(self) -> dict[str, torch.Tensor]:
        """Return copies of weights, moments, generators, counts and gathered rows."""
        kept = {
            f"{name}.{k}": v.detach().cpu().clone()
            for name, module in self.modules().items()
            for k, v in module.state_dict().items()
        }
        for name, optimiser in self.optimisers().items():
            kept |= {f"optimiser.{name}.{k}": v for k, v in optimiser.state().items()}
        counts = torch.tensor([self._n_updates, int(self._fixed)])
        return {**kept, **self._rows_state(), "draws": self._draws.state(), "counts": counts}

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """Take a `state`, behind a `fit` with the same rows where there was one."""
        for name, module in self.modules().items():
            module.load_state_dict(part(state, f"{name}."))
        for name, optimiser in self.optimisers().items():
            optimiser.restore(part(state, f"optimiser.{name}."))
        self._draws.restore(state["draws"])
        self._n_updates, fixed = state["counts"].tolist()
        self._fixed = bool(fixed)
        self._restore_rows(state)


def part(state: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """Return what lies under a prefix, by the names behind it."""
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
