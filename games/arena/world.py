"""Many matches of two packs of five, as arrays over sides, slots and matches.

A step: all choose at once; heals and wards come first, then all move, then all blows fall. Equal
seeds and orders give equal matches, however many are played side by side. Shapes: W matches; a
number of an actor is [2, 5, W] (side, slot, match), one of an actor and an enemy [2, 5, 5, W]. The
matches come last so that one operation of numpy is one long loop.

What an actor knows of places is in its own side's frame, turned by half a circle for side 1: both
sides see their enemy in the east, and a policy plays either.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from games.arena import rules
from games.arena.blows import Facts, fall
from games.arena.draws import GOLDEN, Keys, mixed, uniforms
from games.arena.sight import Sight, look
from schemas.practice import Head

Floats = NDArray[np.float32]
Flags = NDArray[np.bool_]
Ints = NDArray[np.int64]

P = rules.PACK
_SLOTS = np.arange(P, dtype=np.int64)


class Orders(NamedTuple):
    """What every actor is to do; of the dead nothing is read. Own frame."""

    combat: Ints
    move: Ints
    skill: Ints
    aim: Floats
    """[2 (x, y), 2, 5, W], each in [-1, 1]."""


class Arena:
    """W matches; every public array is only to be read."""

    def __init__(self, n_matches: int) -> None:
        """Make room for matches; `begin` starts them."""
        self.n = n_matches
        shape = (2, P, n_matches)
        self.turn = np.array([1.0, -1.0], np.float32)[:, None, None]
        """Own frame to field and back."""
        self.kind = np.zeros(shape, np.int64)
        self.stat = {name: np.ones(shape, np.float32) for name in rules.KINDS}
        self.key: Keys = np.zeros(shape, np.uint64)
        floats = ("x", "y", "vx", "vy", "hp", "mana", "ward", "aggro", "dealt", "taken")
        self.x, self.y, self.vx, self.vy, self.hp, self.mana, self.ward, self.aggro, self.dealt, \
            self.taken = (np.zeros(shape, np.float32) for _ in floats)  # fmt: skip
        self.rally = np.zeros(shape, np.int64)
        self.snare = np.zeros(shape, np.int64)
        self.target = np.zeros(shape, np.int64)
        """Slot of the enemy that was last struck at; -1 where none was in the last step."""
        self.beset = np.zeros(shape, np.int64)
        """By how many enemies an actor was struck at in the last step."""
        self.ready = np.zeros((len(rules.SKILLS), *shape), np.int64)
        """The step from which a skill is ready."""
        self.step_no = np.zeros(n_matches, np.int64)
        self.gale_angle = np.zeros(n_matches, np.float32)
        self.gale_turn = np.zeros(n_matches, np.float32)
        self.gale_force = np.zeros(n_matches, np.float32)
        self.hill = np.zeros((2, 2, n_matches), np.float32)
        """[hill, (x, y), W]; the second is the first turned by half a circle."""
        self.foe = (np.array([1, 0])[:, None, None] * P * n_matches + np.arange(n_matches)).astype(
            np.int64
        )
        """[2, 1, W]: with ``slot * W`` added the place of an enemy in a flat [2, 5, W]."""
        self.friend = self.foe[::-1].copy()
        self._sight: Sight | None = None

    # -- beginning

    def begin(self, which: Ints, seeds: Keys, kinds: Ints, flip: Flags) -> None:
        """Start matches anew.

        Args:
            which: the matches, i64[N].
            seeds: u64[N]; a match is a function of its seed, its kinds and the orders.
            kinds: i64[2, N], the archetype of each side's pack.
            flip: bool[N]: the sides change starts, and whatever luck goes with them.
        """
        n = len(which)
        kind = np.broadcast_to(kinds[:, None, :], (2, P, n))
        self.kind[:, :, which] = kind
        for name, table in rules.KINDS.items():
            self.stat[name][:, :, which] = np.asarray(table, np.float32)[kind]
        places = (np.arange(2 * P, dtype=np.uint64) + np.uint64(1)).reshape(2, P, 1)
        key = mixed(mixed(seeds)[None, None, :] + places * GOLDEN)
        key = np.where(flip, key[::-1], key)
        self.key[:, :, which] = key
        self._place(which, seeds, key, flip)
        stat = self.stat
        self.hp[:, :, which] = stat["hit_points"][:, :, which]
        self.mana[:, :, which] = 0.6 * stat["mana"][:, :, which]
        for array in (self.vx, self.vy, self.ward, self.aggro, self.dealt, self.taken):
            array[:, :, which] = 0.0
        for counts in (self.rally, self.snare, self.beset):
            counts[:, :, which] = 0
        self.target[:, :, which] = -1
        self.ready[:, :, :, which] = 0
        self.step_no[which] = 0
        self._sight = None

    def _place(self, which: Ints, seeds: Keys, key: Keys, flip: Flags) -> None:
        jitter = uniforms(key, 2)
        own_x = -8.0 - 4.0 * jitter[0]
        own_y = (_SLOTS - 2.0)[None, :, None] * 4.0 + 4.0 * (jitter[1] - 0.5)
        self.x[:, :, which] = self.turn * own_x
        self.y[:, :, which] = self.turn * own_y
        luck = uniforms(seeds, 5)
        self.gale_angle[which] = np.float32(2 * np.pi) * luck[0] + np.pi * flip
        self.gale_turn[which] = 0.08 * (luck[1] - 0.5)
        low, high = rules.GALE
        self.gale_force[which] = low + (high - low) * luck[2]
        hill = np.stack([-3.0 - 4.0 * luck[3], 10.0 * (luck[4] - 0.5)])
        self.hill[0][:, which], self.hill[1][:, which] = hill, -hill

    # -- looking

    @property
    def alive(self) -> Flags:
        """[2, 5, W]."""
        return self.hp > 0

    @property
    def over(self) -> Flags:
        """[W]: a pack is gone, or the steps are."""
        over: Flags = self.decided | (self.step_no >= rules.LIMIT)
        return over

    @property
    def decided(self) -> Flags:
        """[W]: a pack is gone."""
        stands: Flags = np.any(self.alive, axis=1)
        gone: Flags = ~(stands[0] & stands[1])
        return gone

    def scores(self) -> Floats:
        """[W]: 1.0 where side 0 has more actors standing, 0.5 where both have as many, else 0.0."""
        left = self.alive.sum(axis=1)
        scores: Floats = (0.5 + 0.5 * np.sign(left[0] - left[1])).astype(np.float32)
        return scores

    def gale(self) -> tuple[Floats, Floats]:
        """[2, 1, W] each: the gale's x and y in each side's frame."""
        x = self.gale_force * np.cos(self.gale_angle)
        y = self.gale_force * np.sin(self.gale_angle)
        return self.turn * x, self.turn * y

    def sight(self) -> Sight:
        """Return what the places mean; reckoned once a step."""
        if self._sight is None:
            reach = self.stat["reach"]
            self._sight = look(self.x, self.y, self.alive, reach, self.hill)
        return self._sight

    def legal(self, head: Head) -> Flags:
        """[A, 2, 5, W]: the choices of a head that are open; of the dead the neutral one alone."""
        n = rules.N_CHOICES[head]
        mask = np.zeros((n, 2, P, self.n), np.bool_)
        mask[0] = True
        alive = self.alive
        if head in ("movement", "aim"):
            mask[1:] = alive if head == "movement" else True
            return mask
        sight = self.sight()
        nearest = sight.nearest
        if head == "combat":
            reaches = alive & (nearest <= self.stat["reach"])
            mask[1:5] = reaches
            mask[rules.HEAVY] = reaches & (self.mana >= rules.HEAVY_COST)
            mask[rules.SWEEP] = alive & (nearest <= rules.SWEEP_REACH)
            mask[rules.BLOCK] = alive
            mask[rules.HEAL] = alive & (self.mana >= rules.HEAL_COST)
            taunts = alive & (nearest <= rules.TAUNT_REACH)
            mask[rules.TAUNT] = taunts & (self.mana >= rules.TAUNT_COST)
            return mask
        for skill in range(1, n):
            paid = alive & (self.mana >= rules.SKILL_COST[skill])
            mask[skill] = paid & (self.ready[skill] <= self.step_no)
            if skill == rules.STRIKE:
                mask[skill] &= nearest <= self.stat["reach"]
            elif skill in (rules.BOLT, rules.NOVA, rules.SNARE):
                mask[skill] &= nearest <= rules.SKILL_RANGE[skill]
        return mask

    # -- playing

    def step(self, orders: Orders) -> Facts:
        """Take a step in every match; one that is over stands still.

        What is not legal counts as the head's neutral choice, and so does a skill whose mana the
        same step's combat action has spent.
        """
        facts = fall(self, self._checked(orders))
        self.step_no += ~self.over
        self.gale_angle += self.gale_turn
        self._sight = None
        return facts

    def _checked(self, orders: Orders) -> Orders:
        chosen: list[Ints] = []
        going = ~self.over
        heads: tuple[tuple[Head, Ints], ...] = (
            ("combat", orders.combat), ("movement", orders.move), ("skill", orders.skill),
        )  # fmt: skip
        for head, choice in heads:
            legal = self.legal(head)
            known = (choice >= 0) & (choice < len(legal))
            index = np.where(known, choice, 0)
            fine = np.take_along_axis(legal, index[None], axis=0)[0] & going
            chosen.append(np.where(fine, index, 0))
        aim = np.clip(np.nan_to_num(orders.aim), -1.0, 1.0)
        return Orders(chosen[0], chosen[1], chosen[2], aim)

    def walk(self, move: Ints) -> None:
        """Move everyone by an order of each."""
        speed = self.stat["speed"] * np.where(self.snare > 0, rules.SNARE_FACTOR, 1.0)
        speed = (self.turn * speed).astype(np.float32)
        for place, step, table in (("x", "vx", rules.MOVE_X), ("y", "vy", rules.MOVE_Y)):
            before = getattr(self, place)
            after = np.clip(before + speed * table[move], -rules.HALF, rules.HALF)
            setattr(self, step, after - before)
            setattr(self, place, after)

    def luck(self, k: int) -> Floats:
        """f32[k, 2, 5, W] in [0, 1), the same whenever asked in the same step."""
        return uniforms(self.key + (self.step_no.astype(np.uint64) << np.uint64(20)), k)
