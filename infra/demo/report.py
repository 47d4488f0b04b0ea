"""The end of a run: its facts as one JSON object, a few lines for people, picture and CSV."""

from pathlib import Path
from typing import Any

import msgspec

from infra.demo.facts import Facts
from infra.demo.picture import Point, Story, write_csv, write_picture
from infra.demo.verdict import Score
from schemas.evidence import wilson


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a run showed. Rates are shares of matches won against the scripted pack."""

    passed: bool
    game: str
    seed: int
    seconds: float
    decisions: int
    experiences: int
    windows: int
    versions: int
    champion: str | None
    learned_win_rate: float | None
    learned_lower95: float | None
    scripted_win_rate: float | None
    random_win_rate: float | None
    first_policy_win_rate: float | None
    lost: int | None
    doubled: int | None
    database_windows: int | None
    """Windows whose rows the database holds as the archive does; None where there is none."""
    dead_letters: int
    open: int
    first_decision_s: float | None
    decisions_per_s: float | None
    experience_p95_ms: float | None
    swap_max_ms: float | None
    memory_peak_mb: float
    cpu_s: dict[str, float]
    """Processor seconds by process until the game stopped."""
    restarts: int
    kills: int
    reasons: list[str]
    picture: str | None
    csv: str | None


def why_not(
    scores: dict[str, Score], lost: int | None, doubled: int | None, wanted: float
) -> list[str]:
    """What keeps a run from passing, `wanted` the lower bound; nothing when it passes."""
    reasons = []
    learned = scores.get("learned")
    if learned is None:
        reasons.append("no version became champion")
    elif learned.interval[0] < wanted:
        low = learned.interval[0]
        reasons.append(f"the lower 95 % bound must be at least {wanted:.2f}; got {low:.3f}")
    if lost is None or doubled is None:
        reasons.append("the verification did not finish")
    elif lost or doubled:
        reasons.append(f"lost and doubled must be 0; got {lost} and {doubled}")
    return reasons


def story(facts: Facts, scores: dict[str, Score], title: str, subtitle: str) -> Story:
    """What the picture shows of a run."""
    points = []
    for version in facts.versions.values():
        rate = version.win_rate
        if rate is not None:
            low, high = wilson(version.wins, version.matches)
            points.append(
                Point(
                    seconds=version.seconds,
                    version=version.version,
                    fate=version.fate,
                    win_rate=rate,
                    lower95=low,
                    upper95=high,
                    matches=version.matches,
                )
            )
    learned = scores.get("learned")
    verdict = None
    if learned is not None and facts.champion is not None:
        low, high = learned.interval
        verdict = Point(
            seconds=facts.seconds,
            version=facts.champion.version,
            fate="verdict",
            win_rate=learned.win_rate,
            lower95=low,
            upper95=high,
            matches=learned.n,
        )
    return Story(
        title=title,
        subtitle=subtitle,
        points=points,
        scripted=scores["scripted"].win_rate if "scripted" in scores else None,
        random=scores["random"].win_rate if "random" in scores else None,
        verdict=verdict,
    )


def write_files(out: Path, told: Story) -> tuple[Path, Path]:
    """Writes the picture and the CSV file into `out` and returns their paths."""
    out.mkdir(parents=True, exist_ok=True)
    picture, table = out / "win-rate.png", out / "win-rate.csv"
    write_csv(table, told)
    write_picture(picture, told)
    return picture, table


def summary(report: Report) -> str:
    """The report for people."""

    def rate(value: float | None) -> str:
        return "-" if value is None else f"{value:.1%}"

    def number(value: float | None, unit: str, digits: int = 0) -> str:
        return "-" if value is None else f"{value:,.{digits}f} {unit}"

    stored = report.database_windows
    in_database = [] if stored is None else [("database", f"{stored:,} windows compared")]
    rows: list[tuple[str, Any]] = [
        ("learned policy", f"{rate(report.learned_win_rate)} ({report.champion or 'no champion'})"),
        ("  lower 95 % bound", rate(report.learned_lower95)),
        ("first policy learned", rate(report.first_policy_win_rate)),
        ("scripted policy", rate(report.scripted_win_rate)),
        ("random policy", rate(report.random_win_rate)),
        ("decisions", f"{report.decisions:,}"),
        ("experiences", f"{report.experiences:,} in {report.windows:,} windows"),
        ("lost, doubled", f"{report.lost}, {report.doubled}"),
        *in_database,
        ("dead letters", f"{report.dead_letters:,}"),
        ("versions", f"{report.versions:,}"),
        ("first decision", number(report.first_decision_s, "s", 1)),
        ("decisions a second", number(report.decisions_per_s, "")),
        ("decision to experience", number(report.experience_p95_ms, "ms (p95)")),
        ("version to every world", number(report.swap_max_ms, "ms (max)")),
        ("memory at its peak", number(report.memory_peak_mb, "MB")),
        ("processor seconds", ", ".join(f"{n} {s:.0f}" for n, s in report.cpu_s.items())),
        ("restarts, kills", f"{report.restarts}, {report.kills}"),
        ("picture", report.picture or "-"),
        ("numbers", report.csv or "-"),
    ]
    lines = [f"{name:<24}{value}" for name, value in rows]
    head = "PASSED" if report.passed else "NOT PASSED: " + "; ".join(report.reasons)
    return "\n".join([f"\n{head}  (seed {report.seed}, {report.seconds:.0f} s)", *lines])
