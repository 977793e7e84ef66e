"""A capture that runs in a thread while something else happens, and waiting for what it reports. For follow.guard."""

from __future__ import annotations

import threading
from collections.abc import Callable

from cachekeep.backup.walk import Halted
from cachekeep.follow.types import FollowReport, FollowStatus, OnNews, OnStatus

# Runs until the event is set: follow.follow.follow with all but the last two of its arguments.
Capture = Callable[[OnStatus, threading.Event], FollowReport]
_LOOK_S = 0.2


class Watch:
    """A context: the capture ends with it, in order. stop: of the whole undertaking.

    on_end: told at once, from its thread, when the capture ends by an error.
    """

    def __init__(self, capture: Capture, on_status: OnStatus, stop: threading.Event) -> None:
        self._capture, self._on_status, self._stop = capture, on_status, stop
        self._changed = threading.Condition()
        self._status: FollowStatus | None = None
        self._error: BaseException | None = None
        self._ended = False
        self._end = threading.Event()
        self.on_end: OnNews = lambda sentence: None
        self._thread = threading.Thread(target=self._run, name="capture")

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """End the capture and wait for it: what it has is durable then."""
        self._end.set()
        self._thread.join()

    def proved(self, at_least_ms: int = 0) -> FollowStatus:
        """Wait until every change up to this moment (source's clock) is known and durable. Raises as `until`."""

        def is_proved(status: FollowStatus) -> bool:
            goes_on = status.covered_since_ms is not None and status.phase not in ("away", "copying")
            since_ms, durable_ms = status.covered_since_ms or 0, status.durable_until_ms or 0
            return goes_on and durable_ms >= max(at_least_ms, since_ms, 1)

        return self.until(is_proved)

    def until(self, is_so: Callable[[FollowStatus], bool]) -> FollowStatus:
        """The first status of which it is true. Raises what the capture raised; Halted when everything is to stop."""
        while True:
            with self._changed:
                self._raise()
                if self._status is not None and is_so(self._status):
                    return self._status
                if self._ended:
                    raise Halted("the capture was stopped before the upgrade was judged; what was captured is kept")
                self._changed.wait(_LOOK_S)
            if self._stop.is_set():
                raise Halted("stopped before the upgrade was judged; what was captured is kept")

    @property
    def ended(self) -> bool:
        """The capture has ended by itself."""
        return self._ended

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _told(self, status: FollowStatus) -> None:
        with self._changed:
            self._status = status
            self._changed.notify_all()
        self._on_status(status)

    def _run(self) -> None:
        try:
            self._capture(self._told, self._end)
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
            self._error = error
            if not self._end.is_set():
                self.on_end(f"the capture has ended: {error}")
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()
