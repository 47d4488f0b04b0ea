"""How our pictures of rewards look, and pictures as text that a page can hold."""

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

INK, QUIET, GRID = "#1f2933", "#7b8794", "#e4e7eb"
BEFORE, AFTER, ACCENT = "#a0aec0", "#0b6e4f", "#c05621"
_STYLE: dict[Any, Any] = {
    "font.size": 9.5,
    "font.family": "DejaVu Sans",
    "axes.edgecolor": GRID,
    "axes.titlecolor": INK,
    "axes.labelcolor": QUIET,
    "axes.titlesize": 10.5,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "svg.hashsalt": "grindstone",  # else each drawing of the same numbers has other ids
}


_METADATA = re.compile(r"\s*<metadata>.*?</metadata>", re.DOTALL)


@contextmanager
def canvas(width: float, height: float, panels: int = 1, **more: Any) -> Iterator[tuple[Any, Any]]:
    """A figure in inches with panels side by side: (figure, list of axes)."""
    with grid(width, height, 1, panels, **more) as (figure, axes):
        yield figure, axes[0]


@contextmanager
def grid(
    width: float, height: float, rows: int, columns: int, **more: Any
) -> Iterator[tuple[Any, Any]]:
    """A figure in inches with rows of panels: (figure, a list of axes for each row)."""
    import matplotlib  # here: it takes half a second, and most commands draw nothing

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    with plt.rc_context(_STYLE):
        figure, axes = plt.subplots(
            rows, columns, figsize=(width, height), layout="constrained", squeeze=False, **more
        )
        for ax in axes.flat:
            _plain(ax)
        try:
            yield figure, [list(row) for row in axes]
        finally:
            plt.close(figure)


def svg(figure: Any) -> str:
    """The figure as an `<svg>` element, the same text for the same numbers."""
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    text = stream.getvalue()
    return _METADATA.sub("", text[text.index("<svg") :])


def shares(
    ax: Any, edges: Sequence[float], sides: Sequence[tuple[str, Sequence[int], str]]
) -> None:
    """Draws counts by bin as shares on a logarithmic scale: (label, counts, colour), first filled.

    Most rewards are 0 most of the time, so that a plain scale would show nothing else.
    """
    from matplotlib.ticker import MaxNLocator

    lowest = 1.0
    for at, (label, counts, colour) in enumerate(sides):
        n = max(sum(counts), 1)
        share = [count / n for count in counts]
        lowest = min([lowest, *(s for s in share if s)])
        ax.stairs(share, edges, fill=at == 0, color=colour, label=label, linewidth=1.6, alpha=0.9)
    ax.set_yscale("log")
    ax.set_ylim(lowest / 2, 1.6)
    ax.yaxis.set_major_formatter(lambda y, _: f"{100 * y:g}%")
    ax.xaxis.set_major_locator(MaxNLocator(5))
    ax.minorticks_off()


def _plain(ax: Any) -> None:
    ax.tick_params(length=0)
    ax.grid(axis="y", color=GRID, linewidth=0.8)
    ax.set_axisbelow(True)
    for side in ("top", "right", "left"):
        ax.spines[side].set_visible(False)
