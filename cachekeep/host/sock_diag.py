"""Packets and bytes of TCP connections, from the kernel's socket diagnostics (Linux). Used by host.meter only.

A dump tells of living connections; the kernel's notice of a destroyed one has its final numbers, so that connections
between two dumps count. The kernel counts the end of a stream as one byte received. Where notices are refused
or lost, dumps alone go on.
Source: sock_diag(7); linux/inet_diag.h; linux/tcp.h `struct tcp_info`; linux/sock_diag.h for the groups.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator, Mapping
from contextlib import suppress
from ipaddress import ip_address
from operator import add, sub

from cachekeep.domain.metric_ports import Traffic
from cachekeep.domain.nodes import Address

_NETLINK_SOCK_DIAG = 4
_SOL_NETLINK, _ADD_MEMBERSHIP = 270, 1
_DESTROYED = (1, 3)  # SKNLGRP_INET_TCP_DESTROY, SKNLGRP_INET6_TCP_DESTROY
_SOCK_DIAG_BY_FAMILY, _NLMSG_ERROR, _NLMSG_DONE = 20, 2, 3
_DUMP = 0x301  # NLM_F_REQUEST | NLM_F_DUMP
_INET_DIAG_INFO = 2
# ESTABLISHED, FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT, LAST_ACK, CLOSING: not those without numbers of their own.
_STATES = sum(1 << state for state in (1, 4, 5, 8, 9, 11))
_HEAD, _MESSAGE = 16, 72
_NUMBERS = struct.Struct("=QQII")  # bytes_acked, bytes_received, segs_out, segs_in
_NUMBERS_AT, _BYTES_SENT_AT = 120, 200
_KEPT_CALLS = 5  # how long the numbers of a vanished connection wait for the notice of its end
_LOOPBACK = (socket.inet_aton("127.0.0.1"), ip_address("::1").packed)
_MAPPED = bytes(10) + b"\xff\xff"
_Counts = tuple[int, int, int, int]  # packets in, out, bytes in, out


class SockDiag:
    """Raises OSError where the kernel does not offer it."""

    def __init__(self) -> None:
        self._asking = _netlink()
        self._asking.settimeout(1.0)
        self._notices: socket.socket | None = None
        self._seen: dict[bytes, tuple[_Counts, int]] = {}
        self._totals: dict[str, _Counts] = {}
        self._known: frozenset[bytes] = frozenset()
        self._call = 0
        with suppress(OSError):
            self._notices = _subscribed()

    def traffic(self, owners: Mapping[Address, str]) -> dict[str, Traffic]:
        """See domain.metric_ports.HostMeter. A connection that lived before its address was first asked for counts
        from then on. Raises OSError."""
        self._call += 1
        ends, hosts = _keys(owners)
        for family in (socket.AF_INET, socket.AF_INET6):
            for data in self._dump(family):
                self._count(data, ends, hosts, last=False)
        for data in self._ended():
            self._count(data, ends, hosts, last=True)
        self._seen = {key: kept for key, kept in self._seen.items() if self._call - kept[1] < _KEPT_CALLS}
        self._known = frozenset(ends) | frozenset(hosts)
        named = set(owners.values())
        self._totals = {owner: self._totals.get(owner, (0, 0, 0, 0)) for owner in named | self._totals.keys()}
        return {owner: Traffic(*self._totals[owner]) for owner in named}

    def close(self) -> None:
        self._asking.close()
        if self._notices is not None:
            self._notices.close()

    def _count(self, data: bytes, ends: Mapping[bytes, str], hosts: Mapping[bytes, str], *, last: bool) -> None:
        at = 0
        while at + _HEAD + _MESSAGE <= len(data):
            size, kind = struct.unpack_from("=IH", data, at)
            if size < _HEAD:
                return
            if kind == _SOCK_DIAG_BY_FAMILY:
                self._one(data[at + _HEAD : at + size], ends, hosts, last=last)
            at += (size + 3) & ~3

    def _one(self, message: bytes, ends: Mapping[bytes, str], hosts: Mapping[bytes, str], *, last: bool) -> None:
        host = message[8:12] if message[0] == socket.AF_INET else message[8:24].removeprefix(_MAPPED)
        end = host + message[4:6]
        key = end if end in ends else host
        owner = ends.get(end) or hosts.get(host)
        if owner is None or (counts := _counts(message)) is None:
            return
        cookie = message[44:52]
        if (before := self._seen.get(cookie)) is not None:
            self._add(owner, counts, before[0])
        elif key in self._known:
            self._add(owner, counts, (0, 0, 0, 0))
        if last:
            self._seen.pop(cookie, None)
        else:
            self._seen[cookie] = (counts, self._call)

    def _add(self, owner: str, counts: _Counts, before: _Counts) -> None:
        grown = (max(0, more) for more in map(sub, counts, before))
        a, b, c, d = map(add, self._totals.get(owner, (0, 0, 0, 0)), grown)
        self._totals[owner] = (a, b, c, d)

    def _dump(self, family: int) -> Iterator[bytes]:
        asked = struct.pack("=BBBBI48x", family, socket.IPPROTO_TCP, 1 << (_INET_DIAG_INFO - 1), 0, _STATES)
        head = struct.pack("=IHHII", _HEAD + len(asked), _SOCK_DIAG_BY_FAMILY, _DUMP, self._call, 0)
        self._asking.send(head + asked)
        while True:
            data = self._asking.recv(1 << 18)
            kind = struct.unpack_from("=H", data, 4)[0]
            if kind == _NLMSG_ERROR:
                code = -struct.unpack_from("=i", data, _HEAD)[0]
                raise OSError(code, "the kernel refused to list TCP sockets")
            yield data
            # The end stands alone, or behind the last sockets.
            if kind == _NLMSG_DONE or struct.unpack_from("=IH", data, len(data) - 20) == (20, _NLMSG_DONE):
                return

    def _ended(self) -> Iterator[bytes]:
        """Notices that came. Some are lost when there were too many (ENOBUFS): what is left still counts."""
        while self._notices is not None:
            try:
                yield self._notices.recv(1 << 16, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError:
                continue  # ENOBUFS is told once, then reading goes on


def _netlink() -> socket.socket:
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG)


def _subscribed() -> socket.socket:
    made = _netlink()
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        made.bind((0, 0))
        for group in _DESTROYED:
            made.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, group)
    except OSError:
        made.close()
        raise
    return made


def _keys(owners: Mapping[Address, str]) -> tuple[dict[bytes, str], dict[bytes, str]]:
    """Owners by host and port, and by host alone where the host belongs to one owner only."""
    ends: dict[bytes, str] = {}
    by_host: dict[bytes, set[str]] = {}
    for address, owner in owners.items():
        host = ip_address(address.host).packed
        ends[host + address.port.to_bytes(2, "big")] = owner
        if host not in _LOOPBACK:
            by_host.setdefault(host, set()).add(owner)
    return ends, {host: min(names) for host, names in by_host.items() if len(names) == 1}


def _counts(message: bytes) -> _Counts | None:
    at = _MESSAGE
    while at + 4 <= len(message):
        size, kind = struct.unpack_from("=HH", message, at)
        if size < 4:
            return None
        if kind == _INET_DIAG_INFO:
            if size < 4 + _NUMBERS_AT + _NUMBERS.size:
                return None
            acked, received, out, come = _NUMBERS.unpack_from(message, at + 4 + _NUMBERS_AT)
            if size >= 4 + _BYTES_SENT_AT + 8:  # since Linux 4.19; bytes_acked lags and counts the SYN
                acked = struct.unpack_from("=Q", message, at + 4 + _BYTES_SENT_AT)[0]
            return come, out, received, acked
        at += (size + 3) & ~3
    return None
