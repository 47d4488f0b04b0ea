from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from agents.policies import Choice, OnnxPolicy, RandomPolicy, Uniforms
from games.battle.matches import play_matches
from games.battle.scripted import ScriptedPolicy
from games.match import tally
from games.seeds import Purpose, match_seed, match_seeds, share, stream_keys
from tests.games.nets import battle_graph

SEEDS = match_seeds("gate", "battle-pack", "v0001", 3)


def test_matches_play_each_seed_on_both_sides() -> None:
    results = play_matches(ScriptedPolicy(), RandomPolicy(), SEEDS)
    assert [r.seed for r in results] == [s for s in SEEDS for _ in range(2)]
    assert [r.side for r in results] == ["red", "blue"] * len(SEEDS)
    one_sided = play_matches(ScriptedPolicy(), RandomPolicy(), SEEDS, swap_sides=False)
    assert one_sided == results[::2]


@pytest.mark.parametrize("n_worlds", [2, 5])
def test_matches_are_a_function_of_policies_and_seeds(n_worlds: int) -> None:
    policy = OnnxPolicy(battle_graph(), "v0001", epsilon=0.1)
    expected = play_matches(policy, ScriptedPolicy(), SEEDS)
    assert play_matches(policy, ScriptedPolicy(), SEEDS, n_worlds=n_worlds) == expected
    alone = [play_matches(policy, ScriptedPolicy(), [seed]) for seed in SEEDS]
    assert [r for results in alone for r in results] == expected


def test_matches_of_a_policy_against_itself_are_fair() -> None:
    """Both sides of a seed are then one match, seen from each side."""
    results = play_matches(ScriptedPolicy(), ScriptedPolicy(), SEEDS)
    mirrored = {"won": "lost", "lost": "won", "draw": "draw"}
    for red, blue in zip(results[::2], results[1::2], strict=True):
        assert red.steps == blue.steps
        assert blue.result == mirrored[red.result]
    counted = tally(results)
    assert counted.wins == counted.losses
    assert counted.wins + counted.draws + counted.losses == counted.n == len(counted.outcomes)


def test_matches_give_policies_only_standing_agents_and_the_games_mask() -> None:
    class Watching(ScriptedPolicy):
        def act(
            self, observations: NDArray[np.float32], legal: NDArray[np.bool_], rng: Uniforms
        ) -> Choice:
            assert (observations[:, (6 * 13 + 6) * 5 + 2] > 0).all()
            assert legal[:, 6].all()
            return super().act(observations, legal, rng)

    assert len(play_matches(Watching(), Watching(), SEEDS)) == 6


def test_matches_of_policies_that_draw_nothing_differ_by_their_opening() -> None:
    one, other = (OnnxPolicy(battle_graph(k), f"v{k}") for k in (1, 2))
    seeds = match_seeds("gate", "battle-pack", "v0001", 8)
    plain, opened = (play_matches(one, other, seeds, opening=k) for k in (0, 8))
    assert len({r[1:] for r in opened}) > len({r[1:] for r in plain})
    assert play_matches(one, other, seeds, opening=8, n_worlds=3) == opened


def test_matches_of_no_seed_are_none() -> None:
    assert play_matches(ScriptedPolicy(), ScriptedPolicy(), []) == []
    assert tally([]).n == 0


def test_seeds_of_purposes_never_meet() -> None:
    purposes: list[Purpose] = ["gate", "confirm", "final", "live"]
    drawn = {p: set(match_seeds(p, "m", "v", 2000)) for p in purposes}
    assert all(len(seeds) == 2000 for seeds in drawn.values())
    assert all(0 <= seed < 2**31 for seeds in drawn.values() for seed in seeds)
    ranges = sorted((min(s), max(s)) for s in drawn.values())
    assert all(low[1] < high[0] for low, high in zip(ranges, ranges[1:], strict=False))
    assert all(match_seed(p, "x", 1) // 2**29 == purposes.index(p) for p in purposes)


def test_seeds_differ_by_version_and_grow_at_the_end() -> None:
    assert match_seeds("gate", "m", "v1", 50) == match_seeds("gate", "m", "v1", 100)[:50]
    assert not set(match_seeds("gate", "m", "v1", 50)) & set(match_seeds("gate", "m", "v2", 50))
    # Golden: a published table of matches must be playable again.
    assert match_seeds("final", "battle-pack", "v0001", 3) == GOLDEN


def test_seeds_give_every_agent_a_stream_of_its_own() -> None:
    keys = np.concatenate([stream_keys(seed, 12) for seed in SEEDS])
    assert len(set(keys.tolist())) == len(keys)
    assert 0 <= share("a", 1) < 1
    assert share("a", 1) != share("a", 2)


GOLDEN = [1455711595, 1422420045, 1313550267]
