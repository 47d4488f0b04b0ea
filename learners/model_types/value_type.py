"""What the types that score choices have in common: ports, presets, and how a stack is made."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import nn

from learners.model_types.base import Port, Preset, TypeSettings, checked
from learners.model_types.value_settings import ValueSettings
from learners.model_types.value_stack import ValueStack
from schemas.practice import Head, Layout


class ValueType(abc.ABC):
    """A model type of one head of choices; a subclass names the head and draws the network."""

    name: ClassVar[str]
    acts: ClassVar[Head | None]
    settings: ClassVar[type[TypeSettings]] = ValueSettings
    head: ClassVar[Head]
    presets: ClassVar[dict[Preset, ValueSettings]]

    @abc.abstractmethod
    def network(self, settings: ValueSettings, layout: Layout) -> nn.Module:
        """Return the scores of one model (S = 1), features [1, B, D] -> [1, B, A]."""

    def preset(self, name: Preset) -> TypeSettings:
        """Return the settings of a preset."""
        return self.presets[name]

    def inputs(self, layout: Layout) -> list[Port]:
        """Return observation and mask."""
        n_choices = layout.n_actions[self.head]
        return [Port("observation", (layout.n_features,)), Port("legal", (n_choices,), "bool")]

    def outputs(self, layout: Layout) -> list[Port]:
        """Return the choices' scores."""
        return [Port("scores", (layout.n_actions[self.head],))]

    def make(
        self,
        settings: TypeSettings,
        layout: Layout,
        seeds: Sequence[int],
        rates: Sequence[float],
        device: torch.device,
    ) -> ValueStack:
        """Return a new stack."""
        own = checked(settings, ValueSettings)
        return ValueStack(
            own, layout, self.head, lambda: self.network(own, layout), seeds, rates, device
        )
