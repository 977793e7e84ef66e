"""Talks to engines: one look, and the few commands that steps need.

Implements domain.ports.EngineAdmin; used by control.

Valkey and Redis by libvalkey's parser on asyncio streams, Memcached by its text protocol. One connection per
node is kept. A reply is never taken as proof of an effect: the next look is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence

from libvalkey import ReplyError

from cachekeep.codec.info import parse_info
from cachekeep.domain.engine import Engine
from cachekeep.domain.nodes import Address, NodeFacts
from cachekeep.domain.ports import WorldError
from cachekeep.engine import memcached
from cachekeep.engine.facts import facts_of_engine, facts_of_memcached
from cachekeep.engine.resp import ask, must, read_replies, refused
from cachekeep.engine.wire import Wire

_BIND_DEADLINE_S = 1.0
_BIND_RETRY_S = 0.01
# From this version on CONFIG GET takes several names, CONFIG SET several values (all or nothing) and INFO
# several sections.
_TAKES_MANY = 7
_SECTIONS = ("server", "clients", "memory", "persistence", "replication", "keyspace")


class Admin:
    """EngineAdmin over TCP. For one event loop."""

    def __init__(
        self, *, connect_timeout_s: float = 1.0, answer_timeout_s: float = 3.0, save_timeout_s: float = 120.0
    ) -> None:
        """save_timeout_s: how long `shutdown_saving` waits; an engine answers nobody while it saves its data."""
        self._connect_timeout_s = connect_timeout_s
        self._answer_timeout_s = answer_timeout_s
        self._save_timeout_s = save_timeout_s
        self._wires: dict[Address, Wire] = {}

    async def facts(self, engine: Engine, address: Address, settings: Collection[str]) -> NodeFacts:
        wire = self._wire(address)
        if not engine.speaks_resp:
            stats, running = await memcached.stats(wire)
            return facts_of_memcached(stats, running, settings)
        names = ["bind", *sorted(set(settings) - {"bind"})]
        if wire.major >= _TAKES_MANY:
            commands = [("INFO", *_SECTIONS), ("CONFIG", "GET", *names)]
        else:  # or not known yet
            commands = [("INFO",), *(("CONFIG", "GET", name) for name in names)]
        text, *pairs = await must(wire, *commands)
        info = parse_info(text)
        wire.major = _major(info)
        return facts_of_engine(info, _config(pairs))

    async def takes_connections(self, address: Address) -> bool:
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                _, writer = await asyncio.open_connection(address.host, address.port)
        except (OSError, TimeoutError):
            return False
        writer.close()
        return True

    async def follow(self, address: Address, primary: Address) -> None:
        await must(self._wire(address), ("REPLICAOF", primary.host, str(primary.port)))

    async def promote(self, address: Address) -> None:
        await must(self._wire(address), ("REPLICAOF", "NO", "ONE"))

    async def bind(self, address: Address, hosts: Sequence[str], given_up: Collection[str]) -> None:
        """See EngineAdmin.bind. Right after a process died the kernel may hold its address for a moment: retried
        for a second. When it fails the engine keeps listening where it did."""
        wire = self._wire(address)
        command = ("CONFIG", "SET", "bind", " ".join(hosts))
        deadline = asyncio.get_running_loop().time() + _BIND_DEADLINE_S
        while isinstance(reply := (await ask(wire, command))[0], ReplyError):
            if "Failed to bind" not in str(reply) or asyncio.get_running_loop().time() > deadline:
                raise WorldError(f"{address} cannot listen on {', '.join(hosts)}: {reply}; does another process?")
            await asyncio.sleep(_BIND_RETRY_S)
        if given_up:
            # An address that is no longer listened on keeps its open connections: they would read stale data.
            await must(wire, *(("CLIENT", "KILL", "LADDR", _endpoint(host, address.port)) for host in given_up))

    async def configure(self, address: Address, values: Mapping[str, str]) -> None:
        """See EngineAdmin.configure. Before version 7 values are set one by one: the error says which were."""
        wire = self._wire(address)
        # In a file such a directive stands several times; CONFIG SET takes all of it in one value.
        pairs = [(name, value.replace("\n", " ")) for name, value in values.items()]
        if not pairs:
            return
        if not wire.major:
            wire.major = _major(parse_info((await must(wire, ("INFO", "server")))[0]))
        if wire.major >= _TAKES_MANY:
            await must(wire, ("CONFIG", "SET", *(word for pair in pairs for word in pair)))
            return
        for done, (name, value) in enumerate(pairs):
            reply = (await ask(wire, ("CONFIG", "SET", name, value)))[0]
            if isinstance(reply, ReplyError):
                already = ", ".join(name for name, _ in pairs[:done]) or "nothing"
                raise WorldError(f"{refused(wire, ('CONFIG', 'SET', name), reply)} (already set: {already})")

    async def shutdown_saving(self, address: Address) -> None:
        """See EngineAdmin.shutdown_saving.

        On a connection of its own: that a kept one drops might also mean that it had been dropped before.
        """
        wire = Wire(address, self._connect_timeout_s, self._save_timeout_s)

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
        wire = self._wires.pop(address, None)
        if wire is not None:
            await wire.close()

    async def close(self) -> None:
        for address in list(self._wires):
            await self.forget(address)

    def _wire(self, address: Address) -> Wire:
        wire = self._wires.get(address)
        if wire is None:
            wire = self._wires[address] = Wire(address, self._connect_timeout_s, self._answer_timeout_s)
        return wire


def _endpoint(host: str, port: int) -> str:
    """An address as the engine itself writes it in CLIENT LIST."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _major(info: Mapping[str, str]) -> int:
    """The engine's major version as far as commands go: Valkey calls itself Redis 7.2.4 there."""
    major = info.get("redis_version", "").partition(".")[0]
    return int(major) if major.isdecimal() else 0


def _config(replies: Sequence[Sequence[str]]) -> dict[str, str]:
    """Join replies of CONFIG GET, each a flat list of names and values."""
    return {pairs[at]: pairs[at + 1] for pairs in replies for at in range(0, len(pairs), 2)}
