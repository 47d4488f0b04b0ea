"""Inputs of a graph are real rows, sequences unbroken."""

from __future__ import annotations

import numpy as np
import pytest

from learners.feeds import feeds
from learners.model_types.base import LearnError, Port
from tests.learners.model_types.toy import toy_episodes


def test_feeds_take_columns_sequences_and_zeros() -> None:
    rows = toy_episodes(4)
    ports = [
        Port("observation", (None, 8)), Port("legal", (4,), "bool"), Port("known", (None,), "bool"),
        Port("h", (None, None)), Port("step", (None,), "int64"),
    ]  # fmt: skip
    found = feeds(ports, rows, 7, head="combat", length=3, zeros={"h": (2, 5)})
    assert found["observation"].shape == (7, 3, 8)
    assert found["legal"].shape == (7, 4)
    assert found["known"].all()
    assert found["h"].shape == (7, 2, 5)
    assert (np.diff(found["step"], axis=1) == 1).all()


def test_feeds_refuse_what_no_column_holds() -> None:
    with pytest.raises(LearnError, match="input wish must be a column of the rows"):
        feeds([Port("wish", ())], toy_episodes(2), 3)
    with pytest.raises(LearnError, match="an episode of 99 steps"):
        feeds([Port("observation", (None, 8))], toy_episodes(2), 3, length=99)
