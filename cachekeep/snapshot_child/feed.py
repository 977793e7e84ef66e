"""RDB files of a generation into pipes that engines load them from. Called by `order`.

A frame is written once its digest was proved, so the engine loads while the rest is still read; the last piece, and
with it the end of the file, only once the whole stream was proved. An engine that reads one that breaks off before
refuses it. Whoever opens a pipe is given its file from the beginning: an engine in place of one that ended while it
loaded, and one that has loaded and opens the name once more: it would wait for ever if nobody wrote.
"""

from __future__ import annotations

import fcntl
import os
import queue
import select
import threading
import time
from collections.abc import Generator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import closing, suppress

from cachekeep.backup.catalog import Repository
from cachekeep.backup.copy_types import Stopped
from cachekeep.domain.snapshot_work import WorkFailed
from cachekeep.snapshot_child.lanes import stream

# An engine opens its file within so long, or it has not been started.
READER_DEADLINE_S = 60.0
# What is in the pipe by then is loaded in milliseconds.
_END_DEADLINE_S = 60.0
_LOOK_EVERY_S, _LOOK_EVERY_MS = 0.005, 100
_PIPE_BYTES = 1 << 20
_PIECES_AHEAD = 8  # of 1 MiB, for each file that is written
# Faster than any engine loads. One that reads is not to wake the writer for every page of a pipe that was full.
_BYTES_PER_S = 500e6


class Feeder:
    """The pipes of one generation. reader_deadline_s: for the first one who opens each of them."""

    def __init__(
        self,
        repository: Repository,
        generation: str,
        stop: threading.Event,
        reader_deadline_s: float = READER_DEADLINE_S,
    ) -> None:
        self._repository, self._generation, self._stop = repository, generation, stop
        self._deadline_s = reader_deadline_s
        self._over = threading.Event()
        # Proving takes less of a core than loading does.
        self._room = threading.Semaphore(1 + (os.cpu_count() or 1))

    def feed(self, lanes: tuple[tuple[str, str], ...]) -> None:
        """lanes: (lane, path of its pipe). Raises Stopped at its end; WorkFailed for data that is damaged, or where no
        engine reads."""
        with ThreadPoolExecutor(len(lanes)) as threads:
            try:
                fed = [threads.submit(self._keep, lane, path) for lane, path in lanes]
                wait(fed, return_when=FIRST_EXCEPTION)
                failed = [error for one in fed if one.done() and (error := one.exception()) is not None]
            finally:
                self._over.set()
        raise next((error for error in failed if not isinstance(error, Stopped)), failed[0])

    def _keep(self, lane: str, path: str) -> None:
        """Feeds whoever opens the pipe, one after the other."""
        until = time.monotonic() + self._deadline_s
        while True:
            end = self._opened(path, until)
            try:
                with self._room:
                    self._write_file(lane, end)
                self._await_end(end)
            except BrokenPipeError:
                continue
            finally:
                # What nobody has read goes with the last who has the pipe open.
                os.close(end)
                until = float("inf")

    def _opened(self, path: str, until: float) -> int:
        while True:
            self._check()
            # Refused while nobody reads.
            with suppress(OSError):
                end = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
                with suppress(OSError):  # users have a limit: then it stays as small as it is
                    fcntl.fcntl(end, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
                return end
            if time.monotonic() > until:
                raise WorkFailed("no engine has begun to load it", again=True)
            self._stop.wait(_LOOK_EVERY_S)

    def _write_file(self, lane: str, end: int) -> None:
        """Raises BrokenPipeError when the reader goes away."""
        held = b""
        with closing(self._pieces(lane)) as pieces:
            for piece in pieces:
                if held:
                    self._write(end, held)
                held = piece
        # The loop is over: everything was proved.
        if not held:
            raise WorkFailed(f"{self._generation} has no data of {lane}")
        self._write(end, held)

    def _pieces(self, lane: str) -> Generator[bytes, None, None]:
        """The file; a thread reads and proves the next pieces while those before them are written."""
        over, proved = threading.Event(), queue.Queue[bytes | None](_PIECES_AHEAD)

        def prove() -> None:
            try:
                for piece in stream(self._repository, self._generation, lane, over):
                    proved.put(piece)
            finally:
                proved.put(None)

        with ThreadPoolExecutor(1) as proving:
            end = proving.submit(prove)
            try:
                while (piece := proved.get()) is not None:
                    yield piece
                end.result()
            finally:
                over.set()
                while not end.done():
                    with suppress(queue.Empty):
                        proved.get(timeout=_LOOK_EVERY_S)

    def _write(self, end: int, piece: bytes) -> None:
        rest = memoryview(piece)
        pause_s = fcntl.fcntl(end, fcntl.F_GETPIPE_SZ) / _BYTES_PER_S
        while rest:
            self._check()
            try:
                rest = rest[os.write(end, rest) :]
            except BlockingIOError:
                time.sleep(pause_s)

    def _await_end(self, end: int) -> None:
        """Until nobody reads any more. Raises WorkFailed."""
        until = time.monotonic() + _END_DEADLINE_S
        poll = select.poll()
        poll.register(end, 0)
        while not poll.poll(_LOOK_EVERY_MS):
            self._check()
            if time.monotonic() > until:
                raise WorkFailed("its data ends, and the engine waits for more")

    def _check(self) -> None:
        if self._stop.is_set() or self._over.is_set():
            raise Stopped(self._generation, resumable=False)
