"""AdamW over a stack: each model has its own learning rate and its own clipped gradient."""

from __future__ import annotations

from collections.abc import Sequence

import torch

BETAS = (0.9, 0.999)
EPSILON = 1e-8


class StackedAdamW:
    """AdamW (Loshchilov and Hutter 2019) for weights [S, ...]; model i of S never touches another.

    Differs from `torch.optim.AdamW`: learning rates are one a model [S], gradients are clipped to a
    norm a model, and decay skips weights [S, D] (biases, normalisations), as is usual. A stack of
    one takes the numbers of `torch.optim.AdamW` (tests compare them).
    """

    def __init__(
        self,
        parameters: Sequence[torch.Tensor],
        learning_rates: Sequence[float],
        weight_decay: float = 0.0,
        grad_clip: float = 0.0,
    ) -> None:
        """Begin with zero moments; ``grad_clip`` 0 clips nothing."""
        self._parameters = list(parameters)
        self._first = [torch.zeros_like(p) for p in self._parameters]
        self._second = [torch.zeros_like(p) for p in self._parameters]
        device = self._parameters[0].device
        self._rates = torch.tensor(list(learning_rates), dtype=torch.float32, device=device)
        self._decay, self._clip = weight_decay, grad_clip
        self.n_steps = 0

    def set_rates(self, learning_rates: Sequence[float]) -> None:
        """Change the learning rates [S] from the next step on; 0 freezes a model."""
        self._rates = torch.tensor(
            list(learning_rates), dtype=torch.float32, device=self._rates.device
        )

    def step(self, loss: torch.Tensor) -> None:
        """Take a step along the gradient of ``loss``, the sum of the models' own losses [S]."""
        gradients = list(
            torch.autograd.grad(loss, self._parameters, allow_unused=True, materialize_grads=True)
        )
        with torch.no_grad():
            self._apply(gradients)

    def _apply(self, gradients: list[torch.Tensor]) -> None:
        if self._clip > 0:
            self._shorten(gradients)
        self.n_steps += 1
        torch._foreach_lerp_(self._first, gradients, 1.0 - BETAS[0])
        torch._foreach_mul_(self._second, BETAS[1])
        torch._foreach_addcmul_(self._second, gradients, gradients, 1.0 - BETAS[1])
        first_scale = 1.0 / (1.0 - BETAS[0] ** self.n_steps)
        second_scale = 1.0 / (1.0 - BETAS[1] ** self.n_steps)
        below = torch._foreach_mul(self._second, second_scale)
        torch._foreach_sqrt_(below)
        torch._foreach_add_(below, EPSILON)
        steps = torch._foreach_div(self._first, below)
        for parameter, step in zip(self._parameters, steps, strict=True):
            rate = self._rates.view(-1, *[1] * (parameter.dim() - 1))
            if self._decay > 0 and parameter.dim() > 2:
                parameter.mul_(1.0 - rate * self._decay)
            parameter.addcmul_(step, rate, value=-first_scale)

    def _shorten(self, gradients: list[torch.Tensor]) -> None:
        squares = torch.stack([g.flatten(1).square().sum(1) for g in gradients]).sum(0)
        factor = (self._clip / (squares.sqrt() + 1e-6)).clamp(max=1.0)
        for gradient in gradients:
            gradient.mul_(factor.view(-1, *[1] * (gradient.dim() - 1)))

    def state(self) -> dict[str, torch.Tensor]:
        """Return copies of moments and step count."""
        tensors = {f"first.{i}": t.detach().cpu().clone() for i, t in enumerate(self._first)}
        tensors |= {f"second.{i}": t.detach().cpu().clone() for i, t in enumerate(self._second)}
        return {**tensors, "steps": torch.tensor(self.n_steps, dtype=torch.int64)}

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        """Take a `state`."""
        self.n_steps = int(state["steps"])
        for i in range(len(self._parameters)):
            self._first[i].copy_(state[f"first.{i}"])
            self._second[i].copy_(state[f"second.{i}"])
