"""Replay beside cpprb's prioritised buffer and Stable-Baselines3's uniform one.

    make bench-learn ARGS="--parts replay"

Rings of 131,072 transitions of 64 float32 features, batches of 256, one model. One call draws a
batch with its importance weights and gives its rows new priorities (Stable-Baselines3 only draws,
as it has no priorities). Ours draws 16 batches in one sweep, as trainings do, so that an error may
count 16 updates late; a row of its own has each draw by the newest priorities. The same rows lie in
each; legal masks, which the peers do not know, are left out of ours but for the row that names
them. Memory is what the process grows by.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.learn import NOT_THERE, target
from benchmarks.learn_timing import by_turns, resident
from learners.replay.form import RowForm, Steps, Storage
from learners.replay.stacked import StackedReplay

N, D, A, B = 1 << 17, 64, 10, 256
EPISODE, ACTORS, PART = 64, 64, 4096
N_CALLS = 128
OURS, HALF = "Grindstone, float32", "Grindstone, float16"
"""As trainings draw: 16 batches in one sweep, whose errors count from the next sweep on."""
NEWEST = "Grindstone, float32, each draw by the newest priorities"
CPPRB, COMPRESSED = "cpprb", "cpprb, compressed"
SB3 = "Stable-Baselines3, uniform, draws only"
PEERS = {"cpprb": (CPPRB, COMPRESSED), "stable_baselines3": (SB3,)}
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


def filled(contender: str) -> int:
    """Fill one contender in this process and return how much it grew."""
    data = rows(0)
    make: dict[str, Callable[[], object]] = {
        OURS: lambda: ours(data, "float32", lookahead=1),
        HALF: lambda: ours(data, "float16", lookahead=1),
        CPPRB: lambda: cpprb_buffer(data, compressed=False),
        COMPRESSED: lambda: cpprb_buffer(data, compressed=True),
    }
    if contender in (CPPRB, COMPRESSED):
        import cpprb  # noqa: F401
    before = resident()
    kept = make[contender]()
    grown = resident() - before
    del kept
    return grown


def contenders(data: dict[str, Any], there: set[str]) -> dict[str, Call]:
    """Return one call of each contender that is there."""
    errors = np.random.default_rng(1).random((1, B)).astype(np.float32)
    calls = {
        OURS: ours_call(ours(data, "float32", lookahead=16), errors),
        NEWEST: ours_call(ours(data, "float32", lookahead=1), errors),
        HALF: ours_call(ours(data, "float16", lookahead=16), errors),
        "Grindstone, float32, with legal masks": ours_call(
            ours(data, "float32", lookahead=16, masked=True), errors
        ),
    }
    if "cpprb" in there:
        calls[CPPRB] = cpprb_call(cpprb_buffer(data, compressed=False), errors)
        calls[COMPRESSED] = cpprb_call(cpprb_buffer(data, compressed=True), errors)
    if "stable_baselines3" in there:
        calls[SB3] = sb3_call(data)
    return calls


def measure(rounds: int) -> dict[str, Any]:
    """Return times, memory and targets; a peer that is not installed has rows that say so."""
    there = {name for name in PEERS if importlib.util.find_spec(name)}
    data = rows(0)
    spent = by_turns(contenders(data, there), N_CALLS, rounds)
    errors = np.random.default_rng(1).random((6, B)).astype(np.float32)
    six = ours_call(ours(data, "float32", lookahead=16, models=6), errors)
    spent["Grindstone, float32, one of six stacked models"] = (
        by_turns({"six": six}, N_CALLS, rounds)["six"] / 6
    )
    sizes = {name: memory(name) for name in (OURS, HALF)}
    if "cpprb" in there:
        sizes |= {name: memory(name) for name in (CPPRB, COMPRESSED)}
    lines = [
        {"contender": name, "us a batch": round(us, 1), "MB": _mb(sizes.get(name))}
        for name, us in spent.items()
    ]
    for module, names in PEERS.items():
        if module not in there:
            lines += [{"contender": n, "us a batch": NOT_THERE, "MB": NOT_THERE} for n in names]
    return {
        "rows": lines,
        "targets": targets(spent, sizes),
        "missing": [INSTALL.format(m.replace("_", "-")) for m in PEERS if m not in there],
        "peers": {name: importlib.metadata.version(name) for name in sorted(there)},
    }


def _mb(n_bytes: int | None) -> str:
    return "" if n_bytes is None else str(round(n_bytes / 1e6, 1))


def targets(spent: dict[str, float], sizes: dict[str, int]) -> list[dict[str, Any]]:
    """Return the issue's targets; None where a peer is not there."""

    def ratio(one: float | None, other: float | None) -> float | None:
        return one / other if one and other else None

    cpprb, sb3 = spent.get(CPPRB), spent.get(SB3)
    return [
        target("cpprb over us, sample, weights and update", ratio(cpprb, spent[OURS]),
               "at least", 5.0),
        target("the same, each draw by the newest priorities", ratio(cpprb, spent[NEWEST]),
               "at least", 5.0),
        target("Stable-Baselines3's uniform draw over our sample, weights and update",
               ratio(sb3, spent[OURS]), "at least", 1.2),
        target("the same, each draw by the newest priorities", ratio(sb3, spent[NEWEST]),
               "at least", 1.2),
        target("our memory over cpprb's", ratio(sizes[OURS], sizes.get(CPPRB)), "at most", 0.6),
    ]  # fmt: skip


if __name__ == "__main__":
    print(json.dumps(filled(sys.argv[1])))
