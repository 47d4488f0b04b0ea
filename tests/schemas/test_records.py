from __future__ import annotations

import hypothesis.strategies as st
import msgspec
import numpy as np
import pytest
from hypothesis import given, settings

from schemas.arrow import rows_digest, table_to_rows
from schemas.columns import rows_to_table
from schemas.events import Language
from schemas.records import (
    DeadLetter,
    Experience,
    Metric,
    Origin,
    Row,
    Signal,
    Watermark,
    decode_dead_letter,
    decode_metric,
    decode_rows,
    encode_dead_letter,
    encode_metric,
    encode_rows,
)

vector = st.binary(min_size=8, max_size=8)
mask = st.lists(st.sampled_from([0, 1]), min_size=3, max_size=3).map(bytes)
text = st.text(max_size=8)
some_text = st.text(min_size=1, max_size=8)
real = st.floats(allow_nan=False, allow_infinity=False)
maybe_real = st.none() | real
some_facts = st.dictionaries(text, real, max_size=3)
facts = st.none() | some_facts
details = st.none() | st.dictionaries(
    text, st.booleans() | st.integers(-(2**53), 2**53) | real | text, max_size=3
)
millis = st.integers(0, 2**53)
experiences = st.builds(
    Experience,
    decision_id=text,
    revision=st.integers(0, 3),
    origin=st.builds(Origin, st.integers(0, 9), st.integers(0, 2**60), st.integers(0, 2**20)),
    game=text,
    world=text,
    episode=text,
    actor_id=text,
    archetype=text,
    domain=text,
    opponent_id=st.none() | text,
    step=st.integers(0, 2**40),
    decision_time_ms=millis,
    settled_time_ms=millis,
    observation=vector,
    legal=st.none() | mask,
    action=st.integers(0, 2**31 - 1),
    propensity=real,
    probabilities=st.none() | st.binary(min_size=12, max_size=12),
    policy_version=text,
    explored=st.booleans(),
    next_observation=st.none() | vector,
    next_legal=st.none() | mask,
    terminated=st.booleans(),
    truncated=st.booleans(),
    success=st.none() | st.booleans(),
    facts=facts,
    outcome_facts=facts,
    outcome_time_ms=st.none() | millis,
    signals=st.none() | st.lists(st.builds(Signal, text, millis, some_facts), max_size=3),
    outcome_details=details,
    next_facts=facts,
    player_id=st.none() | text,
    related=st.none() | st.lists(text, max_size=3),
    game_time=maybe_real,
    action_type=st.none() | text,
    details=details,
    continuous=st.none() | vector,
    confidence=maybe_real,
    arm=st.none() | text,
    language=st.none()
    | st.builds(
        Language,
        prompt_type=st.none() | some_text,
        variant_id=st.none() | some_text,
        prompt=st.none() | text,
        response=st.none() | text,
        reasoning=st.none() | text,
    ),
    standing_before=maybe_real,
    standing_after=maybe_real,
    credit=maybe_real,
    retaliation=maybe_real,
    immediate=real,
    long_term=real,
    total=real,
    reward_version=text,
    status=st.sampled_from(["observed", "default", "censored", "revised"]),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(experiences, max_size=5))
def test_rows_survive_arrow_and_the_wire(rows: list[Experience]) -> None:
    table = rows_to_table(rows, 2, 3)
    assert table_to_rows(table) == rows
    sent: list[Row] = [*rows]
    assert decode_rows(encode_rows(sent)) == rows
    assert rows_digest(table_to_rows(table)) == rows_digest(rows)


def test_every_field_of_experience_has_a_column() -> None:
    origin = {f"origin_{name}" for name in Origin.__struct_fields__}
    language = {f"language_{name}" for name in (*Language.__struct_fields__, "used")}
    fields = set(Experience.__struct_fields__) - {"origin", "language"}
    assert set(rows_to_table([], 2, 3).column_names) == fields | origin | language


def test_no_default_of_experience_is_a_float() -> None:
    """Defaults are left out by identity; an equal float elsewhere would change the digest."""
    assert not any(isinstance(value, float) for value in Experience.__struct_defaults__)


def test_digest_depends_on_content_and_order_alone() -> None:
    def row(action: int, **facts: float) -> Experience:
        return Experience(
            decision_id="d",
            origin=Origin(0, 1, 2),
            game="g",
            world="w",
            episode="e",
            actor_id="a",
            archetype="x",
            domain="c",
            step=0,
            decision_time_ms=1,
            settled_time_ms=2,
            observation=np.zeros(2, "<f4").tobytes(),
            action=action,
            propensity=1.0,
            policy_version="v",
            outcome_facts=facts,
            immediate=0.0,
            long_term=0.0,
            total=0.0,
            reward_version="r@1",
            status="observed",
        )

    assert rows_digest([row(0, a=1, b=2)]) == rows_digest([row(0, b=2, a=1)])
    assert rows_digest([row(0), row(1)]) != rows_digest([row(1), row(0)])
    # A digest in old manifests must stay what it was: these bytes are the format.
    old = "6ba0c0595a9d87cf4936259357fcf6f4"
    assert rows_digest([row(0)], like=old) == old
    assert rows_digest([row(0)]) == "blake3:5efa754a279096599f55b7c56b9b6273"
    assert rows_digest([row(0)], like="blake3:00") == rows_digest([row(0)])
    with pytest.raises(ValueError, match="one of blake3, blake2b; got md9: of a newer Grindstone"):
        rows_digest([row(0)], like="md9:00")


def test_dead_letter_and_metric_round_trip() -> None:
    letter = DeadLetter(
        topic="t",
        partition=1,
        offset=2,
        index=3,
        reason="$ must be x; got y",
        path="$",
        time_ms=4,
        raw=b"\0\xff",
        n_bytes=2,
    )
    assert decode_dead_letter(encode_dead_letter(letter)) == letter
    metric = Metric(process="p", time_ms=1, values={"x": 1.0}, labels={"version": "v"})
    assert decode_metric(encode_metric(metric)) == metric


def test_watermark_travels_beside_experience() -> None:
    mark = Watermark(
        origin=Origin(0, 0, 0), watermark_ms=1, n_decisions=2, n_settled=1, n_open=1, n_dead=0
    )
    assert decode_rows(msgspec.msgpack.encode([mark])) == [mark]
