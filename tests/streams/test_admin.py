from __future__ import annotations

import asyncio

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from schemas.kafka import KafkaSettings
from schemas.topics import Topics, TopicSpec
from streams.admin import TopicError, ensure_topics, topic_config


def test_topic_config_compacts_or_expires() -> None:
    keep = TopicSpec(name="a", partitions=1, cleanup="delete", retention_ms=7)
    compact = TopicSpec(name="b", partitions=1, cleanup="compact")
    assert topic_config(keep) == {
        "cleanup.policy": "delete",
        "retention.ms": "7",
        "message.timestamp.type": "LogAppendTime",
    }
    assert topic_config(compact)["cleanup.policy"] == "compact"
    assert "retention.ms" not in topic_config(compact)


@pytest.mark.integration
def test_ensure_topics_creates_once_and_with_the_settings(broker: str, topics_prefix: str) -> None:
    async def main() -> None:
        kafka = KafkaSettings(bootstrap_servers=broker)
        specs = Topics(topics_prefix).specs(3)
        made = await ensure_topics(kafka, specs)
        assert set(made.created) == {spec.name for spec in specs}
        again = await ensure_topics(kafka, specs)
        assert again.created == ()
        assert set(again.existing) == {spec.name for spec in specs}
        name = Topics(topics_prefix).dead_letters
        admin = AIOKafkaAdminClient(bootstrap_servers=broker)
        await admin.start()
        try:
            resource = ConfigResource(ConfigResourceType.TOPIC, name, {"retention.ms": ""})
            (answer,) = await admin.describe_configs([resource])
        finally:
            await admin.close()
        values = {entry[0]: entry[1] for entry in answer.resources[0][4]}
        assert values["retention.ms"] == str(90 * 24 * 3_600_000)

    asyncio.run(main())


@pytest.mark.integration
def test_ensure_topics_refuses_another_number_of_partitions(
    broker: str, topics_prefix: str
) -> None:
    async def main() -> None:
        kafka = KafkaSettings(bootstrap_servers=broker)
        name = f"{topics_prefix}x"
        await ensure_topics(kafka, [TopicSpec(name=name, partitions=2, cleanup="delete")])
        with pytest.raises(TopicError, match=f"topic {name} must have 3 partitions; got 2"):
            await ensure_topics(kafka, [TopicSpec(name=name, partitions=3, cleanup="delete")])

    asyncio.run(main())


@pytest.mark.integration
def test_ensure_topics_names_what_the_broker_refuses(broker: str) -> None:
    kafka = KafkaSettings(bootstrap_servers=broker)
    bad = TopicSpec(name="no spaces", partitions=1, cleanup="delete")
    with pytest.raises(TopicError, match="topic no spaces could not be created"):
        asyncio.run(ensure_topics(kafka, [bad]))


def test_ensure_topics_says_where_no_broker_answers() -> None:
    kafka = KafkaSettings(bootstrap_servers="127.0.0.1:1")
    with pytest.raises(TopicError, match=r"at 127\.0\.0\.1:1"):
        asyncio.run(ensure_topics(kafka, []))
