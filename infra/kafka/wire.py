"""Asks a Kafka broker whether it serves, in two small messages of its protocol.

No client library is needed for it, so the broker can be started and stopped by any Python.
"""

from __future__ import annotations

import socket
import struct

_METADATA = 3
_CLIENT = b"grindstone-probe"
_LIMIT_BYTES = 1 << 20


def serving_brokers(host: str, port: int, timeout_s: float = 1.0) -> list[tuple[str, int]]:
    """Returns the address of each broker that the one at `host:port` says is in service.

    A broker that is starting answers with an empty list until the controller has let it in.

    Raises:
        OSError: Nothing answers there, or what answers does not speak Kafka.
    """
    # Metadata, version 1, for no topic
    body = struct.pack(">hhih", _METADATA, 1, 1, len(_CLIENT)) + _CLIENT + struct.pack(">i", 0)
    with socket.create_connection((host, port), timeout_s) as connection:
        connection.settimeout(timeout_s)
        connection.sendall(struct.pack(">i", len(body)) + body)
        (size,) = struct.unpack(">i", _exactly(connection, 4))
        if not 8 <= size <= _LIMIT_BYTES:
            message = f"the answer of {host}:{port} must be Kafka's; got a length of {size}"
            raise OSError(message)
        answer = _exactly(connection, size)
    try:
        return _brokers(answer)
    except (struct.error, UnicodeDecodeError) as error:
        message = f"the answer of {host}:{port} must be Kafka's; got {answer[:40]!r}"
        raise OSError(message) from error


def _brokers(answer: bytes) -> list[tuple[str, int]]:
    _, count = struct.unpack_from(">ii", answer)
    position = 8
    found = []
    for _ in range(count):
        _, host_size = struct.unpack_from(">ih", answer, position)
        position += 6
        host = answer[position : position + host_size].decode()
        (port,) = struct.unpack_from(">i", answer, position + host_size)
        (rack_size,) = struct.unpack_from(">h", answer, position + host_size + 4)
        position += host_size + 6 + max(rack_size, 0)
        found.append((host, port))
    return found


def _exactly(connection: socket.socket, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        part = connection.recv(size - len(parts))
        if not part:
            message = "the connection was closed before the answer was complete"
            raise ConnectionResetError(message)
        parts += part
    return bytes(parts)


def refusal(host: str, port: int) -> str | None:
    """None when a broker serves clients at an address, else what is in the way."""
    try:
        serves = (host, port) in serving_brokers(host, port)
    except OSError as error:
        return str(error)
    return None if serves else "it has not joined its cluster yet"
