"""Events and facts of a made-up run."""

from infra.demo.facts import Facts
from schemas.model_events import Champion, Evaluation, MatchUp, Registered, Rejected
from schemas.records import Metric, Origin, Watermark


def registered(version: str) -> Registered:
    return Registered(
        model="pack",
        version=version,
        time_ms=0,
        game="battle",
        archetype="pack",
        algorithm="dqn",
        folder=f"pack/{version}",
        files=[],
        source_offsets={},
        n_windows=1,
        last_window="w",
        n_rows=10,
        n_updates=400,
        reward_versions=["skirmish@1"],
        seed=1,
        settings={},
        settings_digest="0",
        code_version="0",
        metrics={"loss": 0.02},
    )


def match_up(version: str, stage: str, wins: int) -> MatchUp:
    return MatchUp(
        stage="gate" if stage == "gate" else "confirm",
        subject=version,
        opponent="scripted",
        seeds="s",
        n=200,
        wins=wins,
        draws=0,
        losses=200 - wins,
        outcomes="W" * wins + "L" * (200 - wins),
    )


def evaluation(version: str, *matches: MatchUp) -> Evaluation:
    return Evaluation(
        model="pack",
        version=version,
        time_ms=0,
        game="battle",
        matches=list(matches),
        champion=None,
        latency_p95_ms=1.0,
    )


def watermark(partition: int, offset: int, n: int, n_open: int) -> Watermark:
    return Watermark(
        origin=Origin(partition, offset, 0),
        watermark_ms=0,
        n_decisions=n,
        n_settled=n - n_open,
        n_open=n_open,
        n_dead=0,
    )


def champion(version: str) -> Champion:
    return Champion(
        model="pack",
        version=version,
        time_ms=0,
        origin=Origin(0, 5, 0),
        previous=None,
        reasons=["good"],
        folder=f"pack/{version}",
        files=[],
        win_rate=0.8,
        lower95=0.74,
        n=200,
    )


def rejected(version: str) -> Rejected:
    return Rejected(
        model="pack",
        version=version,
        time_ms=0,
        origin=Origin(0, 2, 0),
        reasons=["weak"],
        win_rate=0.3,
        lower95=0.24,
        n=200,
    )


def told() -> Facts:
    """Two versions, the second one champion, and some numbers."""
    facts = Facts()
    facts.seconds, facts.phase = 120.0, "learning"
    for seconds, event in (
        (40.0, registered("v0001")),
        (45.0, evaluation("v0001", match_up("v0001", "gate", 60))),
        (46.0, rejected("v0001")),
        (80.0, registered("v0002")),
        (90.0, evaluation("v0002", match_up("v0002", "gate", 170), match_up("v0002", "c", 160))),
        (91.0, champion("v0002")),
    ):
        facts.on_model(event, seconds)
    facts.on_watermark(watermark(0, 10, 60_000, 40), 100.0)
    facts.on_watermark(watermark(1, 10, 40_000, 60), 110.0)
    facts.on_watermark(watermark(1, 9, 1, 1), 110.0)  # an older one: not taken
    facts.on_metric(Metric(process="learner", time_ms=0, values={"updates": 900, "loss": 0.02}), 1)
    facts.on_metric(Metric(process="game", time_ms=0, values={"matches": 700, "swap_ms": 90}), 1)
    facts.processes = {"broker": "running", "game": "running", "learner": "waiting"}
    facts.lag = {"rewards": 12}
    facts.notes = ["100 s: chaos killed learner"]
    return facts
