"""Which nodes of a cluster are followed: every primary, with slots or without, as the cluster changes.

A thread of its own looks twice a second, so that a node which does not answer holds nobody up. Called by
follow.key_follow.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

from cachekeep.backup.interruptions import now_ms
from cachekeep.backup.pacing import Halt, Halted
from cachekeep.backup.survey_types import Node, Survey
from cachekeep.backup.topology import Owner, Topology, topology
from cachekeep.domain.remote import Refusal, Remote, RemoteError, understood
from cachekeep.follow.lane import Lane

_LOOK_S, _SOON_S = 0.5, 0.05
_KNOWN = 64
_JOIN_S = 15.0


@dataclass(frozen=True)
class Moves:
    """What changed since the last look, at since_ms by the source's clock. changed: with the node as it is now."""

    since_ms: int
    joined: tuple[Node, ...]
    left: tuple[Lane, ...]
    changed: tuple[tuple[Lane, Node], ...]


class Cluster:
    """Its thread ends with the halt. Raises RemoteError when nobody answers at first."""

    def __init__(self, remote: Remote, survey: Survey, halt: Halt) -> None:
        self._remote, self._survey, self._halt = remote, survey, halt
        self._known = [(node.host, node.port) for node in survey.nodes]
        self._looked_ms = self._now_ms()
        self._topology = self._ask()
        self._fresh: tuple[int, Topology] | None = None
        self._lock = threading.Lock()
        self._soon = threading.Event()
        self._thread = threading.Thread(target=self._run, name="topology", daemon=True)
        self._thread.start()

    def nodes(self) -> list[Node]:
        """All primaries as of the last look."""
        return [_node(owner) for owner in self._topology.owners]

    def owner_of(self, slot: int) -> str | None:
        """The lane that has the slot, as of the last look; None when nobody or several claim it."""
        owner = self._topology.owner_of.get(slot)
        return owner.lane if owner else None

    @property
    def looked_ms(self) -> int:
        """When the look began that `moves` told of last, by the source's clock."""
        return self._looked_ms

    def look_soon(self) -> None:
        self._soon.set()

    def moves(self, lanes: Sequence[Lane]) -> Moves | None:
        """None when there was no look since the last call."""
        with self._lock:
            fresh, self._fresh = self._fresh, None
        if fresh is None:
            return None
        since_ms, (self._looked_ms, found) = self._looked_ms, fresh
        now = {owner.lane: _node(owner) for owner in found.owners}
        held = {lane.name: lane for lane in lanes}
        return Moves(
            since_ms,
            joined=tuple(node for name, node in now.items() if name not in held),
            left=tuple(lane for name, lane in held.items() if name not in now),
            changed=tuple(
                (lane, now[name]) for name, lane in held.items() if name in now and lane.node.slots != now[name].slots
            ),
        )

    def join(self) -> None:
        """A node that does not answer may keep the thread for longer; it ends by itself then."""
        self._soon.set()
        self._thread.join(_JOIN_S)

    def _run(self) -> None:
        try:
            while True:
                self._soon.wait(_LOOK_S)
                self._soon.clear()
                self._halt.wait(_SOON_S)
                began_ms = self._now_ms()
                try:
                    found = self._ask()
                except RemoteError:
                    continue  # lanes wait for their nodes, and say so
                with self._lock:
                    self._topology, self._fresh = found, (began_ms, found)
        except Halted:
            return

    def _now_ms(self) -> int:
        return now_ms() + self._survey.clock_ahead_ms

    def _ask(self) -> Topology:
        found = topology(self._remote, [*self._known, *self._primaries()])
        owners = [(owner.host, owner.port) for owner in found.owners]
        self._known = list(dict.fromkeys([*owners, *self._known]))[:_KNOWN]
        return found

    def _primaries(self) -> list[tuple[str, int]]:
        """Those without slots too, which CLUSTER SLOTS does not name."""
        for host, port in self._known:
            try:
                with self._remote.at(host, port).connect() as connection, understood(connection.address):
                    lines = connection.ask("CLUSTER", "NODES").decode().splitlines()
            except (RemoteError, Refusal):
                continue
            return [found for line in lines if (found := _primary(line)) is not None]
        return []


def _primary(line: str) -> tuple[str, int] | None:
    """From `<id> <host>:<port>@<bus>[,<name>] <flags> ...`."""
    words = line.split()
    flags = set(words[2].split(","))
    if "master" not in flags or flags & {"fail", "handshake", "noaddr", "myself"}:
        return None
    host, _, port = words[1].partition("@")[0].rpartition(":")
    return (host, int(port)) if host else None


def _node(owner: Owner) -> Node:
    return Node(owner.host, owner.port, "", owner.slots)
