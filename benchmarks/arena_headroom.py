"""What is to be won in the arena: the traditional AI at each degree, and better play for each head.

    python -m benchmarks.arena_headroom --matches 400

Cells are shares of matches won (a draw is half). Starts
are paired: each is played from both sides.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import numpy as np

from benchmarks.arena_experts import EXPERTS
from games.arena.practice import ArenaPractice
from schemas.practice import ARCHETYPES, Head

HEADS: tuple[Head, ...] = ("combat", "movement", "skill", "aim")
DEGREES = range(5)


def measure(n_matches: int, seed: int) -> dict[str, dict[str, float]]:
    """Return by archetype the shares won: of degree 2 against each degree, and of experts."""
    world = ArenaPractice()
    columns = {
        f"degree {degree}": world.play("combat", None, n_matches, seed, difficulty=degree)
        for degree in DEGREES
    }
    for head in HEADS:
        for degree in (2, 4):
            columns[f"{head}, {degree}"] = world.play(
                head, EXPERTS[head], n_matches, seed, difficulty=degree
            )
    return {
        name: {title: float(played[s].mean()) for title, played in columns.items()}
        for s, name in enumerate(ARCHETYPES)
    }


def table(found: dict[str, dict[str, float]], titles: list[str]) -> str:
    """Return some columns as Markdown."""
    lines = [f"| archetype | {' | '.join(titles)} |", "|---" * (len(titles) + 1) + "|"]
    for name, row in found.items():
        lines.append(f"| {name} | {' | '.join(f'{100 * row[t]:.0f} %' for t in titles)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--matches", type=int, default=400)
    parser.add_argument("--seed", type=int, default=21)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    found = measure(args.matches, args.seed)
    if args.json:
        told: dict[str, Any] = {"matches": args.matches, "seed": args.seed, "won": found}
        print(json.dumps(told))
        return
    titles = list(next(iter(found.values())))
    half = 196 * float(np.sqrt(0.25 / args.matches))
    print(table(found, titles[: len(DEGREES)]), table(found, titles[len(DEGREES) :]), sep="\n\n")
    print(f"\n{args.matches} matches a cell: good to {half:.0f} points at most.")


if __name__ == "__main__":
    main()
