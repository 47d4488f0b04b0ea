"""combat_dqn: the state's features to a value of each combat action."""

from __future__ import annotations

from typing import ClassVar

import msgspec
from torch import nn

from learners.model_types import value_settings
from learners.model_types.base import Preset
from learners.model_types.value_nets import ActionScores
from learners.model_types.value_settings import ValueSettings
from learners.model_types.value_type import ValueType
from schemas.practice import Head, Layout

CLASSIC = msgspec.structs.replace(
    value_settings.CLASSIC, learning_rate=1e-4,
    hidden=(1024, 1024, 512, 512, 256, 256, 128, 128, 64, 64),
)  # fmt: skip
"""The numbers of the specification."""

MODERN = ValueSettings(
    alpha=0.0, discount=0.95, polyak=0.002, capacity=300_000, gain_weight=5.0
)  # fmt: skip
"""Drawn uniformly; docs/learners/combat_dqn.md has what was measured of other settings."""


class CombatDqn(ValueType):
    """Double DQN with prioritised replay over the combat actions; docs/learners/combat_dqn.md."""

    name: ClassVar[str] = "combat_dqn"
    acts: ClassVar[Head | None] = "combat"
    head: ClassVar[Head] = "combat"
    presets: ClassVar[dict[Preset, ValueSettings]] = {"classic": CLASSIC, "modern": MODERN}

    def network(self, settings: ValueSettings, layout: Layout) -> nn.Module:
        """Return one model's scores of the actions."""
        return ActionScores(settings, layout.n_features, layout.n_actions[self.head])


TYPE = CombatDqn()
