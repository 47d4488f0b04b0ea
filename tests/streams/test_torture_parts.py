"""The torture's own parts: a script that repeats, a plan that repeats, a witness that sees."""

from __future__ import annotations

import struct

import msgspec

from agents.rewards.state import LEDGER_KEY, Ledger
from schemas.codec import decode_record
from schemas.events import Decision
from schemas.records import Origin, Retraction, encode_rows
from streams.engine import OFFSET_KEY
from tests.streams.streamkit import experience
from tests.torture.faults import Intensity, plan
from tests.torture.script import AGAIN_ROUNDS, BLOCK, Play, Script
from tests.torture.watch import Witness

PLAY = Play(seed=5, actors=40, start_ms=1_000)
ROLES = ["rewards-0", "rewards-1", "archiver-0", "game-0", "sink-0"]


def test_script_says_the_same_again_from_any_round() -> None:
    whole, later = Script(PLAY, 0), Script(PLAY, 0)

    said = [whole.records(n) for n in range(30)]

    assert later.records(17) == said[17]
    assert Script(msgspec.structs.replace(PLAY, seed=6), 0).records(17) != said[17]


def test_script_says_every_good_decision_once_a_round_and_some_records_again() -> None:
    script = Script(PLAY, 1)
    records = [piece for n in range(2 * BLOCK) for piece in script.records(n)]
    ids = [
        event.decision_id
        for _, value in records
        for event in decode_record(value)
        if isinstance(event, Decision) and len(event.observation) == 24
    ]

    good, said = script.decision_ids(2 * BLOCK)

    assert set(ids) == good
    assert said.decisions == 2 * BLOCK * PLAY.actors
    assert len(records) > len(set(records)), f"none came again after {AGAIN_ROUNDS} rounds"


def test_plan_is_the_same_by_seed_and_breaks_each_process_as_often_as_asked() -> None:
    lanes = plan(3, ROLES, Intensity(), 3, database=True)

    assert lanes == plan(3, ROLES, Intensity(), 3, database=True)
    assert lanes != plan(4, ROLES, Intensity(), 3, database=True)
    faults = [fault for lane in lanes.values() for fault in lane]
    for role in ROLES:
        assert sum(f.target == role and f.what == "kill" for f in faults) == 10
        assert any(f.target == role and f.what == "pause" for f in faults)
    assert sum(f.what == "broker" for f in faults) == 9


def test_witness_sees_what_goes_back_in_the_changelog() -> None:
    witness = Witness()
    for offset in (5, 9, 9, 12):
        witness.changelog(0, OFFSET_KEY, struct.pack("<q", offset))
    for n in (4, 3):
        witness.changelog(0, LEDGER_KEY, msgspec.msgpack.encode(Ledger(n_settled=n)))

    assert (witness.seen.offsets_back, witness.seen.ledgers_back) == (1, 1)
    assert not witness.seen.clean


def test_witness_sees_rows_that_come_twice_and_revisions_out_of_turn() -> None:
    witness = Witness()
    first = experience(Origin(0, 1, 0), decision_id="d")
    second = experience(Origin(0, 2, 1), decision_id="d", revision=1, status="revised")
    taken_back = Retraction(
        decision_id="d",
        revision=0,
        origin=Origin(0, 2, 0),
        game="toy",
        archetype="wolf",
        actor_id="a",
        total=0.0,
    )

    witness.rows(0, encode_rows([first, taken_back, second]))
    assert witness.seen.clean
    assert (witness.seen.settled, witness.seen.revised) == (1, 1)

    witness.rows(0, encode_rows([second]))
    assert (witness.seen.origins_back, witness.seen.revisions_wrong) == (1, 1)
