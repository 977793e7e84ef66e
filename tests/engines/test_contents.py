"""What a backup contains, by segments or by the engine's own file, and what of a living endpoint is read."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from backup_samples import (
    BINARY,
    backup_of,
    fill_all_types,
    keys_of,
    raw,
    records_of,
    same_state,
    state,
    tombstone,
    upsert,
)

from cachekeep.backup.catalog import Repository
from cachekeep.backup.catalog_objects import Head, Lane
from cachekeep.backup.contents import contents_of, open_generation
from cachekeep.backup.glob_match import matcher
from cachekeep.backup.restore import restore
from cachekeep.backup.survey import survey
from cachekeep.backup.verify import verify
from cachekeep.backup.writer import GenerationWriter, SegmentWriter
from cachekeep.blob.local import LocalBlobs
from cachekeep.codec.record import NO_EXPIRY, Kind, Record
from cachekeep.domain.remote import ScratchError
from cachekeep.host.scratch import LocalScratch
from cachekeep.remote.open import open_remote

GLOBS = [*rb"* user:* *:1 u?er:[0-9] [^u]* \* *a*a*b [a-c]x []x] [\]] [z-a]x [a *[ x**y \ [^]".split(), b""]
KEYS = [*rb"user:1 user:2 uXer:1 * aaab bx ]x ] [ xy a \ -".split(), b"", b"aab\n", b"x\xff\ny", b"z\x00"]


def keys_in(contents: Any, **how: Any) -> list[tuple[int, bytes]]:
    return sorted((record.db, record.key) for batch in contents.batches(**how) for record in batch)


def test_globs_match_as_the_server_matches(start_server: Callable[..., Any], client: Callable[..., Any]) -> None:
    c = raw(client(start_server("9.1")))
    for key in KEYS:
        c.execute_command("SET", key, 1)
    for glob in GLOBS:
        ours = matcher(glob)
        assert sorted(key for key in KEYS if ours(key)) == sorted(c.execute_command("KEYS", glob)), glob


def test_a_glob_of_many_stars_takes_no_time() -> None:
    assert not matcher(b"a*" * 40 + b"b")(b"a" * 5000)


def test_changes_and_flushes_leave_the_last_record_of_each_key(
    start_server: Callable[..., Any], client: Callable[..., Any], tmp_path: Path, scratch: LocalScratch
) -> None:
    server = start_server("9.1")
    c = raw(client(server))
    c.execute_command("SET", "k", 1)
    payload = records_of(c, "9.1")[0].payload
    base = [upsert(key, payload, db=db) for db in (0, 1) for key in (b"a", b"b", b"c")]
    changes = [
        upsert(b"b", payload),
        tombstone(b"a"),
        upsert(b"n", payload, db=1),
        Record(int(Kind.FLUSHED), 1, NO_EXPIRY, 5, b"", b""),
        upsert(b"after", payload, db=1),
        tombstone(b"b"),
    ]
    made = backup_of(tmp_path, survey(open_remote(server.url)), base, changes=changes)
    with open_generation(*made, scratch) as contents:
        found = [record for batch in contents.batches() for record in batch]
        assert [(record.db, record.key) for record in found if record.kind == Kind.UPSERT] == [(0, b"c"), (1, b"after")]
        assert [record.key for record in found if record.kind == Kind.TOMBSTONE] == [b"a", b"b"]
        assert list(contents.databases()) == [0, 1]
        assert keys_in(contents, databases=[1]) == [(1, b"after")]


def test_a_living_endpoint_is_read_whole(start_server: Callable[..., Any], client: Callable[..., Any]) -> None:
    server = start_server("7.0")
    c, far = raw(client(server)), raw(client(server, 11))
    fill_all_types(c, "7.0")
    far.execute_command("SET", BINARY, 1)
    contents = contents_of(open_remote(server.url), survey(open_remote(server.url)))
    assert keys_in(contents) == [(0, key) for key in keys_of(c)] + [(11, BINARY)]
    assert keys_in(contents, match=b"zset:*", databases=[0]) == sorted((0, k) for k in keys_of(c) if k[:5] == b"zset:")
    assert contents.born(0, [b"string", b"nobody"]) == {b"string"}


@pytest.mark.parametrize("version", ["9.1", "7.0"])
def test_the_engines_own_file_is_read_from_an_engine_that_loaded_it(
    start_server: Callable[..., Any],
    client: Callable[..., Any],
    tmp_path: Path,
    scratch: LocalScratch,
    version: str,
) -> None:
    server, target = (
        start_server(version, "--dbfilename", "own.rdb", "--databases", "40"),
        start_server(version, "--databases", "40"),
    )
    c, far = raw(client(server)), raw(client(server, 30))
    fill_all_types(c, version)
    far.execute_command("SET", "far", 1)
    c.execute_command("FUNCTION", "LOAD", "#!lua name=lib\nredis.register_function('f', function() return 7 end)")
    c.execute_command("SAVE")
    made = rdb_backup(tmp_path, server, {"only": (server.folder / "own.rdb").read_bytes()})
    remote = open_remote(target.url)
    with open_generation(*made, scratch) as contents:
        report = restore(contents, remote, survey(remote))
        assert report.functions == "written"
        assert keys_in(contents, match=b"hash:*") == [(0, key) for key in keys_of(c) if key.startswith(b"hash:")]
    assert same_state(state(c, version), state(raw(client(target)), version)) == []
    assert keys_of(raw(client(target, 30))) == [b"far"]
    verified = verify(*made, against=(remote, survey(remote)), deep=True, scratch=scratch)
    assert verified.proved, verified
    assert not engines_below(tmp_path)


def test_several_files_are_read_one_after_the_other(
    start_server: Callable[..., Any], client: Callable[..., Any], tmp_path: Path, scratch: LocalScratch
) -> None:
    files, expected = {}, []
    for number in range(2):
        server = start_server("9.1", "--dbfilename", "own.rdb")
        server.ask("MSET", f"a:{number}", 1, f"b:{number}", 2)
        server.ask("SAVE")
        files[f"{server.host}:6379"] = (server.folder / "own.rdb").read_bytes()
        expected += [(0, b"a:%d" % number), (0, b"b:%d" % number)]
    with open_generation(*rdb_backup(tmp_path, server, files), scratch) as contents:
        assert keys_in(contents) == sorted(expected)
        assert keys_in(contents, match=b"a:*") == [(0, b"a:0"), (0, b"a:1")]


def test_a_file_that_no_engine_loads_is_named(
    start_server: Callable[..., Any], tmp_path: Path, scratch: LocalScratch
) -> None:
    server = start_server("9.1")
    for data, why in (
        (b"REDIS9999" + b"x" * 100, "no engine on this machine loads it"),
        (b"nonsense", "does not begin"),
    ):
        with (
            open_generation(*rdb_backup(tmp_path, server, {"only": data}), scratch) as contents,
            pytest.raises(ScratchError, match=why),
        ):
            keys_in(contents)


def rdb_backup(folder: Path, server: Any, files: dict[str, bytes]) -> tuple[Repository, str]:
    seen = survey(open_remote(server.url))
    repository = Repository.open_or_create(LocalBlobs(folder / "backups"))
    head = Head(
        source=seen.name,
        engine=seen.target.engine.value,
        engine_version=str(seen.target.version),
        mode=seen.mode,
        lanes=tuple(Lane(lane=lane) for lane in files),
        databases={str(db): size.keys for db, size in seen.databases.items()},
        began_ms=1,
        source_began_ms=1,
        options={"method": "psync", "databases": None, "match": None},
    )
    writer = GenerationWriter.begin(repository, head)
    for lane, data in files.items():
        with SegmentWriter(writer, "rdb", lane) as segment:
            pieces = [data[at : at + 1000] for at in range(0, len(data), 1000)]
            segment.add([Record(int(Kind.PIECE), 0, NO_EXPIRY, 1, b"", piece) for piece in pieces])
            segment.close()
    writer.finish()
    return repository, writer.name


def engines_below(folder: Path) -> list[str]:
    """Command lines of processes that name the folder."""
    lines = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout.splitlines()
    return [line for line in lines if re.search(re.escape(str(folder)), line)]
