"""What windows are cut by, of many records at once: columns in place of an object for each row."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import msgspec
import numpy as np
from numpy.typing import NDArray

from schemas.cursor import AHEAD, ALL, Cursor, Positions, Spans, Where
from schemas.forms import NotCanonical
from schemas.packed import TAG, TYPE, Packed, walk
from schemas.records import Origin, Retraction, RowHead, Watermark, decode_heads

_decode_raws = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode
_decode_other = msgspec.msgpack.Decoder(Retraction | Watermark).decode

Others = dict[int, Retraction | Watermark]


class Heads(msgspec.Struct, frozen=True, kw_only=True):
    """The N rows of some records that follow each other, in order."""

    rows: list[msgspec.Raw]
    """Each as it was written."""
    ends: NDArray[np.int64]
    """For each record, how many rows there are up to its end."""
    origins: NDArray[np.int64]
    """[3, N]: partition, offset, index."""
    keys: list[tuple[str, str]]
    """Games and archetypes that there are."""
    key: NDArray[np.int64]
    """[N]: which of `keys` a row has; -1 for a retraction and a watermark."""
    settled_ms: NDArray[np.int64]
    """[N]: when an experience was settled."""
    others: Others
    """Retractions and watermarks, by their place among the rows."""

    def origin(self, i: int) -> Origin:
        """Return where a row came from."""
        return Origin(*self.origins[:, i].tolist())

    def head(self, i: int) -> RowHead:
        """Return an experience's head."""
        game, archetype = self.keys[int(self.key[i])]
        settled_ms = int(self.settled_ms[i])
        return RowHead(
            origin=self.origin(i), game=game, archetype=archetype, settled_time_ms=settled_ms
        )

    def take(self, places: Positions) -> list[msgspec.Raw]:
        """Return the rows at rising places."""
        first, last = int(places[0]), int(places[-1])
        if last - first + 1 == len(places):
            return self.rows[first : last + 1]
        return [self.rows[i] for i in places.tolist()]


def read_heads(values: Sequence[bytes]) -> Heads:
    """Return the heads of the rows of records of `experiences`, as `decode_heads` finds them.

    Raises:
        msgspec.MsgspecError: the bytes are no rows, as far as heads show.
    """
    parts = [_decode_raws(value) for value in values]
    rows = list(chain.from_iterable(parts))
    counts = np.fromiter(map(len, parts), np.int64, len(parts))
    sizes = np.fromiter(map(len, rows), np.int64, len(rows))
    ends = np.cumsum(counts)
    if not rows:
        return _of_objects(values, rows, ends)
    told = np.fromiter(map(len, values), np.int64, len(values))
    behind = np.concatenate(([0], np.cumsum(sizes)))[ends]
    headers = np.cumsum(told) - behind  # of arrays: what is no row's
    starts = np.cumsum(sizes) - sizes + np.repeat(headers, counts)
    packed = Packed(bytearray().join([*values, bytes(AHEAD)]), starts, sizes)
    try:
        return _read(rows, ends, packed)
    except (NotCanonical, UnicodeDecodeError):
        return _of_objects(values, rows, ends)


def _read(rows: list[msgspec.Raw], ends: NDArray[np.int64], packed: Packed) -> Heads:
    """Read the heads side by side.

    Raises:
        NotCanonical: the rows are not in the form that they are written in.
    """
    n = len(rows)
    origins, key, settled_ms = np.zeros((3, n), np.int64), np.full(n, -1), np.zeros(n, np.int64)
    settled, others = _which_are_settled(rows, packed)
    for i, other in others.items():
        origins[:, i] = msgspec.structs.astuple(other.origin)
    keys: list[tuple[str, str]] = []
    if len(others) < n:
        if others:
            packed = Packed(packed.data, packed.starts[settled], packed.sizes[settled])
        names, numbers = _walk_heads(packed)
        keys, key[settled] = _keys(packed, names["game"], names["archetype"])
        for at, name in enumerate(("origin_partition", "origin_offset", "origin_index")):
            origins[at, settled] = numbers[name]
        settled_ms[settled] = numbers["settled_time_ms"]
    return Heads(
        rows=rows,
        ends=ends,
        origins=origins,
        keys=keys,
        key=key,
        settled_ms=settled_ms,
        others=others,
    )


def _which_are_settled(rows: list[msgspec.Raw], packed: Packed) -> tuple[Where, Others]:
    """Return where the experiences are, and what the other rows say."""
    cursor = Cursor(packed.data, packed.starts)
    cursor.begin(ALL, "map")
    cursor.expect(TYPE)
    where = cursor.find(TAG)
    if isinstance(where, slice):
        return ALL, {}
    settled = np.zeros(cursor.n, np.bool_)
    settled[where if where is not None else []] = True
    return np.flatnonzero(settled), {
        i: _decode_other(rows[i]) for i in np.flatnonzero(~settled).tolist()
    }


def _walk_heads(packed: Packed) -> tuple[dict[str, Spans], dict[str, NDArray[np.int64]]]:
    """Return the texts and the numbers of experiences up to the last that is asked for."""
    cursor = Cursor(packed.data, packed.starts)
    names: dict[str, Spans] = {}
    numbers: dict[str, NDArray[np.int64]] = {}
    for name, where in walk(cursor, packed):
        if where is None:
            continue
        if name.startswith("origin_") or name.endswith("_ms") or name in ("revision", "step"):
            numbers[name] = cursor.integer(where)
        else:
            names[name] = cursor.text(where)
        if name == "settled_time_ms":
            break
    return names, numbers


def _keys(
    packed: Packed, games: Spans, archetypes: Spans
) -> tuple[list[tuple[str, str]], NDArray[np.int64]]:
    """Return the games and archetypes that there are, and which of them each row has."""
    (game, of_game), (archetype, of_archetype) = (_names(packed, of) for of in (games, archetypes))
    if len(game) == len(archetype) == 1:
        return [(game[0], archetype[0])], of_game
    pairs, key = np.unique(of_game * len(archetype) + of_archetype, return_inverse=True)
    found = [divmod(pair, len(archetype)) for pair in pairs.tolist()]
    return [(game[i], archetype[j]) for i, j in found], key


def _names(packed: Packed, spans: Spans) -> tuple[list[str], NDArray[np.int64]]:
    """Return the texts that there are, and which of them each row has.

    Not by Arrow: its first array imports pandas, and this runs in an event loop.
    """
    if spans.same is not None:
        return [spans.same.decode()], np.zeros(len(spans.start), np.int64)
    width = int(spans.size.max())
    if width > AHEAD:
        raise NotCanonical  # none that is so long is worth its columns
    view = Cursor(packed.data, packed.starts).view(f"V{width}")
    texts = view[spans.start].view(np.uint8).reshape(-1, width)
    texts[np.arange(width) >= spans.size[:, None]] = 0
    if np.count_nonzero(texts) != spans.size.sum():
        raise NotCanonical  # a text's own NULs cannot be told from those
    found, key = np.unique(texts.view(f"S{width}").ravel(), return_inverse=True)
    return [name.decode() for name in found.tolist()], key


def _of_objects(values: Sequence[bytes], rows: list[msgspec.Raw], ends: NDArray[np.int64]) -> Heads:
    """Return heads of rows in whatever form."""
    known: dict[tuple[str, str], int] = {}
    found = [row for value in values for row in decode_heads(value)]
    heads = {i: row for i, row in enumerate(found) if isinstance(row, RowHead)}
    key, settled_ms = np.full(len(found), -1), np.zeros(len(found), np.int64)
    for i, head in heads.items():
        key[i] = known.setdefault((head.game, head.archetype), len(known))
        settled_ms[i] = head.settled_time_ms
    origins = [msgspec.structs.astuple(row.origin) for row in found]
    return Heads(
        rows=rows,
        ends=ends,
        origins=np.array(origins, np.int64).reshape(len(found), 3).T,
        keys=list(known),
        key=key,
        settled_ms=settled_ms,
        others={i: row for i, row in enumerate(found) if not isinstance(row, RowHead)},
    )
