"""The picture of a run: win rate over time with its interval, versions marked; and its CSV."""

import csv
from pathlib import Path
from typing import Any

import msgspec

INK, QUIET, GRID = "#1f2933", "#7b8794", "#e4e7eb"
LEARNED, BAND, SCRIPTED, RANDOM, VERDICT = "#0b6e4f", "#9fd8c3", "#c05621", "#a0aec0", "#5a3e99"
CSV_FIELDS = ("seconds", "version", "fate", "win_rate", "lower95", "upper95", "matches")


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """One version as the evaluator saw it against the scripted pack."""

    seconds: float
    version: str
    fate: str
    win_rate: float
    lower95: float
    upper95: float
    matches: int


class Story(msgspec.Struct, frozen=True, kw_only=True):
    """All that the picture shows. Rates are shares of matches won, in [0, 1]."""

    title: str
    subtitle: str
    points: list[Point]
    scripted: float | None = None
    random: float | None = None
    verdict: Point | None = None


def write_csv(path: Path, story: Story) -> None:
    """Writes the points of the picture, the verdict last, one row a version."""
    rows = [*story.points, *([story.verdict] if story.verdict else [])]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, CSV_FIELDS)
        writer.writeheader()
        for point in rows:
            row = msgspec.structs.asdict(point)
            for name in ("win_rate", "lower95", "upper95"):
                row[name] = f"{row[name]:.4f}"
            row["seconds"] = f"{point.seconds:.1f}"
            writer.writerow(row)


def write_picture(path: Path, story: Story) -> None:
    """Draws the story into a PNG (or whatever the file's ending says)."""
    import matplotlib  # here: it takes half a second, and most commands draw nothing

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    with plt.rc_context({"font.size": 10, "font.family": "DejaVu Sans", "axes.edgecolor": GRID}):
        figure, axes = plt.subplots(figsize=(10.5, 5.6), dpi=140, layout="constrained")
        _frame(axes, story)
        _baselines(axes, story)
        _curve(axes, story)
        _verdict(axes, story)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(
                loc="upper center",
                bbox_to_anchor=(0.5, -0.13),
                ncols=3,
                frameon=False,
                labelcolor=INK,
            )
        figure.savefig(path, facecolor="white")
        plt.close(figure)


def _frame(axes: Any, story: Story) -> None:
    last = max([p.seconds for p in story.points] + [story.verdict.seconds if story.verdict else 1])
    axes.set_xlim(0, last * 1.08)
    axes.set_ylim(-0.025, 1.04)  # room for a line or a point at either end
    axes.set_yticks([0, 0.2, 0.4, 0.6, 0.8, 1.0], ["0", "20 %", "40 %", "60 %", "80 %", "100 %"])
    axes.set_xlabel("seconds since the first command", color=QUIET)
    axes.set_ylabel("matches won against the scripted policy", color=QUIET)
    axes.tick_params(colors=QUIET, length=0)
    axes.grid(axis="y", color=GRID, linewidth=0.9)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.set_title(story.title, loc="left", color=INK, fontsize=15, fontweight="bold", pad=26)
    axes.text(0, 1.03, story.subtitle, transform=axes.transAxes, color=QUIET, fontsize=10)


def _baselines(axes: Any, story: Story) -> None:
    for rate, label, colour in (
        (story.scripted, "scripted policy against itself", SCRIPTED),
        (story.random, "random policy", RANDOM),
    ):
        if rate is not None:
            axes.axhline(rate, color=colour, linestyle=(0, (5, 4)), linewidth=1.4, label=label)


def _curve(axes: Any, story: Story) -> None:
    points = story.points
    if not points:
        return
    seconds = [p.seconds for p in points]
    axes.fill_between(
        seconds,
        [p.lower95 for p in points],
        [p.upper95 for p in points],
        color=BAND,
        alpha=0.45,
        linewidth=0,
        label="95 % interval",
    )
    axes.plot(seconds, [p.win_rate for p in points], color=LEARNED, linewidth=1.6, alpha=0.8)
    for fate, fill, label in (
        ("champion", LEARNED, "became champion"),
        ("other", "white", "rejected or not decided"),
    ):
        chosen = [p for p in points if (p.fate == "champion") == (fate == "champion")]
        axes.scatter(
            [p.seconds for p in chosen],
            [p.win_rate for p in chosen],
            s=42,
            color=fill,
            edgecolor=LEARNED,
            linewidth=1.3,
            zorder=3,
            label=label if chosen else None,
        )
    for point in points:
        if point.fate == "champion":
            axes.annotate(
                point.version,
                (point.seconds, point.win_rate),
                xytext=(0, 9),
                textcoords="offset points",
                ha="center",
                color=LEARNED,
                fontsize=8.5,
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6, "alpha": 0.7},
            )


def _verdict(axes: Any, story: Story) -> None:
    final = story.verdict
    if final is None:
        return
    axes.errorbar(
        [final.seconds],
        [final.win_rate],
        yerr=[[final.win_rate - final.lower95], [final.upper95 - final.win_rate]],
        fmt="D",
        color=VERDICT,
        markersize=8,
        capsize=5,
        linewidth=1.8,
        zorder=4,
        label="final verdict, fresh seeds",
    )
    axes.annotate(
        f"{final.version}: {final.win_rate:.1%}",
        (final.seconds, final.upper95),
        xytext=(0, 6),
        textcoords="offset points",
        ha="center",
        color=VERDICT,
        fontweight="bold",
    )
