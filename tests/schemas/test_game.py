from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from schemas.errors import SchemaError
from schemas.game import Game, load_game, parse_game


def described(**changes: Any) -> dict[str, Any]:
    document: dict[str, Any] = {
        "game": "duel",
        "observation": {"layout": "duel@1", "shape": [3, 2]},
        "actions": {"names": ["wait", "hit"]},
        "rewards": {"duel@1": {"weights": {"hits": 0.5}}},
        "domains": {"combat": {"reward": "duel@1"}},
        "archetypes": {"fighter": {"model": "duel-fighter"}},
        "learners": {"fighter": {}},
    }
    return document | changes


def test_game_is_read() -> None:
    game = parse_game(described())
    assert (game.name, game.observation.size, game.actions.n) == ("duel", 6, 2)
    assert game.archetype_of("duel-fighter") == "fighter"


@pytest.mark.parametrize("path", sorted(Path("games").glob("*/*.toml")), ids=lambda p: p.stem)
def test_every_game_of_ours_loads(path: Path) -> None:
    assert isinstance(load_game(path), Game)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"actions": {"names": ["wait"]}}, "$.actions.names must be array of length >= 2"),
        ({"actions": {"names": ["a", "a"]}}, "$.actions.names must be distinct; got ['a', 'a']"),
        ({"observation": {"layout": "x", "shape": [0]}}, "$.observation.shape[0] must be int >= 1"),
        ({"observation": {"layout": "x", "shape": [70000]}}, "must be at most 65536 floats"),
        ({"colour": 1}, "$.colour must be a known field; got an unknown one (check the spelling)"),
        ({"domains": {"combat": {"reward": "duel@2"}}}, "must be one of duel@1; got 'duel@2'"),
        (
            {"domains": {"combat": {"reward": "duel@1", "horizon_ms": 5}}},
            "$.domains.combat.standing must be the name of a fact with a horizon; got nothing",
        ),
        ({"learners": {"mage": {}}}, "$.learners.mage must be one of fighter; got 'mage'"),
        ({"learners": {"fighter": {"learning_rate": -1}}}, "learning_rate must be float > 0.0"),
        (
            {"archetypes": {"a": {"model": "m"}, "b": {"model": "m"}}, "learners": {}},
            "$.archetypes must be of one model each",
        ),
    ],
)
def test_game_errors_name_field_and_rule(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SchemaError) as caught:
        parse_game(described(**changes))
    assert message in str(caught.value)


def test_game_file_that_is_no_toml(tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text("game = ")
    with pytest.raises(SchemaError, match=r"\$ must be a TOML document; got .*bad\.toml"):
        load_game(path)
