"""Types retrain from windows by rule, from the champion, and go on after any kill."""

from __future__ import annotations

import dataclasses
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
import torch
from structlog.testing import capture_logs

from learners.history import digest_of
from learners.model_types.base import LearnError
from learners.training.deliver import read_version
from learners.training.retrain import RetrainRule
from schemas.model_events import Registered
from schemas.records import Window
from tests.learners.model_types.toy import toy_episodes
from tests.learners.training import logged
from tests.learners.training.continued import (
    KEY,
    RULE,
    TYPES,
    announced,
    feed,
    list_windows,
    sessions,
    work_off,
)


def digests(versions: list[Registered]) -> dict[str, str]:
    return {f"{v.model}@{v.version}": digest_of(v) for v in versions}


def test_session_retrains_at_so_many_rows_from_its_newest_version(tmp_path: Path) -> None:
    windows = logged.windows(tmp_path / "archive", 20, 300)  # 150 rows of each head in a window
    session, versions, refused = feed(tmp_path, windows)
    assert not refused and not session.refused
    names = [(v.algorithm, v.version) for v in versions]
    assert names == [(t, f"v{n:04d}") for n in (1, 2) for t in TYPES]
    first, second = versions[0], versions[2]
    assert (first.n_windows, second.n_windows) == (3, 6)
    assert first.n_updates == RULE.updates
    assert first.source_offsets == {"0": (0, 899)}
    info = read_version(tmp_path / "models" / second.folder)
    assert info.plan.warm is not None
    assert info.plan.warm.versions == {"mage": f"{second.model}@v0001"}
    assert info.plan.rows["mage"]["windows"][0]["window_id"] == windows[0].window_id
    assert session.snapshot["new_rows_combat_dqn"] == 1_200 - 2 * 450


def test_session_begins_from_the_champion(tmp_path: Path) -> None:
    windows = logged.windows(tmp_path / "archive", 20, 300)
    session, versions, _ = feed(tmp_path, windows)
    champion = {versions[0].model: "v0001"}
    more = [
        logged.write_window(tmp_path / "archive", logged.experiences(toy_episodes(14, 5), begin=b))
        for b in (10_000,)
    ]
    session.take(more[0], 0, len(windows))
    made = list(work_off(session, champion))
    assert [v.version for v in made] == ["v0003", "v0003"]
    plans = [read_version(tmp_path / "models" / v.folder).plan for v in made]
    begun = [p.warm.versions["mage"].partition("@")[2] for p in plans if p.warm is not None]
    assert begun == ["v0001", "v0002"]


def test_session_goes_on_from_versions_that_another_command_made(tmp_path: Path) -> None:
    windows = logged.windows(tmp_path / "archive", 20, 300)
    feed(tmp_path, windows)
    shutil.rmtree(tmp_path / "checkpoints")  # now they are as `learn train` leaves its own
    versions = feed(tmp_path, windows)[1]
    assert [v.version for v in versions] == ["v0003", "v0003", "v0004", "v0004"]
    warm = read_version(tmp_path / "models" / versions[0].folder).plan.warm
    assert warm is not None and warm.versions == {"mage": f"{versions[0].model}@v0002"}


def test_session_tells_which_way_it_takes_and_why(tmp_path: Path) -> None:
    rows = logged.experiences(toy_episodes(14, 5), version="v0007")
    windows = [logged.write_window(tmp_path / "archive", rows)]
    opened = sessions(tmp_path)
    source = dataclasses.replace(opened.source, plays={"mage": "toy-mage"})
    session = msgspec.structs.replace(opened, source=source).open(KEY, torch.device("cpu"))
    session.take(windows[0], 0, 0)
    with capture_logs() as logs:
        versions = list(work_off(session, {}))
    told = [entry for entry in logs if entry["event"] == "retraining begins"]
    assert [entry["model"] for entry in told] == [v.model for v in versions]
    for entry in told:
        assert "of versions 7 to 7 of toy-mage, another model" in entry["why"]
        assert entry["begins_from"] == "nothing"


def test_session_retrains_on_fewer_rows_after_the_span(tmp_path: Path) -> None:
    windows = logged.windows(tmp_path / "archive", 4, 150)
    rule = RetrainRule(rows=100_000, updates=4, span_ms=160)
    session, versions, _ = feed(tmp_path, windows, rule)
    assert [v.n_windows for v in versions[::2]] == [2, 4]
    assert session.state.models["combat_dqn"].n_new < 150


def spoilt(archive: Path, windows: list[Window]) -> list[Window]:
    """Put a window with NaN, one of another width, a missing and an altered file among others."""
    rows = logged.experiences(toy_episodes(2, 9), begin=5_000)
    rows[4] = msgspec.structs.replace(rows[4], total=float("nan"))
    poisoned = logged.write_window(archive, rows)
    wide = [
        msgspec.structs.replace(r, observation=bytes(36), next_observation=None, truncated=False)
        for r in logged.experiences(toy_episodes(2, 9), begin=6_000)
    ]
    missing = logged.write_window(archive, logged.experiences(toy_episodes(2, 9), begin=7_000))
    (archive / missing.files[0].path).unlink()
    altered = logged.write_window(archive, logged.experiences(toy_episodes(2, 9), begin=8_000))
    (archive / altered.files[0].path).write_bytes(b"something else")
    bad = [poisoned, logged.write_window(archive, wide, 9), missing, altered]
    late = logged.experiences(toy_episodes(20, 0), begin=20_000)
    after = [logged.write_window(archive, late[i : i + 300]) for i in range(0, 2_400, 300)]
    return [*windows[:2], *bad, *after[2:]]


def test_bad_windows_are_refused_by_name_and_the_rest_is_learned_from(tmp_path: Path) -> None:
    windows = logged.windows(tmp_path / "archive", 20, 300)
    _, versions, refused = feed(tmp_path, spoilt(tmp_path / "archive", windows))
    rules = ("must be finite", "must be 32 bytes a row", "must be readable", "$.sha256 must be")
    assert len(refused) == len(rules)
    for rule, told in zip(rules, refused, strict=True):
        assert rule in told
    assert len(versions) == 4


def test_windows_announced_again_count_once(tmp_path: Path) -> None:
    windows = logged.windows(tmp_path / "archive", 20, 300)
    twice = [window for window in windows for _ in range(2)]
    once = feed(tmp_path, windows)[1]
    again = tmp_path / "again"
    os.symlink(tmp_path / "archive", _made(again) / "archive")
    assert digests(feed(again, twice)[1]) == digests(once)


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def test_session_waits_where_rows_cannot_be_learned_from(tmp_path: Path) -> None:
    rows = logged.experiences(toy_episodes(1, 0))  # one match cannot be split
    windows = [logged.write_window(tmp_path / "archive", rows)]
    session, versions, _ = feed(tmp_path, windows, RetrainRule(rows=10, updates=4))
    assert versions == [] and not session.busy
    assert any("must name at least 2 matches" in reason for reason in session.refused)


def test_a_type_that_windows_cannot_feed_is_refused(tmp_path: Path) -> None:
    opened = msgspec.structs.replace(sessions(tmp_path), types=["spatial_vit"])
    with pytest.raises(LearnError, match="--type must be one that decides"):
        opened.open(KEY, None)  # type: ignore[arg-type]


def test_killed_at_any_moment_it_ends_at_the_same_versions(tmp_path: Path) -> None:
    windows = logged.windows(tmp_path / "archive", 20, 300)
    whole = digests(feed(tmp_path, windows)[1])
    killed = _made(tmp_path / "killed")
    os.symlink(tmp_path / "archive", killed / "archive")
    list_windows(killed, windows)
    moments = random.Random(4)
    command = [sys.executable, "-m", "tests.learners.training.continued", str(killed)]
    n_kills = 0
    while True:
        process = subprocess.Popen(command)
        try:
            process.wait(None if n_kills >= 2 else moments.uniform(3.0, 6.0))
            break
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            n_kills += 1
    assert process.returncode == 0
    told = announced(killed)
    assert digests(told) == whole
    # what was announced twice, for the kill came before that was written down, is the same thing
    assert len({(v.model, v.version, digest_of(v)) for v in told}) == len(whole)
    session = sessions(killed).open(KEY, None)  # type: ignore[arg-type]
    assert session.cursor.next_offset == len(windows)
    assert session.cursor.n_registered == len(whole)


def test_stopped_anywhere_in_its_work_it_ends_at_the_same_versions(tmp_path: Path) -> None:
    """Every chunk is done by a session of its own, made from what the one before left behind."""
    windows = logged.windows(tmp_path / "archive", 20, 300)
    whole = digests(feed(tmp_path, windows)[1])
    cut = _made(tmp_path / "cut")
    os.symlink(tmp_path / "archive", cut / "archive")
    opened = sessions(cut)
    told: list[Registered] = []
    for step in range(400):
        session = opened.open(KEY, None)  # type: ignore[arg-type]
        at = opened.resume_offset(KEY, 0)
        while not session.busy and at < len(windows):
            session.take(windows[at], 0, at)
            at += 1
        if not session.busy:
            break
        if session.asks:
            session.answer({})
        version = session.work(0.03)
        if version is not None:
            told.append(version)
            if step % 2:
                session.announced()  # else it is as if it had been killed before
        elif session._training is not None and step % 3:
            session._training.save()
    assert digests(told) == whole
