"""Address pools: where the addresses of nodes and endpoints come from. Implement domain.ports.AddressPool.

LoopbackPool gives every node an IP address of its own inside 127.0.0.0/8, which Linux answers for as a whole:
no interface has to be set up, and an address moves between engines by `CONFIG SET bind`. PortPool gives ports of
127.0.0.1, for systems where only that address exists; its addresses cannot move.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Collection, Iterator
from ipaddress import IPv4Address, IPv4Network

from cachekeep.domain.nodes import Address
from cachekeep.domain.world import WorldError

DEFAULT_NETWORK = IPv4Network("127.64.0.0/16")
_LOOPBACK = IPv4Network("127.0.0.0/8")
# Looked at in one search: every address of a /16.
_SEARCHED = 65536


class LoopbackPool:
    """Addresses of one range of loopback addresses, all with the port that was asked for."""

    movable = True

    def __init__(self, network: IPv4Network = DEFAULT_NETWORK) -> None:
        self._network = network

    def pick(self, port: int, count: int, taken: Collection[Address], after: Address | None) -> list[Address]:
        """See AddressPool.pick. A host counts as taken whatever its port: an endpoint must be free to move there."""
        hosts_taken = {address.host for address in taken}
        picked: list[Address] = []
        busy = 0
        for host in self._hosts_behind(after):
            if len(picked) == count:
                break
            if host in hosts_taken:
                continue
            if why_busy(host, port) is None:
                picked.append(Address(host, port))
            else:
                busy += 1
        if len(picked) < count:
            raise WorldError(
                f"only {len(picked)} of {count} addresses with port {port} are free in {self._network}: "
                f"{len(hosts_taken)} are given out and {busy} are in use by other programs; "
                "delete caches or configure a larger range"
            )
        return picked

    def _hosts_behind(self, after: Address | None) -> Iterator[str]:
        """Yield each usable host once, at most 65536, from behind `after` and round."""
        size = self._network.num_addresses
        start = 0
        if after is not None:
            try:
                offset = int(IPv4Address(after.host)) - int(self._network.network_address)
            except ValueError:  # `after` came from a pool of another kind
                offset = -1
            start = offset + 1 if 0 <= offset < size else 0
        for step in range(min(size, _SEARCHED)):
            host = self._network.network_address + (start + step) % size
            # Programs and people take .0 and .255 for a network and a broadcast, here too.
            if host.packed[3] not in (0, 255):
                yield str(host)


class PortPool:
    """Ports of one address."""

    movable = False

    def __init__(self, first: int = 20000, last: int = 29999, host: str = "127.0.0.1") -> None:
        if not 0 < first <= last < 65536:
            raise ValueError(f"not a range of ports: {first}-{last}")
        self._first, self._last, self._host = first, last, host

    def pick(self, port: int, count: int, taken: Collection[Address], after: Address | None) -> list[Address]:
        """See AddressPool.pick. `port` itself comes first when it is free, then the range."""
        given_out = set(taken)
        picked: list[Address] = []
        for number in dict.fromkeys((port, *self._ports_behind(after))):
            if len(picked) == count:
                break
            address = Address(self._host, number)
            if address not in given_out and why_busy(self._host, number) is None:
                picked.append(address)
        if len(picked) < count:
            raise WorldError(
                f"only {len(picked)} of {count} ports are free on {self._host} in {self._first}-{self._last}; "
                "delete caches or configure a larger range"
            )
        return picked

    def _ports_behind(self, after: Address | None) -> Iterator[int]:
        size = self._last - self._first + 1
        inside = after is not None and self._first <= after.port <= self._last
        start = after.port + 1 - self._first if after is not None and inside else 0
        return (self._first + (start + step) % size for step in range(size))


def why_busy(host: str, port: int) -> str | None:
    """Try to bind; return the system's words when that fails, None when the address is free.

    With SO_REUSEADDR, as the engines do: connections of an earlier engine that linger there do no harm.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return error.strerror or str(error)
    return None


def loopback_usable(network: IPv4Network) -> str | None:
    """Return a sentence why LoopbackPool cannot work with this range on this machine, or None when it can."""
    if not network.subnet_of(_LOOPBACK):
        return f"{network} is not inside {_LOOPBACK}: addresses of network interfaces are not supported yet"
    if network.num_addresses < 8:
        return f"{network} is too small: it needs at least 8 addresses (/29)"
    reason = why_busy(str(network.network_address + 1), 0)
    if reason is None:
        return None
    hint = "" if sys.platform == "linux" else "; only Linux answers for all of 127.0.0.0/8"
    return f"cannot bind to {network.network_address + 1}: {reason}{hint}"
