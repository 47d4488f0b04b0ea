"""S models that choose by scores, in training as one."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from learners.feeds import Feeds, feeds
from learners.model_types.base import LearnError, Port, Update
from learners.model_types.value_methods import Make, Tensors, huber, make_method
from learners.model_types.value_nets import ScoreGraph
from learners.model_types.value_settings import ValueSettings
from learners.model_types.value_steps import Gatherer, explore, known_masks, logged_steps, row_form
from learners.networks import mask_illegal
from learners.replay.form import Batch, Steps
from learners.replay.stacked import StackedReplay
from learners.stack.layers import unstack
from learners.stack.normaliser import Normaliser
from learners.stack.optimiser import StackedAdamW
from learners.stack.seeds import Draws
from schemas.practice import Bools, Episodes, Floats, Head, Ints, Layout, Practice, View

EXPLORE, DROP = 1, 2
"""Purposes of a seed's draws."""

SETTLED = 10_000
"""Rows that a normaliser is taken from where there is no log; as many as `learn train` records.
By the first practice alone it would take what random choices reach: a cart they hardly moved left
the larger part of its track beyond the normaliser's limit, where places cannot be told apart."""

Arrays = Mapping[str, NDArray[np.float32]]


class ValueStack:
    """A `learners.model_types.base.Stack` of one head of choices."""

    def __init__(
        self,
        settings: ValueSettings,
        layout: Layout,
        head: Head,
        make: Make,
        seeds: Sequence[int],
        rates: Sequence[float],
        device: torch.device,
    ) -> None:
        """Make the networks, each with ``make`` (a stack of one), and an empty replay."""
        self.n_models = len(seeds)
        self._settings, self._head, self._device = settings, head, device
        self._normaliser = Normaliser(self.n_models, layout.n_features).to(device)
        learning_rates = [settings.learning_rate * rate for rate in rates]
        self._method = make_method(
            settings, lambda: make().to(device), seeds, learning_rates, layout.n_features
        )
        self._replay = StackedReplay(
            row_form(layout, head), settings.capacity, seeds, n_step=settings.n_step,
            discount=settings.discount, alpha=settings.alpha, beta=settings.beta,
            kept=settings.kept,
        )  # fmt: skip
        self._draws, self._drops = Draws(seeds, EXPLORE), Draws(seeds, DROP)
        self._counts = np.zeros(3, np.int64)
        """Updates, episodes numbered so far, whether the normalisers are fixed."""

    @property
    def epsilon(self) -> float:
        """Share of random choices in practice now."""
        settings = self._settings
        done = min(1.0, float(self._counts[0]) / settings.epsilon_updates)
        return settings.epsilon_start + done * (settings.epsilon_end - settings.epsilon_start)

    def fit(self, rows: Sequence[Episodes]) -> None:
        """Take rows for each model [S]."""
        self._fix([r.observation for r in rows])
        for i, model_rows in enumerate(rows):
            if len(model_rows):
                share = self._settings.reward_weight
                self._add(i, logged_steps(model_rows, self._head, share))

    def _fix(self, observations: Sequence[Floats]) -> None:
        if not self._counts[2] and all(len(o) for o in observations):
            self._normaliser.fix(observations)
            self._counts[2] = 1

    def _settle(self) -> None:
        """Take the normalisers from the first `SETTLED` rows, as far as they have come."""
        most = min(SETTLED, self._settings.capacity)
        n_rows = [min(ring.n_rows, most) for ring in self._replay.rings]
        if not self._counts[2] and all(n_rows):
            self._normaliser.fix(
                [self._replay.column("vector", i)[:n] for i, n in enumerate(n_rows)]
            )
            self._counts[2] = int(min(n_rows) == most)

    def _add(self, i: int, steps: Steps) -> None:
        """Put steps into the replay under episode numbers that no others had."""
        if steps.episode is None or not len(steps):
            return
        self._replay.add(i, dataclasses.replace(steps, episode=steps.episode + self._counts[1]))
        self._counts[1] += int(steps.episode.max()) + 1

    def update(self) -> Update:
        """Take one gradient step of all models."""
        if not self._replay.sizes.all():
            empty = int(np.argmin(self._replay.sizes))
            msg = f"rows[{empty}] must hold at least 1 step to learn from; got 0: fit or practise"
            raise LearnError(msg)
        batch = self._replay.sample(self._settings.batch)
        losses = self._method.losses(self._tensors(batch), self._keep())
        for name, loss in losses.by_optimiser.items():
            _check_finite(f"loss_{name}", loss)
        for name, loss in losses.by_optimiser.items():
            self._method.optimisers[name].step(loss.sum())
        self._method.follow()
        errors = losses.errors.cpu().numpy()
        self._replay.set_errors(batch.slots, errors)
        self._counts[0] += 1
        scalars = {name: value.cpu().numpy() for name, value in losses.scalars.items()}
        scalars["td_error"] = np.abs(errors).mean(1)
        total = sum(losses.by_optimiser.values(), torch.zeros((), device=self._device))
        return Update(total.detach().cpu().numpy(), scalars)

    def _tensors(self, batch: Batch) -> Tensors:
        def put(values: NDArray[Any]) -> torch.Tensor:
            return torch.from_numpy(values).to(self._device)

        return Tensors(
            features=self._normaliser(put(batch.observation).float()),
            next_features=self._normaliser(put(batch.next_observation).float()),
            action=put(batch.action)[..., None],
            legal=put(batch.legal).bool(),
            next_legal=put(batch.next_legal).bool(),
            reward=put(batch.reward),
            discount=put(batch.discount),
            weight=put(batch.weight),
            logged=put(batch.columns["logged"]).float(),
            demonstration=put(batch.columns["demonstration"]).float(),
        )

    def _keep(self) -> list[torch.Tensor]:
        """Return what dropout keeps, a factor [S, B, H] a hidden layer."""
        share, batch = self._settings.dropout, self._settings.batch
        if share == 0:
            return []
        widths = np.cumsum(self._settings.hidden)[:-1].tolist()
        drawn = self._drops.random(batch, sum(self._settings.hidden))
        keep = torch.from_numpy((drawn >= share).astype(np.float32) / (1.0 - share))
        parts = torch.tensor_split(keep.to(self._device), widths, dim=2)
        return [part.contiguous() for part in parts]

    def practise(self, world: Practice, seed: int) -> Arrays:
        """Play epsilon-greedy from fresh matches and keep what came of it."""
        settings = self._settings
        if not settings.practice_matches:
            return {}
        gatherer = Gatherer(world, self._head, settings.practice_matches, seed)
        gathered = gatherer.play(
            self._choose, settings.practice_steps, settings.result_weight, settings.reward_weight,
            settings.gain_weight,
        )  # fmt: skip
        for i, steps in enumerate(gathered.steps):
            self._add(i, steps)
        self._settle()
        return gathered.measures

    def _choose(self, view: View) -> tuple[Ints, Floats]:
        return explore(
            self._scores(view.observation, view.legal), view.legal, self.epsilon, self._draws
        )

    def _scores(self, observation: Floats, legal: Bools) -> Floats:
        """Return masked scores [S, B, A]."""
        with torch.no_grad():
            features = self._normaliser(torch.from_numpy(observation).to(self._device))
            mask = torch.from_numpy(legal).to(self._device)
            scores = mask_illegal(self._method.scores(features), mask)
        result: Floats = scores.cpu().numpy()
        return result

    def act(self, view: View, *, greedy: bool = True) -> NDArray[Any]:
        """Return choices [S, B]; not greedy: as in practice."""
        if greedy:
            best: Ints = self._scores(view.observation, view.legal).argmax(-1)
            return best
        return self._choose(view)[0]

    def judge(self, rows: Sequence[Episodes]) -> Arrays:
        """Return held-out measures [S].

        "loss" is the Huber loss of the scores' (of a policy: of its critics') one-step TD errors;
        "trivial" that of the constant that fits the rows best; "agreement" how often the best
        choice is the log's.
        """
        found = [self._judge_one(i, model_rows) for i, model_rows in enumerate(rows)]
        return {name: np.array([f[name] for f in found], np.float32) for name in found[0]}

    def _judge_one(self, i: int, rows: Episodes) -> dict[str, float]:
        normaliser, judge = unstack(self._normaliser, i), self._method.judge(i)
        legal, next_legal = (torch.from_numpy(m) for m in known_masks(rows, self._head))
        with torch.no_grad():
            values, ahead, scores = judge(
                normaliser(torch.from_numpy(rows.observation)),
                normaliser(torch.from_numpy(rows.next_observation)),
                next_legal,
            )
        action = torch.from_numpy(rows.action[self._head])[:, None]
        reward = torch.from_numpy(rows.reward) * self._settings.reward_weight
        discount = torch.from_numpy(self._settings.discount * ~rows.terminated).float()
        error = reward + discount * ahead - values.gather(-1, action)[:, 0]
        constant = ((1 - discount) * reward).sum() / (1 - discount).square().sum().clamp(min=1e-6)
        return {
            "loss": float(huber(error).mean()),
            "trivial": float(huber(reward - (1 - discount) * constant).mean()),
            "agreement": float(
                (mask_illegal(scores, legal).argmax(-1) == action[:, 0]).float().mean()
            ),
        }

    def graph(self, i: int) -> nn.Module:
        """Return model i as it is exported."""
        return ScoreGraph(unstack(self._normaliser, i), unstack(self._method.scores, i)).eval()

    def feeds(self, rows: Episodes, n: int) -> Feeds:
        """Return real inputs of an exported graph."""
        n_actions = rows.legal[self._head].shape[1]
        ports = [
            Port("observation", (rows.observation.shape[1],)),
            Port("legal", (n_actions,), "bool"),
        ]
        return feeds(ports, rows, n, head=self._head)

    def modules(self) -> Mapping[str, nn.Module]:
        """Return all networks and the normaliser."""
        return {"normaliser": self._normaliser, **self._method.modules}

    def optimisers(self) -> Mapping[str, StackedAdamW]:
        """Return the optimisers."""
        return self._method.optimisers

    def state(self) -> dict[str, torch.Tensor]:
        """Return copies of all that the next update depends on."""
        state = {
            f"{name}/{key}": value.detach().cpu().clone()
            for name, module in self.modules().items()
            for key, value in module.state_dict().items()
        }
        for name, optimiser in self.optimisers().items():
            state |= {f"adam.{name}/{k}": v for k, v in optimiser.state().items()}
        state |= {f"replay/{k}": torch.from_numpy(v) for k, v in self._replay.state().items()}
        return {
            **state,
            "draws": self._draws.state(),
            "drops": self._drops.state(),
            "counts": torch.from_numpy(self._counts.copy()),
        }

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """Take a `state`."""
        for name, module in self.modules().items():
            module.load_state_dict(_part(state, f"{name}/"))
        for name, optimiser in self.optimisers().items():
            optimiser.restore(_part(state, f"adam.{name}/"))
        replay = _part(state, "replay/")
        self._replay.restore({name: value.numpy() for name, value in replay.items()})
        self._draws.restore(state["draws"])
        self._drops.restore(state["drops"])
        self._counts[:] = state["counts"].numpy()


def _part(state: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}


def _check_finite(measure: str, values: torch.Tensor) -> None:
    told = values.detach().cpu().numpy()
    if not np.isfinite(told).all():
        model = int(np.argmin(np.isfinite(told)))
        msg = (
            f"{measure}[{model}] must be finite; got {told[model]}: lower the "
            "learning rate, or look for features of another size in the rows"
        )
        raise LearnError(msg)
