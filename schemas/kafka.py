"""How to reach Kafka: addresses, TLS and SASL, checked once and shared by every client."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any, Literal

import msgspec

from schemas.errors import SchemaError, shown

SecurityProtocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
SaslMechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]
_PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
_MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")


class KafkaSettings(msgspec.Struct, frozen=True, kw_only=True, repr_omit_defaults=True):
    """Where the brokers are and how a client proves who it is.

    Raises:
        SchemaError: when a field breaks its rule, or fields contradict each other.
    """

    bootstrap_servers: str = "127.0.0.1:9092"
    """Comma-separated ``host:port`` addresses; one that answers is enough."""
    security_protocol: SecurityProtocol = "PLAINTEXT"
    sasl_mechanism: SaslMechanism = "PLAIN"
    username: str | None = None
    password: str | None = None
    """Never in ``repr``, so never in a log."""
    cafile: str | None = None
    """Certificate authority in PEM; None trusts the system's."""
    certfile: str | None = None
    """Client certificate in PEM, for brokers that ask for one."""
    keyfile: str | None = None

    def __post_init__(self) -> None:
        for address in self.bootstrap_servers.split(","):
            _check_address(address.strip(), self.bootstrap_servers)
        if self.security_protocol not in _PROTOCOLS:
            _refuse("security_protocol", f"one of {', '.join(_PROTOCOLS)}", self.security_protocol)
        if self.sasl_mechanism not in _MECHANISMS:
            _refuse("sasl_mechanism", f"one of {', '.join(_MECHANISMS)}", self.sasl_mechanism)
        if self.uses_sasl and not (self.username and self.password):
            _refuse("username", "set together with password for SASL", self.username)
        if self.keyfile and not self.certfile:
            _refuse("certfile", "set when keyfile is", self.certfile)
        for name in ("cafile", "certfile", "keyfile"):
            path = getattr(self, name)
            if path is not None and self.uses_tls and not Path(path).is_file():
                _refuse(name, "a readable file", path)

    def __repr__(self) -> str:
        who = f", username={self.username!r}" if self.username else ""
        return (
            f"KafkaSettings(bootstrap_servers={self.bootstrap_servers!r}, "
            f"security_protocol={self.security_protocol!r}{who})"
        )

    def __rich_repr__(self) -> Any:
        """Show what ``repr`` shows, so that a rich traceback does not show the password."""
        yield "bootstrap_servers", self.bootstrap_servers
        yield "security_protocol", self.security_protocol

    @property
    def uses_sasl(self) -> bool:
        """Whether clients log in with a name and a password."""
        return self.security_protocol.startswith("SASL")

    @property
    def uses_tls(self) -> bool:
        """Whether the connection is encrypted."""
        return self.security_protocol.endswith("SSL")

    def client(self) -> dict[str, Any]:
        """Return the keyword arguments that every aiokafka client takes.

        Raises:
            SchemaError: when a certificate or key cannot be loaded.
        """
        kwargs: dict[str, Any] = {
            "bootstrap_servers": [a.strip() for a in self.bootstrap_servers.split(",")],
            "security_protocol": self.security_protocol,
        }
        if self.uses_sasl:
            kwargs["sasl_mechanism"] = self.sasl_mechanism
            kwargs["sasl_plain_username"] = self.username
            kwargs["sasl_plain_password"] = self.password
        if self.uses_tls:
            kwargs["ssl_context"] = self._ssl_context()
        return kwargs

    def _ssl_context(self) -> ssl.SSLContext:
        try:
            context = ssl.create_default_context(cafile=self.cafile)
            if self.certfile:
                context.load_cert_chain(self.certfile, self.keyfile)
        except (OSError, ssl.SSLError) as error:
            path = f"kafka.{'certfile' if self.certfile else 'cafile'}"
            got = f"{self.certfile or self.cafile}: {error}"
            raise SchemaError(path, "a certificate in PEM that loads", got) from error
        return context


def _check_address(address: str, servers: str) -> None:
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65_536:
        _refuse("bootstrap_servers", "host:port, host:port, ...", servers)


def _refuse(field: str, rule: str, value: object) -> None:
    path = f"kafka.{field}"
    raise SchemaError(path, rule, shown(value))
