from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from schemas.kafka import KafkaSettings
from streams.engine import OFFSET_KEY, Effects, EngineError, Output
from streams.engine.commit import Committer
from tests.streams.enginekit import app_settings

COUNTS = {"t-out": 4, "t-log": 4, "t-one": 1}


def planned(
    effects: Effects, check: Callable[[list[tuple[tuple[str, int], int]]], None], **settings: Any
) -> None:
    """Plan the effects of partition 2 and check the targets and record counts of the parcels."""

    async def main() -> None:
        app = app_settings(outputs=("t-out", "t-one"), **settings)
        committer = Committer(KafkaSettings(), app, 2)
        committer._counts.update(COUNTS)
        try:
            parcels = committer.plan(effects, 7)
        finally:
            await committer.stop()
        check([(target, batch.record_count()) for target, batch in parcels])

    asyncio.run(main())


def test_plan_writes_outputs_states_and_the_offset() -> None:
    effects = Effects([Output("t-out", b"1"), Output("t-out", b"2")], {b"a": b"3", b"b": None})

    def check(parcels: list[tuple[tuple[str, int], int]]) -> None:
        assert parcels == [(("t-out", 2), 2), (("t-log", 2), 3)]

    planned(effects, check)


def test_plan_moves_the_offset_when_nothing_else_changes() -> None:
    planned(Effects(), lambda parcels: _equal(parcels, [(("t-log", 2), 1)]))


def test_plan_takes_the_source_partition_modulo_the_topics() -> None:
    effects = Effects([Output("t-one", b"1"), Output("t-out", b"1", partition=3)])
    wanted = [(("t-one", 0), 1), (("t-out", 3), 1), (("t-log", 2), 1)]
    planned(effects, lambda parcels: _equal(parcels, wanted))


def test_plan_sends_the_first_batch_of_each_partition_before_any_second() -> None:
    effects = Effects([Output("t-out", b"x" * 600)] * 4, {b"a": b"y" * 900, b"b": b"y" * 900})

    def check(parcels: list[tuple[tuple[str, int], int]]) -> None:
        assert [target for target, _ in parcels[:2]] == [("t-out", 2), ("t-log", 2)]
        assert sum(n for target, n in parcels if target[0] == "t-out") == 4
        assert sum(n for target, n in parcels if target[0] == "t-log") == 3

    planned(effects, check, produce_batch_bytes=1_000)


@pytest.mark.parametrize(
    ("effects", "says"),
    [
        (Effects([Output("t-no", b"1")]), "topic must be one of .*; got 't-no'"),
        (Effects([Output("t-out", b"1", partition=4)]), "must be from 0 to 3; got 4"),
        (Effects([], {OFFSET_KEY: b"1"}), "leave the key"),
        (Effects([Output("t-out", b"x" * 101, b"big")]), "t-out must be at most 100 .*b'big'"),
        (Effects([], {b"big": b"x" * 51}), "t-log must be at most 50 bytes; got 51 for key b'big'"),
    ],
)
def test_plan_refuses_before_anything_is_written(effects: Effects, says: str) -> None:
    with pytest.raises(EngineError, match=says):
        planned(effects, lambda _: None, max_record_bytes=100, max_state_bytes=50)


def _equal(got: object, wanted: object) -> None:
    assert got == wanted
