"""The partitioner agrees with Java's clients."""

from __future__ import annotations

import pytest
from aiokafka.partitioner import murmur2 as aiokafka_murmur2
from hypothesis import given
from hypothesis import strategies as st

from streams.partitioner import Partitioner, murmur2, partition_of

# From org.apache.kafka.common.utils.UtilsTest.testMurmur2 (signed 32-bit integers).
JAVA_VECTORS = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


@pytest.mark.parametrize(("data", "signed"), JAVA_VECTORS.items())
def test_murmur2_equals_java_vectors(data: bytes, signed: int) -> None:
    assert murmur2(data) == signed & 0xFFFFFFFF


@given(st.binary(max_size=200))
def test_murmur2_equals_aiokafka(data: bytes) -> None:
    assert murmur2(data) == aiokafka_murmur2(data)


@given(st.text(max_size=40), st.integers(1, 64))
def test_partitioner_remembers_the_partition_of_the_key(actor_id: str, n: int) -> None:
    partitioner = Partitioner(n)
    expected = partition_of(actor_id.encode(), n)
    assert [partitioner(actor_id), partitioner(actor_id)] == [expected, expected]
    assert 0 <= expected < n


def test_partitioner_refuses_no_partitions() -> None:
    with pytest.raises(ValueError, match="n_partitions must be at least 1; got 0"):
        Partitioner(0)
