from __future__ import annotations

from collections import Counter

import msgspec
import numpy as np
import pytest

from agents.policies.mix import RandomPolicy
from agents.rewards.fold import RewardsFold
from agents.rewards.rules import compile_reward
from games.arena import rules
from games.arena.draws import keys_of
from games.arena.events import full_mask
from games.arena.play import ArenaMatches
from games.arena.rewards import DESCRIPTION, described, rewards
from games.arena.rule import HEADS, ScriptedRule, action_slice
from games.arena.scripted import combat_odds, scripted
from games.arena.settings import FOLLOWED, arena_settings
from games.arena.view import observe
from games.arena.world import Arena
from games.connectors import connector
from games.match import Step
from schemas.codec import encode_pack
from schemas.errors import SchemaError
from schemas.events import Decision, EpisodeEnd, Outcome, Tick
from schemas.game import check_against_game, load_game, parse_game
from schemas.practice import ARCHETYPES
from schemas.records import Experience, Row, Watermark, decode_rows
from schemas.rewards import Reward
from schemas.topics import Topics
from streams.engine.records import Record

STEP_MS = 50


def play(n_steps: int, incarnation: str = "a1") -> list[Step]:
    settings = arena_settings(described())
    matches = ArenaMatches(settings, 7, incarnation)
    return [matches.step(10_000 + STEP_MS * k) for k in range(n_steps)]


@pytest.fixture(scope="module")
def steps() -> list[Step]:
    return play(110)


def test_equal_seeds_say_the_same_and_another_incarnation_another(steps: list[Step]) -> None:
    assert [s.events for s in play(20)] == [s.events for s in steps[:20]]
    assert [s.events for s in play(20, "b2")] != [s.events for s in steps[:20]]


def test_four_heads_of_all_archetypes_speak_as_the_description_allows(steps: list[Step]) -> None:
    game = described()
    told: Counter[tuple[str, str]] = Counter()
    for step in steps:
        for event in step.events:
            check_against_game(event, {game.name: game})
            if isinstance(event, Decision):
                told[event.archetype, event.domain] += 1
                assert isinstance(event.legal, bytes)
                part = action_slice(event.domain)  # type: ignore[arg-type]
                assert set(np.flatnonzero(np.frombuffer(event.legal, np.uint8))) <= set(
                    range(part.start, part.stop)
                )
                assert (event.continuous is not None) == (event.domain == "aim")
    assert set(told) == {(a, h) for a in ARCHETYPES for h in HEADS}
    ids = [e.decision_id for s in steps for e in s.events if isinstance(e, Decision)]
    outcomes = [e.decision_id for s in steps for e in s.events if isinstance(e, Outcome)]
    assert len(set(ids)) == len(ids) == sum(s.n_decisions for s in steps)
    assert sorted(ids) == sorted(outcomes)
    assert any(isinstance(e, EpisodeEnd) for s in steps for e in s.events)
    assert {end.policy_version for s in steps for end in s.ended} == {"scripted"}


def folded(records: list[Record]) -> list[Row]:
    game, topics = described(), Topics()
    effects = RewardsFold(0, {}, {game.name: game}, topics).fold(records)
    return [
        row
        for output in effects.outputs
        if output.topic == topics.experiences and output.value
        for row in decode_rows(output.value)
    ]


def test_every_decision_settles_and_is_paid_by_its_archetype(steps: list[Step]) -> None:
    records = [
        Record(0, k, 10_000 + STEP_MS * k, None, encode_pack(list(step.events)))
        for k, step in enumerate(steps)
    ]
    rows = folded(records)
    n_in = sum(s.n_decisions for s in steps)
    settled = {r.decision_id: r for r in rows if isinstance(r, Experience)}
    n_alive = len({(e.actor_id, e.domain) for e in steps[-1].events if isinstance(e, Decision)})
    ended = {
        e.actor_id
        for e in steps[-1].events
        if isinstance(e, Outcome) and (e.terminated or e.truncated)
    }
    # All but the last step's, which wait for what follows.
    assert n_in - len(settled) == n_alive - 4 * len(ended)
    tick = encode_pack([Tick(event_time_ms=10_000_000, source="test")])
    rows = folded([*records, Record(0, len(records), 10_000_000, None, tick)])
    (ledger,) = [row for row in rows if isinstance(row, Watermark)]
    assert (ledger.n_open, ledger.n_dead, ledger.n_decisions) == (0, 0, n_in)
    for row in settled.values():
        assert row.reward_version == f"{row.archetype}@1"
        if not row.terminated:
            assert row.next_observation is not None and row.next_legal is not None or row.truncated
        if row.next_legal is not None:
            part = action_slice(row.domain)  # type: ignore[arg-type]
            assert np.flatnonzero(np.frombuffer(row.next_legal, np.uint8)).min() == part.start


def test_weights_pay_what_the_archetypes_formulas_pay(steps: list[Step]) -> None:
    game = described()
    archetype_of = {
        e.decision_id: e.archetype for s in steps for e in s.events if isinstance(e, Decision)
    }
    paid: Counter[str] = Counter()
    for step in steps:
        for event in step.events:
            if isinstance(event, Outcome) and event.decision_id.endswith("combat"):
                name = archetype_of[event.decision_id]
                weights = compile_reward(game.rewards[f"{name}@1"])
                formula = compile_reward(Reward(formula=f"{name}@2"))
                value = weights.value(event.facts)
                assert value == pytest.approx(formula.value(event.facts), abs=1e-9)
                paid[name] += value != 0
    assert min(paid[name] for name in ARCHETYPES) > 5


def test_rewards_over_arrays_are_those_of_the_log() -> None:
    from games.arena.events import told_facts

    n = 12
    arena = Arena(n)
    kinds = np.arange(n) % 6
    arena.begin(np.arange(n), keys_of(3, n), np.stack([kinds, kinds]), np.zeros(n, np.bool_))
    degree = np.full((2, 1, n), 2)
    game = described()
    for _ in range(40):
        facts = arena.step(scripted(arena, degree))
        facts["survived"] = np.ones_like(facts["deaths"])
        values = rewards({k: f[0] for k, f in facts.items()}, arena.kind[0])
        for w in range(n):
            name = ARCHETYPES[kinds[w]]
            rule = compile_reward(game.rewards[f"{name}@1"])
            told = told_facts(name, facts)
            for slot in range(rules.PACK):
                mine = {k: float(f[slot, w]) for k, f in told.items()}
                assert values[slot, w] == pytest.approx(rule.value(mine), abs=1e-5)


@pytest.mark.parametrize("archetype", ARCHETYPES)
def test_scripted_rule_says_what_the_arrays_do(archetype: str) -> None:
    n = 24
    arena = Arena(n)
    kinds = np.full((2, n), ARCHETYPES.index(archetype))
    arena.begin(np.arange(n), keys_of(5, n), kinds, np.zeros(n, np.bool_))
    degree, rule = np.full((2, 1, n), 2), ScriptedRule(archetype)
    for _ in range(30):
        own, alive = scripted(arena, degree), arena.alive[0].T & ~arena.over[:, None]
        seen, odds = observe(arena, 0), combat_odds(arena, degree)[:, 0]
        for head, choice in zip(HEADS, own[:3], strict=False):
            legal = arena.legal(head)[:, 0].transpose(2, 1, 0)
            found = rule.distribution(seen[alive], full_mask(head, legal)[alive])
            part = found[:, action_slice(head)]
            assert part.sum(axis=1) == pytest.approx(1.0)
            if head == "combat":
                assert part == pytest.approx(odds.transpose(2, 1, 0)[alive], abs=1e-6)
            else:
                chance = np.take_along_axis(part, choice[0].T[alive][:, None], 1)[:, 0]
                # Places are rounded to float32 in the observation: a border may fall either way.
                assert (chance == 1.0).mean() > 0.995
        arena.step(own)


def test_how_often_the_script_does_a_thing_is_what_its_odds_say() -> None:
    n = 4000
    arena = Arena(n)
    kinds = np.full((2, n), ARCHETYPES.index("tank"))
    arena.begin(np.arange(n), keys_of(5, n), kinds, np.zeros(n, np.bool_))
    degree = np.full((2, 1, n), 2)
    for _ in range(14):
        arena.step(scripted(arena, degree))
    odds = combat_odds(arena, degree)
    taken = scripted(arena, degree).combat
    for action in range(len(rules.COMBAT)):
        share = (taken == action).mean()
        assert share == pytest.approx(odds[action].mean(), abs=0.01)
    assert odds[rules.BLOCK].mean() > 0.01


def test_connector_plays_each_seed_from_both_sides() -> None:
    played = connector(described())
    assert played.archetype == FOLLOWED
    observation, legal = played.sample()
    assert observation.shape == (1, 64)
    assert legal.shape == (1, len(rules.ACTION_NAMES))
    results = played.play(played.scripted(), RandomPolicy(), [3, 4])
    assert [r.seed for r in results] == [3, 3, 4, 4]
    assert {r.result for r in results} == {"won"}
    apart = played.play(played.scripted(), RandomPolicy(), [4], n_worlds=1)
    assert apart == results[2:]


def test_description_that_does_not_fit_is_refused() -> None:
    game = load_game(DESCRIPTION)
    assert arena_settings(game).worlds == 12
    document = msgspec.to_builtins(game)
    document["observation"]["shape"] = [7]
    with pytest.raises(SchemaError, match=r"\$.observation.shape must be \[64\]; got \[7\]"):
        arena_settings(parse_game(document))
    document = msgspec.to_builtins(game)
    document["archetypes"]["mage"]["reward"] = "wizard@1"
    with pytest.raises(SchemaError, match=r"\$.archetypes.mage.reward must be one of"):
        parse_game(document)


@pytest.mark.parametrize(("champions", "n"), [(0, 2), (6, 7), (12, 12)])
def test_worlds_are_the_champions_and_then_dealt_evenly(champions: int, n: int) -> None:
    settings = msgspec.structs.replace(arena_settings(described()), champion_worlds=champions)
    step = ArenaMatches(settings, 1, "a").step(10_000)
    worlds = {(e.world, e.archetype) for e in step.events if isinstance(e, Decision)}
    dealt = Counter(archetype for _, archetype in worlds)
    others = {name: 2 if champions == 0 else 1 for name in ARCHETYPES if name != FOLLOWED}
    assert dealt == {FOLLOWED: n} | (others if champions < 12 else {})
