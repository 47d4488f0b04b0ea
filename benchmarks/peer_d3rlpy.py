"""Trains d3rlpy's discrete CQL, Double DQN and cloning on a log; run by a Python that has d3rlpy.

    python benchmarks/peer_d3rlpy.py LOG.npz SEEDS N_UPDATES N_EPISODES

SEEDS is a list such as 0,1,2. Networks, batch, rate and discount are those of
`benchmarks.learn_scores`. Prints one JSON object as its last line: method -> [mean return by seed,
CPU seconds].
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np


def main() -> None:
    """Train and print."""
    path, seeds = sys.argv[1], [int(seed) for seed in sys.argv[2].split(",")]
    n_updates, n_episodes = int(sys.argv[3]), int(sys.argv[4])
    importlib.import_module("torch").set_num_threads(1)
    d3rlpy: Any = importlib.import_module("d3rlpy")
    gymnasium: Any = importlib.import_module("gymnasium")
    log = np.load(path)
    last = np.append(log["first"][1:], True)
    dataset = d3rlpy.dataset.MDPDataset(
        observations=log["observation"], actions=log["action"][:, None], rewards=log["reward"],
        terminals=log["terminated"].astype(np.float32),
        timeouts=(last & ~log["terminated"]).astype(np.float32), action_size=2,
    )  # fmt: skip
    encoder = d3rlpy.models.encoders.VectorEncoderFactory(hidden_units=[128, 128])
    scaler = d3rlpy.preprocessing.StandardObservationScaler
    shared = {"learning_rate": 1e-3, "batch_size": 128, "encoder_factory": encoder}
    kinds: dict[str, Callable[[], Any]] = {
        "cql": lambda: d3rlpy.algos.DiscreteCQLConfig(
            **shared, gamma=0.99, alpha=1.0, target_update_interval=200,
            observation_scaler=scaler(),
        ),
        "double_dqn": lambda: d3rlpy.algos.DoubleDQNConfig(
            **shared, gamma=0.99, target_update_interval=200, observation_scaler=scaler(),
        ),
        "cloning": lambda: d3rlpy.algos.DiscreteBCConfig(**shared, observation_scaler=scaler()),
    }  # fmt: skip
    found: dict[str, Any] = {}
    for name, config in kinds.items():
        scores, began = [], time.process_time()
        for seed in seeds:
            d3rlpy.seed(seed)
            algo = config().create(device="cpu:0")
            algo.fit(
                dataset, n_steps=n_updates, n_steps_per_epoch=n_updates, show_progress=False,
                logger_adapter=d3rlpy.logging.NoopAdapterFactory(),
            )  # fmt: skip
            env = gymnasium.make("CartPole-v1")
            scores.append(float(np.mean([play(algo, env, 1000 + k) for k in range(n_episodes)])))
        found[name] = [scores, time.process_time() - began]
    print(json.dumps(found))


def play(algo: Any, env: Any, seed: int) -> float:
    """Return an episode's return by the greedy policy."""
    observation, _ = env.reset(seed=seed)
    total, over = 0.0, False
    while not over:
        action = int(algo.predict(observation[None])[0])
        observation, reward, terminated, truncated, _ = env.step(action)
        total += float(reward)
        over = terminated or truncated
    return total


if __name__ == "__main__":
    main()
