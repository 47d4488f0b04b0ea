"""Free ports, the names of processes, and the question whether a broker serves."""

from __future__ import annotations

import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from infra.kafka.ports import free_ports, is_free
from infra.kafka.process import ProcessName
from infra.kafka.wire import serving_brokers


@contextmanager
def answering(answer: bytes) -> Iterator[int]:
    """A server that gives every question the same answer and hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        thread.join()


def framed(body: bytes) -> bytes:
    return struct.pack(">i", len(body)) + body


def metadata(*brokers: tuple[str, int]) -> bytes:
    body = struct.pack(">ii", 1, len(brokers))
    for node, (host, port) in enumerate(brokers):
        body += struct.pack(">ih", node, len(host)) + host.encode() + struct.pack(">ih", port, -1)
    return framed(body + struct.pack(">ii", 1, 0))


def test_serving_brokers_are_read_from_the_answer() -> None:
    with answering(metadata(("127.0.0.1", 9092), ("other", 7))) as port:
        assert serving_brokers("127.0.0.1", port) == [("127.0.0.1", 9092), ("other", 7)]


def test_serving_brokers_of_a_broker_that_is_starting_are_none() -> None:
    with answering(metadata()) as port:
        assert serving_brokers("127.0.0.1", port) == []


@pytest.mark.parametrize(
    "answer",
    [b"HTTP/1.1 400 Bad Request\r\n\r\n", framed(b"\0" * 7 + b"\x05"), b"\0\0", b""],
    ids=["http", "cut short inside", "cut short", "nothing"],
)
def test_serving_brokers_refuses_what_is_not_kafka(answer: bytes) -> None:
    with answering(answer) as port, pytest.raises(OSError):
        serving_brokers("127.0.0.1", port)


def test_serving_brokers_where_nothing_listens_is_an_error() -> None:
    (port,) = free_ports(1)
    with pytest.raises(ConnectionRefusedError):
        serving_brokers("127.0.0.1", port)


def test_free_ports_differ_and_lie_below_those_of_clients() -> None:
    ports = free_ports(20)
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert len(set(ports)) == 20
    assert all(10_000 <= port < max(first, 11_000) for port in ports)
    assert all(is_free(port) for port in ports)


def test_process_name_is_of_one_process_only() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        name = ProcessName.of(process.pid)
        assert name is not None
        assert name.alive()
        earlier = ProcessName(name.pid, name.started_ticks - 1, name.boot)
        assert not earlier.alive()
        assert earlier.send(signal.SIGKILL, 1.0)
        assert process.poll() is None
        assert name.send(signal.SIGKILL, 10.0)
        assert not name.alive()  # a zombie now
    assert name.send(signal.SIGKILL, 1.0)
    assert ProcessName.of(name.pid) is None


def test_process_name_says_when_the_process_stays() -> None:
    ignore = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)"
    stubborn = f"{ignore}; print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", stubborn], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        name = ProcessName.of(process.pid)
        assert name is not None
        assert not name.send(signal.SIGTERM, 0.05)
        assert name.send(signal.SIGKILL, 10.0)
