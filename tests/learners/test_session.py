"""Checkpoints, versions and resuming: an interrupted learner makes the same weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from learners.checkpoint import checkpoints
from learners.export import weights_digest
from learners.session import ModelSession, Workplace
from schemas.records import Window
from tests.learners import toy


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def place(root: Path) -> Workplace:
    return Workplace(
        archive=str(root / "archive"),
        models=root / "models",
        checkpoints=root / "checkpoints",
        code_version="test",
    )


def drive(session: ModelSession, windows: list[Window]) -> list[str]:
    """Take windows from where the session stands; returns the versions announced."""
    versions = []
    for offset, window in enumerate(windows):
        session.take(window, 0, offset)
        while session.busy:
            if session.work(10.0):
                assert session.pending is not None
                versions.append(session.pending.version)
                session.announced()
    return versions


def digest(session: ModelSession) -> str:
    return weights_digest(session.trainer.algorithm.policy)


def test_session_interrupted_makes_the_same_weights(tmp_path: Path) -> None:
    windows = toy.write_windows(tmp_path / "archive", toy.walk(1_600, say_next=False), 100)
    whole = ModelSession(toy.settings(), place(tmp_path))
    versions = drive(whole, windows)
    assert versions == ["v0001", "v0002", "v0003"]

    elsewhere = Workplace(
        archive=str(tmp_path / "archive"),
        models=tmp_path / "models2",
        checkpoints=tmp_path / "checkpoints2",
        code_version="test",
    )
    for stop in (3, 4, 7, 11, 16):
        session = ModelSession(toy.settings(), elsewhere)
        assert not session.refused
        drive(session, windows[:stop])
        session.save()
    assert digest(session) == digest(whole)
    assert session.trainer.n_updates == whole.trainer.n_updates
    mine = session.trainer.replay.state()
    for name, values in whole.trainer.replay.state().items():
        assert values.tobytes() == mine[name].tobytes(), name
    for version in versions:
        one = (tmp_path / "models" / "toy-walker" / version / "model.onnx").read_bytes()
        other = (tmp_path / "models2" / "toy-walker" / version / "model.onnx").read_bytes()
        assert one == other
    assert len(checkpoints(elsewhere.checkpoint_folder(toy.settings()))) == 3
