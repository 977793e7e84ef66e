"""Runs a program to its end and says what it took: time, processor time, memory. Linux: reads /proc."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.installation import BenchmarkError

_EVERY_S = 0.02
_END_S = 10.0
_RUN_DEADLINE_S = 300.0


@dataclass(frozen=True)
class Run:
    """begin_s, end_s: by the monotonic clock, which all processes share. peak_bytes: of resident memory."""

    begin_s: float
    end_s: float
    cpu_s: float
    peak_bytes: int
    output: bytes

    @property
    def wall_s(self) -> float:
        return self.end_s - self.begin_s

    @property
    def report(self) -> dict[str, Any]:
        """Of a command of backup."""
        report: dict[str, Any] = self.page.get("report", self.page)
        return report

    @property
    def work_s(self) -> float:
        """By its report: without the start of the interpreter and the first look at the endpoint."""
        return float(self.report["seconds"])

    @property
    def page(self) -> dict[str, Any]:
        """What it printed, as JSON."""
        page: dict[str, Any] = json.loads(self.output)
        return page


def backup(*words: str) -> Run:
    """A `cachekeep backup` command with --json, in a process of its own. Raises BenchmarkError unless it ended well."""
    return metered([sys.executable, "-m", "cachekeep", "backup", *words, "--json"])


def bare(*words: str | int) -> dict[str, Any]:
    """What a loop of benchmarks.backup_loops says of itself, which ran in a process of its own."""
    return metered([sys.executable, "-m", "benchmarks.backup_loops", *map(str, words)]).page


def metered(argv: Sequence[str]) -> Run:
    """Raises BenchmarkError with the end of what it said when its exit code is not 0."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("CACHEKEEP_", "AWS_"))}
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as complaints:
        begin_s = time.monotonic()
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=output, stderr=complaints, env=clean, start_new_session=True
        )
        try:
            peak_bytes = _watched(process.pid, begin_s + _RUN_DEADLINE_S)
            end_s = time.monotonic()
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        finally:
            end(process)
        output.seek(0)
        if process.returncode:
            complaints.seek(0)
            said = (complaints.read() + output.read()).decode(errors="replace")[-500:]
            raise BenchmarkError(f"{' '.join(argv[1:])} ended with {process.returncode}: {said}")
        return Run(begin_s, end_s, usage.ru_utime + usage.ru_stime, peak_bytes, output.read())


def end(process: subprocess.Popen[bytes]) -> None:
    """Of a process that we started, by its pid, if it still runs."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(_END_S)


def _watched(pid: int, deadline: float) -> int:
    """Wait for its end; the most memory that it had.

    Not ru_maxrss: that is never less than what the process had that forked it, so it would show this one's memory.
    """
    peak_kib = 0
    status = Path(f"/proc/{pid}/status")
    while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        with suppress(FileNotFoundError, ProcessLookupError):
            for line in status.read_text().splitlines():
                if line.startswith("VmHWM:"):
                    peak_kib = max(peak_kib, int(line.split()[1]))
        if time.monotonic() > deadline:
            raise BenchmarkError(f"process {pid} did not end within {_RUN_DEADLINE_S:g} s")
        time.sleep(_EVERY_S)
    return peak_kib << 10
