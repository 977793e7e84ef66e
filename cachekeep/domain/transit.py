"""Encryption in transit: what is wanted of a cache, and what that means to its engine. Pure.

Source: ElastiCache guide, "In-transit encryption"; valkey.conf and redis.conf, "TLS/SSL".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

# In a node's folder, which is where its engine runs: key, certificate and authority in one file, and the authority.
CERTIFICATE = "node.pem"
AUTHORITY = "ca.pem"
# Bytes that may wait in a link of the cluster bus before it is dropped; 0 is no limit, and what is wanted at rest.
LINK_LIMIT = "cluster-link-sendbuf-limit"


class Transit(StrEnum):
    """TransitEncryptionMode, with a word for none. preferred: TLS and plain TCP at once."""

    OFF = ""
    PREFERRED = "preferred"
    REQUIRED = "required"

    @property
    def encrypted(self) -> bool:
        return self is not Transit.OFF


@dataclass(frozen=True)
class Listening:
    """Where an engine itself is talked to: at which port of its address, and by TLS or not."""

    port: int
    tls: bool = False

    @classmethod
    def wanted(cls, transit: Transit, port: int) -> Listening:
        """In that mode, of a group with that port."""
        if transit is Transit.PREFERRED:
            return cls(internal_ports(port)[0])
        return cls(port, transit is Transit.REQUIRED)

    @classmethod
    def of(cls, directives: Mapping[str, str]) -> Listening | None:
        """As the directives of a running engine have it; None where they do not tell."""
        plain, tls = int(directives.get("port") or 0), int(directives.get("tls-port") or 0)
        if "tls-port" not in directives or not (plain or tls):
            return None
        return cls(plain) if plain else cls(tls, True)


def internal_ports(port: int) -> tuple[int, int]:
    """Where an engine listens for plain TCP and for TLS while a switch holds the group's port. Beside the cluster bus,
    which is 10,000 away."""
    return (port + 20_000, port + 30_000) if port + 30_000 < 65536 else (port - 20_000, port - 30_000)


def live_directives(transit: Transit, port: int, *, clustered: bool) -> dict[str, str]:
    """What to set in an engine that runs (7.0 or later) so that it listens so. clustered: it runs in cluster mode.

    LINK_LIMIT stands among them as the mark of a change: it is another while links of the bus are being renewed, so
    that a change that was broken off is seen.
    """
    wanted = dict(engine_directives(transit, port))
    return {**wanted, "cluster-announce-tls-port": str(port), LINK_LIMIT: "0"} if clustered else wanted


def engine_directives(transit: Transit, port: int) -> Mapping[str, str]:
    """How a Valkey or Redis node listens whose group has `port`, to clients, to replicas and in its cluster.

    Clients prove who they are by a password; nodes of one cluster also by a certificate, which the bus demands.
    """
    if not transit.encrypted:
        return {"port": str(port), "tls-port": "0", "tls-replication": "no", "tls-cluster": "no"}
    plain, tls = internal_ports(port) if transit is Transit.PREFERRED else (0, port)
    return {
        "port": str(plain),
        "tls-port": str(tls),
        "tls-replication": "yes",
        "tls-cluster": "yes",
        "tls-auth-clients": "no",
        "tls-cert-file": CERTIFICATE,
        "tls-key-file": CERTIFICATE,
        "tls-ca-cert-file": AUTHORITY,
        "tls-protocols": "TLSv1.2 TLSv1.3",
    }
