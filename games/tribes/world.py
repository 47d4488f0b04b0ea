"""Many worlds of four tribes at once, as arrays over worlds and tribes.

A turn: every tribe acts at once, marches that are due fight, everyone is paid. Same seeds and
actions give the same world, however many worlds run side by side. Shapes: W worlds, T tribes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from games.tribes import rules

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

_T = rules.TRIBES
_SEATS = np.arange(_T)
RIVAL_OF = (_SEATS[:, None] + np.arange(1, _T)) % _T
"""i64[T, T - 1]: the seat of each tribe's rivals in their order."""


class Battles(NamedTuple):
    """Fights of one turn, B of them."""

    world: Ints
    attacker: Ints
    defender: Ints
    sent_turn: Ints
    """The turn in which the attacker decided."""
    won: Flags
    """By the attacker."""
    sent: Floats
    attacker_losses: Floats
    defender_losses: Floats
    loot: Floats
    captured: Flags


_BATTLE_DTYPES = (*[np.int64] * 4, np.bool_, *[np.float64] * 4, np.bool_)


class Turn(NamedTuple):
    """What one turn brought; [W, T] each, but the battles."""

    production_before: Floats
    production_after: Floats
    wasted: Floats
    built: Flags
    """Whether the tribe spent its turn on building, settling or recruiting."""
    partner: Ints
    """Seat of whom a trade or pact was offered to; -1 for none."""
    accepted: Flags
    trust_change: Floats
    """Of the one that was asked, towards the tribe."""
    strategic: Flags
    """Whether that one was stronger than the tribe."""
    expected: Flags
    """Whether a march that was sent off was the stronger one as far as could be seen."""
    battles: Battles


class Tribes:
    """W worlds; every public array is [W, T] or [W, T, T] and is only to be read."""

    def __init__(self, n_worlds: int) -> None:
        """Make worlds; `reset` begins their matches."""
        shape, pairs = (n_worlds, _T), (n_worlds, _T, _T)
        self.n_worlds = n_worlds
        self.turn = np.zeros(n_worlds, np.int64)
        self.resources = np.zeros(shape)
        self.production = np.zeros(shape)
        self.army = np.zeros(shape)
        self.villages = np.zeros(shape)
        self.built_turns = np.zeros(shape)
        self.trust = np.zeros(pairs)
        """[w, a, b]: how far a trusts b, -100 to 100."""
        self.pact = np.zeros(pairs)
        """Turns that a pact between the two still holds."""
        self.attacked = np.full(pairs, -99.0)
        """[w, a, b]: the last turn in which b's march reached a."""
        self.march = np.zeros(pairs)
        """[w, a, b]: a's warriors on their way to b."""
        self.due = np.zeros(pairs, np.int64)
        """The turn in which they arrive."""
        self._random = [np.random.default_rng(0)] * n_worlds

    def reset(self, world: int, seed: int) -> None:
        """Begin a match: all alike but for what the land gives."""
        rng = self._random[world] = np.random.default_rng(seed)
        self.turn[world] = 0
        self.resources[world] = rules.START_RESOURCES
        self.production[world] = rules.START_PRODUCTION + rng.integers(-2, 3, _T)
        self.army[world] = rules.START_ARMY + rng.integers(-4, 5, _T)
        self.villages[world], self.built_turns[world] = 1.0, 0.0
        self.trust[world] = rules.START_TRUST + rng.integers(-10, 11, (_T, _T))
        self.pact[world], self.march[world], self.due[world] = 0.0, 0.0, 0
        self.attacked[world] = -99.0

    @property
    def over(self) -> Flags:
        """[W]: whether a match has had all its turns."""
        return self.turn >= rules.TURNS

    @property
    def points(self) -> Floats:
        """[W, T]: what the ranking is by."""
        points: Floats = (
            rules.POINTS_VILLAGE * self.villages
            + rules.POINTS_PRODUCTION * self.production
            + rules.POINTS_ARMY * (self.army + self.march.sum(axis=2))
            + rules.POINTS_RESOURCES * self.resources
        )
        return points

    @property
    def rank(self) -> Ints:
        """[W, T]: 1 for the tribe with the most points; equals share the better place."""
        points = self.points
        ranks: Ints = 1 + (points[:, None, :] > points[:, :, None]).sum(axis=2)
        return ranks

    def legal(self) -> Flags:
        """[W, T, A]: what each tribe can pay for and is not bound against."""
        mask = np.zeros((self.n_worlds, _T, rules.N_ACTIONS), np.bool_)
        mask[:, :, rules.WAIT] = True
        mask[:, :, rules.BUILD] = self.resources >= self.build_cost()
        mask[:, :, rules.SETTLE] = self.resources >= rules.SETTLE_COST
        mask[:, :, rules.RECRUIT] = self.resources >= rules.RECRUIT_COST
        for k in range(rules.RIVALS):
            rival = RIVAL_OF[:, k]
            free = (self.pact[:, _SEATS, rival] == 0) & (self.march[:, _SEATS, rival] == 0)
            strong = self.army * rules.MARCH_SHARE >= rules.MARCH_LEAST
            mask[:, :, rules.ATTACK + k] = free & strong
            pays = self.resources >= rules.TRADE_GIVEN
            mask[:, :, rules.TRADE + k] = pays & (self.resources[:, rival] >= rules.TRADE_GIVEN)
            mask[:, :, rules.PACT + k] = self.pact[:, _SEATS, rival] == 0
        return mask

    def build_cost(self) -> Floats:
        """[W, T]: what more production costs."""
        cost: Floats = rules.BUILD_COST + rules.BUILD_COST_EACH * self.production
        return cost

    def step(self, actions: Ints) -> Turn:
        """Take the turn of every world; `actions` is i64[W, T], legal ones only.

        Raises:
            ValueError: an action is not legal.
        """
        mask = self.legal()
        allowed = np.take_along_axis(mask, actions[:, :, None], axis=2)[:, :, 0]
        if not allowed.all():
            world, tribe = np.argwhere(~allowed)[0].tolist()
            name = rules.ACTION_NAMES[int(actions[world, tribe])]
            msg = f"action of tribe {tribe} in world {world} must be legal; got {name}"
            raise ValueError(msg)
        before = self.production.copy()
        built = self._spend(actions)
        partner, accepted, change, strategic = self._talk(actions)
        expected = self._send(actions)
        battles = self._fight()
        wasted = self._pay()
        self.turn += 1
        return Turn(
            before,
            self.production.copy(),
            wasted,
            built,
            partner,
            accepted,
            change,
            strategic,
            expected,
            battles,
        )

    def _spend(self, actions: Ints) -> Flags:
        build, settle = actions == rules.BUILD, actions == rules.SETTLE
        recruit = actions == rules.RECRUIT
        self.resources -= np.where(build, self.build_cost(), 0.0)
        self.production += np.where(build, rules.BUILD_GAIN, 0.0)
        self.resources -= np.where(settle, rules.SETTLE_COST, 0.0)
        self.production += np.where(settle, rules.SETTLE_GAIN, 0.0)
        self.villages += settle
        spent = np.where(recruit, np.minimum(self.resources, rules.RECRUIT_MOST), 0.0)
        self.resources -= spent
        self.army += spent / rules.RECRUIT_COST
        built = build | settle | recruit
        self.built_turns += built
        spent_on: Flags = built
        return spent_on

    def _talk(self, actions: Ints) -> tuple[Ints, Flags, Floats, Flags]:
        """Offers, all answered by the trust at the turn's beginning."""
        trust, points = self.trust.copy(), self.points
        shape = actions.shape
        partner = np.full(shape, -1, np.int64)
        accepted, strategic = np.zeros(shape, np.bool_), np.zeros(shape, np.bool_)
        change = np.zeros(shape)
        for first, needed, gain in (
            (rules.TRADE, rules.TRADE_TRUST, rules.TRUST_TRADE),
            (rules.PACT, rules.PACT_TRUST, rules.TRUST_PACT),
        ):
            for w, a in np.argwhere((actions >= first) & (actions < first + rules.RIVALS)):
                b = RIVAL_OF[a, actions[w, a] - first]
                yes = trust[w, b, a] >= needed
                if first == rules.TRADE:
                    yes &= self.resources[w, b] >= rules.TRADE_GIVEN
                    yes &= self.resources[w, a] >= rules.TRADE_GIVEN
                step = gain if yes else rules.TRUST_REFUSED
                partner[w, a], accepted[w, a], change[w, a] = b, yes, step
                strategic[w, a] = points[w, b] > points[w, a]
                self.trust[w, b, a] += step
                self.trust[w, a, b] += step if yes else 0.0
                if yes and first == rules.TRADE:
                    self.resources[w, [a, b]] += rules.TRADE_GOT - rules.TRADE_GIVEN
                elif yes:
                    self.pact[w, a, b] = self.pact[w, b, a] = rules.PACT_TURNS
        return partner, accepted, change, strategic

    def _send(self, actions: Ints) -> Flags:
        expected = np.zeros(actions.shape, np.bool_)
        attack = (actions >= rules.ATTACK) & (actions < rules.ATTACK + rules.RIVALS)
        for w, a in np.argwhere(attack):
            b = RIVAL_OF[a, actions[w, a] - rules.ATTACK]
            sent = rules.MARCH_SHARE * self.army[w, a]
            self.army[w, a] -= sent
            self.march[w, a, b] = sent
            self.due[w, a, b] = self.turn[w] + rules.MARCH
            expected[w, a] = sent > self._defence(w, b)
        return expected

    def _defence(self, w: int, b: int) -> float:
        return float(rules.DEFENCE * self.army[w, b] + rules.WALLS * self.villages[w, b])

    def _fight(self) -> Battles:
        arrived = (self.march > 0) & (self.due <= self.turn[:, None, None])
        fought = [self._battle(*place) for place in np.argwhere(arrived).tolist()]
        columns = list(zip(*fought, strict=True)) or [()] * len(_BATTLE_DTYPES)
        return Battles(*map(np.array, columns, _BATTLE_DTYPES))

    def _battle(self, w: int, a: int, b: int) -> tuple[float, ...]:
        """Let a march meet what the defender has left."""
        sent, army = float(self.march[w, a, b]), float(self.army[w, b])
        luck = 1 + rules.LUCK * float(self._random[w].uniform(-1, 1))
        strength, defence = sent * luck, self._defence(w, b)
        won = strength > defence
        stronger, weaker = max(strength, defence), min(strength, defence)
        share = (weaker / stronger) ** rules.LOSS_POWER
        own, theirs = (sent * share, army) if won else (sent, army * share)
        loot, captured = 0.0, False
        if won:
            left = sent - own
            loot = min(rules.LOOT_SHARE * self.resources[w, b], rules.LOOT_EACH * left)
            captured = strength > rules.CAPTURE * defence and self.villages[w, b] > 1
        self.army[w, b] -= theirs
        self.army[w, a] += sent - own
        self.resources[w, b] -= loot
        self.resources[w, a] += loot
        if captured:
            self._capture(w, a, b)
        self.march[w, a, b] = 0.0
        self.attacked[w, b, a] = self.turn[w]
        self.trust[w, b, a] += rules.TRUST_ATTACKED
        sent_turn = int(self.due[w, a, b]) - rules.MARCH
        return w, a, b, sent_turn, won, sent, own, theirs, loot, captured

    def _capture(self, w: int, a: int, b: int) -> None:
        made = self.production[w, b] / self.villages[w, b]
        self.villages[w, b] -= 1
        self.villages[w, a] += 1
        self.production[w, b] -= made
        self.production[w, a] += made

    def _pay(self) -> Floats:
        """Pay production less upkeep, and return what had no room."""
        upkeep = rules.UPKEEP * (self.army + self.march.sum(axis=2))
        full = np.maximum(self.resources + self.production - upkeep, 0.0)
        room = rules.STORE * (1 + self.villages)
        self.resources = np.minimum(full, room)
        self.pact = np.maximum(self.pact - 1, 0.0)
        most = rules.TRUST_MOST
        self.trust = np.clip(self.trust * rules.TRUST_DRIFT, -most, most)
        wasted: Floats = full - self.resources
        return wasted


def reset_all(tribes: Tribes, seeds: Sequence[int]) -> None:
    """Begin a match in every world."""
    for world, seed in enumerate(seeds):
        tribes.reset(world, seed)
