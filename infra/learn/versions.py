"""Names and folders of the versions that trainings make."""

from __future__ import annotations

import re
from pathlib import Path

from schemas.errors import refuse, shown

_NUMBER = re.compile(r"^v(\d{4,})$")


def model_name(kind: str, archetype: str) -> str:
    """Return the name of the model of a type for an archetype of the arena."""
    return f"arena-{archetype}-{kind}"


def versions(models: Path, model: str) -> list[Path]:
    """Return a model's versions, the newest last."""
    folder = models / model
    if not folder.is_dir():
        return []
    found = [p for p in folder.iterdir() if _NUMBER.match(p.name) and p.is_dir()]
    return sorted(found, key=lambda path: int(path.name[1:]))


def free_folder(models: Path, model: str) -> Path:
    """Return the folder of a model's next version."""
    there = versions(models, model)
    number = int(there[-1].name[1:]) + 1 if there else 1
    return models / model / f"v{number:04d}"


def find_version(models: Path, name: str, option: str = "NAME@V") -> Path:
    """Return the folder of `NAME@V`, or of the newest version of `NAME`.

    Raises:
        SchemaError: there is none.
    """
    model, _, version = name.partition("@")
    there = versions(models, model)
    if version:
        number = version.removeprefix("v")
        there = [p for p in there if number.isdigit() and int(p.name[1:]) == int(number)]
    if not there:
        known = sorted(p.name for p in models.iterdir() if p.is_dir()) if models.is_dir() else []
        some = f"a version below {models} ({', '.join(known[:6]) or 'there is none'})"
        refuse(option, some, shown(name))
    return there[-1]
