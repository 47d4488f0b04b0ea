"""Adam over torch's fused kernel, without the seven seconds that `torch.optim` takes to import.

`torch.optim.Adam` imports torch's compiler when it is made, which doubles the time from a
learner's start to its first update and is of no use here. Same numbers (tests compare them).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch


class Adam:
    """Adam (Kingma and Ba 2015) with the usual constants, no weight decay."""

    def __init__(self, parameters: Sequence[torch.Tensor], learning_rate: float) -> None:
        """Begin with zero moments for each parameter."""
        self._parameters = list(parameters)
        self._learning_rate = learning_rate
        self._first = [torch.zeros_like(p) for p in self._parameters]
        self._second = [torch.zeros_like(p) for p in self._parameters]
        self._steps = [torch.zeros((), device=p.device) for p in self._parameters]

    @property
    def n_steps(self) -> int:
        """How many steps have been taken."""
        return int(self._steps[0])

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for parameter in self._parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Take one step along the gradients, which every parameter must have."""
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        torch._foreach_add_(self._steps, 1.0)
        torch._fused_adam_(
            self._parameters, gradients, self._first, self._second, [], self._steps,
            lr=self._learning_rate, beta1=0.9, beta2=0.999, weight_decay=0.0, eps=1e-8,
            amsgrad=False, maximize=False,
        )  # fmt: skip

    def state(self) -> dict[str, torch.Tensor]:
        """Return the moments and step counts by name."""
        slots = {"first": self._first, "second": self._second, "steps": self._steps}
        return {f"{name}.{i}": t for name, tensors in slots.items() for i, t in enumerate(tensors)}

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        """Take a `state`."""
        for name, tensor in self.state().items():
            tensor.copy_(state[name])
