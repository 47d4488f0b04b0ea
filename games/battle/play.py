"""The live matches of one process: worlds, opponents and the events that tell of them.

No Kafka, no clock and no waiting here: `BattleMatches.step` is handed the time and returns what
was said.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from agents.policies.choice import Choice, Policy, RowRandom
from agents.policies.mix import EpsilonMix, RandomPolicy
from games.battle.facts import health, outcome_facts, succeeded
from games.battle.legal import legal_actions
from games.battle.scripted import ScriptedPolicy, ScriptedRule
from games.battle.settings import ARCHETYPE, DOMAIN, BattleSettings
from games.battle.world import BLUE, PACK_SIZE, RED, Acted, BattleWorld
from games.match import MatchEnd, Step
from games.seeds import match_seed, share, stream_keys
from schemas.events import ActorEvent, Decision, EpisodeEnd, Outcome

_STREAMS: Final = 2 * PACK_SIZE
GAME: Final = "battle"


class _World:
    """A world with the match that is on in it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.match = BattleWorld()
        self.n_matches = 0
        self.side = RED
        self.episode = ""
        self.opponent_id = ""
        self.opponent: Policy = RandomPolicy()

    def actor(self, slot: int) -> str:
        return f"{self.name}/{slot}"


class _Ours(msgspec.Struct, frozen=True):
    """The part of a batch of decisions that belongs to one world."""

    slots: NDArray[np.int32]
    observations: NDArray[np.float32]
    legal: NDArray[np.bool_]
    choice: Choice


class BattleMatches:
    """Many matches at a time, all decided by one policy that can be changed between two steps.

    With the same seed, incarnation and policies the same events come: only their times are
    handed in. The incarnation is new for each start of the process, so that no decision id comes
    twice. Sides alternate from match to match.
    """

    def __init__(self, settings: BattleSettings, seed: int, incarnation: str) -> None:
        self._settings = settings
        self._seed = f"{seed}/{incarnation}"
        self.policy: Policy = EpsilonMix(ScriptedRule(), settings.scripted_epsilon)
        """Decides from the next step on; change it at will."""
        self.earlier: list[Policy] = []
        """Opponents for matches against former champions."""
        self._scripted = ScriptedPolicy()
        self._random_pack = RandomPolicy()
        names = [f"{GAME}-{incarnation}-w{k}" for k in range(settings.worlds)]
        self._worlds = [_World(name) for name in names]
        streams = np.zeros(settings.worlds * _STREAMS, dtype=np.uint64)
        self._streams = RowRandom(streams)

    @property
    def n_worlds(self) -> int:
        """How many matches run at a time."""
        return len(self._worlds)

    def step(self, now_ms: int) -> Step:
        """Takes one step in every world; a match that is over makes room for the next first."""
        for k, world in enumerate(self._worlds):
            if world.match.over:
                self._begin(k, world)
        ours, n_decisions = self._decide()
        theirs = self._oppose()
        events: list[ActorEvent] = []
        ended = []
        version = self.policy.version
        for k, world in enumerate(self._worlds):
            mine = ours[k]
            teams = (mine.choice.actions, theirs[k])
            red, blue = teams if world.side == RED else teams[::-1]
            acted = world.match.step(red, blue)[world.side]
            events += self._decisions(world, mine, version, now_ms)
            events += _outcomes(world, mine, acted, now_ms)
            if world.match.over:
                events += _ends(world, now_ms)
                result = world.match.result(world.side)
                ended.append(MatchEnd(world.opponent_id, version, result, world.match.steps))
        return Step(events, n_decisions, version, list(range(len(self._worlds))), ended)

    def _begin(self, k: int, world: _World) -> None:
        n = world.n_matches
        seed = match_seed("live", self._seed, world.name, n)
        world.n_matches += 1
        world.side = (k + n) % 2
        world.episode = f"{world.name}-m{n}"
        world.opponent = self._opponent(share("opponent", self._seed, world.name, n))
        world.opponent_id = world.opponent.version
        world.match.reset(seed)
        streams = np.arange(k * _STREAMS, (k + 1) * _STREAMS)
        self._streams.restart(streams, stream_keys(seed, _STREAMS))

    def _opponent(self, draw: float) -> Policy:
        """The opponent for a number in [0, 1)."""
        settings = self._settings
        if draw < settings.opponent_random:
            return self._random_pack
        place = (draw - settings.opponent_random) / max(settings.opponent_earlier, 1e-12)
        if place < 1 and self.earlier:
            return self.earlier[int(place * len(self.earlier))]
        return self._scripted

    def _decide(self) -> tuple[list[_Ours], int]:
        """Our policy's choices, one batch for all worlds, cut into worlds again."""
        sides = [(k, world.side) for k, world in enumerate(self._worlds)]
        observations, legal, rows, cuts = self._batch(sides)
        choice = self.policy.act(observations, legal, self._streams.rows(rows))
        parts = []
        for (k, side), lo, hi in zip(sides, [0, *cuts], [*cuts, len(rows)], strict=True):
            part = _cut(choice, lo, hi)
            slots = self._worlds[k].match.slots(side).copy()
            parts.append(_Ours(slots, observations[lo:hi], legal[lo:hi], part))
        return parts, len(rows)

    def _oppose(self) -> dict[int, NDArray[np.int64]]:
        """The opponents' actions by world, one batch for each policy."""
        groups: dict[int, tuple[Policy, list[tuple[int, int]]]] = {}
        for k, world in enumerate(self._worlds):
            _, members = groups.setdefault(id(world.opponent), (world.opponent, []))
            members.append((k, BLUE if world.side == RED else RED))
        actions = {}
        for policy, members in groups.values():
            observations, legal, rows, cuts = self._batch(members)
            choice = policy.act(observations, legal, self._streams.rows(rows))
            for (k, _), part in zip(members, np.split(choice.actions, cuts), strict=True):
                actions[k] = part
        return actions

    def _batch(
        self, sides: Iterable[tuple[int, int]]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.int64], list[int]]:
        """Observations, masks and streams of sides of worlds, and where each world ends."""
        seen, rows = [], []
        for k, side in sides:
            match = self._worlds[k].match
            seen.append(match.observations(side))
            rows.append(match.slots(side) + (k * _STREAMS + side * PACK_SIZE))
        observations = np.concatenate(seen)
        cuts = np.cumsum([len(part) for part in seen])[:-1]
        streams = np.concatenate(rows).astype(np.int64)
        return observations, legal_actions(observations), streams, cuts.tolist()

    def _decisions(
        self, world: _World, mine: _Ours, version: str, now_ms: int
    ) -> Iterable[Decision]:
        step = world.match.steps - 1
        for k, slot in enumerate(mine.slots.tolist()):
            yield Decision(
                decision_id=f"{world.episode}-{step}-{slot}",
                game=GAME,
                world=world.name,
                episode=world.episode,
                actor_id=world.actor(slot),
                archetype=ARCHETYPE,
                domain=DOMAIN,
                event_time_ms=now_ms,
                step=step,
                observation=mine.observations[k].tobytes(),
                legal=mine.legal[k].tobytes(),
                action=int(mine.choice.actions[k]),
                propensity=float(mine.choice.propensities[k]),
                probabilities=mine.choice.probabilities[k].tobytes(),
                policy_version=version,
                explored=bool(mine.choice.explored[k]),
                opponent_id=world.opponent_id,
            )


def _cut(choice: Choice, lo: int, hi: int) -> Choice:
    return Choice(
        choice.actions[lo:hi],
        choice.propensities[lo:hi],
        choice.explored[lo:hi],
        choice.probabilities[lo:hi],
    )


def _outcomes(world: _World, mine: _Ours, acted: Acted, now_ms: int) -> Iterable[Outcome]:
    """What came of our decisions: ended for the dead and after a whole pack's death."""
    match, side = world.match, world.side
    after = match.observations(side)
    healths = np.zeros(len(mine.slots))
    healths[acted.alive] = health(after)
    enemies = match.alive(BLUE if side == RED else RED)
    actions = mine.choice.actions
    told = outcome_facts(acted, actions, health(mine.observations), healths, enemies)
    truncated = match.over and not match.annihilated
    next_legal = legal_actions(after) if truncated else None
    place = np.cumsum(acted.alive) - 1
    step = match.steps - 1
    for k, slot in enumerate(mine.slots.tolist()):
        on = bool(acted.alive[k]) and next_legal is not None
        row = int(place[k])
        yield Outcome(
            decision_id=f"{world.episode}-{step}-{slot}",
            game=GAME,
            actor_id=world.actor(slot),
            event_time_ms=now_ms,
            facts=told[k],
            success=succeeded(int(actions[k]), told[k]),
            terminated=not acted.alive[k] or match.annihilated,
            truncated=on,
            next_observation=after[row].tobytes() if on else None,
            next_legal=next_legal[row].tobytes() if on and next_legal is not None else None,
        )


def _ends(world: _World, now_ms: int) -> Iterable[EpisodeEnd]:
    """The end of the match, told for each of our six."""
    match, side = world.match, world.side
    standing = set(match.slots(side).tolist())
    facts = {
        "steps": float(match.steps),
        "own_alive": float(len(standing)),
        "enemy_alive": float(match.alive(BLUE if side == RED else RED)),
    }
    for slot in range(PACK_SIZE):
        terminated = slot not in standing or match.annihilated
        yield EpisodeEnd(
            game=GAME,
            world=world.name,
            episode=world.episode,
            actor_id=world.actor(slot),
            event_time_ms=now_ms,
            terminated=terminated,
            truncated=not terminated,
            result=match.result(side),
            facts={**facts, "survived": float(slot in standing)},
        )
