"""What the network turned away: packets and tracked connections, from the kernel's tables. Used by host.meter only.

EC2 counts what exceeds an instance's allowance; a machine of one's own has no allowance, so what its kernel dropped
for want of room stands for it.
Source: /proc/net/stat/nf_conntrack (hexadecimal, one line per CPU under a line of names); /proc/net/softnet_stat
(hexadecimal, one line per CPU: processed, dropped, time_squeeze). time_squeeze loses no packet and is not counted.
"""

from __future__ import annotations

from pathlib import Path

_REFUSED = ("insert_failed", "drop", "early_drop")


def conntrack_exceeded(root: Path) -> int | None:
    """Connections that found no room in the table, since boot; None where nothing is tracked."""
    try:
        names, *rows = (line.split() for line in (root / "net/stat/nf_conntrack").read_text().splitlines())
        columns = [names.index(name) for name in _REFUSED]
        return sum(int(row[column], 16) for row in rows for column in columns)
    except (OSError, ValueError, IndexError):
        return None


def packets_exceeded(root: Path) -> int | None:
    """Packets dropped because the queue before the protocol stack was full, since boot; None where not told."""
    try:
        return sum(int(line.split()[1], 16) for line in (root / "net/softnet_stat").read_text().splitlines())
    except (OSError, ValueError, IndexError):
        return None
