"""Settings of the types that choose by values."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from learners.model_types.base import Share, TypeSettings

Method = Literal["double_dqn", "cql", "iql", "awac"]

Positive = Annotated[float, Meta(gt=0)]
NotNegative = Annotated[float, Meta(ge=0)]
Count = Annotated[int, Meta(ge=1)]


class ValueSettings(TypeSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a value learner is made of and how it learns; defaults are those of `modern`."""

    batch: Count = 128
    learning_rate: Positive = 5e-4
    updates: Count = 18_000
    practise_every: Count = 150
    method: Method = "double_dqn"
    """double_dqn where the model practises; cql, iql or awac where all there is is a log."""
    hidden: tuple[Count, ...] = (128, 128)
    layer_norm: bool = True
    dropout: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    dueling: bool = True
    n_step: Count = 3
    polyak: Annotated[float, Meta(gt=0, le=1)] = 0.005
    """Share of the way that the target network goes to the online one at every update."""
    capacity: Count = 100_000
    """Transitions a model holds."""
    kept: Annotated[int, Meta(ge=0)] = 0
    """The first rows of a log that practice never overwrites."""
    alpha: Share = 0.6
    beta: Share = 0.4
    margin: NotNegative = 0.8
    margin_weight: NotNegative = 0.0
    """Of the large margin on rows of the traditional AI (double_dqn; Hester et al. 2018)."""
    conservative: NotNegative = 0.0
    """Of CQL's term: on all rows of the method cql, on logged rows of double_dqn."""
    expectile: Annotated[float, Meta(gt=0, lt=1)] = 0.8
    temperature: Positive = 0.5
    """What an advantage is divided by (iql, awac)."""
    largest_weight: Positive = 20.0
    """The most that one row of a log counts for the policy (iql, awac)."""
    epsilon_start: Share = 0.3
    epsilon_end: Share = 0.02
    epsilon_updates: Count = 3_000
    """Updates over which the share of random choices in practice falls."""
    practice_steps: Count = 100
    """Steps of the world in one call of `practise`."""
    result_weight: NotNegative = 1.0
    """What a won match adds to each actor's last reward while practising, and a lost one takes."""
    reward_weight: NotNegative = 0.1
    """What the archetype's own rewards count."""
    gain_weight: NotNegative = 0.0
    """What an actor's own part in its pack's lead counts, step by step, while practising."""


CLASSIC = ValueSettings(
    dropout=0.2, layer_norm=False, dueling=False, n_step=1, batch=256, updates=2_000,
    practise_every=100, practice_steps=64, epsilon_end=0.05, epsilon_updates=2_000,
    result_weight=0.0, reward_weight=1.0,
)  # fmt: skip
"""What the classic presets have in common: the types' usual numbers, rewards as they are."""
