"""team_coordination: combat choices of a pack, trained together, each acting on what it sees.

An LSTM acts on the actor's own observation and its recurrent state; while training, a critic sees
the observations of the whole pack (MAPPO, Yu et al. 2022). Updates run over unbroken pieces of
play, warmed up by a burn-in from the state kept at each piece's first step (Kapturowski et al.
2019).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

import torch
from msgspec import Meta
from torch import nn

from learners.feeds import Feeds, feeds
from learners.model_types.actor_critic import OnPolicySettings, OnPolicyStack
from learners.model_types.base import Port, Preset, Stack, TypeSettings, checked
from learners.networks import mask_illegal
from learners.on_policy import Batch, Windows
from learners.stack.layers import unstack
from learners.stack.mlp import Mlp, level_out
from learners.stack.normaliser import Normaliser
from learners.stack.recurrent import Lstm, State
from learners.stack.seeds import seeded
from schemas.practice import Episodes, Head, Layout

HEAD: Head = "combat"


class TeamSettings(OnPolicySettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of `team_coordination`; ``batch`` counts pieces of a whole pack."""

    encoder: tuple[int, ...] = ()
    """Widths of the layers before the LSTM."""
    width: Annotated[int, Meta(ge=1)] = 256
    n_layers: Annotated[int, Meta(ge=1)] = 3
    critic: Annotated[tuple[int, ...], Meta(min_length=1)] = (256, 256, 256)
    """Widths; the first is that of each actor's part, before the pack's parts are put together."""
    layer_norm: bool = False
    skip: bool = False
    """Whether what goes into the LSTM goes past it to the scores, too."""
    piece_steps: Annotated[int, Meta(ge=1)] = 16
    """Steps of a piece that are learned from."""
    burn_in: Annotated[int, Meta(ge=0)] = 8


class TeamActor(nn.Module):
    """Logits of one actor's choices from its own observations."""

    def __init__(self, settings: TeamSettings, n_features: int, n_actions: int) -> None:
        """Make a stack of one."""
        super().__init__()
        self.normaliser = Normaliser(1, n_features)
        widths, norm = settings.encoder, settings.layer_norm
        self.encoder = (
            Mlp(1, n_features, widths[:-1], widths[-1], layer_norm=norm) if widths else None
        )
        width = widths[-1] if widths else n_features
        self.lstm = Lstm(1, width, settings.width, settings.n_layers)
        self.skip = settings.skip
        self.logits = Mlp(1, settings.width + (width if self.skip else 0), (), n_actions)
        level_out(self.logits)

    def features(self, observation: torch.Tensor) -> torch.Tensor:
        """Return what goes into the LSTM."""
        x: torch.Tensor = self.normaliser(observation)
        return x if self.encoder is None else self.encoder(x).relu()

    def _score(self, features: torch.Tensor, remembered: torch.Tensor) -> torch.Tensor:
        both = torch.cat([features, remembered], -1) if self.skip else remembered
        logits: torch.Tensor = self.logits(both)
        return logits

    def step(self, observation: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        """Return logits [S, B, A] and the next state of one step."""
        features = self.features(observation)
        remembered, state = self.lstm.step(features, state)
        return self._score(features, remembered), state

    def forward(self, observation: torch.Tensor, state: State, first: torch.Tensor) -> torch.Tensor:
        """Return logits [S, T, B, A] of observations [S, T, B, D]."""
        features = self.features(observation)
        return self._score(features, self.lstm(features, state, first))


class TeamNet(nn.Module):
    """The actor and the critic that only training has."""

    def __init__(self, settings: TeamSettings, n_features: int, n_actions: int) -> None:
        """Make a stack of one."""
        super().__init__()
        self.actor = TeamActor(settings, n_features, n_actions)
        widths, norm = settings.critic, settings.layer_norm
        self.look = Mlp(1, n_features + 1, (), widths[0], layer_norm=norm)
        self.critic = Mlp(1, 2 * widths[0], widths[1:], 1, layer_norm=norm)

    def worth(self, observation: torch.Tensor, alive: torch.Tensor) -> torch.Tensor:
        """Return values [S, ..., P] of packs' observations [S, ..., P, D].

        Each actor's features stand beside the mean of its pack's (Zaheer et al. 2017): the order
        of mates means nothing, and five values cost little more than one.
        """
        here = alive[..., None].to(observation.dtype)
        seen = torch.cat([self.actor.normaliser(observation), torch.ones_like(here)], -1)
        own = self.look(seen * here).relu() * here
        pack = own.mean(-2, keepdim=True).expand_as(own)
        value: torch.Tensor = self.critic(torch.cat([own, pack], -1))
        return value[..., 0]


class TeamGraph(nn.Module):
    """What is exported: one actor's step with its recurrent state [B, layers, H] in and out."""

    def __init__(self, actor: TeamActor) -> None:
        """Take the plain form of one model."""
        super().__init__()
        self.actor = actor

    def forward(
        self, observation: torch.Tensor, legal: torch.Tensor, h: torch.Tensor, c: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return masked scores and the next h and c; zeros begin a match."""
        logits, (h, c) = self.actor.step(observation, (h, c))
        return mask_illegal(logits, legal), h, c


class TeamStack(OnPolicyStack):
    """Models of `team_coordination` in training."""

    _net: TeamNet

    def _start(self, n_rows: int) -> State:
        return self._net.actor.lstm.zeros(self.n_models, n_rows)

    def _step(
        self, observation: torch.Tensor, first: torch.Tensor, state: Any
    ) -> tuple[torch.Tensor, Any]:
        goes_on = (~first).to(observation.dtype)[..., None, None]
        return self._net.actor.step(observation, (state[0] * goes_on, state[1] * goes_on))

    def _appraise_logits(
        self, observation: torch.Tensor, first: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        starts = set(self._windows.starts(observation.shape[1]).tolist())
        state, logits, kept = self._start(observation.shape[2]), [], []
        for t in range(observation.shape[1]):
            if t in starts:
                kept.append(torch.stack(state, 2))
            scores, state = self._step(observation[:, t], first[:, t], state)
            logits.append(scores)
        return torch.stack(logits, 1), torch.stack(kept, 1) if kept else None

    def _values(self, observation: torch.Tensor, alive: torch.Tensor) -> torch.Tensor:
        n_models, n_steps, n_rows = alive.shape
        form = (n_models, n_steps, n_rows // self._windows.pack, self._windows.pack)
        value = self._net.worth(observation.view(*form, observation.shape[-1]), alive.view(form))
        return value.flatten(2)

    def _forward(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        if batch.states is None:
            msg = "pieces must have recurrent states; got none"
            raise RuntimeError(msg)
        # [S, N, W, P, ...] -> time second, N x P rows
        rows = batch.observation.transpose(1, 2).flatten(2, 3)
        first = batch.first.transpose(1, 2).flatten(2, 3)
        h, c = batch.states.flatten(1, 2).unbind(2)
        n = batch.observation.shape[1]
        logits = self._net.actor(rows, (h, c), first)
        logits = logits.view(*rows.shape[:2], n, -1, logits.shape[-1]).transpose(1, 2)
        return logits, self._net.worth(batch.observation, batch.alive)

    def graph(self, i: int) -> nn.Module:
        """Return model i's actor alone as it is exported."""
        return TeamGraph(unstack(self._net.actor, i)).eval()

    def feeds(self, rows: Episodes, n: int) -> Feeds:
        """Return real inputs of the graph, at the first step of a match."""
        lstm = self._net.actor.lstm
        state = (lstm.n_layers, lstm.width)
        ports = TYPE.inputs(self._layout)
        return feeds(ports, rows, n, head=HEAD, zeros={"h": state, "c": state})


class TeamCoordination:
    """The registered type."""

    name: ClassVar[str] = "team_coordination"
    acts: ClassVar[Head | None] = HEAD
    settings: ClassVar[type[TypeSettings]] = TeamSettings

    def preset(self, name: Preset) -> TeamSettings:
        """Return a preset; docs/learners/team_coordination.md says what it showed."""
        if name == "classic":
            return TeamSettings(batch=32, clone_updates=500, fragment_steps=136)
        return TeamSettings(
            encoder=(64, 64), skip=True, width=32, n_layers=1, critic=(64, 64), layer_norm=True,
            learning_rate=3.5e-3, batch=40, practise_every=10, practice_matches=32,
            piece_steps=16, burn_in=4, fragment_steps=132, clone_updates=60, grad_clip=10.0,
            fresh_moments=True, trace=0.95, entropy=0.003, result_weight=2.0, reward_weight=0.2,
            updates=1_200,
        )  # fmt: skip

    def inputs(self, layout: Layout) -> list[Port]:
        """Return observation, mask and the recurrent state."""
        return [
            Port("observation", (layout.n_features,)),
            Port("legal", (layout.n_actions[HEAD],), "bool"),
            Port("h", (None, None)),
            Port("c", (None, None)),
        ]

    def outputs(self, layout: Layout) -> list[Port]:
        """Return scores (the best is taken) and the next recurrent state."""
        return [
            Port("scores", (layout.n_actions[HEAD],)),
            Port("next_h", (None, None)),
            Port("next_c", (None, None)),
        ]

    def make(
        self,
        settings: TypeSettings,
        layout: Layout,
        seeds: Sequence[int],
        rates: Sequence[float],
        device: torch.device,
    ) -> Stack:
        """Return a new stack."""
        own = checked(settings, TeamSettings)
        sizes = (layout.n_features, layout.n_actions[HEAD])
        net = seeded(lambda: TeamNet(own, *sizes), seeds).to(device)
        windows = Windows(own.piece_steps, own.burn_in, layout.pack)
        return TeamStack(
            own, layout, seeds, rates, device,
            net=net, normaliser=net.actor.normaliser, head=HEAD, windows=windows,
        )  # fmt: skip


TYPE = TeamCoordination()
