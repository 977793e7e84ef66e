"""One look at a Valkey or Redis server that is not ours: what a migration has to know of it. Used by engine.admin."""

from __future__ import annotations

import asyncio

from libvalkey import ReplyError, pack_command

from cachekeep.codec.info import count_keys, databases_used, parse_info
from cachekeep.domain.migration import SourceFacts
from cachekeep.domain.nodes import Role
from cachekeep.domain.world import WorldError
from cachekeep.engine.resp import Command, ask, read_replies
from cachekeep.engine.wire import Wire

_COMMANDS: tuple[Command, ...] = (
    ("INFO",),
    ("CONFIG", "GET", "databases"),
    ("COMMAND", "INFO", "PSYNC"),
    ("DUMP", "cachekeep:probe"),
    ("SCAN", "0", "COUNT", "1"),
)
_PROBE = "cachekeep:probe"
_DENIALS = ("noperm", "unknown command", "not allowed")
_NO_PSYNC = "it has no PSYNC command"


async def look_outside(wire: Wire) -> SourceFacts:
    """Never raises for what the server is or does: its refusal is an answer. CONFIG may be forbidden there."""
    try:
        replies = await ask(wire, *_COMMANDS)
    except WorldError as error:
        return SourceFacts(refusal=str(error))
    info_reply, databases, psync, *reads = replies
    if isinstance(info_reply, ReplyError):
        text = str(info_reply)
        if text.startswith(("NOAUTH", "NOPERM")) or "operation not permitted" in text:
            return SourceFacts(refusal=f"it asks for a password ({text}), and a migration needs a source without AUTH")
        return SourceFacts(refusal=f"it refused INFO: {text}")
    if not isinstance(info_reply, str) or "redis_version" not in info_reply:
        return SourceFacts(refusal="it does not answer as Valkey or Redis do")
    info = parse_info(info_reply)
    if info.get("loading") == "1":
        return SourceFacts(refusal="it loads its data")
    replica = info.get("role") == "slave"
    known = isinstance(psync, ReplyError) or bool(psync and psync[0])
    no_replicas = await _why_no_psync(wire) if known else _NO_PSYNC
    used = max(databases_used(info), default=0)
    return SourceFacts(
        valkey=info.get("server_name") == "valkey" or "valkey_version" in info,
        version=info.get("valkey_version") or info.get("redis_version", ""),
        run_id=info.get("run_id", ""),
        role=Role.REPLICA if replica else Role.PRIMARY,
        offset=int(info.get("slave_repl_offset" if replica else "master_repl_offset") or 0),
        clustered=info.get("cluster_enabled") == "1",
        databases=_databases(databases, used + 1),
        serves_replicas=not no_replicas,
        keys=count_keys(info),
        no_replicas=no_replicas,
        used=used,
        unreadable=next((str(reply)[:200] for reply in reads if _is_denied(reply)), ""),
    )


async def _why_no_psync(wire: Wire) -> str:
    """ "" where it is allowed, or nobody tells. No synchronisation begins: a subscriber's PSYNC is refused either way,
    and whether by the ACL, which is looked at first, its words tell. Observed on Redis 6.2 and 7.0, Valkey 8.1 and 9.1.
    """
    try:
        reply = await wire.exchange(_ask_for_psync)
    except WorldError as error:
        return f"it ends the connection of who asks for PSYNC ({error})"
    return f"PSYNC is refused ({str(reply)[:200]})" if _is_denied(reply) else ""


async def _ask_for_psync(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> object:
    """The refusal. In one exchange: what is repeated on a new connection is the whole of it."""
    writer.write(pack_command(("SUBSCRIBE", _PROBE)))
    await writer.drain()
    (subscribed,) = await read_replies(reader, 1)
    if not isinstance(subscribed, list):
        return None
    writer.write(pack_command(("PSYNC", "?", "-1")))
    await writer.drain()
    return (await read_replies(reader, 1))[0]


def _is_denied(reply: object) -> bool:
    text = str(reply).lower()
    return isinstance(reply, ReplyError) and any(
        words in text for words in ("noperm", "unknown command", "not allowed")
    )


def _databases(reply: object, used: int) -> int:
    """What CONFIG GET says, where it may be asked."""
    if isinstance(reply, list) and len(reply) == 2 and str(reply[1]).isdecimal():
        return int(reply[1])
    return used
