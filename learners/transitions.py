"""Transitions with continuous choices for S models: logged rows, and a ring of gathered ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from learners.fragments import Fragments
from schemas.practice import Episodes

COLUMNS = ("observation", "aim", "reward", "next_observation", "terminated", "n_steps")


class Transitions:
    """Columns [S, logged + capacity, ...]; a model draws from its own rows only."""

    def __init__(
        self, n_models: int, capacity: int, n_features: int, n_aims: int, device: torch.device
    ) -> None:
        """Begin empty; once ``capacity`` gathered rows are there, new ones replace the oldest."""
        self._capacity, self._device = capacity, device
        self._widths = (n_features, n_aims, 1, n_features, 1, 1)
        self._logged = self._empty(n_models, 0)
        self._ring = self._empty(n_models, capacity)
        self.n_logged = np.zeros(n_models, np.int64)
        self.n_gathered = np.zeros(n_models, np.int64)
        """Rows of each model ever gathered; the ring holds the last of them."""

    def _empty(self, n_models: int, n_rows: int) -> list[torch.Tensor]:
        return [torch.zeros(n_models, n_rows, w, device=self._device) for w in self._widths]

    def set_logged(self, rows: Sequence[Episodes], reward_weight: float = 1.0) -> None:
        """Take logged rows [S] in place of the ones before, their rewards weighted."""
        self.n_logged = np.array([len(r) for r in rows])
        self._logged = self._empty(len(rows), int(self.n_logged.max(initial=0)))
        for i, r in enumerate(rows):
            columns = (
                r.observation, r.aim, reward_weight * r.reward, r.next_observation, r.terminated,
                np.ones(len(r), np.float32),
            )  # fmt: skip
            self._write(self._logged, i, np.arange(len(r)), columns)

    def add(self, fragments: Fragments, n_step: int = 1, discount: float = 1.0) -> None:
        """Put the valid rows of fragments into the ring, in order of time, with n-step returns."""
        f = fragments
        columns = (f.observation, f.action, *ahead(f, n_step, discount))
        for i, valid in enumerate(f.valid):
            some = [c[i][valid][-self._capacity :] for c in columns]
            places = (self.n_gathered[i] + np.arange(len(some[0]))) % self._capacity
            self._write(self._ring, i, places, some)
            self.n_gathered[i] += len(some[0])

    def _write(
        self,
        held: list[torch.Tensor],
        i: int,
        places: NDArray[np.int64],
        columns: Sequence[NDArray[np.generic]],
    ) -> None:
        for target, column in zip(held, columns, strict=True):
            values = column.reshape(len(places), -1).astype(np.float32)
            target[i, torch.from_numpy(places)] = torch.from_numpy(values).to(self._device)

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Return the rows [S] that each model can draw."""
        sizes: NDArray[np.int64] = self.n_logged + np.minimum(self.n_gathered, self._capacity)
        return sizes

    def draw(self, rngs: Sequence[np.random.Generator], n: int) -> dict[str, torch.Tensor]:
        """Return ``n`` rows of each model by name, [S, n, ...], drawn alike from all of its rows.

        No model may be empty.
        """
        rows = np.stack(
            [rng.integers(0, size, n) for rng, size in zip(rngs, self.sizes, strict=True)]
        )
        logged = rows < self.n_logged[:, None]
        model = torch.arange(len(rows))[:, None]
        behind = torch.from_numpy(np.where(logged, 0, rows - self.n_logged[:, None]))
        found = [column[model, behind] for column in self._ring]
        if logged.any():
            before = torch.from_numpy(np.where(logged, rows, 0))
            choice = torch.from_numpy(logged)[..., None].to(self._device)
            pairs = zip(self._logged, found, strict=True)
            found = [torch.where(choice, column[model, before], f) for column, f in pairs]
        batch = dict(zip(COLUMNS, found, strict=True))
        batch["reward"] = batch["reward"][..., 0]
        batch["terminated"] = batch["terminated"][..., 0] > 0
        batch["n_steps"] = batch["n_steps"][..., 0]
        return batch

    def state(self, prefix: str) -> dict[str, torch.Tensor]:
        """Return copies of the gathered rows; logged ones are the caller's."""
        n = int(np.minimum(self.n_gathered, self._capacity).max(initial=0))
        kept = {
            f"{prefix}{name}": column[:, :n].cpu().clone()
            for name, column in zip(COLUMNS, self._ring, strict=True)
        }
        return {**kept, f"{prefix}n_gathered": torch.from_numpy(self.n_gathered.copy())}

    def restore(self, state: Mapping[str, torch.Tensor], prefix: str) -> None:
        """Take a `state`."""
        self.n_gathered = state[f"{prefix}n_gathered"].numpy().copy()
        for name, column in zip(COLUMNS, self._ring, strict=True):
            kept = state[f"{prefix}{name}"]
            column[:, : kept.shape[1]] = kept.to(self._device)


def ahead(
    fragments: Fragments, n_step: int, discount: float
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_], NDArray[np.float32]]:
    """Return what up to ``n_step`` steps from each row on bring, each [S, T, B, ...].

    The discounted sum of their rewards, the observation behind the last of them, whether it
    terminated, and how many they are: fewer where the row's episode ends or the fragment does.
    """
    f = fragments
    reward, behind, ended = f.reward.copy(), f.last_observation.copy(), f.terminated.copy()
    n_steps = np.ones_like(reward)
    # [S, T - 1, B]: the next row of the column is the next step of the same episode
    goes_on = ~(f.terminated | f.truncated)[:, :-1] & f.valid[:, 1:] & ~f.first[:, 1:]
    for k in range(1, min(n_step, reward.shape[1])):
        on = goes_on[:, : reward.shape[1] - k].copy()
        for j in range(1, k):
            on &= goes_on[:, j : reward.shape[1] - k + j]
        reward[:, :-k][on] += discount**k * f.reward[:, k:][on]
        behind[:, :-k][on] = f.last_observation[:, k:][on]
        ended[:, :-k][on] = f.terminated[:, k:][on]
        n_steps[:, :-k][on] = k + 1
    return reward, behind, ended, n_steps
