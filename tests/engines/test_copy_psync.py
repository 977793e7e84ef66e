"""Copies by PSYNC: the engine's own file, whole, and the same keys as a scan finds."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from copying import alike, contents, copied, fill_everything, logged

from cachekeep.backup.copy import CopyOptions, Stopped, choose
from cachekeep.backup.reader import GenerationReader
from cachekeep.backup.survey import survey
from cachekeep.codec.dump import rdb_version_of
from cachekeep.domain.remote import RemoteError, RemoteFault
from cachekeep.host.scratch import LocalScratch
from cachekeep.remote.open import open_remote

SOON = ("--repl-diskless-sync-delay", "0")


@pytest.mark.parametrize(
    ("version", "diskless"),
    [
        ("9.1", "yes"),
        ("9.1", "no"),
        ("7.0", "yes"),
        ("6.2", "no"),
        pytest.param("7.0", "no", marks=pytest.mark.slow),
        pytest.param("6.2", "yes", marks=pytest.mark.slow),
        pytest.param("8.1", "yes", marks=pytest.mark.slow),
    ],
)
def test_the_stream_has_the_same_keys_as_a_scan(
    start_server: Any, client: Any, tmp_path: Path, scratch: LocalScratch, version: str, diskless: str
) -> None:
    server = start_server(version, "--repl-diskless-sync", diskless, *SOON)
    fill_everything(client(server), version)
    client(server, 7).set("elsewhere", 7)
    phases: list[str] = []
    report, repository = copied(
        server.url, tmp_path / "r", source="auto", scratch=scratch, progress=lambda seen: phases.append(seen.phase)
    )
    assert (report.method, report.verdict, report.interruptions) == ("psync", "complete", 0)
    assert phases[0] == "waiting for the source's snapshot"
    assert any("INFO counted" in note for note in report.notes)
    scanned, _ = copied(server.url, tmp_path / "r")
    expected = contents(repository, scanned.generation)
    reader = GenerationReader.open(repository, report.generation)
    target = survey(open_remote(server.url)).target
    install = scratch.for_rdb(target.engine, rdb_version_of(target))
    assert install is not None
    with scratch.loaded(reader.stream("rdb", "only"), install, 16) as loaded:
        found = {}
        for db in (0, 7):
            with loaded.connect(db) as connection:
                cursor = b"0"
                while True:
                    cursor, keys = connection.ask("SCAN", cursor, "COUNT", 1000)
                    for key in keys:
                        found[db, key] = connection.ask("DUMP", key)
                    if cursor == b"0":
                        break
    assert set(found) == set(expected)
    assert not [place for place, payload in found.items() if not alike(payload, expected[place][0])]


def test_a_large_stream_comes_in_segments_and_pieces(start_server: Any, client: Any, tmp_path: Path) -> None:
    server = start_server("9.1", *SOON)
    filler = client(server)
    for at in range(20):
        filler.set(f"large:{at}", (b"%d" % at) * 700_000)
    filler.config_set("rdbcompression", "no")
    report, repository = copied(server.url, tmp_path / "repository", source="psync")
    reader = GenerationReader.open(repository, report.generation)
    pieces = list(reader.stream("rdb", "only"))
    assert max(map(len, pieces)) <= 1 << 20
    assert len(pieces) > 10
    whole = b"".join(pieces)
    assert whole.startswith(b"VALKEY")
    assert whole[-9] == 0xFF


def test_a_refused_psync_falls_back_to_a_scan_and_says_why(
    start_server: Any, client: Any, tmp_path: Path, scratch: LocalScratch
) -> None:
    users = "user default on nopass ~* &* +@all\nuser copier on >secret ~* &* +@all -psync -sync\n"
    server = start_server("7.0", users=users)
    client(server).set("key", "value")
    url = server.url.replace("redis://", "redis://copier:secret@")
    report, _ = copied(url, tmp_path / "repository", source="auto", scratch=scratch)
    assert (report.method, report.keys) == ("scan", {0: 1})
    assert "PSYNC" in report.why
    with pytest.raises(RemoteError) as refused:
        copied(url, tmp_path / "repository", source="psync", scratch=scratch)
    assert refused.value.fault is RemoteFault.DENIED


def test_a_psync_that_is_refused_when_tried_leaves_nothing_behind(
    start_server: Any, client: Any, tmp_path: Path, scratch: LocalScratch
) -> None:
    server = start_server("7.0", "--replicaof", "127.0.0.1 1", "--replica-serve-stale-data", "yes")
    report, repository = copied(server.url, tmp_path / "repository", source="auto", scratch=scratch)
    assert report.method == "scan"
    assert "NOMASTERLINK" in report.why
    assert [found.name for found in repository.generations()] == [report.generation]


def test_some_of_the_keys_are_copied_by_scan(start_server: Any, scratch: LocalScratch) -> None:
    seen = survey(open_remote(start_server("9.1").url))
    assert choose(seen, CopyOptions(), scratch)[0] == "psync"
    assert choose(seen, CopyOptions(match=b"a*"), scratch)[0] == "scan"
    assert choose(seen, CopyOptions(databases=frozenset({1})), scratch)[0] == "scan"
    method, why = choose(seen, CopyOptions(), None)
    assert (method, "no engine is installed" in why) == ("scan", True)


def test_a_broken_stream_is_logged_and_begun_anew(start_server: Any, client: Any, tmp_path: Path) -> None:
    server = start_server("7.0", "--repl-diskless-sync", "yes", *SOON, "--rdb-key-save-delay", "300")
    filler = client(server)
    filler.mset({f"key:{at}": at for at in range(3000)})
    killed: list[int] = []

    def progress(seen: Any) -> None:
        if seen.phase == "the source's RDB file" and not killed:
            filler.config_set("rdb-key-save-delay", 0)
            killed.append(filler.client_kill_filter(_type="slave"))

    report, repository = copied(server.url, tmp_path / "repository", source="psync", progress=progress)
    assert killed == [1]
    assert report.interruptions == 1
    assert len(logged(repository, report, "interruption")) == 1
    assert [found.name for found in repository.generations()] == [report.generation]
    assert b"".join(GenerationReader.open(repository, report.generation).stream("rdb", "only"))[-9] == 0xFF


def test_a_stopped_psync_leaves_nothing_behind(start_server: Any, client: Any, tmp_path: Path) -> None:
    server = start_server("7.0", "--repl-diskless-sync", "yes", *SOON, "--rdb-key-save-delay", "300")
    client(server).mset({f"key:{at}": "x" * 1000 for at in range(5000)})
    stop = threading.Event()

    def progress(seen: Any) -> None:
        if seen.phase == "the source's RDB file":
            stop.set()

    with pytest.raises(Stopped, match="nothing of it is kept"):
        copied(server.url, tmp_path / "repository", source="psync", progress=progress, stop=stop)
    _, repository = copied(server.url, tmp_path / "repository")
    assert len(repository.generations()) == 1
