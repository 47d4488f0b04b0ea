"""The table of all models in the documentation is the one of the kept results."""

from __future__ import annotations

import msgspec

from benchmarks.learners_table import BEGIN, DOCS, END, RESULTS, Kept, filled


def test_table_is_filled_in_between_its_marks() -> None:
    page = filled(f"a\n{BEGIN}old{END}\nb", "new\n")
    assert page == f"a\n{BEGIN}new\n{END}\nb"


def test_documentation_has_the_table_of_the_results() -> None:
    kept = msgspec.json.decode(RESULTS.read_bytes(), type=Kept)
    assert kept.markdown in DOCS.read_text("utf-8")
