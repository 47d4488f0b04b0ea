"""Draws moments of an arena match for the docs.

python -m benchmarks.arena_picture docs/images/arena.png
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

from games.arena import rules
from games.arena.draws import keys_of
from games.arena.scripted import scripted
from games.arena.world import Arena
from schemas.practice import ARCHETYPES

mpl.use("agg")
from matplotlib import patches  # noqa: E402 - the backend is chosen first
from matplotlib import pyplot as plt  # noqa: E402

STEPS = (0, 10, 16)
COLOURS = ("#1f77b4", "#d62728")


def draw(axes: Any, arena: Arena) -> None:
    """Draw the field of the first match: a disc's area is its actor's hit points."""
    axes.set(xlim=(-rules.HALF, rules.HALF), ylim=(-rules.HALF, rules.HALF), aspect="equal")
    axes.set_title(f"step {int(arena.step_no[0])}", fontsize=10)
    axes.set_xticks([-16, 0, 16])
    axes.set_yticks([-16, 0, 16])
    for x, y in arena.hill[:, :, 0]:
        axes.add_patch(patches.Circle((x, y), rules.HILL_RADIUS, color="#d9c9a3", zorder=0))
    gale_x, gale_y = (float(part[0, 0, 0]) for part in arena.gale())
    axes.annotate(
        "", (4 * gale_x, 14 + 4 * gale_y), (0, 14), arrowprops={"arrowstyle": "->", "color": "gray"}
    )
    share = arena.hp / arena.stat["hit_points"]
    for side, colour in enumerate(COLOURS):
        x, y, left = (part[side, :, 0] for part in (arena.x, arena.y, share))
        alive = left > 0
        axes.scatter(x[alive], y[alive], s=20 + 130 * left[alive], color=colour, alpha=0.8)
        axes.scatter(x[~alive], y[~alive], marker="x", s=25, color=colour)


def main() -> None:
    """Play a match of the traditional AI and draw it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", type=Path)
    path = parser.parse_args().path
    arena = Arena(1)
    kinds = np.array([[ARCHETYPES.index("ranged")], [ARCHETYPES.index("aggressive")]])
    arena.begin(np.arange(1), keys_of(4, 1), kinds, np.zeros(1, np.bool_))
    degree = np.array([2, 2])[:, None, None]
    figure, panels = plt.subplots(1, len(STEPS), figsize=(9, 3.2), layout="constrained")
    for axes, step in zip(panels, STEPS, strict=True):
        while arena.step_no[0] < step and not arena.over[0]:
            arena.step(scripted(arena, degree))
        draw(axes, arena)
    figure.savefig(path, dpi=90)


if __name__ == "__main__":
    main()
