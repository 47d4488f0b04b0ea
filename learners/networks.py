"""Networks that value actions, and the graph around them that games run: normaliser and mask."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

from learners.model_types.base import Port
from learners.settings import Shape
from schemas.errors import SchemaError
from schemas.game import Learner

ILLEGAL_Q = -1e9
"""Value of an illegal action: below every real value, finite in float32."""

KERNEL = 3
FIRST_STRIDE = 2
"""The first convolution halves the grid: 3 times fewer operations an update than halving in the
second, for the same win rate in the battle game (docs/learners.md)."""


_SHAPE_PATH = "$.observation.shape"


class Dueling(nn.Module):
    """Q = V + A - mean(A) (Wang et al. 2016), [B, H] -> [B, A]."""

    def __init__(self, width: int, n_actions: int) -> None:
        """Make both heads."""
        super().__init__()
        self.value = nn.Linear(width, 1)
        self.advantage = nn.Linear(width, n_actions)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return the values [B, A] of every action."""
        advantage = self.advantage(features)
        value: torch.Tensor = self.value(features)
        result: torch.Tensor = value + advantage - advantage.mean(1, keepdim=True)
        return result


def _dense(width: int, hidden: list[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for n in hidden:
        layers += [nn.Linear(width, n), nn.ReLU()]
        width = n
    return nn.Sequential(*layers)


class MlpNetwork(nn.Module):
    """Fully connected layers and a dueling head, flat [B, D] -> [B, A]."""

    def __init__(self, shape: Shape, learner: Learner) -> None:
        """Make the layers ``learner.hidden``."""
        super().__init__()
        self.dense = _dense(shape.size, list(learner.hidden))
        self.head = Dueling(learner.hidden[-1], shape.n_actions)

    def forward(self, observation: torch.Tensor) -> torch.Tensor:
        """Return values [B, A]."""
        values: torch.Tensor = self.head(self.dense(observation))
        return values


class ConvNetwork(nn.Module):
    """Convolutions over a grid (height, width, channels), then as `MlpNetwork`."""

    def __init__(self, shape: Shape, learner: Learner) -> None:
        """Make the convolutions ``learner.channels`` and the layers ``learner.hidden``.

        Raises:
            SchemaError: the observation is no grid, or too small for so many convolutions.
        """
        super().__init__()
        if len(shape.observation) != 3:
            rule = "(height, width, channels) for a conv network"
            raise SchemaError(_SHAPE_PATH, rule, repr(shape.observation))
        self.height, self.width, self.depth = shape.observation
        height, width, depth = shape.observation
        self.convolutions = nn.ModuleList()
        for i, n in enumerate(learner.channels):
            stride = FIRST_STRIDE if i == 0 else 1
            self.convolutions.append(nn.Conv2d(depth, n, KERNEL, stride=stride))
            height, width = ((side - KERNEL) // stride + 1 for side in (height, width))
            depth = n
        if min(height, width) < 1:
            rule = f"large enough for {len(learner.channels)} convolutions"
            raise SchemaError(_SHAPE_PATH, rule, repr(shape.observation))
        self.dense = _dense(height * width * depth, list(learner.hidden))
        self.head = Dueling(learner.hidden[-1], shape.n_actions)

    def forward(self, observation: torch.Tensor) -> torch.Tensor:
        """Return values [B, A] of flat observations [B, height * width * channels]."""
        grid = observation.reshape(-1, self.height, self.width, self.depth).permute(0, 3, 1, 2)
        for convolution in self.convolutions:
            grid = functional.relu(convolution(grid))
        values: torch.Tensor = self.head(self.dense(grid.flatten(1)))
        return values


NETWORKS: dict[str, Callable[[Shape, Learner], nn.Module]] = {
    "conv": ConvNetwork,
    "mlp": MlpNetwork,
}
"""Every network by the name the game description uses."""


class ValueGraph(nn.Module):
    """What is trained and exported: normaliser, network, mask.

    The normaliser is a pair of buffers, so it travels with the weights and into the ONNX graph.
    """

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, shape: Shape, learner: Learner) -> None:
        """Make a network with an identity normaliser."""
        super().__init__()
        self.network = NETWORKS[learner.network](shape, learner)
        self.normalise = learner.normalise
        self.register_buffer("mean", torch.zeros(shape.size))
        self.register_buffer("scale", torch.ones(shape.size))

    def values(self, observation: torch.Tensor) -> torch.Tensor:
        """Return the values [B, A] of all actions, legal or not."""
        if self.normalise:
            observation = (observation - self.mean) * self.scale
        values: torch.Tensor = self.network(observation)
        return values

    def forward(self, observation: torch.Tensor, legal: torch.Tensor) -> torch.Tensor:
        """Return values [B, A], illegal actions at `ILLEGAL_Q`; ``legal`` is bool [B, A]."""
        return mask_illegal(self.values(observation), legal)


def value_ports(shape: Shape) -> tuple[list[Port], list[Port]]:
    """Return the inputs and outputs of an exported `ValueGraph`."""
    n = shape.n_actions
    legal = Port("legal", (n,), "bool")
    return [Port("observation", (shape.size,)), legal], [Port("q", (n,))]


def mask_illegal(values: torch.Tensor, legal: torch.Tensor) -> torch.Tensor:
    """Return values [B, A] with `ILLEGAL_Q` where ``legal`` [B, A] is false."""
    return torch.where(legal, values, torch.full_like(values, ILLEGAL_Q))
