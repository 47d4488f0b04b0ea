from __future__ import annotations

from typing import Any

import pytest

from schemas.errors import SchemaError
from schemas.kafka import KafkaSettings
from streams.engine import OFFSET_KEY, EngineError, EngineSettings, Record
from streams.engine.records import Batch
from streams.engine.table import StateTable, pack_offset
from tests.streams.enginekit import FakeCommitter, Script, app_settings, ready_part, record


def test_table_applies_changes_and_removals() -> None:
    table = StateTable()
    table.apply({b"a": b"1", b"b": b"2"})
    table.apply({b"a": b"3", b"b": None, b"never": None})
    assert dict(table.view) == {b"a": b"3"}


def test_table_loads_what_the_changelog_holds() -> None:
    table = StateTable()
    assert table.last == -1
    log = ((b"a", b"1"), (OFFSET_KEY, pack_offset(41)), (b"a", None), (b"b", b"2"))
    table.load(Record(0, offset, 0, key, value) for offset, (key, value) in enumerate(log))
    assert dict(table.view) == {b"b": b"2"}
    assert table.last == 41


@pytest.mark.parametrize(("key", "value"), [(None, b"x"), (OFFSET_KEY, None), (OFFSET_KEY, b"1")])
def test_table_refuses_what_no_engine_wrote(key: bytes | None, value: bytes | None) -> None:
    with pytest.raises(EngineError, match="must"):
        StateTable().load([Record(0, 0, 0, key, value)])


def test_table_view_is_read_only() -> None:
    with pytest.raises(TypeError):
        StateTable().view[b"a"] = b"1"  # type: ignore[index]


def test_part_gives_up_what_is_not_folded_when_it_is_quiesced() -> None:
    part = ready_part(Script(), FakeCommitter(), want=10)
    batch = Batch(part, [record(10)])
    part.pending.append(batch)
    part.rest = [record(11)]
    part.quiesce()
    assert batch.cancelled
    assert not part.room.is_set()
    assert part.go() == 10, "the same records are read again"
    assert part.room.is_set()


def test_part_has_room_for_two_batches() -> None:
    part = ready_part(Script(), FakeCommitter())
    part.in_flight = 1
    part.update()
    assert part.room.is_set()
    part.pending.append(Batch(part, [record(0)]))
    part.update()
    assert not part.room.is_set()


def test_part_position_is_what_is_durable() -> None:
    part = ready_part(Script(), FakeCommitter(), want=10)
    part.cursor.want = 12  # two markers behind record 9
    assert part.position == 12
    part.in_flight = 1
    assert part.position == 10


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("app", ""),
        ("batch_records", 0),
        ("batches_out", 3),
        ("commit_limit_ms", 60_000),
        ("heartbeat_ms", 9_000),
        ("max_state_bytes", 2_000_000),
        ("compression", "rar"),
    ],
)
def test_settings_refuse_what_would_break_a_rule(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"engine\.{field} must be .*; got"):
        app_settings(**{field: value})


def test_settings_are_frozen() -> None:
    settings = EngineSettings(app="a", source="s", changelog="c")
    with pytest.raises(AttributeError):
        settings.app = "b"  # type: ignore[misc]


def test_kafka_settings_hide_the_password() -> None:
    kafka = KafkaSettings(
        bootstrap_servers="a:1, b:2",
        security_protocol="SASL_PLAINTEXT",
        sasl_mechanism="SCRAM-SHA-512",
        username="me",
        password="hunter2",
    )
    assert "hunter2" not in repr(kafka) + str(kafka) + str(list(kafka.__rich_repr__()))
    client = kafka.client()
    assert client["bootstrap_servers"] == ["a:1", "b:2"]
    assert client["sasl_plain_password"] == "hunter2"
    assert client["sasl_mechanism"] == "SCRAM-SHA-512"


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"bootstrap_servers": "nowhere"}, "kafka.bootstrap_servers"),
        ({"bootstrap_servers": "a:1,b:99999"}, "kafka.bootstrap_servers"),
        ({"security_protocol": "TLS"}, "kafka.security_protocol"),
        ({"security_protocol": "SASL_SSL", "username": "me"}, "kafka.username"),
        ({"sasl_mechanism": "NTLM"}, "kafka.sasl_mechanism"),
        ({"security_protocol": "SSL", "cafile": "/no/such/file"}, "kafka.cafile"),
        ({"keyfile": "/k"}, "kafka.certfile"),
    ],
)
def test_kafka_settings_name_the_field_that_is_wrong(fields: dict[str, str], path: str) -> None:
    with pytest.raises(SchemaError) as refused:
        KafkaSettings(**fields)  # type: ignore[arg-type]
    assert refused.value.path == path


def test_kafka_settings_a_broken_certificate_is_refused(tmp_path: object) -> None:
    broken = f"{tmp_path}/ca.pem"
    with open(broken, "w") as file:
        file.write("not a certificate")
    kafka = KafkaSettings(security_protocol="SSL", cafile=broken)
    with pytest.raises(SchemaError, match="kafka.cafile must be a certificate in PEM"):
        kafka.client()
