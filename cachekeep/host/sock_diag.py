"""Packets and bytes of TCP connections, from the kernel's socket diagnostics (Linux). Used by host.meter only.

A dump tells of living connections; the kernel's notice of a destroyed one has its final numbers, so that connections
between two dumps count. The kernel counts the end of a stream as one byte received. Where notices are refused
or lost, dumps alone go on.
Source: sock_diag(7); linux/inet_diag.h; linux/tcp.h `struct tcp_info`; linux/sock_diag.h for the groups.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator, Mapping
from contextlib import suppress
from ipaddress import ip_address

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
_KIND, _ATTRIBUTE, _SENT = struct.Struct("=IH"), struct.Struct("=HH"), struct.Struct("=Q")
_NUMBERS = struct.Struct("=QQII")  # bytes_acked, bytes_received, segs_out, segs_in
_NUMBERS_AT, _BYTES_SENT_AT = 120, 200
_KEPT_CALLS = 5  # how long the numbers of a vanished connection wait for the notice of its end
_LOOPBACK = (socket.inet_aton("127.0.0.1"), ip_address("::1").packed)
_MAPPED = bytes(10) + b"\xff\xff"
_Counts = tuple[int, int, int, int]  # packets in, out, bytes in, out


class SockDiag:
    """Its sockets are opened when needed, and anew after an error. notices_bytes: room for notices that wait."""

    def __init__(self, notices_bytes: int = 1 << 22) -> None:
        self._notices_bytes = notices_bytes
        self._asking: socket.socket | None = None
        self._notices: socket.socket | None = None
        self._seen: dict[bytes, tuple[_Counts, int]] = {}
        self._totals: dict[str, _Counts] = {}
        self._known: frozenset[bytes] = frozenset()
        self._call = 0

    def traffic(self, owners: Mapping[Address, str]) -> dict[str, Traffic]:
        """See domain.metric_ports.HostMeter. A connection that lived before its address was first asked for counts
        from then on. Raises OSError; what was counted stays."""
        self._call += 1
        ends, hosts = _keys(owners)
        try:
            asking = self._open()
            for family in (socket.AF_INET, socket.AF_INET6):
                for data in self._dump(asking, family):
                    self._count(data, ends, hosts, last=False)
        except OSError:
            self.close()  # the rest of the answer is not to be taken for the next one
            raise
        for data in self._ended():
            self._count(data, ends, hosts, last=True)
        oldest = self._call - _KEPT_CALLS
        self._seen = {key: kept for key, kept in self._seen.items() if kept[1] > oldest}
        self._known = frozenset(ends) | frozenset(hosts)
        named = set(owners.values())
        for owner in named - self._totals.keys():
            self._totals[owner] = (0, 0, 0, 0)
        return {owner: Traffic(*self._totals[owner]) for owner in named}

    def close(self) -> None:
        for each in (self._asking, self._notices):
            if each is not None:
                each.close()
        self._asking = self._notices = None

    def _open(self) -> socket.socket:
        if self._asking is None:
            self._asking = _netlink()
            self._asking.settimeout(1.0)
            with suppress(OSError):
                self._notices = _subscribed(self._notices_bytes)
        return self._asking

    def _count(self, data: bytes, ends: Mapping[bytes, str], hosts: Mapping[bytes, str], *, last: bool) -> None:
        """All messages of one datagram. Written for speed: it sees every TCP socket of the machine each second."""
        at, most = 0, len(data) - _HEAD - _MESSAGE
        while at <= most:
            size, kind = _KIND.unpack_from(data, at)
            if size < _HEAD:
                return
            if kind == _SOCK_DIAG_BY_FAMILY:
                it = at + _HEAD
                host = data[it + 8 : it + 12]
                if data[it] != socket.AF_INET:
                    host = data[it + 8 : it + 24].removeprefix(_MAPPED)
                key = host + data[it + 4 : it + 6]
                owner = ends.get(key)
                if owner is None and (owner := hosts.get(host)) is not None:
                    key = host
                if owner is not None and (counts := _counts(data, it + _MESSAGE, at + size)) is not None:
                    self._one(data[it + 44 : it + 52], key, owner, counts, last=last)
            at += (size + 3) & ~3

    def _one(self, cookie: bytes, key: bytes, owner: str, counts: _Counts, *, last: bool) -> None:
        before = self._seen.get(cookie)
        if before is not None or key in self._known:
            a, b, c, d = before[0] if before is not None else (0, 0, 0, 0)
            come, out, received, sent = counts
            if counts != (a, b, c, d):
                w, x, y, z = self._totals.get(owner, (0, 0, 0, 0))
                self._totals[owner] = (
                    w + max(0, come - a), x + max(0, out - b), y + max(0, received - c), z + max(0, sent - d)
                )  # fmt: skip
        if last:
            self._seen.pop(cookie, None)
        else:
            self._seen[cookie] = (counts, self._call)

    def _dump(self, asking: socket.socket, family: int) -> Iterator[bytes]:
        asked = struct.pack("=BBBBI48x", family, socket.IPPROTO_TCP, 1 << (_INET_DIAG_INFO - 1), 0, _STATES)
        head = struct.pack("=IHHII", _HEAD + len(asked), _SOCK_DIAG_BY_FAMILY, _DUMP, self._call, 0)
        asking.send(head + asked)
        while True:
            data = asking.recv(1 << 18)
            kind = struct.unpack_from("=H", data, 4)[0]
            if kind == _NLMSG_ERROR:
                code = -struct.unpack_from("=i", data, _HEAD)[0]
                raise OSError(code, "the kernel refused to list TCP sockets")
            yield data
            # The end stands alone, or behind the last sockets.
            if kind == _NLMSG_DONE or struct.unpack_from("=IH", data, len(data) - 20) == (20, _NLMSG_DONE):
                return

    def _ended(self) -> Iterator[bytes]:
        """Notices that came. When there were too many some are lost (ENOBUFS, told once), and what such connections
        did since the last dump with them; the dumps go on, and so do later notices."""
        while self._notices is not None:
            try:
                yield self._notices.recv(1 << 16, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    self._notices.close()
                    self._notices = None


def _netlink() -> socket.socket:
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG)


def _subscribed(room_bytes: int) -> socket.socket:
    made = _netlink()
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room_bytes)
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
        try:
            host = ip_address(address.host).packed
        except ValueError:  # a name: no engine of this machine listens at one
            continue
        ends[host + address.port.to_bytes(2, "big")] = owner
        if host not in _LOOPBACK:
            by_host.setdefault(host, set()).add(owner)
    return ends, {host: min(names) for host, names in by_host.items() if len(names) == 1}


def _counts(data: bytes, at: int, end: int) -> _Counts | None:
    """From the attribute that holds tcp_info, among those between at and end."""
    while at + 4 <= end:
        size, kind = _ATTRIBUTE.unpack_from(data, at)
        if size < 4:
            return None
        if kind == _INET_DIAG_INFO:
            if size < 4 + _NUMBERS_AT + _NUMBERS.size:
                return None
            acked, received, out, come = _NUMBERS.unpack_from(data, at + 4 + _NUMBERS_AT)
            if size >= 4 + _BYTES_SENT_AT + 8:  # since Linux 4.19; bytes_acked lags and counts the SYN
                (acked,) = _SENT.unpack_from(data, at + 4 + _BYTES_SENT_AT)
            return come, out, received, acked
        at += (size + 3) & ~3
    return None
