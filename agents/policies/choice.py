"""How a policy answers: actions with their true propensities."""

from __future__ import annotations

from typing import Final, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

_MIX_A: Final = np.uint64(0xBF58476D1CE4E5B9)
_MIX_B: Final = np.uint64(0x94D049BB133111EB)
_GOLDEN: Final = np.uint64(0x9E3779B97F4A7C15)


class Choice(NamedTuple):
    """What a policy chose for B observations.

    actions: i64[B]. propensities: f64[B], the probability of each chosen action under the whole
    behaviour (rule and exploration). explored: bool[B], whether exploration overruled the rule.
    probabilities: f32[B, A], the distribution each action was drawn from.
    """

    actions: NDArray[np.int64]
    propensities: NDArray[np.float64]
    explored: NDArray[np.bool_]
    probabilities: NDArray[np.float32]


class Uniforms(Protocol):
    """A source of randomness: `numpy.random.Generator` is one, `RowRandom` another."""

    def random(self, size: tuple[int, int], /) -> NDArray[np.float64]:
        """f64[size] in [0, 1); row b belongs to observation b."""
        ...


@runtime_checkable
class Rule(Protocol):
    """Something that prefers actions; it draws nothing by itself."""

    version: str

    def distribution(
        self, observations: NDArray[np.float32], legal: NDArray[np.bool_]
    ) -> NDArray[np.float64]:
        """f64[B, A], each row summing to 1 with nothing on an illegal action."""
        ...


@runtime_checkable
class Policy(Protocol):
    """Something that decides for many NPCs at once."""

    version: str

    def act(
        self, observations: NDArray[np.float32], legal: NDArray[np.bool_], rng: Uniforms
    ) -> Choice:
        """Chooses a legal action for each of f32[B, D] observations under the bool[B, A] mask.

        Every policy draws `rng.random((B, 2))` once for a call and nothing else, so a row's
        action depends on its own draws only. B may be 0. Raises ValueError for a row without a
        legal action.
        """
        ...


class RowRandom:
    """Uniform numbers by counter, one stream a row, so that a batch's composition is no input.

    A row's numbers are a function of its key and of how many calls it has seen, by the
    SplitMix64 finaliser (Steele, Lea and Flood, 2014). Select the rows of the next call with
    `rows` first.
    """

    def __init__(self, keys: NDArray[np.uint64]) -> None:
        """Takes u64[N], the key of each of N streams; equal keys give equal streams."""
        self._state = _mixed(keys.astype(np.uint64) + _GOLDEN)
        self._rows: NDArray[np.int64] = np.arange(len(keys))

    def restart(self, index: NDArray[np.int64], keys: NDArray[np.uint64]) -> None:
        """Begins the named streams anew with other keys, i64[K] and u64[K]."""
        self._state[index] = _mixed(keys.astype(np.uint64) + _GOLDEN)

    def rows(self, index: NDArray[np.int64]) -> RowRandom:
        """Names the streams (i64[B], distinct) that the next call of `random` draws from."""
        self._rows = index
        return self

    def random(self, size: tuple[int, int], /) -> NDArray[np.float64]:
        """f64[B, k] in [0, 1) from the named streams, which move on."""
        n, k = size
        if n != len(self._rows):
            msg = f"size must have a row for each of {len(self._rows)} streams; got {size}"
            raise ValueError(msg)
        steps = np.arange(1, k + 1, dtype=np.uint64) * _GOLDEN
        base = self._state[self._rows]
        self._state[self._rows] = base + steps[-1]
        bits = _mixed(base[:, None] + steps[None, :])
        return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def choose(
    base: NDArray[np.float64], legal: NDArray[np.bool_], epsilon: float, rng: Uniforms
) -> Choice:
    """Draws from `epsilon` * uniform over legal actions + (1 - `epsilon`) * `base`.

    `base` is f64[B, A] with rows summing to 1, `legal` bool[B, A].
    """
    n = len(base)
    n_legal = legal.sum(axis=1)
    if n and not n_legal.all():
        msg = f"legal must hold a legal action in each row; got none in row {n_legal.argmin()}"
        raise ValueError(msg)
    draws = rng.random((n, 2))
    uniform = legal / np.maximum(n_legal, 1)[:, None]
    explored = draws[:, 0] < epsilon
    mixture = (1.0 - epsilon) * base + epsilon * uniform
    drawn_from = np.where(explored[:, None], uniform, base)
    cumulative = drawn_from.cumsum(axis=1)
    # Below the total even after rounding, so that the first larger entry has mass of its own.
    total = cumulative[:, -1]
    target = np.minimum(draws[:, 1] * total, np.nextafter(total, 0.0))
    actions = (cumulative > target[:, None]).argmax(axis=1)
    propensities = np.minimum(mixture[np.arange(n), actions], 1.0)
    return Choice(actions, propensities, explored, mixture.astype(np.float32))


def one_hot(actions: NDArray[np.int64], n_actions: int) -> NDArray[np.float64]:
    """f64[B, A] with all mass of row b on `actions[b]`."""
    rows = np.zeros((len(actions), n_actions))
    rows[np.arange(len(actions)), actions] = 1.0
    return rows


def checked_epsilon(epsilon: float) -> float:
    """Returns `epsilon`; raises ValueError when it is no probability."""
    if not 0.0 <= epsilon <= 1.0:
        msg = f"epsilon must be in [0, 1]; got {epsilon}"
        raise ValueError(msg)
    return epsilon


def _mixed(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    x = (x ^ (x >> np.uint64(30))) * _MIX_A
    x = (x ^ (x >> np.uint64(27))) * _MIX_B
    return x ^ (x >> np.uint64(31))
