"""LSTM layers of a stack: all four gates of all S models are one product a step."""

from __future__ import annotations

import torch
from torch import nn

from learners.stack.layers import Linear

State = tuple[torch.Tensor, torch.Tensor]
"""h and c, each [S, B, layers, H] (plain: [B, layers, H])."""


class LstmLayer(nn.Module):
    """One LSTM layer (Hochreiter and Schmidhuber 1997; gates in torch's order i, f, g, o).

    The two biases of `torch.nn.LSTM` are one here: only their sum counts.
    """

    def __init__(self, n_models: int, n_in: int, width: int) -> None:
        """Draw the weights uniform in +-1/sqrt(width of what they multiply)."""
        super().__init__()
        self.inner = Linear(n_models, n_in, 4 * width)
        self.recurrent = Linear(n_models, width, 4 * width, bias=False)
        self.width = width

    def step(self, gates: torch.Tensor, h: torch.Tensor, c: torch.Tensor) -> State:
        """Return h and c after a step; ``gates`` [..., 4 H] are the inputs' part of the gates."""
        weight = self.recurrent.weight.transpose(-2, -1)  # `mT` has no ONNX form
        multiply = torch.addmm if self.recurrent.plain else torch.baddbmm
        i, f, g, o = multiply(gates, h, weight).chunk(4, -1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        return o.sigmoid() * c.tanh(), c


class Lstm(nn.Module):
    """Layers of `LstmLayer` on top of each other."""

    def __init__(self, n_models: int, n_in: int, width: int, n_layers: int) -> None:
        """Make the layers."""
        super().__init__()
        self.layers = nn.ModuleList(
            LstmLayer(n_models, n_in if i == 0 else width, width) for i in range(n_layers)
        )
        self.width, self.n_layers = width, n_layers

    def _each(self) -> list[LstmLayer]:
        return [layer for layer in self.layers if isinstance(layer, LstmLayer)]

    def step(self, x: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        """Return outputs [S, B, H] and the state after one step of inputs [S, B, D]."""
        hs, cs = [], []
        for i, layer in enumerate(self._each()):
            h, c = layer.step(layer.inner(x), state[0][..., i, :], state[1][..., i, :])
            hs.append(h)
            cs.append(c)
            x = h
        return x, (torch.stack(hs, -2), torch.stack(cs, -2))

    def forward(self, x: torch.Tensor, state: State, first: torch.Tensor) -> torch.Tensor:
        """Return outputs [S, T, B, H] of inputs [S, T, B, D].

        The inputs' part of all steps is one product. Where ``first`` (bool [S, T, B]) is true a
        sequence begins: the state before that step is zero.
        """
        goes_on = (~first).to(x.dtype)[..., None]
        for i, layer in enumerate(self._each()):
            gates, outputs = layer.inner(x), []
            h, c = state[0][..., i, :], state[1][..., i, :]
            for t in range(x.shape[1]):
                h, c = layer.step(gates[:, t], h * goes_on[:, t], c * goes_on[:, t])
                outputs.append(h)
            x = torch.stack(outputs, 1)
        return x

    def zeros(self, n_models: int, n_rows: int) -> State:
        """Return the state [S, B, layers, H] that a sequence begins with."""
        device = next(self.parameters()).device
        empty = torch.zeros(n_models, n_rows, self.n_layers, self.width, device=device)
        return empty, empty.clone()
