"""Windows of the log as rows of one head: read, checked, chained across windows."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from learners.replay.rows import (
    Names,
    names_of,
    numbers_of,
    open_archive,
    read_window,
    vectors,
    window_error,
)
from schemas.practice import Episodes, Floats, Head, Ints, Layout
from schemas.records import Window

COLUMNS = [
    "revision", "domain", "episode", "actor_id", "step", "observation", "legal", "action",
    "continuous", "propensity", "policy_version", "next_observation", "terminated", "truncated",
    "total", "status",
]  # fmt: skip
_NAMES = ["domain", "episode", "actor_id", "policy_version", "status"]
_VERSION = re.compile(r"v(\d+)$")


@dataclasses.dataclass(frozen=True, slots=True)
class HeadRows:
    """Rows of one head in a window, in the log's order; N of them."""

    episode: Names
    actor: Names
    step: Ints
    revision: Ints
    observation: Floats
    """[N, D]."""
    next_observation: Floats
    """[N, D], zeros where ``has_next`` is false."""
    has_next: NDArray[np.bool_]
    legal: NDArray[np.bool_]
    """[N, A] of the head's own choices."""
    action: Ints
    """Of the head's own choices; 0 for "aim"."""
    aim: Floats
    """[N, 2]; zeros for heads of choices."""
    propensity: Floats
    version: Ints
    """Number of the behaviour policy's version; 0 for one that was not learned."""
    reward: Floats
    settled: NDArray[np.bool_]
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]

    def __len__(self) -> int:
        """Return N."""
        return len(self.step)


class HeadReader:
    """Reads the rows of one head; every file's digest is checked before it is decoded."""

    def __init__(
        self, archive: str, layout: Layout, head: Head, actions: tuple[int, int], n_actions: int
    ) -> None:
        """Take the archive's root and what rows must fit.

        Args:
            archive: a path or a `pyarrow.fs` URI.
            layout: of the world.
            head: whose rows are read: those of the domain of its name.
            actions: where the head's choices lie in the game's one list, and where they end.
            n_actions: length of that list.
        """
        self._filesystem, self._root = open_archive(archive)
        self._layout, self._head = layout, head
        self._actions, self._n_actions = actions, n_actions

    def read(self, window: Window) -> HeadRows:
        """Return the head's rows of a window.

        Raises:
            WindowError: a file is missing or altered, or a value breaks its rule.
        """
        table = read_window(self._filesystem, self._root, window, COLUMNS, _NAMES)
        return self.rows(table, window.window_id)

    def rows(self, table: pa.Table, where: str) -> HeadRows:
        """Return the head's rows of a window's table; ``where`` names it in errors.

        Raises:
            WindowError: a value breaks its rule.
        """
        domains = names_of(table.column("domain").combine_chunks())
        table = table.take(pa.array(np.flatnonzero(domains.where(self._head))))
        column = {name: table.column(name).combine_chunks() for name in COLUMNS}
        n, width = len(table), 4 * self._layout.n_features
        observation, _ = vectors(column["observation"], width, "observation")
        following, has_next = vectors(column["next_observation"], width, "next_observation")
        mask, masked = vectors(column["legal"], self._n_actions, "legal")
        mask = np.where(masked[:, None], mask, 1)
        first, end = self._actions
        aims = self._head == "aim"
        rows = HeadRows(
            episode=names_of(column["episode"]),
            actor=names_of(column["actor_id"]),
            step=numbers_of(column["step"], np.int64),
            revision=numbers_of(column["revision"], np.int64),
            observation=observation.view("<f4").reshape(n, self._layout.n_features),
            next_observation=np.where(
                has_next[:, None],
                following.view("<f4").reshape(n, self._layout.n_features),
                np.float32(0.0),
            ),
            has_next=has_next,
            legal=mask[:, first:end].astype(np.bool_),
            action=numbers_of(column["action"], np.int64) - first,
            aim=_aims(column["continuous"], where) if aims else np.zeros((n, 2), np.float32),
            propensity=numbers_of(column["propensity"], np.float32),
            version=_versions(names_of(column["policy_version"])),
            reward=numbers_of(column["total"], np.float32),
            settled=~names_of(column["status"]).where("censored"),
            terminated=numbers_of(column["terminated"], np.bool_),
            truncated=numbers_of(column["truncated"], np.bool_),
        )
        _check(rows, where, choices=not aims)
        return rows


def _check(rows: HeadRows, where: str, *, choices: bool) -> None:
    """Refuse what would poison weights."""
    for name in ("observation", "next_observation", "aim", "propensity", "reward"):
        values = getattr(rows, name)
        bad = np.flatnonzero(~np.isfinite(values).all(axis=tuple(range(1, values.ndim))))
        if len(bad):
            raise window_error(where, f"rows[{bad[0]}].{name}", "finite", "nan or inf")
    bad = np.flatnonzero((rows.propensity <= 0) | (choices & (rows.propensity > 1 + 1e-6)))
    if len(bad):
        rule, got = "in (0, 1]" if choices else "over 0", f"{rows.propensity[bad[0]]:g}"
        raise window_error(where, f"rows[{bad[0]}].propensity", rule, got)
    if not choices:
        return
    n = rows.legal.shape[1]
    known = (rows.action >= 0) & (rows.action < n)
    taken = rows.legal[np.arange(len(rows)), np.where(known, rows.action, 0)]
    bad = np.flatnonzero(~(known & taken))
    if len(bad):
        rule, got = f"legal and one of the head's {n}", str(rows.action[bad[0]])
        raise window_error(where, f"rows[{bad[0]}].action", rule, got)


def _versions(names: Names) -> Ints:
    """Return numbers of versions: 7 of ``v0007`` and of ``canary@v0007``, 0 of ``scripted``."""
    found = [_VERSION.search(name) for name in names.names]
    numbers = np.asarray([int(m.group(1)) if m else 0 for m in found], np.int64)
    return numbers[names.codes] if len(numbers) else np.zeros(len(names), np.int64)


def _aims(column: pa.Array, where: str) -> Floats:
    values = column.to_pylist()
    for i, value in enumerate(values):
        if value is None or len(value) != 8:
            got = "none" if value is None else f"{len(value)} bytes"
            raise window_error(where, f"rows[{i}].continuous", "2 float32", got)
    return np.frombuffer(b"".join(values), "<f4").reshape(len(values), 2).astype(np.float32)


def episodes_of(parts: list[HeadRows], head: Head, layout: Layout) -> Episodes:
    """Return rows of many windows as unbroken steps, the newest revision of each.

    What follows a step is what its outcome said, else its actor's next step. Steps of which
    neither is known, and those whose reward is not (censored), are left out: the chain ends before
    them, truncated. Matches are numbered in the order of their first rows.
    """
    keys = _keys(parts)
    column = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in HeadRows.__slots__
        if name not in ("episode", "actor")
    }
    order = np.lexsort((column["revision"], column["step"], keys[1], keys[0]))
    same = _same(order, keys, column["step"])
    order = order[np.append(~same[1:], True)] if len(order) else order  # the newest revision
    match, actor = keys[0][order], keys[1][order]
    column = {name: values[order] for name, values in column.items()}
    n = len(order)
    follows = np.zeros(n, np.bool_)
    follows[:-1] = (
        (match[1:] == match[:-1])
        & (actor[1:] == actor[:-1])
        & (column["step"][1:] == column["step"][:-1] + 1)
    )
    follows &= ~column["terminated"] & ~column["truncated"]
    following = column["next_observation"].copy()
    at = np.flatnonzero(follows & ~column["has_next"])
    following[at] = column["observation"][at + 1]
    following[column["terminated"]] = 0.0
    kept = column["settled"] & (follows | column["has_next"] | column["terminated"])
    chained = np.append(kept[:-1] & kept[1:] & follows[:-1], False)  # on to the next kept row
    rows = np.flatnonzero(kept)
    return _episodes(
        head, layout, {k: v[rows] for k, v in column.items()}, match[rows], actor[rows],
        following[rows], first=~np.append(False, chained[:-1])[rows], last=~chained[rows],
    )  # fmt: skip


def _same(order: Ints, keys: tuple[Ints, Ints], step: Ints) -> NDArray[np.bool_]:
    """Return which rows [N], in an order, are the decision of the row before."""
    columns = np.stack([keys[0][order], keys[1][order], step[order]])
    same = np.zeros(len(order), np.bool_)
    same[1:] = (columns[:, 1:] == columns[:, :-1]).all(axis=0)
    return same


def _keys(parts: list[HeadRows]) -> tuple[Ints, Ints]:
    """Return numbers of episodes, in the order of their first rows, and of actors in them."""
    episodes: dict[str, int] = {}
    actors: dict[tuple[int, str], int] = {}
    counts: dict[int, int] = {}
    found: tuple[list[int], list[int]] = ([], [])
    for part in parts:
        for i in range(len(part)):
            episode = episodes.setdefault(part.episode[i], len(episodes))
            key = (episode, part.actor[i])
            if key not in actors:
                actors[key] = counts[episode] = counts.get(episode, -1) + 1
            found[0].append(episode)
            found[1].append(actors[key])
    return np.asarray(found[0], np.int64), np.asarray(found[1], np.int64)


def _episodes(
    head: Head,
    layout: Layout,
    column: Mapping[str, NDArray[Any]],
    match: Ints,
    actor: Ints,
    following: Floats,
    first: NDArray[np.bool_],
    last: NDArray[np.bool_],
) -> Episodes:
    n, e, f = len(match), layout.n_enemies, layout.n_enemy_features
    choices = head != "aim"
    return Episodes(
        observation=column["observation"], next_observation=following,
        action={head: column["action"]} if choices else {},
        aim=column["aim"],
        legal={head: column["legal"]} if choices else {},
        propensity={head: column["propensity"]},
        policy_version=column["version"], reward=column["reward"],
        terminated=column["terminated"], truncated=last & ~column["terminated"], first=first,
        actor=actor, match=match, step=column["step"],
        enemies=np.zeros((n, e, f), np.float32), threat=np.zeros((n, e), np.float32),
        enemy_kind=np.zeros(n, np.int64), maps=None, target=np.zeros(n, np.int64),
    )  # fmt: skip
