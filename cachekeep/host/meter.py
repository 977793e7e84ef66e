"""Reads this machine: CPU, memory, processes, TCP traffic. Implements domain.metric_ports.HostMeter."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path

import psutil
import structlog

from cachekeep.domain.metric_ports import MachineReading, ProcessReading, Traffic
from cachekeep.domain.nodes import Address
from cachekeep.host import allowances, proc
from cachekeep.host.control_group import ControlGroup
from cachekeep.host.ethtool import Allowances, DriverCounters, linux_driver
from cachekeep.host.sock_diag import SockDiag

log = structlog.get_logger()

# How long the kernel's refusal to list sockets is believed.
AGAIN_S = 10.0


class MachineMeter:
    """root, groups: where the kernel tells its numbers; driver: how network drivers are asked; clock: seconds that do
    not jump; others in tests. Without /proc (macOS) psutil is asked."""

    def __init__(
        self,
        root: Path = Path("/proc"),
        groups: Path = Path("/sys/fs/cgroup"),
        driver: DriverCounters | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._root, self._clock = root, clock
        self._tells = (root / "stat").exists()
        self._group = ControlGroup(root, groups)
        self._allowances = Allowances(driver or linux_driver())
        self._sockets = SockDiag() if sys.platform == "linux" else None
        self._sockets_trouble, self._sockets_again_at = "", 0.0

    def machine(self) -> MachineReading:
        if not self._tells:
            return _by_psutil()
        busy, total = proc.machine_cpu(self._root)
        if (limited := self._group.cpu()) is not None:
            # Of the time since boot, on the cores that the control group may use.
            busy, total = limited[0], self._clock() * limited[1]
        memory, available = proc.machine_memory(self._root)
        group = self._group.memory()
        if group is not None and group[0] < memory:
            memory, available = group[0], min(available, max(0, group[0] - group[1]))
        return self._with_allowances(MachineReading(busy, total, memory, available))

    def processes(self, pids: Collection[int]) -> Mapping[int, ProcessReading]:
        read = proc.process if self._tells else _process_by_psutil
        return {pid: found for pid in pids if (found := read(self._root, pid)) is not None}

    def traffic(self, owners: Mapping[Address, str]) -> Mapping[str, Traffic] | None:
        """Also None for some seconds after the kernel refused: what went on meanwhile counts later."""
        if self._sockets is None or self._clock() < self._sockets_again_at:
            return None
        try:
            seen = self._sockets.traffic(owners)
        except OSError as error:
            self._sockets_again_at = self._clock() + AGAIN_S
            if str(error) != self._sockets_trouble:
                log.warning("packets of nodes cannot be counted for now", reason=str(error), again_in_s=AGAIN_S)
            self._sockets_trouble = str(error)
            return None
        self._sockets_trouble = ""
        return seen

    def close(self) -> None:
        if self._sockets is not None:
            self._sockets.close()
            self._sockets = None

    def _with_allowances(self, reading: MachineReading) -> MachineReading:
        """What EC2's driver tells; elsewhere what the kernel itself dropped for want of room."""
        told = self._allowances.exceeded()
        conntrack, packets = told.get("conntrack_allowance_exceeded"), told.get("pps_allowance_exceeded")
        return replace(
            reading,
            conntrack_exceeded=allowances.conntrack_exceeded(self._root) if conntrack is None else conntrack,
            packets_exceeded=allowances.packets_exceeded(self._root) if packets is None else packets,
            bandwidth_in_exceeded=told.get("bw_in_allowance_exceeded"),
            bandwidth_out_exceeded=told.get("bw_out_allowance_exceeded"),
            link_local_exceeded=told.get("linklocal_allowance_exceeded"),
        )


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
