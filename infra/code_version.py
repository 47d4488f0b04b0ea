"""Which code made something: the release's number and a digest of the sources."""

import hashlib
import importlib.metadata
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("schemas", "streams", "agents", "learners", "games", "infra")


@cache
def code_version() -> str:
    """`0.1.0+1f2e3d4c5b6a`: equal exactly when the release and every source file are equal."""
    try:
        release = importlib.metadata.version("grindstone")
    except importlib.metadata.PackageNotFoundError:
        release = "0"  # run from the folder without being installed
    digest = hashlib.sha256()
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            digest.update(f"{path.relative_to(ROOT)}\0".encode())
            digest.update(path.read_bytes() + b"\0")
    return f"{release}+{digest.hexdigest()[:12]}"
