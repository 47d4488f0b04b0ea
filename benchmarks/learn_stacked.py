"""Six Double DQNs trained as one stack beside six in a row; CPU seconds, one thread, one run.

    python -m benchmarks.learn_stacked [--rounds 7] [--json]

All three learn from equal rows with the `modern` settings of combat_dqn, replay included: ours as
one stack, ours as six stacks of one, and six networks of `torch.nn` layers with `torch.optim.Adam`
and automatic gradients, as one would write it.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import torch
from torch import nn

from learners.dqn import double_q_targets
from learners.model_types.combat_dqn import MODERN, TYPE
from learners.model_types.value_settings import ValueSettings
from learners.model_types.value_steps import logged_steps, row_form
from learners.replay.stacked import StackedReplay
from schemas.practice import Episodes, Floats, Head, Layout

N_MODELS, D, A = 6, 64, 10
N_ROWS, EPISODE = 10_000, 50


class _Layout:
    """The arena's sizes, as far as combat_dqn asks for them."""

    n_features, pack, n_enemies, n_enemy_features = D, 5, 5, 1
    map_shape = (1, 8, 8)

    def __init__(self) -> None:
        self.n_actions: dict[Head, int] = {"combat": A}
        self.skills: Floats = np.zeros((1, 1), np.float32)


LAYOUT: Layout = _Layout()


def rows(seed: int) -> Episodes:
    """Return random steps in episodes of 50."""
    rng = np.random.default_rng(seed)
    n, step = N_ROWS, np.arange(N_ROWS) % EPISODE
    observation = rng.standard_normal((n, D)).astype(np.float32)
    none, ones = np.zeros(n, np.int64), np.ones(n, np.float32)
    legal = np.ones((n, A), np.bool_)
    return Episodes(
        observation=observation, next_observation=np.roll(observation, -1, 0),
        action={"combat": rng.integers(0, A, n)}, aim=np.zeros((n, 2), np.float32),
        legal={"combat": legal}, propensity={"combat": ones / A}, policy_version=none,
        reward=rng.standard_normal(n).astype(np.float32), terminated=step == EPISODE - 1,
        truncated=np.zeros(n, np.bool_), first=step == 0, actor=none, match=none, step=step,
        enemies=np.zeros((n, 5, 1), np.float32), threat=np.zeros((n, 5), np.float32),
        enemy_kind=none, maps=None, target=none,
    )  # fmt: skip


class PlainDqn:
    """One Double DQN of plain torch parts, with the same network, replay and numbers."""

    def __init__(self, settings: ValueSettings, seed: int) -> None:
        """Make network, target, optimiser and replay, filled."""
        layers: list[nn.Module] = []
        width = D
        for n in settings.hidden:
            norm = [nn.LayerNorm(n, elementwise_affine=False)] if settings.layer_norm else []
            layers += [nn.Linear(width, n), *norm, nn.ReLU()]
            width = n
        self.net = nn.Sequential(*layers, nn.Linear(width, A + int(settings.dueling)))
        self.target = copy.deepcopy(self.net).requires_grad_(False)
        self.settings = settings
        self.adam = torch.optim.Adam(self.net.parameters(), settings.learning_rate)
        self.replay = StackedReplay(
            row_form(LAYOUT, "combat"), settings.capacity, [seed], n_step=settings.n_step,
            discount=settings.discount,
        )  # fmt: skip
        self.replay.add(0, logged_steps(rows(seed), "combat"))

    def values(self, net: nn.Module, x: torch.Tensor) -> torch.Tensor:
        """Return Q [B, A]."""
        out: torch.Tensor = net(x)
        if not self.settings.dueling:
            return out
        return out[:, :1] + out[:, 1:] - out[:, 1:].mean(1, keepdim=True)

    def update(self) -> None:
        """Take one gradient step."""
        batch = self.replay.sample(self.settings.batch)
        x, y = (torch.from_numpy(v[0]).float() for v in (batch.observation, batch.next_observation))
        with torch.no_grad():
            target = double_q_targets(
                torch.from_numpy(batch.reward[0]), torch.from_numpy(batch.discount[0]),
                self.values(self.net, y), self.values(self.target, y),
                torch.from_numpy(batch.next_legal[0]).bool(),
            )  # fmt: skip
        action = torch.from_numpy(batch.action[0])[:, None]
        taken = self.values(self.net, x).gather(1, action)[:, 0]
        losses = nn.functional.smooth_l1_loss(taken, target, reduction="none")
        loss = (torch.from_numpy(batch.weight[0]) * losses).mean()
        self.adam.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.net.parameters(), self.settings.grad_clip)
        self.adam.step()
        with torch.no_grad():
            for slow, fast in zip(self.target.parameters(), self.net.parameters(), strict=True):
                slow.lerp_(fast, self.settings.polyak)
        self.replay.set_errors(batch.slots, (target - taken.detach()).numpy()[None])


def _contenders(settings: ValueSettings) -> dict[str, Callable[[], Any]]:
    def stack(seeds: list[int]) -> Any:
        made = TYPE.make(settings, LAYOUT, seeds, [1.0] * len(seeds), torch.device("cpu"))
        made.fit([rows(seed) for seed in seeds])
        return made

    whole, single = stack(list(range(N_MODELS))), [stack([i]) for i in range(N_MODELS)]
    plain = [PlainDqn(settings, i) for i in range(N_MODELS)]
    return {
        "stacked": whole.update,
        "ours_in_a_row": lambda: [one.update() for one in single],
        "torch_in_a_row": lambda: [one.update() for one in plain],
    }


def _seconds(update: Callable[[], Any], n: int) -> float:
    before = time.process_time()
    for _ in range(n):
        update()
    return (time.process_time() - before) / n


def measure(
    rounds: int = 7, settings: ValueSettings = MODERN, n_updates: int = 20
) -> dict[str, Any]:
    """Return median CPU milliseconds of an update of all six, and ratios to the stack's."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        contenders = _contenders(settings)
        for update in contenders.values():
            _seconds(update, 5)
        times: dict[str, list[float]] = {name: [] for name in contenders}
        for _ in range(rounds):  # peers take turns, so that a busy moment meets all of them
            for name, update in contenders.items():
                times[name].append(_seconds(update, n_updates))
    finally:
        torch.set_num_threads(n_threads)
    ms = {name: 1e3 * statistics.median(values) for name, values in times.items()}
    ratios = {
        name: statistics.median(a / b for a, b in zip(times[name], times["stacked"], strict=True))
        for name in contenders
        if name != "stacked"
    }
    return {
        "hidden": list(settings.hidden), "batch": settings.batch, "models": N_MODELS,
        "layer_norm": settings.layer_norm, "rounds": rounds,
        "ms_per_update": {k: round(v, 3) for k, v in ms.items()},
        "times_stacked": {k: round(v, 2) for k, v in ratios.items()},
    }  # fmt: skip


SIZES: list[tuple[tuple[int, ...], int]] = [
    ((64, 64), 64), ((128, 128), 64), ((128, 128), 256), ((256, 256), 256),
]  # fmt: skip
"""Beside `modern` itself: where stacking pays on a CPU and where products take all the time."""


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--sizes", action="store_true", help="other sizes than modern's, too")
    options = parser.parse_args()
    found = [measure(options.rounds)]
    for hidden, batch in SIZES if options.sizes else []:
        settings = msgspec.structs.replace(MODERN, hidden=hidden, batch=batch)
        found.append(measure(options.rounds, settings))
    if options.json:
        print(json.dumps(found))
        return
    for one in found:
        sizes = "x".join(str(n) for n in one["hidden"])
        ms, times = one["ms_per_update"], one["times_stacked"]
        print(f"hidden {sizes}, batch {one['batch']}: stacked {ms['stacked']:.2f} ms")
        for name, ratio in times.items():
            print(f"  {name:15} {ms[name]:7.2f} ms   {ratio:.2f} times the stack's")


if __name__ == "__main__":
    main()
