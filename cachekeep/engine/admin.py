"""Talks to engines: one look, and the few commands that steps need.

Implements domain.ports.EngineAdmin; used by control.

Valkey and Redis by libvalkey's parser, Memcached by its text protocol. Connections are kept: one for looks, one for
commands and one for pings, so that none waits for an answer to another. A reply is never taken as proof of an effect:
the next look is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence

from libvalkey import ReplyError

from cachekeep.codec.info import parse_info
from cachekeep.domain.access import Rules
from cachekeep.domain.engine import Engine
from cachekeep.domain.migration import SourceFacts
from cachekeep.domain.nodes import Address, NodeFacts
from cachekeep.domain.slots import Slots
from cachekeep.domain.transit import CERTIFICATE, LINK_LIMIT
from cachekeep.domain.world import WorldError
from cachekeep.engine import alive, cluster, memcached
from cachekeep.engine.access import OPEN, Access
from cachekeep.engine.cluster_switch_over import cluster_switch_over
from cachekeep.engine.facts import LATCHED, facts_of_memcached
from cachekeep.engine.line import endpoints_of
from cachekeep.engine.look import TAKES_MANY, look, major_of_wire
from cachekeep.engine.move_slots import move_slots
from cachekeep.engine.outside import look_outside
from cachekeep.engine.resp import ask, must, read_replies, refused
from cachekeep.engine.switch_over import switch_over
from cachekeep.engine.users import Told, set_users
from cachekeep.engine.wire import Wire

_BIND_DEADLINE_S = 1.0
_BIND_RETRY_S = 0.01
# Within this a child has closed what it inherited.
_FORKED_S = 0.02


class Admin:
    """EngineAdmin over TCP. For one event loop."""

    def __init__(
        self,
        access: Access = OPEN,
        *,
        connect_timeout_s: float = 1.0,
        answer_timeout_s: float = 3.0,
        look_timeout_s: float = 1.0,
        save_timeout_s: float = 120.0,
    ) -> None:
        """look_timeout_s: for `facts`; a node that hangs must not hold up the others for long. save_timeout_s: how
        long `shutdown_saving` waits; an engine answers nobody while it saves its data."""
        self._access = access
        self._connect_timeout_s = connect_timeout_s
        self._answer_timeout_s = answer_timeout_s
        self._look_timeout_s = min(look_timeout_s, answer_timeout_s)
        self._save_timeout_s = save_timeout_s
        self._wires: dict[tuple[Address, str], Wire] = {}
        # What each engine was told of its users last, here; whether it is still so the engine itself says.
        self._told: dict[Address, Told] = {}

    async def facts(self, engine: Engine, address: Address, settings: Collection[str]) -> NodeFacts:
        wire = self._wire(address, "look", self._look_timeout_s, logs_in=engine.speaks_resp)
        if not engine.speaks_resp:
            stats, running = await memcached.stats(wire)
            return facts_of_memcached(stats, running, settings)
        seen = await look(wire, settings)
        self._access.listens(address, seen.config)
        return seen

    async def ping(self, address: Address, timeout_s: float) -> str | None:
        return await alive.ping(self._wire(address, "ping"), timeout_s)

    async def interrupt(self, address: Address) -> None:
        await alive.interrupt(self._wire(address, "ping"))

    async def takes_connections(self, address: Address) -> bool:
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                _, writer = await asyncio.open_connection(address.host, address.port)
        except (OSError, TimeoutError):
            return False
        writer.close()
        return True

    async def look_outside(self, address: Address) -> SourceFacts:
        wire = Wire(address, self._connect_timeout_s, self._look_timeout_s)
        try:
            return await look_outside(wire)
        finally:
            await wire.close()

    async def follow(self, address: Address, primary: Address) -> None:
        await must(self._wire(address), ("REPLICAOF", primary.host, str(primary.port)))

    async def promote(self, address: Address) -> None:
        await must(self._wire(address), ("REPLICAOF", "NO", "ONE"))

    async def latch(self, address: Address, *, on: bool) -> None:
        """By a login that no server outside takes: it is used when a link is made, and only then."""
        user = LATCHED if on else ""
        # The user last: it is what is seen of it, and by itself has no effect.
        await self.configure(address, {"masterauth": user, "masteruser": user})

    async def switch_over(
        self,
        address: Address,
        successor: Address,
        binds: Sequence[str],
        successor_binds: Sequence[str],
        given_up: Collection[str],
    ) -> None:
        await switch_over(address, successor, binds, successor_binds, given_up, self._access)

    async def meet(self, address: Address, peer: Address) -> None:
        await cluster.meet(self._wire(address), peer)

    async def forget_node(self, address: Address, node_id: str) -> None:
        await cluster.forget_node(self._wire(address), node_id)

    async def add_slots(self, address: Address, slots: Slots, epoch: int) -> None:
        await cluster.add_slots(self._wire(address), slots, epoch)

    async def replicate(self, address: Address, primary_id: str) -> None:
        await cluster.replicate(self._wire(address), primary_id)

    async def take_over(self, address: Address, *, vote: bool) -> None:
        await cluster.take_over(self._wire(address), vote=vote)

    async def cluster_switch_over(self, address: Address) -> None:
        await cluster_switch_over(self._wire(address))

    async def migrate_slots(self, address: Address, slots: Slots, target_id: str) -> None:
        await cluster.migrate_slots(self._wire(address), slots, target_id)

    async def cancel_migrations(self, address: Address) -> None:
        await cluster.cancel_migrations(self._wire(address))

    async def move_slots(
        self,
        address: Address,
        slots: Slots,
        source_id: str,
        target: Address,
        target_id: str,
        others: Sequence[Address],
    ) -> None:
        await move_slots(address, slots, source_id, target, target_id, others, self._access)

    async def bind(self, address: Address, hosts: Sequence[str], given_up: Collection[str]) -> None:
        """See EngineAdmin.bind. Right after a process died the kernel may hold its address for a moment: retried
        for a second. When it fails the engine keeps listening where it did.

        But not when it has just forked: then the child holds the sockets, and 6.2 would end, newer ones be deaf
        until the next try. So it is given a moment to let them go.
        """
        wire = self._wire(address)
        saving = parse_info((await must(wire, ("INFO", "persistence")))[0])
        if "1" in (saving.get("rdb_bgsave_in_progress"), saving.get("aof_rewrite_in_progress")):
            await asyncio.sleep(_FORKED_S)
        command = ("CONFIG", "SET", "bind", " ".join(hosts))
        deadline = asyncio.get_running_loop().time() + _BIND_DEADLINE_S
        while isinstance(reply := (await ask(wire, command))[0], ReplyError):
            if "Failed to bind" not in str(reply) or asyncio.get_running_loop().time() > deadline:
                raise WorldError(f"{address} cannot listen on {', '.join(hosts)}: {reply}; does another process?")
            await asyncio.sleep(_BIND_RETRY_S)
        if given_up:
            # An address that is no longer listened on keeps its open connections: they would read stale data.
            await must(wire, *(("CLIENT", "KILL", "LADDR", at) for at in endpoints_of(given_up, address.port)))

    async def configure(self, address: Address, values: Mapping[str, str]) -> None:
        """See EngineAdmin.configure. Before version 7 values are set one by one: the error says which were."""
        wire = self._wire(address)
        # In a file such a directive stands several times; CONFIG SET takes all of it in one value.
        pairs = [(name, value.replace("\n", " ")) for name, value in values.items()]
        if not pairs:
            return
        if await major_of_wire(wire) >= TAKES_MANY:
            renewal = await cluster.renewal_for(wire, values) if LINK_LIMIT in values else None
            # In one command: whoever finds the limit low knows that links are still to be renewed.
            told = dict(pairs) | ({LINK_LIMIT: cluster.DROPS_EVERY_LINK} if renewal else {})
            await must(wire, ("CONFIG", "SET", *(word for pair in told.items() for word in pair)))
            self._access.listens(address, values)
            if values.get("port") == "0":
                await self._cut_plain(address)
            if renewal:
                await cluster.renew_links(self._wire(address), renewal, values[LINK_LIMIT])
            return
        for done, (name, value) in enumerate(pairs):
            reply = (await ask(wire, ("CONFIG", "SET", name, value)))[0]
            if isinstance(reply, ReplyError):
                already = ", ".join(name for name, _ in pairs[:done]) or "nothing"
                raise WorldError(f"{refused(wire, ('CONFIG', 'SET', name), reply)} (already set: {already})")

    async def _cut_plain(self, address: Address) -> None:
        """From now on it speaks TLS only: what is connected already is not encrypted. Ours goes last."""
        kinds = ("normal", "pubsub", "replica", "master")
        await ask(self._wire(address), *(("CLIENT", "KILL", "TYPE", kind) for kind in kinds))
        await self.forget(address)

    async def reload_certificate(self, engine: Engine, address: Address) -> None:
        if engine.speaks_resp:
            # The same names again: such a directive is carried out even where its value does not change.
            await self.configure(address, {"tls-cert-file": CERTIFICATE, "tls-key-file": CERTIFICATE})
        else:
            await memcached.refresh_certificates(self._wire(address, "look", self._look_timeout_s))

    async def set_users(self, address: Address, link: str, users: Rules) -> None:
        login, wanted = self._access.login, Told(link, users)
        if login is not None:
            await set_users(self._wire(address), wanted, self._told.pop(address, None), login)
            self._told[address] = wanted
            # Those that came in before the engine knew the service come in again, as who they are.
            for key, wire in list(self._wires.items()):
                if key[0] == address and not wire.logged_in:
                    await self._wires.pop(key).close()

    async def save_soon(self, address: Address) -> None:
        """See EngineAdmin.save_soon. An engine refuses while it writes such a file already: then that one does."""
        await ask(self._wire(address), ("BGSAVE", "SCHEDULE"))

    async def shutdown_saving(self, address: Address) -> None:
        """See EngineAdmin.shutdown_saving.

        On a connection of its own: that a kept one drops might also mean that it had been dropped before.
        """
        # Before the save only: one that saves answers nobody.
        await self.ping(address, self._look_timeout_s)
        wire = Wire(address, self._connect_timeout_s, self._save_timeout_s, self._access)

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> object:
            writer.write(b"*2\r\n$8\r\nSHUTDOWN\r\n$4\r\nSAVE\r\n")
            await writer.drain()
            try:
                return (await read_replies(reader, 1))[0]
            except (EOFError, ConnectionResetError):
                return None

        reply = await wire.exchange(talk)
        await wire.close()
        if reply is not None:
            raise WorldError(f"{address} could not save its data and runs on: {reply}; see its log")
        await self.forget(address)

    async def forget(self, address: Address) -> None:
        self._told.pop(address, None)
        for key in [key for key in self._wires if key[0] == address]:
            await self._wires.pop(key).close()

    async def close(self) -> None:
        for address in {address for address, _ in self._wires}:
            await self.forget(address)

    def _wire(
        self,
        address: Address,
        purpose: str = "command",
        answer_timeout_s: float | None = None,
        *,
        logs_in: bool = True,
    ) -> Wire:
        wire = self._wires.get((address, purpose))
        if wire is None:
            timeout_s = self._answer_timeout_s if answer_timeout_s is None else answer_timeout_s
            wire = Wire(address, self._connect_timeout_s, timeout_s, self._access, logs_in=logs_in)
            self._wires[address, purpose] = wire
        return wire
