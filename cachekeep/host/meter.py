"""Reads this machine: CPU, memory, processes, TCP traffic. Implements domain.metric_ports.HostMeter."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from pathlib import Path

import psutil

from cachekeep.domain.metric_ports import MachineReading, ProcessReading, Traffic
from cachekeep.domain.nodes import Address
from cachekeep.host import allowances, proc
from cachekeep.host.sock_diag import SockDiag


class MachineMeter:
    """root, groups: where the kernel tells its numbers; others in tests. Without /proc (macOS) psutil is asked."""

    def __init__(self, root: Path = Path("/proc"), groups: Path = Path("/sys/fs/cgroup")) -> None:
        self._root, self._groups = root, groups
        self._tells = (root / "stat").exists()
        self._sockets: SockDiag | None = None
        try:
            self._sockets = SockDiag()
        except (OSError, AttributeError):  # no netlink, or not allowed
            self._sockets = None

    def machine(self) -> MachineReading:
        if not self._tells:
            return _by_psutil()
        busy, total = proc.machine_cpu(self._root)
        if (limited := proc.group_cpu(self._groups)) is not None:
            # Of the time since boot, on the cores that the control group may use.
            busy, total = limited[0], time.monotonic() * limited[1]
        memory, available = proc.machine_memory(self._root)
        group = proc.group_memory(self._groups)
        if group is not None and group[0] < memory:
            memory, available = group[0], min(available, max(0, group[0] - group[1]))
        return MachineReading(
            busy,
            total,
            memory,
            available,
            conntrack_exceeded=allowances.conntrack_exceeded(self._root),
            packets_exceeded=allowances.packets_exceeded(self._root),
        )

    def processes(self, pids: Collection[int]) -> Mapping[int, ProcessReading]:
        read = proc.process if self._tells else _process_by_psutil
        return {pid: found for pid in pids if (found := read(self._root, pid)) is not None}

    def traffic(self, owners: Mapping[Address, str]) -> Mapping[str, Traffic] | None:
        if self._sockets is None:
            return None
        try:
            return self._sockets.traffic(owners)
        except OSError:  # not allowed after all: nobody is told from now on
            self.close()
            return None

    def close(self) -> None:
        if self._sockets is not None:
            self._sockets.close()
            self._sockets = None


def _by_psutil() -> MachineReading:
    times, memory = psutil.cpu_times(), psutil.virtual_memory()
    total = sum(times)
    return MachineReading(total - times.idle, total, memory.total, memory.available)


def _process_by_psutil(root: Path, pid: int) -> ProcessReading | None:
    """Where threads are not told apart the main thread's CPU is that of all, an upper bound."""
    try:
        seen = psutil.Process(pid)
        times = seen.cpu_times()
        return ProcessReading(seen.memory_info().rss, 0, times.user + times.system, times.user + times.system)
    except psutil.Error:
        return None
