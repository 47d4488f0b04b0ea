"""A described reward made ready to score: one outcome at a time, or columns of them."""

from __future__ import annotations

import importlib
import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from agents.rewards.compiled import compiled
from agents.rewards.fact_columns import FactColumns
from agents.rewards.facts import OneFacts, clip, clip_columns
from agents.rewards.formulas import FORMULAS, Formula
from schemas.errors import refuse, shown
from schemas.game import Game
from schemas.rewards import Reward

Columns = NDArray[np.float64]


class Rule(Protocol):
    """Scores outcomes; both forms give equal results."""

    def value(self, facts: Mapping[str, float]) -> float:
        """Return the reward of one outcome, in [-1, 1]."""
        ...

    def parts(self, facts: Mapping[str, float]) -> dict[str, float]:
        """Return what it is made of, by name, scaled but not clipped."""
        ...

    def columns(self, facts: FactColumns) -> Columns:
        """Return the rewards of N outcomes, float64 [N]."""
        ...

    def part_columns(self, facts: FactColumns) -> dict[str, Columns]:
        """Return what they are made of, by name, float64 [N] each."""
        ...


class WeightedRule:
    """``clip(scale * (bias + sum(weight * fact)))``, added in the description's order."""

    def __init__(self, reward: Reward, weights: Mapping[str, float]) -> None:
        self._weights = tuple(weights.items())
        self._bias, self._scale = reward.bias, reward.scale
        sum_ = Formula(lambda f: {n: w * f.get(n) for n, w in self._weights}, tuple(weights))
        self.value = compiled(sum_, reward.scale, "weights", reward.bias)

    def parts(self, facts: Mapping[str, float]) -> dict[str, float]:
        """Return each fact's part."""
        scale = self._scale
        found = {name: scale * (w * facts.get(name, 0.0)) for name, w in self._weights}
        return found | ({"bias": scale * self._bias} if self._bias else {})

    def columns(self, facts: FactColumns) -> Columns:
        """Return the rewards of N outcomes."""
        values = np.empty(facts.n)
        with np.errstate(all="ignore"):
            for at, block in facts.blocks():
                total = np.full(block.n, self._bias)
                for name, weight in self._weights:
                    total += weight * block.get(name)
                values[at] = clip_columns(self._scale * total)
        return values

    def part_columns(self, facts: FactColumns) -> dict[str, Columns]:
        """Return each fact's part."""
        scale = self._scale
        with np.errstate(all="ignore"):
            found = {name: scale * (w * facts.get(name)) for name, w in self._weights}
        return found | ({"bias": np.full(facts.n, scale * self._bias)} if self._bias else {})


class FormulaRule:
    """``clip(scale * min(sum(parts), bound))`` of a built-in formula."""

    def __init__(self, formula: Formula, scale: float, name: str) -> None:
        self._formula, self._scale = formula, scale
        self.value = compiled(formula, scale, name)

    def parts(self, facts: Mapping[str, float]) -> dict[str, float]:
        """Return the formula's parts."""
        parts = self._formula.parts(OneFacts(facts))
        return {name: float(self._scale * part) for name, part in parts.items()}

    def columns(self, facts: FactColumns) -> Columns:
        """Return the rewards of N outcomes."""
        values = np.empty(facts.n)
        with np.errstate(all="ignore"):
            for at, block in facts.blocks():
                total = np.zeros(block.n)
                for part in self._formula.parts(block).values():
                    total += part
                if self._formula.bound is not None:
                    total = np.minimum(total, self._formula.bound(block))
                values[at] = clip_columns(self._scale * total)
        return values

    def part_columns(self, facts: FactColumns) -> dict[str, Columns]:
        """Return the formula's parts."""
        with np.errstate(all="ignore"):
            parts = self._formula.parts(facts)
            return {name: np.asarray(self._scale * part) for name, part in parts.items()}


class CustomRule:
    """``clip(scale * function(facts))`` of a user's own function.

    It must depend on its facts alone: history is scored again with it, and must come out the same.
    """

    def __init__(self, function: Callable[[Mapping[str, float]], Any], reward: Reward) -> None:
        self._function, self._path, self._scale = function, reward.function, reward.scale

    def value(self, facts: Mapping[str, float]) -> float:
        """Return the reward of one outcome.

        Raises:
            SchemaError: the function fails on these facts, or returns no finite number.
        """
        rule = f"facts that {self._path} can score"
        try:
            value = float(self._function(facts))
        except Exception as error:  # a user's function may fail in any way, for this outcome only
            refuse("$.facts", rule, f"{type(error).__name__}: {error}")
        if not math.isfinite(value):
            refuse("$.facts", rule, repr(value))
        return clip(self._scale * value)

    def parts(self, facts: Mapping[str, float]) -> dict[str, float]:
        """Return the one part that is known."""
        return {"custom": self.value(facts)}

    def columns(self, facts: FactColumns) -> Columns:
        """Return the rewards of N outcomes, one call each."""
        return np.array([self.value(row) for row in facts.rows()], np.float64)

    def part_columns(self, facts: FactColumns) -> dict[str, Columns]:
        """Return the one part that is known."""
        return {"custom": self.columns(facts)}


def compile_reward(reward: Reward, path: str = "$.reward") -> Rule:
    """Return the rule of a described reward.

    Raises:
        SchemaError: there is no such formula or function; `path` names the reward in the message.
    """
    if reward.weights is not None:
        return WeightedRule(reward, reward.weights)
    if reward.formula is not None:
        formula = FORMULAS.get(reward.formula)
        if formula is None:
            known = ", ".join(sorted(FORMULAS))
            refuse(f"{path}.formula", f"one of {known}", shown(reward.formula))
        return FormulaRule(formula, reward.scale, reward.formula)
    return CustomRule(_function(reward.function or "", f"{path}.function"), reward)


def compile_rewards(game: Game) -> dict[str, Rule]:
    """Return the rules of a game's rewards by name; raises as `compile_reward` does."""
    return {
        name: compile_reward(reward, f"$.rewards.{name}") for name, reward in game.rewards.items()
    }


def has_custom(rules: Mapping[str, Rule]) -> bool:
    """Return whether a user's function is among the rules."""
    return any(isinstance(rule, CustomRule) for rule in rules.values())


def _function(path: str, field: str) -> Callable[[Mapping[str, float]], Any]:
    module, _, name = path.partition(":")
    rule = "package.module:name of a function of one mapping of facts"
    try:
        found = getattr(importlib.import_module(module), name)
    except Exception as error:  # importing runs a user's code
        refuse(field, rule, f"{path} ({type(error).__name__}: {error})")
    if not inspect.isfunction(found):
        refuse(field, rule, f"{path}, a {type(found).__name__}")
    if inspect.iscoroutinefunction(found) or inspect.isgeneratorfunction(found):
        refuse(field, rule, f"{path}, which returns no number at once")
    try:
        inspect.signature(found).bind({})
    except TypeError as error:
        refuse(field, rule, f"{path}{inspect.signature(found)} ({error})")
    function: Callable[[Mapping[str, float]], Any] = found
    return function
