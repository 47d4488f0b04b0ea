"""What an engine application may be told, and the limits that protect it."""

from __future__ import annotations

import msgspec

from schemas.limits import MAX_RECORD_BYTES


class EngineError(RuntimeError):
    """The engine met what it must not go on from: bad state, a refused write, lost input."""


class EngineSettings(msgspec.Struct, frozen=True, kw_only=True):
    """One engine application: what it reads, writes and how far it may go.

    Raises:
        ValueError: a value is out of its range.
    """

    app: str
    """Consumer group, and prefix of the transactional ids ``{app}-{partition}``."""
    source: str
    """The topic that is folded."""
    changelog: str
    """The compacted topic behind the table; as many partitions as ``source``."""
    outputs: tuple[str, ...] = ()
    """Topics that the fold may write to; an output to any other ends the process."""

    batch_records: int = 2_000
    """Most records of a batch; 2,000 is the knee of throughput against latency."""
    batch_bytes: int = 8_000_000
    """Most bytes of keys and values of a batch; one larger record is still a batch of its own.
    After a take-over batches begin small, and they shrink where a fold takes long."""
    batches_out: int = 2
    """Batches of a partition between source and commit; above two nothing is gained."""
    channel_batches: int = 8
    """Batches that may wait for the agent, over all partitions."""

    max_state_bytes: int = 900_000
    """Largest state of one key."""
    max_record_bytes: int = MAX_RECORD_BYTES
    """Largest output record; raise it with the broker's and topic's ``max.message.bytes``."""
    produce_batch_bytes: int = 900_000
    """Size of the batches that records are written in; a larger record goes in one of its own."""
    compression: str | None = "lz4"
    """Observations are sparse floats, which lz4 shrinks five to twenty times for little CPU."""

    session_timeout_ms: int = 10_000
    """A worker silent for this long loses its partitions."""
    heartbeat_ms: int = 1_000
    rebalance_timeout_ms: int = 60_000
    transaction_timeout_ms: int = 60_000
    """The broker aborts a transaction that is open for longer."""
    commit_limit_ms: int = 45_000
    """A commit that takes longer ends the process; below ``transaction_timeout_ms``."""
    slow_ms: int = 2_000
    """A fold or commit that takes longer is logged."""
    request_timeout_ms: int = 20_000
    fetch_wait_ms: int = 100
    """How long the broker may hold a fetch without data; bounds the wait of a busy partition."""
    fetch_min_bytes: int = 1
    """The broker waits for so much, or for ``fetch_wait_ms``: fewer and larger transactions, for
    latency. With 1 a record is folded at once."""
    partition_fetch_bytes: int = 1_048_576
    group_commit_ms: int = 1_000
    """How often offsets are committed to the group, for lag only."""
    stop_timeout_ms: int = 3_000
    """How long a clean stop waits for commits; what is open then is aborted by the next owner."""
    instance_id: str | None = None
    """Static membership: a restart takes its partitions back at once, a stop gives none away."""
    accept_lost_input: bool = False
    """Go on although retention removed records that were never folded."""

    def __post_init__(self) -> None:
        for name in ("app", "source", "changelog"):
            if not getattr(self, name):
                msg = f"engine.{name} must be a name; got ''"
                raise ValueError(msg)
        for name, low, high in (
            ("batch_records", 1, 100_000),
            ("batch_bytes", 1_000, 2**31),
            ("batches_out", 1, 2),
            ("channel_batches", 1, 1_000),
            ("max_state_bytes", 1, self.max_record_bytes),
            ("produce_batch_bytes", 1_000, 2**31),
            ("heartbeat_ms", 100, self.session_timeout_ms // 2),
            ("rebalance_timeout_ms", self.session_timeout_ms, 3_600_000),
            ("commit_limit_ms", 100, self.transaction_timeout_ms - 1),
            ("slow_ms", 1, 3_600_000),
            ("fetch_wait_ms", 1, 10_000),
            ("fetch_min_bytes", 1, 2**31),
            ("group_commit_ms", 10, 3_600_000),
            ("stop_timeout_ms", 1, 60_000),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                msg = f"engine.{name} must be from {low} to {high}; got {value}"
                raise ValueError(msg)
        if self.compression not in (None, "lz4", "zstd", "gzip", "snappy"):
            known = "lz4, zstd, gzip, snappy or None"
            msg = f"engine.compression must be {known}; got {self.compression!r}"
            raise ValueError(msg)
