"""The control group that limits this process, and so the engines that it starts (Linux). Used by host.meter only.

A limit of any group above one's own applies too; the tightest is what counts.
Source: cgroups(7); /proc/self/cgroup: `0::/path` (v2), `4:memory:/path` (v1); cpu.max, cpu.stat, memory.max,
memory.current, memory.stat (v2); cpu.cfs_quota_us, cpu.cfs_period_us, cpuacct.usage, memory.limit_in_bytes,
memory.usage_in_bytes, memory.stat (v1).
"""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath


class ControlGroup:
    """root: /proc. mount: where the groups are, /sys/fs/cgroup. Found once: a running service is not moved about."""

    def __init__(self, root: Path, mount: Path) -> None:
        paths = _paths(root / "self" / "cgroup")
        # Where v1 has controllers, v2 beside it ("hybrid") limits nothing.
        self._unified = not (mount / "memory").is_dir() and not (mount / "cpu").is_dir()
        self._cpu, self._memory = (
            _upwards(mount, paths.get("", "/")) if self._unified else _upwards(mount / name, paths.get(name, "/"))
            for name in ("cpu", "memory")
        )
        self._mount = mount

    def cpu(self) -> tuple[float, float] | None:
        """CPU seconds used within the tightest group, and how many cores it may use; None where nothing limits."""
        limited = [(cores, group) for group in self._cpu if (cores := self._cores(group)) is not None]
        if not limited:
            return None
        cores, group = min(limited)
        try:
            if self._unified:
                used_s = _table(group / "cpu.stat")["usage_usec"] / 1e6
            else:
                inner = group.relative_to(self._mount / "cpu")
                used_s = _number(self._mount / "cpuacct" / inner / "cpuacct.usage") / 1e9
        except (OSError, ValueError, KeyError):
            return None
        return used_s, min(cores, float(os.cpu_count() or 1))

    def memory(self) -> tuple[int, int] | None:
        """The tightest limit and what is used of it without the file cache that can be dropped, in bytes; None
        where nothing limits (v1 tells a number beyond any machine's memory then)."""
        limits = [(limit, group) for group in self._memory if (limit := self._limit(group)) is not None]
        if not limits:
            return None
        limit, group = min(limits)
        used, cache = (
            ("memory.current", "inactive_file") if self._unified else ("memory.usage_in_bytes", "total_inactive_file")
        )
        try:
            return limit, max(0, _number(group / used) - _table(group / "memory.stat").get(cache, 0))
        except (OSError, ValueError):
            return None

    def _cores(self, group: Path) -> float | None:
        try:
            if self._unified:
                quota, period = (group / "cpu.max").read_text().split()
                return int(quota) / int(period)  # `max` is no number: no limit
            allowed = _number(group / "cpu.cfs_quota_us")
            return allowed / _number(group / "cpu.cfs_period_us") if allowed > 0 else None
        except (OSError, ValueError, ZeroDivisionError):
            return None

    def _limit(self, group: Path) -> int | None:
        try:
            return _number(group / ("memory.max" if self._unified else "memory.limit_in_bytes"))
        except (OSError, ValueError):
            return None


def _paths(file: Path) -> dict[str, str]:
    """Controller -> path of our group; v2's stands under \"\"."""
    try:
        lines = [line.split(":", 2) for line in file.read_text(encoding="utf-8", errors="replace").splitlines()]
    except OSError:
        return {}
    return {name: words[2] for words in lines if len(words) == 3 for name in words[1].split(",")}


def _upwards(mount: Path, path: str) -> list[Path]:
    """Our group's folder and those above it. A container may see its own group as the mount, or the host's path that
    does not exist within: folders that are not there are left out."""
    inner = PurePosixPath(path.lstrip("/"))
    if ".." in inner.parts:  # a group outside of our namespace
        return [mount]
    folders = [mount / inner, *(mount / parent for parent in inner.parents)]
    return [folder for folder in dict.fromkeys(folders) if folder.is_dir()]


def _number(path: Path) -> int:
    return int(path.read_text())


def _table(path: Path) -> dict[str, int]:
    """Lines `name 12`."""
    words = (line.split() for line in path.read_text(encoding="utf-8", errors="replace").splitlines())
    return {pair[0]: int(pair[1]) for pair in words if len(pair) == 2 and pair[1].isdecimal()}
