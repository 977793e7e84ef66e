"""What a server says of itself when a key changes: CLIENT TRACKING in broadcast mode, or keyspace notifications.

One connection, drained by a thread of its own into a set of changed keys, so that the server never has to keep what we
are too slow to read. It also sends the barriers: a PING whose answer proves that every change before it was announced.
The server runs one command after the other; what it announces of a change it puts into our connection no later than
the end of the round in which the change was made, and a PING that arrived before that round is answered in it or
later. So a change made before the PING was sent is announced before its answer.

Tracking is redirected to the subscription of the same connection (RESP2): so the server's limit for subscribers
(client-output-buffer-limit pubsub; 32 MiB by default) bounds what a stalled reader can cost it, and when it is reached
the connection ends, which is noticed. Observed on Redis 6.2 and 7.0, Valkey 8.1 and 9.1.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from cachekeep.codec.resp import pack
from cachekeep.domain.remote import Connection, Refusal, RemoteError, RemoteFault

INVALIDATIONS = "__redis__:invalidate"
EVENTS, SPACES = "__keyevent@*__:*", "__keyspace@*__:*"
_BUSY_S, _IDLE_S = 0.02, 0.25
_REST_S, _MANY = 0.004, 200
_SILENT_S = 30.0  # no answer to a PING for so long: whatever is there, it is not the server that we knew

# (database or None where the server does not tell it, key)
Changed = tuple[int | None, bytes]


@dataclass(frozen=True)
class Heard:
    """All that was announced before moment_ms (by this machine's clock) and not taken before.

    keys: with the time.monotonic() of their first announcement. flushed: a database was emptied, nobody says which.
    """

    moment_ms: int
    keys: dict[Changed, float] = field(default_factory=dict)
    flushed: bool = False


def track(connection: Connection) -> None:
    """Let the connection hear of every key that changes. Raises Refusal, RemoteError."""
    own = connection.ask("CLIENT", "ID")
    connection.ask("CLIENT", "TRACKING", "ON", "REDIRECT", own, "BCAST")
    connection.ask("SUBSCRIBE", INVALIDATIONS)


def notify(connection: Connection, *patterns: str) -> None:
    """The same by keyspace notifications. Raises Refusal, RemoteError."""
    for pattern in patterns:
        connection.ask("PSUBSCRIBE", pattern)


class Signals:
    """Owns the connection, which `track` or `notify` has prepared, and a thread; `close` ends both."""

    def __init__(self, connection: Connection, limit: int, now_ms: Callable[[], int]) -> None:
        self._connection, self._limit, self._now_ms = connection, limit, now_ms
        self._lock = threading.Lock()
        self._arrived = threading.Condition(self._lock)
        self._keys: dict[Changed, float] = {}
        self._flushed = self._overflowed = False
        self._sent: tuple[int, int, float] | None = None  # the PING on its way: its number, moment, monotonic
        self._done = (0, 0)  # the newest answered: number and moment
        self._number = 0
        self._wanted = 0
        self._error: RemoteError | None = None
        self._ended = threading.Event()
        self.messages = 0
        self._thread = threading.Thread(target=self._run, name="signals", daemon=True)
        self._thread.start()

    def heard(self, within_s: float = _SILENT_S) -> Heard:
        """Wait for a barrier that is sent from now on; what was announced before it.

        Raises RemoteError: the connection is lost, or nothing is answered any more. What was announced may be lost.
        """
        deadline = time.monotonic() + within_s
        with self._arrived:
            self._wanted = wanted = self._number + 1
            while self._done[0] < wanted and self._error is None:
                if not self._arrived.wait(max(deadline - time.monotonic(), 0)) and time.monotonic() >= deadline:
                    what = f"{self._connection.address} has not answered a PING for {within_s:g} s"
                    raise RemoteError(RemoteFault.UNREACHABLE, what, "see whether the server is stopped or overloaded")
            if self._error is not None:
                raise self._error
            if self._overflowed:
                what = f"more than {self._limit:,} changed keys of {self._connection.address} waited to be read"
                raise Overflow(RemoteFault.UNREACHABLE, what, "the queue may be made larger; all keys are read again")
            keys, self._keys = self._keys, {}
            flushed, self._flushed = self._flushed, False
            return Heard(self._done[1], keys, flushed)

    def put_back(self, keys: dict[Changed, float]) -> None:
        """Keys that could not be read yet: heard again with the next barrier."""
        with self._lock:
            for key, since in keys.items():
                self._keys[key] = min(since, self._keys.get(key, since))

    @property
    def waiting(self) -> int:
        return len(self._keys)

    def close(self) -> None:
        self._ended.set()
        self._connection.close()
        self._thread.join()

    def _run(self) -> None:
        try:
            while not self._ended.is_set():
                self._barrier()
                pressing = self._wanted > self._done[0]
                messages = self._connection.receive_ready(_BUSY_S if pressing else _IDLE_S)
                for message in messages:
                    self._take(message)
                if messages and len(messages) < _MANY:
                    self._ended.wait(_REST_S)  # a message at a time would cost more than to take some together
        except RemoteError as error:
            self._fail(error)
        except (TypeError, ValueError, LookupError, AttributeError) as error:
            what = f"{self._connection.address} announces changes in another form than Redis and Valkey do: {error}"
            self._fail(RemoteError(RemoteFault.FOREIGN, what, "is something else in between, such as a proxy?"))

    def _fail(self, error: RemoteError) -> None:
        with self._arrived:
            self._error = error
            self._arrived.notify_all()

    def _barrier(self) -> None:
        """Send the next PING, unless one is on its way."""
        if self._sent is not None:
            if time.monotonic() - self._sent[2] > _SILENT_S:
                self._connection.close()
            return
        with self._lock:
            self._number += 1
            self._sent = self._number, self._now_ms(), time.monotonic()
        self._connection.send(pack("PING", str(self._number)))

    def _take(self, message: Any) -> None:  # noqa: ANN401 - whatever a server sends
        self.messages += 1
        if isinstance(message, Refusal):
            raise RemoteError(RemoteFault.UNREACHABLE, f"{self._connection.address}: {message}", "connect again")
        kind = message[0]
        now = time.monotonic()
        with self._arrived:
            if kind == b"message":
                if message[2] is None:
                    self._flushed = True
                elif isinstance(message[2], list):  # anybody may PUBLISH something else there
                    for key in message[2]:
                        self._keys.setdefault((None, key), now)
            elif kind == b"pmessage":
                if noted := _noted(message[2], message[3]):
                    self._keys.setdefault(noted, now)
            elif kind == b"pong":
                number = int(message[1])
                if self._sent is not None and self._sent[0] == number:
                    self._done = number, self._sent[1]
                    self._sent = None
                    self._arrived.notify_all()
            if len(self._keys) > self._limit:
                # Unread for now: memory stays bounded, and the barrier says so.
                self._overflowed = True
                self._keys.clear()


class Overflow(RemoteError):
    """More changed keys waited than the queue takes: what is unread is not known any more."""


def _noted(channel: bytes, payload: bytes) -> tuple[int, bytes] | None:
    """`__keyevent@3__:del`, key, or `__keyspace@3__:key`, event; None for what no server says."""
    head, _, rest = channel.partition(b"__:")
    number = head.partition(b"@")[2]
    if not (number.isdigit() and len(number) < 10):
        return None
    return int(number), payload if head.startswith(b"__keyevent") else rest
