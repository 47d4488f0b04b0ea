"""skill_dqn: the state's features and the skills' facts to a value of each skill."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, cast

import torch

from learners.model_types.base import Port, Preset, TypeSettings
from learners.model_types.value_nets import SkillScores
from learners.model_types.value_settings import ValueSettings
from learners.model_types.value_stack import ValueStack
from schemas.practice import Head, Layout

CLASSIC = ValueSettings(
    hidden=(512, 512, 256, 256, 128), dropout=0.2, layer_norm=False, dueling=False, n_step=1,
    learning_rate=3e-4, discount=0.99, batch=256,
)  # fmt: skip
"""The specification leaves the sizes open: half of combat_dqn's, with the defaults of all types."""

MODERN = ValueSettings()


class SkillDqn:
    """Double DQN over skill embeddings; docs/learners/skill_dqn.md."""

    name: ClassVar[str] = "skill_dqn"
    acts: ClassVar[Head | None] = "skill"
    settings: ClassVar[type[TypeSettings]] = ValueSettings

    def preset(self, name: Preset) -> TypeSettings:
        """Return the settings of a preset."""
        return CLASSIC if name == "classic" else MODERN

    def inputs(self, layout: Layout) -> list[Port]:
        """Return observation and mask; what is known of the skills is inside the graph."""
        n_skills = layout.n_actions["skill"]
        return [Port("observation", (layout.n_features,)), Port("legal", (n_skills,), "bool")]

    def outputs(self, layout: Layout) -> list[Port]:
        """Return the skills' scores."""
        return [Port("scores", (layout.n_actions["skill"],))]

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
        d, skills = layout.n_features, layout.skills
        return ValueStack(
            own, layout, "skill", lambda: SkillScores(own, d, skills), seeds, rates, device
        )


TYPE = SkillDqn()
