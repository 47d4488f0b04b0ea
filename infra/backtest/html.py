"""The report of a backtest as a page and as text."""

from typing import Any

from infra.backtest import pictures
from infra.backtest.compare import Distribution
from infra.backtest.report import PartChange, Report, VariantReport
from infra.page import Pair, Share, Signed, figure, heading, note, page, table
from infra.times import show_duration, show_time


def render_page(report: Report) -> str:
    """The page; it needs no other file."""
    before = report.before
    names = ", ".join(variant.name for variant in report.variants)
    span = f"{show_time(report.first_ms)} to {show_time(report.last_ms)}"
    told = f"Decisions from {span}, scored from the {_source(report)}. Before: {_before(report)}."
    parts = [
        heading(1, f"{report.game}: backtest {names}"),
        note(told),
        table(
            ["variant", "decisions", "compared", "open at the end", "mean before", "mean after",
             "changed", "sign turned", "rank correlation"],
            [_line(variant) for variant in report.variants],
        ),
    ]  # fmt: skip
    if len(report.variants) > 1:
        parts.append(figure(pictures.across(report.variants)))
    for variant in report.variants:
        parts += _variant(variant, before)
    parts.append(note(f"Backtest {report.backtest_id}."))
    return page(f"{report.game}: {names}", parts)


def _variant(variant: VariantReport, before: str) -> list[str]:
    whole = variant.groups[0]
    parts = [
        heading(2, variant.name),
        table(
            ["domain", "reward", "horizon", "long-term weight", "standing"],
            [
                [
                    n,
                    d["reward"],
                    show_duration(d["horizon_ms"]),
                    d["long_term_weight"],
                    d["standing"],
                ]
                for n, d in variant.domains.items()
            ],
        ),
        figure(pictures.before_and_after(whole, before)),
        figure(
            pictures.plane(variant, before),
            *([pictures.groups(variant, before)] if len(variant.groups) > 1 else []),
        ),
    ]
    for group in variant.groups:
        parts.append(heading(3, f"{pictures.name_of(group)}: {group.n:,} decisions"))
        rows = [_part(name.replace("_", " "), p) for name, p in group.rewards.items()]
        rows += [_part(f"part {name}", p) for name, p in group.parts.items()]
        parts.append(table(_PART_COLUMNS, rows))
    parts += [heading(3, "Decisions that changed most"), _top(variant)]
    return parts


_PART_COLUMNS = ["reward", "mean", "median", "deviation", "is 0", "changed", "rank correlation"]


def _part(name: str, part: PartChange) -> list[Any]:
    was, now, how = part.before, part.after, part.change
    return [
        name,
        *(Pair(*(getattr(d, field, None) for d in (was, now))) for field in _MOMENTS),
        Pair(_share(was), _share(now)),
        None if how is None else Share(how.changed),
        None if how is None else how.spearman,
    ]


_MOMENTS = ("mean", "median", "std")


def _share(found: Distribution | None) -> Share | None:
    return None if found is None or found.zeros is None else Share(found.zeros)


def _top(variant: VariantReport) -> str:
    if not variant.top:
        return note("None changed.")
    rows = [
        [
            row["decision_id"],
            f"{row['archetype']}, {row['domain']}",
            row["action_name"],
            row["policy_version"],
            row["total_before"],
            row["total_after"],
            Signed(row["change"]),
            ", ".join(f"{k} {v:g}" for k, v in (row["facts"] or {}).items() if v),
        ]
        for row in variant.top
    ]
    names = ["decision", "group", "action", "policy", "before", "after", "change", "outcome"]
    return table(names, rows)


def _line(variant: VariantReport) -> list[Any]:
    total = variant.groups[0].rewards["total"]
    how = total.change
    return [
        variant.name,
        variant.n_rows,
        variant.n_matched,
        variant.n_open,
        None if total.before is None else total.before.mean,
        None if total.after is None else total.after.mean,
        None if how is None else Share(how.changed),
        None if how is None else Share(how.flipped),
        None if how is None else how.spearman,
    ]


def _source(report: Report) -> str:
    if report.source == "log":
        return "log of game-events, folded again"
    return "facts that the windows hold; the log was not folded again"


def _before(report: Report) -> str:
    if report.before == "recorded":
        return "the rewards as they were recorded in the windows"
    return "the log folded again by the description as it is"


def render_text(report: Report, folder: str, digest: str) -> str:
    """The report in a few lines."""
    lines = [f"scored from the {_source(report)}; before: {_before(report)}"]
    for variant in report.variants:
        total = variant.groups[0].rewards["total"]
        how = total.change
        was, now = total.before, total.after
        rho = "not defined" if how is None or how.spearman is None else f"{how.spearman:.4f}"
        means = " -> ".join(
            "?" if d is None or d.mean is None else f"{d.mean:+.4f}" for d in (was, now)
        )
        changed = 0.0 if how is None else how.changed
        lines.append(
            f"{variant.name}: {variant.n_rows:,} rows, {variant.n_matched:,} compared, "
            f"{variant.n_open:,} open at the log's end; mean total {means}, {changed:.1%} changed, "
            f"rank correlation {rho}"
        )
    lines += [f"digest {digest}", f"{folder}/report.html"]
    return "\n".join(lines)
