"""The smallest type there can be: a linear value of each combat action, from reward alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from learners.feeds import feeds
from learners.model_types.base import Port, Preset, Stack, TypeSettings, Update
from learners.stack.layers import Linear, per_model, unstack
from learners.stack.optimiser import StackedAdamW
from learners.stack.seeds import Draws, seeded
from schemas.practice import Episodes, Head, Layout, Practice, View
from tests.learners.model_types.toy import ToyLayout

ILLEGAL = -1e9


class TrivialSettings(TypeSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Learns the toy world within a second."""

    batch: int = 32
    learning_rate: float = 3e-2
    updates: int = 200
    practice_matches: int = 2
    practise_every: int = 50


class _Net(nn.Module):
    scale: torch.Tensor

    def __init__(self, n_models: int, n_in: int, n_out: int) -> None:
        super().__init__()
        self.last = Linear(n_models, n_in, n_out)
        self.register_buffer("scale", torch.ones(n_models, n_in))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scale = self.scale if self.last.plain else self.scale[:, None]
        values: torch.Tensor = self.last(x * scale)
        return values


class _Graph(nn.Module):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, observation: torch.Tensor, legal: torch.Tensor) -> tuple[torch.Tensor]:
        values = self.net(observation)
        return (torch.where(legal, values, torch.full_like(values, ILLEGAL)),)


class TrivialStack:
    """A `learners.model_types.base.Stack`."""

    def __init__(
        self, settings: TypeSettings, layout: Layout, seeds: Sequence[int], rates: Sequence[float]
    ) -> None:
        self.n_models, self._settings = len(seeds), settings
        self._n_actions = layout.n_actions["combat"]
        self._net = seeded(lambda: _Net(1, layout.n_features, self._n_actions), seeds)
        self._optimiser = StackedAdamW(
            list(self._net.parameters()),
            [settings.learning_rate * rate for rate in rates],
            settings.weight_decay,
            settings.grad_clip,
        )
        self._draws = Draws(seeds)
        self._logged: list[Any] = []
        self._fresh: list[torch.Tensor] = []

    def fit(self, rows: Sequence[Episodes]) -> None:
        n = min(len(some) for some in rows)
        self._logged = [
            torch.from_numpy(np.stack(columns))
            for columns in (
                [some.observation[:n] for some in rows],
                [some.action["combat"][:n] for some in rows],
                [some.reward[:n] for some in rows],
            )
        ]

    def update(self) -> Update:
        columns = [
            torch.cat([old, new], 1) if len(self._fresh) else old
            for old, new in zip(self._logged, self._fresh or self._logged, strict=True)
        ]
        n = columns[0].shape[1]
        picked = torch.from_numpy((self._draws.random(self._settings.batch) * n).astype(np.int64))
        observation = torch.take_along_dim(columns[0], picked[..., None], 1)
        action, reward = (torch.take_along_dim(c, picked, 1) for c in columns[1:])
        values = self._net(observation)
        chosen = torch.take_along_dim(values, action[..., None], 2)[..., 0]
        losses = per_model((chosen - reward).square())
        self._optimiser.step(losses.sum())
        with torch.no_grad():
            means = per_model(values)
        return Update(losses.detach().float().numpy(), {"q_mean": means.float().numpy()})

    def practise(self, world: Practice, seed: int) -> Mapping[str, NDArray[np.float32]]:
        view = world.begin("combat", self._settings.practice_matches, seed)
        kept: list[list[Any]] = [[], [], []]
        for _ in range(12):
            choice = self.act(view)
            kept[0].append(view.observation)
            view, result = world.step(choice)
            kept[1].append(choice)
            kept[2].append(result.reward)
        self._fresh = [torch.from_numpy(np.concatenate(k, 1)) for k in kept]
        return {"reward": np.concatenate(kept[2], 1).mean(1)}

    def judge(self, rows: Sequence[Episodes]) -> Mapping[str, NDArray[np.float32]]:
        found: dict[str, list[float]] = {"loss": [], "trivial": []}
        for i, some in enumerate(rows):
            with torch.no_grad():
                values = unstack(self._net, i)(torch.from_numpy(some.observation)).numpy()
            chosen = values[np.arange(len(some)), some.action["combat"]]
            found["loss"].append(float(np.square(chosen - some.reward).mean()))
            found["trivial"].append(float(some.reward.var()))
        return {name: np.asarray(values, np.float32) for name, values in found.items()}

    def act(self, view: View, *, greedy: bool = True) -> NDArray[Any]:
        del greedy
        with torch.no_grad():
            values = self._net(torch.from_numpy(view.observation)).numpy()
        choice: NDArray[Any] = np.where(view.legal, values, ILLEGAL).argmax(-1)
        return choice

    def graph(self, i: int) -> nn.Module:
        return _Graph(unstack(self._net, i)).eval()

    def feeds(self, rows: Episodes, n: int) -> dict[str, NDArray[Any]]:
        return feeds(TYPE.inputs(ToyLayout()), rows, n, head="combat")

    def modules(self) -> Mapping[str, nn.Module]:
        return {"q": self._net}

    def optimisers(self) -> Mapping[str, StackedAdamW]:
        return {"q": self._optimiser}

    def state(self) -> dict[str, torch.Tensor]:
        state = {f"q.{k}": v.detach().clone() for k, v in self._net.state_dict().items()}
        state |= {f"adam.{k}": v for k, v in self._optimiser.state().items()}
        state |= {f"fresh.{i}": v.clone() for i, v in enumerate(self._fresh)}
        return {**state, "draws": self._draws.state()}

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        def under(prefix: str) -> dict[str, torch.Tensor]:
            return {k[len(prefix) :]: v for k, v in state.items() if k.startswith(prefix)}

        self._net.load_state_dict(under("q."))
        self._optimiser.restore(under("adam."))
        fresh = under("fresh.")
        self._fresh = [fresh[str(i)] for i in range(len(fresh))]
        self._draws.restore(state["draws"])


class Trivial:
    """A `learners.model_types.base.ModelType`."""

    name: ClassVar[str] = "trivial"
    acts: ClassVar[Head | None] = "combat"
    settings: ClassVar[type[TypeSettings]] = TrivialSettings

    def preset(self, name: Preset) -> TypeSettings:
        return TrivialSettings(updates=400 if name == "classic" else 200)

    def inputs(self, layout: Layout) -> list[Port]:
        return [
            Port("observation", (layout.n_features,)),
            Port("legal", (layout.n_actions["combat"],), "bool"),
        ]

    def outputs(self, layout: Layout) -> list[Port]:
        return [Port("q", (layout.n_actions["combat"],))]

    def make(
        self,
        settings: TypeSettings,
        layout: Layout,
        seeds: Sequence[int],
        rates: Sequence[float],
        device: torch.device,
    ) -> Stack:
        del device
        return TrivialStack(settings, layout, seeds, rates)


TYPE = Trivial()
