from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest

from agents.policies import OnnxPolicy, RandomPolicy
from games.battle.facts import succeeded
from games.battle.legal import STAY
from games.battle.play import BattleMatches
from games.battle.settings import BattleSettings, battle_settings
from games.battle.world import MAX_CYCLES, PACK_SIZE
from games.match import Step
from schemas.errors import SchemaError
from schemas.events import ActorEvent, Decision, EpisodeEnd, Outcome
from schemas.game import Game, check_against_game, load_game, parse_game
from tests.games.nets import battle_graph

DESCRIPTION = Path(__file__).parents[2] / "games" / "battle" / "battle.toml"
SETTINGS = BattleSettings(worlds=4, opponent_random=0.25, opponent_earlier=0.25)


@pytest.fixture(scope="module")
def game() -> Game:
    return load_game(DESCRIPTION)


def play(n_steps: int, seed: int = 1, incarnation: str = "a1", worlds: int = 4) -> list[Step]:
    settings = BattleSettings(worlds=worlds, opponent_random=0.25, opponent_earlier=0.25)
    matches = BattleMatches(settings, seed, incarnation)
    return [matches.step(1_000 + 60 * k) for k in range(n_steps)]


@pytest.fixture(scope="module")
def steps() -> list[Step]:
    brawls = play(160, worlds=8)
    # Random packs seldom finish each other: these matches end by their length.
    matches = BattleMatches(
        BattleSettings(worlds=2, opponent_random=1, opponent_earlier=0), 1, "b1"
    )
    matches.policy = RandomPolicy()
    return brawls + [matches.step(20_000 + 60 * k) for k in range(MAX_CYCLES + 20)]


def told(steps: list[Step]) -> list[ActorEvent]:
    return [event for step in steps for event in step.events]


def test_play_says_only_what_the_description_allows(steps: list[Step], game: Game) -> None:
    for event in told(steps):
        assert check_against_game(event, {"battle": game}) is game


def test_play_tells_each_decision_then_its_outcome(steps: list[Step]) -> None:
    of_actor: dict[str, list[ActorEvent]] = defaultdict(list)
    for event in told(steps):
        of_actor[event.actor_id].append(event)
    assert len(of_actor) == 10 * PACK_SIZE
    for events in of_actor.values():
        asked: Decision | None = None
        for event in events:
            if isinstance(event, Decision):
                assert asked is None
                asked = event
            elif isinstance(event, Outcome):
                assert asked is not None
                assert event.decision_id == asked.decision_id
                asked = None
            else:
                assert asked is None


def test_play_facts_make_up_the_engines_reward(steps: list[Step], game: Game) -> None:
    weights = game.rewards["battle@1"].weights or {}
    seen: Counter[str] = Counter()
    for event in told(steps):
        if isinstance(event, Outcome):
            total = sum(w * event.facts[name] for name, w in weights.items())
            assert total == pytest.approx(event.facts["env_reward"], abs=2e-4)
            assert abs(game.rewards["battle@1"].scale * total) <= 1
            seen.update(name for name in weights if event.facts[name])
    assert set(seen) == set(weights)


def test_play_ends_of_the_dead_the_beaten_and_the_timed_out(steps: list[Step]) -> None:
    outcomes: dict[str, list[Outcome]] = defaultdict(list)
    ends: list[EpisodeEnd] = []
    for event in told(steps):
        if isinstance(event, Outcome):
            outcomes[f"{event.decision_id.rsplit('-', 2)[0]}/{event.actor_id}"].append(event)
        elif isinstance(event, EpisodeEnd):
            ends.append(event)
    assert {"won", "lost"} <= {end.result for end in ends}
    assert any(end.truncated for end in ends)
    for end in ends:
        *before, last = outcomes[f"{end.episode}/{end.actor_id}"]
        assert not any(o.terminated or o.truncated for o in before)
        assert (last.terminated, last.truncated) == (end.terminated, end.truncated)
        assert end.terminated != end.truncated
        assert (last.next_observation is not None) == end.truncated
        assert (last.next_legal is not None) == end.truncated
        assert end.facts is not None
        assert bool(end.facts["survived"]) == (not last.facts["died"])
        if end.truncated:
            assert last.next_legal is not None
            assert last.next_legal[STAY] == 1
            assert end.facts["steps"] == MAX_CYCLES


def test_play_every_actor_hears_of_its_matchs_end(steps: list[Step]) -> None:
    ended = Counter(e.episode for e in told(steps) if isinstance(e, EpisodeEnd))
    assert len(ended) == sum(len(step.ended) for step in steps) > 4
    assert set(ended.values()) == {PACK_SIZE}


def test_play_same_seed_and_incarnation_say_the_same() -> None:
    assert told(play(60)) == told(play(60))
    assert told(play(30)) != told(play(30, seed=2))


def test_play_ids_never_come_twice_over_restarts() -> None:
    ids = [
        event.decision_id
        for incarnation in ("a1", "a2")
        for event in told(play(60, incarnation=incarnation))
        if isinstance(event, Decision)
    ]
    assert len(set(ids)) == len(ids)


def test_play_restarted_game_does_not_repeat_its_matches() -> None:
    moves = [
        [e.action for e in told(play(20, incarnation=i)) if isinstance(e, Decision)]
        for i in ("a1", "a2")
    ]
    assert moves[0] != moves[1]


def test_play_sides_alternate_and_opponents_follow_the_mix() -> None:
    matches = BattleMatches(BattleSettings(worlds=16, opponent_random=0.3), 1, "a")
    opponents: Counter[str] = Counter()
    for k in range(300):
        opponents.update(end.opponent_id for end in matches.step(k).ended)
    share = opponents["random"] / opponents.total()
    assert opponents.total() > 40
    assert 0.12 < share < 0.5
    assert set(opponents) == {"random", "scripted"}


def test_play_swap_between_two_steps_drops_nothing_and_acts_in_every_world() -> None:
    matches = BattleMatches(SETTINGS, 1, "a1")
    before = [matches.step(k) for k in range(25)]
    first = OnnxPolicy(battle_graph(1), "v0001", epsilon=0.05)
    matches.policy = first
    after = [matches.step(k) for k in range(25, 200)]
    matches.policy, matches.earlier = OnnxPolicy(battle_graph(2), "v0002", 0.05), [first]
    last = [matches.step(k) for k in range(200, 460)]
    for steps, version in ((before, "scripted"), (after, "v0001"), (last, "v0002")):
        decisions = [e for e in told(steps) if isinstance(e, Decision)]
        outcomes = {e.decision_id for e in told(steps) if isinstance(e, Outcome)}
        assert {d.policy_version for d in decisions} == {version}
        assert {d.decision_id for d in decisions} == outcomes
        assert {d.world for d in decisions if d in steps[0].events} == {
            f"battle-a1-w{k}" for k in range(4)
        }
        assert all(step.worlds == list(range(4)) for step in steps)
    assert "v0001" in {end.opponent_id for step in last for end in step.ended}


def test_play_propensities_are_those_of_the_mixture() -> None:
    rows = [e for e in told(play(80, worlds=8)) if isinstance(e, Decision)]
    assert 0.05 < np.mean([e.explored for e in rows]) < 0.16
    for e in rows:
        assert isinstance(e.probabilities, bytes)
        shares = np.frombuffer(e.probabilities, "<f4")
        assert shares[e.action] == pytest.approx(e.propensity, rel=1e-6)
        assert shares.sum() == pytest.approx(1, abs=1e-5)


def test_facts_success_is_of_what_was_tried() -> None:
    nothing = {"moved": 0.0, "hit": 0.0, "kills": 0.0}
    assert succeeded(STAY, nothing) is None
    assert succeeded(0, nothing) is False
    assert succeeded(0, {**nothing, "moved": 1.0}) is True
    assert succeeded(13, nothing) is False
    assert succeeded(13, {**nothing, "kills": 1.0}) is True


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"settings": {"worlds": 0}}, r"\$.settings.worlds must be .*1"),
        ({"settings": {"world": 3}}, r"\$.settings.world must be a known field"),
        ({"settings": {"epsilon": 1.5}}, r"\$.settings.epsilon must be"),
        (
            {"settings": {"opponent_random": 0.6, "opponent_earlier": 0.6}},
            r"\$.settings.opponent_earlier must be at most 1 together",
        ),
        ({"observation": {"layout": "x@1", "shape": [845]}}, r"\$.observation.shape must be \[13"),
        ({"actions": {"names": ["a", "b"]}}, r"\$.actions.names must be .*got \['a', 'b'\]"),
        ({"archetypes": {"mage": {"model": "m"}}, "learners": {}}, r"\$.archetypes must be"),
    ],
)
def test_settings_refuse_a_description_that_does_not_fit(
    change: dict[str, object], message: str
) -> None:
    import tomllib

    document = tomllib.loads(DESCRIPTION.read_text()) | change
    with pytest.raises(SchemaError, match=message):
        battle_settings(parse_game(document))


def test_settings_of_the_shipped_description_are_the_defaults(game: Game) -> None:
    assert battle_settings(game) == BattleSettings()
