"""Reports of trainings: a page with curves, JSON, and the table of all models."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from infra import page
from infra.fresh import fresh_file
from infra.learn.bars import clock
from infra.learn.job import Made
from infra.learn.train import Report

QUALITY = {"value", "low", "high", "target"}
"""Measures of the table of all models."""

CURVES = ("loss", "q_mean", "td_error", "reward", "win_rate", "stage", "entropy")
"""Measures that are drawn where a type tells them, in this order."""


def write_report(report: Report, path: Path) -> None:
    """Write a report that is not there yet: a page, JSON or Markdown by the name's end."""
    with fresh_file(path, "--report") as stream:
        stream.write(_rendered(report, path.suffix))


def _rendered(report: Report, suffix: str) -> bytes:
    if suffix == ".json":
        return msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n"
    return (render_markdown(report) if suffix == ".md" else render_page(report)).encode()


def keep_report(report: Report, folder: Path) -> Path:
    """Write a report in all three forms below a folder, under the next number; returns its page."""
    folder.mkdir(parents=True, exist_ok=True)
    numbers = [int(p.stem) for p in folder.glob("*.json") if p.stem.isdigit()]
    stem = f"{max(numbers, default=0) + 1:04d}"
    for suffix in (".json", ".md", ".html"):
        write_report(report, folder / (stem + suffix))
    return folder / f"{stem}.html"


def read_report(path: Path) -> Report:
    """Return a report that was written as JSON."""
    return msgspec.json.decode(path.read_bytes(), type=Report)


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One model of the table."""

    type: str
    archetype: str
    measure: str
    """win_rate: matches won against the traditional AI; gain: share by which the held-out loss is
    below the trivial predictor's."""
    value: float | None
    low: float | None
    high: float | None
    n: int
    target: float
    met: bool
    missed_by: float
    """How far the lower bound is below the target; 0 where it is met."""
    updates: int
    minutes: float
    """Wall time of the type's training, all archetypes together."""
    memory_gb: float
    """The most that the type's training held."""
    folder: str


def lines_of(report: Report) -> list[Line]:
    """Return a line for each model, types in order."""
    return [
        _line(made, archetype) for made in report.trainings for archetype in made.plan["archetypes"]
    ]


def _line(made: Made, archetype: str) -> Line:
    quality = made.quality[archetype]
    low, target = quality.get("low"), quality.get("target", 0.0)
    met = bool(quality["good"])
    return Line(
        type=made.type, archetype=archetype, measure=quality["measure"],
        value=quality.get("value"), low=low, high=quality.get("high"), n=quality["n"],
        target=target, met=met, missed_by=0.0 if met or low is None else target - low,
        updates=made.stopped_at.get(archetype, made.n_updates), minutes=made.seconds / 60.0,
        memory_gb=made.peak_bytes / 1e9, folder=made.folders.get(archetype, ""),
    )  # fmt: skip


COLUMNS = (
    "type", "archetype", "measure", "value", "95 %", "n", "lower bound wanted", "met", "updates",
    "minutes", "GB",
)  # fmt: skip


def cells_of(line: Line) -> list[str]:
    """Return a line as text, in the order of `COLUMNS`."""
    interval = "-" if line.low is None else f"{line.low:.3f} to {line.high:.3f}"
    met = "yes" if line.met else f"no, by {line.missed_by:.3f}"
    value = "-" if line.value is None else f"{line.value:.3f}"
    return [
        line.type, line.archetype, line.measure, value, interval, f"{line.n:,}",
        f"> {line.target:.2f}", met, f"{line.updates:,}", f"{line.minutes:.1f}",
        f"{line.memory_gb:.2f}",
    ]  # fmt: skip


def render_text(report: Report) -> Any:
    """Return the report as a table for a terminal."""
    from rich.table import Table

    table = Table(*COLUMNS, box=None, pad_edge=False)
    for line in lines_of(report):
        table.add_row(*cells_of(line))
    return table


def summary(report: Report) -> str:
    """Return the report in one line, and another for each type that failed."""
    lines = lines_of(report)
    first = (
        f"{sum(line.met for line in lines)} of {len(lines)} models met their target, in"
        f" {clock(report.seconds)} on {report.device}, {report.parallel} at a time"
    )
    told = [f"{made.type}: {why}" for made in report.trainings for why in made.refused]
    told += [f"{name}: {why}" for name, why in report.failed.items()]
    return "\n".join([first, *told])


def render_markdown(report: Report) -> str:
    """Return the table of all models for the documentation, made from the report alone."""
    lines = lines_of(report)
    cpu_s = sum(made.cpu_s for made in report.trainings)
    told = [
        f"Preset `{report.preset}`, seed {report.seed}, {report.samples:,} bootstrap rows an"
        f" archetype, {report.device}, {report.parallel} types at a time: {clock(report.seconds)}"
        f" for all of it, {cpu_s:,.0f} CPU seconds.",
        f"{sum(line.met for line in lines)} of {len(lines)} models met their target.",
        *(f"{name} failed: {why}" for name, why in report.failed.items()),
        "",
        f"| {' | '.join(COLUMNS)} |",
        "|---" * len(COLUMNS) + "|",
        *(f"| {' | '.join(cells_of(line))} |" for line in lines),
    ]
    return "\n".join(told) + "\n"


def render_page(report: Report) -> str:
    """Return the report as a page with a curve for each measure."""
    parts = [
        page.heading(1, "Training"),
        *(page.note(text) for text in summary(report).splitlines()),
        page.note(f"Preset {report.preset}, seed {report.seed}, code {report.code_version}."),
        page.table(COLUMNS, [cells_of(line) for line in lines_of(report)]),
    ]
    for made in report.trainings:
        parts += _section(made)
    return page.page("Training", parts)


def _section(made: Made) -> list[str]:
    text = (
        f"{made.n_updates:,} updates in {clock(made.seconds)}, {made.cpu_s:,.0f} CPU seconds,"
        f" {made.peak_bytes / 1e9:.2f} GB at most."
    )
    forms = _forms(made)
    return [
        page.heading(2, made.type),
        page.note(text),
        *[page.note(why) for why in dict.fromkeys(made.data.values())][:1],
        *[page.note(f"passed over: {reason}") for reason in made.refused],
        page.figure(*_curves(made)),
        page.heading(3, "On what was held out"),
        _measures(made),
        page.heading(3, "Forms of the exported graphs"),
        page.table(
            ("archetype", "form", "bytes", "agreement", "loss", "p50 ms", "p95 ms", "chosen"), forms
        ),
    ]


def _measures(made: Made) -> str:
    """Return all that was measured beside the quality itself: losses, accuracy, calibration."""
    quality = made.quality
    told = {k for found in quality.values() for k, v in found.items() if isinstance(v, float)}
    names = sorted(told - QUALITY)
    rows = [[a, *(quality[a].get(name) for name in names)] for a in made.plan["archetypes"]]
    return page.table(("archetype", *names), rows)


def _forms(made: Made) -> list[list[Any]]:
    rows: list[list[Any]] = []
    for archetype, folder in made.folders.items():
        try:
            manifest = msgspec.json.decode((Path(folder) / "manifest.json").read_bytes())
        except OSError:
            continue
        for form in manifest["forms"]:
            rows.append(
                [
                    archetype,
                    form["form"],
                    form["n_bytes"],
                    form["agreement"],
                    form["loss"],
                    form["latency_p50_ms"],
                    form["latency_p95_ms"],
                    "yes" if form["form"] == manifest["form"] else "",
                ]  # fmt: skip
            )
    return rows


def _curves(made: Made) -> list[str]:
    from infra.drawing import canvas, svg

    told = {name for point in made.curve for name in point["values"]}
    names = [name for name in CURVES if name in told][:4]
    judged = [n for n in ("score", "loss") if any(n in p["values"] for p in made.judged)][:1]
    if not names:
        return []
    with canvas(2.6 * (len(names) + len(judged)), 2.4, len(names) + len(judged)) as (figure, axes):
        for ax, name in zip(axes, names, strict=False):
            _draw(ax, name, made.curve, name, made.plan["archetypes"])
        for ax, name in zip(axes[len(names) :], judged, strict=True):
            _draw(ax, f"held out: {name}", made.judged, name, made.plan["archetypes"])
        return [svg(figure)]


def _draw(
    ax: Any, title: str, points: Sequence[dict[str, Any]], name: str, archetypes: Sequence[str]
) -> None:
    there = [p for p in points if name in p["values"]]
    for i, archetype in enumerate(archetypes):
        values = [p["values"][name][min(i, len(p["values"][name]) - 1)] for p in there]
        ax.plot([p["update"] for p in there], values, linewidth=1.2, label=archetype)
    ax.set_title(title)
    ax.legend(fontsize=6, frameon=False)
