"""The on-policy learner under `movement_ppo` and `team_coordination`.

Rows of the log that are too old for an on-policy loss are cloned, weighted by their advantage; then
fragments gathered by practice (or fresh rows of the log) are learned from by PPO.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np
import torch
from msgspec import Meta
from numpy.typing import NDArray
from torch import nn

from learners import policy_losses as losses
from learners.fragments import Fragments, gather, is_fresh, of_rows
from learners.model_types.base import LearnError, TypeSettings, Update
from learners.model_types.policy_stack import NOTHING_TO_LEARN, PolicyStack
from learners.on_policy import Appraisal, Batch, Correction, Pool, Windows, appraise, sample
from learners.stack.normaliser import Normaliser
from learners.stack.optimiser import StackedAdamW
from schemas.practice import Episodes, Head, Layout, Practice, View

Rule = Annotated[float, Meta(ge=0)]


class OnPolicySettings(TypeSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of PPO with V-trace, and of the cloning before it."""

    fragment_steps: Annotated[int, Meta(ge=1)] = 128
    """T: steps of a practice; as long as a match, or its end is never seen."""
    clip: Annotated[float, Meta(gt=0, lt=1)] = 0.2
    trace: Annotated[float, Meta(ge=0, le=1)] = 0.97
    """lambda of GAE and V-trace."""
    entropy: Rule = 0.01
    value_weight: Rule = 0.5
    max_lag: Annotated[int, Meta(ge=0)] = 0
    """Policy versions that a fragment may be behind; older ones are dropped."""
    rho_max: Annotated[float, Meta(gt=0)] = 1.0
    c_max: Annotated[float, Meta(gt=0)] = 1.0
    result_weight: Rule = 0.0
    """What a won match adds to each actor's last reward while practising, and a lost one takes."""
    reward_weight: Rule = 1.0
    """What the archetype's own rewards count."""
    clone_updates: Annotated[int, Meta(ge=0)] = 0
    """Updates of cloning before the first practice."""
    clone_scale: Rule = 1.0
    """Advantages (of deviation 1) are divided by it before exp; 0 clones all rows alike."""
    fresh_moments: bool = False
    """Whether the optimiser's moments begin anew when cloning is over."""
    anneal: bool = True
    """Whether the learning rate falls linearly to 0 over `updates`."""

    def correction(self) -> Correction:
        """Return how rewards become targets."""
        return Correction(self.discount, self.trace, self.rho_max, self.c_max)


class OnPolicyStack(PolicyStack):
    """A `Stack` that learns by PPO; subclasses know the network."""

    def __init__(
        self,
        settings: OnPolicySettings,
        layout: Layout,
        seeds: Sequence[int],
        rates: Sequence[float],
        device: torch.device,
        *,
        net: nn.Module,
        normaliser: Normaliser,
        head: Head,
        windows: Windows,
    ) -> None:
        """Take a stacked network on its device."""
        super().__init__(seeds, normaliser, device)
        self._settings, self._layout, self._net = settings, layout, net
        self._head, self._windows = head, windows
        self._rates = [settings.learning_rate * rate for rate in rates]
        self._optimiser = StackedAdamW(
            list(net.parameters()), self._rates, settings.weight_decay, settings.grad_clip
        )
        self._logged: Pool | None = None
        self._fresh_rows: Fragments | None = None
        self._gathered: list[tuple[int, Fragments]] = []
        self._pool: Pool | None = None
        self._frequencies: NDArray[np.float32] | None = None
        self._version = 0

    @abc.abstractmethod
    def _start(self, n_rows: int) -> Any:
        """Return the acting state of a policy before its first step; None where it has none."""

    @abc.abstractmethod
    def _step(
        self, observation: torch.Tensor, first: torch.Tensor, state: Any
    ) -> tuple[torch.Tensor, Any]:
        """Return logits [S, B, A] and the next acting state."""

    @abc.abstractmethod
    def _appraise_logits(
        self, observation: torch.Tensor, first: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return logits [S, T, B, A] of whole fragments, and `Appraisal.states`."""

    @abc.abstractmethod
    def _values(self, observation: torch.Tensor, alive: torch.Tensor) -> torch.Tensor:
        """Return values [S, T, B] of observations [S, T, B, D]."""

    @abc.abstractmethod
    def _forward(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Return logits [S, N, W, P, A] and values [S, N, W, P]."""

    def fit(self, rows: Sequence[Episodes]) -> None:
        """Take logged rows: fresh ones for PPO, older ones (and the traditional AI's) to clone."""
        fresh = [is_fresh(r, self._settings.max_lag) for r in rows]
        self._fix([r.observation for r in rows])
        pack, steps = self._windows.pack, self._settings.fragment_steps
        pack = pack if pack > 1 else 0
        old = [~f for f in fresh]
        self._logged = self._fresh_rows = self._pool = None
        if any(f.any() for f in old):
            part = of_rows(rows, self._head, steps, old, pack)
            part.reward[:] *= self._settings.reward_weight
            self._logged = Pool([part], self._windows, self._device)
        if any(f.any() for f in fresh):
            self._fresh_rows = of_rows(rows, self._head, steps, fresh, pack)
            self._fresh_rows.reward[:] *= self._settings.reward_weight
        counts = [np.bincount(r.action[self._head], minlength=self._n_actions) for r in rows]
        chances = np.stack(counts) + 1.0
        self._frequencies = (chances / chances.sum(1, keepdims=True)).astype(np.float32)

    @property
    def _n_actions(self) -> int:
        return self._layout.n_actions[self._head]

    def update(self) -> Update:
        """Take one gradient step: cloning first, PPO as soon as there is something fresh."""
        pool, cloning = self._current()
        batch = pool.draw(self._draws.models, self._settings.batch)
        logits, values = self._forward(batch)
        loss, scalars = self._loss(batch, logits, values, cloning)
        told = self._told(loss, scalars)
        settings = self._settings
        if settings.fresh_moments and not cloning and self._n_updates == settings.clone_updates:
            self._optimiser.forget()
        self._optimiser.step(loss.sum())
        self._n_updates += 1
        if self._settings.anneal:
            left = max(1.0 - self._n_updates / self._settings.updates, 0.0)
            self._optimiser.set_rates([rate * left for rate in self._rates])
        return told

    def _current(self) -> tuple[Pool, bool]:
        """Return what to learn from now, and whether it is to be cloned."""
        cloned = self._n_updates >= self._settings.clone_updates
        if (cloned or self._logged is None) and self._pool is None:
            self._refill()
        if self._pool is not None and (cloned or self._logged is None):
            return self._pool, False
        if self._logged is None or self._logged.empty:
            raise LearnError(NOTHING_TO_LEARN)
        # the values that advantages are measured from are learned meanwhile
        if self._logged.appraisal is None or self._n_updates % self._settings.practise_every == 0:
            self._logged.appraisal = self._appraise(self._logged.fragments, on_policy=False)
        return self._logged, True

    def _loss(
        self, batch: Batch, logits: torch.Tensor, values: torch.Tensor, cloning: bool
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        settings = self._settings
        values = values.float()  # in half precision a sum of losses stops growing
        log_probs = losses.masked_log_probs(logits.float(), batch.legal)
        taken = log_probs.gather(-1, batch.action[..., None])[..., 0]
        if cloning:
            policy = -losses.clone_weights(batch.advantage, settings.clone_scale) * taken
        else:
            policy = batch.rho * losses.clipped_surrogate(
                taken, batch.proximal, batch.advantage, settings.clip
            )
        spread = losses.entropy(log_probs)
        policy_loss = losses.masked_mean(policy, batch.valid)
        value_loss = losses.masked_mean((values - batch.target).square(), batch.valid)
        entropy = losses.masked_mean(spread, batch.valid)
        bonus = 0.0 if cloning else settings.entropy
        loss = policy_loss + settings.value_weight * value_loss - bonus * entropy
        log_ratio = (taken - batch.proximal).detach()
        far = ((log_ratio.exp() - 1.0).abs() > settings.clip).float()
        return loss, {
            "policy_loss": policy_loss, "value_loss": value_loss, "entropy": entropy,
            "value_mean": losses.masked_mean(values, batch.valid),
            "approx_kl": losses.masked_mean(log_ratio.exp() - 1.0 - log_ratio, batch.valid),
            "clip_fraction": losses.masked_mean(far, batch.valid),
            "rho": losses.masked_mean(batch.rho, batch.valid),
        }  # fmt: skip

    def practise(self, world: Practice, seed: int) -> Mapping[str, NDArray[np.float32]]:
        """Gather fragments by acting; an empty mapping while the log is still being cloned."""
        settings = self._settings
        if settings.practice_matches == 0:
            return {}
        if self._logged is not None and self._n_updates < settings.clone_updates:
            return {}
        n_matches, steps = settings.practice_matches, settings.fragment_steps
        uniform = self._draws.random(steps, n_matches * self._layout.pack)
        state = self._start(n_matches * self._layout.pack)

        def act(t: int, view: View) -> tuple[NDArray[Any], NDArray[Any]]:
            nonlocal state
            log_probs, state = self._decide(view, state)
            choice = sample(log_probs, uniform[:, t])
            return choice, np.take_along_axis(log_probs, choice[..., None], -1)[..., 0]

        fragments, measures = gather(
            world, self._head, act, n_matches, steps, seed,
            settings.result_weight, settings.reward_weight,
        )  # fmt: skip
        self._fix_by(fragments)
        self._version += 1
        self._gathered.append((self._version, fragments))
        self._refill()
        return measures

    def _refill(self) -> None:
        """Drop what is too old and appraise what is left."""
        oldest = self._version - self._settings.max_lag
        self._gathered = [(v, f) for v, f in self._gathered if v >= oldest]
        parts = self._usable()
        self._pool = Pool(parts, self._windows, self._device) if parts else None
        if self._pool is not None:
            self._pool.appraisal = self._appraise(self._pool.fragments, on_policy=True)

    def _usable(self) -> list[Fragments]:
        """Return the fragments to learn from: gathered ones, else the log's fresh ones."""
        parts = [f for _, f in self._gathered]
        return parts or ([self._fresh_rows] if self._fresh_rows is not None else [])

    def _decide(self, view: View, state: Any) -> tuple[NDArray[np.float32], Any]:
        with torch.no_grad():
            observation, legal, first = (
                torch.from_numpy(np.ascontiguousarray(c)).to(self._device)
                for c in (view.observation, view.legal, view.first)
            )
            logits, state = self._step(observation, first, state)
            log_probs: NDArray[np.float32] = losses.masked_log_probs(logits, legal).cpu().numpy()
        return log_probs, state

    def _appraise(self, fragments: Fragments, *, on_policy: bool) -> Appraisal:
        with torch.no_grad():
            observation, last, legal, action, first, valid, truncated = (
                torch.from_numpy(getattr(fragments, name)).to(self._device)
                for name in (
                    "observation", "last_observation", "legal", "action", "first", "valid",
                    "truncated",
                )
            )  # fmt: skip
            logits, states = self._appraise_logits(observation, first)
            log_probs = losses.masked_log_probs(logits.float(), legal)
            taken = log_probs.gather(-1, action[..., None])[..., 0]
            value = self._values(observation, valid).float()
            following = torch.cat([value[:, 1:], torch.zeros_like(value[:, :1])], 1)
            cut = truncated.any(2).any(0)
            if cut.any():
                following[:, cut] = torch.where(
                    truncated[:, cut],
                    self._values(last[:, cut], valid[:, cut]).float(),
                    following[:, cut],
                )
            how = self._settings.correction()
            return appraise(fragments, taken, value, following, how, states, on_policy=on_policy)

    def act(self, view: View, *, greedy: bool = True) -> NDArray[np.int64]:
        """Return choices [S, B]: the likeliest, or drawn by the policy's own chances."""
        log_probs, self._acting = self._decide(view, self._acting_state(view))
        if greedy:
            best: NDArray[np.int64] = log_probs.argmax(-1)
            return best
        return sample(log_probs, self._draws.random(view.alive.shape[1]))

    _acting: Any = None
    _acting_rows = -1

    def _acting_state(self, view: View) -> Any:
        n_rows = view.alive.shape[1]
        if n_rows != self._acting_rows:
            self._acting, self._acting_rows = self._start(n_rows), n_rows
        return self._acting

    def judge(self, rows: Sequence[Episodes]) -> Mapping[str, NDArray[np.float32]]:
        """Return how well the log's choices are foreseen on held-out rows.

        "loss" is their cross entropy, "trivial" that of the choices' frequencies among the rows
        learned from (illegal ones left out), "agreement" the share of likeliest choices.
        """
        if self._frequencies is None:
            msg = "rows must be fitted before others are judged; got none"
            raise LearnError(msg)
        pack = self._windows.pack if self._windows.pack > 1 else 0
        every = [np.ones(len(r), np.bool_) for r in rows]
        held = of_rows(rows, self._head, self._settings.fragment_steps, every, pack)
        with torch.no_grad():
            observation, first, legal, action, valid = (
                torch.from_numpy(getattr(held, name)).to(self._device)
                for name in ("observation", "first", "legal", "action", "valid")
            )
            log_probs = losses.masked_log_probs(self._appraise_logits(observation, first)[0], legal)
            usual = torch.from_numpy(self._frequencies).log().to(self._device)
            usual = losses.masked_log_probs(usual[:, None, None].expand_as(log_probs), legal)
            told = {
                "loss": -log_probs.gather(-1, action[..., None])[..., 0],
                "trivial": -usual.gather(-1, action[..., None])[..., 0],
                "agreement": (log_probs.argmax(-1) == action).float(),
            }
            means = {name: losses.masked_mean(v, valid) for name, v in told.items()}
        return {name: v.cpu().numpy().astype(np.float32) for name, v in means.items()}

    def modules(self) -> Mapping[str, nn.Module]:
        """Return the network, which holds the normaliser."""
        return {"net": self._net}

    def optimisers(self) -> Mapping[str, StackedAdamW]:
        """Return the optimiser."""
        return {"net": self._optimiser}

    def _rows_state(self) -> dict[str, torch.Tensor]:
        """Return copies of gathered fragments, appraisals and the orders of pieces."""
        kept = {
            "version": torch.tensor([self._version, int(self._pool is not None)]),
            "versions": torch.tensor([v for v, _ in self._gathered], dtype=torch.int64),
        }
        for i, (_, fragments) in enumerate(self._gathered):
            kept |= fragments.tensors(f"fragments.{i}.")
        for name, pool in (("pool.", self._pool), ("logged.", self._logged)):
            kept |= pool.state(name) if pool is not None else {}
        return kept

    def _restore_rows(self, state: Mapping[str, torch.Tensor]) -> None:
        self._version, pooled = state["version"].tolist()
        self._gathered = [
            (v, Fragments.of_tensors(state, f"fragments.{i}."))
            for i, v in enumerate(state["versions"].tolist())
        ]
        self._pool = Pool(self._usable(), self._windows, self._device) if pooled else None
        for name, pool in (("pool.", self._pool), ("logged.", self._logged)):
            if pool is not None and f"{name}queue" in state:
                pool.restore(state, name)
