"""Where replayed rows go: JSON lines or Parquet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import IO, Any, Protocol, cast

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from schemas.columns import rows_to_table
from schemas.game import Game
from schemas.records import Experience
from streams.replay.columns import event_schema, event_table

Place = tuple[int, int, int]
"""(partition, offset, index); of an experience from an archive: its origin."""

CHUNK_ROWS = 4096
_encode = msgspec.json.Encoder(order="deterministic").encode


class ReplayError(RuntimeError):
    """What was asked for cannot be replayed, or rows do not fit where they are to go."""


class Sink(Protocol):
    """Takes rows with their places."""

    def write(self, place: Place, row: Any) -> None:
        """Take the next row."""
        ...

    def close(self) -> None:
        """Write what is left."""
        ...


class JsonLines:
    """A line a row: its place, then its fields; bytes are base64."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def write(self, place: Place, row: Any) -> None:
        """Take the next row."""
        own = row.__struct_fields__
        names = ("partition", "offset", "index")
        before = [
            f'"{name}":{n}'.encode()
            for name, n in zip(names, place, strict=True)
            if name not in own  # a row of such a field says it itself
        ]
        line = b",".join([*before, _encode(row)[1:]])
        self._stream.write(b"{" + line + b"\n")

    def close(self) -> None:
        """Hand over what is buffered."""
        self._stream.flush()


class ParquetRows:
    """A Parquet file; experience has the columns of windows, other rows those of their kinds."""

    def __init__(
        self,
        stream: IO[bytes],
        kinds: Sequence[type[msgspec.Struct]],
        games: Mapping[str, Game],
    ) -> None:
        """Begin a file of rows of these kinds."""
        self._stream = stream
        self._games = games
        self._schema = None if list(kinds) == [Experience] else event_schema(kinds)
        self._writer: pq.ParquetWriter | None = None
        self._places: list[Place] = []
        self._rows: list[Any] = []

    def write(self, place: Place, row: Any) -> None:
        """Take the next row."""
        self._places.append(place)
        self._rows.append(row)
        if len(self._rows) >= CHUNK_ROWS:
            self._flush()

    def close(self) -> None:
        """Write what is left and the file's end; a file of no rows has columns all the same."""
        if self._rows or self._writer is None:
            self._flush()
        if self._writer is not None:
            self._writer.close()

    def _flush(self) -> None:
        table = self._table()
        self._places, self._rows = [], []
        if self._writer is None:
            self._writer = pq.ParquetWriter(
                self._stream, table.schema, compression="zstd", compression_level=1
            )
        try:
            self._writer.write_table(table)
        except ValueError as error:
            msg = f"rows of one file must have vectors of one size; got {error}: pick one game"
            raise ReplayError(msg) from error

    def _table(self) -> pa.Table:
        if self._schema is not None:
            return event_table(self._schema, self._places, self._rows)
        rows = cast("list[Experience]", self._rows)
        name = rows[0].game if rows else next(iter(self._games))
        game = self._games.get(name)
        if game is None:
            known = ", ".join(sorted(self._games))
            msg = f"game of a row must be {known}, whose description is known; got {name}"
            raise ReplayError(msg)
        try:
            return rows_to_table(rows, game.observation.size, game.actions.n)
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            msg = f"rows must have the vectors that {name} describes; got {error}"
            raise ReplayError(msg) from error
