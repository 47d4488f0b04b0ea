"""How fast tribes are played, in decisions a CPU second on one core.

    python -m benchmarks.tribes_speed --worlds 256 --json

`world` is the world alone with its views and masks; `scripted` has the scripted chief decide for
all four tribes; `told` is the live game as its process runs it, where what one tribe decides and
what comes of it become events.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time

import numpy as np

from agents.policies.choice import RowRandom
from games.tribes import rules
from games.tribes.play import TribesMatches
from games.tribes.scripted import ScriptedPolicy
from games.tribes.settings import TribesSettings
from games.tribes.view import observe
from games.tribes.world import Tribes, reset_all

WANTED = 20_000
"""Decisions a second and core that a strategy world must make."""


def match(n_worlds: int, seed: int) -> tuple[float, float]:
    """Return CPU seconds of the world alone and with scripted chiefs, for a match in each world."""
    worlds, policy = Tribes(n_worlds), ScriptedPolicy()
    reset_all(worlds, range(seed, seed + n_worlds))
    random = RowRandom(np.arange(n_worlds * rules.TRIBES, dtype=np.uint64))
    alone = 0.0
    begun = time.process_time()
    for _ in range(rules.TURNS):
        looked = time.process_time()
        seen = observe(worlds).reshape(n_worlds * rules.TRIBES, -1)
        legal = worlds.legal().reshape(n_worlds * rules.TRIBES, -1)
        asked = time.process_time()
        actions = policy.act(seen, legal, random).actions
        answered = time.process_time()
        worlds.step(actions.reshape(n_worlds, rules.TRIBES))
        alone += asked - looked + time.process_time() - answered
    return alone, time.process_time() - begun


def told(n_worlds: int, seed: int) -> float:
    """Return the CPU seconds of a live match in each world, events included."""
    matches = TribesMatches(TribesSettings(worlds=n_worlds), seed, "speed")
    begun = time.process_time()
    for turn in range(rules.TURNS):
        matches.step(30 * turn)
    return time.process_time() - begun


def measure(n_worlds: int, rounds: int) -> dict[str, float]:
    """Return medians over the rounds, decisions a CPU second."""
    decisions = n_worlds * rules.TURNS
    found: dict[str, list[float]] = {"world": [], "scripted": [], "told": []}
    for k in range(rounds):
        alone, all_of_it = match(n_worlds, k * n_worlds)
        found["world"].append(rules.TRIBES * decisions / alone)
        found["scripted"].append(rules.TRIBES * decisions / all_of_it)
        found["told"].append(decisions / told(n_worlds, k))
    return {name: round(statistics.median(values)) for name, values in found.items()}


def main() -> None:
    """Read the options, measure, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--worlds", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="Print facts as JSON.")
    options = parser.parse_args()
    found = measure(options.worlds, options.rounds)
    if options.json:
        print(json.dumps({"worlds": options.worlds, "wanted": WANTED, **found}))
        return
    print(f"decisions a CPU second, {options.worlds} worlds, {options.rounds} rounds")
    for name, value in found.items():
        print(f"  {name:<10}{value:>10,}")


if __name__ == "__main__":
    main()
