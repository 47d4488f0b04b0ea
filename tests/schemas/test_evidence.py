from __future__ import annotations

import random

import pytest

from schemas.errors import SchemaError
from schemas.evidence import paired_gain, wilson


def test_wilson_hand_worked() -> None:
    # 80 of 100, z 1.96: centre 0.8 + 3.8416/200 = 0.819208; root of 0.0016 + 3.8416/40000 is
    # 0.0411834, times 1.96 is 0.0807195; over 1.038416: (0.819208 -+ 0.0807195) / 1.038416
    low, high = wilson(80, 100, 1.96)
    assert low == pytest.approx(0.711168, abs=1e-5)
    assert high == pytest.approx(0.866634, abs=1e-5)


@pytest.mark.parametrize(("wins", "n", "bounds"), [(0, 0, (0, 1)), (0, 10, (0, 0.2775))])
def test_wilson_edges(wins: int, n: int, bounds: tuple[float, float]) -> None:
    assert wilson(wins, n) == pytest.approx(bounds, abs=1e-3)
    assert wilson(10, 10)[1] == 1.0


def test_wilson_refuses_impossible_counts() -> None:
    with pytest.raises(SchemaError, match=r"wins must be from 0 to 3, the matches played; got 4"):
        wilson(4, 3)


def test_paired_gain_hand_worked() -> None:
    # seeds: (WW, WL) gains 0.5, (WL, LL) gains 0.5, (LL, WW) loses 1, (WW, LL) gains 1
    mean, same = paired_gain("WWWLLLWW", "WLLLWWLL", 0.5)
    assert mean == pytest.approx(0.25)
    assert same == pytest.approx(0.25)
    # variance of (0.5, 0.5, -1, 1) is 2.25 / 3 = 0.75; sd of the mean sqrt(0.75 / 4) = 0.4330
    assert paired_gain("WWWLLLWW", "WLLLWWLL", 0.95)[1] == pytest.approx(
        0.25 - 1.6449 * 0.4330, abs=1e-3
    )


def test_paired_gain_counts_a_draw_as_no_win() -> None:
    assert paired_gain("DD", "LL", 0.5)[0] == 0.0


def test_paired_gain_refuses_unequal_sides() -> None:
    with pytest.raises(SchemaError, match="the same even number"):
        paired_gain("WWW", "WWW", 0.9)


def test_paired_gain_bound_holds_as_often_as_it_says() -> None:
    rng = random.Random(7)
    misses = 0
    for _ in range(2000):  # two equal policies: the bound may be over 0 in one of ten
        ours = "".join(rng.choice("WL") for _ in range(200))
        theirs = "".join(rng.choice("WL") for _ in range(200))
        misses += paired_gain(ours, theirs, 0.9)[1] > 0
    assert misses / 2000 == pytest.approx(0.10, abs=0.025)
