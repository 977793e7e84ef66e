"""What `codec.dump` makes of DUMP is what the servers themselves read, for every type and encoding they write.

The reading here shares nothing with the codec: it asks the server with its read commands.
"""

from __future__ import annotations

import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from valkey.connection import Connection
from valkey.exceptions import ConnectionError as NotUp
from valkey.exceptions import ResponseError

from cachekeep.codec.dump import (
    HashValue,
    ListValue,
    SetValue,
    SortedSetValue,
    StreamValue,
    StringValue,
    Target,
    Unrepresentable,
    Value,
    canonical,
    commands,
    decode,
    digest,
    held_by,
    loadable,
    rdb_version,
    rdb_version_of,
    with_version,
)
from cachekeep.codec.dump.footer import sealed
from cachekeep.domain.engine import Engine, EngineInstall, EngineVersion
from cachekeep.host.installs import MachineCatalogue

NAMES = ("redis 6.2", "redis 7.0", "valkey 8.1", "valkey 9.1")
STARTED_WITHIN_S = 10.0
FUTURE_MS = 4_102_444_800_000  # 2100


class Server:
    """One engine on 127.0.0.1, and one connection whose replies are as on the wire."""

    def __init__(self, install: EngineInstall, folder: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.target = Target(install.engine, install.version)
        arguments = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", folder]
        if install.version.major >= 7:
            arguments += ["--enable-debug-command", "local"]
        self.process = subprocess.Popen([install.program, *arguments], stdout=subprocess.DEVNULL)
        self.connection = Connection(host="127.0.0.1", port=port)
        deadline = time.monotonic() + STARTED_WITHIN_S
        while True:
            try:
                self.connection.connect()
                break
            except NotUp:
                assert time.monotonic() < deadline, f"{install} did not start"
                time.sleep(0.02)

    def ask(self, *words: Any) -> Any:
        self.connection.send_command(*words)
        return self.connection.read_response()

    def dump(self, key: bytes) -> bytes:
        payload = self.ask("DUMP", key)
        assert isinstance(payload, bytes)
        return payload

    def write(self, made: list[list[bytes]]) -> None:
        for command in made:
            self.ask(*command)

    def stop(self) -> None:
        self.connection.disconnect()
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="module")
def servers(catalogue: MachineCatalogue) -> Iterator[dict[str, Server]]:
    running: dict[str, Server] = {}
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="cachekeep-dump-"))
        for name in NAMES:
            engine, version = name.split()
            install = catalogue.best(Engine(engine), EngineVersion.parse(version))
            if install is not None:
                path = Path(folder, name.replace(" ", "-"))
                path.mkdir()
                running[name] = Server(install, str(path))
                stack.callback(running[name].stop)
        yield running


@pytest.fixture
def server(request: pytest.FixtureRequest, servers: dict[str, Server]) -> Server:
    if request.param not in servers:
        pytest.skip(f"needs {request.param} on the machine")
    found = servers[request.param]
    found.ask("FLUSHALL")
    for name, value in PROFILES["default"].items():
        configure(found, name, value)
    return found


each_server = pytest.mark.parametrize("server", NAMES, indirect=True)


# What is written. Keys of one name hold the same on all servers.

DEFAULTS = {
    "hash-max-ziplist-entries": 512,
    "hash-max-ziplist-value": 64,
    "zset-max-ziplist-entries": 128,
    "zset-max-ziplist-value": 64,
    "set-max-intset-entries": 512,
    "set-max-listpack-entries": 128,
    "list-max-ziplist-size": -2,
    "list-compress-depth": 0,
    "stream-node-max-entries": 100,
    "rdbcompression": "yes",
}
PROFILES = {
    "default": DEFAULTS,
    "loose": DEFAULTS
    | {name: 0 for name in DEFAULTS if name.endswith("entries") and not name.startswith("stream")}
    | {"list-max-ziplist-size": 1, "stream-node-max-entries": 1, "rdbcompression": "no"},
    "small nodes": DEFAULTS | {"list-max-ziplist-size": 3, "list-compress-depth": 1, "stream-node-max-entries": 3},
}
INTEGERS = [
    *(sign * ((1 << bits) + more) for bits in (0, 6, 7, 12, 15, 23, 31, 62) for more in (-1, 0, 1) for sign in (1, -1)),
    (1 << 63) - 1,
    -(1 << 63),
]
LENGTHS = (0, 1, 11, 12, 20, 21, 63, 64, 127, 128, 4095, 4096, 16382, 16383, 16384, 70_000)
NOISE = bytes((i * i * 7 + i // 3) % 251 for i in range(70_000))
STRINGS = [NOISE[:n] for n in LENGTHS] + [b"ab" * n for n in (11, 400, 33_000)] + [b"\xff\x00", b"1.5", b"007", b"-0"]
SCORES = [0.0, -0.0, 1.0, -1.5, 0.1, 1e300, -1e-300, 5e-324, 3.0, 2.0**53 + 2, float("inf"), float("-inf"), 1 / 3]


def configure(server: Server, name: str, value: object) -> None:
    if name == "set-max-listpack-entries" and server.target.number < (7, 2):
        return
    server.ask("CONFIG", "SET", name, value)


def fill(server: Server) -> list[bytes]:
    """Write the samples and return their keys."""
    texts = {b"%d" % number: None for number in INTEGERS} | dict.fromkeys(STRINGS)
    for number, text in enumerate(texts):
        server.ask("SET", b"string:%d" % number, text)
    for kind, items in (("small", [b"a", b"1", b"300", b""]), ("integers", [b"%d" % i for i in INTEGERS])):
        fill_collections(server, kind, items)
    fill_collections(server, "mixed", list(texts))
    fill_collections(server, "many", [b"element:%d" % i for i in range(700)])
    server.ask("SADD", "set:bytes2", *range(-3, 9))
    server.ask("SADD", "set:bytes4", *range(-3, 9), 1 << 20)
    server.ask("ZADD", "zset:scores", *(word for i, s in enumerate(SCORES) for word in (repr(s), f"m{i}")))
    server.ask("PFADD", "hyperloglog", *range(3000))
    if server.target.number >= (7, 0):
        server.ask("DEBUG", "QUICKLIST-PACKED-THRESHOLD", "200b")
        server.ask("RPUSH", "list:plain", b"x", b"p" * 500, b"y", NOISE[:300])
        server.ask("DEBUG", "QUICKLIST-PACKED-THRESHOLD", "0")
    fill_streams(server)
    if server.target.expires_fields:
        server.ask("HSET", "hash:volatile", "a", "1", "b", "two", "c", "3" * 50, "", "empty name")
        server.ask("HPEXPIREAT", "hash:volatile", FUTURE_MS, "FIELDS", 2, "a", "c")
        server.ask("HPEXPIREAT", "hash:volatile", FUTURE_MS + 77, "FIELDS", 1, "")
    return sorted(server.ask("KEYS", "*"))


def fill_collections(server: Server, kind: str, items: list[bytes]) -> None:
    server.ask("RPUSH", f"list:{kind}", *items, *items[:3])
    server.ask("SADD", f"set:{kind}", *items)
    server.ask("ZADD", f"zset:{kind}", *(word for i, item in enumerate(items) for word in (i / 7 - 3, item)))
    server.ask("HSET", f"hash:{kind}", *(word for i, item in enumerate(items) for word in (item, items[-i])))


def fill_streams(server: Server) -> None:
    for i in range(1, 13):
        server.ask("XADD", "stream:groups", f"{1000 * i}-{i % 3}", "sensor", i, "text", b"\xff" * i)
    server.ask("XADD", "stream:groups", "18446744073709551000-5", "other", "1", "other", "2", "x" * 70, "300")
    server.ask("XADD", "stream:groups", "18446744073709551000-7", "sensor", "1", "text", "")
    server.ask("XGROUP", "CREATE", "stream:groups", "readers", "0")
    server.ask("XGROUP", "CREATE", "stream:groups", b"\x00late", "5000-2")
    server.ask("XGROUP", "CREATE", "stream:groups", "idle", "$")
    server.ask("XREADGROUP", "GROUP", "readers", "one", "COUNT", 5, "STREAMS", "stream:groups", ">")
    server.ask("XREADGROUP", "GROUP", "readers", "two", "COUNT", 4, "STREAMS", "stream:groups", ">")
    server.ask("XREADGROUP", "GROUP", b"\x00late", "three", "COUNT", 2, "STREAMS", "stream:groups", ">")
    server.ask("XCLAIM", "stream:groups", "readers", "two", 0, "2000-2", "TIME", 1234567890123, "RETRYCOUNT", 9)
    server.ask("XACK", "stream:groups", "readers", "3000-0")
    server.ask("XGROUP", "CREATECONSUMER", "stream:groups", "readers", "never")
    server.ask("XTRIM", "stream:groups", "MINID", "2000-0")  # 1000-1 stays pending
    server.ask("XDEL", "stream:groups", "4000-1", "8000-2", "11000-2")  # 4000-1 and 8000-2 stay pending
    server.ask("XADD", "stream:plain", "5-1", "f", "v")
    server.ask("XADD", "stream:plain", "5-2", "g", "v", "f", "v")
    server.ask("XADD", "stream:emptied", "7-7", "f", "v")
    server.ask("XDEL", "stream:emptied", "7-7")
    server.ask("XADD", "stream:trimmed", "8-8", "f", "v")
    server.ask("XGROUP", "CREATE", "stream:trimmed", "g", "0")
    server.ask("XREADGROUP", "GROUP", "g", "c", "STREAMS", "stream:trimmed", ">")
    server.ask("XTRIM", "stream:trimmed", "MAXLEN", 0)
    server.ask("XGROUP", "CREATE", "stream:made", "g", "0", "MKSTREAM")
    server.ask("XADD", "stream:moved", "9-9", "f", "v")
    server.ask("XSETID", "stream:moved", "99-1")
    server.ask("XADD", "stream:large", "1-1", *(f"word{i}" for i in range(600)))


# How it is read: by the server, and from the value.


def read(server: Server, key: bytes) -> Any:
    kind = server.ask("TYPE", key)
    match kind:
        case b"string":
            return server.ask("GET", key)
        case b"list":
            return server.ask("LRANGE", key, 0, -1)
        case b"set":
            return sorted(server.ask("SMEMBERS", key))
        case b"zset":
            words = server.ask("ZRANGE", key, 0, -1, "WITHSCORES")
            return {member: float(score) for member, score in zip(words[::2], words[1::2], strict=True)}
        case b"hash":
            words = server.ask("HGETALL", key)
            expiry = [-1] * (len(words) // 2)
            if server.target.expires_fields:
                expiry = server.ask("HPEXPIRETIME", key, "FIELDS", len(expiry), *words[::2])
            return {f: (v, e) for f, v, e in zip(words[::2], words[1::2], expiry, strict=True)}
        case b"stream":
            return read_stream(server, key)
    raise AssertionError(kind)


def read_stream(server: Server, key: bytes) -> dict[str, Any]:
    full = pairs(server.ask("XINFO", "STREAM", key, "FULL", "COUNT", 0))
    groups = {}
    for group in map(pairs, full[b"groups"]):
        groups[group[b"name"]] = {
            "last": group[b"last-delivered-id"],
            "read": group.get(b"entries-read"),
            "pending": sorted(map(tuple, group[b"pel"] if b"pel" in group else group[b"pending"])),
            "consumers": {
                c[b"name"]: (c[b"seen-time"], c.get(b"active-time")) for c in map(pairs, group[b"consumers"])
            },
        }
    return {
        "entries": server.ask("XRANGE", key, "-", "+"),
        "length": full[b"length"],
        "last": full[b"last-generated-id"],
        "counters": tuple(full.get(name) for name in (b"entries-added", b"max-deleted-entry-id")),
        "first": full.get(b"recorded-first-entry-id"),
        "groups": groups,
    }


def pairs(words: list[Any]) -> dict[Any, Any]:
    return dict(zip(words[::2], words[1::2], strict=True))


def plain(value: Value, target: Target) -> Any:
    """The value as `read` gives it."""
    match value:
        case StringValue():
            return value.data
        case ListValue():
            return list(value.items)
        case SetValue():
            return sorted(value.members)
        case SortedSetValue():
            return dict(value.items)
        case HashValue():
            return {f: (v, -1 if e is None else e) for f, v, e in value.fields}
        case StreamValue():
            return plain_stream(value, target)
    raise AssertionError(value)


def plain_stream(value: StreamValue, target: Target) -> dict[str, Any]:
    counts, active = target.counts_stream_entries, target.number >= (7, 2)
    return {
        "entries": [[bytes(e.id), [word for pair in e.fields for word in pair]] for e in value.entries],
        "length": len(value.entries),
        "last": bytes(value.last_id),
        "counters": (value.entries_added, bytes(value.max_deleted_id)) if counts else (None, None),
        "first": bytes(value.first_id) if counts else None,
        "groups": {
            group.name: {
                "last": bytes(group.last_id),
                "read": group.entries_read if counts else None,
                "pending": sorted((bytes(p.id), p.consumer, p.delivered_ms, p.delivery_count) for p in group.pending),
                "consumers": {
                    c.name: (c.seen_ms, (-1 if c.active_ms is None else c.active_ms) if active else None)
                    for c in group.consumers
                },
            }
            for group in value.groups
        },
    }


def without_times(reading: Any) -> Any:
    """A reading without what no command can set: when consumers were last seen."""
    if isinstance(reading, dict) and "groups" in reading:
        for group in reading["groups"].values():
            group["consumers"] = sorted(group["consumers"])
    return reading


WRITTEN_TYPES = {
    "redis 6.2": {0, 2, 4, 5, 11, 12, 13, 14, 15},
    "redis 7.0": {0, 2, 4, 5, 11, 16, 17, 18, 19},
    "valkey 8.1": {0, 2, 4, 5, 11, 16, 17, 18, 20, 21},
    "valkey 9.1": {0, 2, 4, 5, 11, 16, 17, 18, 20, 21, 22},
}


@pytest.mark.parametrize("name", NAMES)
def test_every_encoding_decodes_to_what_the_server_reads(name: str, servers: dict[str, Server]) -> None:
    if name not in servers:
        pytest.skip(f"needs {name} on the machine")
    server = servers[name]
    seen = set()
    for profile in PROFILES.values():
        server.ask("FLUSHALL")
        for setting, number in profile.items():
            configure(server, setting, number)
        for key in fill(server):
            payload = server.dump(key)
            assert plain(decode(payload), server.target) == read(server, key), key
            assert rdb_version(payload) == rdb_version_of(server.target)
            seen.add(payload[0])
    assert seen == WRITTEN_TYPES[name]


@pytest.mark.parametrize("to", NAMES)
@each_server
def test_commands_build_the_value_on_every_server(server: Server, to: str, servers: dict[str, Server]) -> None:
    if to not in servers:
        pytest.skip(f"needs {to} on the machine")
    target = servers[to]
    payloads = {key: server.dump(key) for key in fill(server)}
    readings = {
        key: without_times(plain(held_by(decode(payloads[key]), target.target), target.target)) for key in payloads
    }
    target.ask("FLUSHALL")
    for key, payload in payloads.items():
        value = decode(payload)
        if payload[0] == 22 and not target.target.expires_fields:
            with pytest.raises(Unrepresentable, match="fields that expire"):
                commands(key, value, target.target)
            continue
        if (
            isinstance(value, StreamValue)
            and target.target.counts_stream_entries
            and not server.target.counts_stream_entries
        ):
            # Only XDEL removes what stands between entries, and a server since 7.0 takes note of it.
            readings[key]["counters"] = (value.entries_added, bytes(value.proved_deleted_id))
        made = commands(key, value, target.target)
        assert all(len(command) < 3999 for command in made)
        target.write(made)
        assert without_times(read(target, key)) == readings[key], (key, made)
        assert canonical(decode(target.dump(key))) == canonical(held_by(value, target.target)), key


@pytest.mark.parametrize("to", NAMES)
@each_server
def test_a_payload_under_the_targets_version_loads_where_its_type_is_known(
    server: Server, to: str, servers: dict[str, Server]
) -> None:
    if to not in servers:
        pytest.skip(f"needs {to} on the machine")
    target = servers[to]
    payloads = {key: server.dump(key) for key in fill(server)}
    target.ask("FLUSHALL")
    for key, payload in payloads.items():
        patched = with_version(payload, rdb_version_of(target.target))
        if loadable(payload[0], target.target):
            target.ask("RESTORE", key, 0, patched)
            assert digest(decode(target.dump(key))) == digest(decode(payload)), key
        else:
            with pytest.raises(ResponseError, match="Bad data format"):
                target.ask("RESTORE", key, 0, patched)
        if rdb_version(payload) > rdb_version_of(target.target):
            with pytest.raises(ResponseError, match="version or checksum"):
                target.ask("RESTORE", key, 0, payload, "REPLACE")


def _ziplist(*elements: bytes) -> bytes:
    body, before, tail = b"", 0, 10
    for element in elements:
        tail = 10 + len(body)
        entry = bytes([before, len(element)]) + element
        body, before = body + entry, len(entry)
    return struct.pack("<IIH", 11 + len(body), tail, len(elements)) + body + b"\xff"


def _string(data: bytes) -> bytes:
    assert len(data) < 64
    return bytes([len(data)]) + data


OLD_TYPES = {
    "linked list (1)": b"\x01\x03" + _string(b"a") + b"\xc0\xfe" + b"\xc1\x00\x80",
    "sorted set with text scores (3)": b"\x03\x04" + _string(b"a") + b"\x031.5" + b"\x01b\xfe\x01c\xff\x01d\x02-0",
    "zipmap (9)": b"\x09" + _string(b"\x02\x01a\x02\x00vv\x02bb\x01\x03w...\xff"),
    "ziplist list (10)": b"\x0a" + _string(_ziplist(b"a", b"bcd", b"")),
    "ziplist sorted set (12)": b"\x0c" + _string(_ziplist(b"a", b"1.5", b"b", b"inf")),
    "ziplist hash (13)": b"\x0d" + _string(_ziplist(b"f", b"v", b"g", b"")),
    "quicklist (14)": b"\x0e\x02" + _string(_ziplist(b"a", b"b")) + _string(_ziplist(b"c")),
}


@pytest.mark.parametrize("body", OLD_TYPES.values(), ids=OLD_TYPES)
@each_server
def test_types_that_no_server_writes_any_more(server: Server, body: bytes) -> None:
    payload = sealed(body, 6)
    server.ask("RESTORE", "old", 0, payload)
    assert read(server, b"old") == plain(decode(payload), server.target)


texts = st.binary(max_size=40) | st.integers(-(1 << 63), (1 << 63) - 1).map(lambda i: b"%d" % i) | st.just(b"ab" * 60)
scores = st.floats(allow_nan=False)
values = st.one_of(
    texts.map(StringValue),
    st.lists(texts, min_size=1).map(lambda items: ListValue(tuple(items))),
    st.frozensets(texts, min_size=1).map(SetValue),
    st.dictionaries(texts, scores, min_size=1).map(lambda d: SortedSetValue(tuple(d.items()))),
    st.dictionaries(texts, texts, min_size=1).map(lambda d: HashValue(tuple((f, v, None) for f, v in d.items()))),
)


@each_server
def test_random_values_come_back_as_they_were_written(server: Server) -> None:
    @settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(values, st.booleans())
    def written_is_decoded(value: Value, is_packed: bool) -> None:
        configure(server, "hash-max-ziplist-entries", 512 if is_packed else 0)
        configure(server, "zset-max-ziplist-entries", 128 if is_packed else 0)
        server.ask("DEL", "random")
        server.write(commands(b"random", value, server.target))
        assert canonical(decode(server.dump(b"random"))) == canonical(value)

    written_is_decoded()


ids = st.integers(1, 25)
stream_steps = st.lists(
    st.one_of(
        st.tuples(st.just("XADD"), st.lists(st.tuples(texts, texts), min_size=1, max_size=3)),
        st.tuples(st.just("XADD"), st.just([(b"sensor", b"1"), (b"value", b"20")])),
        st.tuples(st.just("XDEL"), ids),
        st.tuples(st.just("XTRIM"), st.integers(0, 10)),
        st.tuples(st.just("XGROUP"), st.sampled_from("gh"), ids),
        st.tuples(st.just("XREADGROUP"), st.sampled_from("gh"), st.sampled_from("cd"), st.integers(1, 5)),
        st.tuples(st.just("XACK"), st.sampled_from("gh"), ids),
        st.tuples(st.just("XSETID"), ids),
    ),
    max_size=25,
)


def walk(server: Server, steps: list[Any]) -> None:
    """Do to the stream `random` what steps say; what the server refuses is not done."""
    server.ask("XGROUP", "CREATE", "random", "g", "0", "MKSTREAM")
    clock = 0
    for kind, *rest in steps:
        match kind, rest:
            case "XADD", [fields]:
                clock += 1
                words: list[Any] = [f"{clock}-0", *(word for pair in fields for word in pair)]
            case "XTRIM", [length]:
                words = ["MAXLEN", length]
            case "XREADGROUP", [group, consumer, count]:
                with suppress(ResponseError):
                    server.ask(kind, "GROUP", group, consumer, "COUNT", count, "STREAMS", "random", ">")
                continue
            case "XGROUP", [group, last]:
                with suppress(ResponseError):
                    server.ask(kind, "CREATE", "random", group, last)
                continue
            case "XSETID", [last]:
                words = [f"{last}-0"]
                clock = max(clock, last)
            case _, [*words]:
                pass
        with suppress(ResponseError):
            server.ask(kind, "random", *words)


@each_server
def test_random_streams_are_read_and_rebuilt(server: Server, servers: dict[str, Server]) -> None:
    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(stream_steps, st.sampled_from([1, 3, 100]))
    def stream_is_decoded(steps: list[Any], node_size: int) -> None:
        configure(server, "stream-node-max-entries", node_size)
        server.ask("DEL", "random")
        walk(server, steps)
        value = decode(server.dump(b"random"))
        assert plain(value, server.target) == read(server, b"random")
        for other in servers.values():
            other.ask("DEL", "rebuilt")
            other.write(commands(b"rebuilt", value, other.target))
            rebuilt = decode(other.dump(b"rebuilt"))
            assert canonical(rebuilt) == canonical(held_by(value, other.target)), other.target

    stream_is_decoded()
