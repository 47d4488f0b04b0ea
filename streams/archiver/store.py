"""Where archives lie: a local folder or an object store, by URL, through `pyarrow.fs`."""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import Self

from pyarrow import fs


class ArchiveError(RuntimeError):
    """An archive or the log behind it is not what it must be; the message says what to do."""


class ArchiveStore:
    """Files of an archive. A file is there whole or not at all, whatever is killed.

    Locally a file is written aside, synced and renamed; object stores put whole objects.
    """

    def __init__(self, filesystem: fs.FileSystem, root: str) -> None:
        self._fs = filesystem
        self._root = root.rstrip("/")
        self._local = isinstance(filesystem, fs.LocalFileSystem)

    @classmethod
    def open(cls, url: str) -> Self:
        """Return the store at ``file:///folder``, a plain path, ``s3://bucket/prefix``, ...

        Raises:
            ArchiveError: `pyarrow.fs` does not know the URL.
        """
        if "://" not in url:
            url = Path(url).absolute().as_uri()
        try:
            filesystem, root = fs.FileSystem.from_uri(url)
        except (OSError, ValueError) as error:
            msg = f"archive_url must be a folder or a URL that pyarrow.fs opens; got {url}: {error}"
            raise ArchiveError(msg) from error
        return cls(filesystem, root)

    def put(self, path: str, data: bytes) -> None:
        """Write a file, in place of an older one. The parent folders are made."""
        full = f"{self._root}/{path}"
        if self._local:
            _put_local(Path(full), data)
            return
        with self._fs.open_output_stream(full) as stream:
            stream.write(data)

    def get(self, path: str) -> bytes | None:
        """Return the bytes of a file; None when there is none."""
        try:
            with self._fs.open_input_stream(f"{self._root}/{path}", compression=None) as stream:
                return bytes(stream.readall())
        except FileNotFoundError:
            return None

    def names(self, folder: str, suffix: str) -> list[str]:
        """Return the paths below a folder that end so, sorted; none when it does not exist."""
        selector = fs.FileSelector(
            f"{self._root}/{folder}".rstrip("/"), recursive=True, allow_not_found=True
        )
        skip = len(self._root) + 1
        infos = self._fs.get_file_info(selector)
        return sorted(i.path[skip:] for i in infos if i.is_file and i.path.endswith(suffix))


def _put_local(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")  # of no one else, anywhere
    try:
        with aside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the new name must survive a power cut, too
    finally:
        os.close(folder)
