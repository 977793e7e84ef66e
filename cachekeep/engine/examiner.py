"""A closer look at a Valkey or Redis node: who its clients are, and random keys with their memory and use.

Implements domain.metric_ports.Examiner. Read-only; a connection of its own for each look, closed at its end; every
answer and every wait is bounded. None of the commands counts as a use of the key (the engine's LOOKUP_NOTOUCH), but
TYPE and OBJECT FREQ count as hits (keyspace_hits), which MEMORY USAGE and RANDOMKEY do not: hence TYPE is asked of a
few keys only, and OBJECT FREQ only where the policy keeps it.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from libvalkey import ProtocolError, Reader, ReplyError, pack_command

from cachekeep.codec.info import databases_used, parse_info
from cachekeep.codec.watched_answers import printable
from cachekeep.domain.metric_ports import SampledKey
from cachekeep.domain.metrics import Place
from cachekeep.domain.world import WorldError
from cachekeep.engine.access import OPEN, Access, unknown_user
from cachekeep.engine.meter_line import context_of, login_words, refused_login
from cachekeep.engine.own_sockets import own_sockets
from cachekeep.engine.wire import take_leave

Command = tuple[str | bytes, ...]
_CONNECT_WITHIN_S = 2.0
_CLIENTS_WITHIN_S = 5.0
# A line of CLIENT LIST has about 350 bytes: this is more than the clients that most node types allow.
_MOST_BYTES = 64 * 1024 * 1024
_MOST_ADDRESSES = 1000
_BATCH = 50
_MOST_DATABASES = 16
# The types that are asked for: of the biggest keys, as only these are shown.
_TYPED = 3
# As many batches without a new key say that there are no more.
_FRUITLESS = 3
_NAME_LENGTH = 100
# Atomic groups: what no engine says, megabytes of `addr=` in one line, is walked once and not for each of them.
_CLIENT = re.compile(rb"^(?>.*? addr=)(?>(\S*):(\d+)) (?>.*? flags=)(\S+) ", re.MULTILINE)
_INCOMPLETE = object()


class EngineExaminer:
    """Keeps nothing between calls. Memcached tells neither clients nor keys: its answers are empty.

    ours: the addresses and ports from which this process is connected to a port.
    """

    def __init__(self, ours: Callable[[int], Collection[tuple[str, int]]] = own_sockets, access: Access = OPEN) -> None:
        self._access = access
        self._ours = ours

    async def clients_by_address(self, place: Place) -> Mapping[str, int]:
        """Connections by IP address, the busiest first, at most 1000 addresses. Replicas and we are left out."""
        if not place.speaks_resp:
            return {}
        async with _deadline(place, _CLIENTS_WITHIN_S), _talk(place, self._access) as talk:
            (listed,) = await talk.must(("CLIENT", "LIST"))
            ours = await asyncio.to_thread(self._ours, place.address.port)
            return _count(talk.text(listed), talk.own_port, ours)

    async def sample_keys(self, place: Place, *, most: int, within_s: float) -> Sequence[SampledKey]:
        """Distinct keys of the databases that hold keys, biggest first. Fewer where time runs out or there are no more.

        Where a key may not be read by this user it is left out; WorldError when that is true of all.
        """
        if not place.speaks_resp or most <= 0:
            return ()
        found: dict[tuple[int, bytes], SampledKey] = {}
        try:
            async with _deadline(place, within_s), _talk(place, self._access) as talk:
                await _sample(talk, most, found)
                await _ask_types(talk, found)
        except WorldError:
            if not found:  # else the deadline, or a connection that broke: what was seen is still true
                raise
        return sorted(found.values(), key=lambda key: (-key.memory_bytes, key.db, key.name))


class _Talk:
    """Commands and replies on one connection; texts stay bytes, for a key's name may be anything."""

    def __init__(self, place: Place, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._place, self._reader, self._writer = place, reader, writer
        self.own_port: int = writer.get_extra_info("sockname")[1]

    async def ask(self, *commands: Command) -> list[Any]:
        """The replies in order, errors among them. Raises WorldError, OSError."""
        self._writer.write(b"".join(map(pack_command, commands)))
        await self._writer.drain()
        parser, replies, size = Reader(notEnoughData=_INCOMPLETE), list[Any](), 0
        while len(replies) < len(commands):
            try:
                reply = parser.gets()
            except ProtocolError as error:
                raise WorldError(f"{self._place.address} does not speak the engine's protocol: {error}") from error
            if reply is not _INCOMPLETE:
                replies.append(reply)
                continue
            chunk = await self._reader.read(65536)
            size += len(chunk)
            if not chunk:
                raise WorldError(f"{self._place.address} dropped the connection")
            if size > _MOST_BYTES:
                raise WorldError(f"{self._place.address} answered more than {_MOST_BYTES} bytes; looked no further")
            parser.feed(chunk)
        return replies

    async def must(self, *commands: Command) -> list[Any]:
        """As `ask`, but raise WorldError for the first error."""
        replies = await self.ask(*commands)
        for command, reply in zip(commands, replies, strict=True):
            if isinstance(reply, ReplyError):
                raise self.refused(command, reply)
        return replies

    def text(self, reply: object) -> bytes:
        """Of a reply that every engine gives as a text; somebody else's server may give anything."""
        if not isinstance(reply, bytes):
            raise self.nonsense()
        return reply

    def nonsense(self) -> WorldError:
        return WorldError(f"{self._place.address} answers as neither Redis nor Valkey does; check the port")

    def refused(self, command: Command, error: ReplyError) -> WorldError:
        """Says what failed and which permission is missing; never more of AUTH than its name."""
        words = [word if isinstance(word, str) else "key" for word in command]
        subject = words[0] in ("CLIENT", "MEMORY", "OBJECT")
        name, text = " ".join(words[: 2 if subject else 1]), str(error)
        user = self._place.username or "default"
        if words[0] == "AUTH":
            return refused_login(self._place, text)
        if text.startswith("NOPERM"):
            grant = "~* (read access to keys)" if _about_keys(text) else "+" + name.lower().replace(" ", "|")
            return WorldError(f"{self._place.address} does not let user {user} run {name}; its ACL needs {grant}")
        if text.startswith("NOAUTH"):
            return WorldError(f"{self._place.address} wants a login; give a user name and a password")
        return WorldError(f"{self._place.address} refused {name}: {printable(text, 120)}")


async def _sample(talk: _Talk, most: int, found: dict[tuple[int, bytes], SampledKey]) -> None:
    """Fill found. A share of `most` from each database by its number of keys."""
    keyspace, memory = await talk.must(("INFO", "keyspace"), ("INFO", "memory"))
    info = parse_info(talk.text(keyspace).decode("utf-8", "replace"))
    try:
        counts = {db: int(info[f"db{db}"].partition("keys=")[2].partition(",")[0]) for db in databases_used(info)}
    except (KeyError, ValueError) as error:
        raise talk.nonsense() from error
    if min(counts.values(), default=1) < 1:
        raise talk.nonsense()
    lfu = "lfu" in parse_info(talk.text(memory).decode("utf-8", "replace")).get("maxmemory_policy", "")
    total = sum(counts.values())
    for db in sorted(counts, key=lambda db: -counts[db])[:_MOST_DATABASES]:
        await talk.must(("SELECT", str(db)))
        wanted = min(counts[db], max(1, round(most * counts[db] / total)), most - len(found))
        await _sample_database(talk, db, wanted, lfu, found)


async def _sample_database(
    talk: _Talk, db: int, wanted: int, lfu: bool, found: dict[tuple[int, bytes], SampledKey]
) -> None:
    seen: set[bytes] = set()
    denied: WorldError | None = None
    fruitless = 0
    while len(seen) < wanted and fruitless < _FRUITLESS:
        drawn = await talk.must(*[("RANDOMKEY",)] * _BATCH)
        names = list(dict.fromkeys(name for name in drawn if isinstance(name, bytes) and name not in seen))
        names = names[: wanted - len(seen)]
        fruitless = 0 if names else fruitless + 1
        seen.update(names)
        sizes = await talk.ask(*[("MEMORY", "USAGE", name, "SAMPLES", "5") for name in names]) if names else []
        uses = await talk.ask(*[("OBJECT", "FREQ", name) for name in names]) if names and lfu else [None] * len(names)
        for name, size, used in zip(names, sizes, uses, strict=True):
            if isinstance(size, ReplyError):
                denied = talk.refused(("MEMORY", "USAGE", name), size)
            elif isinstance(size, int):  # else it is gone since
                frequency = used if isinstance(used, int) else None
                found[db, name] = SampledKey(_shown(name), db, "", size, frequency)
    if denied is not None and not found:
        raise denied


async def _ask_types(talk: _Talk, found: dict[tuple[int, bytes], SampledKey]) -> None:
    """Put the types into the biggest of found. One that may not be asked for stays unknown."""
    for db, name in sorted(found, key=lambda key: -found[key].memory_bytes)[:_TYPED]:
        _, kind = await talk.ask(("SELECT", str(db)), ("TYPE", name))
        if not isinstance(kind, ReplyError) and kind != b"none":
            found[db, name] = replace(found[db, name], type=printable(talk.text(kind).decode("ascii", "replace"), 40))


def _shown(name: bytes) -> str:
    text = name[: 4 * _NAME_LENGTH].decode("utf-8", "backslashreplace")
    shown = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
    return shown if len(shown) <= _NAME_LENGTH else shown[: _NAME_LENGTH - 1] + "…"


def _count(listed: bytes, own_port: int, ours: Collection[tuple[str, int]]) -> dict[str, int]:
    """From lines `id=3 addr=127.0.0.1:4000 laddr=... flags=N ...`; S and M are replicas and primaries."""
    counts: Counter[str] = Counter()
    own = str(own_port).encode()
    known = frozenset((host.encode(), str(port).encode()) for host, port in ours if port != own_port)
    for host, port, flags in _CLIENT.findall(listed):
        # The same port from another host is taken for ours at most once.
        if port == own:
            own = b""
        elif (host.strip(b"[]"), port) not in known and not set(flags) & set(b"SM"):
            counts[printable(host.decode("ascii", "replace").strip("[]"), 100) or "unix socket"] += 1
    return dict(counts.most_common(_MOST_ADDRESSES))


def _about_keys(text: str) -> bool:
    return "key" in text and "command" not in text


@asynccontextmanager
async def _deadline(place: Place, within_s: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(within_s):
            yield
    except TimeoutError as error:
        raise WorldError(f"{place.address} did not answer within {within_s:g} s") from error
    except OSError as error:
        raise WorldError(f"{place.address} broke the connection: {error}") from error


@asynccontextmanager
async def _talk(place: Place, access: Access) -> AsyncIterator[_Talk]:
    """A connection that is logged in. Raises WorldError."""
    # In a thread: the system's authorities are a large file.
    context = await asyncio.to_thread(context_of, place, access)
    name = (place.server_name or place.address.host) if context else None
    try:
        async with asyncio.timeout(_CONNECT_WITHIN_S):
            reader, writer = await asyncio.open_connection(
                place.address.host, place.address.port, ssl=context, server_hostname=name
            )
    except TimeoutError as error:
        raise WorldError(f"cannot connect to {place.address} within {_CONNECT_WITHIN_S:g} s") from error
    except ssl.SSLError as error:
        await asyncio.sleep(0)  # the transport that failed lets its socket go in the loop's next round
        raise WorldError(f"no TLS with {place.address}: {error.reason or error}; check its certificate") from error
    except OSError as error:
        raise WorldError(f"cannot connect to {place.address}: {error.strerror or error}") from error
    try:
        talk = _Talk(place, reader, writer)
        if words := login_words(place, access):
            await _log_in(talk, words, place)
        yield talk
    finally:
        await take_leave(writer)


async def _log_in(talk: _Talk, words: Command, place: Place) -> None:
    (answer,) = await talk.ask(words)
    if isinstance(answer, ReplyError) and not (place.own and unknown_user(answer)):
        raise talk.refused(words, answer)
