"""The built-in rewards: each formula in its parts, written once for one outcome and for columns.

Version 1 of each is the plain formula, known flaws included, so that what was scored by it can be
scored again; version 2 corrects it. `docs/rewards.md` says what each fact means.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from agents.rewards.facts import Facts, Number

Parts = dict[str, Number]
TEAM_SHARE = 0.7
TEAM = "team."
"""Before the name of a fact that tells of the team, the actor included."""


class Formula(msgspec.Struct, frozen=True):
    """``clip(scale * min(sum(parts), bound))``, the parts added in their order."""

    parts: Callable[[Facts], Parts]
    facts: tuple[str, ...]
    """What it reads."""
    bound: Callable[[Facts], Number] | None = None


def _battle_result(f: Facts) -> Number:
    return 0.5 * f.get("victory") - 0.5 * f.get("defeat")


def _loot(f: Facts) -> Number:
    return f.least(f.get("resources_gained") / 100_000, 0.2)


def _battle_1(f: Facts) -> Parts:
    own = f.get("own_casualties")
    ratio = f.get("enemy_casualties") / f.where(own > 0, own, 1.0)
    return {
        "result": _battle_result(f),
        "efficiency": f.where(own > 0, f.least(ratio / 10, 0.3), 0.0),
        "loot": _loot(f),
        "prediction": 0.1 * f.get("prediction_correct"),
    }


def _battle_2(f: Facts) -> Parts:
    ratio = (f.get("enemy_casualties") + 1) / (f.most(f.get("own_casualties"), 0.0) + 1)
    return {
        "result": _battle_result(f),
        "efficiency": f.least(ratio / 10, 0.3),
        "loot": _loot(f),
    }


def _not_positive_on_defeat(f: Facts) -> Number:
    return f.where(f.get("defeat") > 0, 0.0, 1.0)


def _waste(f: Facts) -> Number:
    return -f.get("resources_wasted") / 50_000


def _economic_1(f: Facts) -> Parts:
    before, after = f.get("production_before"), f.get("production_after")
    return {
        "growth": 0.5 * (after - before) / f.most(before, 1.0),
        "waste": _waste(f),
        "uptime": 0.3 * (f.get("queue_uptime", 0.5) - 0.8),
    }


def _economic_2(f: Facts) -> Parts:
    before = f.log1p(f.most(f.get("production_before"), 0.0))
    after = f.log1p(f.most(f.get("production_after"), 0.0))
    uptime = 0.3 * (f.get("queue_uptime") - 0.8)
    return {
        "growth": 0.5 * (after - before),
        "waste": _waste(f),
        "uptime": f.where(f.has("queue_uptime"), uptime, 0.0),
    }


def _diplomatic_1(f: Facts) -> Parts:
    return {
        "answer": 0.4 * f.get("accepted") - 0.2 * f.get("refused"),
        "trust": f.get("trust_change") / 100,
        "strategy": 0.3 * f.get("strategic_high") - 0.1 * f.get("strategic_low"),
    }


def _diplomatic_2(f: Facts) -> Parts:
    parts = _diplomatic_1(f)
    return parts | {"strategy": f.where(f.get("accepted") > 0, parts["strategy"], 0.0)}


class Archetype(msgspec.Struct, frozen=True, kw_only=True):
    """A combat archetype: weights of per-step facts and what its learner starts from."""

    weights: Mapping[str, float]
    near: tuple[float, float, float] | None = None
    """(from, to, bonus) for keeping the fact ``distance`` in that range."""
    team: bool = False
    """Whether it is paid 0.3 for its own facts and 0.7 for the team's."""
    scale: float = 1.0
    learning_rate: float | None = None
    exploration_noise: float | None = None


ARCHETYPES: Final[Mapping[str, Archetype]] = {
    "aggressive": Archetype(
        weights={"damage_dealt": 2.0, "kills": 100.0, "damage_taken": -0.5, "deaths": -50.0},
        scale=1.5,
        learning_rate=4e-4,
        exploration_noise=0.10,
    ),
    "defensive": Archetype(
        weights={
            "survival_time": 1.0,
            "damage_blocked": 1.5,
            "allies_protected": 20.0,
            "survived": 100.0,
        },
        scale=1.2,
        learning_rate=2e-4,
        exploration_noise=0.05,
    ),
    "support": Archetype(
        weights={"healing": 2.0, "effective_healing": 4.0, "buffs": 15.0, "ally_deaths": -50.0},
        team=True,
    ),
    "mage": Archetype(
        weights={
            "spell_damage": 3.0,
            "spell_kills": 80.0,
            "spell_kill_bonus": 40.0,
            "mana_efficiency": 0.5,
        },
        near=(5.0, 10.0, 10.0),
        learning_rate=3.5e-4,
        exploration_noise=0.12,
    ),
    "tank": Archetype(
        weights={"aggro": 15.0, "damage_absorbed": 2.0, "ally_deaths": -80.0, "survived": 150.0},
        team=True,
    ),
    "ranged": Archetype(
        weights={"sustained_damage": 1.5, "kiting": 8.0, "damage_taken": -1.2},
        near=(7.0, 12.0, 15.0),
        learning_rate=3e-4,
        exploration_noise=0.10,
    ),
}
"""The archetypes' numbers; a learning rate or noise of None leaves the learner's own default."""

UNIT = 100.0
"""Version 2 divides by this: a kill is about 1, and a step's damage a few hundredths."""


def _mixed(f: Facts, name: str, team: bool, alone: bool) -> Number:
    """Return an actor's fact, or 0.3 of it and 0.7 of the team's.

    Args:
        f: the facts.
        name: of the fact.
        team: whether the archetype is paid for its team.
        alone: whether an actor whose team said nothing is paid for its own fact in full.
    """
    own = f.get(name)
    if not team:
        return own
    mixed = (1 - TEAM_SHARE) * own + TEAM_SHARE * f.get(TEAM + name)
    return f.where(f.has(TEAM + name), mixed, own) if alone else mixed


def _archetype(archetype: Archetype, version: int) -> Formula:
    factor = archetype.scale if version == 1 else archetype.scale / UNIT
    corrected = version > 1

    def parts(f: Facts) -> Parts:
        found = {
            name: factor * (weight * _mixed(f, name, archetype.team, corrected))
            for name, weight in archetype.weights.items()
        }
        if corrected and "effective_healing" in found:
            healed = _mixed(f, "healing", archetype.team, corrected)
            useful = _mixed(f, "effective_healing", archetype.team, corrected)
            found["healing"] = factor * (archetype.weights["healing"] * f.least(healed, useful))
        if archetype.near is not None:
            low, high, bonus = archetype.near
            distance = f.get("distance", -1.0)
            found["distance"] = factor * f.where((distance >= low) & (distance <= high), bonus, 0.0)
        return found

    names = [*archetype.weights, *(["distance"] if archetype.near else [])]
    if archetype.team:
        names += [TEAM + name for name in archetype.weights]
    return Formula(parts, tuple(names))


_BATTLE = ("victory", "defeat", "enemy_casualties", "own_casualties", "resources_gained")
_ECONOMIC = ("production_before", "production_after", "resources_wasted", "queue_uptime")
_DIPLOMATIC = ("accepted", "refused", "trust_change", "strategic_high", "strategic_low")

FORMULAS: Final[Mapping[str, Formula]] = {
    "battle@1": Formula(_battle_1, (*_BATTLE, "prediction_correct")),
    "battle@2": Formula(_battle_2, _BATTLE, _not_positive_on_defeat),
    "economic@1": Formula(_economic_1, _ECONOMIC),
    "economic@2": Formula(_economic_2, _ECONOMIC),
    "diplomatic@1": Formula(_diplomatic_1, _DIPLOMATIC),
    "diplomatic@2": Formula(_diplomatic_2, _DIPLOMATIC),
    **{
        f"{name}@{version}": _archetype(archetype, version)
        for name, archetype in ARCHETYPES.items()
        for version in (1, 2)
    },
}


def brier(probability: float, happened: bool) -> float:
    """Return the Brier score of a forecast, in [0, 1]: 0 is right and sure.

    Whether an actor foresees its results is measured by this and not paid for: version 1 of battle
    pays for foreseeing one's own defeat. (Brier 1950, the binary half form.)
    """
    return (probability - (1.0 if happened else 0.0)) ** 2
