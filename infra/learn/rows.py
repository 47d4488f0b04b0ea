"""Rows to begin with: scripted play of the arena, recorded once and kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infra.code_version import code_version

if TYPE_CHECKING:
    from schemas.practice import Episodes, Layout, Practice

DIFFICULTY = 2


def make_world(archetypes: Sequence[str]) -> Practice:
    """Return the arena for some archetypes, in their order."""
    from games.arena.practice import ArenaPractice

    return ArenaPractice(archetypes)


def make_layout() -> Layout:
    """Return the arena's sizes."""
    from games.arena.practice import ArenaLayout

    return ArenaLayout()


def rows_folder(data: Path, archetype: str, samples: int, seed: int, maps: bool) -> Path:
    """Return where an archetype's bootstrap rows are kept."""
    name = f"{archetype}-{samples}-{seed}{'-maps' if maps else ''}"
    return data / "learn" / "rows" / name


def ensure_rows(
    data: Path,
    archetypes: Sequence[str],
    samples: int,
    seed: int,
    maps: bool,
    on_recorded: Callable[[str], None] = lambda archetype: None,
) -> dict[str, Path]:
    """Return folders with the rows of each archetype; what is not there yet is recorded."""
    from learners.training.rows import rows_made_from, write_rows

    found = {}
    for archetype in archetypes:
        folder = rows_folder(data, archetype, samples, seed, maps)
        wanted = made_from(archetype, samples, seed, maps)
        if rows_made_from(folder) != wanted:
            write_rows(folder, record(archetype, samples, seed, maps), wanted)
            on_recorded(archetype)
        found[archetype] = folder
    return found


def made_from(archetype: str, samples: int, seed: int, maps: bool) -> dict[str, Any]:
    """Return all that decides the rows."""
    return {
        "source": "arena", "archetype": archetype, "samples": samples, "seed": seed,
        "maps": maps, "difficulty": DIFFICULTY, "code_version": code_version(),
    }  # fmt: skip


def record(archetype: str, samples: int, seed: int, maps: bool) -> Episodes:
    """Return rows of an archetype's scripted play, straying from it now and then."""
    from games.arena.practice import ArenaPractice
    from games.arena.record import episodes

    return episodes(
        ArenaPractice([archetype]), samples, seed, difficulty=DIFFICULTY, maps=maps
    )[archetype]  # fmt: skip
