"""Rules about the code that no linter of ours checks."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("schemas", "streams", "agents", "learners", "games", "infra")
FILES = sorted(
    path for folder in (*PACKAGES, "tests", "benchmarks") for path in (ROOT / folder).rglob("*.py")
)
MAX_FILE_LINES = 400


@pytest.fixture(scope="module")
def places() -> dict[str, set[str]]:
    """Where our packages say `assert`, and where they name an attribute, by its name."""
    found: dict[str, set[str]] = defaultdict(set)
    for path in FILES:
        where = path.relative_to(ROOT)
        if where.parts[0] in PACKAGES:
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.Attribute):
                    found[node.attr].add(str(where))
                elif isinstance(node, ast.Assert):
                    found["assert"].add(f"{where}:{node.lineno}")
    return found


def test_files_are_short_enough_to_read() -> None:
    lengths = {path.relative_to(ROOT): path.read_text("utf-8").count("\n") for path in FILES}
    assert {path: n for path, n in lengths.items() if n > MAX_FILE_LINES} == {}


@pytest.mark.parametrize("word", ["environ", "getenv"])
def test_environment_is_read_in_infra_only(places: dict[str, set[str]], word: str) -> None:
    assert {path for path in places[word] if not path.startswith("infra/")} == set()


def test_assert_is_for_tests(places: dict[str, set[str]]) -> None:
    assert places["assert"] == set()
