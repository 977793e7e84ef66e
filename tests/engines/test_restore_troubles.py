"""Restores where something goes wrong on the way, or the backup is damaged: told, and gone on with. Real servers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from backup_samples import FUTURE_MS, NOISE, keys_of, raw, records_of, same_state, state
from restoring import Backups

from cachekeep.backup.catalog import CatalogError, Repository
from cachekeep.backup.progress import Progress
from cachekeep.backup.restore import RestoreOptions, restore
from cachekeep.backup.survey import survey
from cachekeep.backup.walk import Halted
from cachekeep.domain.remote import RemoteError, RemoteFault
from cachekeep.host.scratch import LocalScratch
from cachekeep.remote.open import open_remote

VERSION = "9.1"


@pytest.fixture
def backups(tmp_path: Path, scratch: LocalScratch) -> Backups:
    return Backups(tmp_path / "backups", scratch)


def test_a_replica_is_refused_before_anything_is_written(
    backups: Backups,
    pair: Any,
    start_server: Callable[..., Any],
    client: Callable[..., Any],
    wait_until: Callable[..., Any],
) -> None:
    source, c, target, t = pair
    c.execute_command("SET", "k", "v")
    t.execute_command("CONFIG", "SET", "repl-diskless-sync-delay", "0")
    replica = start_server(VERSION, "--replicaof", target.host, str(target.port))
    r = raw(client(replica))
    wait_until(lambda: b"master_link_status:up" in r.execute_command("INFO", "replication"), "the replica is linked")
    with pytest.raises(RemoteError, match="is a replica and takes no writes; name its primary"):
        backups.restore(backups.of(source, records_of(c, VERSION)), replica)


def test_a_target_that_runs_out_of_memory_is_told_once_and_the_next_run_goes_on(backups: Backups, pair: Any) -> None:
    source, c, target, t = pair
    for number in range(4000):
        c.execute_command("SET", b"k:%d" % number, NOISE[number % 1000 :][:2000])
    made = backups.of(source, records_of(c, VERSION))
    used = int(t.execute_command("INFO", "memory").split(b"used_memory:")[1].split()[0])
    t.execute_command("CONFIG", "SET", "maxmemory", used + 5_000_000)

    with pytest.raises(RemoteError, match=r"in database 0 on: OOM.*keys were written; give it more memory") as failed:
        backups.restore(made, target)

    there = keys_of(t)
    assert 0 < len(there) < 4000
    assert f"{len(there):,} keys were written" in str(failed.value)
    assert failed.value.fault is RemoteFault.DENIED
    t.execute_command("CONFIG", "SET", "maxmemory", 0)
    counts = backups.restore(made, target).databases[0]
    assert (counts.kept, counts.written) == (len(there), 4000 - len(there))


def test_a_target_that_becomes_a_replica_ends_the_restore_with_one_sentence(backups: Backups, pair: Any) -> None:
    source, c, target, t = pair
    for number in range(3000):
        c.execute_command("SET", b"k:%d" % number, number)
    made = backups.of(source, records_of(c, VERSION), frame_bytes=4096)
    remote = open_remote(target.url)

    def demote(progress: Progress) -> None:
        if progress.keys > 1000 and t.execute_command("ROLE")[0] == b"master":
            t.execute_command("REPLICAOF", source.host, "1")

    with backups.contents(made) as contents, pytest.raises(RemoteError, match=r"READONLY.*name the primary"):
        restore(contents, remote, survey(remote), RestoreOptions(), progress=demote)


def test_a_user_who_may_not_write_is_told_what_is_missing(backups: Backups, pair: Any) -> None:
    source, c, target, t = pair
    c.execute_command("MSET", "a:1", "x", "b:1", "y")
    made = backups.of(source, records_of(c, VERSION))
    t.execute_command("ACL", "SETUSER", "some", "on", ">secret", "~a:*", "+@all")
    with backups.contents(made) as contents:
        remote = open_remote(f"redis://some:secret@{target.host}:{target.port}")
        report = restore(contents, remote, survey(remote), RestoreOptions())
    assert keys_of(t) == [b"a:1"]
    (((db, key, why),), counts) = report.refused, report.databases[0]
    assert (db, key, report.refused_keys, counts.written) == (0, b"b:1", 1, 1)
    assert "NOPERM" in why


@pytest.mark.parametrize("full", [False, True])
def test_a_killed_connection_costs_nothing(backups: Backups, pair: Any, full: bool) -> None:
    source, c, target, t = pair
    for number in range(3000):
        c.execute_command("SET", b"k:%d" % number, number)
    made = backups.of(source, records_of(c, VERSION), frame_bytes=4096)
    if full:
        t.execute_command("SET", "k:5", "other")
    remote, kills = open_remote(target.url), 0

    def kill(progress: Progress) -> None:
        nonlocal kills
        if progress.keys > (kills + 1) * 800:
            kills += 1
            t.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    with backups.contents(made) as contents:
        report = restore(contents, remote, survey(remote), RestoreOptions(), progress=kill)

    assert kills >= 2
    assert (report.databases[0].kept, report.databases[0].written) == (0, 3000)
    assert same_state(state(c, VERSION), state(t, VERSION)) == []


def test_a_target_that_stays_away_is_waited_for_and_then_named(backups: Backups, pair: Any) -> None:
    source, c, target, _ = pair
    c.execute_command("SET", "k", "v")
    made, remote = backups.of(source, records_of(c, VERSION)), open_remote(target.url)
    seen = survey(remote)
    target.stop()
    with backups.contents(made) as contents, pytest.raises(RemoteError, match=r"is gone for 0\.3 s") as failed:
        restore(contents, remote, seen, RestoreOptions(patience_s=0.3))
    assert failed.value.fault is RemoteFault.UNREACHABLE


def test_a_restore_that_is_stopped_goes_on_next_time(backups: Backups, pair: Any) -> None:
    source, c, target, t = pair
    for number in range(3000):
        c.execute_command("SET", b"k:%d" % number, number)
    made, remote, stop = backups.of(source, records_of(c, VERSION), frame_bytes=8192), open_remote(target.url), None
    stop = threading.Event()

    def halt(progress: Progress) -> None:
        if progress.keys > 1000:
            stop.set()

    with backups.contents(made) as contents, pytest.raises(Halted, match="what was done stays"):
        restore(contents, remote, survey(remote), RestoreOptions(), progress=halt, stop=stop)
    backups.restore(made, target)
    assert same_state(state(c, VERSION), state(t, VERSION)) == []


def test_a_restore_that_is_killed_leaves_only_whole_keys(backups: Backups, pair: Any, tmp_path: Path) -> None:
    source, c, target, t = pair
    fields = [word for at in range(15_000) for word in (b"f%d" % at, b"v" * 20)]
    for number in range(5):
        c.execute_command("HSET", b"hash:%d" % number, *fields)
        c.execute_command("HPEXPIREAT", b"hash:%d" % number, FUTURE_MS, "FIELDS", 1, "f0")
    made = backups.of(source, records_of(c, VERSION))
    program = tmp_path / "restoring.py"
    program.write_text(_KILLED_PROGRAM)
    process = subprocess.Popen([sys.executable, program, backups.folder, made[1], target.url], cwd=Path.cwd())
    try:
        deadline = time.monotonic() + 30
        while not any(name.startswith(b"cachekeep:restoring:") for name in keys_of(t)):
            assert time.monotonic() < deadline
            assert process.poll() is None, "it ended before it could be killed"
        os.kill(process.pid, signal.SIGKILL)
    finally:
        process.kill()
        process.wait()

    expected = state(c, VERSION)
    for key, value in state(t, VERSION).items():
        if key.startswith(b"cachekeep:restoring:"):
            assert 0 < value[2] < FUTURE_MS, "what is unfinished expires by itself"
        else:
            assert value == expected[key]
    backups.restore(made, target)
    there = state(t, VERSION)
    assert all(there[key] == value for key, value in expected.items())


_KILLED_PROGRAM = """
import sys
from pathlib import Path
from cachekeep.backup import write_keys
from cachekeep.backup.catalog import Repository
from cachekeep.backup.contents import open_generation
from cachekeep.backup.restore import restore
from cachekeep.backup.survey import survey
from cachekeep.blob.local import LocalBlobs
from cachekeep.host.installs import MachineCatalogue
from cachekeep.host.scratch import LocalScratch
from cachekeep.remote.open import open_remote, open_socket

write_keys.LARGE_BYTES = 1000  # so that values of this size take the way of larger ones
remote = open_remote(sys.argv[3])
scratch = LocalScratch(MachineCatalogue(), open_socket)
with open_generation(Repository.open(LocalBlobs(Path(sys.argv[1]))), sys.argv[2], scratch) as contents:
    restore(contents, remote, survey(remote))
"""


class TestDamage:
    @pytest.fixture
    def damaged(self, backups: Backups, pair: Any) -> tuple[Repository, str]:
        """Some 3000 keys in many frames, one of which has a flipped byte."""
        source, c, _, _ = pair
        for number in range(3000):
            c.execute_command("SET", b"k:%d" % number, NOISE[number:][:100])
        made = backups.of(source, records_of(c, VERSION), frame_bytes=20_000)
        (segment,) = (backups.folder / made[1]).glob("*.seg")
        data = bytearray(segment.read_bytes())
        data[len(data) // 2] ^= 1
        segment.write_bytes(bytes(data))
        return made

    def test_without_a_wish_damage_ends_the_restore(self, backups: Backups, pair: Any, damaged: Any) -> None:
        with pytest.raises(Exception, match="frame"):
            backups.restore(damaged, pair[2])

    def test_what_is_whole_is_restored_on_explicit_wish(self, backups: Backups, pair: Any, damaged: Any) -> None:
        _, c, target, t = pair
        damages: list[Any] = []
        remote = open_remote(target.url)
        with backups.contents(damaged, on_damage=damages.append) as contents:
            report = restore(contents, remote, survey(remote))
        there, expected = state(t, VERSION), state(c, VERSION)
        assert len(damages) == 1
        assert 2500 < len(there) == report.databases[0].written < 3000
        assert all(expected[key] == value for key, value in there.items())

    def test_nothing_is_deleted_where_anything_is_damaged(self, backups: Backups, pair: Any, damaged: Any) -> None:
        _, _, target, t = pair
        t.execute_command("SET", "extra", "stays")
        remote = open_remote(target.url)
        with (
            backups.contents(damaged, on_damage=lambda finding: None) as contents,
            pytest.raises(RemoteError, match=r"nothing is deleted: parts of .* are damaged"),
        ):
            restore(contents, remote, survey(remote), RestoreOptions(delete_extra=True))
        assert t.execute_command("GET", "extra") == b"stays"

    def test_an_unfinished_backup_is_restored_on_explicit_wish_and_deletes_nothing(
        self, backups: Backups, pair: Any
    ) -> None:
        source, c, target, t = pair
        c.execute_command("SET", "k", "v")
        made = backups.of(source, records_of(c, VERSION), finish=False)
        with pytest.raises(CatalogError, match="is unfinished"):
            backups.restore(made, target)
        remote = open_remote(target.url)
        with backups.contents(made, unfinished=True) as contents:
            restore(contents, remote, survey(remote))
            with pytest.raises(RemoteError, match=r"nothing is deleted: .* is unfinished"):
                restore(contents, remote, survey(remote), RestoreOptions(delete_extra=True))
        assert keys_of(t) == [b"k"]
