"""Numbers of the machine, its control group and its processes, from /proc and /sys (Linux). Used by host.meter only.

Source: proc(5); cgroups(7): cpu.max, cpu.stat, memory.max, memory.current, memory.stat (v2), and cpu.cfs_quota_us,
cpuacct.usage, memory.limit_in_bytes, memory.usage_in_bytes, memory.stat (v1).
"""

from __future__ import annotations

import os
from pathlib import Path

from cachekeep.domain.metric_ports import ProcessReading

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_USER, _SYSTEM = 11, 12  # of /proc/PID/stat behind the bracketed name
_IDLE, _IOWAIT = 3, 4
_COUNTED = 8  # user nice system idle iowait irq softirq steal; guest time is within user time


def machine_cpu(root: Path) -> tuple[float, float]:
    """Busy and total CPU seconds of all cores since boot."""
    with (root / "stat").open(encoding="ascii") as file:
        ticks = [int(word) for word in file.readline().split()[1 : 1 + _COUNTED]]
    total = sum(ticks)
    return (total - ticks[_IDLE] - ticks[_IOWAIT]) / TICKS_PER_S, total / TICKS_PER_S


def machine_memory(root: Path) -> tuple[int, int]:
    """MemTotal and MemAvailable in bytes."""
    table = _table(root / "meminfo")
    return table["MemTotal"] * 1024, table["MemAvailable"] * 1024


def process(root: Path, pid: int) -> ProcessReading | None:
    """None when it is gone or not readable."""
    folder = root / str(pid)
    try:
        status = _table(folder / "status")
        whole, main = _cpu_s(folder / "stat"), _cpu_s(folder / "task" / str(pid) / "stat")
    except (OSError, IndexError, ValueError):
        return None
    return ProcessReading(status.get("VmRSS", 0) * 1024, status.get("VmSwap", 0) * 1024, whole, main)


def group_cpu(groups: Path) -> tuple[float, float] | None:
    """CPU seconds used, and the number of cores allowed, where a limit applies to the control group at `groups`."""
    try:
        if (groups / "cpu.max").exists():
            quota, period = (groups / "cpu.max").read_text().split()
            if quota == "max":
                return None
            return _table(groups / "cpu.stat")["usage_usec"] / 1e6, int(quota) / int(period)
        allowed = _number(groups / "cpu" / "cpu.cfs_quota_us")
        if allowed <= 0:
            return None
        cores = allowed / _number(groups / "cpu" / "cpu.cfs_period_us")
        return _number(groups / "cpuacct" / "cpuacct.usage") / 1e9, cores
    except (OSError, ValueError, KeyError, ZeroDivisionError):
        return None


def group_memory(groups: Path) -> tuple[int, int] | None:
    """The limit and what is used of it without the file cache that can be dropped, in bytes; None without a limit."""
    try:
        if (groups / "memory.max").exists():
            limit, used, stat = groups / "memory.max", groups / "memory.current", groups / "memory.stat"
            name = "inactive_file"
        else:
            old = groups / "memory"
            limit, used, stat = old / "memory.limit_in_bytes", old / "memory.usage_in_bytes", old / "memory.stat"
            name = "total_inactive_file"
        return _number(limit), max(0, _number(used) - _table(stat).get(name, 0))
    except (OSError, ValueError):  # `max` is no number: no limit
        return None


def _cpu_s(path: Path) -> float:
    # The second field is the program's name in brackets and may itself hold spaces and brackets.
    fields = path.read_bytes().rpartition(b")")[2].split()
    return (int(fields[_USER]) + int(fields[_SYSTEM])) / TICKS_PER_S


def _number(path: Path) -> int:
    return int(path.read_text())


def _table(path: Path) -> dict[str, int]:
    """Lines `Name:   12 kB` or `name 12`; others are left out."""
    table = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        words = line.split()
        if len(words) in (2, 3) and words[1].isdecimal():
            table[words[0].rstrip(":")] = int(words[1])
    return table
