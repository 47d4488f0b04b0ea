"""The texts that there are among those of many rows."""

from __future__ import annotations

import numpy as np

from schemas.compiled import Bytes, Ints, Small
from schemas.spans import number_texts


def texts_of(data: Bytes, spans: Ints) -> tuple[list[str], Small]:
    """Return each text once, in the order in which they come, and [N] which of them a row has.

    Raises:
        UnicodeDecodeError: one is not UTF-8.
    """
    number, first = np.empty(len(spans), np.int32), np.empty(len(spans), np.int64)
    follows = np.zeros(len(spans), np.int32)
    table = np.full(1 << len(spans).bit_length(), -1, np.int32)
    n = number_texts(data, spans, number, first, follows, table)
    texts = [data[at >> 32 :][: at & 0xFFFFFFFF].tobytes() for at in first[:n].tolist()]
    return [text.decode() for text in texts], number
