"""The second sink: settled experience as rows of TimescaleDB, or of PostgreSQL without it."""

from streams.timescale.errors import DatabaseError
from streams.timescale.service import Sink, SinkSettings, SinkStats, run_sink
from streams.timescale.store import Store, look, stored_digests, stored_rows, window_digest

__all__ = [
    "DatabaseError",
    "Sink",
    "SinkSettings",
    "SinkStats",
    "Store",
    "look",
    "run_sink",
    "stored_digests",
    "stored_rows",
    "window_digest",
]
