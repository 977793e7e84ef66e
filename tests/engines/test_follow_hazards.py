"""What an attack on following key by key found: each of these lost or kept keys that it should not have."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from churn_follow import Following
from test_follow_keys import FullAtTimes, equal_at_end, fill, followed, gaps_of

from cachekeep import backups
from cachekeep.backup.catalog import Repository
from cachekeep.backup.reader import GenerationReader
from cachekeep.backup.survey import survey
from cachekeep.blob.memory import MemoryBlobs
from cachekeep.codec.record import NO_EXPIRY, Kind, Record
from cachekeep.follow.chapter import Chapter
from cachekeep.follow.monitor import Monitor
from cachekeep.follow.sweep import Sweep
from cachekeep.follow.types import Choice
from cachekeep.follow.volume import Volume
from cachekeep.remote.open import open_remote

SLOWLY = 3000  # keys a second, so that something can happen while all keys are read


def follow(server: Any, folder: Path, **options: Any) -> Following:
    return Following(server.url, folder, [server], **{"source": "tracking", "max_lag_s": 0.2, **options})


def test_a_copy_of_which_a_segment_failed_is_read_again(start_server: Any, client: Any, tmp_path: Path) -> None:
    server, target = start_server(), start_server()
    fill(client(server), 6000)
    run, blobs = follow(server, tmp_path / "r", max_keys_per_s=SLOWLY), FullAtTimes(tmp_path / "full")
    run.repository = Repository.open_or_create(blobs)
    with run:
        run.until(lambda seen: seen.keys > 1500, "some keys were read")
        blobs.full.set()
        run.until(lambda seen: seen.phase == "store", "the store takes nothing")
        blobs.full.clear()
        run.until(followed, "it is followed")
        run.stop()
    equal_at_end(run, server, target)


def test_a_flush_while_the_store_takes_nothing_empties_the_backup(
    start_server: Any, client: Any, tmp_path: Path
) -> None:
    server, target = start_server(), start_server()
    fill(client(server), 1000)
    run, blobs = follow(server, tmp_path / "r"), FullAtTimes(tmp_path / "full")
    run.repository = Repository.open_or_create(blobs)
    with run:
        run.until(followed, "it is followed")
        blobs.full.set()
        server.ask("FLUSHALL")
        client(server).set("after", 1)
        run.until(lambda seen: seen.phase == "store", "the store takes nothing")
        blobs.full.clear()
        run.until(followed, "it goes on")
        run.covered(int(run._now_ms()))
        run.stop()
    equal_at_end(run, server, target)


def test_a_source_that_is_lost_while_the_store_takes_nothing_is_followed_on(
    start_server: Any, client: Any, tmp_path: Path
) -> None:
    server, target = start_server(), start_server()
    fill(client(server), 500)
    run, blobs = follow(server, tmp_path / "r"), FullAtTimes(tmp_path / "full")
    run.repository = Repository.open_or_create(blobs)
    with run:
        run.until(followed, "it is followed")
        blobs.full.set()
        fill(client(server), 50, "new")
        run.until(lambda seen: blobs.refused > 0, "the store refused something")
        server.ask("CLIENT", "KILL", "TYPE", "pubsub")
        client(server).delete("key:1")
        run.until(lambda seen: seen.phase == "store", "the store is waited for")
        blobs.full.clear()
        run.until(followed, "it goes on")
        run.covered(int(run._now_ms()))
        run.stop()
    equal_at_end(run, server, target)


def test_keys_that_were_copied_after_a_flush_are_known_to_the_next_run(
    start_server: Any, client: Any, tmp_path: Path
) -> None:
    server, target = start_server(), start_server()
    fill(client(server), 6000)
    with follow(server, tmp_path / "r", max_keys_per_s=SLOWLY) as run:
        run.until(lambda seen: seen.keys > 1500, "some keys were read")
        server.ask("FLUSHALL")
        fill(client(server), 300, "after")
        run.until(followed, "it is followed")
        run.stop()
    client(server).delete(*(f"after:{number}" for number in range(150)))
    with follow(server, tmp_path / "r") as again:
        again.until(followed, "it is followed again")
        again.stop()
    equal_at_end(again, server, target)


@pytest.mark.parametrize(
    ("method", "channel"),
    [("tracking", "__redis__:invalidate"), ("keyspace", "__keyevent@zz__:del"), ("keyspace", "__keyevent@99__:del")],
)
def test_what_others_publish_on_its_channels_is_passed_over(
    start_server: Any, client: Any, tmp_path: Path, method: str, channel: str
) -> None:
    server, target = start_server("9.1", "--notify-keyspace-events", "AE"), start_server()
    fill(client(server), 100)
    with follow(server, tmp_path / "r", source=method) as run:
        run.until(followed, "it is followed")
        server.ask("PUBLISH", channel, "hello")
        client(server).delete("key:1")
        run.covered(int(run._now_ms()))
        report = run.stop()
    assert not report.gaps
    equal_at_end(run, server, target)


@pytest.mark.parametrize("method", ["tracking", "keyspace"])
def test_a_source_that_becomes_a_replica_of_another_is_read_again(
    start_server: Any, client: Any, tmp_path: Path, method: str
) -> None:
    undelayed = ("--notify-keyspace-events", "AE", "--repl-diskless-sync-delay", "0")
    server, other, target = start_server("7.0", *undelayed), start_server("7.0", *undelayed), start_server("7.0")
    fill(client(server), 200)
    fill(client(other), 300, "other")
    with follow(server, tmp_path / "r", source=method) as run:
        run.until(followed, "it is followed")
        server.ask("REPLICAOF", other.host, other.port)
        run.until(lambda seen: bool(run.said) and server.ask("DBSIZE") == 300, "it has the other's keys")
        run.until(lambda seen: seen.gaps >= 1 and followed(seen), "the gap is closed")
        run.covered(int(run._now_ms()))
        run.stop()
    assert gaps_of(run)
    equal_at_end(run, server, target)


@pytest.mark.slow
def test_a_server_that_cuts_idle_connections_makes_no_gap(start_server: Any, client: Any, tmp_path: Path) -> None:
    """What reads keys has nothing to do while nothing changes; what hears of changes is never idle."""
    server, target = start_server("9.1", "--timeout", "1"), start_server()
    fill(client(server), 100)
    with follow(server, tmp_path / "r") as run:
        run.until(followed, "it is followed")
        client(server).set("key:1", "read once")
        run.covered(int(run._now_ms()))
        run.covered(int(run._now_ms()) + 4000)
        client(server).set("key:2", "read by another connection")
        run.covered(int(run._now_ms()))
        report = run.stop()
    assert not report.gaps
    equal_at_end(run, server, target)


def test_a_key_that_went_is_not_brought_back_by_what_a_pass_has_in_hand(start_server: Any, client: Any) -> None:
    remote = open_remote(start_server().url)
    seen = survey(remote)
    repository = Repository.open_or_create(MemoryBlobs())
    chapter = Chapter.begin(repository, seen, seen.nodes, Choice("tracking", "a test"))
    volume = Volume(chapter, Monitor("tracking"), 5.0, 30.0, cluster=False, exact=True)

    def record(kind: Kind, moment_ms: int, payload: bytes = b"") -> Record:
        return Record(int(kind), 0, NO_EXPIRY, moment_ms, b"key", payload)

    try:
        volume.base_done = True
        volume.changed([record(Kind.UPSERT, 1, b"\0\1v" + bytes(10))], "only")
        pass_ = volume.new_pass()
        volume.changed([record(Kind.TOMBSTONE, 2)], "only")
        for moment in (3, 4, 5):
            volume.cover(1, moment)
            volume.roll()
        volume.settle()
        volume.found(0, [record(Kind.UPSERT, 1, b"\0\1v" + bytes(10))], "only", pass_)
        volume.end_pass(whole=True)
        volume.roll()
        volume.settle()
    finally:
        volume.close()
    records = list(GenerationReader.open(repository, chapter.name, unfinished=True).records(("changes",)))
    assert [one.kind for one in records] == [int(Kind.UPSERT), int(Kind.TOMBSTONE)]


@pytest.mark.parametrize("known", [False, True])
def test_a_key_that_went_while_a_proof_has_it_in_hand_was_not_missed(
    start_server: Any, client: Any, *, known: bool
) -> None:
    server = start_server()
    remote = open_remote(server.url)
    seen = survey(remote)
    chapter = Chapter.begin(Repository.open_or_create(MemoryBlobs()), seen, seen.nodes, Choice("tracking", "a test"))
    volume = Volume(chapter, Monitor("tracking"), 5.0, 30.0, cluster=False, exact=True)
    sweep = Sweep(volume, "proof", None, 100)

    def record(kind: Kind, moment_ms: int, payload: bytes = b"") -> Record:
        return Record(int(kind), 0, NO_EXPIRY, moment_ms, b"key", payload)

    try:
        volume.base_done = True
        if known:
            volume.changed([record(Kind.UPSERT, 1, b"\0\1v" + bytes(10))], "only")
        client(server).set("key", "in hand")  # its announcement waits
        sweep.begin(seen, "only", None, remote.connect, lambda: {0}, print, lambda batch, db: None)
        while not sweep.step(1.0):
            pass
        assert sweep.take_suspects(10) == [(0, b"key")]
        in_hand = record(Kind.UPSERT, 2, client(server).dump("key"))
        client(server).delete("key")
        volume.changed([record(Kind.TOMBSTONE, 3)], "only")  # what both announcements come to
        for moment in (4, 5, 6):
            volume.cover(1, moment)
            volume.roll()
        volume.settle()
        assert sweep.explains(in_hand)
        sweep.missed([in_hand], "only")  # nor is it written where somebody else was quicker
        assert volume.index.count(0) == 0
        sweep.over()
        assert not volume.passing
    finally:
        volume.close()


def test_a_source_is_followed_into_a_place_once(start_server: Any, tmp_path: Path) -> None:
    server = start_server()
    with backups.alone(backups.Place(str(tmp_path / "r")), server.url):
        said = subprocess.run(
            [sys.executable, "-m", "cachekeep", "backup", "run", server.url, str(tmp_path / "r"), "--follow"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert said.returncode == 1
    assert f"another command follows {server.url}" in said.stderr
