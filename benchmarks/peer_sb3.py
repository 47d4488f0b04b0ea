"""Trains Stable-Baselines3's DQN in a world; run by a Python that has stable_baselines3.

    python benchmarks/peer_sb3.py cartpole|lander SEEDS N_EPISODES

SEEDS is a list such as 0,1,2. Settings and steps are those that the Zoo's published scores were
made with (rl-baselines3-zoo, hyperparams/dqn.yml beside its benchmark.md). Scored as ours: the
last weights, greedy. Prints one JSON object as its last line: mean return by seed, CPU seconds,
steps.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from typing import Any

import numpy as np

WORLDS: dict[str, tuple[str, int, dict[str, Any]]] = {
    "cartpole": ("CartPole-v1", 50_000, {
        "learning_rate": 2.3e-3, "batch_size": 64, "buffer_size": 100_000, "learning_starts": 1_000,
        "target_update_interval": 10, "train_freq": 256, "gradient_steps": 128,
        "exploration_fraction": 0.16, "exploration_final_eps": 0.04,
    }),
    "lander": ("LunarLander-v3", 100_000, {
        "learning_rate": 6.3e-4, "batch_size": 128, "buffer_size": 50_000, "learning_starts": 0,
        "target_update_interval": 250, "train_freq": 4, "gradient_steps": -1,
        "exploration_fraction": 0.12, "exploration_final_eps": 0.1,
    }),
}  # fmt: skip


def main() -> None:
    """Train and print."""
    world, seeds = sys.argv[1], [int(seed) for seed in sys.argv[2].split(",")]
    n_episodes = int(sys.argv[3])
    sb3: Any = importlib.import_module("stable_baselines3")
    gymnasium: Any = importlib.import_module("gymnasium")
    importlib.import_module("torch").set_num_threads(1)
    name, n_steps, settings = WORLDS[world]
    scores, began = [], time.process_time()
    for seed in seeds:
        model = sb3.DQN(
            "MlpPolicy", name, gamma=0.99, policy_kwargs={"net_arch": [256, 256]}, seed=seed,
            device="cpu", **settings,
        )  # fmt: skip
        model.learn(n_steps)
        env = gymnasium.make(name)
        scores.append(float(np.mean([play(model, env, 1000 + k) for k in range(n_episodes)])))
        print(f"seed {seed}: {scores[-1]}", file=sys.stderr, flush=True)
    cpu = time.process_time() - began
    print(json.dumps({"scores": scores, "cpu_seconds": cpu, "steps": n_steps}))


def play(model: Any, env: Any, seed: int) -> float:
    """Return an episode's return by the greedy policy."""
    observation, _ = env.reset(seed=seed)
    total, over = 0.0, False
    while not over:
        action = int(model.predict(observation, deterministic=True)[0])
        observation, reward, terminated, truncated, _ = env.step(action)
        total += float(reward)
        over = terminated or truncated
    return total


if __name__ == "__main__":
    main()
