"""The live matches of one process: worlds of every archetype and the events that tell of them.

No Kafka, no clock and no waiting here: `ArenaMatches.step` is handed the time and returns what was
said.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from agents.policies.choice import Choice, Policy, RowRandom
from agents.policies.mix import EpsilonMix
from games.arena import rules
from games.arena.blows import Facts
from games.arena.draws import Keys, mixed
from games.arena.events import Chosen, Seat, decided, ends, full_mask, outcomes, told_facts
from games.arena.practice import survived
from games.arena.record import explored_aim
from games.arena.rule import HEADS, ScriptedRule, action_slice
from games.arena.scripted import scripted
from games.arena.settings import FOLLOWED, GAME, ArenaSettings
from games.arena.sight import Ints
from games.arena.view import enemy_facts, observe
from games.arena.windows import enemy_details, step_details
from games.arena.world import Arena, Orders
from games.match import MatchEnd, Result, Step
from games.seeds import match_seed, stream_keys
from schemas.events import ActorEvent
from schemas.practice import ARCHETYPES, Head

P = rules.PACK
_RESULTS: dict[float, Result] = {1.0: "won", 0.5: "draw", 0.0: "lost"}


class _Asked(NamedTuple):
    """What a head's policies said of all worlds; rows are (world, slot)."""

    legal: NDArray[np.bool_]
    choice: Choice


class ArenaMatches:
    """Many matches at a time, home is ours; both packs of a world are of one archetype.

    The policy decides for `settings.FOLLOWED`'s packs; the other archetypes' packs are led by their
    script, with `scripted_epsilon` of their choices drawn at random. With the same seed,
    incarnation and policies the same events come: only their times are handed in.
    """

    def __init__(self, settings: ArenaSettings, seed: int, incarnation: str) -> None:
        self._seed = f"{seed}/{incarnation}"
        self._epsilon = settings.scripted_epsilon
        self._scripts: dict[str, Policy] = {
            name: EpsilonMix(ScriptedRule(name), settings.scripted_epsilon) for name in ARCHETYPES
        }
        self.policy: Policy = self._scripts[FOLLOWED]
        """Decides from the next step on; change it at will."""
        self.earlier: list[Policy] = []
        """Former champions; the opponents here are always the script."""
        n = settings.worlds
        self._names = [f"{GAME}-{incarnation}-w{k}" for k in range(n)]
        self._n_matches = [0] * n
        self._arena = Arena(n)
        self._degree = np.full((2, 1, n), 2, np.int64)
        self._degree[1] = settings.difficulty
        self._kinds = (np.arange(n) - settings.champion_worlds) % len(ARCHETYPES)
        self._kinds[: settings.champion_worlds] = ARCHETYPES.index(FOLLOWED)
        self._streams = RowRandom(np.zeros(n * P, np.uint64))
        self._aims = np.random.default_rng([match_seed("live", self._seed, "aims")])
        self._begin(np.arange(n))

    @property
    def n_worlds(self) -> int:
        """How many matches run at a time."""
        return len(self._names)

    def step(self, now_ms: int) -> Step:
        """Take one step in every world; a match that is over makes room for the next first."""
        arena = self._arena
        self._begin(np.flatnonzero(arena.over))
        seen = observe(arena, 0)
        alive = arena.alive[0].T
        asked = {head: self._ask(head, seen, alive) for head in HEADS}
        own = scripted(arena, self._degree)
        aim, density, strayed = explored_aim(own.aim, self._epsilon, self._aims, 0)
        orders = self._orders(own, aim, asked, alive)
        seats = [self._seat(w, slot) for w, slot in np.argwhere(alive).tolist()]
        aims = (aim[:, 0], density, strayed)
        events: list[ActorEvent] = list(self._decided(seats, asked, aims, seen, now_ms))
        facts = arena.step(orders)
        facts["survived"] = survived(arena)
        events += self._came(seats, facts, now_ms)
        events += self._ended(now_ms)
        over = np.flatnonzero(arena.over & (self._kinds == ARCHETYPES.index(FOLLOWED)))
        scores = arena.scores()
        told = [
            MatchEnd("scripted", self.policy.version, _RESULTS[float(scores[w])],
                     int(arena.step_no[w]))
            for w in over.tolist()
        ]  # fmt: skip
        n = len(seats) * len(HEADS)
        return Step(events, n, self.policy.version, list(range(self.n_worlds)), told)

    # -- matches

    def _begin(self, which: Ints) -> None:
        if not len(which):
            return
        seeds = []
        for w in which.tolist():
            seed = match_seed("live", self._seed, self._names[w], self._n_matches[w])
            self._n_matches[w] += 1
            seeds.append(seed)
            rows = np.arange(w * P, (w + 1) * P)
            self._streams.restart(rows, stream_keys(seed, P))
        kinds = np.stack([self._kinds[which]] * 2)
        self._arena.begin(which, as_keys(seeds), kinds, np.zeros(len(which), np.bool_))

    def _seat(self, world: int, slot: int) -> Seat:
        step = int(self._arena.step_no[world])
        archetype = ARCHETYPES[self._kinds[world]]
        return Seat(self._names[world], self._n_matches[world] - 1, slot, step, archetype)

    def _world_of(self, seat: Seat) -> int:
        return int(seat.world.rpartition("w")[2])

    def _version(self, world: int) -> str:
        followed = ARCHETYPES[self._kinds[world]] == FOLLOWED
        return self.policy.version if followed else "scripted"

    # -- decisions

    def _ask(self, head: Head, seen: NDArray[np.float32], alive: NDArray[np.bool_]) -> _Asked:
        """Ask each archetype's policy for its living actors' choices of a head."""
        legal = full_mask(head, self._arena.legal(head)[:, 0].transpose(2, 1, 0)[alive])
        rows = np.flatnonzero(alive.ravel())
        who, views = self._kinds[rows // P], seen[alive]
        n_actions = legal.shape[1]
        actions, propensities = np.zeros(len(rows), np.int64), np.zeros(len(rows))
        strayed = np.zeros(len(rows), np.bool_)
        odds = np.zeros((len(rows), n_actions), np.float32)
        for kind, name in enumerate(ARCHETYPES):
            mine = np.flatnonzero(who == kind)
            policy = self.policy if name == FOLLOWED else self._scripts[name]
            found = policy.act(views[mine], legal[mine], self._streams.rows(rows[mine]))
            actions[mine], propensities[mine] = found.actions, found.propensities
            strayed[mine], odds[mine] = found.explored, found.probabilities
        return _Asked(legal, Choice(actions, propensities, strayed, odds))

    def _orders(
        self,
        own: Orders,
        aim: NDArray[np.float32],
        asked: dict[Head, _Asked],
        alive: NDArray[np.bool_],
    ) -> Orders:
        heads = {}
        for head, script in zip(HEADS[:3], own[:3], strict=True):
            choice = script.copy()
            table = np.zeros(alive.shape, np.int64)
            table[alive] = asked[head].choice.actions - rules.FIRST[head]
            choice[0] = table.T
            heads[head] = choice
        return Orders(heads["combat"], heads["movement"], heads["skill"], aim)

    # -- what is told of them

    def _decided(
        self,
        seats: list[Seat],
        asked: dict[Head, _Asked],
        aims: tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_]],
        seen: NDArray[np.float32],
        now_ms: int,
    ) -> Iterator[ActorEvent]:
        order, enemies = self._arena.sight().order[0], enemy_facts(self._arena, 0)
        aim, density, strayed = aims
        for row, seat in enumerate(seats):
            w, slot = self._world_of(seat), seat.slot
            for head in HEADS:
                legal, choice = asked[head]
                chosen = _chosen(choice, row, head, self._version(w))
                if head == "combat":
                    told = enemy_details(seat.archetype, order[slot, :, w], enemies[w, slot])
                    chosen = chosen._replace(details=told)
                elif head == "aim":
                    chosen = chosen._replace(
                        aim=np.ascontiguousarray(aim[:, slot, w]),
                        propensity=float(density[slot, w]),
                        explored=bool(strayed[slot, w]),
                        version="scripted",
                    )
                yield decided(seat, head, chosen, seen[w, slot], legal[row], now_ms)

    def _came(self, seats: list[Seat], facts: Facts, now_ms: int) -> list[ActorEvent]:
        arena = self._arena
        over, gone, after = arena.over, arena.decided, observe(arena, 0)
        told = {name: told_facts(name, facts) for name in ARCHETYPES}
        said: list[ActorEvent] = []
        for seat in seats:
            w, slot = self._world_of(seat), seat.slot
            mine = {name: float(f[slot, w]) for name, f in told[seat.archetype].items()}
            terminated = bool(gone[w] or not arena.alive[0, slot, w])
            ended = (terminated, bool(over[w]) and not terminated)
            x, y = float(arena.x[0, slot, w]), float(arena.y[0, slot, w])
            details = step_details(arena.dealt[1, :, w], x, y)
            said += outcomes(seat, mine, ended, after[w, slot], details, now_ms)
        return said

    def _ended(self, now_ms: int) -> list[ActorEvent]:
        arena, scores = self._arena, self._arena.scores()
        said: list[ActorEvent] = []
        for w in np.flatnonzero(arena.over).tolist():
            for slot in range(P):
                seat = self._seat(w, slot)
                stands = bool(arena.alive[0, slot, w])
                result = _RESULTS[float(scores[w])]
                said += ends(seat, result, stands, bool(arena.decided[w]), now_ms)
        return said


def as_keys(seeds: list[int]) -> Keys:
    """u64[N]: keys of matches by their seeds."""
    return mixed(np.array(seeds, np.uint64))


def _chosen(choice: Choice, row: int, head: Head, version: str) -> Chosen:
    return Chosen(
        action=int(choice.actions[row]),
        propensity=float(choice.propensities[row]),
        probabilities=choice.probabilities[row][action_slice(head)],
        explored=bool(choice.explored[row]),
        version=version,
    )
