"""Replay beside cpprb's prioritised buffer and Stable-Baselines3's uniform one.

    make bench-learn ARGS="--parts replay"

Rings of 131,072 transitions of 64 float32 features, batches of 256, one model. One call draws a
batch with its importance weights and gives its rows new priorities (Stable-Baselines3 only draws,
as it has no priorities). The same rows lie in each; legal masks, which the peers do not know, are
left out of ours but for the row that names them. Memory is what the process grows by.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.learn import target
from benchmarks.learn_timing import by_turns
from learners.replay.form import RowForm, Steps, Storage
from learners.replay.stacked import StackedReplay

N, D, A, B = 1 << 17, 64, 10, 256
EPISODE, ACTORS, PART = 64, 64, 4096
N_CALLS = 128
PEERS = {"cpprb": "cpprb", "stable_baselines3": "stable-baselines3"}
INSTALL = (
    "{} is not installed: .venv/bin/uv pip install --python .venv '.[bench]' in a checkout of its"
    " own (cpprb builds on Python 3.11 and 3.12), then run again"
)

Call = Callable[[], object]


def rows(seed: int) -> dict[str, Any]:
    """Return columns of N steps of actors that take turns, and what followed each."""
    rng = np.random.default_rng(seed)
    i = np.arange(N)
    step = i // ACTORS % EPISODE
    observation = rng.random((N, D), np.float32)
    following = np.roll(observation, -ACTORS, axis=0)
    return {
        "observation": observation, "next": following, "step": step, "actor": i % ACTORS,
        "episode": i // ACTORS // EPISODE, "action": rng.integers(0, A, N),
        "reward": rng.random(N, np.float32), "done": step == EPISODE - 1,
    }  # fmt: skip


def ours(
    data: dict[str, Any], storage: Storage, *, lookahead: int, masked: bool = False, models: int = 1
) -> StackedReplay:
    """Return our replay with the rows in it, n-step returns of three steps."""
    form = RowForm(D, A, storage=storage, masked=masked)
    replay = StackedReplay(form, N, list(range(models)), n_step=3, lookahead=lookahead)
    for model in range(models):
        for first in range(0, N, PART):
            some = {name: column[first : first + PART] for name, column in data.items()}
            replay.add(model, Steps(
                observation=some["observation"], action=some["action"], reward=some["reward"],
                terminated=some["done"], truncated=np.zeros(PART, np.bool_), actor=some["actor"],
                step=some["step"], episode=some["episode"],
            ))  # fmt: skip
    return replay


def ours_call(replay: StackedReplay, errors: np.ndarray[Any, Any]) -> Call:
    """Return a call that draws a batch and tells its errors."""
    shape = (replay.n_models, B)
    rng = np.random.default_rng(0)
    for _ in range(2 * N // B):  # priorities as various as the peers'
        replay.set_errors(replay.sample(B).slots, rng.random(shape))

    def call() -> None:
        replay.set_errors(replay.sample(B).slots, errors[: replay.n_models])

    return call


def cpprb_buffer(data: dict[str, Any], *, compressed: bool) -> Any:
    """Return cpprb's prioritised buffer; compressed, it stores an observation once."""
    from cpprb import PrioritizedReplayBuffer

    env: dict[str, Any] = {"obs": {"shape": D}, "act": {"dtype": np.int64}, "rew": {}, "done": {}}
    if compressed:
        buffer = PrioritizedReplayBuffer(N, env, alpha=0.6, next_of="obs")
    else:
        buffer = PrioritizedReplayBuffer(N, {**env, "next_obs": {"shape": D}}, alpha=0.6)
    for first in range(0, N, PART):
        some = {name: column[first : first + PART] for name, column in data.items()}
        buffer.add(
            obs=some["observation"], act=some["action"], rew=some["reward"],
            next_obs=some["next"], done=some["done"],
        )  # fmt: skip
    return buffer


def cpprb_call(buffer: Any, errors: np.ndarray[Any, Any]) -> Call:
    """Return the same call of cpprb."""
    rng = np.random.default_rng(0)
    for first in range(0, N, PART):
        buffer.update_priorities(np.arange(first, first + PART), rng.random(PART))

    def call() -> None:
        batch = buffer.sample(B, beta=0.4)
        buffer.update_priorities(batch["indexes"], errors[0])

    return call


def sb3_call(data: dict[str, Any]) -> Call:
    """Return a draw of Stable-Baselines3's uniform buffer."""
    from gymnasium import spaces
    from stable_baselines3.common.buffers import ReplayBuffer

    box = spaces.Box(-np.inf, np.inf, (D,), np.float32)
    buffer = ReplayBuffer(N, box, spaces.Discrete(A), device="cpu")
    buffer.observations[:, 0], buffer.next_observations[:, 0] = data["observation"], data["next"]
    buffer.actions[:, 0, 0], buffer.rewards[:, 0] = data["action"], data["reward"]
    buffer.dones[:, 0], buffer.full = data["done"], True
    return lambda: buffer.sample(B)


def memory(contender: str) -> int:
    """Return the bytes that a process grows by while a contender is filled."""
    command = [sys.executable, "-m", "benchmarks.learn_replay", contender]
    root = Path(__file__).parents[1]
    done = subprocess.run(command, cwd=root, stdout=subprocess.PIPE, text=True, check=True)
    grown: int = json.loads(done.stdout)
    return grown


def _resident() -> int:
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * 4096


def filled(contender: str) -> int:
    """Fill one contender in this process and return how much it grew."""
    data = rows(0)
    make: dict[str, Callable[[], object]] = {
        "float32": lambda: ours(data, "float32", lookahead=1),
        "float16": lambda: ours(data, "float16", lookahead=1),
        "cpprb": lambda: cpprb_buffer(data, compressed=False),
        "cpprb, compressed": lambda: cpprb_buffer(data, compressed=True),
    }
    if contender.startswith("cpprb"):
        import cpprb  # noqa: F401
    before = _resident()
    kept = make[contender]()
    grown = _resident() - before
    del kept
    return grown


def measure(rounds: int) -> dict[str, Any]:
    """Return times, memory and targets."""
    missing = [name for name in PEERS if importlib.util.find_spec(name) is None]
    data = rows(0)
    errors = np.random.default_rng(1).random((6, B)).astype(np.float32)
    calls: dict[str, Call] = {
        "Grindstone, float32": ours_call(ours(data, "float32", lookahead=16), errors),
        "Grindstone, float16": ours_call(ours(data, "float16", lookahead=16), errors),
        "Grindstone, float32, each draw by the newest priorities": ours_call(
            ours(data, "float32", lookahead=1), errors
        ),
        "Grindstone, float32, with legal masks": ours_call(
            ours(data, "float32", lookahead=16, masked=True), errors
        ),
    }
    if "cpprb" not in missing:
        calls["cpprb"] = cpprb_call(cpprb_buffer(data, compressed=False), errors)
        calls["cpprb, compressed"] = cpprb_call(cpprb_buffer(data, compressed=True), errors)
    if "stable_baselines3" not in missing:
        calls["Stable-Baselines3, uniform, draws only"] = sb3_call(data)
    torch.set_num_threads(1)
    spent = by_turns(calls, N_CALLS, rounds)
    del calls
    six = ours_call(ours(data, "float32", lookahead=16, models=6), errors)
    spent["Grindstone, float32, six models, one of the six"] = (
        by_turns({"six": six}, N_CALLS, rounds)["six"] / 6
    )
    sizes = {
        "Grindstone, float32": memory("float32"), "Grindstone, float16": memory("float16"),
    }  # fmt: skip
    if "cpprb" not in missing:
        sizes |= {name: memory(name) for name in ("cpprb", "cpprb, compressed")}
    return {
        "rows": [
            {"contender": name, "us a batch": round(us, 1), "MB": _mb(sizes.get(name))}
            for name, us in spent.items()
        ],
        "targets": targets(spent, sizes),
        "missing": [INSTALL.format(PEERS[name]) for name in missing],
    }


def _mb(n_bytes: int | None) -> str:
    return "" if n_bytes is None else str(round(n_bytes / 1e6, 1))


def targets(spent: dict[str, float], sizes: dict[str, int]) -> list[dict[str, Any]]:
    """Return the issue's targets, as far as the peers are there."""
    found, us = [], spent["Grindstone, float32"]
    if "cpprb" in spent:
        found += [
            target("sample, weights and update over cpprb", spent["cpprb"] / us, "at least", 5.0),
            target(
                "memory over cpprb's", sizes["Grindstone, float32"] / sizes["cpprb"], "at most", 0.6
            ),
        ]
    peer = "Stable-Baselines3, uniform, draws only"
    if peer in spent:
        found.append(
            target("the same over Stable-Baselines3's uniform", spent[peer] / us, "at least", 1.2)
        )
    return found


if __name__ == "__main__":
    print(json.dumps(filled(sys.argv[1])))
