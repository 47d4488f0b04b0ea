"""AdamW over a stack: each model has its own learning rate and its own clipped gradient."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

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
    one takes the numbers of `torch.optim.AdamW` (tests compare them).

    The weights are made views of one tensor (`flatten`): a module goes to its device before, values
    are copied into its weights in place, and a weight has one optimiser.
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
        self._factors = [1.0] * len(self.flat)
        self._decay, self._clip = weight_decay, grad_clip
        self._every, self._n_gathered = 1, 0
        self._gathered = torch.zeros(0)
        self._frozen: set[int] = set()
        self._ranges = self._find_ranges()
        self.n_steps = 0
        self.set_rates(learning_rates)

    def set_rates(self, learning_rates: Sequence[float]) -> None:
        """Change the learning rates [S] from the next step on, as a schedule does."""
        self._rates = [float(rate) for rate in learning_rates]

    def scale_rates(self, factors: Sequence[float]) -> None:
        """Multiply the learning rates [S], later ones too; 0 freezes a model for good."""
        self._factors = [a * float(b) for a, b in zip(self._factors, factors, strict=True)]

    def freeze(self, parameters: Iterable[torch.Tensor]) -> None:
        """Leave these weights as they are in all models from the next step on."""
        wanted = {id(p) for p in parameters}
        self._frozen |= {i for i, p in enumerate(self._parameters) if id(p) in wanted}
        self._ranges = self._find_ranges()

    def _find_ranges(self) -> list[tuple[int, int, float]]:
        """Return the runs of columns that are stepped, each with its decay."""
        ranges: list[tuple[int, int, float]] = []
        start = 0
        for i, parameter in enumerate(self._parameters):
            end = start + parameter[0].numel()
            decay = self._decay if parameter.dim() > 2 else 0.0
            if i not in self._frozen:
                if ranges and ranges[-1][1:] == (start, decay):
                    start = ranges.pop()[0]
                ranges.append((start, end, decay))
            start = end
        return ranges

    def accumulate(self, n_losses: int) -> None:
        """Average the gradients of so many losses into one step; set before the first `step`."""
        self._every = n_losses
        self._gathered = torch.zeros_like(self.flat if n_losses > 1 else self._gathered)

    def step(self, loss: torch.Tensor) -> None:
        """Take a step along the gradient of ``loss``, the sum of the models' own losses [S].

        With `accumulate`, only the last of so many calls takes the step.
        """
        gradients = torch.autograd.grad(
            loss, self._parameters, allow_unused=True, materialize_grads=True
        )
        with torch.no_grad():
            n_models = len(self.flat)
            gradient = torch.cat([g.reshape(n_models, -1) for g in gradients], 1)
            if self._every == 1:
                self._apply(gradient)
                return
            self._gathered.add_(gradient, alpha=1.0 / self._every)
            self._n_gathered += 1
            if self._n_gathered == self._every:
                self._apply(self._gathered.clone())
                self._gathered.zero_()
                self._n_gathered = 0

    def _apply(self, gradient: torch.Tensor) -> None:
        if self._clip > 0:
            norms = torch.linalg.vector_norm(gradient, dim=1, keepdim=True)
            gradient.mul_((self._clip / (norms + 1e-6)).clamp_(max=1.0))
        self.n_steps += 1
        self._steps.fill_(self.n_steps)
        whole = (self.flat, gradient, self._first, self._second)
        rates = [a * b for a, b in zip(self._rates, self._factors, strict=True)]
        if len(set(rates)) == 1 and self._ranges == [(0, self.flat.shape[1], 0.0)]:
            self._adam(whole, rates[0], 0.0)
            return
        for i, rate in enumerate(rates):
            for start, end, decay in self._ranges:
                self._adam(tuple(t[i, start:end] for t in whole), rate, decay)

    def _adam(self, tensors: tuple[torch.Tensor, ...], rate: float, decay: float) -> None:
        weight, gradient, first, second = tensors
        torch._fused_adamw_(
            [weight], [gradient], [first], [second], [], [self._steps],
            lr=rate, beta1=BETAS[0], beta2=BETAS[1], weight_decay=decay, eps=EPSILON,
            amsgrad=False, maximize=False,
        )  # fmt: skip

    def forget(self) -> None:
        """Begin anew with zero moments, where gradients of another scale are to come.

        Second moments remember a thousand steps: large gradients of before make steps too small.
        """
        self._first.zero_()
        self._second.zero_()
        self.n_steps = 0

    def state(self) -> dict[str, torch.Tensor]:
        """Return copies of moments, gathered gradients, rates and counts."""
        kept = {"first": self._first, "second": self._second, "gathered": self._gathered}
        return {
            **{name: tensor.detach().cpu().clone() for name, tensor in kept.items()},
            "steps": torch.tensor([self.n_steps, self._n_gathered], dtype=torch.int64),
            "rates": torch.tensor(self._rates, dtype=torch.float64),
            "factors": torch.tensor(self._factors, dtype=torch.float64),
        }

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """Take a `state`; what is frozen or accumulated was set before, as at the beginning."""
        self.n_steps, self._n_gathered = (int(n) for n in state["steps"])
        self._rates, self._factors = state["rates"].tolist(), state["factors"].tolist()
        self._first.copy_(state["first"])
        self._second.copy_(state["second"])
        self._gathered.copy_(state["gathered"])
