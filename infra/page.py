"""Pages that need no other file: headings, tables and pictures as HTML."""

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any, NamedTuple

_STYLE = """
:root { --ink: #1f2933; --quiet: #616e7c; --line: #e4e7eb; --good: #0b6e4f; --bad: #c05621; }
* { box-sizing: border-box; }
body { font: 15px/1.5 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; color: var(--ink);
  max-width: 1080px; margin: 0 auto; padding: 32px 24px 64px; }
h1 { font-size: 26px; margin: 0 0 4px; }
h2 { font-size: 19px; margin: 40px 0 8px; padding-top: 20px; border-top: 1px solid var(--line); }
h3 { font-size: 15px; margin: 24px 0 6px; }
p, .note { color: var(--quiet); margin: 4px 0 12px; }
code { font: 13px/1.4 ui-monospace, "DejaVu Sans Mono", monospace; overflow-wrap: anywhere; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 13px; margin: 6px 0 16px; }
th { text-align: left; color: var(--quiet); font-weight: 600; }
th, td { padding: 4px 14px 4px 0; border-bottom: 1px solid var(--line); white-space: nowrap; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
figure { margin: 8px 0 16px; display: flex; flex-wrap: wrap; gap: 24px;
  align-items: center; }
svg { max-width: 100%; height: auto; }
td .was { color: var(--quiet); }
.up { color: var(--good); } .down { color: var(--bad); }
"""


def page(title: str, parts: Iterable[str]) -> str:
    """A whole page."""
    body = "\n".join(parts)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n<body>\n{body}\n"
        f"</body></html>\n"
    )


def heading(level: int, text: str) -> str:
    """A heading."""
    return f"<h{level}>{escape(text)}</h{level}>"


def note(text: str) -> str:
    """A quiet paragraph."""
    return f"<p>{escape(text)}</p>"


def figure(*svgs: str) -> str:
    """Pictures, beside each other where there is room."""
    return f"<figure>{''.join(svgs)}</figure>"


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table; numbers stand right, and what begins with + or - shows its sign by colour."""
    found = [[cell(value) for value in row] for row in rows]
    right = [any(numeric for _, numeric in (r[i] for r in found)) for i in range(len(columns))]
    head = "".join(
        f"<th{' class=n' if right[i] else ''}>{escape(name)}</th>" for i, name in enumerate(columns)
    )
    body = "".join(
        "<tr>"
        + "".join(f'<td class="{"n" if right[i] else ""}">{r[i][0]}</td>' for i in range(len(r)))
        + "</tr>"
        for r in found
    )
    return f'<div class="wide"><table><tr>{head}</tr>{body}</table></div>'


def cell(value: Any) -> tuple[str, bool]:
    """A value as HTML, and whether it is a number."""
    if value is None:
        return '<span class="note">–</span>', False
    if isinstance(value, Pair):
        (was, _), (now, _) = cell(value.before), cell(value.after)
        return (now if was == now else f'<span class="was">{was} →</span> {now}'), True
    if isinstance(value, Signed):
        kind = "up" if value > 0 else "down" if value < 0 else ""
        return f'<span class="{kind}">{float(value):+.4g}</span>', True
    if isinstance(value, Share):
        return f"{float(value):.1%}", True
    if isinstance(value, float):
        return f"{value or 0.0:.4g}", True  # no -0
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}", True
    return escape(str(value)), False


class Pair(NamedTuple):
    """A value before and after."""

    before: Any
    after: Any


class Signed(float):
    """A difference."""


class Share(float):
    """A share of 1."""
