"""Which kind of learning rows allow, by how old and how on-policy they are; and why.

An on-policy gradient of rows that another policy chose points elsewhere, a Q target trusts choices
that a log hardly holds, and cloning never gets much better than what it clones. So fresh rows are
learned from on-policy, explored ones off-policy, and what is old and narrow by an offline method.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from learners.model_types.base import LearnError, ModelType, TypeSettings
from schemas.practice import Episodes

Way = Literal["on_policy", "off_policy", "offline", "supervised"]
WAYS: tuple[Way, ...] = ("on_policy", "off_policy", "offline", "supervised")

MAX_LAG = 2
"""Versions that a row may be behind for an on-policy gradient: truncated importance ratios
(V-trace) correct a few steps of a policy, not a different one."""
FRESH = 0.5
"""Share of rows within `MAX_LAG` that on-policy learning asks for: with fewer, most of a window
would be thrown away."""
EXPLORED = 0.02
"""Share of rows whose choice had a chance below `LIKELY` that off-policy learning asks for: where
nobody strayed, a Q target compares with choices that nobody made."""
LIKELY = 0.5


class Age(msgspec.Struct, frozen=True, kw_only=True):
    """How old rows are beside the policy that is to be trained, and how far they strayed."""

    n_rows: int
    oldest: int
    """Version numbers of the behaviour policies; 0 is one that was not learned."""
    newest: int
    current: int
    """Of the policy that is trained."""
    fresh: float
    """Share of rows at most `MAX_LAG` versions behind."""
    explored: float
    """Share of rows whose choice was unlikely under its own policy."""
    other: str | None = None
    """Another model, whose versions the rows' are: none is fresh, for its numbers say nothing."""

    def told(self) -> str:
        """Return the age in a few words."""
        played = f"{self.n_rows:,} rows of versions {self.oldest} to {self.newest}"
        unlikely = f"{self.explored:.0%} unlikely choices"
        if self.other is not None:
            return f"{played} of {self.other}, another model: {unlikely}"
        behind = f"{self.fresh:.0%} at most {MAX_LAG} behind"
        return f"{played}, the policy is {self.current}: {behind}, {unlikely}"


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """What was chosen."""

    way: Way
    why: str
    changes: dict[str, Any] = {}
    """Settings of the type that this way needs."""
    age: Age


def age_of(rows: Episodes, kind: ModelType, current: int, other: str | None = None) -> Age:
    """Return the age of rows beside version ``current``; ``other`` is as in `choose`.

    Raises:
        LearnError: there are none, or they are newer than the policy they are to train.
    """
    if not len(rows):
        msg = f"{kind.name}: rows must be at least 1 to learn from; got 0"
        raise LearnError(msg)
    version = rows.policy_version
    newest = int(version.max())
    other = other if newest else None  # scripts are nobody's versions
    if other is None and newest > current:
        msg = (
            f"{kind.name}: policy_version must be at most {current}, the version that is trained;"
            f" got {newest} (train from the newest version)"
        )
        raise LearnError(msg)
    chance = rows.propensity.get(kind.acts) if kind.acts is not None else None
    fresh = (version > 0) & (version >= current - MAX_LAG)
    return Age(
        n_rows=len(rows),
        oldest=int(version.min()),
        newest=newest,
        current=current,
        fresh=float(fresh.mean()) if other is None else 0.0,
        explored=0.0 if chance is None else float((chance < LIKELY).mean()),
        other=other,
    )


def choose(
    kind: ModelType,
    rows: Episodes,
    current: int,
    wanted: Way | None = None,
    other: str | None = None,
) -> Choice:
    """Return how to learn from logged rows, and why.

    Args:
        kind: the type that is trained.
        rows: of the windows.
        current: number of the version that is trained; 0 before the first.
        wanted: a way that was asked for by name.
        other: the model whose versions played the rows, where it is not the one that is trained.

    Raises:
        LearnError: the way that was asked for is unsound for these rows, or none is sound.
    """
    age = age_of(rows, kind, current, other)
    allowed = {way: _refused(kind, age, way) for way in WAYS}
    if wanted is not None:
        why = allowed[wanted]
        if why is not None:
            fit = ", ".join(way for way, no in allowed.items() if no is None)
            msg = f"--method must be one of {fit} for {kind.name}: {why}; got {wanted}"
            raise LearnError(msg)
        return _choice(kind, age, wanted, f"asked for; {age.told()}")
    way = next(way for way in WAYS if allowed[way] is None)
    before = "".join(f"; no {w}: {why}" for w, why in _passed(kind, allowed, way))
    return _choice(kind, age, way, f"{age.told()}{before}")


def _passed(kind: ModelType, refused: dict[Way, str | None], way: Way) -> list[tuple[Way, str]]:
    """Return the ways of this type that come before the one taken, and why not."""
    own = _ways(kind)
    return [(w, why) for w, why in refused.items() if w in own and w != way and why is not None]


def _ways(kind: ModelType) -> tuple[Way, ...]:
    fields = kind.settings.__struct_fields__
    if kind.acts is None:
        return ("supervised",)
    if "max_lag" in fields:
        return ("on_policy", "offline")
    return ("off_policy", "offline")


def _refused(kind: ModelType, age: Age, way: Way) -> str | None:
    """Return why a way is unsound, or None."""
    if way not in _ways(kind):
        return f"it learns {' or '.join(_ways(kind))}"
    if way == "on_policy" and age.other is not None:
        return f"{age.other} played the rows, which is another model"
    if way == "on_policy" and age.fresh < FRESH:
        return (
            f"{age.fresh:.0%} of the rows are at most {MAX_LAG} versions behind, and"
            f" {FRESH:.0%} are wanted"
        )
    if way == "off_policy" and age.explored < EXPLORED:
        return (
            f"{age.explored:.0%} of the choices were unlikely, and {EXPLORED:.0%} are wanted to"
            " know what other choices bring"
        )
    return None


def _choice(kind: ModelType, age: Age, way: Way, why: str) -> Choice:
    return Choice(way=way, why=f"{way}: {why}", changes=_changes(kind, way), age=age)


def _changes(kind: ModelType, way: Way) -> dict[str, Any]:
    """Return the settings with which a type learns from a log alone in a way."""
    changes: dict[str, Any] = {"practice_matches": 0}
    fields = kind.settings.__struct_fields__
    if "method" in fields:
        changes["method"] = "double_dqn" if way == "off_policy" else "cql"
        if way == "offline":
            changes |= {"conservative": 1.0, "n_step": 1}  # longer returns are the log's policy's
    if "reward_weight" in fields:
        changes["reward_weight"] = 1.0  # a log does not tell who won
    if "max_lag" in fields and way == "on_policy":
        changes |= {"max_lag": MAX_LAG, "clone_updates": 0}
    if "clone_updates" in fields and way != "on_policy":
        changes["clone_updates"] = 10**9 if way == "offline" else 0
    return changes


def with_choice(settings: TypeSettings, choice: Choice) -> dict[str, Any]:
    """Return a type's settings as a plan holds them, changed as the choice asks."""
    return {**msgspec.to_builtins(settings), **choice.changes}
