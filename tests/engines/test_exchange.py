"""Export and import with real servers: what comes back is what was there, read by the servers' own commands.

The seed's scripts run as they were published (`seed_scripts/`), with only their settings changed.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import libvalkey
import pytest
import valkey
from backup_samples import BINARY, expiry_of, fill_all_types, keys_of, number_of, raw, state

from cachekeep.backup.catalog import CatalogError, CatalogFault, Repository, Status
from cachekeep.backup.export import export
from cachekeep.backup.ingest import ingest
from cachekeep.backup.progress import Progress
from cachekeep.backup.reader import GenerationReader
from cachekeep.blob.memory import MemoryBlobs
from cachekeep.codec.dump import (
    HashValue,
    PayloadBuilder,
    Target,
    Unrepresentable,
    canonical,
    decode,
    encode,
    held_by,
    rdb_version_of,
)
from cachekeep.codec.record import NO_EXPIRY, Kind, Record
from cachekeep.domain.engine import Engine, EngineVersion

VERSIONS = ("9.1", "8.1", "7.0", "6.2")
NOW_MS = 1_795_381_200_123
CLOCK_SLACK_MS = 2000  # before 7.0 an expiry is had only from two readings of the clock, on a busy machine
SCRIPT_SLACK_MS = 600_000
SCRIPTS = Path(__file__).with_name("seed_scripts")
LIBRARY = b"#!lua name=mine\nredis.register_function('f', function() return 7 end)"
AS_PUBLISHED = """
import re, sys, types
import valkey, valkey.cluster, valkey.exceptions
modules = {"redis": valkey, "redis.exceptions": valkey.exceptions, "redis.cluster": types.ModuleType("cluster")}
modules["redis.cluster"].RedisCluster = valkey.RedisCluster
sys.modules.update(modules)
path, host, folder, call = sys.argv[1:]
text = open(path, encoding="utf-8").read()
for name, value in {"REDIS_HOST": host, "OUTPUT_DIR": folder, "INPUT_DIR": folder}.items():
    text = re.sub(rf"(?m)^{name} = .*$", lambda found: f"{name} = {value!r}", text)
made = {"__name__": "seed"}
exec(compile(text, path, "exec"), made)
eval(call, made)
"""
Start = Callable[..., Any]


def target_of(version: str) -> Target:
    return Target(Engine.REDIS if version in ("7.0", "6.2") else Engine.VALKEY, EngineVersion.parse(version))


class Captured:
    """Contents read by the test itself. Records may be given instead."""

    name, captured_ms = "20261122T210000.123Z-9f3c2e71", NOW_MS

    def __init__(self, *databases: tuple[int, valkey.Valkey], version: str = "9.1", records: Any = None) -> None:
        self.records: list[Record] = [] if records is None else records
        self.payload: bytes | None = None
        for db, made in databases:
            for key in keys_of(made):
                payload = made.execute_command("DUMP", key)
                self.records.append(upsert(key, payload, db, expiry_of(made, key, version)))
        if databases and number_of(version) >= (7, 0):
            self.payload = databases[0][1].execute_command("FUNCTION", "DUMP")

    @property
    def total_keys(self) -> int | None:
        return len(self.records)

    def functions(self) -> bytes | None:
        return self.payload

    def batches(self) -> Iterator[list[Record]]:
        for start in range(0, len(self.records), 7):
            yield self.records[start : start + 7]


def upsert(key: bytes, payload: bytes, db: int = 0, expires_ms: int = NO_EXPIRY) -> Record:
    return Record(int(Kind.UPSERT), db, max(expires_ms, NO_EXPIRY), NOW_MS, key, payload)


def tombstone(key: bytes, db: int = 0) -> Record:
    return Record(int(Kind.TOMBSTONE), db, NO_EXPIRY, NOW_MS, key, b"")


def string(text: bytes) -> bytes:
    return b"\x00" + bytes([len(text)]) + text + b"\x09\x00"


@pytest.fixture
def filled(start_server: Start, client: Callable[..., valkey.Valkey]) -> Callable[[str], tuple[Any, Captured]]:
    """A server of the version with everything in database 0, a little in 3, and a library; and what is in it."""

    def make(version: str) -> tuple[Any, Captured]:
        server = start_server(version)
        first, third = raw(client(server)), raw(client(server, 3))
        fill_all_types(first, version)
        third.execute_command("SET", "string", "another")
        third.execute_command("SET", "__b64_key__//4=", "a text", "PXAT" if version >= "7" else "PX", 4_102_444_800_000)
        if number_of(version) >= (7, 0):
            first.execute_command("FUNCTION", "LOAD", LIBRARY)
        return server, Captured((0, first), (3, third), version=version)

    return make


@pytest.fixture
def state_of(client: Callable[..., valkey.Valkey]) -> Callable[..., dict[Any, Any]]:
    """(db, key) -> type and value, expiry, of databases 0 and 3."""

    def read(server: Any, counters: bool = True) -> dict[Any, Any]:
        found: dict[Any, Any] = {}
        for db in (0, 3):
            held = state(raw(client(server, db)), server.version, counters=counters)
            found |= {(db, key): value for key, value in held.items()}
        return found

    return read


def assert_same(have: dict[Any, Any], want: dict[Any, Any], slack_ms: int = 0) -> None:
    assert have.keys() == want.keys()
    for key, (*value, expires_ms) in want.items():
        *there, at = have[key]
        assert there == value, key
        assert abs(at - expires_ms) <= slack_ms, key


def restore(records: list[Record], server: Any, connect: Callable[..., valkey.Valkey]) -> None:
    clients = {db: raw(connect(server, db)) for db in {record.db for record in records}}
    for record in records:
        words = (record.key, max(record.expires_ms, 0), record.payload, "REPLACE", "ABSTTL")
        assert clients[record.db].execute_command("RESTORE", *words) == b"OK"


def run_seed_script(name: str, server: Any, folder: Path, call: str = "main()") -> None:
    command = [sys.executable, "-c", AS_PUBLISHED, str(SCRIPTS / f"{name}.py.txt"), server.host, str(folder), call]
    done = subprocess.run(command, cwd=folder.parent, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "Error restoring" not in done.stdout, done.stdout


def pipe(data: bytes, server: Any) -> list[Any]:
    """Send as `redis-cli --pipe` does; all replies."""
    with socket.create_connection((server.host, server.port), timeout=30) as made:
        made.sendall(data + b"*2\r\n$4\r\nECHO\r\n$4\r\nlast\r\n")
        replies, reader = list[Any](), libvalkey.Reader()
        while not replies or replies[-1] != b"last":
            reply = reader.gets()
            if reply is False:
                reader.feed(made.recv(65536))
            else:
                replies.append(reply)
    return replies[:-1]


# encode


@pytest.mark.parametrize("version", VERSIONS)
def test_what_is_encoded_is_restored_by_the_server(
    version: str, filled: Callable[[str], Any], start_server: Start, client: Callable[..., valkey.Valkey]
) -> None:
    """The server checks every element: sanitize-dump-payload."""
    _, captured = filled("9.1")
    server = start_server(version, "--sanitize-dump-payload", "yes")
    made, target = raw(client(server)), target_of(version)
    refused = []
    for record in captured.records:
        value = decode(record.payload)
        try:
            payload = encode(value, rdb_version_of(target))
        except Unrepresentable:
            refused.append(record.key)
            continue
        assert made.execute_command("RESTORE", record.key, 0, payload, "REPLACE") == b"OK", record.key
        assert canonical(held_by(decode(made.execute_command("DUMP", record.key)), target)) == canonical(
            held_by(value, target)
        ), record.key
    assert refused == ([] if version == "9.1" else [b"hash:volatile"])


@pytest.mark.parametrize("version", VERSIONS)
def test_what_is_built_from_pages_is_restored_by_the_server(
    version: str, start_server: Start, client: Callable[..., valkey.Valkey]
) -> None:
    made = raw(client(start_server(version)))
    pages = [
        [(b"field:%d" % number, b"x" * (number % 70)) for number in range(at, at + 997)] for at in range(0, 9970, 997)
    ]
    builder = PayloadBuilder("hash")
    for page in [*pages, pages[3]]:
        builder.add(page)
    made.execute_command("RESTORE", "k", 0, builder.payload(rdb_version_of(target_of(version))))
    words = made.execute_command("HGETALL", "k")
    assert dict(zip(words[::2], words[1::2], strict=True)) == {name: value for page in pages for name, value in page}


# RDB


RDB_PAIRS = [
    ("9.1", "9.1"),
    ("8.1", "8.1"),
    ("7.0", "7.0"),
    ("6.2", "6.2"),
    ("9.1", "6.2"),
    ("6.2", "9.1"),
    ("9.1", "7.0"),
]


@pytest.mark.parametrize(("source", "version"), RDB_PAIRS)
def test_a_server_starts_with_an_exported_rdb_file(
    source: str, version: str, filled: Any, start_server: Start, state_of: Any, tmp_path: Path, client: Any
) -> None:
    origin, captured = filled(source)
    captured.records.sort(key=lambda record: record.key)  # databases in turn
    target = target_of(version) if number_of(version) < number_of(source) else None
    report = export(captured, tmp_path / "out", "rdb", target=target)
    loaded = start_server(version, "--dir", str(tmp_path / "out"))
    counters = min(number_of(source), number_of(version)) >= (7, 0)
    want, have = state_of(origin, counters), state_of(loaded, counters)
    lost = [key for key in want if key[1] == b"hash:volatile"] if target else []
    for key in lost:
        del want[key]
    assert_same(have, want, slack_ms=0 if version >= "7" and source >= "7" else CLOCK_SLACK_MS)
    functions = target is not None and version == "6.2"
    assert sum(report.skipped.values()) == len(lost) + functions
    assert sum(report.written.values()) == len(want)
    if report.functions:
        assert raw(client(loaded)).execute_command("FCALL", "f", 0) == 7
    named = (tmp_path / "out" / "cachekeep_skipped.jsonl").read_text() if report.skipped else ""
    assert ("hash:volatile" in named) is bool(lost)


def test_a_key_comes_once_into_an_rdb_file_and_the_last_record_wins(
    start_server: Start, client: Any, tmp_path: Path
) -> None:
    one, two = (encode(decode(sealed_string(text)), 9) for text in (b"1", b"2"))
    records = [
        *(upsert(b"k%d" % number, one, number % 2) for number in range(300)),
        *(upsert(b"k%d" % number, two, number % 2, 4_102_444_800_000) for number in range(100)),
        *(tombstone(b"k%d" % number, number % 2) for number in range(50)),
        tombstone(b"never", 0),
        upsert(b"k7", one, 1),
        tombstone(b"k9", 0),  # of another database: k9 is in 1
    ]
    report = export(Captured(records=records), tmp_path / "out", "rdb")
    assert report.written == {0: 125, 1: 126}
    server = start_server("9.1", "--dir", str(tmp_path / "out"))
    first, second = raw(client(server)), raw(client(server, 1))
    assert (len(keys_of(first)), len(keys_of(second))) == (125, 126)
    assert [made.execute_command("GET", key) for made, key in ((second, "k7"), (first, "k60"), (first, "k250"))] == [
        b"1",
        b"2",
        b"1",
    ]
    assert expiry_of(first, "k60", "9.1") == 4_102_444_800_000
    assert expiry_of(second, "k7", "9.1") == -1


def test_a_flushed_database_is_empty_in_the_export(tmp_path: Path) -> None:
    payload = sealed_string(b"1")
    records = [upsert(b"a", payload), upsert(b"b", payload, 1), upsert(b"c", payload)]
    records[2:2] = [Record(int(Kind.FLUSHED), 0, NO_EXPIRY, NOW_MS, b"", b"")]
    assert export(Captured(records=records), tmp_path / "out", "json").written == {0: 1, 1: 1}


def sealed_string(text: bytes) -> bytes:
    builder = PayloadBuilder("string")
    builder.add([text])
    return builder.payload(9)


# RESP


@pytest.mark.parametrize(("source", "version"), [("9.1", "9.1"), ("9.1", "6.2"), ("7.0", "7.0")])
def test_exported_commands_build_the_same(
    source: str, version: str, filled: Any, start_server: Start, state_of: Any, tmp_path: Path, client: Any
) -> None:
    origin, captured = filled(source)
    target = target_of(version) if source != version else None
    report = export(captured, tmp_path / "out", "resp", target=target)
    loaded = start_server(version)
    raw(client(loaded)).execute_command("SET", "stream", "in the way")
    replies = pipe((tmp_path / "out" / "commands.resp").read_bytes(), loaded)
    assert [reply for reply in replies if isinstance(reply, Exception)] == []
    counters = number_of(version) >= (7, 0)
    want = state_of(origin, counters)
    if target is not None:
        del want[0, b"hash:volatile"]
    assert_same(state_of(loaded, counters), want, slack_ms=0 if version >= "7" else CLOCK_SLACK_MS)
    assert sum(report.written.values()) == len(want)


# JSON


@pytest.mark.parametrize("version", ["9.1", pytest.param("7.0", marks=pytest.mark.slow), "6.2"])
def test_nothing_is_lost_through_json_and_back(
    version: str, filled: Any, start_server: Start, state_of: Any, tmp_path: Path, client: Any
) -> None:
    origin, captured = filled(version)
    told: list[Progress] = []
    report = export(captured, tmp_path / "out", "json", progress=told.append)
    assert (report.skipped, report.functions) == ({}, version != "6.2")
    assert {progress.phase for progress in told} == {"read", "write"}
    repository = Repository.create(MemoryBlobs())
    back = ingest(tmp_path / "out", repository)
    assert (back.verdict, back.skipped, back.keys) == ("complete", {}, report.written)
    reader = GenerationReader.open(repository, back.generation)
    records = list(reader.records())
    functions = [record.payload for record in records if record.kind == Kind.FUNCTIONS]
    assert functions == ([captured.payload] if captured.payload else [])
    loaded = start_server(version)
    restore([record for record in records if record.kind == Kind.UPSERT], loaded, client)
    assert_same(state_of(loaded), state_of(origin), slack_ms=0 if version >= "7" else CLOCK_SLACK_MS)


@pytest.mark.parametrize("script", ["safe_restore_redis", "restore_all_dbs"])
def test_the_seeds_own_restore_scripts_read_what_is_exported(
    script: str, start_server: Start, client: Any, tmp_path: Path
) -> None:
    server, loaded = start_server("9.1"), start_server("9.1")
    first, third = raw(client(server)), raw(client(server, 3))
    for made in (first, third):
        for words in (
            ("SET", "string", "käse"),
            ("SET", "binary", BINARY),
            ("RPUSH", "list", "a", "a", BINARY),
            ("SADD", "set", "a", BINARY),
            ("ZADD", "zset", "1.5", "a", "inf", BINARY, "-inf", "c"),
            ("HSET", "hash", "a", "1", "käse", BINARY),
            ("XADD", "stream", "5-1", "f", "1", "g", BINARY),
            ("PEXPIREAT", "set", 4_102_444_800_000),
        ):
            made.execute_command(*words)
    export(Captured((0, first), (3, third)), tmp_path / "out", "json")
    run_seed_script(script, loaded, tmp_path / "out")
    for db, made in ((0, first), (3, third)):
        have, want = (state(raw(one), "9.1") for one in (client(loaded, db), made))
        assert have.pop(b"set")[:-1] == want.pop(b"set")[:-1]  # it counts its ttl from the restore on
        assert have == want
        assert expiry_of(raw(client(loaded, db)), "set", "9.1") > NOW_MS


def test_the_seeds_own_backup_is_imported_with_every_key_that_is_in_it(
    start_server: Start, client: Any, tmp_path: Path
) -> None:
    server = start_server("9.1")
    first, third = raw(client(server)), raw(client(server, 3))
    for number in range(2600):
        first.execute_command("SET", b"key:%d" % number, b"%d" % number, *(("EX", 5000) if number % 2 else ()))
    third.execute_command("SET", BINARY, BINARY)
    third.execute_command("ZADD", "zset", "inf", "a", "2", BINARY)
    third.execute_command("RPUSH", "list", "a", "b", "a")
    third.execute_command("SADD", "set", "a", BINARY)
    third.execute_command("XADD", "stream", "5-1", b"\xff", "1")
    third.execute_command("HSET", "hash", "a", "1")
    run_seed_script("continuous_redis_backup", server, tmp_path / "out", "full_backup(connect_redis())")
    repository = Repository.create(MemoryBlobs())
    report = ingest(tmp_path / "out", repository)
    assert (report.verdict, report.keys, report.files) == ("complete", {0: 2600, 3: 5}, 3)
    assert [("empty" in why, keys) for why, keys in report.skipped.items()] == [(True, 1)], "seed: every hash is empty"
    assert repository.generation(report.generation).status is Status.COMPLETE
    loaded = start_server("6.2")
    restore(list(GenerationReader.open(repository, report.generation).records()), loaded, client)
    for db, made in ((0, first), (3, third)):
        have = state(raw(client(loaded, db)), "6.2", counters=False)
        want = state(made, "9.1", counters=False)
        want.pop(b"hash", None)
        # The script reads a key's ttl before it writes the moment of the chunk.
        assert_same(have, want, slack_ms=SCRIPT_SLACK_MS)


def test_a_long_export_has_parts_of_2500_keys_and_its_files_are_private(tmp_path: Path) -> None:
    payload = sealed_string(b"v")
    records = [upsert(b"%d" % number, payload, 5) for number in range(5001)]
    report = export(Captured(records=records), tmp_path / "a" / "out", "json")
    folder = tmp_path / "a" / "out"
    assert report.files == (*(f"redis_backup_db5_part_{part}.json" for part in (1, 2, 3)), "cachekeep_export.json")
    assert sorted(path.name for path in folder.iterdir()) == sorted(report.files)
    assert [json.loads((folder / name).read_bytes())["_meta"]["keys_in_chunk"] for name in report.files[:3]] == [
        2500,
        2500,
        1,
    ]
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    assert folder.stat().st_mode & 0o777 == 0o700
    assert [path.name for path in folder.parent.iterdir()] == ["out"]


def test_a_folder_that_is_in_use_is_refused_and_an_empty_one_is_filled(tmp_path: Path) -> None:
    nothing = Captured(records=[])
    export(nothing, tmp_path / "out", "rdb")
    before = (tmp_path / "out" / "dump.rdb").read_bytes()
    with pytest.raises(CatalogError, match="no empty folder") as refused:
        export(nothing, tmp_path / "out", "rdb")
    assert refused.value.fault is CatalogFault.STATE
    assert (tmp_path / "out" / "dump.rdb").read_bytes() == before
    (tmp_path / "empty").mkdir()
    assert export(nothing, tmp_path / "empty", "resp").files == ("commands.resp",)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(CatalogError):
        export(nothing, tmp_path / "file", "json")


def test_an_export_that_fails_leaves_nothing(tmp_path: Path) -> None:
    class Breaking(Captured):
        def batches(self) -> Iterator[list[Record]]:
            yield [upsert(b"a", sealed_string(b"1"))]
            raise CatalogError(CatalogFault.DAMAGED, "a frame is damaged", "take another backup")

    with pytest.raises(CatalogError, match="a frame is damaged"):
        export(Breaking(records=[]), tmp_path / "out", "json")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(CatalogError, match="cannot be written"):
        export(Captured(records=[]), Path("/proc/nothing/out"), "json")


def test_what_cannot_be_written_is_named(tmp_path: Path) -> None:
    volatile = encode(HashValue(((b"a", b"1", 4_102_444_800_000),)), 80)
    records = [
        upsert(b"\xff", volatile, 3),
        upsert(b"bad", volatile[:-1] + b"\0"),
        upsert(b"good", sealed_string(b"1")),
    ]
    for format_, skipped in (("rdb", 2), ("resp", 2), ("json", 1)):
        report = export(Captured(records=records), tmp_path / format_, format_, target=target_of("8.1"))  # type: ignore[arg-type]
        assert sum(report.skipped.values()) == skipped
        assert report.written[0] == 1
        lines = list(map(json.loads, (tmp_path / format_ / "cachekeep_skipped.jsonl").read_text().splitlines()))
        assert {"db": 0, "key": "bad"}.items() <= lines[-1].items()
        assert [line.get("key_b64") for line in lines[:-1]] == ["/w=="] * (skipped - 1)


# Import of folders that are not as they should be


def seed_folder(path: Path, parts: dict[str, dict[str, Any]]) -> Path:
    path.mkdir()
    for name, data in parts.items():
        meta = {"generated_at": "2026-11-22T21:00:00Z", "keys_in_chunk": len(data)}
        (path / f"redis_backup_{name}.json").write_text(json.dumps({"_meta": meta, "data": data}))
    return path


def text(value: str, ttl: int = -1) -> dict[str, Any]:
    return {"type": "string", "value": {"_t": "str", "v": value}, "ttl": ttl}


def imported(folder: Path) -> tuple[dict[bytes, Any], Any]:
    repository = Repository.create(MemoryBlobs())
    report = ingest(folder, repository)
    records = GenerationReader.open(repository, report.generation).records()
    return {record.key: decode(record.payload) for record in records}, report


def test_seed_defect_03_the_last_part_wins_though_9_sorts_behind_12(tmp_path: Path) -> None:
    parts = {f"db0_part_{number}": {"counter": text(str(number - 1))} for number in range(1, 13)}
    found, report = imported(seed_folder(tmp_path / "seed", parts))
    assert found == {b"counter": decode(sealed_string(b"11"))}
    assert report.keys == {0: 1}


def test_seed_defect_18_a_key_that_was_gone_in_the_last_part_is_not_brought_back(tmp_path: Path) -> None:
    parts = {"db0_part_1": {"a": text("1"), "b": text("1")}, "db0_part_2": {"a": text("", -2)}}
    found, report = imported(seed_folder(tmp_path / "seed", parts))
    assert found.keys() == {b"b"}
    assert report.gone == 1


def test_a_missing_part_makes_it_a_backup_with_gaps(tmp_path: Path) -> None:
    parts = {f"db0_part_{number}": {f"k{number}": text("v")} for number in (1, 3)}
    found, report = imported(seed_folder(tmp_path / "seed", parts))
    assert found.keys() == {b"k1", b"k3"}
    assert (report.verdict, report.missing) == ("gaps", ("redis_backup_db0_part_2.json",))
    export(Captured(records=[upsert(b"a", sealed_string(b"1"))]), tmp_path / "out", "json")
    (tmp_path / "out" / "redis_backup_db0_part_1.json").unlink()
    assert imported(tmp_path / "out")[1].missing == ("redis_backup_db0_part_1.json",)


def test_a_damaged_file_is_named_and_nothing_is_imported(tmp_path: Path) -> None:
    folder = seed_folder(tmp_path / "seed", {"db0_part_1": {"a": text("1")}, "db0_part_2": {"b": text("1")}})
    second = folder / "redis_backup_db0_part_2.json"
    second.write_bytes(second.read_bytes()[:-9])
    repository = Repository.create(MemoryBlobs())
    with pytest.raises(CatalogError, match=r"redis_backup_db0_part_2\.json is not JSON") as refused:
        ingest(folder, repository)
    assert refused.value.fault is CatalogFault.DAMAGED
    assert repository.generations() == []


@pytest.mark.parametrize("content", [None, {}, {"dump.rdb": b"REDIS0011"}])
def test_a_folder_without_such_files_is_refused(content: dict[str, bytes] | None, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    if content is not None:
        folder.mkdir()
        for name, data in content.items():
            (folder / name).write_bytes(data)
    with pytest.raises(CatalogError) as refused:
        ingest(folder, Repository.create(MemoryBlobs()))
    assert refused.value.fault is CatalogFault.ABSENT
    assert str(folder) in str(refused.value)


def test_a_chunk_that_the_export_does_not_name_is_refused(tmp_path: Path) -> None:
    export(Captured(records=[upsert(b"a", sealed_string(b"1"))]), tmp_path / "out", "json")
    first = tmp_path / "out" / "redis_backup_db0_part_1.json"
    first.with_name("redis_backup_db1_part_1.json").write_bytes(first.read_bytes())
    with pytest.raises(CatalogError, match=r"redis_backup_db1_part_1\.json is not of the export"):
        ingest(tmp_path / "out", Repository.create(MemoryBlobs()))


def test_an_interrupted_import_leaves_no_backup(tmp_path: Path) -> None:
    folder = seed_folder(tmp_path / "seed", {"db0_part_1": {"a": text("1")}})

    def stop(progress: Progress) -> None:
        if progress.phase == "write":
            raise KeyboardInterrupt

    repository = Repository.create(MemoryBlobs())
    with pytest.raises(KeyboardInterrupt):
        ingest(folder, repository, stop)
    assert repository.generations() == []
