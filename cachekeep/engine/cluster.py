"""Commands of cluster mode that are one or two exchanges: who knows whom, who owns what, who takes over.

Used by engine.admin. Each is idempotent: where the engine refuses what is done already, it is looked at first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from libvalkey import ReplyError

from cachekeep.codec.cluster_nodes import parse_cluster
from cachekeep.domain.nodes import Address, ClusterFacts
from cachekeep.domain.slots import Slots, numbers_of, ranges_of
from cachekeep.domain.transit import LINK_LIMIT
from cachekeep.domain.world import WorldError
from cachekeep.engine.look import TAKES_MANY, major_of_wire
from cachekeep.engine.resp import ask, must, refused
from cachekeep.engine.wire import Wire

_BUS_OFFSET = 10_000
_ADDED_AT_ONCE = 4096
_VOTE_S = 0.1
_TAKEN_S = 1.0
_POLL_S = 0.001
DROPS_EVERY_LINK = "1"
"""As LINK_LIMIT: every link holds more than a byte."""
# The engine looks at its links ten times a second; peers tell their new ports within seconds.
_LINKS_S = 15.0
_AGAIN_S = 2.0
_LINKS_POLL_S = 0.02


@dataclass(frozen=True)
class Renewal:
    """Of the links of a node's cluster bus. begun_ms: when, by its clock; older links are to go. again: it was broken
    off before."""

    begun_ms: int
    again: bool


def bus_port(port: int) -> int:
    """The port of the cluster bus: 10,000 above, or below where that is no port any more."""
    return port + _BUS_OFFSET if port + _BUS_OFFSET < 65536 else port - _BUS_OFFSET


async def cluster_of(wire: Wire) -> ClusterFacts:
    """What it knows of its cluster, with the atomic migrations where it knows those."""
    nodes, info, migrations = await ask(
        wire, ("CLUSTER", "NODES"), ("CLUSTER", "INFO"), ("CLUSTER", "GETSLOTMIGRATIONS")
    )
    for reply in (nodes, info):
        if isinstance(reply, ReplyError):
            raise refused(wire, ("CLUSTER", "NODES"), reply)
    try:
        return parse_cluster(nodes, info, migrations)
    except ValueError as error:
        raise WorldError(f"{wire.address}: {error}") from error


async def meet(wire: Wire, peer: Address) -> None:
    await must(wire, ("CLUSTER", "MEET", peer.host, str(peer.port), str(bus_port(peer.port))))


async def forget_node(wire: Wire, node_id: str) -> None:
    reply = (await ask(wire, ("CLUSTER", "FORGET", node_id)))[0]
    if isinstance(reply, ReplyError) and "Unknown node" not in str(reply):
        raise refused(wire, ("CLUSTER", "FORGET", node_id), reply)


async def add_slots(wire: Wire, slots: Slots, epoch: int) -> None:
    """See EngineAdmin.add_slots. What it owns already is left out."""
    await ask(wire, ("CLUSTER", "SET-CONFIG-EPOCH", str(epoch)))  # refused once it knows somebody, or has an epoch
    missing = ranges_of(numbers_of(slots) - numbers_of((await cluster_of(wire)).slots))
    if not missing:
        return
    if await major_of_wire(wire) >= TAKES_MANY:
        edges = (str(edge) for span in missing for edge in (span.first, span.last))
        await must(wire, ("CLUSTER", "ADDSLOTSRANGE", *edges))
        return
    numbers = [str(number) for number in sorted(numbers_of(missing))]
    batches = [numbers[at : at + _ADDED_AT_ONCE] for at in range(0, len(numbers), _ADDED_AT_ONCE)]
    await must(wire, *(("CLUSTER", "ADDSLOTS", *batch) for batch in batches))


async def replicate(wire: Wire, primary_id: str) -> None:
    """See EngineAdmin.replicate. One that follows this primary already keeps its link."""
    nodes: str = (await must(wire, ("CLUSTER", "NODES")))[0]
    own = next((line.split() for line in nodes.split("\n") if "myself" in line), [])
    if own[3:4] != [primary_id]:
        await must(wire, ("CLUSTER", "REPLICATE", primary_id))


async def take_over(wire: Wire, *, vote: bool) -> None:
    """See EngineAdmin.take_over. Without an answer from the majority within 0.1 s it is done without them.

    Votes take about 0.02 s; they are denied for a while after the last ones about the same primary.

    FORCE and TAKEOVER ask nobody whether the primary lives: whoever calls this has fenced it.
    """
    if await is_primary(wire, 0):
        return
    if vote:
        reply = (await ask(wire, ("CLUSTER", "FAILOVER", "FORCE")))[0]
        if not isinstance(reply, ReplyError) and await is_primary(wire, _VOTE_S):
            return
    reply = (await ask(wire, ("CLUSTER", "FAILOVER", "TAKEOVER")))[0]
    if not await is_primary(wire, _TAKEN_S):  # the reply is an error when the vote came through just now
        raise WorldError(f"{wire.address} did not take over: {reply}")


async def migrate_slots(wire: Wire, slots: Slots, target_id: str) -> None:
    """See EngineAdmin.migrate_slots. What is on its way already is left out, and what the target owns already."""
    known = await cluster_of(wire)
    under_way = {
        number
        for migration in known.migrations
        if migration.running and migration.exports and migration.target_id == target_id
        for number in numbers_of(migration.slots)
    }
    there = {number for peer in known.peers if peer.id == target_id for number in numbers_of(peer.slots)}
    wanted = ranges_of(numbers_of(slots) - under_way - there)
    if wanted:
        edges = (str(edge) for span in wanted for edge in (span.first, span.last))
        await must(wire, ("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", *edges, "NODE", target_id))


async def cancel_migrations(wire: Wire) -> None:
    """See EngineAdmin.cancel_migrations. None that runs: no effect."""
    reply = (await ask(wire, ("CLUSTER", "CANCELSLOTMIGRATIONS")))[0]
    if isinstance(reply, ReplyError) and "No migrations" not in str(reply):
        raise refused(wire, ("CLUSTER", "CANCELSLOTMIGRATIONS"), reply)


async def is_primary(wire: Wire, within_s: float) -> bool:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within_s
    while (await must(wire, ("ROLE",)))[0][0] != "master":
        if loop.time() >= deadline:
            return False
        await asyncio.sleep(_POLL_S)
    return True


async def renewal_for(wire: Wire, values: Mapping[str, str]) -> Renewal | None:
    """What setting these directives means to the links of the cluster bus; None where they may stay."""
    now, moment = await must(wire, ("CONFIG", "GET", "tls-cluster"), ("TIME",))
    limit = (await must(wire, ("CONFIG", "GET", LINK_LIMIT)))[0]
    again = limit[1] != values[LINK_LIMIT]
    if now[1] == values["tls-cluster"] and not again:
        return None
    # By the engine's own clock, by which its links are dated.
    return Renewal(int(moment[0]) * 1000 + int(moment[1]) // 1000, again)


async def renew_links(wire: Wire, renewal: Renewal, limit: str) -> None:
    """Wait until the node has no link of the cluster bus from before, then give it `limit` back.

    A link keeps the encryption that it was made with, and no command closes one. Redis 7.0 makes them anew by itself:
    with its encryption a node's announced ports change, and a new address is a new link. For others LINK_LIMIT is so
    low by now that the engine drops each link at its next look. Raises WorldError when links stay; the limit then
    stays low, too, by which it is seen that this is to be done again; then there are some looks of the engine, and no
    more proof, as links that were new already are as good as newer ones.
    Source: redis 7.0.15 cluster.c, `nodeUpdateAddressIfNeeded`; valkey cluster_legacy.c,
    `freeClusterLinkOnBufferLimitReached`.
    """
    deadline = asyncio.get_running_loop().time() + (_AGAIN_S if renewal.again else _LINKS_S)
    while True:
        made = [_created_ms(link) for link in (await must(wire, ("CLUSTER", "LINKS")))[0]]
        if all(at >= renewal.begun_ms for at in made):
            break
        if asyncio.get_running_loop().time() > deadline:
            if renewal.again:
                break
            raise WorldError(f"{wire.address} keeps links of its cluster bus from before its encryption changed")
        await asyncio.sleep(_LINKS_POLL_S)
    await must(wire, ("CONFIG", "SET", LINK_LIMIT, limit))


def _created_ms(link: list[str | int]) -> int:
    return int(dict(zip(link[::2], link[1::2], strict=True))["create-time"])
