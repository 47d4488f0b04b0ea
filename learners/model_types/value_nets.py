"""Networks that score choices, and the graph around them that games run."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn

from learners.model_types.value_settings import ValueSettings
from learners.networks import mask_illegal
from learners.stack.layers import Linear
from learners.stack.mlp import Mlp
from learners.stack.normaliser import Normaliser
from schemas.practice import Floats

Keep = Sequence[torch.Tensor]


class ActionScores(nn.Module):
    """A score of each of A actions, [S, B, D] -> [S, B, A]; dueling is Wang et al. 2016."""

    def __init__(self, settings: ValueSettings, n_features: int, n_actions: int) -> None:
        """Make one model's layers (S = 1)."""
        super().__init__()
        self.dueling = settings.dueling
        n_out = n_actions + int(settings.dueling)
        self.body = Mlp(1, n_features, settings.hidden, n_out, layer_norm=settings.layer_norm)

    def forward(self, features: torch.Tensor, keep: Keep = ()) -> torch.Tensor:
        """Return the scores."""
        scores: torch.Tensor = self.body(features, keep)
        if not self.dueling:
            return scores
        advantage = scores[..., 1:]
        return scores[..., :1] + advantage - advantage.mean(-1, keepdim=True)


class SkillScores(nn.Module):
    """A score of each of K skills from the state and from what is known of the skill.

    ``score(s, k) = w . ReLU(f(s) + g(facts of k))``: what is learned of a skill serves its like.
    Dueling adds a value of the state to what a skill's score differs from their mean.
    """

    skills: torch.Tensor

    def __init__(self, settings: ValueSettings, n_features: int, skills: Floats) -> None:
        """Make one model's layers (S = 1) and keep the facts [K, E], each column scaled to 1."""
        super().__init__()
        *before, width = settings.hidden
        norm = settings.layer_norm
        self.dueling = settings.dueling
        n_out = width + int(settings.dueling)
        self.body = Mlp(1, n_features, before, n_out, layer_norm=norm)
        self.embedding = Mlp(1, skills.shape[1], [width // 2], width, layer_norm=norm)
        self.score = Linear(1, width, 1)
        largest = np.maximum(np.abs(skills).max(0), 1e-6)
        self.register_buffer("skills", torch.from_numpy(skills / largest).float()[None])

    def forward(self, features: torch.Tensor, keep: Keep = ()) -> torch.Tensor:
        """Return the scores [S, B, K]; ``keep`` is for the body's hidden layers."""
        state: torch.Tensor = self.body(features, keep[: len(self.body.layers) - 1])
        skill: torch.Tensor = self.embedding(self.skills)
        if not self.score.plain:
            skill = skill[:, None]
        first = int(self.dueling)
        both = torch.relu(state[..., None, first:] + skill)
        scores: torch.Tensor = self.score(both)[..., 0]
        if not self.dueling:
            return scores
        return state[..., :1] + scores - scores.mean(-1, keepdim=True)


class StateValue(nn.Module):
    """A value of the state, [S, B, D] -> [S, B]."""

    def __init__(self, settings: ValueSettings, n_features: int) -> None:
        """Make one model's layers (S = 1)."""
        super().__init__()
        self.body = Mlp(1, n_features, settings.hidden, 1, layer_norm=settings.layer_norm)

    def forward(self, features: torch.Tensor, keep: Keep = ()) -> torch.Tensor:
        """Return the values."""
        values: torch.Tensor = self.body(features, keep)
        return values[..., 0]


class Twin(nn.Module):
    """Two critics; the smaller of their scores is the less wishful (Fujimoto et al. 2018)."""

    def __init__(self, make: Callable[[], nn.Module]) -> None:
        """Make both."""
        super().__init__()
        self.one, self.two = make(), make()

    def both(self, features: torch.Tensor, keep: Keep = ()) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the scores of each."""
        return self.one(features, keep), self.two(features, keep)

    def forward(self, features: torch.Tensor, keep: Keep = ()) -> torch.Tensor:
        """Return the smaller scores."""
        return torch.minimum(*self.both(features, keep))


class ScoreGraph(nn.Module):
    """What is exported of one model: normaliser, scores, mask."""

    def __init__(self, normaliser: Normaliser, scores: nn.Module) -> None:
        """Take the plain forms of one model's parts."""
        super().__init__()
        self.normaliser, self.scores = normaliser, scores

    def forward(self, observation: torch.Tensor, legal: torch.Tensor) -> tuple[torch.Tensor]:
        """Return scores [B, A], `ILLEGAL_Q` where ``legal`` [B, A] is false."""
        return (mask_illegal(self.scores(self.normaliser(observation)), legal),)
