"""Scalars for TensorBoard: event files, written without TensorBoard.

An event file is a TFRecord file: length, masked CRC-32C of it, a message, masked CRC-32C of that.
The message is `tensorflow.Event` of TensorFlow's event.proto: wall_time = 1 (double), step = 2
(int64), file_version = 3 (string), summary = 5 holding Summary.Value = 1 with tag = 1 (string) and
simple_value = 2 (float). Those six fields have not changed since 2015, and the packages that write
them bring a thread and ten megabytes.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Self

_POLYNOMIAL = 0x82F63B78
"""CRC-32C (Castagnoli), reflected: RFC 3720, appendix B.4."""


class ScalarWriter:
    """Appends scalars to an event file of its own; every call ends on whole records."""

    def __init__(self, folder: Path, time_s: float) -> None:
        """Begin a file below ``folder``; TensorBoard joins the files of a folder to one run."""
        folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{int(time_s):010d}.grindstone.{os.getpid()}"
        self._file = (folder / name).open("ab")
        if self._file.tell() == 0:
            version = b"brain.Event:2"
            self._write(_double(1, time_s) + _bytes(3, version))
            self._file.flush()

    def add(self, step: int, values: Mapping[str, float], time_s: float) -> None:
        """Write values by tag at a step."""
        if not values:
            return
        summary = b"".join(
            _bytes(1, _bytes(1, tag.encode()) + _float(2, value)) for tag, value in values.items()
        )
        self._write(_double(1, time_s) + b"\x10" + _varint(step) + _bytes(5, summary))
        self._file.flush()

    def _write(self, message: bytes) -> None:
        length = struct.pack("<Q", len(message))
        parts = (length, _masked(length), message, _masked(message))
        self._file.write(b"".join(parts))

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the file."""
        self.close()


def _varint(value: int) -> bytes:
    """Return a protobuf varint of a number >= 0."""
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)


def _bytes(field: int, value: bytes) -> bytes:
    return bytes([field << 3 | 2]) + _varint(len(value)) + value


def _double(field: int, value: float) -> bytes:
    return bytes([field << 3 | 1]) + struct.pack("<d", value)


def _float(field: int, value: float) -> bytes:
    return bytes([field << 3 | 5]) + struct.pack("<f", value)


@cache
def _table() -> list[int]:
    found = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (_POLYNOMIAL if value & 1 else 0)
        found.append(value)
    return found


def crc32c(data: bytes) -> int:
    """Return the CRC-32C of bytes."""
    table, crc = _table(), 0xFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def _masked(data: bytes) -> bytes:
    """Return TFRecord's masked CRC: rotated by 15 bits and moved on by a constant."""
    crc = crc32c(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)
