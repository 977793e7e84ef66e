"""Hears which keys are written from the first moment at which an endpoint is back. Called by follow.guard.

The capture comes back some moments after the endpoint does, and clients may have written in between: such a key is not
lost, and not to be put back. So one connection to every node does nothing else than notice the loss, and ask again a
hundred times a second. What was changed before even that is counted, as far as the server tells
(INFO rdb_changes_since_last_save, which is 0 when a server has loaded its data).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from cachekeep.backup.interruptions import now_ms
from cachekeep.backup.survey_types import Node, Survey
from cachekeep.codec.info import parse_info
from cachekeep.codec.resp import pack
from cachekeep.domain.remote import Connection, Refusal, Remote, RemoteError, understood
from cachekeep.follow.guard_types import Place
from cachekeep.follow.signals import EVENTS, INVALIDATIONS, SPACES, Changed, Signals
from cachekeep.follow.types import FollowMethod

_PAUSE_S, _LOOK_S, _ALIVE_S, _WITHIN_S = 0.01, 0.2, 5.0, 5.0
_KEYS_LIMIT = 500_000


@dataclass(frozen=True)
class Heard:
    """keys: database (None: the server does not tell it) and key. unseen: changes that were made before we listened;
    None where nobody tells. everything: so much was written, or a database emptied, that nothing is known.
    flushed: a database was emptied.
    """

    keys: frozenset[Changed] = frozenset()
    unseen: int | None = None
    everything: bool = False
    flushed: bool = False

    def has(self, place: Place) -> bool:
        return place in self.keys or (None, place[1]) in self.keys


class Heralds:
    """A context: one for every node. `heard` ends them."""

    def __init__(self, remote: Remote, survey: Survey, method: FollowMethod) -> None:
        nodes = survey.nodes if method in ("tracking", "keyspace") else ()
        self._each: Sequence[_Herald] = [
            _Herald(remote.at(node.host, node.port) if node.host else remote, node, method) for node in nodes
        ]

    def __enter__(self) -> Heralds:
        for one in self._each:
            one.thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        for one in self._each:
            one.stop.set()
        for one in self._each:
            one.thread.join()

    def heard(self) -> Heard:
        """All that was announced by now, of all nodes."""
        self.__exit__()
        unseen = [one.unseen if one.listened else None for one in self._each if one.broke]
        return Heard(
            frozenset().union(*(one.keys for one in self._each)),
            sum(unseen) if unseen and None not in unseen else None,  # type: ignore[arg-type]  # None is not among them
            any(one.everything for one in self._each),
            any(one.flushed for one in self._each),
        )


class _Herald:
    """Of one node. broke: its connection was lost; listened: it was back. unseen, keys, everything: see Heard."""

    def __init__(self, remote: Remote, node: Node, method: FollowMethod) -> None:
        self._remote, self._method, self._run_id = remote, method, node.run_id
        self.keys: set[Changed] = set()
        self.unseen: int | None = 0
        self.broke = self.listened = self.everything = self.flushed = False
        self._broke_at = 0.0
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._run, name=f"herald-{node.lane}", daemon=True)

    def _run(self) -> None:
        while not self.stop.is_set():
            try:
                with self._remote.connect(0, timeout_s=_WITHIN_S) as connection, understood(connection.address):
                    if not self.broke:
                        self._wait_for_loss(connection)
                    else:
                        self._listen(connection)
            except (RemoteError, Refusal):
                if not self.broke:
                    self.broke, self._broke_at = True, time.monotonic()
                self.stop.wait(_PAUSE_S)

    def _wait_for_loss(self, connection: Connection) -> None:
        asked_at = time.monotonic()
        while not self.stop.is_set():
            connection.receive_ready(_LOOK_S)
            if time.monotonic() - asked_at > _ALIVE_S:
                connection.ask("PING")
                asked_at = time.monotonic()

    def _listen(self, connection: Connection) -> None:
        """Until the end, or the next loss."""
        self._count(_subscribed(connection, self._method))
        signals = Signals(connection, _KEYS_LIMIT, now_ms)
        try:
            ending = False
            while not ending:
                ending = self.stop.wait(_LOOK_S)
                heard = signals.heard(_WITHIN_S)
                self.keys.update(heard.keys)
                self.flushed = self.flushed or heard.flushed
                self.everything = self.everything or self.flushed or len(self.keys) > _KEYS_LIMIT
                if self.everything:
                    self.keys.clear()
        except RemoteError:
            self._broke_at = time.monotonic()
            raise
        finally:
            signals.close()

    def _count(self, text: bytes) -> None:
        """How much was changed before we listened: known of a process that began after the loss."""
        info = parse_info(text.decode("utf-8", "replace"))
        changes, uptime_s = info.get("rdb_changes_since_last_save", ""), info.get("uptime_in_seconds", "")
        fresh = info.get("run_id") != self._run_id and uptime_s.isdecimal()
        fresh = fresh and int(uptime_s) <= time.monotonic() - self._broke_at + 1
        known = fresh and changes.isdecimal() and self.unseen is not None
        self.unseen = (self.unseen or 0) + int(changes) if known else None
        self.listened = True


def _subscribed(connection: Connection, method: FollowMethod) -> bytes:
    """What INFO said in the moment in which the subscription began: one write, which the server handles as one."""
    if method == "tracking":
        own = connection.ask("CLIENT", "ID")
        connection.ask("CLIENT", "TRACKING", "ON", "REDIRECT", own, "BCAST")
        words = [pack("SUBSCRIBE", INVALIDATIONS)]
    else:
        words = [pack("PSUBSCRIBE", EVENTS), pack("PSUBSCRIBE", SPACES)]
    connection.send(pack("INFO") + b"".join(words))
    replies = connection.receive(1 + len(words))
    for reply in replies:
        if isinstance(reply, Refusal):
            raise reply
    return bytes(replies[0])
