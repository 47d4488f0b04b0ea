"""The archiver: sealed windows of experience as Parquet files, each announced once."""

from streams.archiver.service import Archiver, ArchiverSettings, ArchiverStats, run_archiver
from streams.archiver.store import ArchiveError, ArchiveStore

__all__ = [
    "ArchiveError",
    "ArchiveStore",
    "Archiver",
    "ArchiverSettings",
    "ArchiverStats",
    "run_archiver",
]
