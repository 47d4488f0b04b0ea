"""How fast the arena is played, in actor-decisions a CPU second on one core.

    python -m benchmarks.arena_speed --matches 600 --json

A living or dead actor of a match that goes on counts one decision a step, all four heads together.
`world` is the world alone; `scripted` has the traditional AI decide for all ten; `practice` is a
learner's side of it: home's half of the actors, with observations, masks, facts of enemies, rewards
and new matches, the scripted AI included; `maps` is maps drawn.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time

import numpy as np

from games.arena import rules
from games.arena.draws import keys_of
from games.arena.practice import ArenaPractice
from games.arena.scripted import scripted
from games.arena.world import Arena
from schemas.practice import ARCHETYPES

WANTED = 500_000
"""Actor-decisions a second and core, the scripted AI included."""
_STEPS = 40


def match(n_matches: int, seed: int) -> tuple[float, float, int]:
    """Return CPU seconds of the world alone and with the scripted AI, and decisions taken."""
    arena = Arena(n_matches)
    kinds = np.arange(n_matches) % len(ARCHETYPES)
    none = np.zeros(n_matches, np.bool_)
    arena.begin(np.arange(n_matches), keys_of(seed, n_matches), np.stack([kinds, kinds]), none)
    degree = np.full((2, 1, n_matches), 2, np.int64)
    alone, taken = 0.0, 0
    begun = time.process_time()
    for _ in range(_STEPS):
        taken += 2 * rules.PACK * int((~arena.over).sum())
        orders = scripted(arena, degree)
        decided = time.process_time()
        arena.step(orders)
        alone += time.process_time() - decided
    return alone, time.process_time() - begun, taken


def practised(n_matches: int, seed: int) -> tuple[float, int]:
    """Return CPU seconds of practice steps, and decisions of home's actors."""
    world = ArenaPractice()
    view = world.begin("combat", max(1, n_matches // len(ARCHETYPES)), seed)
    begun = time.process_time()
    for _ in range(_STEPS):
        view, _ = world.step(None)
    return time.process_time() - begun, _STEPS * view.alive.size


def drawn(n_matches: int, seed: int) -> tuple[float, int]:
    """Return CPU seconds of drawing maps, and how many."""
    world = ArenaPractice()
    view = world.begin("movement", max(1, n_matches // len(ARCHETYPES)), seed)
    begun = time.process_time()
    n = len(view.maps().reshape(-1, *world.layout.map_shape))
    return time.process_time() - begun, n


def measure(n_matches: int, rounds: int) -> dict[str, float]:
    """Return medians over the rounds, a CPU second each."""
    rates: dict[str, list[float]] = {"world": [], "scripted": [], "practice": [], "maps": []}
    for seed in range(rounds):
        alone, whole, n = match(n_matches, seed)
        rates["world"].append(n / alone)
        rates["scripted"].append(n / whole)
        for name, (seconds, count) in (
            ("practice", practised(n_matches, seed)), ("maps", drawn(n_matches, seed)),
        ):  # fmt: skip
            rates[name].append(count / seconds)
    return {name: statistics.median(values) for name, values in rates.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--matches", type=int, default=600)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    found = measure(args.matches, args.rounds)
    if args.json:
        print(json.dumps({"matches": args.matches, "wanted": WANTED, **found}))
        return
    for name, rate in found.items():
        print(f"{name:10} {rate:12,.0f} a CPU second")
    verdict = "met" if found["scripted"] >= WANTED else "missed"
    print(f"wanted     {WANTED:12,.0f} scripted: {verdict}")


if __name__ == "__main__":
    main()
