"""Finds the nodes behind an endpoint that is watched. Implements domain.metric_ports.Explorer.

Read-only commands: INFO, CLUSTER NODES; `version` and `config get cluster` of Memcached. Everything is bounded: names
are looked up in threads of their own, every answer and the whole have a deadline.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

from libvalkey import ReplyError, pack_command

from cachekeep.codec.info import parse_info
from cachekeep.codec.watched_answers import (
    ClusterRow,
    cluster_rows,
    config_members,
    engine_of,
    primary_of,
    printable,
    replicas_of,
    version_of,
)
from cachekeep.domain.metric_ports import Explored, FoundNode
from cachekeep.domain.metrics import Place
from cachekeep.domain.nodes import Address, is_ip
from cachekeep.domain.world import WorldError
from cachekeep.engine.meter_line import MeterLine, bulk, refused_login, reply
from cachekeep.engine.name_lookup import NameLookup

Info = Mapping[str, str]
# At so many nodes of one endpoint it is looked at a time, and no longer than this at all that are new.
_PROBES, _PROBES_WITHIN_S = 16, 3.0
_NAMED = 3


class EngineExplorer:
    """deadline_s: for one endpoint as a whole."""

    def __init__(self, connect_timeout_s: float = 2.0, answer_timeout_s: float = 2.0, deadline_s: float = 7.0) -> None:
        self._connect_timeout_s, self._answer_timeout_s = connect_timeout_s, answer_timeout_s
        self._deadline_s = deadline_s
        self._names = NameLookup()

    async def explore(self, place: Place, known: Collection[Address] = ()) -> Explored:
        """See the port."""
        try:
            async with asyncio.timeout(self._deadline_s):
                name = place.server_name or ("" if is_ip(place.address.host) else place.address.host)
                at = replace(place, address=await self._resolved(place.address), server_name=name if place.tls else "")
                explored = await (self._engine(at, known) if place.speaks_resp else self._memcached(at, known))
        except TimeoutError as error:
            raise WorldError(f"{place.address} did not tell its nodes within {self._deadline_s:g} s") from error
        return explored

    async def _engine(self, at: Place, known: Collection[Address]) -> Explored:
        async with self._line(at) as line:
            info = await self._info(at, line)
            nodes: str | None = None
            note = None
            if info.get("cluster_enabled") == "1":
                try:
                    nodes = await self._text(at, line, "CLUSTER", "NODES")
                except WorldError as error:
                    note = f"{error}; only the node at the endpoint is watched"
        engine, version = engine_of(info)
        if nodes is not None:
            found, note = await self._of_cluster(at, known, info, cluster_rows(nodes))
        elif note is None:
            found, note = await self._of_replication(at, known, info)
        else:
            found = [FoundNode(at.address)]
        return Explored(found, engine, version, nodes is not None, note)

    async def _of_cluster(
        self, at: Place, known: Collection[Address], info: Info, rows: Sequence[ClusterRow]
    ) -> tuple[list[FoundNode], str | None]:
        """All members that answer from here. The endpoint itself in any case: behind a port that is forwarded, its
        announced address may not answer."""
        asked = [row.address for row in rows if row.address not in (None, at.address, *known)]
        answers = await self._probed(at, [address for address in asked if address is not None])
        found, silent = [], list[Address]()
        for row in rows:
            address, run_id = row.address, answers.get(row.address, {}).get("run_id") if row.address else None
            if row.myself and address != at.address and address not in known and run_id != info.get("run_id"):
                address = at.address
            elif address is None or (address in asked and address not in answers):
                silent += [address] if address else []
                continue
            found.append(FoundNode(address, row.host_name, row.shard, row.primary))
        return found or [FoundNode(at.address)], _unanswered(silent)

    async def _of_replication(
        self, at: Place, known: Collection[Address], info: Info
    ) -> tuple[list[FoundNode], str | None]:
        own = FoundNode(at.address, primary=info.get("role") != "slave")
        found, head = [own], info
        if not own.primary:
            address = primary_of(info)
            try:
                primary = await self._resolved(address) if address else None
                head = (await self._probed(at, [primary]))[primary] if primary else {}
            except (WorldError, KeyError):
                return found, f"its primary {address} does not answer from here, so other replicas are not known"
            if primary is None or head.get("role") != "master":
                return found, None
            found = [FoundNode(primary), own]
        listed = [address for address in replicas_of(head) if is_ip(address.host)]
        asked = [address for address in listed if address not in (at.address, *known)]
        answers = await self._probed(at, asked)
        runs = {info.get("run_id"), head.get("run_id")}
        for address in listed:
            told = answers.get(address)
            fits = told is None or (
                told.get("role") == "slave" and told.get("run_id") not in runs and _same_stream(told, head)
            )
            if fits and address != at.address and (told is not None or address in known):
                found.append(FoundNode(address, primary=False))
        return found, _unanswered([address for address in asked if address not in answers])

    async def _memcached(self, at: Place, known: Collection[Address]) -> Explored:
        async with self._line(at) as line:
            version = await line.ask(b"version\r\n", _version, self._answer_timeout_s)
            members = config_members(await line.ask(b"config get cluster\r\n", _configuration, self._answer_timeout_s))
        nodes = []
        for host, address, port in members:
            # AWS leaves the address out until it is known.
            node = address if address is not None and is_ip(address.host) else await self._resolved(Address(host, port))
            nodes.append(FoundNode(node, host if not is_ip(host) else ""))
        asked = [node.address for node in nodes if node.address not in (at.address, *known)]
        answers = await self._probed(at, asked)
        found = [node for node in nodes if node.address not in asked or node.address in answers]
        silent = [address for address in asked if address not in answers]
        return Explored(found or [FoundNode(at.address)], "memcached", version, note=_unanswered(silent))

    async def _probed(self, like: Place, addresses: Sequence[Address]) -> dict[Address, Info]:
        """INFO of those that answer in time, by address; empty mappings of Memcached."""
        answers: dict[Address, Info] = {}
        turns = asyncio.Semaphore(_PROBES)

        async def probe(address: Address) -> None:
            place = replace(like, address=address)
            try:
                async with turns, self._line(place) as line:
                    if place.speaks_resp:
                        answers[address] = await self._info(place, line)
                    else:
                        await line.ask(b"version\r\n", _version, self._answer_timeout_s)
                        answers[address] = {}
            except WorldError:
                return

        if addresses:
            try:
                async with asyncio.timeout(_PROBES_WITHIN_S), asyncio.TaskGroup() as tasks:
                    for address in dict.fromkeys(addresses):
                        tasks.create_task(probe(address))
            except TimeoutError:  # the others are asked again the next time
                return answers
        return answers

    @asynccontextmanager
    async def _line(self, place: Place) -> AsyncIterator[MeterLine]:
        """A connection that is logged in. Raises WorldError."""
        try:
            line = await MeterLine.connect(place, self._connect_timeout_s)
        except WorldError:
            await _rounds()
            raise
        try:
            if place.speaks_resp and place.password:
                names = (place.username,) if place.username else ()
                answer = await line.ask(pack_command(("AUTH", *names, place.password)), reply, self._answer_timeout_s)
                if isinstance(answer, ReplyError):
                    raise refused_login(place, str(answer))
            yield line
        finally:
            line.close()
            await _rounds()
            await line.gone()

    async def _info(self, place: Place, line: MeterLine) -> Info:
        info = parse_info(await self._text(place, line, "INFO"))
        if "redis_version" not in info and "run_id" not in info:
            raise WorldError(f"{place.address} answers INFO as neither Redis nor Valkey does; check the port")
        return info

    async def _text(self, place: Place, line: MeterLine, *words: str) -> str:
        answer: bytes = await line.ask(pack_command(words), bulk, self._answer_timeout_s)
        text = answer.decode("utf-8", "replace")
        if answer[:1] == b"-":
            raise _refused(place, words, text[1:])
        return text

    async def _resolved(self, address: Address) -> Address:
        """With the first IP address of the host's name. Raises WorldError."""
        if is_ip(address.host):
            return address
        # Before the deadline of the whole, whose sentence says less.
        return Address(await self._names.address(address.host, self._deadline_s - 2.0), address.port)


async def _rounds() -> None:
    """A transport that failed or was closed lets its socket go within the loop's next rounds."""
    for _ in range(3):
        await asyncio.sleep(0)


def _same_stream(replica: Info, primary: Info) -> bool:
    """An address of somebody else's network may lead to another Redis of ours."""
    linked = replica.get("master_link_status") == "up"
    return not linked or replica.get("master_replid") == primary.get("master_replid")


def _unanswered(silent: Sequence[Address]) -> str | None:
    if not silent:
        return None
    names = ", ".join(map(str, silent[:_NAMED])) + (", ..." if len(silent) > _NAMED else "")
    if len(silent) == 1:
        return f"1 more node does not answer from here and is not watched: {names}"
    return f"{len(silent)} more nodes do not answer from here and are not watched: {names}"


def _refused(place: Place, words: Sequence[str], text: str) -> WorldError:
    name = " ".join(words)
    if text.startswith("NOAUTH"):
        return WorldError(f"{place.address} wants a login; give a password (--password-stdin), and its --username")
    if text.startswith("NOPERM"):
        grant = "+" + name.lower().replace(" ", "|")
        user = place.username or "default"
        return WorldError(f"{place.address} does not let user {user} run {name}; its ACL needs {grant}")
    return WorldError(f"{place.address} refused {name}: {printable(text, 120)}")


def _version(data: bytes) -> str | None:
    if not b"VERSION ".startswith(data[:8]) and not data.startswith(b"VERSION "):
        raise ValueError(f"version answered {data[:60]!r}")
    return version_of(data[8:].decode("ascii", "replace").strip()) if data.endswith(b"\r\n") else None


def _configuration(data: bytes) -> bytes | None:
    """An error line as it is: no ElastiCache, then."""
    if data[:6] == b"CONFIG":
        return data if data.endswith(b"END\r\n") else None
    return data if data.endswith(b"\r\n") else None
