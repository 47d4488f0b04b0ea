"""Makes the topics before anything uses them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import msgspec
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from schemas.kafka import KafkaSettings
from schemas.starting import start
from schemas.topics import TopicSpec

_LOOK_AGAIN_S = 0.05
_COMPACT = {
    "min.cleanable.dirty.ratio": "0.1",  # states change often; recovery reads what is left
    "segment.ms": "3600000",  # only closed segments are compacted
}


class TopicError(RuntimeError):
    """A topic is not as it must be, or could not be made."""


class TopicsMade(msgspec.Struct, frozen=True):
    """What `ensure_topics` found."""

    created: tuple[str, ...]
    existing: tuple[str, ...]


async def ensure_topics(
    kafka: KafkaSettings,
    specs: Sequence[TopicSpec],
    *,
    replication: int | None = None,
    timeout_s: float = 30.0,
) -> TopicsMade:
    """Create the topics that are absent and wait until every partition has a leader.

    Args:
        kafka: the brokers.
        specs: what is wanted.
        replication: copies of each partition; None makes three, or one a broker if there are fewer.
        timeout_s: how long topics may take to get their leaders.

    Raises:
        TopicError: a topic has another number of partitions (which partition a key goes to would
            change), was refused, or has no leader in time.
    """
    admin = AIOKafkaAdminClient(**kafka.client())
    try:
        await start(admin)
        wanted = {spec.name: spec for spec in specs}
        found = await _partitions(admin, list(wanted))
        for name, partitions in found.items():
            _check_count(wanted[name], len(partitions))
        missing = [spec for spec in specs if spec.name not in found]
        if missing:
            await _create(admin, missing, replication)
        await _wait_for_leaders(admin, wanted, timeout_s)
    except KafkaError as error:
        msg = f"topics could not be made at {kafka.bootstrap_servers}: {error!r}"
        raise TopicError(msg) from error
    finally:
        await admin.close()
    names = {spec.name for spec in missing}
    return TopicsMade(
        tuple(spec.name for spec in missing),
        tuple(spec.name for spec in specs if spec.name not in names),
    )


def topic_config(spec: TopicSpec) -> dict[str, str]:
    """Return the broker's settings of a topic."""
    config: dict[str, str] = {
        "cleanup.policy": spec.cleanup,
        # The broker's clock, not the producer's: a game whose clock is wrong is seen against it.
        "message.timestamp.type": "LogAppendTime",
    }
    if spec.cleanup == "compact":
        config.update(_COMPACT)
    else:
        config["retention.ms"] = str(spec.retention_ms)
    return config


async def _create(admin: Any, specs: Sequence[TopicSpec], replication: int | None) -> None:
    copies = replication or min(3, len((await admin.describe_cluster())["brokers"]))
    new = [
        NewTopic(spec.name, spec.partitions, copies, topic_configs=topic_config(spec))
        for spec in specs
    ]
    answer = await admin.create_topics(new)
    for name, code, *why in answer.topic_errors:
        error = for_code(code)
        if code and error is not TopicAlreadyExistsError:  # another process made it meanwhile
            msg = f"topic {name} could not be created: {error.__name__} {why[0] if why else ''}"
            raise TopicError(msg)


async def _partitions(admin: Any, names: list[str]) -> dict[str, list[dict[str, Any]]]:
    """Return the partitions' metadata of the topics that exist."""
    existing = set(await admin.list_topics())
    names = [name for name in names if name in existing]  # asking for others could create them
    topics = await admin.describe_topics(names) if names else []
    return {t["topic"]: t["partitions"] for t in topics if not t["error_code"]}


async def _wait_for_leaders(admin: Any, wanted: dict[str, TopicSpec], timeout_s: float) -> None:
    until = time.monotonic() + timeout_s
    while True:
        found = await _partitions(admin, list(wanted))
        late = [
            name
            for name in wanted
            if name not in found
            or not found[name]
            or any(p["error_code"] or p["leader"] < 0 for p in found[name])
        ]
        if not late:
            break
        if time.monotonic() > until:
            msg = f"topics must have leaders within {timeout_s:.0f} s; got none for {late}"
            raise TopicError(msg)
        await asyncio.sleep(_LOOK_AGAIN_S)
    for name, partitions in found.items():
        _check_count(wanted[name], len(partitions))


def _check_count(spec: TopicSpec, got: int) -> None:
    if got != spec.partitions:
        msg = (
            f"topic {spec.name} must have {spec.partitions} partitions; got {got} "
            "(set the number of partitions to that, or delete the topic with its data)"
        )
        raise TopicError(msg)
