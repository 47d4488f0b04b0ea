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

CURVES = ("loss", "q_mean", "td_error", "reward", "win_rate", "stage", "entropy")
"""Measures that are drawn where a type tells them, in this order."""


def write_report(report: Report, path: Path) -> None:
    """Write a report that is not there yet, as a page or as JSON by the name's end."""
    with fresh_file(path, "--report") as stream:
        if path.suffix == ".json":
            text = msgspec.json.format(msgspec.json.encode(report), indent=1)
            stream.write(text + b"\n")
        else:
            stream.write(render_page(report).encode())


def read_report(path: Path) -> Report:
    """Return a report that was written as JSON."""
    return msgspec.json.decode(path.read_bytes(), type=Report)


def rows_of(report: Report) -> list[list[Any]]:
    """Return a row of plain values for each model, types in order."""
    found = []
    for made in report.trainings:
        for archetype in made.plan["archetypes"]:
            quality = made.quality[archetype]
            found.append(
                [
                    made.type,
                    archetype,
                    quality["measure"],
                    quality.get("value"),
                    quality.get("low"),
                    quality.get("high"),
                    quality["n"],
                    "yes" if quality["good"] else "no",
                    made.stopped_at.get(archetype, made.n_updates),
                    made.folders[archetype],
                ]  # fmt: skip
            )
    return found


COLUMNS = ("type", "archetype", "measure", "value", "low", "high", "n", "good", "updates", "folder")


def render_text(report: Report) -> Any:
    """Return the report as a table for a terminal."""
    from rich.table import Table

    table = Table(*COLUMNS[:-1], box=None, pad_edge=False)
    for row in rows_of(report):
        table.add_row(*(_shown(value) for value in row[:-1]))
    return table


def summary(report: Report) -> str:
    """Return the report in one line."""
    rows = rows_of(report)
    good = sum(row[7] == "yes" for row in rows)
    return (
        f"{good} of {len(rows)} models are good, in {clock(report.seconds)}"
        f" on {report.device}, {report.parallel} at a time"
    )


def render_markdown(report: Report) -> str:
    """Return the table of all models for the documentation, made from the report alone."""
    lines = [
        f"Preset `{report.preset}`, seed {report.seed}, {report.samples:,} bootstrap rows an"
        f" archetype, {report.device}, {report.parallel} trainings at a time:"
        f" {clock(report.seconds)} for all of them. Intervals are of 95 %.",
        "",
        "| type | archetype | measure | value | interval | n | good | updates |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for kind, archetype, measure, value, low, high, n, good, updates, _ in rows_of(report):
        interval = "" if low is None else f"{low:.3f} to {high:.3f}"
        lines.append(
            f"| {kind} | {archetype} | {measure} | {_shown(value)} | {interval} | {n:,} | {good}"
            f" | {updates:,} |"
        )
    return "\n".join(lines) + "\n"


def render_page(report: Report) -> str:
    """Return the report as a page with a curve for each measure."""
    parts = [
        page.heading(1, "Training"),
        page.note(f"{summary(report)}. Preset {report.preset}, seed {report.seed}."),
        page.table(COLUMNS[:-1], [row[:-1] for row in rows_of(report)]),
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
        *[page.note(f"passed over: {reason}") for reason in made.refused],
        page.figure(*_curves(made)),
        page.heading(3, "Forms of the exported graphs"),
        page.table(
            ("archetype", "form", "bytes", "agreement", "loss", "p50 ms", "p95 ms", "chosen"), forms
        ),
    ]


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


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)
