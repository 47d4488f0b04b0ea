"""A model version's folder, verified before anything in it is used.

The folder holds `model.onnx`, `weights.safetensors` and `manifest.json`; the manifest lists the
size and SHA-256 of each file as `{"files": {"model.onnx": {"sha256": ..., "bytes": ...}}}`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final

import msgspec

MODEL_FILE: Final = "model.onnx"
MANIFEST_FILE: Final = "manifest.json"
MAX_FILE_BYTES: Final = 1_000_000_000
"""A file beyond this is refused unread; the largest network of a pack has a few MB."""
MAX_MANIFEST_BYTES: Final = 1_000_000


class PolicyError(ValueError):
    """A model cannot be served: `<path> must be <rule>; got <value>`."""


class _File(msgspec.Struct, frozen=True):
    sha256: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
    bytes: Annotated[int, msgspec.Meta(ge=0)]


class _Manifest(msgspec.Struct, frozen=True):
    files: dict[str, _File]


def verified_model(folder: Path, announced: Mapping[str, str] | None = None) -> bytes:
    """Returns the bytes of `model.onnx` once every file of the folder has proved to be right.

    `announced` maps file names to the SHA-256 that the model's event gave; what it names must
    have that digest, so that a folder replaced as a whole is noticed too. The bytes returned are
    those that were hashed. Raises PolicyError naming the first culprit.
    """
    manifest = _read_manifest(folder)
    if MODEL_FILE not in manifest.files:
        raise _refusal(folder / MANIFEST_FILE, f"a manifest of {MODEL_FILE}", [*manifest.files])
    contents = {}
    for name, listed in sorted(manifest.files.items()):
        contents[name] = _checked(folder, name, listed)
    for name, digest in (announced or {}).items():
        if name == MANIFEST_FILE:
            got = hashlib.sha256(_read(folder / name, MAX_MANIFEST_BYTES)).hexdigest()
        else:
            got = manifest.files[name].sha256 if name in manifest.files else "no such file"
        if got != digest:
            raise _refusal(folder / name, f"the announced file of SHA-256 {digest}", got)
    return contents[MODEL_FILE]


def _read_manifest(folder: Path) -> _Manifest:
    path = folder / MANIFEST_FILE
    try:
        return msgspec.json.decode(_read(path, MAX_MANIFEST_BYTES), type=_Manifest)
    except msgspec.DecodeError as error:
        raise _refusal(path, "a manifest of files with sha256 and bytes", error) from error


def _checked(folder: Path, name: str, listed: _File) -> bytes:
    path = folder / name
    if Path(name).name != name or name in ("", ".", ".."):
        raise _refusal(folder / MANIFEST_FILE, "a list of plain file names", repr(name))
    content = _read(path, MAX_FILE_BYTES)
    if len(content) != listed.bytes:
        raise _refusal(path, f"{listed.bytes} bytes by its manifest", f"{len(content)} bytes")
    digest = hashlib.sha256(content).hexdigest()
    if digest != listed.sha256:
        raise _refusal(path, f"of SHA-256 {listed.sha256} by its manifest", digest)
    return content


def _read(path: Path, limit: int) -> bytes:
    try:
        size = path.stat().st_size
        if size > limit:
            raise _refusal(path, f"a file of at most {limit} bytes", f"{size} bytes")
        return path.read_bytes()
    except OSError as error:
        raise _refusal(path, "a readable file", error) from error


def _refusal(path: Path, rule: str, got: object) -> PolicyError:
    return PolicyError(f"{path} must be {rule}; got {got}")
