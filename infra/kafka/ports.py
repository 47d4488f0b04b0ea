"""Free ports of this machine, picked where no outgoing connection can take them."""

from __future__ import annotations

import random
import socket
from pathlib import Path


def is_free(port: int) -> bool:
    """Whether a server could listen on this loopback port now."""
    with socket.socket() as probe:
        # as Java's server sockets do: closed connections of an earlier run are no hindrance
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_ports(count: int) -> list[int]:
    """Returns different free ports below the range that the kernel gives to clients.

    A broker that is away must find its port free when it comes back. Inside that range a client
    that tries to connect again and again is sooner or later given that very port as its own.
    """
    # A generator seeded by the system: a program that seeds the global one must not get equal ports
    order = random.SystemRandom()
    found: set[int] = set()
    for _ in range(2000):
        port = order.randrange(10_000, max(_first_client_port(), 11_000))
        if is_free(port):
            found.add(port)
        if len(found) == count:
            return list(found)
    message = f"this machine must have {count} free ports; got {len(found)}"
    raise OSError(message)


def _first_client_port() -> int:
    try:
        text = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii")
    except FileNotFoundError:
        return 32_768
    return int(text.split()[0])
