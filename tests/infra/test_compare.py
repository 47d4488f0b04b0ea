"""Numbers about rewards, worked out by hand."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from infra.backtest.compare import change, distribution, edges, outliers, ranks, spearman
from schemas.errors import SchemaError, refuse
from streams.pool import Tell, WorkerError, run_each


def array(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float64)


def test_spearman_by_hand_without_ties() -> None:
    # Ranks 1 2 3 4 5 and 2 1 4 3 5: d = -1 1 -1 1 0, so 1 - 6 * 4 / (5 * 24) = 0.8.
    found = spearman(array(10, 20, 30, 40, 50), array(0.2, 0.1, 0.7, 0.4, 0.9))
    assert found == pytest.approx(0.8)


def test_spearman_by_hand_with_ties() -> None:
    # Ranks 1.5 1.5 3 4 and 1 2.5 2.5 4; about the mean 2.5: -1 -1 .5 1.5 and -1.5 0 0 1.5.
    # Products sum to 1.5 + 2.25 = 3.75; squares to 4.5 and 4.5: 3.75 / 4.5.
    assert ranks(array(7, 7, 8, 9)).tolist() == [1.5, 1.5, 3, 4]
    assert spearman(array(7, 7, 8, 9), array(1, 2, 2, 3)) == pytest.approx(3.75 / 4.5)


def test_spearman_is_not_defined_for_a_constant_or_what_is_no_number() -> None:
    assert spearman(array(1, 1, 1), array(1, 2, 3)) is None
    assert spearman(array(1, 2, math.nan), array(1, 2, 3)) is None
    assert spearman(array(1), array(1)) is None


@given(hnp.arrays(np.float64, st.integers(2, 30), elements=st.integers(-5, 5).map(float)))
def test_spearman_asks_for_order_alone(values: np.ndarray) -> None:
    rising = spearman(values, np.exp(values))
    falling = spearman(values, -(values**3))
    if len(set(values)) == 1:
        assert rising is None
    else:
        assert rising == pytest.approx(1.0)
        assert falling == pytest.approx(-1.0)


def test_distribution_counts_what_is_no_number_apart() -> None:
    found = distribution(array(0, 0, 1, -1, 0.5, math.nan, math.inf, -math.inf))
    assert (found.n, found.n_nan, found.n_inf) == (8, 1, 2)
    assert (found.mean, found.median, found.min, found.max) == (0.1, 0.0, -1.0, 1.0)
    assert (found.zeros, found.clipped) == (0.4, 0.4)
    assert distribution(array(math.nan)).mean is None
    assert distribution(array()).n == 0


def test_change_by_hand() -> None:
    found = change(array(0.5, -0.5, 0.0, 1.0), array(0.5, 0.25, 0.5, 1.0))
    assert (found.n, found.changed, found.flipped) == (4, 0.5, 0.25)
    assert (found.mean, found.mean_abs) == (0.3125, 0.3125)
    assert change(array(), array()).spearman is None


def test_outliers_are_far_from_the_quartiles_of_what_is_not_zero() -> None:
    # Quartiles of 1 1 2 2 2 3 3 40 (numpy's): 1.75 and 3; the fence above is 3 + 3 * 1.25.
    values = array(*[0.0] * 50, 1, 1, 2, 2, 2, 3, 3, 40, math.nan)
    assert outliers(values).nonzero()[0].tolist() == [57, 58]
    assert not outliers(array(0, 0, 1)).any()


def test_edges_hold_all_values() -> None:
    found = edges(array(-0.5, 0.2), array(2.0, math.nan), bins=5)
    assert (found[0], found[-1], len(found)) == (-0.5, 2.0, 6)
    assert edges(array(1.0, 1.0)).tolist()[0] < 1.0


def double(job: int, tell: Tell) -> int:
    tell(job)
    return 2 * job


def refuse_three(job: int, tell: Tell) -> int:
    if job == 3:
        refuse("$.job", "not 3", "3")
    time.sleep(0.01)
    return job


def die(job: int, tell: Tell) -> int:
    raise SystemExit(9)


@pytest.mark.parametrize("processes", [1, 2])
def test_work_is_done_in_the_jobs_order(processes: int) -> None:
    told: list[int] = []
    assert run_each([1, 2, 3], double, processes, told.append) == [2, 4, 6]
    assert sorted(told) == [1, 2, 3]


def test_what_a_process_raises_comes_out_here() -> None:
    with pytest.raises((SchemaError, WorkerError), match=r"\$.job must be not 3"):
        run_each([1, 2, 3, 4], refuse_three, 2)


def test_a_process_that_ends_early_is_told() -> None:
    with pytest.raises(WorkerError, match="must finish its work; it ended with 9"):
        run_each([1, 2], die, 2)
