"""Which nodes of a cluster are followed: every primary, with slots or without, as the cluster changes.

Called by follow.key_follow.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from cachekeep.backup.interruptions import now_ms
from cachekeep.backup.survey_types import Node, Survey
from cachekeep.backup.topology import Owner, Topology, topology
from cachekeep.domain.remote import Refusal, Remote, RemoteError, understood
from cachekeep.follow.lane import Lane

_LOOK_S = 0.5
_SOON_S = 0.05


@dataclass(frozen=True)
class Moves:
    """What changed since the last look, at since_ms by the source's clock. changed: with the node as it is now."""

    since_ms: int
    joined: tuple[Node, ...]
    left: tuple[Lane, ...]
    changed: tuple[tuple[Lane, Node], ...]


class Cluster:
    """Looks every half second at most; sooner after `look_soon`."""

    def __init__(self, remote: Remote, survey: Survey) -> None:
        self._remote, self._survey = remote, survey
        self._known = [(node.host, node.port) for node in survey.nodes]
        self._lock = threading.Lock()
        self._due_at = 0.0
        self._looked_ms = now_ms() + survey.clock_ahead_ms
        self._topology = self._ask()

    def nodes(self) -> list[Node]:
        """All primaries as of the last look."""
        return [_node(owner) for owner in self._topology.owners]

    def owner_of(self, slot: int) -> str | None:
        """The lane that has the slot, as of the last look; None when nobody or several claim it."""
        owner = self._topology.owner_of.get(slot)
        return owner.lane if owner else None

    def look_soon(self) -> None:
        with self._lock:
            self._due_at = min(self._due_at, time.monotonic() + _SOON_S)

    def look(self, lanes: Sequence[Lane]) -> Moves | None:
        """None when it is not time, or nobody answers: then lanes wait for their nodes."""
        with self._lock:
            if time.monotonic() < self._due_at:
                return None
            self._due_at = time.monotonic() + _LOOK_S
        began_ms, since_ms = now_ms() + self._survey.clock_ahead_ms, self._looked_ms
        try:
            found = self._ask()
        except RemoteError:
            return None
        self._topology, self._looked_ms = found, began_ms
        now = {owner.lane: _node(owner) for owner in found.owners}
        held = {lane.name: lane for lane in lanes}
        joined = tuple(node for name, node in now.items() if name not in held)
        left = tuple(lane for name, lane in held.items() if name not in now)
        changed = tuple(
            (lane, now[name]) for name, lane in held.items() if name in now and lane.node.slots != now[name].slots
        )
        return Moves(since_ms, joined, left, changed)

    def _ask(self) -> Topology:
        found = topology(self._remote, [*self._known, *self._primaries()])
        self._known = list(dict.fromkeys([*((owner.host, owner.port) for owner in found.owners), *self._known]))[:64]
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
