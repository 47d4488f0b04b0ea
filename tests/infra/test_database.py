"""The database that a run starts for itself: found again, kept, wiped, and closed to others."""

from __future__ import annotations

import stat
from pathlib import Path

import msgspec
import psycopg
import pytest

from infra import settings
from infra.kafka.errors import BrokerError
from infra.processes import wanted
from infra.timescale.database import LocalDatabase, choose_runner
from infra.timescale.postgres import find_server
from schemas.errors import SchemaError

needs_server = pytest.mark.skipif(
    find_server() is None, reason="no PostgreSQL; type: sudo apt-get install -y postgresql"
)


@needs_server
@pytest.mark.integration
def test_database_keeps_its_data_over_a_crash_and_a_stop(tmp_path: Path) -> None:
    first = LocalDatabase(tmp_path, "plain")
    try:
        found = first.start()
        with psycopg.connect(**found.connection(), autocommit=True) as connection:
            connection.execute("CREATE TABLE kept (x int)")
            connection.execute("INSERT INTO kept VALUES (7)")
        first.kill()
        assert not first.serving()
        again = LocalDatabase(tmp_path)  # as another program finds it
        assert again.start() == found
        again.stop()
        assert not again.serving()
        with psycopg.connect(**first.start().connection()) as connection:
            assert connection.execute("SELECT x FROM kept").fetchone() == (7,)
    finally:
        first.wipe()
    assert list(tmp_path.iterdir()) == []


@needs_server
@pytest.mark.integration
def test_database_wants_its_password_and_keeps_it_from_others(tmp_path: Path) -> None:
    database = LocalDatabase(tmp_path, "plain")
    try:
        found = database.start()
        wrong = msgspec.structs.replace(found, password="x")
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(**wrong.connection())
        state = tmp_path / "database.json"
        assert stat.S_IMODE(state.stat().st_mode) == 0o600
        log = (tmp_path / "timescale" / "server.log").read_text("utf-8")
        assert found.password is not None
        assert found.password not in log
    finally:
        database.wipe()


def test_runner_of_the_environment_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRINDSTONE_DATABASE", "plain")
    assert choose_runner() == "plain"
    monkeypatch.setenv("GRINDSTONE_DATABASE", "oracle")
    with pytest.raises(BrokerError, match="must be docker, tree or plain; got 'oracle'"):
        choose_runner()


def test_machine_without_any_database_is_told_what_to_type(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("GRINDSTONE_DATABASE", raising=False)
    place = "infra.timescale.database."
    for name, answer in {"docker_answers": False, "has_tree": False, "find_server": None}.items():
        monkeypatch.setattr(place + name, lambda answer=answer: answer)
    monkeypatch.setattr(place + "os.geteuid", lambda: 1000)
    with pytest.raises(BrokerError, match="sudo make timescale"):
        choose_runner()


def test_sink_runs_only_where_a_database_is_asked_for() -> None:
    plain = settings.load(environ={})
    assert "sink" not in wanted(plain)
    asked = settings.load(environ={"GRINDSTONE_SINK": "timescale"})
    assert "sink" in wanted(asked)
    assert {*wanted(asked)} - {*wanted(plain)} == {"sink"}


def test_password_of_the_database_is_never_shown() -> None:
    environ = {
        "GRINDSTONE_TIMESCALE_PASSWORD": "hush-now",
        "GRINDSTONE_TIMESCALE_HOST": "db.example",
    }
    loaded = settings.load(environ=environ)
    assert loaded.timescale.connection()["password"] == "hush-now"
    for shown in (repr(loaded), str(settings.show(loaded)), loaded.timescale.where):
        assert "hush-now" not in shown
        assert "db.example" in shown
    assert settings.load(environ=settings.to_environ(loaded)) == loaded
    with pytest.raises(SchemaError) as caught:
        settings.load(environ={"GRINDSTONE_TIMESCALE_PORT": "70000"})
    assert "timescale.port must be" in str(caught.value)
