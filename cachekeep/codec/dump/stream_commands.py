"""A stream -> the commands that build it, its counters, groups, consumers and pending entries included. Pure.

Two things cannot be had by the obvious command:
- XCLAIM gives a consumer only entries that exist, but an entry may be deleted while it is pending. Such ghosts are
  added with a dummy field, claimed, and removed again: by XTRIM where they are older than all entries, because XDEL
  raises the highest deleted id, else by XDEL.
- A stream without entries is made by a group with MKSTREAM: XADD and XDEL would count as an entry added and deleted.

When a consumer was last seen or active cannot be set: it is the moment of these commands.
Source: src/t_stream.c (xaddCommand, xsetidCommand, xgroupCommand, xclaimCommand), rewriteStreamObject in src/aof.c.
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import merge
from itertools import groupby

from cachekeep.codec.dump.errors import Unrepresentable
from cachekeep.codec.dump.targets import Target
from cachekeep.codec.dump.values import ZERO_ID, Pending, StreamEntry, StreamGroup, StreamId, StreamValue

_Command = list[bytes]
_GHOST_FIELDS = ((b"deleted", b""),)
_CLAIM_WORDS = 13  # of XCLAIM, besides the ids


def stream_commands(key: bytes, value: StreamValue, target: Target, max_arguments: int) -> Iterator[_Command]:
    """Yield the commands. Raises Unrepresentable before the first one."""
    _require_streams(value, target)
    ghosts = value.ghosts
    present = merge(value.entries, (StreamEntry(ghost, _GHOST_FIELDS) for ghost in ghosts))
    for entry in present:
        yield [b"XADD", key, bytes(entry.id), *(word for pair in entry.fields for word in pair)]
    if not value.entries and not ghosts:
        helper = _unused_name(value.groups)
        yield [b"XGROUP", b"CREATE", key, helper, b"0", b"MKSTREAM"]
        yield [b"XGROUP", b"DESTROY", key, helper]
    # Before the groups, because a group may not have read more entries than were added; and while the ghosts are
    # there, they count as added and no last id is below them.
    added = max(value.entries_added, len(value.entries) + len(ghosts))
    last_id = max(value.last_id, ghosts[-1]) if ghosts else value.last_id
    yield _set_id(key, value, last_id, added, target)
    for group in value.groups:
        yield from _group(key, group, target, max_arguments)
    if ghosts:
        yield from _without(ghosts, key, value, max_arguments)
        yield _set_id(key, value, value.last_id, value.entries_added, target)


def _require_streams(value: StreamValue, target: Target) -> None:
    if target.number < (6, 2):
        raise Unrepresentable(f"streams are not written to {target}: Redis 6.2 is the first to create consumers")
    pending = (one.id for group in value.groups for one in group.pending)
    if ZERO_ID in pending or any(entry.id == ZERO_ID or not entry.fields for entry in value.entries):
        raise Unrepresentable("no command adds an entry without fields, or with the id 0-0, to a stream")


def _set_id(key: bytes, value: StreamValue, last_id: StreamId, added: int, target: Target) -> _Command:
    command = [b"XSETID", key, bytes(last_id)]
    if target.counts_stream_entries:
        command += [b"ENTRIESADDED", b"%d" % added, b"MAXDELETEDID", bytes(value.proved_deleted_id)]
    return command


def _group(key: bytes, group: StreamGroup, target: Target, max_arguments: int) -> Iterator[_Command]:
    create = [b"XGROUP", b"CREATE", key, group.name, bytes(group.last_id)]
    if target.counts_stream_entries and group.entries_read is not None:
        create += [b"ENTRIESREAD", b"%d" % group.entries_read]
    yield create
    for consumer in group.consumers:
        yield [b"XGROUP", b"CREATECONSUMER", key, group.name, consumer.name]
    # Entries that were delivered together are claimed together. LASTID is not needed: the group has its last id.
    in_turn = sorted(group.pending, key=_delivery)
    for (consumer_name, delivered_ms, count), together in groupby(in_turn, key=_delivery):
        ids = [bytes(one.id) for one in together]
        for start in range(0, len(ids), max_arguments - _CLAIM_WORDS):
            part = ids[start : start + max_arguments - _CLAIM_WORDS]
            options = [b"TIME", b"%d" % delivered_ms, b"RETRYCOUNT", b"%d" % count, b"FORCE", b"JUSTID"]
            yield [b"XCLAIM", key, group.name, consumer_name, b"0", *part, *options]


def _delivery(pending: Pending) -> tuple[bytes, int, int]:
    return pending.consumer, pending.delivered_ms, pending.delivery_count


def _without(ghosts: list[StreamId], key: bytes, value: StreamValue, max_arguments: int) -> Iterator[_Command]:
    """Remove the ghosts again."""
    if not value.entries:
        yield [b"XTRIM", key, b"MAXLEN", b"0"]
        return
    if ghosts[0] < value.first_id:
        yield [b"XTRIM", key, b"MINID", bytes(value.first_id)]
    inner = [bytes(ghost) for ghost in ghosts if ghost > value.first_id]
    for start in range(0, len(inner), max_arguments - 2):
        yield [b"XDEL", key, *inner[start : start + max_arguments - 2]]


def _unused_name(groups: tuple[StreamGroup, ...]) -> bytes:
    taken = {group.name for group in groups}
    name = b"cachekeep"
    while name in taken:
        name += b"'"
    return name
