"""Versions written again in another form, verified against torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from infra.learn.judged import fresh_rows
from infra.learn.rows import make_layout

EPISODES = 20
"""Episodes of new play whose rows an export is verified and timed with."""


class Exported(msgspec.Struct, frozen=True, kw_only=True):
    """One file that was written."""

    model: str
    version: str
    form: str
    path: str
    n_bytes: int
    sha256: str
    forms: list[dict[str, Any]]
    """What was measured of each form that was made; none without --verify."""


def export(
    folders: Sequence[Path],
    forms: Sequence[str],
    out: Path,
    seed: int,
    *,
    optimise: bool,
    verify: bool,
) -> list[Exported]:
    """Write the graphs of versions below a folder; the versions themselves stay as they are.

    Raises:
        ExportError: no form that was asked for is near enough to torch.
    """
    from infra.fresh import put_file
    from learners.export import file_of
    from learners.exporting import FORMS
    from learners.training.deliver import Renderer, Wanted, load_stack, read_version

    layout = make_layout()
    wanted = Wanted(
        forms=tuple(f for f in FORMS if f in forms), optimise=optimise, verify=verify,
        by_speed=len(forms) > 1,
    )  # fmt: skip
    found = []
    for folder in folders:
        info = read_version(folder)
        fit, rows = fresh_rows(info.type, info.archetype, EPISODES, seed)
        stack = load_stack([folder], layout, rows=[fit])
        rendered = Renderer(info.plan.kind, layout, stack).render(0, rows, wanted)
        path = out / info.model / f"{info.version}.{rendered.form}.onnx"
        put_file(path, rendered.model)
        file = file_of(str(path), rendered.model)
        found.append(
            Exported(
                model=info.model, version=info.version, form=rendered.form, path=str(path),
                n_bytes=file.n_bytes, sha256=file.sha256,
                forms=[msgspec.to_builtins(m) for m in rendered.measured],
            )
        )  # fmt: skip
    return found


def render_text(found: Sequence[Exported]) -> Any:
    """Return what was exported as a table for a terminal."""
    from rich.table import Table

    columns = ("model", "version", "form", "bytes", "agreement", "max error", "p50 ms", "")
    table = Table(*columns, box=None)
    for one in found:
        for form in one.forms or [{"form": one.form, "n_bytes": one.n_bytes}]:
            table.add_row(
                one.model, one.version, form["form"], f"{form['n_bytes']:,}",
                f"{form['agreement']:.4f}" if "agreement" in form else "-",
                f"{form['max_error']:.2g}" if "max_error" in form else "-",
                f"{form['latency_p50_ms']:.3f}" if "latency_p50_ms" in form else "-",
                one.path if form["form"] == one.form else "",
            )  # fmt: skip
    return table
