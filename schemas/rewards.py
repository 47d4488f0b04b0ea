"""How a reward is described: a weighted sum, a built-in formula by name, or a function by path."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from schemas.errors import refuse, shown

RewardName = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_]*@[1-9][0-9]*$")]
FunctionPath = Annotated[
    str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_]*$", max_length=200)
]


class Reward(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A version of a reward; exactly one of ``weights``, ``formula`` and ``function``.

    With weights it is ``clip(scale * (bias + sum(weight * fact)), -1, 1)``, where a fact that an
    outcome does not carry counts as 0.
    """

    weights: Annotated[dict[str, float], Meta(min_length=1)] | None = None
    bias: float = 0.0
    """Beside weights only."""
    formula: RewardName | None = None
    """A built-in one, by name and version; `docs/rewards.md` lists them."""
    function: FunctionPath | None = None
    """``package.module:name`` of a function that takes facts by name and returns the reward."""
    scale: Annotated[float, Meta(gt=0)] = 1.0

    def check(self, path: str) -> None:
        """Check what types cannot say.

        Raises:
            SchemaError: there is not exactly one form, or a bias beside another than weights.
        """
        given = [n for n in ("weights", "formula", "function") if getattr(self, n) is not None]
        if len(given) != 1:
            got = " and ".join(given) or "none"
            refuse(path, "one of weights, formula and function", got)
        if self.bias and self.weights is None:
            refuse(f"{path}.bias", "0 without weights", shown(self.bias))
