"""What windows are cut by, of many records at once: columns in place of an object for each row."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from schemas.compiled import Bytes, Ints, bytes_of
from schemas.kernels import count_rows, find_rows
from schemas.records import Origin, Retraction, RowHead, Watermark, decode_heads, decoded
from schemas.texts import texts_of
from schemas.walk import HEAD, Found

_decode_row = msgspec.msgpack.Decoder(RowHead | Retraction | Watermark).decode

Others = dict[int, Retraction | Watermark]
_ORIGIN = ("origin_partition", "origin_offset", "origin_index")


class Heads(msgspec.Struct, frozen=True, kw_only=True):
    """The N rows of some records that follow each other, in order."""

    data: Bytes
    starts: Ints
    """[N]: where each row begins as it was written,"""
    sizes: Ints
    """[N]: and how many bytes it has."""
    ends: Ints
    """For each record, how many rows there are up to its end."""
    origins: Ints
    """[3, N]: partition, offset, index."""
    keys: list[tuple[str, str]]
    """Games and archetypes that there are."""
    key: Ints
    """[N]: which of `keys` a row has; -1 for a retraction and a watermark."""
    settled_ms: Ints
    """[N]: when an experience was settled."""
    others: Others
    """Retractions and watermarks, by their place among the rows."""

    def __len__(self) -> int:
        return len(self.starts)

    def origin(self, i: int) -> Origin:
        """Return where a row came from."""
        return Origin(*self.origins[:, i].tolist())

    def head(self, i: int) -> RowHead:
        """Return an experience's head, with its bytes."""
        game, archetype = self.keys[int(self.key[i])]
        return RowHead(
            origin=self.origin(i),
            game=game,
            archetype=archetype,
            settled_time_ms=int(self.settled_ms[i]),
            data=msgspec.Raw(_row(self.data, self.starts, self.sizes, i)),
        )


def read_heads(values: Sequence[bytes]) -> Heads:
    """Return the heads of the rows of records of `experiences`, as `decode_heads` finds them.

    Raises:
        msgspec.MsgspecError: the bytes are no rows, as far as heads show.
    """
    ends = np.cumsum(np.fromiter(map(len, values), np.int64, len(values)))
    data = bytes_of(values)
    begins = np.concatenate(([0], ends[:-1])) if values else ends
    n = count_rows(data, begins, ends)
    starts, sizes = np.zeros(max(n, 0), np.int64), np.zeros(max(n, 0), np.int64)
    ours, found = np.zeros(max(n, 0), np.uint8), HEAD.empty(max(n, 0))
    if n < 0 or not find_rows(data, begins, ends, HEAD.layout, starts, sizes, ours, *found):
        raise _broken(values)
    origins = np.array([HEAD.values(found, name) for name in _ORIGIN])
    settled_ms = HEAD.values(found, "settled_time_ms")
    keys, key = _keys(data, ours, found)
    others: Others = {}
    for i in np.flatnonzero(ours == 0).tolist():
        row = decoded(_decode_row, _row(data, starts, sizes, i))
        origins[:, i] = msgspec.structs.astuple(row.origin)
        if isinstance(row, RowHead):  # in another form than ours
            name = (row.game, row.archetype)
            keys += [name] if name not in keys else []
            key[i], settled_ms[i] = keys.index(name), row.settled_time_ms
        else:
            others[i] = row
    return Heads(
        data=data,
        starts=starts,
        sizes=sizes,
        ends=np.searchsorted(starts, ends).astype(np.int64),
        origins=origins,
        keys=keys,
        key=key,
        settled_ms=settled_ms,
        others=others,
    )


def _row(data: Bytes, starts: Ints, sizes: Ints, i: int) -> bytes:
    start = int(starts[i])
    return bytes(data[start : start + int(sizes[i])])


def _keys(data: Bytes, ours: Bytes, found: Found) -> tuple[list[tuple[str, str]], Ints]:
    """Return the games and archetypes of our rows, and which of them each has."""
    rows, key = np.flatnonzero(ours), np.full(len(ours), -1)
    try:
        (games, game), (archetypes, archetype) = (
            texts_of(data, HEAD.values(found, name)[rows]) for name in ("game", "archetype")
        )
    except UnicodeDecodeError as error:
        msg = f"game and archetype must be UTF-8: {error}"
        raise msgspec.DecodeError(msg) from error
    if len(games) == 1:  # as in the logs of most
        key[rows] = archetype
        return [(games[0], name) for name in archetypes], key
    pairs, key[rows] = np.unique(game * len(archetypes) + archetype, return_inverse=True)
    found_pairs = [divmod(pair, len(archetypes)) for pair in pairs.tolist()]
    return [(games[i], archetypes[j]) for i, j in found_pairs], key


def _broken(values: Sequence[bytes]) -> msgspec.MsgspecError:
    """Return what is wrong with records that are not to be read."""
    for value in values:
        try:
            decode_heads(value)
        except msgspec.MsgspecError as error:
            return error
    return msgspec.DecodeError("records must be arrays of rows")
