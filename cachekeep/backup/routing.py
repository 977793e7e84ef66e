"""Which node has a key, connections to it, and the redirections of cluster mode. Called by backup.walk and contents.

Most keys travel in batches over `connect(place_of(key), db)`. `converse` is the slow way for one key at a time, which
follows MOVED, ASK, TRYAGAIN and CLUSTERDOWN: a slot that moves has few keys in flight.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import NamedTuple, TypeVar

from cachekeep.backup.survey import survey as look_again
from cachekeep.backup.survey_types import Survey
from cachekeep.codec.slots import SLOTS, slot_of
from cachekeep.domain.remote import Connection, Refusal, Remote, RemoteError, RemoteFault, Reply

PATIENCE_S = 60.0
REDIRECTIONS = frozenset(("MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN"))
_PAUSE_S = 0.1
T = TypeVar("T")


class Place(NamedTuple):
    """A node. An empty host: the one that the URL names."""

    host: str
    port: int


class Talk(NamedTuple):
    """A connection for one conversation. asking: every command needs ASKING before it (the slot is being imported)."""

    connection: Connection
    asking: bool


class Routes:
    """The nodes of one endpoint. stop: set by whoever wants the work to end; waiting ends with it."""

    def __init__(
        self, remote: Remote, survey: Survey, *, patience_s: float = PATIENCE_S, stop: threading.Event | None = None
    ) -> None:
        self.remote, self.survey, self.patience_s = remote, survey, patience_s
        self.cluster = survey.mode == "cluster"
        self._stop = stop or threading.Event()
        self._own = Place(survey.nodes[0].host, survey.nodes[0].port)
        self._table: list[Place] = []
        self._side: dict[tuple[Place, int], Connection] = {}
        self._draw()

    def place_of(self, key: bytes) -> Place:
        return self._table[slot_of(key)] if self.cluster else self._own

    def places(self) -> list[Place]:
        """All nodes that hold keys."""
        return [Place(node.host, node.port) for node in self.survey.nodes]

    def connect(self, place: Place, db: int) -> Connection:
        """A new connection. Raises RemoteError."""
        remote = self.remote.at(place.host, place.port) if place.host else self.remote
        return remote.connect(db)

    def side(self, place: Place, db: int) -> Connection:
        """The connection for conversations, kept until `close`."""
        held = self._side.get((place, db))
        if held is None:
            held = self._side[place, db] = self.connect(place, db)
        return held

    def refresh(self) -> None:
        """See which nodes have which slots now. Raises RemoteError."""
        if self.cluster:
            self.survey = look_again(self.remote)
            self._draw()

    def converse(self, key: bytes, db: int, act: Callable[[Talk], T]) -> T:
        """Do something at the node that has the key. act raises the Refusal that it got; it may be called again.

        Raises Refusal for others than redirections; RemoteError, also when the redirections do not end.
        """
        place, asking, deadline = self.place_of(key), False, time.monotonic() + self.patience_s
        while True:
            try:
                return act(Talk(self.side(place, db), asking))
            except Refusal as refusal:
                if refusal.code not in REDIRECTIONS:
                    raise
                if time.monotonic() > deadline:
                    what = f"{self.remote.name} sends a key from node to node for {self.patience_s:g} s: {refusal}"
                    raise RemoteError(RemoteFault.UNREACHABLE, what, "see CLUSTER INFO, then run it again") from refusal
                place, asking = self._redirected(key, place, refusal)
            except RemoteError:
                self.drop(place, db)
                raise

    def pause(self, seconds: float = _PAUSE_S) -> bool:
        """Wait before asking again; true when the work is to end."""
        return self._stop.wait(seconds)

    def now_ms(self) -> int:
        """By the endpoint's clock, as far as its distance is known."""
        return time.time_ns() // 1_000_000 + self.survey.clock_ahead_ms

    @property
    def stopped(self) -> bool:
        return self._stop.is_set()

    def drop(self, place: Place, db: int) -> None:
        """Close and forget a side connection."""
        if held := self._side.pop((place, db), None):
            held.close()

    def close(self) -> None:
        for place, db in list(self._side):
            self.drop(place, db)

    def _redirected(self, key: bytes, place: Place, refusal: Refusal) -> tuple[Place, bool]:
        words = str(refusal).split()
        if refusal.code in ("MOVED", "ASK") and len(words) >= 3:
            host, _, port = words[2].rpartition(":")
            other = Place(host or place.host, int(port))
            if refusal.code == "MOVED":
                self._table[slot_of(key)] = other
            return other, refusal.code == "ASK"
        self.pause()
        with suppress(RemoteError):  # the node that would tell may be the one that is down: the old table does, then
            self.refresh()
        return self.place_of(key), False

    def _draw(self) -> None:
        """The table of slots. A slot that nobody has is asked of the first node, whose words say so."""
        if not self.cluster:
            return
        self._table = [Place(self.survey.nodes[0].host, self.survey.nodes[0].port)] * SLOTS
        for node in self.survey.nodes:
            for first, last in node.slots:
                self._table[first : last + 1] = [Place(node.host, node.port)] * (last + 1 - first)


def is_redirection(reply: object) -> bool:
    return isinstance(reply, Refusal) and reply.code in REDIRECTIONS


def exchange(talk: Talk, commands: Iterable[bytes]) -> list[Reply]:
    """Send packed commands, each behind ASKING where needed; their replies. Refusals are among them."""
    packed = list(commands)
    if not talk.asking:
        talk.connection.send(b"".join(packed))
        return talk.connection.receive(len(packed))
    talk.connection.send(b"".join(b"*1\r\n$6\r\nASKING\r\n" + one for one in packed))
    return talk.connection.receive(2 * len(packed))[1::2]
