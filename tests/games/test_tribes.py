from __future__ import annotations

from collections import Counter
from pathlib import Path

import hypothesis.strategies as st
import msgspec
import numpy as np
import pytest
from hypothesis import given, settings

from agents.policies.mix import RandomPolicy
from agents.rewards.fold import RewardsFold
from games.connectors import connector
from games.match import Step, tally
from games.seeds import match_seeds
from games.tribes import rules
from games.tribes.matches import play_matches
from games.tribes.play import TribesMatches
from games.tribes.scripted import ScriptedPolicy
from games.tribes.settings import TribesSettings, domain_of, tribes_settings
from games.tribes.view import N_FEATURES, column, observe
from games.tribes.world import RIVAL_OF, Tribes, reset_all
from schemas.codec import decode_record, encode_pack
from schemas.errors import SchemaError
from schemas.events import Decision, EpisodeEnd, Outcome, Snapshot, Tick
from schemas.game import Game, check_against_game, load_game, parse_game
from schemas.records import Experience, Watermark, decode_rows
from schemas.topics import Topics
from streams.engine.records import Record

TURN_MS = 30
PLAIN = np.zeros((1, rules.TRIBES), np.int64)


@pytest.fixture(scope="module")
def game() -> Game:
    return load_game(Path(__file__).parents[2] / "games/tribes/tribes.toml")


def even() -> Tribes:
    """One world in which all four are alike."""
    tribes = Tribes(1)
    tribes.reset(0, 1)
    tribes.resources[:], tribes.production[:], tribes.army[:] = 100.0, 10.0, 20.0
    tribes.trust[:] = 0.0
    return tribes


def act(tribes: Tribes, **actions: int) -> None:
    taken = PLAIN.copy()
    for name, action in actions.items():
        taken[0, int(name[1:])] = action
    tribes.step(taken)


# -- the rules, by hand


def test_turn_pays_production_less_upkeep_and_wastes_what_has_no_room() -> None:
    tribes = even()
    act(tribes)
    assert tribes.resources[0].tolist() == [109.0] * 4  # 100 + 10 - 0.05 * 20
    tribes.resources[0, 0] = 295.0
    turn = tribes.step(PLAIN)
    assert tribes.resources[0, 0] == 300.0  # 150 for itself and 150 for its village
    assert turn.wasted[0].tolist() == [4.0, 0.0, 0.0, 0.0]


def test_build_settle_and_recruit_cost_and_give_their_numbers() -> None:
    tribes = even()
    tribes.resources[0, 1] = 200.0
    act(tribes, t0=rules.BUILD, t1=rules.SETTLE, t2=rules.RECRUIT)
    assert tribes.resources[0, 0] == pytest.approx(100 - 70 + 13 - 1)  # 40 + 3 * 10
    assert tribes.production[0].tolist() == [13.0, 16.0, 10.0, 10.0]
    assert tribes.villages[0].tolist() == [1.0, 2.0, 1.0, 1.0]
    assert tribes.army[0, 2] == 50.0  # 90 / 3 more
    assert tribes.resources[0, 2] == pytest.approx(10 + 10 - 2.5)
    assert tribes.built_turns[0].tolist() == [1.0, 1.0, 1.0, 0.0]


def test_trade_is_taken_by_who_trusts_and_gives_both() -> None:
    tribes = even()
    act(tribes, t0=rules.TRADE)  # with its first rival, seat 1
    assert tribes.resources[0].tolist() == [115.0, 115.0, 109.0, 109.0]
    assert tribes.trust[0, 1, 0] == pytest.approx(8 * 0.97)
    tribes.trust[0, 1, 0] = -50.0
    before = tribes.resources[0, 0]
    turn = tribes.step(np.array([[rules.TRADE, 0, 0, 0]]))
    assert not turn.accepted[0, 0]
    assert (turn.partner[0, 0], turn.trust_change[0, 0]) == (1, rules.TRUST_REFUSED)
    assert tribes.resources[0, 0] == before + 9


def test_pact_needs_trust_and_binds_against_attack() -> None:
    tribes = even()
    act(tribes, t0=rules.PACT)
    assert not tribes.pact.any()
    tribes.trust[0, 1, 0] = 20.0
    act(tribes, t0=rules.PACT)
    assert tribes.pact[0, 0, 1] == tribes.pact[0, 1, 0] == rules.PACT_TURNS - 1
    assert not tribes.legal()[0, 0, rules.ATTACK]
    assert not tribes.legal()[0, 1, rules.ATTACK + 2]  # seat 0 is the third rival of seat 1
    assert tribes.legal()[0, 0, rules.ATTACK + 1]


def test_march_arrives_after_its_turns_and_both_sides_pay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "LUCK", 0.0)
    tribes = even()
    tribes.army[0, 0] = 100.0
    first = tribes.step(np.array([[rules.ATTACK, 0, 0, 0]]))
    assert first.expected[0, 0]
    assert not len(first.battles.world)
    assert (tribes.army[0, 0], tribes.march[0, 0, 1]) == (pytest.approx(30), pytest.approx(70))
    assert not len(tribes.step(PLAIN).battles.world)
    tribes.resources[0, 1] = 100.0
    battles = tribes.step(PLAIN).battles
    assert (battles.attacker[0], battles.defender[0], battles.sent_turn[0]) == (0, 1, 0)
    share = (29 / 70) ** 1.5  # 20 * 1.25 + 4 against 70
    assert battles.won[0]
    assert battles.attacker_losses[0] == pytest.approx(70 * share)
    assert battles.defender_losses[0] == 20.0
    assert battles.loot[0] == pytest.approx(50.0)  # half of what there is
    assert not battles.captured[0]  # the last village is not taken
    assert tribes.army[0, 0] == pytest.approx(100 - 70 * share)
    assert tribes.trust[0, 1, 0] == pytest.approx(-40 * 0.97)


def test_lost_march_dies_and_weakens_the_defence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "LUCK", 0.0)
    tribes = even()
    act(tribes, t0=rules.ATTACK)  # 14 against 29
    act(tribes)
    battles = tribes.step(PLAIN).battles
    assert not battles.won[0]
    assert battles.attacker_losses[0] == pytest.approx(14.0)
    assert battles.defender_losses[0] == pytest.approx(20 * (14 / 29) ** 1.5)
    assert battles.loot[0] == 0.0


def test_rank_is_by_points_and_shared_by_equals() -> None:
    tribes = even()
    assert tribes.points[0].tolist() == [170.0] * 4  # 100 + 4 * 10 + 20 + 0.1 * 100
    assert tribes.rank[0].tolist() == [1] * 4
    tribes.army[0, 2] = 30.0
    assert tribes.rank[0].tolist() == [2, 2, 1, 2]


def test_illegal_action_is_refused_by_name() -> None:
    tribes = even()
    with pytest.raises(ValueError, match="tribe 3 in world 0 must be legal; got settle"):
        act(tribes, t3=rules.SETTLE)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 5))
def test_any_legal_play_keeps_the_world_sound(seed: int, n: int) -> None:
    tribes, rng = Tribes(n), np.random.default_rng(seed)
    reset_all(tribes, range(seed, seed + n))
    chief = RandomPolicy()
    for _ in range(rules.TURNS):
        seen = observe(tribes)
        assert seen.shape == (n, rules.TRIBES, N_FEATURES)
        assert np.isfinite(seen).all()
        flat, mask = seen.reshape(n * 4, -1), tribes.legal().reshape(n * 4, -1)
        villages = tribes.villages.sum()
        actions = chief.act(flat, mask, rng).actions.reshape(n, 4)
        tribes.step(actions)
        for kept in (tribes.resources, tribes.army, tribes.production, tribes.march):
            assert (kept >= 0).all()
        assert (tribes.villages >= 1).all()
        assert tribes.villages.sum() == villages + (actions == rules.SETTLE).sum()
    assert tribes.over.all()


def test_view_is_the_same_from_every_seat() -> None:
    tribes = even()
    tribes.army[0] = [20.0, 30.0, 40.0, 50.0]
    seen = observe(tribes)[0]
    for seat in range(rules.TRIBES):
        for k in range(rules.RIVALS):
            rival = RIVAL_OF[seat, k]
            assert seen[seat, column("army", k)] == seen[rival, column("army")]


# -- matches


def test_matches_are_a_function_of_policies_and_seeds() -> None:
    seeds = match_seeds("gate", "m", "v", 3)
    chief, script = RandomPolicy(), ScriptedPolicy()
    all_at_once = play_matches(chief, script, seeds, n_worlds=64)
    assert play_matches(chief, script, seeds, n_worlds=2) == all_at_once
    assert [r.side for r in all_at_once] == [
        f"seat {(s + across) % 4}" for s in seeds for across in (0, 2)
    ]


def test_script_beats_random_and_shares_with_itself() -> None:
    seeds = match_seeds("gate", "m", "v", 40)
    script = ScriptedPolicy()
    alike = tally(play_matches(script, script, seeds))
    poor = tally(play_matches(RandomPolicy(), script, seeds))
    assert 0.1 < alike.wins / alike.n < 0.45
    assert poor.wins < alike.wins


# -- the live game and what it says


class Named(RandomPolicy):
    """Moves at random under a name of its own."""

    def __init__(self, version: str) -> None:
        super().__init__()
        self.version = version


def play(n_turns: int, turn_ms: int = TURN_MS, incarnation: str = "a1") -> list[Step]:
    matches = TribesMatches(TribesSettings(worlds=6, scripted_epsilon=0.3), 1, incarnation)
    return [matches.step(10_000 + turn_ms * k) for k in range(n_turns)]


@pytest.fixture(scope="module")
def steps() -> list[Step]:
    return play(2 * rules.TURNS + 5)


def test_play_is_the_same_again_and_another_for_another_incarnation(steps: list[Step]) -> None:
    again = play(2 * rules.TURNS + 5)
    assert [s.events for s in again] == [s.events for s in steps]
    assert [s.events for s in play(30, incarnation="b2")] != [s.events for s in steps[:30]]


def test_play_says_every_kind_of_thing(steps: list[Step], game: Game) -> None:
    told: Counter[str] = Counter()
    domains: Counter[str] = Counter()
    for step in steps:
        for event in step.events:
            check_against_game(event, {game.name: game})
            told[type(event).__name__] += 1
            if isinstance(event, Decision):
                domains[event.domain] += 1
                assert event.domain == domain_of(event.action)
                assert (event.opponent_id is None) == (event.domain == "economic")
            elif isinstance(event, Snapshot):
                assert event.facts["points"] > 0
                assert (event.opponent_id is None) == ("lost" not in event.facts)
                assert event.facts.get("lost", 0.0) >= 0
    assert set(told) == {"Decision", "Outcome", "Snapshot", "EpisodeEnd"}
    assert min(domains[d] for d in ("economic", "battle", "diplomatic")) > 10
    assert sum(len(step.ended) for step in steps) == told["EpisodeEnd"] == 12


def settle(steps: list[Step], game: Game, turn_ms: int = TURN_MS) -> list[Experience | Watermark]:
    """What the rewards fold makes of these steps and a tick long after them."""
    topics = Topics()
    fold = RewardsFold(0, {}, {game.name: game}, topics)
    records = [
        Record(0, k, 10_000 + turn_ms * k, None, encode_pack(list(step.events)))
        for k, step in enumerate(steps)
    ]
    tick = encode_pack([Tick(event_time_ms=10_000_000, source="test")])
    records.append(Record(0, len(records), 10_000_000, None, tick))
    assert all(decode_record(r.value) for r in records)
    return [
        row
        for output in fold.fold(records).outputs
        if output.topic == topics.experiences and output.value
        for row in decode_rows(output.value)
        if isinstance(row, Experience | Watermark)
    ]


def test_marches_are_told_later_and_everything_settles(steps: list[Step], game: Game) -> None:
    rows = settle(steps, game)
    (ledger,) = [row for row in rows if isinstance(row, Watermark)]
    assert (ledger.n_open, ledger.n_dead) == (0, 0)
    settled = {r.decision_id: r for r in rows if isinstance(r, Experience)}
    assert len(settled) == ledger.n_decisions == sum(s.n_decisions for s in steps)
    marches = [r for r in settled.values() if r.domain == "battle" and r.outcome_time_ms]
    arrival_ms = rules.MARCH * TURN_MS + 1
    assert {(r.outcome_time_ms or 0) - r.decision_time_ms for r in marches} == {arrival_ms}
    assert any(r.long_term > 0 for r in settled.values())
    assert any(r.long_term < 0 for r in settled.values())
    assert any(r.retaliation for r in settled.values())
    assert {r.reward_version for r in settled.values()} == {
        "economic@2",
        "battle@2",
        "diplomatic@2",
    }


def test_only_last_decisions_are_terminated_and_nothing_is_revised(
    steps: list[Step], game: Game
) -> None:
    rows = [row for row in settle(steps, game) if isinstance(row, Experience)]
    ended = {row.step for row in rows if row.terminated}
    assert ended == {rules.TURNS - 1}
    assert {row.revision for row in rows} == {0}


@pytest.mark.parametrize("turn_ms", [3, 400])
def test_turn_pays_its_own_decision_the_same_at_any_pace(
    steps: list[Step], game: Game, turn_ms: int
) -> None:
    usual = [row for row in settle(steps, game) if isinstance(row, Experience)]
    other = [
        row
        for row in settle(play(len(steps), turn_ms), game, turn_ms)
        if isinstance(row, Experience)
    ]
    paid = {row.decision_id: row.total for row in usual if row.domain != "battle"}
    assert {row.decision_id: row.total for row in other if row.domain != "battle"} == paid
    after = {(row.episode, row.step): row for row in usual}
    for row in usual:
        following = after.get((row.episode, row.step + 1))
        if row.domain != "battle" and following is not None:
            assert row.standing_after == following.standing_before


def test_former_champions_lead_the_rivals_in_their_share_of_matches(game: Game) -> None:
    settings = TribesSettings(worlds=40, opponent_earlier=0.5)
    matches = TribesMatches(settings, 1, "a1")
    matches.earlier = [Named("v0001"), Named("v0002")]
    first = [matches.step(10_000 + TURN_MS * k) for k in range(rules.TURNS)]
    second = [matches.step(20_000 + TURN_MS * k) for k in range(rules.TURNS)]
    assert {end.opponent_id for end in first[-1].ended} == {"scripted"}  # begun without them
    led = Counter(end.opponent_id for end in second[-1].ended)
    assert set(led) == {"scripted", "v0001", "v0002"}
    assert 10 <= led["scripted"] <= 30
    for step in second:
        for event in step.events:
            check_against_game(event, {game.name: game})


def test_end_of_a_match_is_told_with_its_result(steps: list[Step]) -> None:
    ends = [e for step in steps for e in step.events if isinstance(e, EpisodeEnd)]
    assert {e.terminated for e in ends} == {True}
    for end in ends:
        facts = end.facts or {}
        assert (facts["rank"] == 1.0) == (end.result != "lost")
        assert (facts["lead"] > 0) == (end.result == "won")
    outcomes = [e for step in steps for e in step.events if isinstance(e, Outcome)]
    assert len({e.decision_id for e in outcomes}) == len(outcomes)


# -- the description


def test_description_fits_and_another_is_refused(game: Game) -> None:
    assert tribes_settings(game).worlds == 48
    assert connector(game).archetype == "chief"
    document = msgspec.to_builtins(game)
    document["observation"]["shape"] = [7]
    with pytest.raises(SchemaError, match=r"\$.observation.shape must be \[38\]; got \[7\]"):
        tribes_settings(parse_game(document))
    document["game"] = "chess"
    with pytest.raises(SchemaError, match="one of arena, battle, tribes to be played here"):
        connector(parse_game(document))


def test_connector_plays_and_shows_a_sample(game: Game) -> None:
    played = connector(game)
    observation, legal = played.sample()
    assert observation.shape == (1, game.observation.size)
    assert legal.shape == (1, game.actions.n)
    assert played.live(game, 1, "x").n_worlds == 48
    (one, two) = played.play(RandomPolicy(), played.scripted(), [5])
    assert (one.seed, two.seed) == (5, 5)
