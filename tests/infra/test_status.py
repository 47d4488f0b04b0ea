"""What `status` and `models` make of the log, without a broker."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from infra import status
from infra.decoding import model_event
from infra.settings import Settings
from schemas.model_events import encode_model_event
from tests.infra.runs import champion, evaluation, match_up, registered, rejected


class FakeLook:
    """Hands out records instead of asking a broker."""

    values: list[bytes] = []

    def __init__(self, *_: object) -> None:
        pass

    async def __aenter__(self) -> "FakeLook":
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def read_all(self, _: str) -> AsyncIterator[SimpleNamespace]:
        for value in self.values:
            yield SimpleNamespace(value=value, timestamp=0)


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    FakeLook.values = [
        encode_model_event(registered("v0001")),
        b"no event",
        encode_model_event(evaluation("v0001", match_up("v0001", "gate", 60))),
        encode_model_event(rejected("v0001")),
        encode_model_event(registered("v0002")),
        encode_model_event(
            evaluation("v0002", match_up("v0002", "gate", 180), match_up("v0002", "c", 160))
        ),
        encode_model_event(champion("v0002")),
        encode_model_event(registered("v0003")),
    ]
    monkeypatch.setattr(status, "Look", FakeLook)
    return FakeLook.values


def test_models_tells_fate_reasons_matches_and_lineage(log: list[bytes]) -> None:
    found = asyncio.run(status.list_models(Settings()))
    assert [(row["version"], row["fate"]) for row in found] == [
        ("v0001", "rejected"),
        ("v0002", "champion"),
        ("v0003", "registered"),
    ]
    assert found[0]["reasons"] == ["weak"]
    assert (found[1]["wins"], found[1]["matches"]) == (160, 200)
    assert found[2]["lineage"]["seed"] == 1
    console = Console(width=160, record=True)
    console.print(status.render_models(found, lineage=True))
    text = console.export_text().replace("\n", "")  # long lines are folded
    assert "pack/v0002" in text
    assert "pack/v0003: {" in text
    assert "74%-85%" in text
    assert '"n_updates":400' in text


def test_model_event_passes_over_what_is_none() -> None:
    assert model_event(b"no event") is None
    assert model_event(None) is None
    assert model_event(encode_model_event(registered("v1"))) == registered("v1")


def test_processes_that_are_gone_are_told_so(tmp_path: Path) -> None:
    row = {"name": "game", "state": "running", "pid": 2**22 + 1, "n_starts": 1, "log": "x"}
    status.write_processes(tmp_path, [row])
    assert status.read_processes(tmp_path) == [{**row, "state": "gone", "pid": None}]
    assert status.read_processes(tmp_path / "none") == []
