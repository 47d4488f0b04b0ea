"""AdamW over a stack: each model has its own learning rate and its own clipped gradient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

BETAS = (0.9, 0.999)
EPSILON = 1e-8


def flatten(parameters: Sequence[torch.Tensor]) -> torch.Tensor:
    """Move weights [S, ...] into one tensor [S, P] and make them views of it; returns the tensor.

    An operation on all weights of a stack is then one kernel. Weights of more than one axis beside
    S come first, then the others (`StackedAdamW` decays the former only), each in their order.
    """
    ordered = _ordered(parameters)
    n_models = ordered[0].shape[0]
    with torch.no_grad():
        flat = torch.cat([p.detach().reshape(n_models, -1) for p in ordered], 1)
        start = 0
        for parameter in ordered:
            size = parameter[0].numel()
            parameter.data = flat[:, start : start + size].view(parameter.shape)
            start += size
    return flat


def _ordered(parameters: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    return [p for p in parameters if p.dim() > 2] + [p for p in parameters if p.dim() <= 2]


class StackedAdamW:
    """AdamW (Loshchilov and Hutter 2019) for weights [S, ...]; model i of S never touches another.

    Differs from `torch.optim.AdamW`: learning rates are one a model [S], gradients are clipped to a
    norm a model, and decay skips weights [S, D] (biases, normalisations), as is usual. A stack of
    one takes the numbers of `torch.optim.AdamW` (tests compare them). The weights are made views
    of one tensor (`flatten`): move a module to its device before, not after.
    """

    def __init__(
        self,
        parameters: Sequence[torch.Tensor],
        learning_rates: Sequence[float],
        weight_decay: float = 0.0,
        grad_clip: float = 0.0,
    ) -> None:
        """Begin with zero moments; ``grad_clip`` 0 clips nothing."""
        self._parameters = _ordered(list(parameters))
        self.flat = flatten(self._parameters)
        """All weights [S, P]."""
        self._first, self._second = torch.zeros_like(self.flat), torch.zeros_like(self.flat)
        self._steps = torch.zeros((), device=self.flat.device)
        self._n_decayed = sum(p[0].numel() for p in self._parameters if p.dim() > 2)
        self._decay, self._clip = weight_decay, grad_clip
        self.set_rates(learning_rates)

    @property
    def n_steps(self) -> int:
        """Steps taken."""
        return int(self._steps)

    def set_rates(self, learning_rates: Sequence[float]) -> None:
        """Change the learning rates [S] from the next step on; 0 freezes a model."""
        self._rates = [float(rate) for rate in learning_rates]

    def step(self, loss: torch.Tensor) -> None:
        """Take a step along the gradient of ``loss``, the sum of the models' own losses [S]."""
        gradients = torch.autograd.grad(
            loss, self._parameters, allow_unused=True, materialize_grads=True
        )
        with torch.no_grad():
            n_models = len(self.flat)
            self._apply(torch.cat([g.reshape(n_models, -1) for g in gradients], 1))

    def _apply(self, gradient: torch.Tensor) -> None:
        if self._clip > 0:
            norms = torch.linalg.vector_norm(gradient, dim=1, keepdim=True)
            gradient.mul_((self._clip / (norms + 1e-6)).clamp_(max=1.0))
        self._steps += 1
        whole = (self.flat, gradient, self._first, self._second)
        if self._decay == 0.0 and len(set(self._rates)) == 1:
            self._adam(whole, self._rates[0], 0.0)
            return
        n, one = self._n_decayed, slice(None)
        parts = (
            [(one, 0.0)] if self._decay == 0.0 else [(slice(n), self._decay), (slice(n, None), 0.0)]
        )
        for i, rate in enumerate(self._rates):
            for part, decay in parts:
                self._adam(tuple(t[i, part] for t in whole), rate, decay)

    def _adam(self, tensors: tuple[torch.Tensor, ...], rate: float, decay: float) -> None:
        weight, gradient, first, second = tensors
        torch._fused_adamw_(
            [weight], [gradient], [first], [second], [], [self._steps],
            lr=rate, beta1=BETAS[0], beta2=BETAS[1], weight_decay=decay, eps=EPSILON,
            amsgrad=False, maximize=False,
        )  # fmt: skip

    def state(self) -> dict[str, torch.Tensor]:
        """Return copies of moments and step count."""
        return {
            "first": self._first.detach().cpu().clone(),
            "second": self._second.detach().cpu().clone(),
            "steps": self._steps.detach().cpu().clone(),
        }

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """Take a `state`."""
        self._first.copy_(state["first"])
        self._second.copy_(state["second"])
        self._steps.copy_(state["steps"])
