"""What is looked up once says the same as the description, and a row by position as one by name."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from agents.rewards.plan import plan_game
from schemas.errors import SchemaError
from schemas.events import Decision, Language
from schemas.game import Game, check_against_game, parse_game
from schemas.records import Experience, decode_rows, encode_rows
from tests.agents.log import Run, decision, duel, outcome

GOOD = np.array([0.25, 0.5, 0.25], "<f4").tobytes()


def described() -> Game:
    document = msgspec.to_builtins(duel())
    document["actions"]["n_continuous"] = 2
    return parse_game(document)


def is_refused(event: Any, game: Game) -> bool:
    try:
        check_against_game(event, {game.name: game})
    except SchemaError:
        return True
    return False


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"domain": "trade"},
        {"archetype": "mage"},
        {"action": 2},
        {"action": 3},
        {"observation": bytes(4)},
        {"observation": bytes(12)},
        {"probabilities": GOOD},
        {"probabilities": GOOD[4:]},
        {"continuous": bytes(8)},
        {"continuous": bytes(4)},
        {"legal": b"\1\1\1"},
        {"legal": b"\0\1\1"},
        {"legal": b"\1\1"},
    ],
)
def test_plan_takes_the_decisions_that_the_description_allows(fields: dict[str, Any]) -> None:
    game = described()
    event = decision(0, 1_000, **fields)
    assert plan_game(game).takes(event) is not is_refused(event, game)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"next_observation": bytes(8)},
        {"next_observation": bytes(4)},
        {"next_legal": bytes(3)},
        {"next_legal": bytes(2)},
    ],
)
def test_plan_takes_the_outcomes_that_the_description_allows(fields: dict[str, Any]) -> None:
    game = described()
    event = outcome(0, 1_000, **fields)
    assert plan_game(game).takes_outcome(event) is not is_refused(event, game)


def whole(step: int, time_ms: int) -> Decision:
    """A decision that says all that one can say, each field something else."""
    return decision(
        step, time_ms, opponent_id="foe", facts={"hp": 9.0}, player_id="p", related=["x"],
        game_time=7.5, action_type="strike", details={"how": "hard"}, continuous=bytes(range(8)),
        confidence=0.75, arm="treated", language=Language(prompt="?", response="!"),
        legal=b"\1\1\1", probabilities=GOOD, explored=True, policy_version="v2", world="w9",
    )  # fmt: skip


def test_rows_by_position_say_what_the_events_said_by_name() -> None:
    run = Run(described())
    event, after = whole(0, 1_000), whole(1, 1_200)
    said = outcome(0, 1_100, success=True, details={"why": 3}, next_facts={"hp": 4.0})
    effects = run.fold.fold([run.record([event, said, after])])
    (value,) = [o.value for o in effects.outputs]
    assert value is not None
    rows = decode_rows(value)
    assert encode_rows(rows) == value
    (row,) = rows
    assert isinstance(row, Experience)
    shared = set(Decision.__struct_fields__) & set(Experience.__struct_fields__)
    assert len(shared) > 20
    for name in shared:
        assert getattr(row, name) == getattr(event, name), name
    assert (row.decision_time_ms, row.outcome_time_ms) == (1_000, 1_100)
    assert (row.next_observation, row.next_legal) == (after.observation, after.legal)
    assert (row.success, row.outcome_facts, row.next_facts) == (True, {"hits": 1.0}, {"hp": 4.0})
    assert (row.outcome_details, row.reward_version, row.status) == (
        {"why": 3},
        "duel@1",
        "observed",
    )
