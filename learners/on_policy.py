"""What on-policy types share: appraised fragments, batches of windows, and the update itself.

An update begins from a *proximal* policy, the one at the time the fragments were appraised. Fresh
rows were chosen by it; rows of earlier versions are corrected towards it by V-trace, and their
policy loss is weighted by the truncated ratio (Hilton et al. 2022 call this decoupled PPO).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from learners import policy_losses as losses
from learners.fragments import Fragments, joined

CHUNK_ROWS = 8_192
"""Rows of a model that are appraised at once: bounds the memory of wide networks."""


@dataclasses.dataclass(frozen=True, slots=True)
class Windows:
    """How fragments fall into the pieces that a batch is made of."""

    n_steps: int = 1
    """Steps of a piece that are learned from."""
    burn_in: int = 0
    """Steps before them that only warm the recurrent state up."""
    pack: int = 1
    """Columns of a piece."""

    def starts(self, n_steps: int) -> NDArray[np.int64]:
        """Return the first steps (burn-in included) of a fragment's pieces."""
        last = n_steps - self.burn_in - self.n_steps
        return np.arange(0, last + 1, self.n_steps)

    def counted(self, first: torch.Tensor, start: torch.Tensor) -> torch.Tensor:
        """Return which steps [S, N, W, P] of pieces are learned from.

        Those behind the burn-in; in a fragment's first piece those of a sequence that began there,
        too: its state is known, and no other piece learns from them.

        Args:
            first: bool [S, N, W, P].
            start: of each piece in its fragment [S, N].
        """
        begun = (first.cumsum(2) > 0) & (start == 0)[..., None, None]
        begun[:, :, self.burn_in :] = True
        return begun


@dataclasses.dataclass(frozen=True, slots=True)
class Appraisal:
    """What is fixed before the first update on some fragments, each [S, T, B]."""

    target: torch.Tensor
    """What the values are to become."""
    advantage: torch.Tensor
    """Normalised for each model."""
    proximal: torch.Tensor
    """Log-probabilities of the choices under the policy that the updates begin from."""
    rho: torch.Tensor
    """Truncated ratios proximal / behaviour."""
    states: torch.Tensor | None = None
    """[S, J, B, 2, layers, H]: recurrent states (h, c) at the first step of each piece."""


@dataclasses.dataclass(frozen=True, slots=True)
class Correction:
    """How rewards become targets."""

    discount: float
    trace: float
    rho_max: float
    c_max: float


def appraise(
    fragments: Fragments,
    proximal: torch.Tensor,
    value: torch.Tensor,
    next_value: torch.Tensor,
    how: Correction,
    states: torch.Tensor | None = None,
    *,
    on_policy: bool = True,
) -> Appraisal:
    """Return targets and advantages of fragments.

    Args:
        fragments: S x T x B rows.
        proximal: log-probabilities of their choices under the current policy.
        value: V of their observations.
        next_value: V of the observations after them.
        how: discount, trace and truncation.
        states: kept in the result.
        on_policy: False takes all ratios for 1: a log is cloned, not corrected.
    """
    log_ratio = proximal - torch.from_numpy(fragments.log_behaviour).to(proximal.device)
    if not on_policy:
        log_ratio = torch.zeros_like(log_ratio)
    tensors = [
        torch.from_numpy(c).to(proximal.device)
        for c in (fragments.reward, fragments.terminated, fragments.truncated)
    ]
    ratio, reward, value, following, terminated, truncated = (
        t.movedim(1, 0) for t in (log_ratio, tensors[0], value, next_value, *tensors[1:])
    )
    target, advantage = losses.vtrace(
        ratio, reward, value, following, terminated, truncated,
        how.discount, how.trace, how.rho_max, how.c_max,
    )  # fmt: skip
    valid = torch.from_numpy(fragments.valid).to(proximal.device)
    return Appraisal(
        target.movedim(0, 1).contiguous(),
        losses.normalised(advantage.movedim(0, 1).contiguous(), valid),
        proximal,
        log_ratio.exp().clamp(max=how.rho_max),
        states,
    )


@dataclasses.dataclass(frozen=True, slots=True)
class Batch:
    """N pieces a model: every field [S, N, W, P, ...]."""

    observation: torch.Tensor
    legal: torch.Tensor
    action: torch.Tensor
    first: torch.Tensor
    valid: torch.Tensor
    """Of the steps that are learned from."""
    alive: torch.Tensor
    target: torch.Tensor
    advantage: torch.Tensor
    proximal: torch.Tensor
    rho: torch.Tensor
    states: torch.Tensor | None
    """[S, N, P, 2, layers, H]."""


class Pool:
    """Appraised fragments, drawn from piece by piece in an order of each model's own."""

    def __init__(self, parts: Sequence[Fragments], windows: Windows, device: torch.device) -> None:
        """Take fragments of equal T."""
        self.fragments = joined(parts)
        self._windows, self._device = windows, device
        self.appraisal: Appraisal | None = None
        self._starts = windows.starts(self.fragments.n_steps)
        if not len(self._starts):
            least = windows.burn_in + windows.n_steps
            msg = f"fragments must be at least {least} steps; got {self.fragments.n_steps}"
            raise ValueError(msg)
        self._columns = {
            name: torch.from_numpy(getattr(self.fragments, name)).flatten(1, 2).to(device)
            for name in ("observation", "legal", "action", "first", "valid")
        }
        self._pieces = self._learnable()
        self._queues = [np.zeros(0, np.int64) for _ in self._pieces]

    def _learnable(self) -> list[NDArray[np.int64]]:
        """Return the numbers of each model's pieces with a valid row behind the burn-in."""
        valid, w = self.fragments.valid, self._windows
        n_models, _, n_columns = valid.shape
        held = np.zeros((n_models, len(self._starts), n_columns // w.pack), np.bool_)
        for j, start in enumerate(self._starts):
            begin = start if start == 0 else start + w.burn_in
            span = valid[:, begin : start + w.burn_in + w.n_steps]
            held[:, j] = span.any(1).reshape(n_models, -1, w.pack).any(2)
        return [np.flatnonzero(h) for h in held.reshape(n_models, -1)]

    @property
    def empty(self) -> bool:
        """Return whether no model has anything to learn here."""
        return all(len(p) == 0 for p in self._pieces)

    def draw(self, rngs: Sequence[np.random.Generator], n: int) -> Batch:
        """Return the next ``n`` pieces of each model; every piece once, then all anew."""
        drawn = np.zeros((len(rngs), n), np.int64)
        for i, (rng, pieces) in enumerate(zip(rngs, self._pieces, strict=True)):
            queue = self._queues[i]
            while 0 < len(pieces) and len(queue) < n:
                queue = np.concatenate([queue, rng.permutation(pieces)])
            # a model without pieces gets piece 0, of which no row is valid
            drawn[i, : len(queue)], self._queues[i] = queue[:n], queue[n:]
        return self._take(drawn)

    def _take(self, pieces: NDArray[np.int64]) -> Batch:
        w, appraisal = self._windows, self.appraisal
        if appraisal is None:
            msg = "fragments must be appraised before they are drawn from"
            raise RuntimeError(msg)
        n_columns = self.fragments.valid.shape[2]
        piece, group = np.divmod(pieces, n_columns // w.pack)
        times = self._starts[piece][..., None] + np.arange(w.burn_in + w.n_steps)
        columns = group[..., None] * w.pack + np.arange(w.pack)
        places = torch.from_numpy(times[..., None] * n_columns + columns[:, :, None])
        model = torch.arange(len(pieces)).view(-1, 1, 1, 1)
        some = {name: c[model, places] for name, c in self._columns.items()}
        ours = {
            name: getattr(appraisal, name).flatten(1, 2)[model, places]
            for name in ("target", "advantage", "proximal", "rho")
        }
        states = appraisal.states
        if states is not None:
            flat = states.flatten(1, 2)
            places = torch.from_numpy(piece[..., None] * n_columns + columns)
            states = flat[model[..., 0], places]
        alive = some.pop("valid")
        start = torch.from_numpy(self._starts[piece]).to(self._device)
        valid = alive & w.counted(some["first"], start)
        return Batch(**some, valid=valid, alive=alive, **ours, states=states)

    def state(self, prefix: str) -> dict[str, torch.Tensor]:
        """Return copies of the appraisal and of the order; the fragments are the caller's."""
        kept = {
            f"{prefix}queue": torch.from_numpy(np.concatenate(self._queues)),
            f"{prefix}ends": torch.tensor(np.cumsum([len(q) for q in self._queues])),
        }
        for f in dataclasses.fields(Appraisal):
            value = getattr(self.appraisal, f.name) if self.appraisal is not None else None
            if value is not None:
                kept[f"{prefix}{f.name}"] = value.detach().cpu().clone()
        return kept

    def restore(self, state: Mapping[str, torch.Tensor], prefix: str) -> None:
        """Take a `state`."""
        ends = state[f"{prefix}ends"].tolist()
        self._queues = np.split(state[f"{prefix}queue"].numpy().copy(), ends[:-1])
        names = [f.name for f in dataclasses.fields(Appraisal)]
        found = {
            n: state[f"{prefix}{n}"].to(self._device) for n in names if f"{prefix}{n}" in state
        }
        self.appraisal = Appraisal(**found) if found else None


def sample(log_probs: NDArray[np.float32], uniform: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return choices [...] drawn from log-probabilities [..., A] by uniform numbers [...]."""
    total = np.exp(log_probs).cumsum(-1)
    # below 1 by more than a rounding: the last choice of a chance of 0 is never reached
    at = np.minimum(uniform, 1.0 - 1e-6) * total[..., -1]
    choice: NDArray[np.int64] = (total <= at[..., None]).sum(-1)
    return choice
