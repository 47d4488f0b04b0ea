"""Rows of a topic or an archive picked out again: to a file, to a stream, with a digest."""

from streams.replay.digest import RowSetDigest
from streams.replay.run import Count, replay_archive, replay_topic, summary
from streams.replay.selection import Selection
from streams.replay.sinks import JsonLines, ParquetRows, ReplayError, Sink

__all__ = [
    "Count",
    "JsonLines",
    "ParquetRows",
    "ReplayError",
    "RowSetDigest",
    "Selection",
    "Sink",
    "replay_archive",
    "replay_topic",
    "summary",
]
