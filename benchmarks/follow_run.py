"""A `cachekeep backup run --follow` in a process of its own: what it says, and what it costs. Linux: reads /proc."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from benchmarks.backup_meter import end
from benchmarks.installation import BenchmarkError
from benchmarks.machine import cpu_s, rss_bytes

_DEADLINE_S = 120.0
_SEALED = (0, 4)  # 4: with gaps, which the sealed event names


@dataclass(frozen=True)
class Sample:
    """at_s: by the monotonic clock. status: see follow.types.FollowStatus."""

    at_s: float
    rss_bytes: int
    cpu_s: float
    status: dict[str, Any]


class Capture:
    """Runs while the block does. samples: one for each status, about one a second."""

    def __init__(self, url: str, place: Path, method: str, *options: str) -> None:
        self.method, self.samples = method, list[Sample]()
        self.sealed: dict[str, Any] | None = None
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("CACHEKEEP_", "AWS_"))}
        words = ["backup", "run", url, str(place), "--follow", "--source", method, "--json", *options]
        self._errors = place.with_name(f"{place.name}.errors").open("w+b")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "cachekeep", *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=clean,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        self._told = threading.Condition()
        self._reader = threading.Thread(target=self._read, args=(self._process.stdout,), name="capture")
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        end(self._process)
        self._reader.join()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._errors.close()

    def follows(self) -> Sample:
        """Wait until the copy is made and every change since is known."""
        return self.until(lambda seen: seen["phase"] == "following" and seen["covered_until_ms"], "it follows")

    def covered(self, moment_ms: int) -> Sample:
        """Wait until every change up to the moment is known."""
        return self.until(lambda seen: (seen["covered_until_ms"] or 0) >= moment_ms, "it has come so far")

    def until(self, condition: Any, what: str, within_s: float = _DEADLINE_S) -> Sample:
        """Raises BenchmarkError."""
        deadline, known = time.monotonic() + within_s, len(self.samples)
        with self._told:
            while True:
                for sample in [*self.samples[known:], *self.samples[-1:]]:
                    if condition(sample.status):
                        return sample
                known = len(self.samples)
                if self._process.poll() is not None:
                    raise BenchmarkError(f"following by {self.method} ended before {what}: {self._complaints()}")
                if time.monotonic() > deadline:
                    raise BenchmarkError(f"following by {self.method}: not within {within_s:g} s: {what}")
                self._told.wait(0.5)

    def now(self) -> tuple[float, int]:
        """Its processor seconds and resident bytes."""
        return cpu_s(self._process.pid), rss_bytes(self._process.pid)

    def seal(self) -> dict[str, Any]:
        """Stop it as a user does; what it says at the end. Raises BenchmarkError."""
        self._process.send_signal(signal.SIGINT)
        try:
            code = self._process.wait(_DEADLINE_S)
        except subprocess.TimeoutExpired:
            raise BenchmarkError(f"following by {self.method} does not end") from None
        self._reader.join()
        if code not in _SEALED or self.sealed is None:
            raise BenchmarkError(f"following by {self.method} ended with {code}: {self._complaints()}")
        return self.sealed

    def _read(self, output: IO[bytes]) -> None:
        for line in output:
            event = json.loads(line)
            with self._told:
                if event["event"] == "status":
                    with suppress(FileNotFoundError, ProcessLookupError, IndexError):
                        cpu, rss = self.now()
                        self.samples.append(Sample(time.monotonic(), rss, cpu, event))
                elif event["event"] == "sealed":
                    self.sealed = event
                self._told.notify_all()

    def _complaints(self) -> str:
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace")[-500:]
