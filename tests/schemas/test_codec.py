from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import msgspec
import numpy as np
import pytest
from hypothesis import given, settings

from schemas.codec import BadEvent, decode_record, encode_event, encode_pack, raw_event
from schemas.errors import SchemaError
from schemas.events import Decision, EpisodeEnd, Event, Language, Outcome, Snapshot, Tick
from schemas.limits import MAX_PACK_EVENTS, MAX_RECORD_BYTES
from schemas.upcast import CURRENT, STEPS

GOLDEN = Path(__file__).parent / "golden"

SAMPLES: dict[str, Event] = {
    "decision.v2": Decision(
        decision_id="d1",
        game="duel",
        world="w1",
        episode="e1",
        actor_id="wolf-1",
        archetype="fighter",
        domain="combat",
        event_time_ms=1_700_000_000_123,
        step=4,
        observation=np.array([0.5, -1.25], "<f4").tobytes(),
        action=1,
        propensity=0.75,
        policy_version="v0003",
        explored=True,
        legal=b"\1\1\0",
        probabilities=np.array([0.25, 0.75, 0.0], "<f4").tobytes(),
        opponent_id="player-9",
        facts={"hp": 7.5},
        player_id="player-9",
        related=["d0"],
        game_time=12.5,
        action_type="attack",
        details={"weapon": "axe", "heavy": True, "swings": 2, "reach": 1.5},
        continuous=np.array([0.5], "<f4").tobytes(),
        confidence=0.875,
        arm="arm-b",
        language=Language(
            prompt_type="taunt",
            variant_id="taunt-2",
            prompt="Say something.",
            response="Flee!",
            reasoning="It is weak.",
        ),
    ),
    "outcome.v3": Outcome(
        decision_id="d1",
        game="duel",
        actor_id="wolf-1",
        event_time_ms=1_700_000_000_223,
        facts={"hits": 1.0},
        success=True,
        terminated=False,
        truncated=True,
        next_observation=np.array([0.25, 2.0], "<f4").tobytes(),
        next_legal=b"\1\0\1",
        signal="late-loot",
        details={"loot": "gold"},
        next_facts={"hp": 6.5},
    ),
    "snapshot.v2": Snapshot(
        game="duel",
        actor_id="wolf-1",
        event_time_ms=1_700_000_000_300,
        facts={"standing": 2.0},
        opponent_id="player-9",
    ),
    "episode_end.v1": EpisodeEnd(
        game="duel",
        world="w1",
        episode="e1",
        actor_id="wolf-1",
        event_time_ms=1_700_000_000_400,
        terminated=True,
        truncated=False,
        result="won",
        facts={"standing": 3.0},
    ),
    "tick.v1": Tick(event_time_ms=1_700_000_000_500, source="ticker"),
}
UPCAST: dict[str, Event] = {
    "decision.v1": Decision(
        decision_id="d1",
        game="duel",
        world="w1",
        episode="e1",
        actor_id="wolf-1",
        archetype="fighter",
        domain="combat",
        event_time_ms=1_700_000_000_123,
        step=4,
        observation=np.array([0.5, -1.25], "<f4").tobytes(),
        action=1,
        propensity=0.75,
        policy_version="v0003",
        explored=True,
        legal=b"\1\1\0",
        probabilities=np.array([0.25, 0.75, 0.0], "<f4").tobytes(),
        opponent_id="player-9",
        facts={"hp": 7.5},
    ),
    "outcome.v2": Outcome(
        decision_id="d1",
        game="duel",
        actor_id="wolf-1",
        event_time_ms=1_700_000_000_223,
        facts={"hits": 1.0},
        success=True,
        terminated=False,
        truncated=True,
        next_observation=np.array([0.25, 2.0], "<f4").tobytes(),
        next_legal=b"\1\0\1",
    ),
    "snapshot.v1": Snapshot(
        game="duel", actor_id="wolf-1", event_time_ms=1_700_000_000_300, facts={"standing": 2.0}
    ),
    "outcome.v1": Outcome(
        decision_id="d1",
        game="duel",
        actor_id="wolf-1",
        event_time_ms=1_700_000_000_223,
        facts={"hits": 1.0},
        success=False,
        terminated=True,
        truncated=False,
    ),
}


def test_golden_covers_every_version() -> None:
    assert set(SAMPLES) == set(CURRENT)
    assert set(UPCAST) == set(STEPS)


@pytest.mark.parametrize("tag", sorted(SAMPLES))
@pytest.mark.parametrize("form", ["json", "pack"])
def test_golden_bytes_are_written_and_read(tag: str, form: str) -> None:
    event = SAMPLES[tag]
    written = encode_event(event) if form == "json" else encode_pack([event])
    golden = (GOLDEN / f"{tag}.{form}").read_bytes()
    assert written == golden
    assert decode_record(golden) == [event]


@pytest.mark.parametrize("tag", sorted(UPCAST))
@pytest.mark.parametrize("form", ["json", "pack"])
def test_golden_bytes_of_old_versions_are_lifted(tag: str, form: str) -> None:
    assert decode_record((GOLDEN / f"{tag}.{form}").read_bytes()) == [UPCAST[tag]]


def test_old_and_new_versions_share_a_pack() -> None:
    old = msgspec.msgpack.decode((GOLDEN / "outcome.v1.pack").read_bytes())
    new = msgspec.to_builtins(SAMPLES["outcome.v3"], builtin_types=(bytes,))
    got = decode_record(msgspec.msgpack.encode([new, *old]))
    assert got == [SAMPLES["outcome.v3"], UPCAST["outcome.v1"]]


def test_lists_come_back_as_bytes() -> None:
    document = msgspec.to_builtins(SAMPLES["decision.v2"])
    document |= {"observation": [0.5, -1.25], "legal": [1, 1, 0], "probabilities": [0.25, 0.75, 0]}
    assert decode_record(msgspec.json.encode(document)) == [SAMPLES["decision.v2"]]


def changed(**more: Any) -> bytes:
    document = msgspec.to_builtins(SAMPLES["decision.v2"]) | more
    return msgspec.json.encode({k: v for k, v in document.items() if v != "absent"})


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (changed(propensity=0), "$.propensity must be float > 0.0; got 0"),
        (changed(propensity=2), "$.propensity must be float <= 1.0; got 2"),
        (changed(propensity="high"), "$.propensity must be float; got 'high'"),
        (changed(actor_id=""), "$.actor_id must be str of length >= 1; got ''"),
        (changed(step=-1), "$.step must be int >= 0; got -1"),
        (changed(actor_id="absent"), "$.actor_id must be present; got nothing"),
        (changed(colour="red"), "$.colour must be a known field; got an unknown one"),
        (changed(type="absent"), "$.type must be one of "),
        (changed(type="decision.v9"), "got 'decision.v9'"),
        (changed(type=7), "got 7"),
        (changed(observation=[1.0, "x"]), "$.observation[1] must be float; got 'x'"),
        (changed(observation="AAA="), "$.observation must be float32 values of 4 bytes; got 2"),
        (changed(legal=[1, 2, 0]), "$.legal must be a list of 0 and 1; got [1, 2, 0]"),
        (changed(facts={"hp": [1]}), "$.facts[...] must be float"),
        (
            changed(facts={f"f{i}": 1.0 for i in range(65)}),
            "$.facts must be object of length <= 64",
        ),
        (b"[1, 2", "$ must be well formed; got"),
        (b"7", "$ must be an object; got 7"),
        (b"\xff\xfe\x00", "$ must be well formed"),
        (b'{"type":"decision.v2","facts":' + b"[" * 100_000, "$ must be well formed"),
        (b"\x91" * 5_000, "$ must be"),
        (b"{" + b" " * MAX_RECORD_BYTES, f"$ must be at most {MAX_RECORD_BYTES} bytes"),
        (b"", "$ must be an event; got an empty record"),
    ],
)
def test_bad_input_says_field_rule_and_value(value: bytes, message: str) -> None:
    (bad,) = decode_record(value)
    assert isinstance(bad, BadEvent)
    assert message in bad.reason
    assert bad.reason.startswith(bad.path)
    assert bad.raw == value or bad.raw in value


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_none_are_found(number: float) -> None:
    good = SAMPLES["decision.v2"]
    assert isinstance(good, Decision)
    vector = np.array([0.0, number], "<f4").tobytes()
    for name, value, path in (
        ("observation", vector, "$.observation[1]"),
        ("probabilities", vector, "$.probabilities[1]"),
        ("facts", {"hp": number}, "$.facts.hp"),
    ):
        event = msgspec.structs.replace(good, **{name: value})
        (bad,) = decode_record(encode_pack([event]))
        assert isinstance(bad, BadEvent)
        assert bad.path == path


def test_large_finite_vector_is_no_infinity() -> None:
    good = SAMPLES["decision.v2"]
    assert isinstance(good, Decision)
    big = msgspec.structs.replace(good, observation=np.array([3e38, 3e38], "<f4").tobytes())
    assert decode_record(encode_pack([big])) == [big]


def test_pack_has_a_limit() -> None:
    with pytest.raises(SchemaError, match=f"at most {MAX_PACK_EVENTS} events; got 501"):
        encode_pack([SAMPLES["tick.v1"]] * (MAX_PACK_EVENTS + 1))


ids = st.text(min_size=1, max_size=20)
times = st.integers(0, 2**53)
floats = st.floats(allow_nan=False, allow_infinity=False, width=32)
vectors = st.lists(floats, max_size=8).map(lambda v: np.array(v, "<f4").tobytes())
masks = st.lists(st.sampled_from([0, 1]), max_size=8).map(bytes)
facts = st.dictionaries(st.text(max_size=9), st.floats(allow_nan=False, allow_infinity=False))
events: st.SearchStrategy[Event] = st.one_of(
    st.builds(
        Decision,
        decision_id=ids,
        game=ids,
        world=ids,
        episode=ids,
        actor_id=ids,
        archetype=ids,
        domain=ids,
        event_time_ms=times,
        step=st.integers(0, 2**40),
        observation=vectors,
        action=st.integers(0, 4095),
        propensity=st.floats(2**-40, 1),
        policy_version=ids,
        explored=st.booleans(),
        legal=st.none() | masks,
        probabilities=st.none() | vectors,
        opponent_id=st.none() | ids,
        facts=st.none() | facts,
    ),
    st.builds(
        Outcome,
        decision_id=ids,
        game=ids,
        actor_id=ids,
        event_time_ms=times,
        facts=facts,
        success=st.none() | st.booleans(),
        terminated=st.booleans(),
        truncated=st.booleans(),
        next_observation=st.none() | vectors,
        next_legal=st.none() | masks,
    ),
    st.builds(Snapshot, game=ids, actor_id=ids, event_time_ms=times, facts=facts),
    st.builds(Tick, event_time_ms=times, source=ids),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(events, min_size=1, max_size=6))
def test_codec_round_trip(sent: list[Event]) -> None:
    assert decode_record(encode_pack(sent)) == sent
    assert [x for e in sent for x in decode_record(encode_event(e))] == sent
    for i, event in enumerate(sent):
        assert decode_record(b"\x91" + raw_event(encode_pack(sent), i)) == [event]


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200) | st.binary(max_size=60).map(lambda b: b"\x92" + b))
def test_codec_never_raises(value: bytes) -> None:
    for event in decode_record(value):
        assert isinstance(event, BadEvent | Decision | Outcome | Snapshot | EpisodeEnd | Tick)


@settings(max_examples=200, deadline=None)
@given(st.lists(events, min_size=1, max_size=4), st.data())
def test_codec_never_raises_on_damaged_packs(sent: list[Event], data: st.DataObject) -> None:
    value = bytearray(encode_pack(sent))
    for _ in range(data.draw(st.integers(1, 3))):
        value[data.draw(st.integers(0, len(value) - 1))] = data.draw(st.integers(0, 255))
    decode_record(bytes(value[: data.draw(st.integers(1, len(value)))]))
