"""The rewards fold's account of each partition, read from the end of `experiences`."""

from infra.reading import Look
from schemas.records import Experience, Watermark, decode_rows

FIRST_LOOK = 6
"""Offsets looked back at first: a tick writes a watermark, a commit leaves a marker."""
FURTHEST_LOOK = 4_096


class Tail:
    """What stands at the end of one partition: its last watermark and the rows around it."""

    def __init__(self) -> None:
        self.mark: Watermark | None = None
        self.rows: list[tuple[Experience, int]] = []
        """Experiences with the append time of their record, in ms."""


async def read_tails(look: Look, topic: str) -> dict[int, Tail]:
    """The tail of every partition of `topic`; looks further back where no watermark was found."""
    starts, ends = await look.starts(topic), await look.ends(topic)
    tails = {partition: Tail() for partition in ends}
    n_back = FIRST_LOOK
    while n_back <= FURTHEST_LOOK:
        begin = {
            p: max(starts[p], end - n_back)
            for p, end in ends.items()
            if tails[p].mark is None and end > starts[p]
        }
        if not begin:
            break
        for partition in begin:
            tails[partition] = Tail()
        async for record in look.read(topic, begin, ends):
            _add(tails[record.partition], record.value, record.timestamp)
        if all(begin[p] == starts[p] for p in begin):
            break
        n_back *= 8
    return tails


def _add(tail: Tail, value: bytes, appended_ms: int) -> None:
    for row in decode_rows(value):
        if isinstance(row, Watermark):
            tail.mark = row
        elif isinstance(row, Experience):
            tail.rows.append((row, appended_ms))
