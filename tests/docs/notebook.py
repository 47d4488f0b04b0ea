"""Runs the notebooks of docs/ and keeps their outputs fresh.

python -m tests.docs.notebook    makes the sample windows anew, runs the notebook, stores outputs
"""

from __future__ import annotations

import ast
import base64
import contextlib
import io
import json
import os
import shutil
from pathlib import Path
from typing import Any

NOTEBOOKS = Path(__file__).parents[2] / "docs" / "notebooks"
SAMPLE = NOTEBOOKS / "windows"
N_STEPS, N_WORLDS, STEP_MS = 70, 3, 100
START_MS = 1_767_225_600_000  # 2026-01-01, so that the sample has the same bytes each time


def run_cells(notebook: dict[str, Any], folder: Path) -> list[list[dict[str, Any]]]:
    """Return the outputs of each code cell, run one after the other in one fresh namespace."""
    names: dict[str, Any] = {"__name__": "__main__"}
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    before = Path.cwd()
    os.chdir(folder)
    try:
        return [run_cell("".join(cell["source"]), names) for cell in cells]
    finally:
        os.chdir(before)


def run_cell(source: str, names: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what a cell prints and what its last expression is worth."""
    body = ast.parse(source).body
    last = body.pop() if body and isinstance(body[-1], ast.Expr) else None
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(ast.Module(body, []), "cell", "exec"), names)
        value = None
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), "cell", "eval"), names)
    outputs: list[dict[str, Any]] = []
    if printed.getvalue():
        lines = printed.getvalue().splitlines(keepends=True)
        outputs.append({"output_type": "stream", "name": "stdout", "text": lines})
    if value is not None:
        data = shown(value)
        outputs.append({"output_type": "display_data", "metadata": {}, "data": data})
    return outputs


def shown(value: Any) -> dict[str, Any]:
    """Return a value as a notebook shows it: a picture, or text."""
    if hasattr(value, "savefig"):
        stream = io.BytesIO()
        value.savefig(stream, format="png", dpi=72, metadata={"Software": None})
        return {"image/png": base64.b64encode(stream.getvalue()).decode()}
    return {"text/plain": repr(value).splitlines(keepends=True)}


def read(path: Path) -> dict[str, Any]:
    notebook: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return notebook


def refresh(path: Path) -> None:
    """Run a notebook and store its outputs."""
    notebook = read(path)
    outputs = iter(run_cells(notebook, path.parent))
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            cell["outputs"], cell["execution_count"] = next(outputs), None
    path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", "utf-8")


def make_sample() -> None:
    """Write the sample: a few scripted matches of the battle game, folded and archived."""
    from games.battle.play import BattleMatches
    from games.battle.settings import battle_settings
    from infra.settings import load
    from schemas.events import Tick
    from tests.agents.log import Run
    from tests.infra.lake import archive

    game = load(environ={"GRINDSTONE_RATES_WORLDS": str(N_WORLDS)}).load_game()
    matches = BattleMatches(battle_settings(game), seed=1, incarnation="sample")
    run = Run(game)
    for step in range(N_STEPS):
        now_ms = START_MS + step * STEP_MS
        run.take(list(matches.step(now_ms).events))
        run.take(Tick(event_time_ms=now_ms, source="sample"))
    shutil.rmtree(SAMPLE, ignore_errors=True)
    archive(run.rows, game, SAMPLE, max_rows=600)


if __name__ == "__main__":
    make_sample()
    for found in sorted(NOTEBOOKS.glob("*.ipynb")):
        refresh(found)
