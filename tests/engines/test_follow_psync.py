"""Following by PSYNC: nothing is missing, nothing is claimed that is not known, and every moment can be restored."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from churn_door import Door
from copying import FAR_MS, fill_everything
from psync_following import SOON, Following, covered, gaps, repository_in, truth_at
from truth import as_replica, compare, record

from cachekeep.backup.catalog import Repository, Status
from cachekeep.blob.local import LocalBlobs
from cachekeep.codec.slots import tag_of
from cachekeep.domain.blobs import BlobError, BlobFault
from cachekeep.domain.remote import Refusal, RemoteError
from cachekeep.host.scratch import LocalScratch

EACH = pytest.mark.parametrize(
    "version",
    ["9.1", "7.0", pytest.param("8.1", marks=pytest.mark.slow), pytest.param("6.2", marks=pytest.mark.slow)],
)
LIBRARY = "#!lua name=lib\nredis.register_function('f', function(keys, args) return 1 end)"


def changes_of_every_kind(client: Callable[..., Any], server: Any) -> None:
    """After fill_everything: what keys, databases and functions may undergo."""
    one, two = client(server), client(server, 2)
    with one.pipeline(transaction=True) as pipe:
        pipe.set("transaction:a", 1)
        pipe.incrby("transaction:a", 41)
        pipe.execute()
    one.eval("for i = 1, 50 do redis.call('set', 'script:' .. i, i, 'px', 3600000 + i) end", 0)
    one.set("late", "x", pxat=FAR_MS)
    one.pexpire("late", 7_200_001)
    one.setex("setex", 5000, "x")
    one.set("gone", 1, px=1)
    one.rename("string:int", "string:renamed")
    one.move("string:raw", 5)
    one.delete("list:3")
    one.xreadgroup("group", "other", {"stream": ">"}, count=10)
    one.xack("stream", "group", "1-1", "2-1")
    one.xclaim("stream", "group", "other", 0, ["5-1", "6-1"])
    one.xgroup_create("stream", "second", "40-1")
    two.set("in two", 2)
    client(server, 20).set("in twenty", 20)
    one.swapdb(2, 3)
    two.set("flushed", 1)
    two.flushdb()
    if server.version != "6.2":
        one.function_load(LIBRARY)


@EACH
def test_two_moments_equal_what_was_recorded_then(
    start_server: Any, client: Any, tmp_path: Path, scratch: LocalScratch, version: str
) -> None:
    server = start_server(version, *SOON, "--databases", "32")
    fill_everything(client(server), version)
    repository = repository_in(tmp_path / "r")
    with Following(server.url, repository) as following:
        first = following.settled(), record(server)
        changes_of_every_kind(client, server)
        second = following.settled(), record(server)
        client(server).flushall()
        third = following.settled(), record(server)
        name = following.monitor.status().generation
    assert repository.generation(name).status is Status.OPEN
    assert len(covered(repository, name)) == 1
    assert gaps(repository, name) == []
    for moment, expected in (first, second, third):
        found = compare(expected, truth_at(repository, name, scratch, version, moment), as_replica(version))
        assert not found, str(found)


def test_a_dropped_connection_leaves_no_gap(
    start_server: Any, client: Any, tmp_path: Path, scratch: LocalScratch
) -> None:
    server = start_server("7.0", *SOON)
    writer = client(server)
    repository = repository_in(tmp_path / "r")
    with Following(server.url, repository) as following:
        following.settled()
        for drop in range(3):
            for at in range(200):
                writer.rpush("list", f"{drop} {at}")
            assert writer.client_kill_filter(_type="slave") == 1
            for at in range(200):
                writer.rpush("list", f"{drop} {at} after")
            following.settled()
        moment, expected = following.settled(), record(server)
        name = following.monitor.status().generation
    assert [one.name for one in repository.generations()] == [name]
    assert (len(covered(repository, name)), gaps(repository, name)) == (1, [])
    assert not compare(expected, truth_at(repository, name, scratch, "7.0", moment), as_replica("7.0"))


@pytest.mark.parametrize("why", ["restarted", "small backlog"])
def test_a_stream_that_does_not_go_on_begins_another_generation(
    start_server: Any,
    client: Any,
    tmp_path: Path,
    scratch: LocalScratch,
    fresh_address: Any,
    why: str,
) -> None:
    before = start_server("9.1", *SOON, "--repl-backlog-size", "16kb")
    client(before).mset({f"key:{at}": at for at in range(100)})
    repository = repository_in(tmp_path / "r")
    with Door(fresh_address().host, before) as door, Following(door.url, repository) as following:
        first = following.settled(), record(before)
        old = following.monitor.status().generation
        door.lead_to(None)
        door.cut()
        after = before
        if why == "restarted":
            after = start_server("9.1", *SOON)
        for at in range(100):
            client(after).set(f"away:{at}", "x" * 1000)
        door.lead_to(after)
        following.wait(lambda seen: seen.generation != old and seen.gaps, "another generation is covered")
        second = following.settled(), record(after)
        new = following.monitor.status().generation
    assert [one.name for one in repository.generations()] == [old, new]
    assert repository.generation(old).status is Status.COMPLETE
    (gap,) = gaps(repository, old)
    assert gap["start_ms"] == covered(repository, old)[-1].until_ms
    assert gap["end_ms"] == covered(repository, new)[0].since_ms
    for name, (moment, expected) in ((old, first), (new, second)):
        assert not compare(expected, truth_at(repository, name, scratch, "9.1", moment), as_replica("9.1"))


def test_a_promoted_replica_is_followed_on(
    start_server: Any, client: Any, tmp_path: Path, scratch: LocalScratch, wait_until: Any
) -> None:
    primary, replica = start_server("9.1", *SOON), start_server("9.1", *SOON)
    client(primary).set("before", 1)
    replica.ask("REPLICAOF", primary.host, primary.port)
    wait_until(lambda: b"master_link_status:up" in replica.ask("INFO", "replication"), "linked")
    repository = repository_in(tmp_path / "r")
    with Following(replica.url, repository) as following:
        client(primary).set("while a replica", 1)
        assert primary.ask("WAIT", 1, 20_000) == 1
        following.settled()
        replica.ask("REPLICAOF", "NO", "ONE")
        client(replica).set("as a primary", 1)
        moment, expected = following.settled(), record(replica)
        name = following.monitor.status().generation
    assert len(expected.keys) == 3
    assert [one.name for one in repository.generations()] == [name]
    assert (len(covered(repository, name)), gaps(repository, name)) == (1, [])
    assert not compare(expected, truth_at(repository, name, scratch, "9.1", moment), as_replica("9.1"))


def test_a_second_run_goes_on_where_the_first_one_ended(
    start_server: Any, client: Any, tmp_path: Path, scratch: LocalScratch
) -> None:
    server = start_server("7.0", *SOON)
    repository = repository_in(tmp_path / "r")
    with Following(server.url, repository) as following:
        client(server).set("first", 1)
        first = following.settled(), record(server)
    client(server).set("between", 1)
    with Following(server.url, repository) as following:
        client(server).set("second", 1)
        second = following.settled(), record(server)
    (found,) = repository.generations()
    assert found.status is Status.OPEN
    assert gaps(repository, found.name) == []
    for moment, expected in (first, second):
        assert not compare(expected, truth_at(repository, found.name, scratch, "7.0", moment), as_replica("7.0"))


def test_a_rollover_leaves_no_moment_out(start_server: Any, client: Any, tmp_path: Path, scratch: LocalScratch) -> None:
    server = start_server("9.1", *SOON)
    repository = repository_in(tmp_path / "r")
    with Following(server.url, repository, rollover_s=0.5) as following:
        for number in range(3):
            client(server).set(f"round:{number}", 1)
            following.wait(lambda seen, n=number: len(following.monitor.generations) > n + 1, "another generation")
        moment, expected = following.settled(), record(server)
    found = repository.generations()
    assert len(found) >= 4
    assert [one.status for one in found[:-2]] == [Status.COMPLETE] * (len(found) - 2)
    for old, new in pairwise(found):
        if stretches_of_new := covered(repository, new.name):
            assert covered(repository, old.name)[-1].until_ms >= stretches_of_new[0].since_ms
        assert gaps(repository, old.name) == []
    (last,) = [one.name for one in found if any(moment in each for each in covered(repository, one.name))][-1:]
    assert not compare(expected, truth_at(repository, last, scratch, "9.1", moment), as_replica("9.1"))


def test_a_refused_psync_leaves_nothing_behind(start_server: Any, tmp_path: Path) -> None:
    users = "user default on nopass ~* &* +@all\nuser copier on >secret ~* &* +@all -psync -sync\n"
    server = start_server("7.0", users=users)
    repository = repository_in(tmp_path / "r")
    refused = pytest.raises(Refusal, match="NOPERM")
    with refused, Following(server.url.replace("redis://", "redis://copier:secret@"), repository) as following:
        following.wait(lambda seen: False, "refused")
    assert repository.generations() == []


def test_a_source_that_stays_away_ends_the_capture_with_all_sealed(
    start_server: Any, client: Any, tmp_path: Path, scratch: LocalScratch
) -> None:
    server = start_server("9.1", *SOON)
    repository = repository_in(tmp_path / "r")
    gone = pytest.raises(RemoteError, match=r"was not back within 0\.5 s")
    with gone, Following(server.url, repository, patience_s=0.5, max_lag_s=3600) as following:
        following.wait(lambda seen: seen.phase == "following", "it is followed")
        client(server).set("key", 1)
        asked = following.now_ms()
        following.wait(lambda seen: (seen.covered_until_ms or 0) > asked, "it is here")
        expected = record(server)
        server.stop()
        following.wait(lambda seen: False, "the end")
    (found,) = repository.generations()
    assert found.status is Status.OPEN
    (stretch,) = covered(repository, found.name)
    actual = truth_at(repository, found.name, scratch, "9.1", stretch.until_ms)
    assert not compare(expected, actual, as_replica("9.1"))


class Filling(LocalBlobs):
    """A folder on a disk that is full at times."""

    full = False

    def put(self, name: str, data: Any, *, new: bool = False) -> None:
        if self.full:
            raise BlobError(BlobFault.FULL, f"no space for {name}", "make room")
        super().put(name, data, new=new)


def test_a_full_disk_is_waited_for_and_nothing_is_missing(
    start_server: Any, client: Any, tmp_path: Path, scratch: LocalScratch
) -> None:
    server = start_server("9.1", *SOON)
    blobs = Filling(tmp_path / "r")
    repository = Repository.open_or_create(blobs)
    with Following(server.url, repository) as following:
        client(server).set("before", 1)
        following.settled()
        blobs.full = True
        client(server).set("meanwhile", 1)
        seen = following.wait(lambda seen: seen.phase == "store" and seen, "the full disk is told")
        assert "no space" in seen.trouble
        client(server).set("later", 1)
        blobs.full = False
        moment, expected = following.settled(), record(server)
        assert following.monitor.status().phase == "following"
    (found,) = repository.generations()
    assert (len(covered(repository, found.name)), gaps(repository, found.name)) == (1, [])
    assert len(expected.keys) == 3
    assert not compare(expected, truth_at(repository, found.name, scratch, "9.1", moment), as_replica("9.1"))


@pytest.mark.parametrize("version", ["9.1", pytest.param("7.0", marks=pytest.mark.slow)])
def test_a_source_that_is_told_to_end_does_not_wait_for_us(
    start_server: Any, client: Any, tmp_path: Path, version: str, wait_until: Any
) -> None:
    server = start_server(version, *SOON, "--shutdown-timeout", "3600")
    repository = repository_in(tmp_path / "r")
    with Following(server.url, repository, patience_s=3600) as following:
        client(server).set("key", 1)
        following.settled()
        os.kill(server.pid, signal.SIGTERM)
        wait_until(lambda: "bye bye" in server.log(), "it has ended")
        following.wait(lambda seen: seen.phase == "away", "its end is told")
    assert "Lagging replica" not in server.log()
    (found,) = repository.generations()
    assert found.status is Status.OPEN


CHILD = """
import sys
from psync_following import Following, repository_in
with Following(sys.argv[1], repository_in(sys.argv[2])) as following:
    for line in sys.stdin:
        print(following.settled(), flush=True)
"""


@contextmanager
def in_a_process(url: str, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A capture that can be killed and stopped; it says a settled moment for every line."""
    here = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, url, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
        env={**os.environ, "PYTHONPATH": here},
    )
    try:
        yield child
    finally:
        with suppress(ProcessLookupError):
            os.kill(child.pid, signal.SIGCONT)
        child.kill()
        child.wait()
        for pipe in (child.stdin, child.stdout):
            if pipe:
                pipe.close()


def settled(child: subprocess.Popen[str]) -> int:
    assert child.stdin
    assert child.stdout
    child.stdin.write("\n")
    child.stdin.flush()
    return int(child.stdout.readline())


def test_a_killed_capture_is_gone_on_with(
    start_server: Any, client: Any, tmp_path: Path, scratch: LocalScratch
) -> None:
    server = start_server("9.1", *SOON)
    client(server).set("before", 1)
    with in_a_process(server.url, tmp_path / "r") as child:
        first = settled(child), record(server)
        client(server).set("not durable yet, perhaps", 1)
        child.kill()
        child.wait()
    client(server).set("between", 1)
    repository = repository_in(tmp_path / "r")
    with Following(server.url, repository) as following:
        second = following.settled(), record(server)
    (found,) = repository.generations()
    for moment, expected in (first, second):
        assert not compare(expected, truth_at(repository, found.name, scratch, "9.1", moment), as_replica("9.1"))


def test_a_consumer_that_stands_still_costs_the_source_no_more_than_its_buffer(
    start_server: Any, client: Any, tmp_path: Path, scratch: LocalScratch, wait_until: Any
) -> None:
    small = ("--client-output-buffer-limit", "replica 1mb 1mb 0", "--repl-backlog-size", "16kb")
    server = start_server("9.1", *SOON, *small)
    writer = client(server)
    with in_a_process(server.url, tmp_path / "r") as child:
        first = settled(child), record(server)
        os.kill(child.pid, signal.SIGSTOP)

        def cut_off() -> bool:
            with writer.pipeline(transaction=False) as pipe:
                for at in range(200):
                    pipe.set(f"key:{at}", "x" * 10_000)
                pipe.execute()
            return b"connected_slaves:0" in server.ask("INFO", "replication")

        wait_until(cut_off, "the source cut it off")
        os.kill(child.pid, signal.SIGCONT)
        repository = repository_in(tmp_path / "r")
        wait_until(lambda: len(repository.generations()) == 2, "another generation", 60)
        second = settled(child), record(server)
    old, new = (one.name for one in repository.generations())
    assert gaps(repository, old)
    for name, (moment, expected) in ((old, first), (new, second)):
        assert not compare(expected, truth_at(repository, name, scratch, "9.1", moment), as_replica("9.1"))


def test_in_a_cluster_a_slot_that_moves_begins_another_generation(
    start_cluster: Any, client: Any, tmp_path: Path, scratch: LocalScratch
) -> None:
    nodes = start_cluster("9.1", primaries=3)
    names = {node.host: node.ask("CLUSTER", "MYID") for node in nodes}
    repository = repository_in(tmp_path / "r")
    with Following(nodes[0].url, repository) as following:
        for number, node in enumerate(nodes):
            slot = number * 16384 // 3 + 5
            node.ask("SET", b"{%s}" % tag_of(slot) + b"key", number)
        following.settled()
        first = following.monitor.status().generation
        for node in nodes:
            node.ask("CLUSTER", "SETSLOT", 7, "NODE", names[nodes[1].host])
        following.wait(lambda seen: seen.generation != first and seen.gaps, "another generation is covered")
        moment, expected = following.settled(), record(nodes)
        second = following.monitor.status().generation
    (gap,) = gaps(repository, first)
    assert "slots" in gap["reason"]
    assert gap["end_ms"] == covered(repository, second)[0].since_ms
    assert len(covered(repository, first)) == len(covered(repository, second)) == 1
    head = repository.generation(second).head
    assert head
    assert (7, 7) in next(lane.slots for lane in head.lanes if lane.lane.startswith(nodes[1].host))
    lanes = [truth_at(repository, second, scratch, "9.1", moment, f"{node.host}:6379") for node in nodes]
    keys = {place: held for lane in lanes for place, held in lane.keys.items()}
    assert len(keys) == sum(len(lane.keys) for lane in lanes) == 3
    assert not compare(expected, replace(lanes[0], keys=keys), as_replica("9.1"))
