"""What windows of the log hold for each type: one head's rows, or whole steps.

A head's rows say what an actor saw and chose: types that act learn from them. What its enemies
were and did, where it went and what its map showed a game tells in the details of its decisions;
the game's own join puts that together again for the types that predict.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from typing import Any

import pyarrow as pa

from learners.model_types.base import LearnError, ModelType
from learners.replay.rows import open_archive, read_window, window_error
from learners.training.windows import HeadReader, HeadRows, episodes_of
from schemas.arrow import experience_schema, table_to_rows
from schemas.practice import Episodes, Head, Layout
from schemas.records import Experience, Window

STEPS = "steps"
"""Name of what predicting types read, beside the names of heads."""

Join = Callable[[Iterable[Experience], bool], Episodes]
"""Makes rows of a game's settled decisions of one archetype, with maps or without.

Raises:
    ValueError: no step is whole.
"""


@dataclasses.dataclass(frozen=True, slots=True)
class Source:
    """What a game's windows hold for learners."""

    layout: Layout
    heads: Mapping[Head, tuple[int, int]]
    """Where the choices of each head lie in the game's one list of actions, and where they end."""
    join: Join | None = None
    """None: its decisions tell nothing beside what each head saw and chose."""
    plays: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Archetype -> model whose versions played what the log holds; default: each its own."""

    @property
    def n_actions(self) -> int:
        """Length of the game's list of actions."""
        return max(end for _, end in self.heads.values())

    def name(self, kind: ModelType) -> str:
        """Return what a type reads: its head, or whole steps.

        Raises:
            LearnError: the game has neither.
        """
        if kind.acts is None and self.join is not None:
            return STEPS
        if kind.acts is None or kind.acts not in self.heads:
            rule = f"one that decides {', '.join(self.heads)}"
            why = "" if self.join is not None else ", for its windows tell no facts of enemies"
            msg = f"--type must be {rule}{why}; got {kind.name}"
            raise LearnError(msg)
        return kind.acts

    def reader(self, kind: ModelType, archive: str) -> Reader:
        """Return a reader of what a type learns from.

        Raises:
            LearnError: the game has nothing for the type.
        """
        self.name(kind)
        if kind.acts is None:
            return StepReader(archive, self)
        return ChoiceReader(self.head_reader(kind.acts, archive), kind.acts, self.layout)

    def head_reader(self, head: Head, archive: str) -> HeadReader:
        """Return a reader of one head's rows."""
        return HeadReader(archive, self.layout, head, self.heads[head], self.n_actions)


class Reader(abc.ABC):
    """Reads windows, and makes rows to learn from of many."""

    @abc.abstractmethod
    def read(self, window: Window) -> Sized:
        """Return a window's part; its length is the rows that it brings.

        Raises:
            WindowError: a file is missing or altered, or a value breaks its rule.
        """

    @abc.abstractmethod
    def episodes(self, parts: Sequence[Any], *, maps: bool) -> Episodes:
        """Return rows of parts in the log's order.

        Raises:
            LearnError: there are none.
        """


class ChoiceReader(Reader):
    """The rows of one head."""

    def __init__(self, reader: HeadReader, head: Head, layout: Layout) -> None:
        """Take what reads a window."""
        self._reader, self._head, self._layout = reader, head, layout

    def read(self, window: Window) -> HeadRows:
        """Return the head's rows."""
        return self._reader.read(window)

    def episodes(self, parts: Sequence[HeadRows], *, maps: bool) -> Episodes:
        """Return unbroken steps; they have no maps."""
        return episodes_of(list(parts), self._head, self._layout)


@dataclasses.dataclass(frozen=True, slots=True)
class Told:
    """A window's decisions as columns: a fifth of what they take as objects."""

    table: pa.Table
    n_steps: int
    """Steps that are whole within the window."""

    def __len__(self) -> int:
        """Return how many steps it brings."""
        return self.n_steps


class StepReader(Reader):
    """Whole steps, all heads of one actor at one time."""

    def __init__(self, archive: str, source: Source) -> None:
        """Take the archive's root and what windows hold."""
        self._filesystem, self._root = open_archive(archive)
        self._heads = [source.head_reader(head, archive) for head in source.heads]
        schema = experience_schema(source.layout.n_features, source.n_actions)
        self._columns: list[str] = schema.names
        self._source = source

    def read(self, window: Window) -> Told:
        """Return a window's decisions, every head's checked and joined once.

        A window none of whose steps is whole brings nothing, here; heads may still learn from it.
        """
        table = read_window(self._filesystem, self._root, window, self._columns, ())
        for head in self._heads:
            head.rows(table, window.window_id)
        try:
            n_steps = len(self._join([table], maps=False))
        except LearnError:
            return Told(table.slice(0, 0), 0)
        except (KeyError, TypeError, pa.ArrowException) as error:
            rule = "the details that the game's connector tells"
            raise window_error(window.window_id, "details", rule, repr(error)) from error
        return Told(table, n_steps)

    def episodes(self, parts: Sequence[Told], *, maps: bool) -> Episodes:
        """Return unbroken steps; those that lie in two windows are one again."""
        return self._join([part.table for part in parts], maps=maps)

    def _join(self, tables: list[pa.Table], *, maps: bool) -> Episodes:
        join = self._source.join
        if join is None:
            msg = "join must be the game's; got none"
            raise LearnError(msg)
        try:
            return join((row for table in tables for row in table_to_rows(table)), maps)
        except ValueError as error:
            raise LearnError(str(error)) from error
