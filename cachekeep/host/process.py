"""Looks at processes of this machine: is it alive, since when, in which folder, with which mark. Called by host only.

A pid alone names nothing: pids are reused. A process is known by pid and start time; whether it is a node's
process is decided by its working folder, by leading its own session (an engine's fork children do not), and by
the mark in its environment (the shell of somebody who reads the log in that folder has none).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cachekeep.domain.nodes import Process

MARK = "CACHEKEEP_NODE"
DELETED = " (deleted)"


@dataclass(frozen=True)
class Look:
    """What the kernel says of a process now. state: one letter (`R`, `S`, `T` stopped, `Z` ended, ...).

    threads: how many it has left, the first among them even when that has ended.
    """

    process: Process
    state: str
    session: int
    threads: int = 1

    @property
    def alive(self) -> bool:
        """A zombie has ended: it holds neither memory nor sockets, only its number. But one whose other threads
        are still on their way out holds both: the first thread of a killed engine is often the first to go."""
        return self.state not in "ZX" or self.threads > 1

    @property
    def stopped(self) -> bool:
        return self.state == "T"

    @property
    def leads_session(self) -> bool:
        return self.session == self.process.pid


if sys.platform == "linux":

    def look(pid: int) -> Look | None:
        """Return what is seen of pid now, or None when no such process exists."""
        try:
            text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            return None
        # proc(5): the second field is the program's name in brackets and may itself hold spaces and brackets.
        fields = text.rpartition(")")[2].split()
        return Look(Process(pid, started=fields[19]), state=fields[0], session=int(fields[3]), threads=int(fields[17]))

    def working_folder(pid: int) -> str | None:
        """Return the folder, with ` (deleted)` behind it when it is gone; None when that may not be known."""
        try:
            return str(Path(f"/proc/{pid}/cwd").readlink())
        except OSError:  # ended, or another user's
            return None

    def mark_of(pid: int) -> str | None:
        """Return the value of CACHEKEEP_NODE that the process was started with, if any."""
        try:
            environment = Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:  # ended, or another user's
            return None
        start = f"{MARK}=".encode()
        for entry in environment.split(b"\0"):
            if entry.startswith(start):
                return entry[len(start) :].decode("utf-8", "replace")
        return None

    def all_pids() -> list[int]:
        return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]

else:
    import psutil

    def look(pid: int) -> Look | None:
        """Return what is seen of pid now, or None when no such process exists."""
        try:
            seen = psutil.Process(pid)
            state = {psutil.STATUS_ZOMBIE: "Z", psutil.STATUS_DEAD: "X", psutil.STATUS_STOPPED: "T"}
            started = repr(float(seen.create_time()))
            return Look(Process(pid, started), state.get(seen.status(), "S"), os.getsid(pid))
        except (psutil.NoSuchProcess, ProcessLookupError):
            return None
        except (psutil.AccessDenied, PermissionError):  # another user's, so none of ours
            return None

    def working_folder(pid: int) -> str | None:
        """Return the folder; None when that may not be known."""
        try:
            return str(psutil.Process(pid).cwd())
        except (psutil.Error, OSError):
            return None

    def mark_of(pid: int) -> str | None:
        """Return the value of CACHEKEEP_NODE that the process was started with, if any."""
        try:
            value = psutil.Process(pid).environ().get(MARK)
        except (psutil.Error, OSError):
            return None
        return None if value is None else str(value)

    def all_pids() -> list[int]:
        return [int(pid) for pid in psutil.pids()]


def is_alive(process: Process) -> bool:
    """True while this very process runs; a later process with the same pid is another one."""
    seen = look(process.pid)
    return seen is not None and seen.alive and seen.process == process


@dataclass(frozen=True)
class Inhabitant:
    """A living process in a folder of ours. folder: as the kernel shows it. mark: None for what is not ours,
    and for fork children of an engine, which overwrite their environment."""

    seen: Look
    folder: str
    mark: str | None


def inhabitants(root: Path) -> Iterator[Inhabitant]:
    """Yield every living process whose working folder is root or below it. Walks over all processes.

    root: a resolved path, because the kernel shows resolved paths.
    """
    inside = f"{root}/"
    for pid in all_pids():
        folder = working_folder(pid)
        if folder is None or not f"{folder.removesuffix(DELETED)}/".startswith(inside):
            continue
        mark, seen = mark_of(pid), look(pid)
        if seen is not None and seen.alive:
            yield Inhabitant(seen, folder, mark)
