"""What our value learners reach where others have published or re-run scores: CartPole-v1.

    python -m benchmarks.learn_scores [--quick] [--peer PYTHON] [--json]

Practice: six seeds of our Double DQN, trained as one stack, beside CleanRL's published score.
Offline: discrete CQL, IQL, AWAC, plain Double DQN and behaviour cloning on one log of players of
mixed skill. With ``--peer`` the same log goes to d3rlpy's discrete CQL and cloning, run by a Python
that has d3rlpy; without it the table says that they are absent.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.classic_control import CartPole, mixed_log
from learners.model_types.combat_dqn import MODERN, TYPE
from learners.model_types.value_settings import ValueSettings
from learners.model_types.value_stack import ValueStack
from schemas.practice import Episodes

N_SEEDS = 6
N_EPISODES = 50
PUBLISHED: dict[str, Any] = {
    "name": "CleanRL dqn.py",
    "mean": 488.69,
    "deviation": 16.11,
    "steps": 500_000,
}
"""docs.cleanrl.dev, DQN, experiment results: mean and deviation over its seeds."""

ONLINE = msgspec.structs.replace(
    MODERN, hidden=(128, 128), batch=128, learning_rate=1e-3, polyak=0.02, n_step=3,
    practice_matches=8, practice_steps=250, practise_every=250, epsilon_start=1.0,
    epsilon_end=0.05, epsilon_updates=2_000, capacity=50_000, updates=12_000,
)  # fmt: skip

OFFLINE: dict[str, dict[str, Any]] = {
    "double_dqn": {"method": "double_dqn"},
    "cql": {"method": "cql", "conservative": 1.0},
    "iql": {"method": "iql", "expectile": 0.8, "temperature": 1.0},
    "awac": {"method": "awac", "temperature": 1.0},
    "cloning": {"method": "awac", "temperature": 1e9},
}
"""Cloning is AWAC whose advantages count for nothing."""

N_ROWS, N_UPDATES = 20_000, 5_000


def make(settings: ValueSettings, seeds: list[int]) -> ValueStack:
    """Return a stack of one model a seed."""
    rates = [1.0] * len(seeds)
    return TYPE.make(settings, CartPole(1).layout, seeds, rates, torch.device("cpu"))


def returns(stack: ValueStack, n_episodes: int) -> NDArray[np.float32]:
    """Return the greedy policies' mean returns [S] over whole episodes."""
    world = CartPole(stack.n_models)
    return world.play("combat", stack.act, n_episodes, seed=99_991).mean(1)


def practised(settings: ValueSettings, seeds: list[int], n_episodes: int) -> NDArray[np.float32]:
    """Return mean returns [S] of models that practised from nothing."""
    stack, world = make(settings, seeds), CartPole(len(seeds))
    for i in range(settings.updates):
        if i % settings.practise_every == 0:
            stack.practise(world, seed=i)
        stack.update()
    return returns(stack, n_episodes)


def from_log(
    rows: Episodes, changes: dict[str, Any], seeds: list[int], n_updates: int, n_episodes: int
) -> NDArray[np.float32]:
    """Return mean returns [S] of models that saw a log alone."""
    offline = {"n_step": 1, "alpha": 0.0, "beta": 0.0, "capacity": len(rows) + 1, "polyak": 0.005}
    stack = make(msgspec.structs.replace(ONLINE, **offline, **changes), seeds)
    stack.fit([rows] * len(seeds))
    for _ in range(n_updates):
        stack.update()
    return returns(stack, n_episodes)


def log_return(rows: Episodes) -> float:
    """Return the mean return of a log's whole episodes."""
    episode = np.cumsum(rows.first) - 1
    total = np.bincount(episode, rows.reward)
    whole = np.bincount(episode, rows.terminated) > 0
    return float(total[whole].mean())


def peer_scores(python: str, rows: Episodes, n_updates: int, n_episodes: int) -> dict[str, Any]:
    """Return d3rlpy's mean returns by method, from the Python that has it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log.npz"
        np.savez(
            path, observation=rows.observation, action=rows.action["combat"], reward=rows.reward,
            terminated=rows.terminated, first=rows.first,
        )  # fmt: skip
        script = Path(__file__).with_name("peer_d3rlpy.py")
        done = subprocess.run(
            [python, str(script), str(path), str(n_updates), str(n_episodes)],
            capture_output=True, text=True, check=True, cwd=folder,
        )  # fmt: skip
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _row(values: NDArray[np.float32] | list[float], seconds: float) -> dict[str, Any]:
    many = np.asarray(values, np.float64)
    half = 1.96 * float(many.std(ddof=1)) / np.sqrt(len(many)) if len(many) > 1 else float("nan")
    return {
        "mean": round(float(many.mean()), 1), "deviation": round(float(many.std(ddof=1)), 1),
        "interval": [round(float(many.mean()) - half, 1), round(float(many.mean()) + half, 1)],
        "returns": [round(float(v), 1) for v in many], "cpu_seconds": round(seconds, 1),
    }  # fmt: skip


def measure(peer: str | None = None, quick: bool = False) -> dict[str, Any]:
    """Return all scores; ``quick`` takes a tenth of the updates and two seeds."""
    seeds = list(range(2 if quick else N_SEEDS))
    n_episodes = 10 if quick else N_EPISODES
    scale = 0.1 if quick else 1.0
    settings = msgspec.structs.replace(ONLINE, updates=int(ONLINE.updates * scale))
    began = time.process_time()
    online = _row(practised(settings, seeds, n_episodes), time.process_time() - began)
    n_steps = settings.updates // settings.practise_every
    online["steps"] = n_steps * settings.practice_steps * settings.practice_matches
    low, high = (
        PUBLISHED["mean"] - PUBLISHED["deviation"],
        PUBLISHED["mean"] + PUBLISHED["deviation"],
    )
    online["within_published"] = bool(online["interval"][1] >= low)
    rows = mixed_log(N_ROWS, seed=7)
    found: dict[str, Any] = {
        "world": "CartPole-v1", "practice": online, "published": {**PUBLISHED, "range": [low, high]},
        "log": {"rows": len(rows), "mean_return": round(log_return(rows), 1)}, "offline": {},
    }  # fmt: skip
    for name, changes in OFFLINE.items():
        began = time.process_time()
        scores = from_log(rows, changes, seeds, int(N_UPDATES * scale), n_episodes)
        found["offline"][name] = _row(scores, time.process_time() - began)
    if peer is None:
        found["d3rlpy"] = "absent: name a Python that has d3rlpy with --peer"
    else:
        found["d3rlpy"] = {
            name: _row(scores, seconds) if len(scores) > 1 else scores
            for name, (scores, seconds) in peer_scores(
                peer, rows, int(N_UPDATES * scale), n_episodes
            ).items()
        }
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Scores on CartPole-v1 beside others'.")
    parser.add_argument("--quick", action="store_true", help="a tenth of the updates, two seeds")
    parser.add_argument("--peer", help="a Python that has d3rlpy")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = measure(options.peer, options.quick)
    if options.json:
        print(json.dumps(found))
        return
    practice, published = found["practice"], found["published"]
    print(f"practice, {practice['steps']} steps: {_shown(practice)}")
    print(f"  {published['name']}: {published['mean']} +- {published['deviation']}")
    print(
        f"offline, a log of {found['log']['rows']} steps by players of {found['log']['mean_return']}"
    )
    for name, row in found["offline"].items():
        print(f"  {name:12} {_shown(row)}")
    peer = found["d3rlpy"]
    if isinstance(peer, str):
        print(f"  d3rlpy {peer}")
        return
    for name, row in peer.items():
        print(f"  d3rlpy {name:12} {_shown(row)}")


def _shown(row: dict[str, Any]) -> str:
    low, high = row["interval"]
    return f"{row['mean']} +- {row['deviation']} (95 % of the mean: {low} to {high})"


if __name__ == "__main__":
    main()
