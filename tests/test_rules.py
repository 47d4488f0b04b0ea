"""Rules about the code that no linter of ours checks."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("schemas", "streams", "agents", "learners", "games", "infra")
FILES = sorted(
    path for folder in (*PACKAGES, "tests", "benchmarks") for path in (ROOT / folder).rglob("*.py")
)
MAX_FILE_LINES = 400


def parsed() -> Iterator[tuple[Path, ast.Module]]:
    for path in FILES:
        yield path.relative_to(ROOT), ast.parse(path.read_text("utf-8"))


def test_files_are_short_enough_to_read() -> None:
    lengths = {path.relative_to(ROOT): path.read_text("utf-8").count("\n") for path in FILES}
    assert {path: n for path, n in lengths.items() if n > MAX_FILE_LINES} == {}


@pytest.mark.parametrize("word", ["environ", "getenv"])
def test_environment_is_read_in_infra_only(word: str) -> None:
    readers = {
        str(path)
        for path, tree in parsed()
        if path.parts[0] in PACKAGES[:-1]
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr == word
    }
    assert readers == set()


def test_assert_is_for_tests() -> None:
    found = [
        f"{path}:{node.lineno}"
        for path, tree in parsed()
        if path.parts[0] in PACKAGES
        for node in ast.walk(tree)
        if isinstance(node, ast.Assert)
    ]
    assert found == []
