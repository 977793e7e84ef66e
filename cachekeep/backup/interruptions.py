"""What went wrong on the way of a copy, for its log and its verdict: losses of the source, keys that were skipped.

Lines are gathered and become durable with `flush`, which is called before an entry whose cursor relies on them.
Safe to share between threads.
"""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from cachekeep.backup.pacing import Halt
from cachekeep.backup.writer import GenerationWriter
from cachekeep.domain.remote import RemoteError, RemoteFault

T = TypeVar("T")

_NAMED_LIMIT = 100_000
_REASONS_LIMIT = 100
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.1, 2.0
OTHER_REASONS = "for other reasons"


def now_ms() -> int:
    return time.time_ns() // 1_000_000


class Journal:
    """skipped: keys per reason. vanished: keys that were gone when they were to be read."""

    def __init__(self) -> None:
        self.generation: GenerationWriter | None = None
        self.interruptions = self.vanished = 0
        self.skipped: dict[str, int] = {}
        self.notes: list[str] = []
        self._named = 0
        self._unnamed: dict[str, int] = {}
        self._lines: list[dict[str, Any]] = []
        self._lock = threading.Lock()

    def interruption(self, lane: str, start_ms: int, end_ms: int | None, reason: str) -> None:
        """One loss of the source; end_ms None: it did not come back in time."""
        with self._lock:
            self.interruptions += 1
            line = {"event": "interruption", "start_ms": start_ms, "end_ms": end_ms, "reason": reason, "lane": lane}
            self._lines.append(line)

    def skip(self, db: int, key: bytes, reason: str) -> None:
        """A key that could not be read, and why in the server's words."""
        with self._lock:
            self._named += 1
            self._count(reason, 1)
            if self._named > _NAMED_LIMIT:
                self._unnamed[reason] = self._unnamed.get(reason, 0) + 1
                return
            self._lines.append({"event": "skipped", "db": db, **key_fields(key), "reason": reason})

    def event(self, event: str, **fields: object) -> None:
        """Anything else worth a line, such as a slot that moved."""
        with self._lock:
            self._lines.append({"event": event, "at_ms": now_ms(), **fields})

    def note(self, sentence: str) -> None:
        """For the report; each sentence once."""
        with self._lock:
            if sentence not in self.notes:
                self.notes.append(sentence)

    def vanish(self, keys: int) -> None:
        with self._lock:
            self.vanished += keys

    def flush(self) -> None:
        """Make the lines so far durable. Raises BlobError, CatalogError."""
        with self._lock:
            unnamed = self._unnamed.items()
            lines = self._lines + [{"event": "skipped-unnamed", "keys": keys, "reason": why} for why, keys in unnamed]
            if self.generation is not None and lines:
                self.generation.log(lines)
                self._lines, self._unnamed = [], {}

    def remember(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """What an earlier run wrote of the same generation: its skipped keys stay skipped."""
        with self._lock:
            for line in lines:
                if line.get("event") == "skipped":
                    self._named += 1
                    self._count(str(line.get("reason")), 1)
                elif line.get("event") == "skipped-unnamed":
                    self._count(str(line.get("reason")), int(line.get("keys", 0)))
                elif line.get("event") == "interruption":
                    self.interruptions += 1

    def _count(self, reason: str, keys: int) -> None:
        if reason not in self.skipped and len(self.skipped) >= _REASONS_LIMIT:
            reason = OTHER_REASONS
        self.skipped[reason] = self.skipped.get(reason, 0) + keys


def key_fields(key: bytes) -> dict[str, str]:
    """A key for JSON: as text where it is UTF-8, else in base64."""
    try:
        return {"key": key.decode()}
    except UnicodeDecodeError:
        return {"key_b64": base64.b64encode(key).decode()}


class Patience:
    """For one lane: waits for a source that is gone, longer from time to time, until it has waited long enough.

    Only progress makes it patient anew: a source that lets us connect and then refuses everything is not back.
    """

    def __init__(self, lane: str, patience_s: float, halt: Halt, journal: Journal) -> None:
        self._lane, self._patience_s, self._halt, self._journal = lane, patience_s, halt, journal
        self._since: float | None = None
        self._wait_s = _FIRST_WAIT_S

    def progressed(self) -> None:
        self._since = None

    def outlast(self, error: RemoteError, again: Callable[[], T]) -> T:
        """What succeeds in the end; logged from the loss on. Raises RemoteError, Halted, and what `again` raises.

        error: how the source was lost; anything but UNREACHABLE does not pass and is raised at once.
        """
        start_ms = now_ms()
        if error.fault is not RemoteFault.UNREACHABLE:
            raise error
        if self._since is None:
            self._since, self._wait_s = time.monotonic(), _FIRST_WAIT_S
        last = error
        try:
            while time.monotonic() - self._since <= self._patience_s:
                self._halt.wait(self._wait_s)
                self._wait_s = min(self._wait_s * 2, _LONGEST_WAIT_S)
                try:
                    found = again()
                except RemoteError as refused:
                    if refused.fault is not RemoteFault.UNREACHABLE:
                        raise
                    last = refused
                else:
                    self._journal.interruption(self._lane, start_ms, now_ms(), error.what)
                    return found
            what = f"{last.what}, and was not back within {self._patience_s:g} s"
            advice = "what was copied is kept: run the same again to go on there, when the source is back"
            raise RemoteError(RemoteFault.UNREACHABLE, what, advice) from error
        except BaseException:
            self._journal.interruption(self._lane, start_ms, None, error.what)
            raise
