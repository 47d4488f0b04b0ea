"""The nine model types by the names that the command line, the files and the events use."""

from __future__ import annotations

import importlib

from learners.model_types.base import LearnError, ModelType

_MODULES: dict[str, str] = {
    "combat_dqn": "learners.model_types.combat_dqn",
    "movement_ppo": "learners.model_types.movement_ppo",
    "skill_dqn": "learners.model_types.skill_dqn",
    "threat_assessment": "learners.model_types.threat_assessment",
    "team_coordination": "learners.model_types.team_coordination",
    "spatial_vit": "learners.model_types.spatial_vit",
    "temporal_transformer": "learners.model_types.temporal_transformer",
    "pattern_recognition": "learners.model_types.pattern_recognition",
    "soft_actor_critic": "learners.model_types.soft_actor_critic",
}
"""Name -> module with a constant ``TYPE``; imported when asked for."""


def names() -> list[str]:
    """Return the names of all types, in the order of the documentation."""
    return list(_MODULES)


def module_of(name: str) -> str:
    """Return the module of a type.

    Raises:
        LearnError: there is none of that name.
    """
    module = _MODULES.get(name)
    if module is None:
        msg = f"type must be one of {', '.join(names())}; got {name!r}"
        raise LearnError(msg)
    return module


def model_type(name: str) -> ModelType:
    """Return a type.

    Raises:
        LearnError: there is none of that name.
    """
    found: ModelType = importlib.import_module(module_of(name)).TYPE
    return found
