"""The notebooks of docs/ run, and show what they show when they run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from streams.archive import read_archive
from tests.docs.notebook import NOTEBOOKS, SAMPLE, read, run_cells

each_notebook = pytest.mark.parametrize(
    "path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.name
)


def texts(outputs: list[dict[str, Any]]) -> list[str]:
    """What outputs say; of a picture, that it is one."""
    found = []
    for output in outputs:
        data = output.get("data", {})
        text = "".join(output.get("text") or data.get("text/plain") or ())
        found.append("picture" if "image/png" in data else text)
    return found


@each_notebook
def test_notebook_runs_and_shows_what_is_stored(path: Path) -> None:
    notebook = read(path)
    stored = [cell["outputs"] for cell in notebook["cells"] if cell["cell_type"] == "code"]
    run = run_cells(notebook, path.parent)
    assert [texts(outputs) for outputs in run] == [texts(outputs) for outputs in stored]
    assert "picture" in texts(stored[-1])


@each_notebook
def test_notebook_needs_none_of_our_code(path: Path) -> None:
    code = "".join(
        "".join(cell["source"]) + "\n"
        for cell in read(path)["cells"]
        if cell["cell_type"] == "code"
    )
    imported = set(re.findall(r"^(?:import|from) (\w+)", code, re.M))
    ours = {"schemas", "streams", "agents", "learners", "games", "infra", "tests"}
    assert imported.isdisjoint(ours)
    assert {"duckdb", "polars", "pandas"} <= imported


def test_sample_is_a_sound_archive() -> None:
    rows = list(read_archive(str(SAMPLE)))  # which checks every digest
    assert {row.archetype for row in rows} == {"fighter"}
    assert len(rows) > 500
