"""Following key by key: when the place is full, the queue too small, a run ends and another goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import valkey
from churn_follow import Following
from truth import compare, record

from cachekeep.backup.catalog import Repository, Status
from cachekeep.backup.contents import open_generation
from cachekeep.backup.coverage import stretches
from cachekeep.backup.moments import coverage_of
from cachekeep.backup.reader import GenerationReader
from cachekeep.backup.restore import restore
from cachekeep.backup.survey import survey
from cachekeep.blob.local import LocalBlobs
from cachekeep.domain.blobs import BlobError, BlobFault
from cachekeep.remote.open import open_remote


class FullAtTimes(LocalBlobs):
    """A folder on a disk that is full while `full` is set."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.full = threading.Event()
        self.refused = 0

    def put(self, name: str, data: Any, *, new: bool = False) -> None:
        if self.full.is_set():
            self.refused += 1
            raise BlobError(BlobFault.FULL, f"no space for {name}", "make room")
        super().put(name, data, new=new)


@pytest.fixture
def following(tmp_path: Path) -> Callable[..., Following]:
    """`following(server, folder="r", **options)`: not started; a context that is."""
    return lambda server, folder="r", **options: Following(
        server.url, tmp_path / folder, [server], **{"max_lag_s": 0.2, **options}
    )


def fill(client: Any, keys: int, prefix: str = "key") -> None:
    pipe = client.pipeline(transaction=False)
    for number in range(keys):
        pipe.set(f"{prefix}:{number}", f"value {number}" * 5)
    pipe.execute()


def followed(seen: Any) -> bool:
    """And a moment of it is durable."""
    return seen.phase == "following" and seen.covered_until_ms is not None and seen.durable_until_ms is not None


def equal_at_end(run: Following, server: Any, target: Any) -> None:
    """The newest generation's last moment, restored, is what the server has."""
    name = run.repository.generations()[-1].name
    remote = open_remote(target.url)
    with open_generation(run.repository, name, run.scratch) as contents:
        report = restore(contents, remote, survey(remote))
    assert report.complete
    found = compare(record(server), record(target))
    assert found.compared > 0
    assert not found, str(found)


def gaps_of(run: Following, name: str | None = None) -> list[dict[str, Any]]:
    name = name or run.repository.generations()[-1].name
    reader = GenerationReader.open(run.repository, name, unfinished=True)
    return [line for line in reader.log_lines() if line["event"] == "gap"]


@pytest.mark.parametrize("method", ["tracking", pytest.param("poll", marks=pytest.mark.slow)])
def test_a_full_disk_pauses_the_capture_and_it_goes_on_when_there_is_room(
    start_server: Any, client: Any, tmp_path: Path, following: Any, method: str
) -> None:
    server, target = start_server(), start_server()
    fill(client(server), 2000)
    run = following(server, source=method)
    blobs = FullAtTimes(tmp_path / "full")
    run.repository = Repository.open_or_create(blobs)
    with run:
        run.until(followed, "it is followed")
        blobs.full.set()
        fill(client(server), 3000)
        client(server).delete(*(f"key:{number}" for number in range(100)))
        run.until(lambda seen: seen.phase == "store" and "no space" in (seen.trouble or ""), "it says that it is full")
        client(server).delete("key:200")
        blobs.full.clear()
        before = run.last.covered_until_ms or 0
        run.until(lambda seen: followed(seen) and seen.covered_until_ms > before, "it goes on")
        run.covered(int(run._now_ms()))
        report = run.stop()
    assert blobs.refused
    assert any("paused" in sentence for sentence in run.said)
    equal_at_end(run, server, target)
    if method == "tracking":
        assert report.gaps
        assert any("took nothing" in line["reason"] for line in gaps_of(run))


def test_more_changes_than_the_queue_takes_are_a_gap_that_a_pass_closes(
    start_server: Any, client: Any, following: Any
) -> None:
    server, target = start_server(), start_server()
    fill(client(server), 500)
    with following(server, source="tracking", queue_keys=50) as run:
        run.until(followed, "it is followed")
        fill(client(server), 3000, "other")
        client(server).delete("key:7")
        run.until(lambda seen: seen.gaps >= 1 and followed(seen), "the gap is closed")
        run.covered(int(run._now_ms()))
        run.stop()
    assert any("waited to be read" in line["reason"] for line in gaps_of(run))
    equal_at_end(run, server, target)


def test_a_second_run_goes_on_with_the_generation_and_writes_only_what_differs(
    start_server: Any, client: Any, following: Any
) -> None:
    server, target = start_server(), start_server()
    fill(client(server), 2000)
    with following(server, source="tracking") as run:
        run.until(followed, "it is followed")
        run.stop()
    client(server).delete("key:1", "key:2")
    client(server).set("key:3", "changed meanwhile")
    with following(server, source="tracking") as again:
        again.until(followed, "it is followed again")
        again.stop()
    (generation,) = again.repository.generations()
    assert generation.status is Status.OPEN
    reader = GenerationReader.open(again.repository, generation.name, unfinished=True)
    assert sum(entry.records for entry in reader.chain.entries if entry.kind == "changes") == 3
    first, second = stretches(reader.chain.entries)
    (gap,) = gaps_of(again)
    assert (gap["start_ms"], gap["end_ms"]) == (first.until_ms, second.since_ms)
    assert gap["reason"] == "nobody followed the source"
    equal_at_end(again, server, target)


def test_a_run_that_was_killed_is_gone_on_with(start_server: Any, client: Any, following: Any, tmp_path: Path) -> None:
    """As by kill -9: what was not sealed is not there."""
    server, target = start_server(), start_server()
    fill(client(server), 1000)
    blobs = FullAtTimes(tmp_path / "killed")
    run = following(server, source="tracking", patience_s=1)
    run.repository = Repository.open_or_create(blobs)
    with run:
        run.until(followed, "it is followed")
        fill(client(server), 1500, "more")
        blobs.full.set()
        with pytest.raises(BlobError, match="no space"):
            run.stop()
        run.failure = None
    blobs.full.clear()
    again = following(server, source="tracking")
    again.repository = run.repository
    with again:
        again.until(followed, "it is followed again")
        again.stop()
    equal_at_end(again, server, target)


def test_a_new_generation_takes_over_without_a_hole(start_server: Any, client: Any, following: Any) -> None:
    server, target = start_server(), start_server()
    fill(client(server), 1000)
    with following(server, source="tracking", rollover_s=2.0) as run:
        run.until(lambda seen: seen.generation != run.statuses[0].generation and followed(seen), "a second generation")
        fill(client(server), 300, "later")
        run.until(lambda seen: any("is finished" in said for said in run.said), "the first is finished")
        run.stop()
    first, second, *_ = run.repository.generations()
    assert first.status is Status.COMPLETE
    ended, began = coverage_of(run.repository, first).stretches[-1], coverage_of(run.repository, second).stretches[0]
    assert began.since_ms <= ended.until_ms
    equal_at_end(run, server, target)


def test_a_change_that_was_never_announced_is_found_and_said(start_server: Any, client: Any, following: Any) -> None:
    # 6.2, which counts CONFIG SET and CONFIG GET together: on later ones the setting is noticed.
    server, target = start_server("6.2", "--notify-keyspace-events", "AE"), start_server("6.2")
    fill(client(server), 500)
    with following(server, source="keyspace", reconcile_s=1.0) as run:
        run.until(followed, "it is followed")
        run.covered(int(run._now_ms()))
        unheard = client(server).pipeline(transaction=True)  # so that nobody sees the setting change
        unheard.config_set("notify-keyspace-events", "").set("key:9", "unheard").delete("key:10")
        unheard.config_set("notify-keyspace-events", "AE").execute()
        run.lied_ms = run._now_ms() + 20
        run.until(lambda seen: seen.missed == 2 and followed(seen), "a pass found both")
        run.covered(int(run._now_ms()))
        run.stop()
    covered = coverage_of(run.repository, run.repository.generations()[-1])
    assert any("2 changes were never announced" in gap.reason for gap in covered.gaps)
    # What entries had claimed before is not restorable after all.
    assert all(run.lied_ms not in stretch for stretch in covered.stretches)
    assert any("never announced" in said for said in run.said)
    equal_at_end(run, server, target)


def test_streams_and_functions_change_without_announcements(start_server: Any, client: Any, following: Any) -> None:
    server, target = start_server("7.0"), start_server("7.0")
    asked = client(server)
    for number in range(20):
        asked.xadd("stream", {"n": number}, id=f"{number + 1}-0")
    with following(server, source="tracking") as run:
        run.until(followed, "it is followed")
        asked.xgroup_create("stream", "group", 0)
        asked.xreadgroup("group", "one", {"stream": ">"}, count=10)
        asked.xack("stream", "group", "1-0", "2-0")
        asked.function_load("#!lua name=mine\nredis.register_function('f', function() return 1 end)")
        run.covered(int(run._now_ms()) + 2500)
        run.stop()
    equal_at_end(run, server, target)
    assert target.ask("FUNCTION", "LIST")


def test_a_flush_empties_the_backup_too(start_server: Any, client: Any, following: Any) -> None:
    server, target = start_server(), start_server()
    fill(client(server), 1000)
    fill(client(server, db=3), 200)
    with following(server, source="tracking") as run:
        run.until(followed, "it is followed")
        server.ask("FLUSHDB")
        client(server).set("after", 1)
        run.until(lambda seen: seen.gaps >= 1 and followed(seen), "the flush is known")
        run.covered(int(run._now_ms()))
        run.stop()
    equal_at_end(run, server, target)


def test_a_replica_can_be_read_instead(start_server: Any, client: Any, following: Any, wait_until: Any) -> None:
    server, replica, target = start_server(), start_server("9.1", "--repl-diskless-sync-delay", "0"), start_server()
    server.ask("CONFIG", "SET", "repl-diskless-sync-delay", 0)
    fill(client(server), 300)
    replica.ask("CONFIG", "SET", "replica-announce-ip", replica.host)
    replica.ask("REPLICAOF", server.host, server.port)
    wait_until(lambda: b"master_link_status:up" in replica.ask("INFO", "replication"), "it is linked")
    with following(server, source="tracking", from_replica=True) as run:
        run.until(followed, "it is followed")
        client(server).delete("key:5")
        fill(client(server), 50, "new")
        wait_until(lambda: replica.ask("DBSIZE") == 349, "the replica has it")
        run.covered(int(run._now_ms()))
        run.stop()
    assert b"cmdstat_scan:calls" not in server.ask("INFO", "commandstats")  # looked at, but not read
    equal_at_end(run, server, target)


@pytest.mark.slow
def test_keys_that_go_while_a_pass_has_them_in_hand_are_neither_missed_nor_brought_back(
    start_server: Any, client: Any, following: Any
) -> None:
    server, target = start_server(), start_server()
    fill(client(server), 300)
    with following(server, source="tracking", reconcile_s=0.01) as run:
        run.until(followed, "it is followed")
        begun = run.last.passes
        written = 0
        while run.last.passes < begun + 6:
            # Some tens of ms each: a pass meets a few of them before their announcements are read.
            pipe = client(server).pipeline(transaction=False)
            for number in range(written, written + 20):
                pipe.set(f"short:{number}", "lived").delete(f"short:{number - 60}")
            pipe.execute()
            written += 20
        client(server).delete(*[f"short:{number}" for number in range(written - 60, written)])
        run.covered(int(run._now_ms()))
        report = run.stop()
    assert report.last.missed == 0
    assert not [gap for gap in report.gaps if "announced" in gap.reason]
    equal_at_end(run, server, target)


def test_a_sorted_set_that_sort_unpacked_is_no_missed_change(start_server: Any, client: Any, following: Any) -> None:
    server, target = start_server(), start_server()
    asked = client(server)
    asked.zadd("scores", {f"member:{number}": number / 3 for number in range(9)})
    packed = asked.dump("scores")
    with following(server, source="tracking", reconcile_s=0.01) as run:
        run.until(followed, "it is followed")
        run.covered(int(run._now_ms()))
        asked.execute_command("SORT", "scores", "ALPHA")
        assert asked.dump("scores")[0] != packed[0]
        begun = run.last.passes
        run.until(lambda seen: seen.passes >= begun + 3, "two whole passes")
        report = run.stop()
    assert report.last.missed == 0
    assert not [gap for gap in report.gaps if "announced" in gap.reason]
    equal_at_end(run, server, target)


@pytest.mark.slow
def test_a_lone_change_after_a_quiet_time_can_soon_be_restored(start_cluster: Any, tmp_path: Path) -> None:
    """Not only with the next word of a source at rest, which comes every half minute."""
    nodes = start_cluster("9.1")
    options: dict[str, Any] = {"source": "tracking", "max_lag_s": 0.5, "heartbeat_s": 3600.0}
    with Following(nodes[0].url, tmp_path / "r", nodes, **options) as run:
        run.until(followed, "it is followed")
        for number in range(5):
            # Quiet for longer than the lag: the segment of the change that comes then is closed at once.
            begun = run.last.covered_until_ms
            run.until(lambda seen, begun=begun: seen.covered_until_ms > begun + 1000, "a second passes")
            with valkey.ValkeyCluster.from_url(nodes[0].url) as writer:
                writer.set(f"lone:{number}", "1")
            written_ms = int(run._now_ms())
            run.until(lambda seen, at=written_ms: (seen.durable_until_ms or 0) >= at, "the change can be restored")
