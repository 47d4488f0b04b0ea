"""What a tribe sees: 38 floats, its own first, then each rival's in the order of their seats."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from games.tribes import rules
from games.tribes.world import RIVAL_OF, Tribes

OWN: Final = ("turn", "resources", "production", "army", "villages", "rank", "marching", "build")
RIVAL: Final = (
    "army",
    "production",
    "villages",
    "resources",
    "points",
    "trusts",
    "trusted",
    "pact",
    "coming",
    "attacked",
)
N_FEATURES: Final = len(OWN) + len(RIVAL) * rules.RIVALS
LAYOUT: Final = "tribes-view@1"


def column(name: str, rival: int | None = None) -> int:
    """Return where a feature stands; `rival` counts from 0."""
    return OWN.index(name) if rival is None else len(OWN) + len(RIVAL) * rival + RIVAL.index(name)


def observe(tribes: Tribes) -> NDArray[np.float32]:
    """Return f32[W, T, D]: numbers of about 1, sizes as logarithms."""
    points = tribes.points
    turn = np.broadcast_to(tribes.turn[:, None] / rules.TURNS, points.shape)
    army, production = np.log1p(tribes.army) / 4, np.log1p(tribes.production) / 4
    villages, resources = tribes.villages / 4, np.log1p(tribes.resources) / 6
    own = [
        turn,
        resources,
        production,
        army,
        villages,
        (tribes.rank - 1) / rules.RIVALS,
        tribes.march.sum(axis=2) / 50,
        np.minimum(tribes.resources / tribes.build_cost(), 3.0) / 3,
    ]
    seats = np.arange(rules.TRIBES)
    seen = [*own]
    since = tribes.turn[:, None, None] - tribes.attacked
    for k in range(rules.RIVALS):
        rival = RIVAL_OF[:, k]
        seen += [
            army[:, rival],
            production[:, rival],
            villages[:, rival],
            resources[:, rival],
            (points[:, rival] - points) / 200,
            tribes.trust[:, seats, rival] / 100,
            tribes.trust[:, rival, seats] / 100,
            tribes.pact[:, seats, rival] / rules.PACT_TURNS,
            tribes.march[:, rival, seats] / 50,
            np.exp(-since[:, seats, rival] / 5),
        ]
    return np.stack(seen, axis=2).astype(np.float32)
