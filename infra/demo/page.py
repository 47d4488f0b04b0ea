"""How a run looks: a live page on a terminal, one line every few seconds elsewhere."""

from rich.align import Align
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from infra.demo.facts import Facts, Version
from schemas.evidence import wilson

NOW_WIDTH = 31
BAR_WIDTH = 14
"""With these a terminal of 80 columns cuts nothing off."""
VERSIONS_SHOWN = 9
NOTES_SHOWN = 3
FATE_STYLES = {
    "champion": "bold green",
    "rejected": "red",
    "unplayable": "bold red",
    "evaluated": "cyan",
    "registered": "dim",
}
PROCESS_STYLES = {"running": "green", "waiting": "yellow", "failed": "bold red"}


def line(facts: Facts) -> str:
    """One line that says where the run stands."""
    best = facts.champion
    parts = [
        f"{facts.seconds:5.0f} s",
        facts.phase,
        f"{facts.decisions:,} decisions ({facts.decision_rate.value():,.0f}/s)",
        f"{facts.experiences:,} settled, {facts.open_decisions:,} open",
        f"{len(facts.windows)} windows",
        f"learner {_number(facts.metric('updates'))} steps, loss {_loss(facts)}",
        f"{len(facts.versions)} versions",
        "no champion yet"
        if best is None
        else f"champion {best.version} wins {best.win_rate:.0%} (at least {best.lower95:.0%})",
        f"lag {sum(facts.lag.values()):,}",
        f"{facts.dead_letters} dead letters",
    ]
    return " | ".join(parts)


def page(facts: Facts, seconds_planned: float) -> RenderableType:
    """The whole page, drawn anew at each call."""
    body = Table.grid(expand=True, padding=(0, 1))
    body.add_column(width=NOW_WIDTH)
    body.add_column(ratio=1)
    body.add_row(
        Panel(_now(facts), title="now", title_align="left", border_style="dim"),
        Panel(
            _versions(facts),
            title="versions against the scripted policy",
            title_align="left",
            border_style="dim",
        ),
    )
    parts: list[RenderableType] = [_head(facts, seconds_planned), body, _processes(facts)]
    parts += [Text(f"  {note}", style="dim") for note in facts.notes[-NOTES_SHOWN:]]
    return Group(*parts)


def _head(facts: Facts, seconds_planned: float) -> RenderableType:
    head = Table.grid(expand=True, padding=(0, 1))
    head.add_column(ratio=1)
    head.add_column(width=40)
    head.add_column(justify="right", width=14)
    title = Text.assemble(("GRINDSTONE ", "bold"), (facts.phase, "italic"))
    bar = ProgressBar(total=seconds_planned, completed=min(facts.seconds, seconds_planned))
    head.add_row(
        title,
        Align.center(bar, vertical="middle"),
        f"{facts.seconds:.0f} s of {seconds_planned:.0f}",
    )
    return head


def _now(facts: Facts) -> Table:
    table = Table.grid(expand=True, padding=(0, 1))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    latency = facts.latency_p95_ms
    rows = [
        ("decisions", f"{facts.decisions:,}"),
        ("a second", f"{facts.decision_rate.value():,.0f}"),
        ("matches", _number(facts.metric("matches"))),
        ("matches / s", f"{facts.match_rate.value():.1f}"),
        ("settled", f"{facts.experiences:,}"),
        ("open", f"{facts.open_decisions:,}"),
        ("latency p95", "-" if latency is None else f"{latency:,.0f} ms"),
        ("windows", f"{len(facts.windows):,}"),
        ("learner steps", _number(facts.metric("updates"))),
        ("loss", _loss(facts)),
        ("dead letters", f"{facts.dead_letters:,}"),
        ("lag", f"{sum(facts.lag.values()):,}"),
        ("memory", f"{facts.memory_bytes / 1e9:.2f} GB"),
    ]
    for name, value in rows:
        table.add_row(name, value)
    return table


def _versions(facts: Facts) -> RenderableType:
    if not facts.versions:
        return Text("the scripted policy plays; no version has been learned yet", style="dim")
    table = Table.grid(expand=True, padding=(0, 1, 0, 0))
    for justify in ("left", "left", "right", "left", "left"):
        table.add_column(justify=justify, no_wrap=True)
    for version in list(facts.versions.values())[-VERSIONS_SHOWN:]:
        table.add_row(*_version_row(facts, version))
    return table


def _version_row(facts: Facts, version: Version) -> tuple[Text, Text, Text, Text, Text]:
    playing = facts.champion is not None and facts.champion.version == version.version
    rate = version.win_rate
    low, high = wilson(version.wins, version.matches)
    return (
        Text(version.version, style="bold" if playing else ""),
        Text("playing" if playing else version.fate[:10], style=FATE_STYLES.get(version.fate, "")),
        Text("-" if rate is None else f"{rate:.0%}"),
        Text("" if rate is None else bar(low, rate, high), style="green" if playing else "cyan"),
        Text("" if rate is None else f"{low:.0%}-{high:.0%}", style="dim"),
    )


def bar(low: float, rate: float, high: float, width: int = BAR_WIDTH) -> str:
    """A share with its interval on a line of `width` cells: `····──●──····`."""
    first, middle, last = (min(width - 1, int(x * width)) for x in (low, rate, high))
    cells = ["─" if first <= i <= last else "·" for i in range(width)]
    cells[middle] = "●"
    return "".join(cells)


def _processes(facts: Facts) -> Text:
    text = Text("  ")
    for name, state in facts.processes.items():
        text.append("● ", style=PROCESS_STYLES.get(state, "dim"))
        lag = facts.lag.get(name)
        text.append(f"{name} " if lag is None else f"{name} {lag:,} ")
    return text


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def _loss(facts: Facts) -> str:
    loss = facts.metric("loss")
    return "-" if loss is None else f"{loss:.4f}"
