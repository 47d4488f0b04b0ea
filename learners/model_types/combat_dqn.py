"""combat_dqn: the state's features to a value of each combat action."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, cast

import torch

from learners.model_types.base import Port, Preset, TypeSettings
from learners.model_types.value_nets import ActionScores
from learners.model_types.value_settings import ValueSettings
from learners.model_types.value_stack import ValueStack
from schemas.practice import Head, Layout

CLASSIC = ValueSettings(
    hidden=(1024, 1024, 512, 512, 256, 256, 128, 128, 64, 64), dropout=0.2, layer_norm=False,
    dueling=False, n_step=1, learning_rate=1e-4, discount=0.99, batch=256,
)  # fmt: skip
"""The numbers of the specification."""

MODERN = ValueSettings()


class CombatDqn:
    """Double DQN with prioritised replay over the combat actions; docs/learners/combat_dqn.md."""

    name: ClassVar[str] = "combat_dqn"
    acts: ClassVar[Head | None] = "combat"
    settings: ClassVar[type[TypeSettings]] = ValueSettings

    def preset(self, name: Preset) -> TypeSettings:
        """Return the settings of a preset."""
        return CLASSIC if name == "classic" else MODERN

    def inputs(self, layout: Layout) -> list[Port]:
        """Return observation and mask."""
        n_actions = layout.n_actions["combat"]
        return [Port("observation", (layout.n_features,)), Port("legal", (n_actions,), "bool")]

    def outputs(self, layout: Layout) -> list[Port]:
        """Return the actions' scores."""
        return [Port("scores", (layout.n_actions["combat"],))]

    def make(
        self,
        settings: TypeSettings,
        layout: Layout,
        seeds: Sequence[int],
        rates: Sequence[float],
        device: torch.device,
    ) -> ValueStack:
        """Return a new stack."""
        own = cast(ValueSettings, settings)
        d, a = layout.n_features, layout.n_actions["combat"]
        return ValueStack(
            own, layout, "combat", lambda: ActionScores(own, d, a), seeds, rates, device
        )


TYPE = CombatDqn()
