"""A formula as a function of Python for one outcome, made from its one definition.

The fold scores every decision by it. The formula is run once over symbols, which write down what is
done to them; the text is compiled. It does the formula's operations in the formula's order, so that
results are those of the other forms to the last bit, at half their cost.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from agents.rewards.facts import log1p_of_one
from agents.rewards.formulas import Formula

Function = Callable[[Mapping[str, float]], float]


class Symbol(msgspec.Struct, frozen=True):
    """An expression that stands for a number or a flag."""

    text: str

    def __add__(self, other: object) -> Symbol:
        return _joined(self, "+", other)

    def __radd__(self, other: object) -> Symbol:
        return _joined(other, "+", self)

    def __sub__(self, other: object) -> Symbol:
        return _joined(self, "-", other)

    def __rsub__(self, other: object) -> Symbol:
        return _joined(other, "-", self)

    def __mul__(self, other: object) -> Symbol:
        return _joined(self, "*", other)

    def __rmul__(self, other: object) -> Symbol:
        return _joined(other, "*", self)

    def __truediv__(self, other: object) -> Symbol:
        return _joined(self, "/", other)

    def __neg__(self) -> Symbol:
        return Symbol(f"(-{self.text})")

    def __gt__(self, other: object) -> Symbol:
        return _joined(self, ">", other)

    def __ge__(self, other: object) -> Symbol:
        return _joined(self, ">=", other)

    def __le__(self, other: object) -> Symbol:
        return _joined(self, "<=", other)

    def __and__(self, other: object) -> Symbol:
        return _joined(self, "and", other)

    def __bool__(self) -> bool:
        msg = "a formula must choose by Facts.where; got a condition of Python"
        raise TypeError(msg)


class SymbolFacts:
    """Facts that write down what a formula does with them."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._named: dict[str, Symbol] = {}

    def get(self, name: str, default: float = 0.0) -> Symbol:
        """Return a fact."""
        return self._name(f"get({name!r}, {default!r})")

    def has(self, name: str) -> Symbol:
        """Return whether it is there."""
        return Symbol(f"({name!r} in facts)")

    def where(self, flag: Symbol, then: object, other: object) -> Symbol:
        """Return one of two."""
        return Symbol(f"({_text(then)} if {flag.text} else {_text(other)})")

    def least(self, one: object, other: object) -> Symbol:
        """Return the smaller one, as `min` chooses."""
        a, b = self._name(_text(one)), self._name(_text(other))
        return Symbol(f"({b.text} if {b.text} < {a.text} else {a.text})")

    def most(self, one: object, other: object) -> Symbol:
        """Return the larger one, as `max` chooses."""
        a, b = self._name(_text(one)), self._name(_text(other))
        return Symbol(f"({b.text} if {b.text} > {a.text} else {a.text})")

    def log1p(self, value: object) -> Symbol:
        """Return log(1 + value)."""
        return self._name(f"log1p({_text(value)})")

    def _name(self, text: str) -> Symbol:
        """Return a name for what is used more than once."""
        found = self._named.get(text)
        if found is None:
            found = self._named[text] = Symbol(f"v{len(self._named)}")
            self.lines.append(f"{found.text} = {text}")
        return found


def compiled(formula: Formula, scale: float, name: str, start: float = 0.0) -> Function:
    """Return ``clip(scale * min(start + sum(parts), bound))`` as a function of facts."""
    facts = SymbolFacts()
    total: Any = start
    for part in formula.parts(facts).values():
        total = total + part
    if formula.bound is not None:
        total = facts.least(total, formula.bound(facts))
    lines = [
        "def value(facts):",
        "get = facts.get",
        *facts.lines,
        f"r = {_text(scale * total)}",
        "if r != r: return 0.0",
        "return -1.0 if r < -1.0 else 1.0 if r > 1.0 else r",
    ]
    scope: dict[str, Any] = {"log1p": log1p_of_one}
    exec(compile("\n    ".join(lines), f"<{name}>", "exec"), scope)
    function: Function = scope["value"]
    return function


def _joined(left: object, sign: str, right: object) -> Symbol:
    return Symbol(f"({_text(left)} {sign} {_text(right)})")


def _text(value: object) -> str:
    return value.text if isinstance(value, Symbol) else repr(value)
