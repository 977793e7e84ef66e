"""Numbers of the machine and of its processes, from /proc (Linux). Used by host.meter only. Source: proc(5)."""

from __future__ import annotations

import os
from pathlib import Path

from cachekeep.domain.metric_ports import ProcessReading

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_USER, _SYSTEM = 11, 12  # of /proc/PID/stat behind the bracketed name
_IDLE, _IOWAIT = 3, 4
_COUNTED = 8  # user nice system idle iowait irq softirq steal; guest time is within user time
# A status file has some 1.5 KB.
_MOST_BYTES = 1 << 14


def machine_cpu(root: Path) -> tuple[float, float]:
    """Busy and total CPU seconds of all cores since boot."""
    with (root / "stat").open(encoding="ascii") as file:
        ticks = [int(word) for word in file.readline().split()[1 : 1 + _COUNTED]]
    total = sum(ticks)
    return (total - ticks[_IDLE] - ticks[_IOWAIT]) / TICKS_PER_S, total / TICKS_PER_S


def machine_memory(root: Path) -> tuple[int, int]:
    """MemTotal and MemAvailable in bytes."""
    table = (root / "meminfo").read_bytes()
    return _kilobytes(table, b"MemTotal") * 1024, _kilobytes(table, b"MemAvailable") * 1024


def process(root: Path, pid: int) -> ProcessReading | None:
    """None when it is gone or not readable. Some 40 microseconds, as each node's is read every second."""
    folder = f"{root}/{pid}"
    try:
        status = _content(f"{folder}/status")
        whole, main = _cpu_s(f"{folder}/stat"), _cpu_s(f"{folder}/task/{pid}/stat")
        return ProcessReading(_kilobytes(status, b"VmRSS") * 1024, _kilobytes(status, b"VmSwap") * 1024, whole, main)
    except (OSError, IndexError, ValueError):
        return None


def _cpu_s(path: str) -> float:
    # The second field is the program's name in brackets and may itself hold spaces and brackets.
    fields = _content(path).rpartition(b")")[2].split(None, _SYSTEM + 1)
    return (int(fields[_USER]) + int(fields[_SYSTEM])) / TICKS_PER_S


def _kilobytes(table: bytes, name: bytes) -> int:
    """Of a line `Name:   12 kB`; 0 without one (a process that ends has no memory)."""
    at = table.find(b"\n" + name + b":")
    if at < 0 and not table.startswith(name + b":"):
        return 0
    begin = at + len(name) + 2
    return int(table[begin : table.index(b"kB", begin)])


def _content(path: str) -> bytes:
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(file, _MOST_BYTES)
    finally:
        os.close(file)
