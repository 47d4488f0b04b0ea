"""The pictures of a backtest's report."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from infra.backtest.report import REWARDS, Group, VariantReport
from infra.drawing import ACCENT, AFTER, BEFORE, INK, QUIET, canvas, shares, svg

_TITLES = {"immediate": "immediate", "long_term": "long term", "total": "total"}


def before_and_after(group: Group, before: str) -> str:
    """How the rewards of a group are spread, each reward in a panel."""
    with canvas(10.4, 2.9, len(REWARDS), sharey=True) as (figure, axes):
        for ax, name in zip(axes, REWARDS, strict=True):
            shape = group.shapes[name]
            sides = [(before, shape.before, BEFORE), ("backtest", shape.after, AFTER)]
            shares(ax, shape.edges, sides)
            ax.set_title(_TITLES[name], loc="left")
            ax.set_xlabel("reward")
        axes[0].set_ylabel("share of decisions")
        axes[-1].legend(frameon=False, labelcolor=INK, loc="upper left")
        return svg(figure)


def plane(variant: VariantReport, before: str) -> str:
    """Each decision's total before and after, as a density."""
    from matplotlib.colors import LogNorm

    counts = np.array(variant.plane, dtype=float).T
    edges = variant.plane_edges
    whole = variant.groups[0].rewards["total"].change
    with canvas(5.2, 4.1) as (figure, (ax,)):
        top = max(counts.max(), 2)
        drawn = ax.pcolormesh(
            edges,
            edges,
            np.ma.masked_equal(counts, 0),
            cmap="YlGn",
            norm=LogNorm(1, top),
            rasterized=True,
        )
        ends = (edges[0], edges[-1])
        ax.plot(ends, ends, color=QUIET, linewidth=0.9, linestyle=(0, (4, 3)))
        ax.set_xlabel(f"total, {before}")
        ax.set_ylabel("total, backtest")
        ax.set_aspect("equal")
        rho = whole.spearman if whole else None
        said = "not defined" if rho is None else f"{rho:.3f}"
        ax.set_title(f"rank correlation {said}", loc="left")
        bar = figure.colorbar(drawn, ax=ax, shrink=0.8)
        bar.set_label("decisions", color=QUIET)
        bar.outline.set_visible(False)
        return svg(figure)


def groups(variant: VariantReport, before: str) -> str:
    """The mean total of each archetype and domain, before and after."""
    rows = variant.groups[::-1]
    with canvas(5.0, 1.3 + 0.42 * len(rows)) as (figure, (ax,)):
        for at, group in enumerate(rows):
            total = group.rewards["total"]
            was, now = _mean(total.before), _mean(total.after)
            ax.plot([was, now], [at, at], color=QUIET, linewidth=1.6, zorder=2)
            ax.scatter([was], [at], s=44, color=BEFORE, zorder=3, label=None if at else before)
            ax.scatter([now], [at], s=44, color=AFTER, zorder=3, label=None if at else "backtest")
        ax.set_yticks(range(len(rows)), [name_of(group) for group in rows], color=INK)
        ax.set_ylim(-0.7, len(rows) - 0.3)
        ax.grid(axis="y", visible=False)
        ax.axvline(0, color=QUIET, linewidth=0.8)
        ax.set_xlabel("mean total")
        ax.legend(
            frameon=False, labelcolor=INK, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2
        )
        return svg(figure)


def across(variants: Sequence[VariantReport]) -> str:
    """Several variants side by side: mean rewards, and how much of the order is kept."""
    names = [variant.name for variant in variants]
    at = range(len(names))
    with canvas(10.4, 3.0, 2) as (figure, (left, right)):
        for name, colour in (("immediate", BEFORE), ("long_term", ACCENT), ("total", AFTER)):
            means = [_mean(v.groups[0].rewards[name].after) for v in variants]
            left.plot(at, means, color=colour, marker="o", label=_TITLES[name], linewidth=1.6)
        left.set_title("mean reward", loc="left")
        left.legend(frameon=False, labelcolor=INK)
        kept = [_rho(v) for v in variants]
        right.bar(at, kept, color=AFTER, width=0.55)
        for x, rho in zip(at, kept, strict=True):
            right.annotate(f"{rho:.3f}", (x, rho), ha="center", va="bottom", color=INK)
        right.set_title("rank correlation with before", loc="left")
        right.set_ylim(min([0.0, *kept]) * 1.15, 1.12)
        for ax in (left, right):
            ax.set_xticks(at, names, rotation=20 if len(names) > 4 else 0)
            ax.set_xlim(-0.5, len(names) - 0.5)
        return svg(figure)


def name_of(group: Group) -> str:
    """A group's name for people."""
    return "all" if group.archetype is None else f"{group.archetype}, {group.domain}"


def _mean(found: Any) -> float:
    return float("nan") if found is None or found.mean is None else float(found.mean)


def _rho(variant: VariantReport) -> float:
    change = variant.groups[0].rewards["total"].change
    return 0.0 if change is None or change.spearman is None else change.spearman
