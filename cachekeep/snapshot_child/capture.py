"""`python -m cachekeep.snapshot_child.capture`: keeps every moment of a group while its standard input is open.

When that closes (snapshot_child.pipes), what was captured is sealed. On standard output:

    {"kind": "following", "text": "<method>"}   every change is caught from here on, and again after a trouble
    {"kind": "trouble", "text": "..."}          nothing has been caught for a while
    {"kind": "expired", "text": "<generation>"}
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
from cachekeep.domain.continuous import CaptureNews, CaptureOrder
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
    """Tells of a beginning once, and of a trouble when it lasts."""

    def __init__(self) -> None:
        self._well_at, self._told = time.monotonic(), ""
        self.method = ""

    def chosen(self, choice: Choice) -> None:
        self.method = choice.method

    def status(self, status: FollowStatus) -> None:
        if status.phase in ("away", "store"):
            late = time.monotonic() - self._well_at > _TROUBLE_AFTER_S
            if late and self._told != "trouble":
                self._tell("trouble", status.trouble or "the engine does not answer")
            return
        self._well_at = time.monotonic()
        if status.covered_since_ms is not None and self._told != "following":
            self._tell("following", self.method)

    def _tell(self, kind: str, text: str) -> None:
        self._told = kind
        tell({"kind": kind, "text": text})


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
    teller = _Teller()
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
