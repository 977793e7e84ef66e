"""Who owns which slots in cluster mode, by what each primary says of itself. Called by copies.

A node may not know yet that it lost a slot, but it knows its own claims: the sum of all primaries' claims shows slots
that nobody or two claim, and those are read again. Source: redis.io, CLUSTER NODES, CLUSTER SLOTS.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from cachekeep.backup.survey_types import Node
from cachekeep.codec.resp import pack
from cachekeep.codec.slots import SLOTS
from cachekeep.domain.remote import Refusal, Remote, RemoteError, RemoteFault

Ranges = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Owner:
    """A primary that says it has slots. epoch grows when it takes over slots. moving: those it gives or takes now."""

    id: str
    host: str
    port: int
    epoch: int
    slots: Ranges
    moving: frozenset[int]

    @property
    def lane(self) -> str:
        return Node(self.host, self.port, "").lane


@dataclass(frozen=True)
class Topology:
    owners: tuple[Owner, ...]

    @cached_property
    def owner_of(self) -> dict[int, Owner]:
        """Per slot that exactly one primary claims."""
        claims = self._claims
        return {slot: owners[0] for slot, owners in claims.items() if len(owners) == 1}

    @property
    def unsettled(self) -> set[int]:
        """Slots on the move, or that more than one claims."""
        moving = {slot for owner in self.owners for slot in owner.moving}
        return moving | {slot for slot, owners in self._claims.items() if len(owners) > 1}

    @cached_property
    def _claims(self) -> dict[int, list[Owner]]:
        claims: dict[int, list[Owner]] = {}
        for owner in self.owners:
            for first, last in owner.slots:
                for slot in range(first, last + 1):
                    claims.setdefault(slot, []).append(owner)
        return claims


def slots_to_read_again(before: Topology, after: Topology) -> set[int]:
    """Slots that may have been on the move between the two looks, or still are.

    A node takes a new epoch when it takes slots. One of them may be a slot that went and came back meanwhile, which
    shows in nothing else: so all slots of a node whose epoch grew.
    """
    again = before.unsettled | after.unsettled
    for slot in range(SLOTS):
        was, now = before.owner_of.get(slot), after.owner_of.get(slot)
        if (was and was.id) != (now and now.id):
            again.add(slot)
    known = {owner.id: owner for owner in before.owners}
    for owner in after.owners:
        was = known.get(owner.id)
        if was is not None and was.epoch != owner.epoch:
            again |= {slot for first, last in owner.slots for slot in range(first, last + 1)}
    return again


def topology(remote: Remote, known: Iterable[tuple[str, int]]) -> Topology:
    """Asks every primary that any of the known nodes names. Raises RemoteError: none answers, or a primary does not."""
    waiting, asked = list(known), set[tuple[str, int]]()
    owners: dict[str, Owner] = {}
    lost: RemoteError | None = None
    named = 0
    while waiting:
        address = waiting.pop(0)
        if address in asked:
            continue
        asked.add(address)
        try:
            owner, others = _ask(remote, *address)
        except RemoteError as error:
            if error.fault is not RemoteFault.UNREACHABLE:
                raise
            lost = error
            continue
        named += 1
        if owner:
            owners.setdefault(owner.id, owner)
        waiting += others
    if not named and lost:
        raise lost
    found = Topology(tuple(sorted(owners.values(), key=lambda owner: owner.slots)))
    if lost and len(found.owner_of) < SLOTS:
        raise lost
    return found


def _ask(remote: Remote, host: str, port: int) -> tuple[Owner | None, list[tuple[str, int]]]:
    """One node's claims, and the primaries that it knows."""
    with remote.at(host, port).connect() as connection:
        connection.send(pack("CLUSTER", "NODES") + pack("CLUSTER", "SLOTS"))
        nodes, ranges = connection.receive(2)
    for reply in (nodes, ranges):
        if isinstance(reply, Refusal):
            passing = reply.code in ("LOADING", "CLUSTERDOWN", "MASTERDOWN")
            fault = RemoteFault.UNREACHABLE if passing else RemoteFault.DENIED
            what = f"{host}:{port} does not tell who has which slots: {reply}"
            raise RemoteError(fault, what, "allow CLUSTER NODES and CLUSTER SLOTS to this user")
    line = next(words for words in map(str.split, nodes.decode().splitlines()) if "myself" in words[2])
    identity, flags, epoch = line[0], line[2].split(","), int(line[6])
    others = {(entry[2][0].decode() if entry[2][0] else host, entry[2][1]) for entry in ranges}
    others.discard((host, port))
    if "master" not in flags:
        return None, sorted(others)
    own, moving = list[tuple[int, int]](), set[int]()
    for word in line[8:]:
        if word.startswith("["):
            moving.add(int(word[1:].partition("-")[0]))
        else:
            first, _, last = word.partition("-")
            own.append((int(first), int(last or first)))
    return Owner(identity, host, port, epoch, tuple(own), frozenset(moving)), sorted(others)
