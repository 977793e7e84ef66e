"""A repository that takes nothing: everybody waits until it does again. Called by follow.key_follow and its lanes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from cachekeep.backup.catalog import CatalogError, CatalogFault
from cachekeep.backup.pacing import Halt
from cachekeep.domain.blobs import BlobError, BlobFault

StoreError = BlobError | CatalogError
_FIRST_WAIT_S, _LONGEST_WAIT_S, _TICK_S = 0.2, 5.0, 0.05
_PASSING = (BlobFault.FULL, BlobFault.UNREACHABLE, BlobFault.FORBIDDEN)


class StoreTrouble:
    """error: the one that is waited out. fatal: one that does not pass. Safe to share between threads."""

    def __init__(self, halt: Halt, stop: threading.Event) -> None:
        self._halt, self._stop = halt, stop
        self._changed = threading.Condition()
        self.error: StoreError | None = None
        self.fatal: StoreError | None = None

    def happened(self, error: StoreError) -> None:
        with self._changed:
            self.error = self.error or error

    def outlast(self, error: StoreError) -> None:
        """For lanes: returns when the store works again. Raises Halted, and the error when it does not pass."""
        self.happened(error)
        with self._changed:
            while self.error is not None and self.fatal is None:
                self._changed.wait(0.2)
                self._halt.check()
            if self.fatal is not None:
                raise self.fatal

    def wait(self, again: Callable[[], None], told: Callable[[str], None]) -> bool:
        """For the whole: True when `again` succeeds, False when it was told to stop before. Raises what does not pass.

        again: tries to write; raises what the store raises. told: a sentence, many times a second.
        """
        wait_s, began, error = _FIRST_WAIT_S, time.monotonic(), self.error
        assert error is not None  # noqa: S101 - it happened
        while True:
            if _is_fatal(error):
                with self._changed:
                    self.fatal = error
                    self._changed.notify_all()
                raise error
            again_at = time.monotonic() + wait_s
            while time.monotonic() < again_at:
                told(f"{error} (since {time.monotonic() - began:.0f} s)")
                if self._stop.wait(_TICK_S):
                    return False
            wait_s = min(wait_s * 2, _LONGEST_WAIT_S)
            try:
                again()
            except (BlobError, CatalogError) as another:
                error = another
            else:
                return True

    def over(self) -> None:
        with self._changed:
            self.error = None
            self._changed.notify_all()


def _is_fatal(error: StoreError) -> bool:
    if isinstance(error, BlobError):
        return error.fault not in _PASSING
    return error.fault is CatalogFault.ABSENT or (error.fault is CatalogFault.STATE and "another run" in error.what)
