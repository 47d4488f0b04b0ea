"""What a running system says about itself, as plain values and as tables for people."""

import asyncio
import os
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from infra.decoding import model_event
from infra.demo.facts import Facts, record_of
from infra.ledger import read_tails
from infra.reading import Look
from infra.settings import Settings
from schemas.evidence import wilson
from schemas.model_events import Champion, Evaluation, Registered, Rejected

Plain = dict[str, Any]

PROCESSES_FILE = "processes.json"


def group_topics(settings: Settings) -> dict[str, str]:
    """Consumer group -> the topic it reads; groups are named like the process that joins them."""
    names = settings.topics
    prefix = settings.topics_prefix
    return {
        f"{prefix}rewards": names.game_events,
        f"{prefix}release": names.models,
    }


async def group_lags(settings: Settings, look: Look) -> dict[str, int]:
    """Process -> records that its group has not committed yet; groups never seen are left out."""
    lags = {}
    for group, topic in group_topics(settings).items():
        at = await look.group_offsets(group)
        mine = {part.partition: offset for part, offset in at.items() if part.topic == topic}
        if mine:
            lags[group.removeprefix(settings.topics_prefix)] = sum(
                max(0, end - mine.get(partition, 0))
                for partition, end in (await look.ends(topic)).items()
            )
    return lags


async def gather(settings: Settings) -> Plain:
    """Processes, topics, lag, ledger and champion."""
    facts = Facts()
    async with Look(settings.kafka) as look:
        for tail in (await read_tails(look, settings.topics.experiences)).values():
            if tail.mark is not None:
                facts.on_watermark(tail.mark, 0.0)
        async for record in look.read_all(settings.topics.models):
            event = model_event(record.value)
            if event is not None:
                facts.on_model(event, record.timestamp / 1000)
        lags = await group_lags(settings, look)
        n_dead = 0
        async for _ in look.read_all(settings.topics.dead_letters):
            n_dead += 1
        sink = await database_state(settings, look)
    champion = facts.champion
    return {
        "broker": settings.kafka.bootstrap_servers,
        "processes": read_processes(settings.run_dir),
        "decisions": facts.decisions,
        "settled": facts.experiences,
        "open": facts.open_decisions,
        "dead_letters": n_dead,
        "lag": lags,
        "sink": sink,
        "versions": len(facts.versions),
        "champion": None if champion is None else champion.version,
        "champion_win_rate": None if champion is None else champion.win_rate,
        "champion_lower95": None if champion is None else champion.lower95,
    }


async def database_state(settings: Settings, look: Look) -> Plain | None:
    """How far the database is and what it can do; None when none is used."""
    if settings.sink != "timescale":
        return None
    import psycopg

    from streams.timescale.errors import DatabaseError
    from streams.timescale.stored import look as look_into

    database: Plain = {"database": settings.timescale.where}
    topic = settings.topics.experiences
    try:
        stored = await asyncio.to_thread(look_into, settings.timescale, topic)
    except (psycopg.Error, DatabaseError) as error:
        return {**database, "error": " ".join(str(error).split())}
    ends = await look.ends(topic)
    behind = [end - stored.offsets.get(partition, 0) for partition, end in ends.items()]
    return {
        **database,
        "rows": stored.n_rows,
        # one offset may be the mark that ends the last transaction, which is no record
        "lag": sum(n for n in behind if n > 1),
        "capabilities": {
            c.name: {"state": c.state, "reason": c.reason} for c in stored.capabilities
        },
    }


def render(found: Plain) -> RenderableType:
    """`gather` for people."""
    facts = Table.grid(padding=(0, 2))
    for name in ("broker", "decisions", "settled", "open", "dead_letters", "versions"):
        value = found[name]
        facts.add_row(name.replace("_", " "), f"{value:,}" if isinstance(value, int) else value)
    for name, lag in found["lag"].items():
        facts.add_row(f"lag of {name}", f"{lag:,} records")
    _add_sink(facts, found["sink"])
    champion = found["champion"] or "none yet: the scripted pack plays"
    if found["champion"]:
        rate, low = found["champion_win_rate"], found["champion_lower95"]
        champion += f", wins {rate:.0%} (at least {low:.0%}) by its gate"
    facts.add_row("champion", champion)
    table = Table("process", "state", "pid", "starts", "log", box=None, header_style="dim")
    for row in found["processes"]:
        pid = str(row["pid"] or "-")
        table.add_row(row["name"], row["state"], pid, str(row["n_starts"]), row["log"])
    empty = Text("no process was started by `grindstone up` here", style="dim")
    return Group(facts, Text(""), table if found["processes"] else empty)


def _add_sink(facts: Table, sink: Plain | None) -> None:
    if sink is None:
        return
    if "error" in sink:
        facts.add_row("database", f"{sink['database']} is away: {sink['error']}")
        return
    can = ", ".join(f"{name} {found['state']}" for name, found in sink["capabilities"].items())
    rows = f"{sink['rows']:,} rows, lag {sink['lag']:,} records"
    facts.add_row("database", f"{sink['database']}, {rows}")
    facts.add_row("", can.replace("_", " "))


def read_processes(run_dir: Path) -> list[Plain]:
    """What `up` or a demo wrote about its processes; those that are gone are shown as gone."""
    try:
        rows = msgspec.json.decode((run_dir / PROCESSES_FILE).read_bytes())["children"]
    except (FileNotFoundError, msgspec.DecodeError, KeyError):
        return []
    for row in rows:
        if row["pid"] is not None and not Path(f"/proc/{row['pid']}").exists():
            row["state"], row["pid"] = "gone", None
    return list(rows)


def write_processes(run_dir: Path, children: list[Plain]) -> None:
    """Keeps the list of processes for `status` and `down`."""
    run_dir.mkdir(parents=True, exist_ok=True)
    aside = run_dir / f"{PROCESSES_FILE}.part"
    aside.write_bytes(msgspec.json.encode({"supervisor": os.getpid(), "children": children}))
    aside.replace(run_dir / PROCESSES_FILE)


async def describe_topics(settings: Settings, make: bool = False) -> list[Plain]:
    """Each of our topics: partitions, records, clean-up, retention; `make` makes those absent."""
    if make:
        from infra.processes import ensure_topics

        await ensure_topics(settings)
    found = []
    async with Look(settings.kafka) as look:
        for spec in settings.topics.specs(settings.partitions):
            starts, ends = await look.starts(spec.name), await look.ends(spec.name)
            plain: Plain = msgspec.to_builtins(spec)
            plain["exists"] = bool(ends)
            plain["partitions"] = len(ends) if ends else spec.partitions
            plain["offsets"] = sum(ends.values()) - sum(starts.values())
            found.append(plain)
    return found


def render_topics(found: list[Plain]) -> Table:
    """`describe_topics` for people."""
    table = Table("topic", "partitions", "offsets", "clean-up", "kept", "holds", box=None)
    for row in found:
        kept = "for ever" if row["retention_ms"] < 0 else f"{row['retention_ms'] / 3.6e6:.0f} h"
        offsets = f"{row['offsets']:,}" if row["exists"] else "absent"
        parts = str(row["partitions"])
        table.add_row(row["name"], parts, offsets, row["cleanup"], kept, row["purpose"])
    return table


async def list_models(settings: Settings) -> list[Plain]:
    """Every version in the order of its registration, with fate, reasons, matches and lineage."""
    versions: dict[tuple[str, str], Plain] = {}
    async with Look(settings.kafka) as look:
        async for record in look.read_all(settings.topics.models):
            _tell(versions, model_event(record.value))
    return list(versions.values())


def _tell(versions: dict[tuple[str, str], Plain], event: object) -> None:
    if isinstance(event, Registered):
        lineage: Plain = msgspec.to_builtins(event)
        row = {name: lineage.pop(name) for name in ("model", "version", "game", "archetype")}
        versions[event.model, event.version] = {**row, "fate": "registered", "lineage": lineage}
        return
    if not isinstance(event, Evaluation | Champion | Rejected):
        return
    known = versions.setdefault(
        (event.model, event.version), {"model": event.model, "version": event.version}
    )
    if isinstance(event, Evaluation):
        known.setdefault("fate", "evaluated")
        if event.error:
            known.update(fate="unplayable", reasons=[event.error])
        record = record_of(event)
        if record is not None:
            known.update(wins=record.wins, matches=record.n)
    else:
        fate = "champion" if isinstance(event, Champion) else "rejected"
        known.update(fate=fate, reasons=event.reasons)


def render_models(found: list[Plain], lineage: bool) -> RenderableType:
    """`list_models` for people."""
    if not found:
        return Text("no version has been registered yet", style="dim")
    table = Table("version", "fate", "wins", "95 % interval", "matches", "updates", "why", box=None)
    for row in found:
        wins, n = row.get("wins", 0), row.get("matches", 0)
        low, high = wilson(wins, n)
        table.add_row(
            f"{row['model']}/{row['version']}",
            row.get("fate", "?"),
            f"{wins / n:.0%}" if n else "-",
            f"{low:.0%}-{high:.0%}" if n else "-",
            str(n),
            f"{row.get('lineage', {}).get('n_updates', 0):,}",
            "; ".join(row.get("reasons", [])),
        )
    if not lineage:
        return table
    parts = [
        Text(f"{r['model']}/{r['version']}: {msgspec.json.encode(r.get('lineage')).decode()}")
        for r in found
    ]
    return Group(table, *parts)
