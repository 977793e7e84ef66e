"""What went wrong once: keys that a backup has twice, targets that lose what was written, sources that come and go."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import valkey
from copying import copied

from cachekeep.backup.catalog import Repository
from cachekeep.backup.catalog_objects import Head, Lane
from cachekeep.backup.contents import open_generation
from cachekeep.backup.restore import RestoreOptions, RestoreReport, restore
from cachekeep.backup.survey import survey
from cachekeep.backup.writer import GenerationWriter, SegmentWriter
from cachekeep.blob.memory import MemoryBlobs
from cachekeep.codec.record import NO_EXPIRY, Kind, Record
from cachekeep.host.installs import MachineCatalogue
from cachekeep.host.scratch import LocalScratch
from cachekeep.remote.open import open_remote, open_socket

FAR_MS = 4_000_000_000_000


@pytest.fixture
def put_back(catalogue: MachineCatalogue) -> Callable[..., RestoreReport]:
    def call(repository: Repository, name: str, url: str, progress: Any = lambda now: None) -> RestoreReport:
        target = open_remote(url)
        with open_generation(repository, name, LocalScratch(catalogue, open_socket)) as held:
            return restore(held, target, survey(target), RestoreOptions(batch=100), progress=progress)

    return call


def made(*segments: list[Record]) -> tuple[Repository, str]:
    """A complete backup by SCAN of a Valkey 9.1 with these segments."""
    repository = Repository.create(MemoryBlobs())
    head = Head(
        source="redis://of.tests:6379",
        engine="valkey",
        engine_version="9.1.2",
        mode="standalone",
        lanes=(Lane(lane="only"),),
        databases={},
        began_ms=1,
        source_began_ms=1,
    )
    writer = GenerationWriter.begin(repository, head)
    for records in segments:
        with SegmentWriter(writer, "base", "only", 0) as segment:
            segment.add(records)
            segment.close("0")
    writer.finish()
    return repository, writer.name


def record(server: Any, key: bytes, value: str, expires_ms: int = NO_EXPIRY) -> Record:
    server.ask("SET", "sample", value)
    payload = server.ask("DUMP", "sample")
    server.ask("DEL", "sample")
    return Record(int(Kind.UPSERT), 0, expires_ms, 1, key, payload)


@pytest.mark.parametrize("there_already", [False, True])
@pytest.mark.parametrize("between", [0, 1000])
def test_of_a_key_that_the_backup_has_twice_the_later_record_holds(
    start_server: Callable[..., Any], put_back: Callable[..., RestoreReport], there_already: bool, between: int
) -> None:
    server = start_server()
    fill = [record(server, b"fill:%d" % number, "x") for number in range(between and 20)]
    fill = [one for _, one in zip(range(between), itertools.cycle(fill), strict=False)] if fill else []
    gone, changed = b"expired since", b"another expiry since"
    repository, name = made(
        [record(server, gone, "v1"), record(server, changed, "v1"), *fill],
        [record(server, gone, "v2", 1), record(server, changed, "v2", FAR_MS)],
    )
    if there_already:
        server.ask("SET", "something else", 1)
        server.ask("SET", changed, "v2")
    report = put_back(repository, name, server.url)
    assert report.complete
    assert server.ask("EXISTS", gone) == 0
    assert server.ask("GET", changed) == b"v2"
    assert server.ask("PEXPIRETIME", changed) == FAR_MS


def test_an_older_record_that_an_interrupted_restore_wrote_is_told_of_and_not_removed(
    start_server: Callable[..., Any], put_back: Callable[..., RestoreReport]
) -> None:
    server = start_server()
    repository, name = made([record(server, b"key", "v1")], [record(server, b"key", "v2", 1)])
    server.ask("SET", "key", "v1")  # as a run that was killed leaves it, or as somebody wrote it
    report = put_back(repository, name, server.url)
    assert server.ask("GET", "key") == b"v1"
    assert not report.complete
    assert report.lost is not None
    assert "brought them back" in report.lost


def test_a_target_that_restarts_empty_in_the_middle_is_told_of(
    start_server: Callable[..., Any],
    put_back: Callable[..., RestoreReport],
    wait_until: Callable[..., Any],
    tmp_path: Path,
) -> None:
    source, target = start_server(), start_server("9.1", "--enable-debug-command", "yes")
    source.ask("EVAL", "for i = 1, 3000 do redis.call('SET', 'key:' .. i, i) end", 0)
    report, repository = copied(source.url, tmp_path / "place")
    begun = threading.Event()

    def restart_once(now: Any) -> None:
        if now.phase == "restore" and now.keys and not begun.is_set():
            begun.set()
            with pytest.raises(valkey.ConnectionError):  # instead of an answer
                target.ask("DEBUG", "RESTART")
            wait_until(lambda: target.ask("PING"), "the target is back")

    again = put_back(repository, report.generation, target.url, restart_once)
    assert begun.is_set()
    assert not again.complete
    assert again.lost is not None
    assert "restarted" in again.lost
    assert put_back(repository, report.generation, target.url).complete
    assert target.ask("DBSIZE") == 3000


def test_a_target_that_evicts_is_told_of(
    start_server: Callable[..., Any], put_back: Callable[..., RestoreReport], tmp_path: Path
) -> None:
    source = start_server()
    target = start_server("9.1", "--maxmemory", "6mb", "--maxmemory-policy", "allkeys-lru")
    source.ask("EVAL", "for i = 1, 3000 do redis.call('SET', 'key:' .. i, string.rep(i, 1000)) end", 0)
    report, repository = copied(source.url, tmp_path / "place")
    restored = put_back(repository, report.generation, target.url)
    assert not restored.complete
    assert restored.lost is not None
    assert "evicted" in restored.lost


def test_a_copy_whose_connections_are_killed_again_and_again_can_be_restored(
    start_server: Callable[..., Any], put_back: Callable[..., RestoreReport], tmp_path: Path
) -> None:
    source, target = start_server(), start_server()
    source.ask("EVAL", "for i = 1, 3000 do redis.call('SET', 'key:' .. i, i) end", 0)
    killed = itertools.count()

    def kill(now: Any) -> None:
        if now.keys and next(killed) < 5:
            source.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    report, repository = copied(source.url, tmp_path / "place", progress=kill, count=50, max_keys_per_s=4000)
    assert report.interruptions > 0
    assert put_back(repository, report.generation, target.url).complete
    assert target.ask("DBSIZE") == 3000


def test_a_copy_over_a_restart_of_its_source_can_be_restored(
    start_server: Callable[..., Any],
    put_back: Callable[..., RestoreReport],
    wait_until: Callable[..., Any],
    tmp_path: Path,
) -> None:
    source, target = start_server("9.1", "--enable-debug-command", "yes"), start_server()
    source.ask("EVAL", "for i = 1, 3000 do redis.call('SET', 'key:' .. i, i) end", 0)
    begun = threading.Event()

    def restart_once(now: Any) -> None:
        if now.keys and not begun.is_set():
            begun.set()
            with pytest.raises(valkey.ConnectionError):
                source.ask("DEBUG", "RESTART")
            wait_until(lambda: source.ask("SET", "after the restart", 1), "the source is back")

    report, repository = copied(source.url, tmp_path / "place", progress=restart_once, count=50, max_keys_per_s=4000)
    assert report.interruptions > 0
    assert put_back(repository, report.generation, target.url).complete
    assert target.ask("KEYS", "*") == [b"after the restart"]
