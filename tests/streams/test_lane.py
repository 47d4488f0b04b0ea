"""Packs are cut within their limits and keep the order."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.lane import RECORD_OVERHEAD_BYTES, Lane, WriterSettings, array_header

_SETTINGS = WriterSettings(pack_events=5, pack_bytes=1_000, linger_ms=10_000, buffer_bytes=10**6)


def _drain(lane: Lane, room: int) -> list[list[bytes]]:
    """Take everything; each take as its records' values."""
    taken: list[list[bytes]] = []
    while True:
        records, n, size = lane.take(room)
        if not records:
            assert (n, size) == (0, 0)
            return taken
        used = sum(len(v) + len(k or b"") + RECORD_OVERHEAD_BYTES for k, v in records)
        assert used <= room + 5 + RECORD_OVERHEAD_BYTES
        taken.append([value for _, value in records])


@given(st.lists(st.binary(min_size=1, max_size=900), max_size=60), st.integers(1_100, 5_000))
def test_lane_packs_every_event_once_in_order_within_limits(
    payloads: list[bytes], room: int
) -> None:
    async def work() -> list[list[bytes]]:
        lane = Lane(0, _SETTINGS)
        lane.close()
        for payload in payloads:
            lane.put("a", msgspec.msgpack.encode(payload))
        return _drain(lane, room)

    packs = [value for take in asyncio.run(work()) for value in take]
    events = [msgspec.msgpack.decode(p, type=list[bytes]) for p in packs]
    assert [event for pack in events for event in pack] == payloads
    assert all(len(pack) <= 5 for pack in events)
    assert all(len(p) <= 1_000 for p in packs)


@given(st.lists(st.binary(min_size=1, max_size=900), max_size=30))
def test_lane_writes_one_record_an_event_in_single_mode(payloads: list[bytes]) -> None:
    async def work() -> list[tuple[bytes | None, bytes]]:
        lane = Lane(0, msgspec.structs.replace(_SETTINGS, mode="single"))
        for i, payload in enumerate(payloads):
            lane.put(f"a{i}", payload)
        records: list[tuple[bytes | None, bytes]] = []
        while payloads and len(records) < len(payloads):
            records += lane.take(4_000)[0]
        return records

    assert asyncio.run(work()) == [(f"a{i}".encode(), p) for i, p in enumerate(payloads)]


def test_lane_is_due_when_a_pack_is_full_or_hurried() -> None:
    async def work() -> None:
        lane = Lane(0, _SETTINGS)
        lane.put("a", b"x")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(lane.due(), 0.01)
        lane.hurry()
        await asyncio.wait_for(lane.due(), 1)
        assert lane.take(9_999)[1] == 1
        for _ in range(7):
            lane.put("a", b"x")
        await asyncio.wait_for(lane.due(), 1)
        assert lane.take(9_999)[1] == 5  # the full pack; the rest lingers
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(lane.due(), 0.01)

    asyncio.run(work())


def test_lane_is_due_after_the_linger() -> None:
    async def work() -> None:
        lane = Lane(0, msgspec.structs.replace(_SETTINGS, linger_ms=1))
        lane.put("a", b"x")
        await asyncio.wait_for(lane.due(), 5)
        assert lane.take(9_999)[1] == 1

    asyncio.run(work())


@pytest.mark.parametrize("n", [0, 1, 15, 16, 500, 65_535, 65_536])
def test_array_header_is_what_msgpack_writes(n: int) -> None:
    assert array_header(n) == msgspec.msgpack.encode([0] * n)[: len(array_header(n))]
    assert len(msgspec.msgpack.decode(array_header(n) + b"\0" * n)) == n


@pytest.mark.parametrize(
    ("name", "value"),
    [("linger_ms", -1), ("pack_events", 0), ("pack_bytes", 10**7), ("buffer_bytes", 10)],
)
def test_writer_settings_name_the_field_that_is_wrong(name: str, value: int) -> None:
    with pytest.raises(ValueError, match=rf"writer\.{name} must be from .*; got {value}"):
        msgspec.convert({name: value}, WriterSettings)
