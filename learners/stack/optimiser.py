"""AdamW over a stack: each model has its own learning rate and its own clipped gradient."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

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
        self._factors = torch.ones_like(self._rates)
        self._decay, self._clip = weight_decay, grad_clip
        self._every, self._n_gathered = 1, 0
        self._gathered: list[torch.Tensor] = []
        self._frozen: set[int] = set()
        self.n_steps = 0

    def set_rates(self, learning_rates: Sequence[float]) -> None:
        """Change the learning rates [S] from the next step on, as a schedule does."""
        self._rates = torch.tensor(
            list(learning_rates), dtype=torch.float32, device=self._rates.device
        )

    def scale_rates(self, factors: Sequence[float]) -> None:
        """Multiply the learning rates [S], later ones too; 0 freezes a model for good."""
        self._factors *= torch.tensor(list(factors), dtype=torch.float32, device=self._rates.device)

    def freeze(self, parameters: Iterable[torch.Tensor]) -> None:
        """Leave these weights as they are in all models from the next step on."""
        wanted = {id(p) for p in parameters}
        self._frozen |= {i for i, p in enumerate(self._parameters) if id(p) in wanted}

    def accumulate(self, n_losses: int) -> None:
        """Average the gradients of so many losses into one step; set before the first `step`."""
        self._every = n_losses
        if n_losses > 1:
            self._gathered = [torch.zeros_like(p) for p in self._parameters]

    def step(self, loss: torch.Tensor) -> None:
        """Take a step along the gradient of ``loss``, the sum of the models' own losses [S].

        With `accumulate`, only the last of so many calls takes the step.
        """
        gradients = list(
            torch.autograd.grad(loss, self._parameters, allow_unused=True, materialize_grads=True)
        )
        with torch.no_grad():
            if self._every == 1:
                self._apply(gradients)
                return
            torch._foreach_add_(self._gathered, gradients, alpha=1.0 / self._every)
            self._n_gathered += 1
            if self._n_gathered == self._every:
                self._apply([g.clone() for g in self._gathered])
                torch._foreach_zero_(self._gathered)
                self._n_gathered = 0

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
        rates = self._rates * self._factors
        for i, (parameter, step) in enumerate(zip(self._parameters, steps, strict=True)):
            if i in self._frozen:
                continue
            rate = rates.view(-1, *[1] * (parameter.dim() - 1))
            if self._decay > 0 and parameter.dim() > 2:
                parameter.mul_(1.0 - rate * self._decay)
            parameter.addcmul_(step, rate, value=-first_scale)

    def _shorten(self, gradients: list[torch.Tensor]) -> None:
        squares = torch.stack([g.flatten(1).square().sum(1) for g in gradients]).sum(0)
        factor = (self._clip / (squares.sqrt() + 1e-6)).clamp(max=1.0)
        for gradient in gradients:
            gradient.mul_(factor.view(-1, *[1] * (gradient.dim() - 1)))

    def state(self) -> dict[str, torch.Tensor]:
        """Return copies of moments, gathered gradients, rates and counts."""
        kept = {"first": self._first, "second": self._second, "gathered": self._gathered}
        tensors = {
            f"{name}.{i}": t.detach().cpu().clone()
            for name, some in kept.items()
            for i, t in enumerate(some)
        }
        counts = torch.tensor([self.n_steps, self._n_gathered], dtype=torch.int64)
        rates = {"rates": self._rates.cpu().clone(), "factors": self._factors.cpu().clone()}
        return {**tensors, **rates, "steps": counts}

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """Take a `state`; what is frozen or accumulated was set before, as at the beginning."""
        self.n_steps, self._n_gathered = (int(n) for n in state["steps"])
        self._rates.copy_(state["rates"])
        self._factors.copy_(state["factors"])
        kept = {"first": self._first, "second": self._second, "gathered": self._gathered}
        for name, some in kept.items():
            for i, tensor in enumerate(some):
                tensor.copy_(state[f"{name}.{i}"])
