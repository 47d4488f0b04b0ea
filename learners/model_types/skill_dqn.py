"""skill_dqn: the state's features and the skills' facts to a value of each skill."""

from __future__ import annotations

from typing import ClassVar

import msgspec
from torch import nn

from learners.model_types import value_settings
from learners.model_types.base import Preset
from learners.model_types.value_nets import SkillScores
from learners.model_types.value_settings import ValueSettings
from learners.model_types.value_type import ValueType
from schemas.practice import Head, Layout

CLASSIC = msgspec.structs.replace(
    value_settings.CLASSIC, hidden=(512, 512, 256, 256, 128), learning_rate=3e-4,
)  # fmt: skip
"""The specification leaves the sizes open: half of combat_dqn's, with the defaults of all types."""

MODERN = ValueSettings(hidden=(128, 64), batch=96, updates=22_000, practise_every=100)


class SkillDqn(ValueType):
    """Double DQN over skill embeddings; docs/learners/skill_dqn.md.

    What is known of the skills is inside the graph, not among its inputs.
    """

    name: ClassVar[str] = "skill_dqn"
    acts: ClassVar[Head | None] = "skill"
    head: ClassVar[Head] = "skill"
    presets: ClassVar[dict[Preset, ValueSettings]] = {"classic": CLASSIC, "modern": MODERN}

    def network(self, settings: ValueSettings, layout: Layout) -> nn.Module:
        """Return one model's scores of the skills."""
        return SkillScores(settings, layout.n_features, layout.skills)


TYPE = SkillDqn()
