"""What came of a step, as the facts that rewards are computed from.

`-0.005 step - 0.1 attacked + 0.2 hit + 5 kills - 0.1 died` is MAgent's own reward, which is sent
too, as `env_reward`. The engine forgets some of what an agent did in the step it died in: it is
not charged for that step or its blow, and a kill of its last step is not told. These five facts
say what the engine counted.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from games.battle.legal import STAY, column
from games.battle.world import (
    ATTACK_REWARD,
    DEAD_REWARD,
    HEALTH,
    HIT_REWARD,
    KILL_REWARD,
    N_MOVES,
    STEP_REWARD,
    Acted,
)

_OWN_HEALTH: Final = column(0, 0, 2)


def health(observations: NDArray[np.float32]) -> NDArray[np.float64]:
    """f64[n] in [0, 10]: the observers' own health points."""
    return observations[:, _OWN_HEALTH].astype(np.float64) * HEALTH


def outcome_facts(
    acted: Acted,
    actions: NDArray[np.integer[Any]],
    health_before: NDArray[np.float64],
    health_after: NDArray[np.float64],
    enemies: int,
) -> list[dict[str, float]]:
    """Returns the facts of each of the n agents that acted.

    `actions` i64[n]; healths f64[n], 0 after death; `enemies` stand after the step.
    """
    friends = int(acted.alive.sum())
    attacked = acted.alive & (actions >= N_MOVES)
    rest = acted.rewards.astype(np.float64)
    rest -= np.where(acted.alive, STEP_REWARD + ATTACK_REWARD * attacked, DEAD_REWARD)
    kills = rest > KILL_REWARD / 2
    hit = ~kills & (rest > HIT_REWARD / 2)
    facts = []
    for k in range(len(actions)):
        facts.append(
            {
                "step": float(acted.alive[k]),
                "attacked": float(attacked[k]),
                "hit": float(hit[k]),
                "kills": float(kills[k]),
                "died": float(not acted.alive[k]),
                "moved": float(acted.moved[k]),
                "hp": round(float(health_after[k]), 3),
                "hp_lost": round(float(health_before[k] - health_after[k]), 3),
                "own_alive": float(friends),
                "enemy_alive": float(enemies),
                "advantage": float(friends - enemies),
                "env_reward": round(float(acted.rewards[k]), 4),
            }
        )
    return facts


def succeeded(action: int, facts: dict[str, float]) -> bool | None:
    """Whether an action did what it was for; None for staying, which is for nothing."""
    if action == STAY:
        return None
    if action < N_MOVES:
        return facts["moved"] > 0
    return facts["hit"] + facts["kills"] > 0
