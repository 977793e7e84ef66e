"""Data for backups, and a reading of it that shares nothing with the product: the server's own read commands.

Not a test. Clients are `valkey.Valkey` with raw replies: `raw(client(server))`.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import valkey

from cachekeep.backup.catalog import Repository
from cachekeep.backup.catalog_objects import Gap, Head, Lane
from cachekeep.backup.survey_types import Survey
from cachekeep.backup.writer import GenerationWriter, SegmentWriter
from cachekeep.blob.local import LocalBlobs
from cachekeep.codec.record import NO_EXPIRY, Kind, Record

FUTURE_MS = 4_102_444_800_000  # 2100
NOISE = bytes((i * i * 7 + i // 3) % 251 for i in range(20_000))
BINARY = b"\xff\xfe\x00 \r\n*1\r\n"
_EXPIRY = "local p = redis.call('PTTL', KEYS[1]) local t = redis.call('TIME') return {p, t[1], t[2]}"


def raw(made: valkey.Valkey) -> valkey.Valkey:
    """Replies as on the wire."""
    made.response_callbacks.clear()
    return made


def number_of(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def fill_all_types(c: valkey.Valkey, version: str) -> None:
    """Every type and encoding that this version writes, binary and empty names, with and without expiry."""
    ask = c.execute_command
    ask("SET", "string", "value")
    ask("SET", "string:number", "12345")
    ask("SET", "string:empty", "")
    ask("SET", "string:long", NOISE)
    ask("SET", "string:repeated", b"ab" * 9000)
    ask("SET", b"", "the empty key")
    ask("SET", BINARY, BINARY)
    ask("PFADD", "hyperloglog", *range(2000))
    for kind, items in (
        ("small", [b"a", b"1", b"300", b"", BINARY]),
        ("long", [NOISE[:n] for n in (0, 70, 200, 5000, 17_000)]),
        ("many", [b"element:%d" % n for n in range(700)]),
        ("integers", [b"%d" % n for n in (-(1 << 62), -1, 0, 1, 127, 40_000, 1 << 40)]),
    ):
        ask("RPUSH", f"list:{kind}", *items, *items[:2])
        ask("SADD", f"set:{kind}", *items)
        ask("ZADD", f"zset:{kind}", *(word for n, item in enumerate(items) for word in (n / 7 - 3, item)))
        ask("HSET", f"hash:{kind}", *(word for n, item in enumerate(items) for word in (item, items[-n])))
    ask("ZADD", "zset:infinite", "inf", "up", "-inf", "down", "1e300", "large")
    _fill_streams(c)
    for n, key in enumerate(("string", "list:many", "set:long", "zset:small", "hash:many", "stream", BINARY)):
        ask("PEXPIREAT", key, FUTURE_MS + n * 1001)
    if number_of(version) >= (9, 0):
        ask("HSET", "hash:volatile", "a", "1", "b", "two", BINARY, BINARY)
        ask("HPEXPIREAT", "hash:volatile", FUTURE_MS + 5, "FIELDS", 2, "a", BINARY)


def _fill_streams(c: valkey.Valkey) -> None:
    ask = c.execute_command
    for n in range(1, 13):
        ask("XADD", "stream", f"{1000 * n}-{n % 3}", "sensor", n, "text", b"\xff" * n)
    ask("XGROUP", "CREATE", "stream", "readers", "0")
    ask("XGROUP", "CREATE", "stream", b"\x00late", "5000-2")
    ask("XREADGROUP", "GROUP", "readers", "one", "COUNT", 5, "STREAMS", "stream", ">")
    ask("XREADGROUP", "GROUP", "readers", "two", "COUNT", 3, "STREAMS", "stream", ">")
    ask("XCLAIM", "stream", "readers", "two", 0, "2000-2", "TIME", 1_234_567_890_123, "RETRYCOUNT", 9)
    ask("XACK", "stream", "readers", "3000-0")
    ask("XGROUP", "CREATECONSUMER", "stream", "readers", "never")
    ask("XDEL", "stream", "12000-0")  # the last id stays above all entries
    ask("XADD", "stream:emptied", "7-7", "f", "v")
    ask("XDEL", "stream:emptied", "7-7")
    ask("XGROUP", "CREATE", "stream:made", "g", "0", "MKSTREAM")
    for n in range(150):
        ask("XADD", "stream:long", f"{n + 1}-1", "f", n, "g", b"x" * (n % 40))


def state(c: valkey.Valkey, version: str, *, counters: bool = True) -> dict[bytes, Any]:
    """key -> (type, value, expiry) of a database. counters: with what streams know since 7.0 only."""
    keys = keys_of(c)
    expiries = expiries_of(c, keys, version)
    return {key: (*_read(c, key, version, counters), at) for key, at in zip(keys, expiries, strict=True)}


def keys_of(c: valkey.Valkey) -> list[bytes]:
    found, cursor = set[bytes](), b"0"
    while True:
        cursor, keys = c.execute_command("SCAN", cursor, "COUNT", 1000)
        found.update(keys)
        if cursor == b"0":
            return sorted(found)


def expiry_of(c: valkey.Valkey, key: bytes | str, version: str) -> int:
    """In ms since 1970; before 7.0 the server does not tell it: from its clock, to about 2 ms."""
    if number_of(version) >= (7, 0):
        return int(c.execute_command("PEXPIRETIME", key))
    left, seconds, micro = c.execute_command("EVAL", _EXPIRY, 1, key)
    return int(left) if left < 0 else int(left) + int(seconds) * 1000 + int(micro) // 1000


def expiries_of(c: valkey.Valkey, keys: list[bytes], version: str) -> list[int]:
    if number_of(version) < (7, 0):
        return [expiry_of(c, key, version) for key in keys]
    with c.pipeline(transaction=False) as pipeline:
        for key in keys:
            pipeline.execute_command("PEXPIRETIME", key)
        return pipeline.execute()


def _read(c: valkey.Valkey, key: bytes, version: str, counters: bool) -> tuple[bytes, Any]:
    ask = c.execute_command
    kind = ask("TYPE", key)
    match kind:
        case b"string":
            return kind, ask("GET", key)
        case b"list":
            return kind, ask("LRANGE", key, 0, -1)
        case b"set":
            return kind, sorted(ask("SMEMBERS", key))
        case b"zset":
            words = ask("ZRANGE", key, 0, -1, "WITHSCORES")
            return kind, {member: float(score) for member, score in _pairs(words).items()}
        case b"hash":
            fields = _pairs(ask("HGETALL", key))
            expiries = [-1] * len(fields)
            if fields and number_of(version) >= (9, 0):
                expiries = ask("HPEXPIRETIME", key, "FIELDS", len(fields), *fields)
            return kind, {field: (fields[field], at) for field, at in zip(fields, expiries, strict=True)}
        case b"stream":
            return kind, _read_stream(c, key, counters)
    raise AssertionError(kind)


def _read_stream(c: valkey.Valkey, key: bytes, counters: bool) -> dict[str, Any]:
    full = _pairs(c.execute_command("XINFO", "STREAM", key, "FULL", "COUNT", 0))
    groups = {}
    for group in map(_pairs, full[b"groups"]):
        groups[group[b"name"]] = {
            "last": group[b"last-delivered-id"],
            "read": group.get(b"entries-read") if counters else None,
            "pending": sorted(map(tuple, group[b"pel"] if b"pel" in group else group[b"pending"])),
            "consumers": sorted(consumer[b"name"] for consumer in map(_pairs, group[b"consumers"])),
        }
    counted = [full.get(name) for name in (b"entries-added", b"max-deleted-entry-id")] if counters else None
    entries = c.execute_command("XRANGE", key, "-", "+")
    return {"entries": entries, "last": full[b"last-generated-id"], "counted": counted, "groups": groups}


def _pairs(words: list[Any]) -> dict[Any, Any]:
    return dict(zip(words[::2], words[1::2], strict=True))


def same_state(one: dict[bytes, Any], other: dict[bytes, Any], *, tolerance_ms: int = 0) -> list[str]:
    """What differs, in words; empty when nothing does."""
    wrong = [f"only on one side: {key!r}" for key in one.keys() ^ other.keys()]
    for key in one.keys() & other.keys():
        (kind, value, expiry), (kind_2, value_2, expiry_2) = one[key], other[key]
        if (kind, value) != (kind_2, value_2):
            wrong.append(f"{key!r}: {kind!r} {str(value)[:300]} / {kind_2!r} {str(value_2)[:300]}")
        elif (expiry < 0) != (expiry_2 < 0) or abs(expiry - expiry_2) > tolerance_ms:
            wrong.append(f"{key!r}: expires at {expiry} / {expiry_2}")
    return wrong


def records_of(c: valkey.Valkey, version: str, db: int = 0, keys: Iterable[bytes] | None = None) -> list[Record]:
    """What a copy would have, read one key at a time. c: a client of that database."""
    keys = keys_of(c) if keys is None else list(keys)
    with c.pipeline(transaction=False) as pipeline:
        for key in keys:
            pipeline.execute_command("DUMP", key)
        payloads = pipeline.execute()
    expiries = expiries_of(c, keys, version)
    now_ms = time.time_ns() // 1_000_000
    return [
        Record(int(Kind.UPSERT), db, expiry if expiry >= 0 else NO_EXPIRY, now_ms, key, payload)
        for key, payload, expiry in zip(keys, payloads, expiries, strict=True)
    ]


def upsert(key: bytes, payload: bytes, *, db: int = 0, expires_ms: int = NO_EXPIRY) -> Record:
    return Record(int(Kind.UPSERT), db, expires_ms, time.time_ns() // 1_000_000, key, payload)


def tombstone(key: bytes, *, db: int = 0) -> Record:
    return Record(int(Kind.TOMBSTONE), db, NO_EXPIRY, time.time_ns() // 1_000_000, key, b"")


def backup_of(
    folder: Path,
    survey: Survey,
    base: list[Record],
    *,
    changes: list[Record] | None = None,
    functions: bytes | None = None,
    gaps: tuple[Gap, ...] = (),
    finish: bool = True,
    options: dict[str, Any] | None = None,
    frame_bytes: int = 1 << 16,
) -> tuple[Repository, str]:
    """A repository with one generation of these records; base: a segment for each database."""
    repository = Repository.open_or_create(LocalBlobs(folder))
    now_ms = time.time_ns() // 1_000_000
    head = Head(
        source=survey.name,
        engine=survey.target.engine.value,
        engine_version=str(survey.target.version),
        mode=survey.mode,
        lanes=(Lane(lane="only"),),
        databases={str(db): size.keys for db, size in survey.databases.items()},
        began_ms=now_ms,
        source_began_ms=now_ms,
        options={"method": "scan", "databases": None, "match": None} | (options or {}),
    )
    writer = GenerationWriter.begin(repository, head)
    for db in sorted({record.db for record in base}):
        with SegmentWriter(writer, "base", "only", db, frame_bytes) as segment:
            segment.add([record for record in base if record.db == db])
            segment.close("0")
    if functions is not None:
        with SegmentWriter(writer, "functions", "only") as segment:
            segment.add([Record(int(Kind.FUNCTIONS), 0, NO_EXPIRY, now_ms, b"", functions)])
            segment.close()
    if changes:
        with SegmentWriter(writer, "changes", "only", None, frame_bytes) as segment:
            segment.add(changes)
            segment.close()
    if finish:
        writer.finish(gaps, keyspace=dict(head.databases))
    return repository, writer.name
