"""What decides the weights of a training, beside the world and the rows."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from learners.model_types.base import LearnError, ModelType, Preset, TypeSettings
from learners.model_types.registry import model_type
from learners.training.curriculum import WIN_LEVELS, CurriculumRule
from schemas.errors import from_msgspec

Positive = Annotated[int, Meta(ge=1)]
NotNegative = Annotated[int, Meta(ge=0)]

DEFAULT_RATE = 3e-4
ARCHETYPE_RATES = {"aggressive": 4e-4, "defensive": 2e-4, "mage": 3.5e-4, "ranged": 3e-4}
"""Learning rates of the archetypes where their table names one; what counts is their ratio to the
default, which multiplies a type's own rate."""


class WarmStart(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Weights that a training begins from."""

    versions: dict[str, str]
    """Archetype -> ``model@version`` whose weights its model takes."""
    frozen: list[str] = []
    """Beginnings of weights' names (``network/layer.weight``) that are left as they are."""
    layers: list[str] = []
    """Beginnings of the names that are taken; empty: all."""


class Plan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that decides the weights beside the rows and the code: equal plans, equal ones."""

    type: str
    archetypes: Annotated[list[str], Meta(min_length=1)]
    preset: Preset = "modern"
    settings: dict[str, Any]
    """The type's, whole: what is changed in a later release does not change this plan."""
    seed: NotNegative = 1
    device: Literal["cpu", "cuda"] = "cpu"
    amp: bool = False
    """Forward passes in bfloat16."""
    held_out: Annotated[float, Meta(gt=0, lt=1)] = 0.2
    """Share of the newest matches that judges."""
    judge_every: Positive = 200
    judge_matches: NotNegative = 0
    """Matches an archetype that an acting type plays to be judged; 0: its held-out loss judges."""
    patience: NotNegative = 20
    """Judgements without a gain after which a model is frozen; 0: none is."""
    min_gain: Annotated[float, Meta(ge=0)] = 0.0
    checkpoint_every: Positive = 1_000
    keep_checkpoints: Positive = 5
    memory_gb: Annotated[float, Meta(gt=0)] = 11.0
    curriculum: CurriculumRule | None = WIN_LEVELS
    """None: the world is as hard as the traditional AI is, from the first match to the last."""
    start_stage: NotNegative = 0
    rows: dict[str, Any] = {}
    """Where the rows come from, and their digest by archetype."""
    warm: WarmStart | None = None
    stop_after: Positive | None = None
    """Updates to stop after, where a training was stopped by the time it was given."""

    def digest(self) -> str:
        """Return 32 hex digits that differ whenever something does."""
        text = msgspec.json.encode(self, order="deterministic")
        return hashlib.blake2b(text, digest_size=16).hexdigest()

    @property
    def kind(self) -> ModelType:
        """The type."""
        return model_type(self.type)

    def type_settings(self) -> TypeSettings:
        """Return the type's settings.

        Raises:
            LearnError: they break a rule; the message names it.
        """
        return settings_of(self.kind, self.settings)

    @property
    def n_updates(self) -> int:
        """Updates of the whole training."""
        return self.stop_after or self.type_settings().updates

    def seeds(self) -> list[int]:
        """Return a seed for each model, which does not depend on what it is stacked with."""
        return [self.derived_seed(f"{self.type}/{name}") for name in self.archetypes]

    def rates(self) -> list[float]:
        """Return the factor [S] of each model's learning rate."""
        return [ARCHETYPE_RATES.get(a, DEFAULT_RATE) / DEFAULT_RATE for a in self.archetypes]

    def derived_seed(self, purpose: str) -> int:
        """Return a seed below 2**31 for one purpose."""
        text = f"{self.seed}/{purpose}".encode()
        return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest()) % 2**31


def settings_of(kind: ModelType, values: dict[str, Any]) -> TypeSettings:
    """Return a type's settings of plain values.

    Raises:
        LearnError: a name is unknown or a value breaks its rule.
    """
    common = {k: v for k, v in values.items() if k in TypeSettings.__struct_fields__}
    try:
        msgspec.convert(common, TypeSettings)  # a type that gives another default keeps the rule
        return msgspec.convert(values, kind.settings)
    except msgspec.ValidationError as error:
        known = from_msgspec(error, values)
        field = known.path.removeprefix("$.")
        msg = f"{kind.name}.{field} must be {known.rule}; got {known.got}"
        raise LearnError(msg) from error
