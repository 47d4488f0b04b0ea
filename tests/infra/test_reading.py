"""What a look at the log does while a broker is not ready."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    GroupCoordinatorNotAvailableError,
    KafkaConnectionError,
    KafkaError,
)

from infra import reading
from infra.reading import Look
from schemas.kafka import KafkaSettings

AT = TopicPartition("events", 3)


class Admin:
    """Fails so many times before it tells."""

    def __init__(self, n_failures: int, error: type[KafkaError]) -> None:
        self.left, self.error = n_failures, error

    async def list_consumer_group_offsets(self, group: str) -> dict[TopicPartition, Any]:
        if self.left:
            self.left -= 1
            raise self.error(group)
        return {
            AT: SimpleNamespace(offset=7),
            TopicPartition("events", 4): SimpleNamespace(offset=-1),
        }


async def asked(admin: Admin) -> dict[TopicPartition, int]:
    look = Look(KafkaSettings())
    look._admin = admin
    try:
        return await look.group_offsets("rewards")
    finally:
        await look._consumer.stop()


def test_a_coordinator_that_is_not_there_yet_is_asked_for_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reading, "ASK_AGAIN_S", 0.0)
    admin = Admin(3, GroupCoordinatorNotAvailableError)
    assert asyncio.run(asked(admin)) == {AT: 7}
    assert admin.left == 0


def test_one_that_never_comes_is_said_to_be_no_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "COORDINATOR_S", 0.0)
    admin = Admin(9, GroupCoordinatorNotAvailableError)
    with pytest.raises(KafkaConnectionError, match="no coordinator of group rewards within 0 s"):
        asyncio.run(asked(admin))


def test_what_asking_again_does_not_mend_is_raised() -> None:
    admin = Admin(9, GroupAuthorizationFailedError)
    with pytest.raises(GroupAuthorizationFailedError):
        asyncio.run(asked(admin))
    assert admin.left == 8
