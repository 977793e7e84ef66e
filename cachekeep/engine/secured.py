"""Which of our own nodes speak TLS, and on which port an engine really listens. Given to engine.access by the app.

Only the installation's own authority counts: whatever else listens at an address of ours is not talked to.

An engine whose ports change is asked where it listens itself, past the switch that may hold its group's port: how it
was last seen to listen first, then how it shall. Between the command that changes its ports and the look that sees it,
this service may die, and it is one of the two. A node that is not on its way is asked in one way only. Addresses are
given to new nodes when old ones are gone: what was seen there of another cluster's says nothing of them.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from cachekeep.domain.cache_cluster import CacheCluster
from cachekeep.domain.nodes import Address
from cachekeep.domain.transit import Listening
from cachekeep.domain.world import NotAskedError

if TYPE_CHECKING:  # commands that talk to engines begin without every kind of resource
    from cachekeep.domain.ports import Resource, Store

# Region, id and moment of creation of a cluster: another one may come to have its name.
_Holder = tuple[str, str, float]
Way = tuple[Address, ssl.SSLContext | None]


class Secured:
    """ca_file: of the installation's authority."""

    def __init__(self, ca_file: Path) -> None:
        self._ca_file = ca_file
        self._wanted: dict[Address, Listening] = {}
        self._seen: dict[Address, Listening] = {}
        self._holders: dict[Address, _Holder] = {}
        self._held: dict[_Holder, frozenset[Address]] = {}
        self._context: tuple[int, ssl.SSLContext] | None = None

    def learn(self, resources: Iterable[Resource]) -> None:
        """What stored clusters say of their addresses; those of all others stay as they are."""
        for resource in resources:
            if isinstance(resource, CacheCluster):
                self._hold((resource.region, resource.id, resource.created_at), frozenset(resource.addresses))
                mode = resource.transit
                for address in resource.addresses:
                    wanted = Listening.wanted(mode, address.port)
                    before = self._wanted.get(address, wanted)
                    if before != wanted:
                        # It listens as before until it is seen to do otherwise.
                        self._seen.setdefault(address, before)
                    self._wanted[address] = wanted

    def _hold(self, holder: _Holder, addresses: frozenset[Address]) -> None:
        """Of an address that comes to it from elsewhere nothing is known; of one that it gave up, as much as before,
        until somebody takes it: its process may have to be asked to end."""
        held = self._held.get(holder, frozenset())
        for address in addresses - held:
            if self._holders.get(address) is not None:
                self._wanted.pop(address, None)
                self._seen.pop(address, None)
                self._part(self._holders[address], address)
            self._holders[address] = holder
        self._held[holder] = addresses

    def _part(self, former: _Holder, address: Address) -> None:
        left = self._held.pop(former, frozenset()) - {address}
        if left:
            self._held[former] = left

    def follow(self, store: Store) -> None:
        """Know every cluster of the store, now and after every change."""
        store.subscribe(self.learn)
        self.learn(store.all(CacheCluster))

    def seen(self, address: Address, listening: Listening) -> None:
        """The engine that has this address was seen to listen so."""
        self._seen[address] = listening

    def seen_by(self, address: Address, directives: Mapping[str, str]) -> None:
        """As its configuration says; no effect where that tells nothing of it."""
        listening = Listening.of(directives)
        if listening is not None:
            self._seen[address] = listening

    def context_for(self, address: Address) -> ssl.SSLContext | None:
        """At the address itself, where a group's switch may be; None where plain TCP is spoken. Raises NotAskedError
        when the authority cannot be read: then there is no connection, rather than one that is not verified."""
        wanted = self._wanted.get(address) or self._seen.get(address)
        return self._verified() if wanted is not None and wanted.tls else None

    def ways(self, address: Address) -> tuple[Way, ...]:
        """How to get to the engine itself, the likeliest way first. Raises NotAskedError as context_for does."""
        seen, wanted = self._seen.get(address), self._wanted.get(address)
        known = dict.fromkeys(one for one in (seen, wanted) if one is not None)
        return tuple((Address(address.host, one.port), self._verified() if one.tls else None) for one in known) or (
            (address, None),
        )

    def _verified(self) -> ssl.SSLContext:
        """Read again when the file was replaced."""
        try:
            changed = self._ca_file.stat().st_mtime_ns
            if self._context is None or self._context[0] != changed:
                made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                made.minimum_version = ssl.TLSVersion.TLSv1_2
                made.load_verify_locations(cafile=str(self._ca_file))
                self._context = changed, made
        except OSError as error:  # SSLError is one
            raise NotAskedError(
                f"cannot read the authority {self._ca_file}: {error}; put it back, nodes with TLS cannot be asked until"
            ) from error
        return self._context[1]
