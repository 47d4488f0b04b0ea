"""Windows become unbroken rows of a head, or are refused by field and rule."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest

from learners.replay.rows import WindowError
from learners.training.rows import check_rows
from learners.training.windows import HeadReader, HeadRows, episodes_of
from schemas.practice import Head
from schemas.records import Experience
from tests.learners.model_types.toy import toy_episodes
from tests.learners.training import logged
from tests.learners.training.logged import HEADS, LAYOUT, N_ACTIONS


def reader(root: Path, head: Head = "combat") -> HeadReader:
    return HeadReader(str(root), LAYOUT, head, HEADS[head], N_ACTIONS)


def read_all(root: Path, head: Head = "combat", n_matches: int = 6) -> list[HeadRows]:
    found = logged.windows(root, n_matches, size=130)
    return [reader(root, head).read(window) for window in found]


def test_rows_of_windows_are_the_rows_that_were_logged(tmp_path: Path) -> None:
    whole = toy_episodes(6, 0)
    rows = episodes_of(read_all(tmp_path), "combat", LAYOUT)
    check_rows(rows, "mage")
    for name in ("observation", "next_observation", "reward", "terminated", "truncated", "first",
                 "actor", "match", "step"):  # fmt: skip
        np.testing.assert_array_equal(getattr(rows, name), getattr(whole, name), err_msg=name)
    np.testing.assert_array_equal(rows.action["combat"], whole.action["combat"])
    np.testing.assert_array_equal(rows.legal["combat"], whole.legal["combat"])
    np.testing.assert_allclose(rows.propensity["combat"], whole.propensity["combat"])


def test_aims_are_read_from_continuous_parameters(tmp_path: Path) -> None:
    whole = toy_episodes(6, 0)
    rows = episodes_of(read_all(tmp_path, "aim"), "aim", LAYOUT)
    np.testing.assert_array_equal(rows.aim, whole.aim)
    assert rows.action == {} and set(rows.propensity) == {"aim"}


def test_a_missing_window_ends_chains_and_joins_none(tmp_path: Path) -> None:
    parts = read_all(tmp_path)
    rows = episodes_of([*parts[:2], *parts[3:]], "combat", LAYOUT)
    for i in range(len(rows) - 1):
        same = rows.match[i] == rows.match[i + 1] and rows.actor[i] == rows.actor[i + 1]
        goes_on = same and rows.step[i] + 1 == rows.step[i + 1]
        assert goes_on == (not rows.first[i + 1])
        if not goes_on:
            assert rows.terminated[i] or rows.truncated[i]
    assert len(rows) < len(toy_episodes(6, 0))


def test_the_newest_revision_counts_and_censored_steps_end_a_chain(tmp_path: Path) -> None:
    rows = logged.experiences(toy_episodes(2, 0))
    again = msgspec.structs.replace(
        rows[0], revision=1, total=-0.5, status="revised", origin=rows[-1].origin
    )
    at = next(
        i for i, r in enumerate(rows) if (r.domain, r.step, r.actor_id) == ("combat", 4, "w/0")
    )
    rows[at] = msgspec.structs.replace(rows[at], status="censored")
    window = logged.write_window(tmp_path, [*rows, again])
    found = episodes_of([reader(tmp_path).read(window)], "combat", LAYOUT)
    assert found.reward[0] == np.float32(-0.5)
    mine = np.flatnonzero((found.match == 0) & (found.actor == 0))
    assert found.step[mine].tolist() == [0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11]
    assert found.truncated[mine][3] and found.first[mine][4]


Change = Callable[[Experience], Experience]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"total": float("nan")}, r"\$\.rows\[3\]\.reward must be finite"),
        ({"propensity": 0.0}, r"\$\.rows\[3\]\.propensity must be in \(0, 1\]; got 0"),
        ({"action": 5}, r"\$\.rows\[3\]\.action must be legal and one of the head's 4; got 5"),
        (
            {"observation": np.full(8, np.nan, np.float32).tobytes()},
            r"\$\.rows\[3\]\.observation must be finite; got nan or inf",
        ),
    ],
)
def test_values_that_poison_are_refused(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    rows = logged.experiences(toy_episodes(2, 0))
    rows[6] = msgspec.structs.replace(rows[6], **changes)
    with pytest.raises(WindowError, match=message):
        reader(tmp_path).read(logged.write_window(tmp_path, rows))


def test_files_that_are_not_what_was_announced_are_refused(tmp_path: Path) -> None:
    window = logged.windows(tmp_path, 2)[0]
    path = tmp_path / window.files[0].path
    data = path.read_bytes()
    path.write_bytes(data[:-1])
    with pytest.raises(WindowError, match=r"\$\.sha256 must be"):
        reader(tmp_path).read(window)
    path.unlink()
    with pytest.raises(WindowError, match=r"\$\.file must be readable"):
        reader(tmp_path).read(window)
    wide = dataclasses.replace(LAYOUT, n_features=9)
    window = logged.windows(tmp_path, 2)[0]
    with pytest.raises(WindowError, match=r"\$\.observation must be 36 bytes a row"):
        HeadReader(str(tmp_path), wide, "combat", HEADS["combat"], N_ACTIONS).read(window)
