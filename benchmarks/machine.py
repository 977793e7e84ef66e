"""What a figure was measured on, and what a process costs. Linux: reads /proc."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_KIB = 1024


@dataclass(frozen=True)
class Machine:
    """load: mean number of runnable processes over one minute; above `cores`, others slow the figures down."""

    cpu: str
    cores: int
    memory_bytes: int
    load: float
    kernel: str
    python: str

    def __str__(self) -> str:
        return (
            f"{self.cpu}, {self.cores} cores, {self.memory_bytes / 1e9:.0f} GB, Linux {self.kernel}, "
            f"Python {self.python}, load {self.load:.1f}"
        )


def this_machine() -> Machine:
    return Machine(
        cpu=_cpu_name(),
        cores=len(os.sched_getaffinity(0)),
        memory_bytes=psutil.virtual_memory().total,
        load=os.getloadavg()[0],
        kernel=platform.release(),
        python=platform.python_version(),
    )


def _cpu_name() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.machine()


def cpu_s(pid: int) -> float:
    """Processor time that the process has used since its start, in user and kernel, all threads; 10 ms exact."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def family_cpu_s(pid: int) -> float:
    """The same, with that of its children which have ended and were waited for, and of theirs."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / _TICKS_PER_S


def rss_bytes(pid: int) -> int:
    """Resident memory, pages that are shared with others included."""
    return _kib_fields(Path(f"/proc/{pid}/status")).get("VmRSS", 0) * _KIB


def pss_bytes(pids: Iterable[int]) -> int:
    """Resident memory of these processes, each shared page counted by its share. Ended ones count nothing."""
    total = 0
    for pid in pids:
        with suppress(FileNotFoundError, ProcessLookupError):
            total += _kib_fields(Path(f"/proc/{pid}/smaps_rollup")).get("Pss", 0) * _KIB
    return total


def _kib_fields(path: Path) -> dict[str, int]:
    """The `Name:  123 kB` lines of a file."""
    fields = (line.split() for line in path.read_text().splitlines())
    return {f[0].rstrip(":"): int(f[1]) for f in fields if len(f) == 3 and f[2] == "kB"}
