"""What model i of a stack draws comes from ``seeds[i]`` alone: first weights, later draws."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

Module = TypeVar("Module", bound=nn.Module)


def seeded(make: Callable[[], Module], seeds: Sequence[int]) -> Module:
    """Return the stack [S, ...] of what ``make`` returns, a stack of one, under each seed.

    Weights and buffers lead with S in ``make``'s result, S being 1; torch's own generator is left
    as it was.
    """
    parts: list[Module] = []
    for seed in seeds:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            parts.append(make())
    whole = parts[0]
    weights = [dict(part.named_parameters()) for part in parts]
    buffers = [dict(part.named_buffers()) for part in parts]
    with torch.no_grad():
        for name, weight in whole.named_parameters():
            weight.data = torch.cat([w[name].data for w in weights])
        for name, buffer in whole.named_buffers():
            buffer.data = torch.cat([b[name].data for b in buffers])
    return whole


class Draws:
    """A numpy generator for each model, kept and put back bit for bit."""

    def __init__(self, seeds: Sequence[int], purpose: int = 0) -> None:
        """Begin from the seeds; another ``purpose`` draws other numbers from the same seeds."""
        self.models = [np.random.Generator(np.random.PCG64([seed, purpose])) for seed in seeds]

    def random(self, *shape: int) -> NDArray[np.float32]:
        """Return numbers [S, *shape], uniform in [0, 1)."""
        return np.stack([rng.random(shape, dtype=np.float32) for rng in self.models])

    def state(self) -> torch.Tensor:
        """Return the generators' states as bytes [N]."""
        states = [rng.bit_generator.state for rng in self.models]
        return torch.frombuffer(bytearray(json.dumps(states).encode()), dtype=torch.uint8)

    def restore(self, state: torch.Tensor) -> None:
        """Take a `state`."""
        states = json.loads(state.numpy().tobytes())
        for rng, value in zip(self.models, states, strict=True):
            rng.bit_generator.state = value
