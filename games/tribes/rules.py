"""The numbers of the world, and its actions. `docs/games/tribes.md` tells them in words."""

from __future__ import annotations

from typing import Final

TRIBES: Final = 4
RIVALS: Final = TRIBES - 1
TURNS: Final = 60
"""A match: one turn is a day."""

WAIT: Final = 0
BUILD: Final = 1
SETTLE: Final = 2
RECRUIT: Final = 3
ATTACK: Final = 4
TRADE: Final = ATTACK + RIVALS
PACT: Final = TRADE + RIVALS
N_ACTIONS: Final = PACT + RIVALS
_NEXT: Final = [f"rival_{k}" for k in range(1, TRIBES)]
ACTION_NAMES: Final = (
    "wait",
    "build",
    "settle",
    "recruit",
    *(f"attack_{name}" for name in _NEXT),
    *(f"trade_{name}" for name in _NEXT),
    *(f"pact_{name}" for name in _NEXT),
)
"""Rivals are numbered by seat from the tribe's own, so that every seat sees the same."""

START_RESOURCES: Final = 100.0
START_PRODUCTION: Final = 10.0
START_ARMY: Final = 20.0
START_TRUST: Final = 0.0

STORE: Final = 150.0
"""What a village stores; what is made beyond it is wasted."""
BUILD_COST: Final = 40.0
BUILD_COST_EACH: Final = 3.0
"""More for each unit of production there is."""
BUILD_GAIN: Final = 3.0
SETTLE_COST: Final = 160.0
SETTLE_GAIN: Final = 6.0
RECRUIT_MOST: Final = 90.0
RECRUIT_COST: Final = 3.0
UPKEEP: Final = 0.05
"""A warrior's, each turn."""

MARCH: Final = 2
"""Turns until a march arrives: its outcome comes that much later."""
MARCH_SHARE: Final = 0.7
MARCH_LEAST: Final = 10.0
DEFENCE: Final = 1.25
WALLS: Final = 4.0
"""Defence of a village, in warriors."""
LUCK: Final = 0.1
"""A march fights with 1 +- this of its strength."""
LOSS_POWER: Final = 1.5
"""A winner loses (weaker / stronger) ** this of its own, the loser of a fight all that fought."""
LOOT_EACH: Final = 3.0
LOOT_SHARE: Final = 0.5
CAPTURE: Final = 2.0
"""A march this many times as strong as the defence takes a village, if it is not the last."""

TRADE_GIVEN: Final = 30.0
TRADE_GOT: Final = 36.0
TRADE_TRUST: Final = -30.0
"""Trust of the asked one from which a trade is accepted; a pact needs more."""
PACT_TRUST: Final = 10.0
PACT_TURNS: Final = 10
TRUST_MOST: Final = 100.0
TRUST_TRADE: Final = 8.0
TRUST_PACT: Final = 15.0
TRUST_REFUSED: Final = -4.0
TRUST_ATTACKED: Final = -40.0
TRUST_DRIFT: Final = 0.97
"""Trust goes back to nothing by this, each turn."""

POINTS_VILLAGE: Final = 100.0
POINTS_PRODUCTION: Final = 4.0
POINTS_ARMY: Final = 1.0
POINTS_RESOURCES: Final = 0.1
