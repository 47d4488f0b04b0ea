"""The analysis of rewards as a picture, a page and a table for a terminal."""

from typing import IO, Any

import numpy as np
from rich.console import Group as Lines
from rich.table import Table

from infra.analysis import REWARDS, Analysis, Part, name_of
from infra.drawing import ACCENT, AFTER, INK, QUIET, grid, shares, svg
from infra.page import Share, figure, heading, note, page, table

_BLOCKS = " ▁▂▃▄▅▆▇█"
_COLUMNS = ("part", "n", "mean", "deviation", "min", "5 %", "median", "95 %", "max", "is 0",
            "clipped", "NaN", "infinite", "outliers")  # fmt: skip
_TITLES = {"immediate": "immediate", "long_term": "long term", "total": "total"}


def draw(analysis: Analysis, png: IO[bytes] | None = None) -> str:
    """A row for each group: its rewards, and what its facts contribute; as SVG, or into a PNG."""
    rows = analysis.groups
    with grid(11.6, 2.5 * len(rows) + 0.4, len(rows), len(REWARDS) + 1) as (drawing, axes):
        for line, group in zip(axes, rows, strict=True):
            by_name = {part.name: part for part in group.parts if not part.of_fact}
            for ax, name in zip(line, REWARDS, strict=False):
                part = by_name[name]
                shares(ax, part.edges, [(name, part.counts, AFTER)])
                ax.set_title(_TITLES[name], loc="left")
            line[0].set_ylabel(f"{name_of(group)}\nshare of decisions", color=INK)
            _contributions(line[-1], [part for part in group.parts if part.of_fact])
        if png is None:
            return svg(drawing)
        drawing.savefig(png, format="png", dpi=140, facecolor="white")
        return ""


def _contributions(ax: Any, parts: list[Part]) -> None:
    """From the 5th to the 95th percentile, thick between the quartiles, extremes as marks."""
    ax.grid(axis="y", visible=False)
    ax.set_title("parts of the immediate reward", loc="left")
    ax.axvline(0, color=QUIET, linewidth=0.8)
    for at, part in enumerate(parts[::-1]):
        told = part.distribution
        if told.mean is None:
            continue
        ax.plot([told.p05, told.p95], [at, at], color=AFTER, linewidth=1.4)
        ax.plot([told.p25, told.p75], [at, at], color=AFTER, linewidth=5, solid_capstyle="butt")
        ax.scatter([told.min, told.max], [at, at], marker="|", s=40, color=ACCENT)
        ax.scatter([told.mean], [at], s=22, color="white", edgecolor=INK, zorder=3)
    ax.set_yticks(range(len(parts)), [part.name for part in parts[::-1]], color=INK)
    ax.set_ylim(-0.7, len(parts) - 0.3)


def render_page(analysis: Analysis, game: str) -> str:
    """The page; it needs no other file."""
    parts = [
        heading(1, f"{game}: rewards"),
        note(f"{analysis.n:,} decisions, the newest revision of each."),
        *(note(f"Wrong: {line}.") for line in analysis.problems),
        *(note(f"Worth a look: {line}.") for line in analysis.remarks),
        figure(draw(analysis)),
        note(
            "Shares are on a logarithmic scale. Right: 5th to 95th percentile, thick between the "
            "quartiles; a circle is the mean, marks are the extremes."
        ),
    ]
    for group in analysis.groups:
        parts.append(heading(3, f"{name_of(group)}: {group.n:,} decisions"))
        parts.append(note(", ".join(f"{s} {n:,}" for s, n in group.statuses.items())))
        parts.append(table(_COLUMNS, [_row(part) for part in group.parts]))
        far = [
            f"{part.name}: " + ", ".join(f"{i} ({_short(v)})" for i, v in part.outliers)
            for part in group.parts
            if part.outliers
        ]
        if far:
            parts.append(note("Farthest out: " + "; ".join(far) + "."))
    return page(f"{game}: rewards", parts)


def render_text(analysis: Analysis) -> Lines:
    """The analysis for a terminal."""
    found: list[Any] = []
    for group in analysis.groups:
        title = f"{name_of(group)}: {group.n:,} decisions"
        lines = Table(title=title, title_justify="left", box=None, pad_edge=False)
        for name in (*_COLUMNS, "shape"):
            lines.add_column(name, justify="left" if name in ("part", "shape") else "right")
        for part in group.parts:
            lines.add_row(*(_plain(value) for value in _row(part)), sparkline(part.counts))
        found += [lines, ""]
    found += [f"wrong: {line}" for line in analysis.problems]
    found += [f"worth a look: {line}" for line in analysis.remarks]
    return Lines(*found)


def sparkline(counts: list[int], width: int = 20) -> str:
    """Counts as blocks, on the logarithmic scale of the picture."""
    joined = np.array([sum(part) for part in np.array_split(counts, min(width, len(counts)))])
    if not joined.any():
        return ""
    heights = np.log1p(joined) / np.log1p(joined.max())
    return "".join(_BLOCKS[int(np.ceil(h * (len(_BLOCKS) - 1)))] for h in heights)


def _row(part: Part) -> list[Any]:
    d = part.distribution
    name = part.name if not part.of_fact else f"  {part.name}"
    clipped = None if part.of_fact else _share(d.clipped)
    found = [name, d.n, d.mean, d.std, d.min, d.p05, d.median, d.p95, d.max]
    return [*found, _share(d.zeros), clipped, d.n_nan, d.n_inf, part.n_outliers]


def _share(value: float | None) -> Share | None:
    return None if value is None else Share(value)


def _plain(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, Share):
        return f"{float(value):.1%}"
    return _short(value)


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value or 0.0:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
