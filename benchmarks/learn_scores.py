"""What our value learners reach where others published scores or can be run beside them.

    python -m benchmarks.learn_scores [--only PART] [--quick] [--peer PYTHON] [--json] [--keep]

Parts: ``cartpole`` and ``lander``, Double DQN that practises from nothing, all seeds as one stack,
beside Stable-Baselines3's DQN for as many steps and published scores (LunarLander needs box2d);
``offline``, discrete CQL, IQL, AWAC, Double DQN and cloning on one seeded log of CartPole by
players of mixed skill, beside d3rlpy's discrete CQL, Double DQN and cloning on the same log.
``--peer`` is a Python that has d3rlpy and stable_baselines3. All are scored alike: last weights,
greedy, 50 episodes a seed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.classic_control import CARTPOLE, LANDER, Control, ControlWorld, mixed_log
from learners.model_types.combat_dqn import TYPE
from learners.model_types.value_settings import ValueSettings
from learners.model_types.value_stack import ValueStack
from learners.training.curriculum import bounds
from schemas.practice import Episodes

Part = Literal["cartpole", "lander", "offline"]
RESULTS = Path(__file__).parent / "results" / "learn_scores.json"

CARTPOLE_SETTINGS = ValueSettings(
    hidden=(128, 128), batch=128, learning_rate=5e-4, polyak=0.01, n_step=3, discount=0.99,
    practice_matches=1, practice_steps=500, practise_every=250, epsilon_start=1.0,
    epsilon_end=0.05, epsilon_updates=4_000, capacity=50_000, updates=25_000, result_weight=0.0,
    reward_weight=0.1,
)  # fmt: skip
"""Tried on seeds 100 and up alone. Rewards are all there is: no pack wins an episode; a tenth of
them makes the best return from a state 10."""

LANDER_SETTINGS = msgspec.structs.replace(
    CARTPOLE_SETTINGS, polyak=0.005, practice_steps=1_000, reward_weight=1.0
)

OFFLINE_SETTINGS = msgspec.structs.replace(
    CARTPOLE_SETTINGS, n_step=1, alpha=0.0, beta=0.0, polyak=0.005, learning_rate=1e-3,
    layer_norm=False, dueling=False, reward_weight=1.0,
)  # fmt: skip
"""Networks, batch, rate and rewards are those of `benchmarks.peer_d3rlpy`."""


class Trial(msgspec.Struct, frozen=True):
    """A world to practise in, and what others published of it."""

    control: Control
    settings: ValueSettings
    n_seeds: int
    n_peer_seeds: int
    published: dict[str, tuple[float, float, int]]
    """By whom: mean, deviation, steps."""

    @property
    def n_steps(self) -> int:
        """Steps of a seed in the world."""
        s = self.settings
        return -(-s.updates // s.practise_every) * s.practice_steps * s.practice_matches


TRIALS: dict[Part, Trial] = {
    "cartpole": Trial(
        CARTPOLE, CARTPOLE_SETTINGS, 3, 3,
        {
            "CleanRL dqn.py": (488.69, 16.11, 500_000),
            "CleanRL dqn.py, seed 2": (301.0, 52.06, 100_000),
            "Stable-Baselines3 Zoo dqn": (500.0, 0.0, 50_000),
        },
    ),
    "lander": Trial(
        LANDER, LANDER_SETTINGS, 3, 1,
        {"Stable-Baselines3 Zoo dqn, LunarLander-v2": (154.382, 79.241, 100_000)},
    ),
}  # fmt: skip
"""CleanRL: docs/rl-algorithms/dqn.md, over seeds, and the card of its model CartPole-v1-dqn-seed2;
Zoo: benchmark.md, one run over episodes."""

OFFLINE: dict[str, dict[str, Any]] = {
    "double_dqn": {"method": "double_dqn"},
    "cql": {"method": "cql", "conservative": 1.0},
    "iql": {"method": "iql", "expectile": 0.8, "temperature": 1.0},
    "awac": {"method": "awac", "temperature": 1.0},
    "cloning": {"method": "awac", "temperature": 1e9},
}
"""Cloning is AWAC whose advantages count for nothing."""

ABSENT = "absent: name a Python that has it with --peer"
N_ROWS, N_UPDATES, N_SEEDS, N_EPISODES = 20_000, 3_000, 3, 50


def make(settings: ValueSettings, control: Control, seeds: list[int]) -> ValueStack:
    """Return a stack of one model a seed."""
    layout = ControlWorld(1, control).layout
    return TYPE.make(settings, layout, seeds, [1.0] * len(seeds), torch.device("cpu"))


def returns(stack: ValueStack, control: Control, n_episodes: int) -> NDArray[np.float32]:
    """Return the greedy policies' mean returns [S] over whole episodes."""
    world = ControlWorld(stack.n_models, control)
    scores: NDArray[np.float32] = world.play("combat", stack.act, n_episodes, seed=99_991).mean(1)
    return scores


def practised(part: Part, peer: str | None, quick: bool) -> dict[str, Any]:
    """Return the scores of models that practised from nothing, and of others."""
    trial = TRIALS[part]
    n_seeds, n_episodes = (2, 10) if quick else (trial.n_seeds, N_EPISODES)
    settings = trial.settings
    if quick:
        settings = msgspec.structs.replace(settings, updates=settings.updates // 10)
    began = time.process_time()
    stack = make(settings, trial.control, list(range(n_seeds)))
    world = ControlWorld(n_seeds, trial.control)
    for i in range(settings.updates):
        if i % settings.practise_every == 0:
            stack.practise(world, seed=i)
        stack.update()
    row = _row(returns(stack, trial.control, n_episodes), time.process_time() - began)
    row["steps"] = msgspec.structs.replace(trial, settings=settings).n_steps
    row["stable_baselines3"] = ABSENT
    if peer is not None and not quick:
        seeds = ",".join(str(seed) for seed in range(trial.n_peer_seeds))
        found = _told(peer, "peer_sb3.py", part, seeds, str(n_episodes))
        row["stable_baselines3"] = _beside(row, found["scores"], found["cpu_seconds"])
        row["stable_baselines3"]["steps"] = found["steps"]
    row["published"] = {
        who: {"mean": mean, "deviation": deviation, "steps": steps,
              "reached": bool(row["mean"] >= mean - deviation)}
        for who, (mean, deviation, steps) in trial.published.items()
    }  # fmt: skip
    return row


def _beside(ours: dict[str, Any], scores: list[float], seconds: float) -> dict[str, Any]:
    """Return a peer's row; reached: our mean's interval does not end below its, or its one seed."""
    row = _row(scores, seconds)
    least = row["mean"] if row["interval"] is None else row["interval"][0]
    return {**row, "reached": bool(ours["interval"][1] >= least)}


def _told(python: str, script: str, *arguments: str) -> Any:
    """Return the JSON in the last line that a peer's script prints."""
    path = Path(__file__).with_name(script)
    done = subprocess.run(
        [python, str(path), *arguments], stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def from_log(
    rows: Episodes, changes: dict[str, Any], seeds: list[int], n_updates: int, n_episodes: int
) -> NDArray[np.float32]:
    """Return mean returns [S] of models that saw a log alone."""
    settings = msgspec.structs.replace(OFFLINE_SETTINGS, capacity=len(rows) + 1, **changes)
    stack = make(settings, CARTPOLE, seeds)
    stack.fit([rows] * len(seeds))
    for _ in range(n_updates):
        stack.update()
    return returns(stack, CARTPOLE, n_episodes)


def log_return(rows: Episodes) -> float:
    """Return the mean return of a log's whole episodes."""
    episode = np.cumsum(rows.first) - 1
    total = np.bincount(episode, rows.reward)
    whole = np.bincount(episode, rows.terminated) > 0
    return float(total[whole].mean())


def offline(peer: str | None, quick: bool) -> dict[str, Any]:
    """Return the scores of what learned from one log, d3rlpy's too."""
    seeds, n_episodes = list(range(2 if quick else N_SEEDS)), 10 if quick else N_EPISODES
    n_updates = N_UPDATES // (10 if quick else 1)
    rows = mixed_log(N_ROWS, seed=7)
    found: dict[str, Any] = {
        "rows": len(rows), "log_return": round(log_return(rows), 1), "updates": n_updates,
        "ours": {}, "d3rlpy": ABSENT,
    }  # fmt: skip
    for name, changes in OFFLINE.items():
        began = time.process_time()
        scores = from_log(rows, changes, seeds, n_updates, n_episodes)
        found["ours"][name] = _row(scores, time.process_time() - began)
    if peer is not None:
        scored = peer_scores(peer, rows, seeds, n_updates, n_episodes)
        found["d3rlpy"] = {
            name: _beside(found["ours"][name], scores, cpu)
            for name, (scores, cpu) in scored.items()
        }
    return found


def peer_scores(
    python: str, rows: Episodes, seeds: list[int], n_updates: int, n_episodes: int
) -> dict[str, Any]:
    """Return d3rlpy's mean returns by method, from the Python that has it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log.npz"
        np.savez(
            path, observation=rows.observation, action=rows.action["combat"], reward=rows.reward,
            terminated=rows.terminated, first=rows.first,
        )  # fmt: skip
        many = ",".join(str(seed) for seed in seeds)
        found: dict[str, Any] = _told(
            python, "peer_d3rlpy.py", str(path), many, str(n_updates), str(n_episodes)
        )
    return found


def _row(values: NDArray[np.float32] | list[float], seconds: float) -> dict[str, Any]:
    """Return mean and spread over seeds; one seed alone has no spread.

    The interval is that of `bounds`: with three seeds a quarter narrower than Student's t.
    """
    many = np.asarray(values, np.float64)
    row: dict[str, Any] = {
        "mean": round(float(many.mean()), 1),
        "deviation": None,
        "interval": None,
    }
    if len(many) > 1:
        row["deviation"] = round(float(many.std(ddof=1)), 1)
        row["interval"] = [round(v, 1) for v in bounds(many.tolist(), 0.025, shares=False)]
    row["returns"] = [round(float(v), 1) for v in many]
    row["cpu_seconds"] = round(seconds, 1)
    return row


def measure(parts: list[Part], peer: str | None, quick: bool) -> dict[str, Any]:
    """Return the scores of some parts; a part that cannot be run says why."""
    found: dict[str, Any] = {}
    for part in parts:
        if part == "offline":
            found[part] = offline(peer, quick)
            continue
        try:
            found[part] = practised(part, peer, quick)
        except ImportError as error:  # gymnasium tells so of a world whose library is missing
            found[part] = f"absent: {error}"
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Scores beside others' on the same worlds.")
    parser.add_argument("--only", choices=[*TRIALS, "offline"], action="append")
    parser.add_argument("--quick", action="store_true", help="a tenth of the updates, two seeds")
    parser.add_argument("--peer", help="a Python that has d3rlpy and stable_baselines3")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--keep", action="store_true", help=f"put the parts into {RESULTS.name}")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = measure(options.only or [*TRIALS, "offline"], options.peer, options.quick)
    if options.keep:
        kept = json.loads(RESULTS.read_text("utf-8")) if RESULTS.is_file() else {}
        RESULTS.write_text(json.dumps({**kept, **found}, indent=1) + "\n", "utf-8")
    if options.json:
        print(json.dumps(found))
        return
    for part, rows in found.items():
        _show(part, rows)


def _show(part: str, found: Any) -> None:
    if isinstance(found, str):
        print(f"{part}: {found}")
        return
    if part == "offline":
        print(f"offline: {found['rows']} steps by players of {found['log_return']}")
        for name, row in found["ours"].items():
            print(f"  ours   {name:12} {_shown(row)}")
        peer = found["d3rlpy"]
        for name, row in {} if isinstance(peer, str) else peer.items():
            print(f"  d3rlpy {name:12} {_shown(row)}")
        return
    print(f"{part}: after {found['steps']} steps {_shown(found)}")
    peer = found["stable_baselines3"]
    if not isinstance(peer, str):
        print(f"  Stable-Baselines3 here: {_shown(peer)} after {peer['steps']}")
    for who, row in found["published"].items():
        print(f"  {who}: {row['mean']} +- {row['deviation']} after {row['steps']}")


def _shown(row: dict[str, Any]) -> str:
    if row["interval"] is None:
        return f"{row['mean']} (one seed)"
    low, high = row["interval"]
    return f"{row['mean']} +- {row['deviation']} (95 % of the mean: {low} to {high})"


if __name__ == "__main__":
    main()
