"""Small settings of every registered type, with which it learns the toy world in seconds."""

from __future__ import annotations

import msgspec

from learners.model_types.base import TypeSettings
from learners.model_types.value_settings import ValueSettings
from tests.learners.model_types.predicting import SMALL as PREDICTING
from tests.learners.model_types.test_policies import SMALL as POLICIES

_VALUES = ValueSettings(
    hidden=(32, 32), batch=32, learning_rate=3e-3, polyak=0.02, discount=0.9, capacity=4_000,
    practice_matches=2, practice_steps=24, practise_every=30, epsilon_updates=100, updates=240,
    result_weight=0.0, reward_weight=1.0, epsilon_end=0.05,
)  # fmt: skip

SMALL: dict[str, TypeSettings] = {
    "combat_dqn": _VALUES,
    "skill_dqn": _VALUES,
    **{
        name: msgspec.structs.replace(settings, updates=400 if "actor" in name else 150)
        for name, settings in POLICIES.items()
    },
    **PREDICTING,
}
