"""The state file of a partition: how far it is archived. It owns the offset, Kafka does not."""

from __future__ import annotations

import msgspec

from streams.archiver.store import ArchiveError, ArchiveStore
from streams.archiver.windows import Progress


class StateFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is stored; `topic` tells two logs apart that share an archive by mistake."""

    v: int = 1
    topic: str
    progress: Progress


_decode = msgspec.json.Decoder(StateFile).decode
_encode = msgspec.json.Encoder(order="deterministic").encode


def state_path(topic: str, partition: int) -> str:
    """Return the path of a partition's state file below the archive's root."""
    return f"_state/{topic}-p{partition}.json"


def load_progress(store: ArchiveStore, topic: str, partition: int) -> Progress | None:
    """Return how far a partition is archived; None when it was never.

    Raises:
        ArchiveError: the file is damaged or of another version or topic.
    """
    path = state_path(topic, partition)
    data = store.get(path)
    if data is None:
        return None
    try:
        state = _decode(data)
    except msgspec.MsgspecError as error:
        msg = (
            f"{path} must be an archiver's state; got {error}: remove it to archive from the start"
        )
        raise ArchiveError(msg) from error
    if (state.v, state.topic, state.progress.partition) != (1, topic, partition):
        msg = f"{path} must be version 1 of {topic} partition {partition}; got {data[:80]!r}"
        raise ArchiveError(msg)
    return state.progress


def save_progress(store: ArchiveStore, topic: str, progress: Progress) -> bool:
    """Store how far a partition is archived; False when another archiver is further already.

    That one took the partition over while this one was stopped. Windows are a function of the log,
    so a lost race would cost a second reading and nothing else.
    """
    stored = load_progress(store, topic, progress.partition)
    if stored is not None and stored.place.next_offset > progress.place.next_offset:
        return False
    state = StateFile(topic=topic, progress=progress)
    store.put(state_path(topic, progress.partition), _encode(state))
    return True
