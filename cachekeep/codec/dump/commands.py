"""A value -> the commands that build it on a server whose RESTORE cannot read the payload. Pure.

The key must not exist before: the commands add to what is there. They are not atomic together; the caller writes to
a name of its own and renames it when all have succeeded. The key's own expiry is the caller's too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import assert_never

from cachekeep.codec.dump.errors import Unrepresentable
from cachekeep.codec.dump.stream_commands import stream_commands
from cachekeep.codec.dump.targets import Target, rdb_version_of
from cachekeep.codec.dump.values import (
    HashValue,
    ListValue,
    ModuleValue,
    SetValue,
    SortedSetValue,
    StreamValue,
    StringValue,
    Value,
)

Command = list[bytes]
MAX_ARGUMENTS = 3998  # ElastiCache Serverless refuses more than 3,999, the command's name among them
MAX_COMMAND_BYTES = 4 << 20  # a server runs nothing else while it reads one


def commands(key: bytes, value: Value, target: Target, *, max_arguments: int = MAX_ARGUMENTS) -> list[Command]:
    """Return the commands, each of at most max_arguments words (a stream's entry is never split, whatever its size).

    Raises Unrepresentable where the target cannot hold the value: fields that expire before Valkey 9.0 and Redis 7.4,
    values of modules always, streams before 5.0.
    """
    rdb_version_of(target)  # refuses what is too old for everything
    match value:
        case StringValue():
            return [[b"SET", key, value.data]]
        case ListValue():
            return list(_in_chunks([b"RPUSH", key], ([item] for item in value.items), max_arguments))
        case SetValue():
            return list(_in_chunks([b"SADD", key], ([member] for member in value.members), max_arguments))
        case SortedSetValue():
            # The shortest text that reads back as the same double; servers read `inf`, `-inf` and `-0.0` too.
            pairs = ([repr(score).encode(), member] for member, score in value.items)
            return list(_in_chunks([b"ZADD", key], pairs, max_arguments))
        case HashValue():
            return [*_hash(key, value, target, max_arguments)]
        case StreamValue():
            return [*stream_commands(key, value, target, max_arguments)]
        case ModuleValue():
            raise Unrepresentable(f"only the module can write a value of its type {value.name}: load it, then RESTORE")
        case _:
            assert_never(value)


def _hash(key: bytes, value: HashValue, target: Target, max_arguments: int) -> Iterator[Command]:
    by_expiry: dict[int, list[bytes]] = {}
    for field, _, expire_ms in value.fields:
        if expire_ms is not None:
            by_expiry.setdefault(expire_ms, []).append(field)
    if by_expiry and not target.expires_fields:
        raise Unrepresentable(f"{target} has no fields that expire: Valkey 9.0 and Redis 7.4 are the first")
    pairs = ([field, content] for field, content, _ in value.fields)
    yield from _in_chunks([b"HSET", key], pairs, max_arguments)
    for expire_ms, fields in by_expiry.items():
        for part in _slices(fields, max_arguments - 5):
            yield [b"HPEXPIREAT", key, b"%d" % expire_ms, b"FIELDS", b"%d" % len(part), *part]


def _in_chunks(head: Command, groups: Iterable[Command], max_arguments: int) -> Iterator[Command]:
    """The command once or more often, with whole groups of words, within the limits of words and bytes."""
    command, size = list(head), 0
    for group in groups:
        grown = size + sum(map(len, group))
        if len(command) > len(head) and (len(command) + len(group) > max_arguments or grown > MAX_COMMAND_BYTES):
            yield command
            command, grown = list(head), grown - size
        command += group
        size = grown
    yield command


def _slices(items: Sequence[bytes], size: int) -> Iterator[Sequence[bytes]]:
    return (items[start : start + size] for start in range(0, len(items), size))
