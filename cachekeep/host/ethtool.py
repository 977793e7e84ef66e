"""What EC2's network driver counts: packets and connections beyond the instance's allowance. Used by host.meter only.

Source: linux/ethtool.h (ETHTOOL_GDRVINFO, ETHTOOL_GSTRINGS, ETHTOOL_GSTATS by ioctl SIOCETHTOOL); EC2 user guide,
"Monitor network performance for ENA settings": the names of the counters, since the driver was loaded.
"""

from __future__ import annotations

import ctypes
import socket
import struct
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

ALLOWANCES = (
    "bw_in_allowance_exceeded",
    "bw_out_allowance_exceeded",
    "pps_allowance_exceeded",
    "conntrack_allowance_exceeded",
    "linklocal_allowance_exceeded",
)
_SIOCETHTOOL = 0x8946
_DRIVER, _STRINGS, _STATISTICS = 0x03, 0x1B, 0x1D
_SET_OF_STATISTICS = 1
_DRIVER_BYTES, _COUNT_AT, _NAME_BYTES = 196, 180, 32
_MARGIN_BYTES = 1 << 16


@dataclass(frozen=True)
class DriverCounters:
    """How interfaces are asked; others in tests. names, values: of one interface, in one order. Raise OSError where
    its driver has none."""

    interfaces: Callable[[], Sequence[str]]
    names: Callable[[str], Sequence[str]]
    values: Callable[[str], Sequence[int]]


class Allowances:
    """Which interfaces count allowances is found out once; none on machines that are not EC2's."""

    def __init__(self, driver: DriverCounters) -> None:
        self._driver = driver
        learnt = {interface: self._learn(interface) for interface in driver.interfaces()}
        self._names = {interface: names for interface, names in learnt.items() if set(names) & set(ALLOWANCES)}

    def exceeded(self) -> Mapping[str, int]:
        """By name of the counter, the sum over interfaces; a name that no driver has is absent."""
        sums: dict[str, int] = {}
        for interface, names in self._names.items():
            try:
                values = self._driver.values(interface)
                if len(values) != len(names):  # it has another number of queues by now, each with counters of its own
                    names = self._names[interface] = self._learn(interface)
            except OSError:  # it was taken away
                continue
            if len(values) == len(names):
                for name, value in zip(names, values, strict=True):
                    if name in ALLOWANCES:
                        sums[name] = sums.get(name, 0) + value
        return sums

    def _learn(self, interface: str) -> Sequence[str]:
        try:
            return self._driver.names(interface)
        except OSError:
            return ()


def linux_driver() -> DriverCounters:
    """The kernel's own; without interfaces where there is no ioctl of this kind."""
    found = [name for _, name in socket.if_nameindex()] if sys.platform == "linux" else []
    return DriverCounters(lambda: found, _names, _values)


def parse_names(table: bytes) -> list[str]:
    """Names in fields of 32 bytes, filled up with zeros."""
    fields = (table[at : at + _NAME_BYTES] for at in range(0, len(table), _NAME_BYTES))
    return [field.partition(b"\0")[0].decode("ascii", "replace").strip() for field in fields]


def _names(interface: str) -> list[str]:
    count = _count(interface)
    head = struct.pack("=III", _STRINGS, _SET_OF_STATISTICS, count)
    return parse_names(_asked(interface, head, count * _NAME_BYTES))


def _values(interface: str) -> tuple[int, ...]:
    count = _count(interface)
    told = _asked(interface, struct.pack("=II", _STATISTICS, count), count * 8)
    return struct.unpack_from(f"={count}Q", told)


def _count(interface: str) -> int:
    told = _asked(interface, struct.pack("=I", _DRIVER), _DRIVER_BYTES - 4)
    return int(struct.unpack_from("=I", told, _COUNT_AT - 4)[0])


def _asked(interface: str, question: bytes, answer_bytes: int) -> bytes:
    """What the kernel wrote behind the question."""
    import fcntl  # only where there is one

    # It writes as much as the driver has at that moment, whatever was asked for: hence the margin.
    buffer = ctypes.create_string_buffer(question, len(question) + answer_bytes + _MARGIN_BYTES)
    request = struct.pack("16sP", interface.encode()[:15], ctypes.addressof(buffer)).ljust(40, b"\0")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SIOCETHTOOL, request)
    return buffer.raw[len(question) : len(question) + answer_bytes]
