"""Rules by hand, and what no play can break."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from games.arena import rules
from games.arena.draws import keys_of
from games.arena.sight import slot_of_least, sorted_slots
from games.arena.world import Arena, Orders
from schemas.practice import ARCHETYPES, Head

P = rules.PACK


def begun(n: int, archetype: str | None = None, seed: int = 1) -> Arena:
    arena = Arena(n)
    kinds = np.arange(n) % 6 if archetype is None else np.full(n, ARCHETYPES.index(archetype))
    arena.begin(np.arange(n), keys_of(seed, n), np.stack([kinds, kinds]), np.zeros(n, np.bool_))
    return arena


def duel(archetype: str, apart: float) -> Arena:
    """One against one on open ground and without a gale, so far apart; the others are dead."""
    arena = begun(1, archetype)
    arena.hp[:, 1:] = 0.0
    arena.x[:, 0, 0], arena.y[:, 0, 0] = (-apart / 2, apart / 2), 12.0
    arena.hill[:, 0], arena.hill[:, 1] = 0.0, -12.0
    arena.gale_force[:] = 0.0
    return arena


def orders(arena: Arena, **first: int) -> Orders:
    """Everyone is idle but side 0's first actor."""
    none = [np.zeros((2, P, arena.n), np.int64) for _ in range(3)]
    for array, name in zip(none, ("combat", "move", "skill"), strict=True):
        array[0, 0] = first.get(name, 0)
    return Orders(none[0], none[1], none[2], np.zeros((2, 2, P, arena.n), np.float32))


def test_blow_block_ward_and_hill_by_hand() -> None:
    arena = duel("aggressive", 1.5)
    facts = arena.step(orders(arena, combat=rules.NEAREST))
    assert facts["damage_dealt"][0, 0, 0] == 9.0
    assert arena.hp[1, 0, 0] == 91.0
    arena = duel("aggressive", 1.5)
    given = orders(arena, combat=rules.NEAREST)
    given.combat[1, 0] = rules.BLOCK
    facts = arena.step(given)
    assert arena.hp[1, 0, 0] == pytest.approx(100 - 9 * 0.35)
    assert facts["damage_blocked"][1, 0, 0] == pytest.approx(9 * 0.65)
    arena = duel("aggressive", 1.5)
    arena.ward[1, 0] = 20.0
    facts = arena.step(orders(arena, combat=rules.NEAREST))
    assert arena.hp[1, 0, 0] == 100.0
    assert arena.ward[1, 0, 0] == pytest.approx(0.95 * 20 - 9)
    arena = duel("aggressive", 1.5)
    arena.hill[1] = arena.x[1, 0], arena.y[1, 0]
    arena.x[0, 0] -= 0.5  # both were on it
    arena.hill[1, 0] += 2.0
    arena.step(orders(arena, combat=rules.NEAREST))
    assert arena.hp[1, 0, 0] == pytest.approx(100 - 9 * rules.HILL_SHELTER)


def test_aim_counters_the_gale() -> None:
    for aimed, dealt in ((False, 0.0), (True, 9.0)):
        arena = duel("aggressive", 1.5)
        arena.gale_force[:], arena.gale_angle[:] = 1.7, 0.0
        given = orders(arena, combat=rules.NEAREST)
        given.aim[0, 0, 0] = -0.8 * 1.7 / rules.AIM_SPAN if aimed else 0.0
        facts = arena.step(given)
        assert facts["damage_dealt"][0, 0, 0] == pytest.approx(dealt, abs=1e-4)


def test_lead_hits_who_walks_on() -> None:
    for lead, full in ((0.0, False), (1.0, True)):
        arena = duel("ranged", 8.0)
        given = orders(arena, combat=rules.NEAREST)
        given.move[1, 0] = 3  # north in its own frame: south on the field
        given.aim[1, 0, 0] = -lead * 0.95 / rules.AIM_SPAN
        dealt = arena.step(given)["damage_dealt"][0, 0, 0]
        assert (dealt == 8.0) == full
        assert dealt > 0


def test_skills_cost_pause_and_need_range() -> None:
    arena = duel("mage", 8.5)
    arena.mana[:] = 100.0
    legal = arena.legal("skill")[:, 0, 0, 0]
    assert legal[rules.BOLT] and not legal[rules.NOVA]
    facts = arena.step(orders(arena, skill=rules.BOLT))
    assert facts["spell_damage"][0, 0, 0] == pytest.approx(12 * 1.3)
    assert arena.mana[0, 0, 0] == pytest.approx(100 - 18 + 2.0 * (1 + rules.WAIT_MANA))
    assert not arena.legal("skill")[rules.BOLT, 0, 0, 0]
    arena.step(orders(arena))
    assert arena.legal("skill")[rules.BOLT, 0, 0, 0]
    arena.mana[:] = 17.0
    assert not arena.legal("skill")[rules.BOLT, 0, 0, 0]


def test_skill_whose_mana_the_combat_action_spent_is_not_cast() -> None:
    arena = duel("mage", 7.0)
    arena.mana[:] = 20.0
    facts = arena.step(orders(arena, combat=rules.HEAVY, skill=rules.BOLT))
    assert facts["damage_dealt"][0, 0, 0] == pytest.approx(7.5 * rules.HEAVY_FACTOR)


def test_heal_goes_to_the_most_hurt_and_no_further_than_whole() -> None:
    arena = begun(1, "support")
    arena.x[0], arena.y[0] = -10.0, 0.0
    arena.hp[0, 3], arena.hp[0, 4] = 90.0, 94.0
    facts = arena.step(orders(arena, combat=rules.HEAL))
    assert arena.hp[0, 3, 0] == 95.0
    assert facts["healing"][0, 0, 0] == pytest.approx(5.0 * rules.LIFE / 95.0)
    assert facts["overhealing"][0, 0, 0] == pytest.approx(9.0 * rules.LIFE / 95.0)


def test_taunt_draws_the_eye_and_is_told_as_aggro() -> None:
    arena = begun(1, "tank")
    arena.x[:], arena.y[:] = 0.0, np.arange(P)[None, :, None] * 0.1
    strike = orders(arena, combat=rules.TAUNT)
    strike.combat[1] = rules.NEAREST
    before = arena.step(strike)
    assert before["aggro"].sum() == 0
    strike.combat[0] = rules.WAIT
    facts = arena.step(strike)
    assert facts["aggro"][0, 0, 0] == 4.0  # all but the one that struck at it before
    assert (arena.target[1] == 0).all()


def test_snare_slows_and_rally_strengthens() -> None:
    arena = duel("tank", 5.0)
    arena.mana[:] = 60.0
    arena.step(orders(arena, skill=rules.SNARE))
    given = orders(arena)
    given.move[1, 0] = 1
    arena.step(given)
    assert abs(arena.vx[1, 0, 0]) == pytest.approx(0.75 * rules.SNARE_FACTOR)
    arena = duel("aggressive", 1.5)
    arena.mana[:] = 60.0
    facts = arena.step(orders(arena, combat=rules.NEAREST, skill=rules.RALLY))
    assert facts["buffs"][0, 0, 0] == 1.0
    assert facts["damage_dealt"][0, 0, 0] == pytest.approx(9 * rules.RALLY_FACTOR)


def test_picking_one_of_five_agrees_with_sorting() -> None:
    rng = np.random.default_rng(1)
    dist = rng.random((2, P, P, 50)).astype(np.float32) * 30
    assert np.array_equal(sorted_slots(dist), dist.argsort(axis=2, kind="stable"))
    among = rng.random(dist.shape) < 0.5
    slot = slot_of_least(dist, among)
    right = np.where(among, np.floor(dist * 64), np.inf).argmin(axis=2)
    assert np.array_equal(slot, np.where(among.any(axis=2), right, 7))


def brawl(n: int) -> Arena:
    """Packs that begin in a knot."""
    arena = begun(n)
    arena.x /= 8.0
    arena.y /= 8.0
    return arena


def random_orders(arena: Arena, rng: np.random.Generator) -> Orders:
    """Anything, legal or not."""
    heads: tuple[Head, ...] = ("combat", "movement", "skill")
    shape = (2, P, arena.n)
    chosen = [rng.integers(-1, rules.N_CHOICES[head] + 1, shape) for head in heads]
    aim = rng.normal(size=(2, *shape)).astype(np.float32)
    return Orders(chosen[0], chosen[1], chosen[2], aim)


def test_nothing_is_won_or_lost_but_by_somebody() -> None:
    """Over random play: what is taken was dealt, deaths were kills, nothing leaves its bounds."""
    arena, rng = brawl(60), np.random.default_rng(3)
    for _ in range(rules.LIMIT + 5):
        alive, over, before = arena.alive, arena.over, state(arena)
        facts = arena.step(random_orders(arena, rng))
        for dealt, suffered in (("damage_dealt", "damage_taken"), ("kills", "deaths")):
            given, got = facts[dealt].sum(axis=1), facts[suffered].sum(axis=1)[::-1]
            assert given == pytest.approx(got, abs=1e-3)
        assert not (arena.alive & ~alive).any()
        assert ((facts["deaths"] > 0) == (alive & ~arena.alive)).all()
        assert (arena.hp <= arena.stat["hit_points"]).all()
        assert ((arena.mana >= 0) & (arena.mana <= arena.stat["mana"])).all()
        assert (np.abs(arena.x) <= rules.HALF).all() and (np.abs(arena.y) <= rules.HALF).all()
        assert all(np.isfinite(fact).all() for fact in facts.values())
        for fact in ("damage_dealt", "healing", "buffs", "kiting"):
            assert not facts[fact][~alive].any()
        still = [
            np.array_equal(a[..., over], b[..., over])
            for a, b in zip(before, state(arena), strict=True)
        ]
        assert all(still)
    assert arena.over.all()
    assert not arena.alive.all()


def state(arena: Arena) -> list[NDArray[np.float32]]:
    return [arena.hp.copy(), arena.x.copy(), arena.y.copy()]


def test_dead_have_the_neutral_choice_alone_and_the_living_always_have_one() -> None:
    arena, rng = brawl(30), np.random.default_rng(3)
    for _ in range(90):
        arena.step(random_orders(arena, rng))
    alive = arena.alive
    assert not alive.all()
    for head in ("combat", "movement", "skill"):
        legal = arena.legal(head)
        assert legal[0].all()
        assert not legal[1:, ~alive].any()
