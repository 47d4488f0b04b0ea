from __future__ import annotations

from typing import Any

import msgspec
import pytest

from agents.release.fold import MAX_JUDGED, ReleaseFold
from schemas.game import Gate
from schemas.model_events import (
    Champion,
    Evaluation,
    MatchUp,
    ModelEvent,
    Registered,
    Rejected,
    decode_model_event,
    encode_model_event,
)
from schemas.records import WindowFile, decode_dead_letter
from schemas.topics import Topics
from streams.engine.records import Record
from tests.agents.log import duel

GATE = Gate(matches=20, confirm_matches=20, min_lower95=0.3, min_gain=0.0, confidence=0.5)


def registered(version: str) -> Registered:
    return Registered(
        model="m",
        version=version,
        time_ms=1,
        game="duel",
        archetype="fighter",
        algorithm="dqn",
        folder=f"m/{version}",
        files=[WindowFile(path="model.onnx", n_bytes=1, sha256="00")],
        source_offsets={"0": (0, 9)},
        n_windows=1,
        last_window="w",
        n_rows=10,
        n_updates=5,
        reward_versions=["duel@1"],
        seed=1,
        settings={},
        settings_digest="d",
        code_version="c",
        metrics={},
    )


def match(stage: Any, subject: str, outcomes: str, seeds: str = "s") -> MatchUp:
    return MatchUp(
        stage=stage,
        subject=subject,
        opponent="scripted",
        seeds=f"{seeds}/{stage}",
        n=len(outcomes),
        wins=outcomes.count("W"),
        draws=outcomes.count("D"),
        losses=outcomes.count("L"),
        outcomes=outcomes,
    )


def evaluation(version: str, *matches: MatchUp, error: str | None = None) -> Evaluation:
    return Evaluation(
        model="m",
        version=version,
        time_ms=2,
        game="duel",
        matches=list(matches),
        champion=None,
        latency_p95_ms=0.1,
        error=error,
    )


class Run:
    def __init__(self) -> None:
        self.table: dict[bytes, bytes] = {}
        fighter = msgspec.structs.replace(duel().archetypes["fighter"], model="m")
        game = msgspec.structs.replace(duel(), gate=GATE, archetypes={"fighter": fighter})
        self.fold = ReleaseFold(0, self.table, {"duel": game}, Topics())
        self.dead: list[str] = []
        self.offset = 0

    def take(self, *events: ModelEvent | bytes) -> list[ModelEvent]:
        records = []
        for event in events:
            value = event if isinstance(event, bytes) else encode_model_event(event)
            records.append(Record(0, self.offset, 1000 + self.offset, b"m", value))
            self.offset += 1
        effects = self.fold.fold(records)
        for key, state in effects.states.items():
            assert state is not None
            self.table[key] = state
        out = []
        for output in effects.outputs:
            assert output.value is not None
            if output.topic == "models":
                out.append(decode_model_event(output.value))
            else:
                self.dead.append(decode_dead_letter(output.value).reason)
        return out


GOOD, FAIR, BAD = "W" * 16 + "L" * 4, "W" * 12 + "L" * 8, "W" * 4 + "L" * 16


def both(version: str, first: str, second: str) -> list[MatchUp]:
    return [match("gate", version, first), match("confirm", version, second)]


def test_release_first_good_candidate_is_champion_with_the_confirming_figures() -> None:
    run = Run()
    (verdict,) = run.take(registered("v1"), evaluation("v1", *both("v1", GOOD, FAIR)))
    assert isinstance(verdict, Champion)
    assert (verdict.previous, verdict.win_rate, verdict.n) == (None, 0.6, 20)
    assert verdict.lower95 == pytest.approx(0.387, abs=1e-3)
    assert verdict.files[0].path == "model.onnx"
    assert verdict.time_ms == 1001  # the log's time, no process's


def test_release_rejects_below_the_bound_and_says_why() -> None:
    run = Run()
    (verdict,) = run.take(registered("v1"), evaluation("v1", *both("v1", BAD, GOOD)))
    assert isinstance(verdict, Rejected)
    assert "won 4 of 20 against scripted, lower 95 % bound 0.081 < 0.300" in verdict.reasons[0]


def test_release_rejects_what_only_the_choosing_stage_liked() -> None:
    run = Run()
    (verdict,) = run.take(registered("v1"), evaluation("v1", *both("v1", GOOD, BAD)))
    assert isinstance(verdict, Rejected)
    assert verdict.win_rate == 0.2


def test_release_rejects_without_a_confirming_stage() -> None:
    run = Run()
    (verdict,) = run.take(registered("v1"), evaluation("v1", match("gate", "v1", GOOD)))
    assert isinstance(verdict, Rejected)
    assert verdict.reasons[-1] == "confirm: 0 of 20 matches played"


def test_release_next_champion_must_gain_on_the_same_seeds() -> None:
    run = Run()
    run.take(registered("v1"), evaluation("v1", *both("v1", FAIR, FAIR)))
    run.take(registered("v2"), registered("v3"), registered("v4"))
    (same,) = run.take(evaluation("v2", *both("v2", FAIR, FAIR), *both("v1", FAIR, FAIR)))
    assert isinstance(same, Rejected)
    assert "gain on champion v1 +0.000" in same.reasons[1]
    other = [match("gate", "v1", FAIR, "other"), match("confirm", "v1", FAIR, "other")]
    (unpaired,) = run.take(evaluation("v3", *both("v3", GOOD, GOOD), *other))
    assert isinstance(unpaired, Rejected)
    assert "not played on the same seeds" in unpaired.reasons[-1]
    (better,) = run.take(evaluation("v4", *both("v4", GOOD, GOOD), *both("v1", FAIR, FAIR)))
    assert isinstance(better, Champion)
    assert better.previous == "v1"


def test_release_rejects_what_could_not_be_played() -> None:
    run = Run()
    bad = evaluation("v1", *both("v1", GOOD, GOOD), error="model.onnx: digest")
    (verdict,) = run.take(registered("v1"), bad)
    assert isinstance(verdict, Rejected)
    assert verdict.reasons == ["not playable: model.onnx: digest"]


def test_release_repeats_and_own_events_change_nothing() -> None:
    run = Run()
    first = evaluation("v1", *both("v1", GOOD, GOOD))
    (verdict,) = run.take(registered("v1"), first)
    assert run.take(registered("v1"), first, verdict) == []
    assert not run.dead


def test_release_dead_letters_bytes_and_unknown_versions_and_goes_on() -> None:
    run = Run()
    assert run.take(b"{}", evaluation("v9", *both("v9", GOOD, GOOD))) == []
    assert len(run.dead) == 2
    assert run.dead[1] == "$.version must be a registered one; got 'v9'"
    assert len(run.take(registered("v1"), evaluation("v1", *both("v1", GOOD, GOOD)))) == 1


def test_release_keeps_nothing_of_models_that_no_archetype_is_played_by() -> None:
    run = Run()
    other = msgspec.structs.replace(registered("v1"), model="duel-fighter-spatial_vit")
    assert run.take(other, registered("v1")) == []
    assert list(run.table) == [b"m"]
    assert run.dead == []


def test_release_state_does_not_grow_with_the_versions() -> None:
    run = Run()
    champion = evaluation("v0", *both("v0", GOOD, GOOD))
    run.take(registered("v0"), champion)
    sizes = []
    for i in range(1, 2 * MAX_JUDGED):
        run.take(registered(f"v{i:04d}"), evaluation(f"v{i:04d}", *both(f"v{i:04d}", BAD, BAD)))
        sizes.append(len(run.table[b"m"]))
    assert max(sizes) == sizes[-1] == sizes[MAX_JUDGED]
    last = f"v{2 * MAX_JUDGED - 1:04d}"
    again = evaluation(last, *both(last, GOOD, GOOD))
    assert run.take(registered(last), again, registered("v0"), champion) == []
    assert not run.dead
