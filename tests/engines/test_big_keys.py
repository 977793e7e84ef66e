"""Large keys: read in pages, of one moment, and never many of them in memory at once."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from copying import FAR_MS, alike, contents, copied

from cachekeep.backup.big_keys import BigKey, read_in_pages
from cachekeep.backup.scan import scan_batches
from cachekeep.backup.sizes import EXCHANGE_BYTES
from cachekeep.backup.survey import survey
from cachekeep.remote.open import open_remote

SIZE = 5000


def fill_large(client: Any, size: int) -> list[bytes]:
    pipe = client.pipeline(transaction=False)
    for start in range(0, size, 1000):
        items = [f"item {at} {'z' * (at % 50)}" for at in range(start, min(size, start + 1000))]
        pipe.rpush("list", *items, *items)
        pipe.sadd("set", *items)
        pipe.zadd("zset", {item: at / 3 for at, item in enumerate(items, start)})
        pipe.hset("hash", mapping={item: item for item in items})
    pipe.zadd("zset", {"low": float("-inf"), "high": float("inf")})
    pipe.set("string", bytes(range(256)) * 12_000)
    pipe.set("number", 12345)
    pipe.set("nothing", "")
    pipe.xadd("stream", {"a": 1}, id="5-1")
    pipe.pexpireat("hash", FAR_MS + 7)
    pipe.execute()
    return [b"list", b"set", b"zset", b"hash", b"string", b"number", b"nothing", b"stream"]


def in_pages(server: Any, key: bytes, notes: list[str] | None = None) -> BigKey:
    remote = open_remote(server.url)
    seen = survey(remote)
    with remote.connect() as connection:
        return read_in_pages(connection, seen, key, (notes if notes is not None else []).append)


@pytest.mark.parametrize("version", ["9.1", "7.0", "6.2", pytest.param("8.1", marks=pytest.mark.slow)])
def test_a_key_read_in_pages_is_the_key_that_dump_gives(start_server: Any, client: Any, version: str) -> None:
    server = start_server(version)
    filler = client(server)
    for key in fill_large(filler, SIZE):
        notes: list[str] = []
        read = in_pages(server, key, notes)
        assert read.payload is not None
        assert alike(read.payload, filler.dump(key)), key
        assert read.expires_ms == (FAR_MS + 7 if key == b"hash" else -1)
        assert len(notes) == (key == b"stream")
        # The server takes it too, and has the same value then.
        filler.execute_command("RESTORE", "again", 0, read.payload, "REPLACE")
        assert alike(filler.dump("again"), filler.dump(key))
    assert in_pages(server, b"absent") == BigKey(None, -1, pytest.approx(time.time() * 1000, abs=60_000))


def test_fields_that_expire_keep_it(start_server: Any, client: Any) -> None:
    server = start_server("9.1")
    filler = client(server)
    filler.hset("hash", mapping={f"field:{at}": at for at in range(SIZE)})
    filler.execute_command("HPEXPIREAT", "hash", FAR_MS + 5, "FIELDS", 2, "field:7", "field:4999")
    read = in_pages(server, b"hash")
    assert read.payload is not None
    filler.execute_command("RESTORE", "again", 0, read.payload)
    asked = ("FIELDS", 3, "field:7", "field:8", "field:4999")
    assert filler.execute_command("HPEXPIRETIME", "again", *asked) == [FAR_MS + 5, -1, FAR_MS + 5]
    assert filler.hgetall("again") == filler.hgetall("hash")


class Disturbed:
    """A connection during whose pages somebody writes."""

    def __init__(self, connection: Any, write: Any) -> None:
        self._connection, self._write = connection, write

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def ask(self, *words: Any) -> Any:
        if words[0] == "HSCAN":
            self._write()
        return self._connection.ask(*words)


@pytest.mark.parametrize("version", ["9.1", "6.2"])
@pytest.mark.parametrize("writes", [3, 1_000_000])
def test_a_key_that_is_written_to_meanwhile_is_read_again_and_at_last_at_once(
    start_server: Any, client: Any, version: str, writes: int
) -> None:
    server = start_server(version)
    filler = client(server)
    turns = iter(range(writes))

    def write() -> None:
        if (turn := next(turns, None)) is not None:
            filler.hset("hash", mapping={f"field:{at}": turn for at in range(1500)})

    write()
    remote = open_remote(server.url)
    seen, notes = survey(remote), list[str]()
    with remote.connect() as connection:
        read = read_in_pages(Disturbed(connection, write), seen, b"hash", notes.append)
    assert read.payload is not None
    filler.execute_command("RESTORE", "again", 0, read.payload)
    assert filler.hgetall("again") == filler.hgetall("hash"), "all fields are of one write"
    endless = ["key b'hash' was read by one DUMP: it was written to during 5 readings in pages"]
    assert notes == (endless if writes > 3 else [])


@pytest.mark.parametrize(
    ("version", "users"),
    [
        ("7.0", None),
        ("9.1", "user default on nopass ~* &* +@all -eval\n"),
        ("7.0", "user default on nopass ~* &* +@all -eval -memory\n"),
        ("9.1", "user default on nopass ~* &* +@all -memory\n"),
    ],
)
def test_many_large_values_are_never_in_one_exchange(
    start_server: Any, client: Any, tmp_path: Path, version: str, users: str | None
) -> None:
    server = start_server(version, users=users)
    filler = client(server)
    value = bytes(range(256)) * 4096  # 1 MiB
    for at in range(40):
        filler.set(f"large:{at}", value)
    filler.mset({f"small:{at}": "x" for at in range(500)})
    filler.set("huge", value * 6)
    remote = open_remote(server.url)
    seen = survey(remote)
    with remote.connect() as connection:
        for batch in scan_batches(connection, seen, db=0, count=200):
            size = sum(len(record.payload) for record in batch.records)
            assert size <= EXCHANGE_BYTES or len(batch.records) == 1
    report, repository = copied(server.url, tmp_path / "repository", count=200)
    held = contents(repository, report.generation)
    assert len(held) == 541
    assert alike(held[0, b"huge"][0], filler.dump("huge"))
    assert not report.notes


@pytest.mark.slow
def test_a_hash_of_a_million_fields_is_copied_without_one_long_command(
    start_server: Any, client: Any, tmp_path: Path
) -> None:
    server = start_server("7.0", "--slowlog-log-slower-than", "35000")
    filler = client(server)
    for start in range(0, 1_000_000, 10_000):
        filler.hset("hash", mapping={f"field:{at}": f"value {at}" for at in range(start, start + 10_000)})
    filler.slowlog_reset()
    report, repository = copied(server.url, tmp_path / "repository")
    commands = {entry["command"].split()[0] for entry in filler.slowlog_get()}
    assert b"DUMP" not in commands
    held = contents(repository, report.generation)
    filler.execute_command("RESTORE", "again", 0, held[0, b"hash"][0])
    assert filler.hlen("again") == 1_000_000
