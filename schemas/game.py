"""The description of a game: one TOML file, checked when it is loaded."""

from __future__ import annotations

import math
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from schemas.errors import from_msgspec, refuse, shown
from schemas.events import ActorEvent, Decision, Outcome
from schemas.limits import MAX_ID_CHARS, MAX_VECTOR
from schemas.rewards import Reward, RewardName

Positive = Annotated[int, Meta(ge=1)]
NotNegative = Annotated[int, Meta(ge=0)]
Share = Annotated[float, Meta(ge=0, le=1)]
PositiveFloat = Annotated[float, Meta(gt=0)]
Name = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_-]*$", max_length=60)]


class _Described(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all parts: an unknown field is an error, for it is a misspelt one."""


class Observation(_Described, frozen=True, kw_only=True):
    """What a policy sees: a float32 tensor, flat on the wire."""

    layout: str
    """Name and version of the layout, e.g. ``battle-view@1``."""
    shape: Annotated[list[Positive], Meta(min_length=1, max_length=4)]

    @property
    def size(self) -> int:
        """Number of floats."""
        return math.prod(self.shape)


class Actions(_Described, frozen=True, kw_only=True):
    """Discrete actions, numbered from 0."""

    names: Annotated[list[str], Meta(min_length=2, max_length=4096)]
    n_continuous: NotNegative = 0
    """Floats that a decision's `continuous` holds, where it has any."""

    @property
    def n(self) -> int:
        """Number of actions."""
        return len(self.names)


Aggregate = Literal["earliest", "latest", "sum", "mean", "median", "min", "max"]


class Domain(_Described, frozen=True, kw_only=True):
    """How decisions of one kind are rewarded.

    With a horizon, the standing is taken as of decision time + horizon (event time) and its change
    since the decision, over ``standing_unit``, is the long-term reward, clipped to [-1, 1].
    """

    reward: RewardName
    horizon_ms: NotNegative = 0
    standing: str | None = None
    """The fact that is the standing; needed with a horizon."""
    standing_unit: PositiveFloat = 1.0
    long_term_weight: Annotated[float, Meta(ge=0)] = 0.0
    """total = immediate + long_term_weight * long_term."""
    outcome_timeout_ms: Positive = 10_000
    """Event time after which a decision without an outcome is settled by default."""
    default_reward: Annotated[float, Meta(ge=-1, le=1)] = 0.0
    aggregate: Aggregate = "earliest"
    """How several reward signals of one decision become its immediate reward. All but `earliest`
    need a horizon: it is how long signals are waited for."""
    credit: Literal["full", "discounted"] = "full"
    """Whether a change of standing is paid in full to each decision whose horizon it falls in, or
    shared among them: a step further back counts `credit_discount` times as much."""
    credit_discount: Annotated[float, Meta(gt=0, le=1)] = 0.99
    retaliation: str | None = None
    """The fact of a snapshot that says what its `opponent_id` did to the actor. What comes within
    the horizon is charged to the actor's last decision against that opponent before it."""
    retaliation_weight: float = 0.0
    """Long-term reward of one unit of it; negative where it hurts."""
    revise_within_ms: NotNegative = 0
    """How long after a decision's cut-off (event time) what comes late still revises it."""


class Archetype(_Described, frozen=True, kw_only=True):
    """A kind of NPC and the model that decides for it."""

    model: Name
    reward: RewardName | None = None
    """What its decisions are rewarded by, in place of their domain's reward."""


class Learner(_Described, frozen=True, kw_only=True):
    """Settings of the learner of one archetype; see `docs/learners.md` for each."""

    algorithm: Literal["dqn"] = "dqn"
    network: Literal["conv", "mlp"] = "mlp"
    channels: Annotated[list[Positive], Meta(min_length=1, max_length=8)] = msgspec.field(
        default_factory=lambda: [16, 32]
    )
    hidden: Annotated[list[Positive], Meta(min_length=1, max_length=16)] = msgspec.field(
        default_factory=lambda: [128]
    )
    discount: Annotated[float, Meta(ge=0, lt=1)] = 0.99
    n_step: Annotated[int, Meta(ge=1, le=100)] = 3
    batch: Positive = 256
    learning_rate: PositiveFloat = 3e-4
    updates_per_row: PositiveFloat = 0.03
    min_rows: Positive = 3_000
    replay_rows: Positive = 120_000
    keep_first_rows: NotNegative = 0
    """Transitions at the log's beginning that replay never forgets, as demonstrations are."""
    priority_alpha: Share = 0.6
    priority_beta: Share = 0.4
    polyak: Annotated[float, Meta(gt=0, le=1)] = 0.01
    average: Annotated[float, Meta(gt=0, le=1)] = 1.0
    """Step of the exported average towards the target network; 1 exports the target itself."""
    margin: Annotated[float, Meta(ge=0)] = 0.3
    margin_weight: Annotated[float, Meta(ge=0)] = 0.0
    demonstration_policy: str = "scripted"
    """Rows of this policy version that were not explored are demonstrations."""
    reward_scale: PositiveFloat = 1.0
    grad_clip: PositiveFloat = 10.0
    observation_dtype: Literal["float16", "float32"] = "float16"
    normalise: bool = False
    register_every_updates: Positive = 1_000
    register_after_updates: Positive = 1_000
    checkpoint_every_updates: Positive = 1_000
    keep_checkpoints: Positive = 3


class Gate(_Described, frozen=True, kw_only=True):
    """What a candidate must show on paired seeds to become champion."""

    matches: Annotated[int, Meta(ge=2)] = 200
    """Against the scripted AI and, on the same seeds, the champion's own record."""
    confirm_matches: Annotated[int, Meta(ge=2)] = 200
    """Played on further seeds by those that pass the first stage."""
    head_to_head: NotNegative = 0
    """Matches against the champion itself."""
    min_lower95: Share = 0.0
    """Lower 95 % Wilson bound of the win rate against the scripted AI, in each stage."""
    min_gain: Annotated[float, Meta(ge=-1, le=1)] = 0.0
    """Win rate the candidate must gain on the champion over the same seeds, in each stage."""
    confidence: Annotated[float, Meta(ge=0.5, lt=1)] = 0.5
    """One-sided confidence in that gain; 0.5 asks for the mean alone."""
    final_lower95: Share = 0.7
    """The same bound of the champion on seeds that no gate used, for a demo to pass."""


class Time(_Described, frozen=True, kw_only=True):
    """Event time of the game."""

    allowed_lateness_ms: NotNegative = 200
    tick_ms: Positive = 100


class WindowSize(_Described, frozen=True, kw_only=True):
    """When replay windows are sealed."""

    max_rows: Annotated[int, Meta(ge=1, le=1_000_000)] = 4096
    max_span_ms: Positive = 5_000


class Privacy(_Described, frozen=True, kw_only=True):
    """That a game has human players, and how they are told; see `docs/privacy.md`."""

    player_prefix: Annotated[str, Meta(min_length=1, max_length=MAX_ID_CHARS)] | None = None
    """Actors and opponents whose id begins with it are players; `player_id` always names one."""


class Game(_Described, frozen=True, kw_only=True):
    """A game as Grindstone knows it."""

    game: Name
    description: str = ""
    observation: Observation
    actions: Actions
    rewards: Annotated[dict[RewardName, Reward], Meta(min_length=1)]
    domains: Annotated[dict[Name, Domain], Meta(min_length=1)]
    archetypes: Annotated[dict[Name, Archetype], Meta(min_length=1)]
    learners: dict[Name, Learner] = {}
    gate: Gate = Gate()
    time: Time = Time()
    windows: WindowSize = WindowSize()
    privacy: Privacy | None = None
    """None: the game has no human players."""
    settings: dict[str, bool | int | float | str | list[float]] = {}
    """The connector's own settings; the connector checks them."""

    @property
    def name(self) -> str:
        """The game's name."""
        return self.game

    def reward_of(self, domain: str, archetype: str) -> RewardName:
        """Return the name of the reward of an archetype's decisions in a domain."""
        return self.archetypes[archetype].reward or self.domains[domain].reward

    def archetype_of(self, model: str) -> str:
        """Return the archetype a model decides for; ``KeyError`` when there is none."""
        for name, archetype in self.archetypes.items():
            if archetype.model == model:
                return name
        raise KeyError(model)


def load_game(path: Path | str) -> Game:
    """Return the game of a TOML file.

    Raises:
        SchemaError: the file is no TOML, or breaks a rule; the message names the field.
        OSError: the file cannot be read.
    """
    try:
        document = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        refuse("$", "a TOML document", str(error), f"in {path}")
    return parse_game(document)


def parse_game(document: dict[str, Any]) -> Game:
    """Return the game of a decoded document; see `load_game`."""
    try:
        game = msgspec.convert(document, Game)
    except msgspec.ValidationError as error:
        raise from_msgspec(error, document) from error
    _check_references(game)
    return game


def _check_references(game: Game) -> None:
    if game.observation.size > MAX_VECTOR:
        refuse("$.observation.shape", f"at most {MAX_VECTOR} floats", shown(game.observation.shape))
    if len(set(game.actions.names)) != game.actions.n:
        refuse("$.actions.names", "distinct", shown(game.actions.names))
    for name, reward in game.rewards.items():
        reward.check(f"$.rewards.{name}")
    for name, domain in game.domains.items():
        path = f"$.domains.{name}"
        if domain.reward not in game.rewards:
            known = ", ".join(sorted(game.rewards))
            refuse(f"{path}.reward", f"one of {known}", shown(domain.reward))
        if domain.horizon_ms and not domain.standing:
            refuse(f"{path}.standing", "the name of a fact with a horizon", "nothing")
        if domain.aggregate != "earliest" and not domain.horizon_ms:
            rule = "over 0, for signals are waited for within it"
            refuse(f"{path}.horizon_ms", rule, "0", f"aggregate is {domain.aggregate}")
        if domain.retaliation is not None and not domain.horizon_ms:
            rule = "over 0, for retaliation is waited for within it"
            refuse(f"{path}.horizon_ms", rule, "0", "or leave retaliation out")
    for name, archetype in game.archetypes.items():
        if archetype.reward is not None and archetype.reward not in game.rewards:
            known = ", ".join(sorted(game.rewards))
            path = f"$.archetypes.{name}.reward"
            refuse(path, f"one of {known}", shown(archetype.reward))
    models = [a.model for a in game.archetypes.values()]
    if len(set(models)) != len(models):
        refuse("$.archetypes", "of one model each", shown(models))
    for name in game.learners:
        if name not in game.archetypes:
            known = ", ".join(sorted(game.archetypes))
            refuse(f"$.learners.{name}", f"one of {known}", shown(name))


def check_against_game(event: ActorEvent, games: dict[str, Game]) -> Game:
    """Check an event against its game's description and return the game.

    Raises:
        SchemaError: unknown game, domain or archetype, an observation of another length, an action
            out of range, a mask of another length, or one that forbids the action taken.
    """
    game = games.get(event.game)
    if game is None:
        known = ", ".join(sorted(games))
        refuse("$.game", f"one of {known}", shown(event.game))
    if isinstance(event, Decision):
        _check_decision(event, game)
    elif isinstance(event, Outcome):
        if event.next_observation is not None:
            size = 4 * game.observation.size
            _check_vector("$.next_observation", event.next_observation, size)
        _check_vector("$.next_legal", event.next_legal, game.actions.n)
    return game


def _check_decision(event: Decision, game: Game) -> None:
    if event.domain not in game.domains:
        known = ", ".join(sorted(game.domains))
        refuse("$.domain", f"one of {known}", shown(event.domain))
    if event.archetype not in game.archetypes:
        known = ", ".join(sorted(game.archetypes))
        refuse("$.archetype", f"one of {known}", shown(event.archetype))
    n = game.actions.n
    if event.action >= n:
        refuse("$.action", f"under {n}, the number of actions", str(event.action))
    _check_vector("$.observation", event.observation, 4 * game.observation.size)
    _check_vector("$.probabilities", event.probabilities, 4 * n)
    _check_vector("$.continuous", event.continuous, 4 * game.actions.n_continuous)
    _check_vector("$.legal", event.legal, n)
    if event.legal is not None and not event.legal[event.action]:
        refuse("$.action", "legal by $.legal", str(event.action))


def _check_vector(path: str, value: bytes | list[float] | list[int] | None, size: int) -> None:
    if value is not None and len(value) != size:
        refuse(path, f"{size} bytes", f"{len(value)} bytes")
