"""Settings: the file, the environment over it, and errors that name the field."""

from pathlib import Path

import pytest

from infra import settings
from infra.settings import Settings
from schemas.errors import SchemaError


def test_load_without_anything_gives_the_defaults() -> None:
    assert settings.load(environ={}) == Settings()


def test_environment_wins_over_the_file(tmp_path: Path) -> None:
    config = tmp_path / "grindstone.toml"
    config.write_text('partitions = 8\nseed = 2\n[kafka]\nbootstrap_servers = "a:1"\n')
    found = settings.load(config, environ={"GRINDSTONE_SEED": "3"})
    assert (found.partitions, found.seed, found.kafka.bootstrap_servers) == (8, 3, "a:1")


def test_overrides_win_over_both(tmp_path: Path) -> None:
    found = settings.load(environ={"GRINDSTONE_SEED": "3"}, overrides={"seed": 4, "game": None})
    assert (found.seed, found.game) == (4, "battle")


def test_to_environ_comes_back_as_the_same_settings() -> None:
    environ = {
        "GRINDSTONE_KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
        "GRINDSTONE_KAFKA_USERNAME": "u",
        "GRINDSTONE_KAFKA_PASSWORD": "p",
        "GRINDSTONE_RATES_WORLDS": "8",
        "GRINDSTONE_TOPICS_PREFIX": "arena-",
    }
    found = settings.load(environ=environ)
    assert settings.load(environ=settings.to_environ(found)) == found


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        (
            {"GRINDSTONE_PARTITIONS": "many"},
            r"\$\.partitions must be int; got 'many' \(set GRINDSTONE_PARTITIONS\)",
        ),
        (
            {"GRINDSTONE_RATES_WORLDS": "0"},
            r"\$\.rates\.worlds must be .*; got '0' \(set GRINDSTONE_RATES_WORLDS\)",
        ),
        ({"GRINDSTONE_PARTITONS": "4"}, "GRINDSTONE_PARTITONS must be a known setting; got an"),
        ({"GRINDSTONE_DEVICE": "tpu"}, r"\$\.device must be .*; got 'tpu'"),
        ({"GRINDSTONE_KAFKA_BOOTSTRAP_SERVERS": "x"}, "kafka.bootstrap_servers must be host:port"),
        ({"GRINDSTONE_TOPICS_PREFIX": "a b"}, r"\$\.topics_prefix must be .*; got 'a b'"),
    ],
)
def test_load_names_the_field_the_rule_and_the_value(environ: dict[str, str], message: str) -> None:
    with pytest.raises(SchemaError, match=message):
        settings.load(environ=environ)


def test_load_refuses_unknown_fields_of_the_file(tmp_path: Path) -> None:
    config = tmp_path / "grindstone.toml"
    config.write_text("[kafka]\nbootstrap = 'a:1'\n")
    with pytest.raises(SchemaError, match=r"\$\.kafka\.bootstrap must be a known field"):
        settings.load(config, environ={})
    config.write_text("seeds = 1\n")
    with pytest.raises(SchemaError, match=r"\$\.seeds must be a known field"):
        settings.load(config, environ={})


def test_load_refuses_a_file_that_is_missing_or_no_toml(tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match="--config must be a file that can be read"):
        settings.load(tmp_path / "none.toml", environ={})
    config = tmp_path / "grindstone.toml"
    config.write_text("seed = ")
    with pytest.raises(SchemaError, match="must be a TOML document"):
        settings.load(config, environ={})


def test_game_must_be_known() -> None:
    found = settings.load(environ={"GRINDSTONE_GAME": "chess"})
    with pytest.raises(SchemaError, match=r"\$\.game must be .*battle.*; got 'chess'"):
        found.load_game()


def test_rates_change_the_games_own_settings() -> None:
    found = settings.load(environ={"GRINDSTONE_RATES_WORLDS": "7"})
    assert found.load_game().settings["worlds"] == 7
    assert "decisions_per_second" in found.load_game().settings


def test_passwords_are_never_shown() -> None:
    environ = {
        "GRINDSTONE_KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
        "GRINDSTONE_KAFKA_USERNAME": "u",
        "GRINDSTONE_KAFKA_PASSWORD": "hunter2",
    }
    found = settings.load(environ=environ)
    assert "hunter2" not in str(settings.show(found))
    assert "hunter2" not in repr(found)
