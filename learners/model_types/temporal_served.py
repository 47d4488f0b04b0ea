"""`temporal_transformer` as it is served: what hangs on weights alone is worked out at the export.

A decision asks one step, and a call of a small graph costs what its nodes cost. Here a memory's
steps are normalised once for all layers and meet the queries as they are: the projections of keys,
values and distances are folded into the queries' side, so that nothing is projected for each step
remembered (as Dai et al. 2019, section 3.3, do for positions). Sums are the same in another order.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional

from learners.stack.attention import MASKED, RelativeBlock
from learners.stack.layers import Linear

if TYPE_CHECKING:
    from learners.model_types.temporal_transformer import TemporalNet


def _heads(weight: torch.Tensor, n_heads: int) -> torch.Tensor:
    """Return the rows of W [W, D] by head, [H, W / H, D]."""
    return weight.view(n_heads, -1, weight.shape[-1])


def _bias(layer: Linear) -> torch.Tensor:
    return layer.weight.new_zeros(len(layer.weight)) if layer.bias is None else layer.bias


class _Block(nn.Module):
    """A layer on x [B, 1, T, W] and what it remembers, normalised, [B, 1, M, W]."""

    query: torch.Tensor
    asked: torch.Tensor
    asked_bias: torch.Tensor
    value: torch.Tensor
    out: torch.Tensor
    out_bias: torch.Tensor

    def __init__(self, block: RelativeBlock) -> None:
        super().__init__()
        attention, gain, offset = block.attention, block.first_norm.weight, block.first_norm.bias
        n, self.width, self.eps = attention.n_heads, len(gain), block.first_norm.eps
        scale = (self.width // n) ** -0.5
        key, value = attention.remembered.weight.chunk(2)
        by_content = _heads(key * gain, n)
        by_distance = _heads(attention.distance.weight, n)
        constant = attention.query.weight @ offset
        of_content = (constant + attention.by_content.weight[0]).view(n, 1, -1)
        of_distance = (constant + attention.by_distance.weight[0]).view(n, 1, -1)
        # A key's own offset is the same for all keys of a query: softmax takes no notice of it.
        bias = torch.cat([of_content @ by_content, of_distance @ by_distance], 2)
        out = attention.out
        weights = {
            "query": (attention.query.weight * gain).T,
            "asked": torch.cat([by_content, by_distance], 2) * scale,
            "asked_bias": bias[:, 0] * scale,
            "value": _heads(value * gain, n).transpose(1, 2),
            "out": out.weight.T,
            "out_bias": _bias(out) + out.weight @ (value @ offset),
        }
        for name, weight in weights.items():
            self.register_buffer(name, weight)
        self.second_norm, self.mlp = block.second_norm, block.mlp

    def forward(
        self, x: torch.Tensor, memory: torch.Tensor, code: torch.Tensor, hidden: torch.Tensor
    ) -> torch.Tensor:
        """Return values of x's shape; ``code`` [T, W, K], ``hidden`` [B, T, 1, K]."""
        n_rows, n_steps, (n_heads, depth, _) = x.shape[0], x.shape[2], self.asked.shape
        normal = functional.layer_norm(x, (self.width,), eps=self.eps)
        keys = torch.cat([memory, normal], 2)
        query = (normal @ self.query).reshape(n_rows, n_steps, n_heads, 1, depth)
        asked = (query @ self.asked).reshape(n_rows, n_steps, n_heads, 2 * self.width)
        content, distance = torch.split(asked + self.asked_bias, self.width, -1)
        scores = content @ keys.transpose(-2, -1) + (distance @ code + hidden)
        mixed = scores.softmax(-1) @ keys
        mixed = (mixed[..., None, :] @ self.value).reshape(n_rows, 1, n_steps, self.width)
        x = x + (mixed @ self.out + self.out_bias)
        result: torch.Tensor = x + self.mlp(self.second_norm(x))
        return result


class ServedTemporal(nn.Module):
    """What `TemporalGraph` says, of the same inputs."""

    of_actor: torch.Tensor
    chosen: torch.Tensor
    of_pack: torch.Tensor
    rates: torch.Tensor
    phases: torch.Tensor
    past: torch.Tensor
    past_bias: torch.Tensor
    now: torch.Tensor
    paid: torch.Tensor
    paid_bias: torch.Tensor
    hurt: torch.Tensor
    spread: torch.Tensor
    centre: torch.Tensor

    def __init__(self, net: TemporalNet) -> None:
        """Take the plain form."""
        super().__init__()
        n_features, self.n_kept = net.observation_norm.mean.shape[-1], net.n_kept
        self.observation_norm, self.enemy_norm = net.observation_norm, net.enemy_norm
        self.of_enemy, self.norm, self.width = net.of_enemy, net.norm, len(net.norm.weight)
        self.blocks = nn.ModuleList(_Block(b) for b in net.blocks if isinstance(b, RelativeBlock))
        spread, centre, actor = net.spread, net.centre, net.of_actor.weight
        rates = torch.exp(torch.arange(0, self.width, 2) * (-math.log(10_000.0) / self.width))
        weights = {
            "of_actor": actor[:, :n_features].T,
            "chosen": actor[:, n_features:].T + _bias(net.of_actor) + _bias(net.of_pack),
            "of_pack": net.of_pack.weight.T,
            "rates": torch.cat([rates, rates]),
            "phases": torch.tensor([0.0, 0.5 * math.pi]).repeat_interleave(len(rates)),
            "past": net.past.weight.T,
            "past_bias": _bias(net.past) + _bias(net.now),
            "now": net.now.weight.T,
            "paid": (net.paid.weight * spread[0]).T,
            "paid_bias": _bias(net.paid) * spread[0] + centre[0],
            "hurt": net.hurt.weight.T,
            "spread": spread[1:],
            "centre": _bias(net.hurt) * spread[1:] + centre[1:],
        }
        for name, weight in weights.items():
            self.register_buffer(name, weight)

    def forward(
        self,
        observation: torch.Tensor,
        enemies: torch.Tensor,
        action: torch.Tensor,
        memory: torch.Tensor,
        filled: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return what is ahead [B, T, 1 + E], 0 of the dead, and the next memory."""
        alive = torch.linalg.vector_norm(enemies, ord=1, dim=-1, keepdim=True).sign()
        facts = self.enemy_norm(enemies) * alive
        x = self._step(observation, facts, alive, action)[:, None]
        n_steps = x.shape[2]
        code, hidden = self._distances(n_steps, filled)
        normal = functional.layer_norm(memory, (self.width,), eps=self.norm.eps)
        steps = []
        by_layer = torch.split(normal, [1] * len(self.blocks), 1)
        for block, remembered in zip(self.blocks, by_layer, strict=True):
            steps.append(x)
            x = block(x, remembered, code, hidden)
        kept = torch.cat([memory, torch.cat(steps, 1)], 2)[:, :, -self.n_kept :]
        ahead = self._ahead(self.norm(x[:, 0]), facts, alive)
        return ahead, kept, (filled + n_steps).clamp(max=self.n_kept)

    def _step(
        self,
        observation: torch.Tensor,
        facts: torch.Tensor,
        alive: torch.Tensor,
        action: torch.Tensor,
    ) -> torch.Tensor:
        share = alive / alive.sum(-2, keepdim=True).clamp(min=1)
        pack = (torch.relu(self.of_enemy(facts)) * share).sum(-2)
        seen: torch.Tensor = self.observation_norm(observation)
        return seen @ self.of_actor + self.chosen[action] + pack @ self.of_pack

    def _distances(self, n_steps: int, filled: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return codes [T, W, K] of a step's distances to all keys, and `MASKED` [B, T, 1, K]."""
        n_keys = self.n_kept + n_steps
        key = torch.arange(n_keys, device=filled.device)
        query = torch.arange(self.n_kept, n_keys, device=filled.device)
        distance = query.view(-1, 1, 1) - key
        angle = distance.to(self.rates.dtype) * self.rates[:, None] + self.phases[:, None]
        since = (self.n_kept - filled).view(-1, 1, 1, 1)
        allowed = (distance >= 0) & (key >= since)
        return angle.sin(), torch.where(allowed, 0.0, MASKED)

    def _ahead(self, x: torch.Tensor, facts: torch.Tensor, alive: torch.Tensor) -> torch.Tensor:
        past = (x @ self.past + self.past_bias)[..., None, :]
        hurt = torch.relu(facts @ self.now + past) @ self.hurt
        hurt = (hurt * self.spread[:, None] + self.centre[:, None]) * alive
        return torch.cat([x @ self.paid + self.paid_bias, hurt[..., 0]], -1)
