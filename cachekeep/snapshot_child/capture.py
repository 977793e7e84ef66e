"""`python -m cachekeep.snapshot_child.capture`: keeps every moment of a group while its standard input is open.

When that closes (snapshot_child.pipes), what was captured is sealed. On standard output:

    {"kind": "following", "text": "<method>"}   every change is caught from here on, and again after a trouble
    {"kind": "trouble", "text": "..."}          nothing has been caught for a while
    {"kind": "expired", "text": "<generation>"}
    {"until_ms": ..., "bytes": ...}         every few seconds, see domain.continuous.CaptureState
    {"failed": "..."}                           the end; the same wish may succeed later
"""

from __future__ import annotations

import os
import sys
import threading
import time
from dataclasses import dataclass, replace

import msgspec

from cachekeep import backups
from cachekeep.backup.catalog import Repository
from cachekeep.backup.expire import Keep, expire
from cachekeep.domain.blobs import BlobError
from cachekeep.domain.continuous import CaptureNews, CaptureOrder, CaptureState
from cachekeep.domain.remote import Connection, Remote
from cachekeep.follow.follow import follow
from cachekeep.follow.types import Choice, FollowOptions, FollowStatus
from cachekeep.snapshot_child.compose import Wish, engine_at
from cachekeep.snapshot_child.pipes import given, tell

# A source may be away for so long before the service is asked whether another node is the primary now.
_PATIENCE_S = 60.0
# A failover takes some seconds, and is no trouble.
_TROUBLE_AFTER_S = 15.0
_FIRST_EXPIRE_S, _EXPIRE_EVERY_S = 60.0, 1800.0
_LONGEST_GENERATION_S = 86_400.0
_STATE_EVERY_S = 2.0
# A day has some ten thousand files.
_MEASURE_EVERY_S = 30.0


@dataclass(frozen=True)
class Named:
    """A group's primary by the name of the group: another primary is still the same source."""

    remote: Remote
    name: str

    @property
    def address(self) -> str:
        return self.remote.address

    def connect(self, db: int = 0, *, timeout_s: float | None = None) -> Connection:
        return self.remote.connect(db, timeout_s=timeout_s)

    def at(self, host: str, port: int) -> Remote:
        return self.remote.at(host, port)


class _Teller:
    """Tells of a beginning once, of a trouble when it lasts, and every few seconds how far it is.

    clock_ahead_ms: the source's clock minus this machine's.
    """

    def __init__(self, opened: Repository, clock_ahead_ms: int) -> None:
        self._opened, self._clock_ahead_ms = opened, clock_ahead_ms
        self._well_at, self._told, self._trouble = time.monotonic(), "", ""
        # Durable when the repository took no more, in ms since 1970 by the source's clock; -1 while it takes all.
        self._stored_ms = -1
        self._state_at = self._measured_at = float("-inf")
        self._bytes: int | None = None
        self.method = ""

    def chosen(self, choice: Choice) -> None:
        self.method = choice.method

    def status(self, status: FollowStatus) -> None:
        self._tell_state(status)
        now, durable_ms = time.monotonic(), status.durable_until_ms or 0
        if status.phase in ("away", "store"):
            self._trouble = status.trouble or "the engine does not answer"
            # It tries again and again, and follows in between: only what got there proves that there is room.
            self._stored_ms = durable_ms if status.phase == "store" else self._stored_ms
        elif durable_ms > self._stored_ms:
            self._well_at, self._stored_ms, self._trouble = now, -1, ""
        if self._trouble:
            if now - self._well_at > _TROUBLE_AFTER_S and self._told != "trouble":
                self._tell("trouble", self._trouble)
        elif status.covered_since_ms is not None and self._told != "following":
            self._tell("following", self.method)

    def _tell_state(self, status: FollowStatus) -> None:
        now, until_ms = time.monotonic(), status.durable_until_ms
        if now - self._state_at < _STATE_EVERY_S:
            return
        self._state_at = now
        if now - self._measured_at >= _MEASURE_EVERY_S:
            self._measured_at, self._bytes = now, _stored(self._opened)
        tell(CaptureState(None if until_ms is None else until_ms - self._clock_ahead_ms, self._bytes))

    def _tell(self, kind: str, text: str) -> None:
        self._told = kind
        tell({"kind": kind, "text": text})


def _stored(opened: Repository) -> int | None:
    try:
        return sum(one.size for one in opened.blobs.list())
    except BlobError:
        return None


def main() -> int:
    os.umask(0o077)
    wish, stop = given()
    try:
        _capture(wish, msgspec.json.decode(wish.order, type=CaptureOrder), stop)
    except (*backups.ERRORS, *backups.STOPS, OSError) as error:
        tell({"failed": str(error)})
        return 1
    return 0


def _capture(wish: Wish, order: CaptureOrder, stop: threading.Event) -> None:
    """Raises backups.ERRORS, OSError."""
    name = f"{order.region}/{order.group}"
    found = engine_at(wish, order.address)
    opened = backups.repository(wish.repository, create=True)
    options = FollowOptions(patience_s=_PATIENCE_S, rollover_s=min(_LONGEST_GENERATION_S, max(1, order.hours) * 3600.0))
    teller = _Teller(opened, found.survey.clock_ahead_ms)
    with backups.alone(backups.Place(wish.repository), name):
        threading.Thread(target=_expire, args=(opened, order.hours, stop), daemon=True).start()
        follow(
            Named(found.remote, name),
            replace(found.survey, name=name),
            opened,
            options,
            scratch=backups.scratch(),
            on_status=teller.status,
            on_choice=teller.chosen,
            stop=stop,
        )


def _expire(opened: Repository, hours: int, stop: threading.Event) -> None:
    """What the window does not need goes; what cannot go now goes later."""
    wait_s = _FIRST_EXPIRE_S
    while not stop.wait(wait_s):
        wait_s = _EXPIRE_EVERY_S
        try:
            for removal in expire(opened, Keep(window_hours=hours)):
                tell(CaptureNews("expired", removal.name))
        except backups.ERRORS as error:
            print(f"nothing can be removed: {error}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    # Not sys.exit: the thread that reads would hold it up.
    os._exit(main())
