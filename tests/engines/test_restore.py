"""Restores put back exactly what differs, whatever the target has and whatever happens on the way. Real servers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from backup_samples import (
    BINARY,
    FUTURE_MS,
    NOISE,
    backup_of,
    expiry_of,
    fill_all_types,
    keys_of,
    raw,
    records_of,
    same_state,
    state,
    tombstone,
    upsert,
)

from cachekeep.backup.catalog import CatalogError, Repository
from cachekeep.backup.contents import Contents, open_generation
from cachekeep.backup.progress import Progress
from cachekeep.backup.restore import RestoreOptions, RestoreReport, restore
from cachekeep.backup.survey import survey
from cachekeep.backup.walk import Halted
from cachekeep.codec.record import Record
from cachekeep.domain.remote import RemoteError, RemoteFault
from cachekeep.host.installs import MachineCatalogue
from cachekeep.host.scratch import LocalScratch
from cachekeep.remote.open import open_remote, open_socket

VERSION = "9.1"


class Backups:
    """Makes backups of servers by means of its own, and restores them with the product."""

    def __init__(self, folder: Path, scratch: LocalScratch) -> None:
        self.folder, self.scratch = folder, scratch

    def of(self, server: Any, records: list[Record], **more: Any) -> tuple[Repository, str]:
        return backup_of(self.folder, survey(open_remote(server.url)), records, **more)

    @contextmanager
    def contents(self, made: tuple[Repository, str], **how: Any) -> Iterator[Contents]:
        with open_generation(*made, self.scratch, **how) as contents:
            yield contents

    def restore(self, made: tuple[Repository, str], server: Any, **options: Any) -> RestoreReport:
        remote = open_remote(server.url)
        with self.contents(made) as contents:
            return restore(contents, remote, survey(remote), RestoreOptions(**options))


@pytest.fixture
def backups(tmp_path: Path, catalogue: MachineCatalogue) -> Backups:
    return Backups(tmp_path / "backups", LocalScratch(catalogue, open_socket))


@pytest.fixture
def pair(start_server: Callable[..., Any], client: Callable[..., Any]) -> tuple[Any, Any, Any, Any]:
    """source, its client, target, its client."""
    source, target = start_server(VERSION), start_server(VERSION)
    return source, raw(client(source)), target, raw(client(target))


def test_every_type_and_name_comes_back_in_all_databases(
    backups: Backups, pair: Any, client: Callable[..., Any]
) -> None:
    source, c, target, t = pair
    fill_all_types(c, VERSION)
    other = raw(client(source, 9))
    fill_all_types(other, VERSION)
    other.execute_command("SET", "only here", "9")
    made = backups.of(source, records_of(c, VERSION) + records_of(other, VERSION, 9))

    report = backups.restore(made, target)

    assert same_state(state(c, VERSION), state(t, VERSION)) == []
    assert same_state(state(other, VERSION), state(raw(client(target, 9)), VERSION)) == []
    assert sorted(report.databases) == [0, 9]
    assert report.databases[9].written == len(keys_of(other))
    assert report.complete


def test_a_second_restore_writes_nothing(backups: Backups, pair: Any) -> None:
    source, c, target, t = pair
    fill_all_types(c, VERSION)
    made = backups.of(source, records_of(c, VERSION))
    backups.restore(made, target)
    remote = open_remote(target.url)
    seen, written = survey(remote), writes_of(t)

    with backups.contents(made) as contents:
        report = restore(contents, remote, seen)

    counts = report.databases[0]
    assert (counts.kept, counts.written, counts.refused) == (len(keys_of(c)), 0, {})
    assert writes_of(t) == written


def test_seed_defect_01_fields_of_hashes_are_in_the_restored_hash(backups: Backups, pair: Any) -> None:
    source, c, target, t = pair
    for number in range(1200):
        c.execute_command("HSET", "h", f"f{number}", number)
    backups.restore(backups.of(source, records_of(c, VERSION)), target)
    assert t.execute_command("HLEN", "h") == 1200


def test_seed_defect_02_a_deleted_key_is_not_brought_back(backups: Backups, pair: Any) -> None:
    source, c, target, t = pair
    for key in ("gone", "stays", "flushed"):
        c.execute_command("SET", key, key)
    records = records_of(c, VERSION)
    changes = [tombstone(b"gone"), *records_of(c, VERSION, keys=[b"stays"])]
    backups.restore(backups.of(source, records, changes=changes), target)
    assert keys_of(t) == [b"flushed", b"stays"]


def test_seed_defect_03_the_last_of_many_changes_is_what_is_restored(backups: Backups, pair: Any) -> None:
    source, c, target, t = pair
    history = []
    for number in range(12):
        c.execute_command("SET", "counter", number)
        history += records_of(c, VERSION)
    made = backups.of(source, history[:1], changes=history[1:])

    report = backups.restore(made, target)
    assert t.execute_command("GET", "counter") == b"11"
    assert report.databases[0].written == 1

    assert backups.restore(made, target).databases[0].kept == 1


def test_a_key_that_the_scan_gave_twice_counts_once_and_its_later_record_holds(backups: Backups, pair: Any) -> None:
    source, c, target, t = pair
    c.execute_command("MSET", "twice", "old", "a", "1")
    first = records_of(c, VERSION)
    c.execute_command("SET", "twice", "new")
    fillers = [upsert(b"filler:%d" % number, first[0].payload) for number in range(1500)]
    made = backups.of(source, first + fillers + records_of(c, VERSION, keys=[b"twice"]))
    t.execute_command("SET", "twice", "other")

    report = backups.restore(made, target)

    assert t.execute_command("GET", "twice") == b"new"
    counts = report.databases[0]
    assert (counts.kept, counts.written) == (0, 1502)


def test_seed_defect_07_a_key_that_expired_meanwhile_is_not_brought_back(backups: Backups, pair: Any) -> None:
    source, c, target, t = pair
    c.execute_command("MSET", "short", "1", "taken", "2")
    payloads = {record.key: record.payload for record in records_of(c, VERSION)}
    past_ms = time.time_ns() // 1_000_000 - 400
    t.execute_command("SET", "taken", "by the target")
    made = backups.of(source, [upsert(key, payload, expires_ms=past_ms) for key, payload in payloads.items()])

    report = backups.restore(made, target)

    assert keys_of(t) == [b"taken"]
    assert t.execute_command("GET", "taken") == b"by the target"
    assert report.databases[0].expired == 2
    assert backups.restore(made, target, delete_extra=True).databases[0].deleted == 1
    assert keys_of(t) == []


def test_seed_defect_08_expiry_is_restored_to_the_millisecond(backups: Backups, pair: Any) -> None:
    source, c, target, t = pair
    c.execute_command("SET", "k", "v", "PXAT", FUTURE_MS + 123)
    backups.restore(backups.of(source, records_of(c, VERSION)), target)
    assert expiry_of(t, "k", VERSION) == FUTURE_MS + 123


@pytest.mark.parametrize("kind", ["added", "missing", "moved"])
def test_seed_defect_09_a_different_expiry_alone_is_put_right(backups: Backups, pair: Any, kind: str) -> None:
    source, c, target, t = pair
    for one in (c, t):
        one.execute_command("RPUSH", "k", *range(300))
    ours, theirs = {"added": (-1, 5), "missing": (5, -1), "moved": (5, 6)}[kind]
    for one, offset in ((c, ours), (t, theirs)):
        if offset > 0:
            one.execute_command("PEXPIREAT", "k", FUTURE_MS + offset)

    report = backups.restore(backups.of(source, records_of(c, VERSION)), target)

    assert report.databases[0].written == 1
    assert same_state(state(c, VERSION), state(t, VERSION)) == []


def test_seed_defect_10_names_that_are_no_text_come_back_as_they_were(backups: Backups, pair: Any) -> None:
    source, c, target, t = pair
    c.execute_command("SET", b"\xff\xfe", "1")
    c.execute_command("SET", b"", "2")
    c.execute_command("HSET", "h", b"\xff", b"\x00", "__b64_field__/w==", "text")
    backups.restore(backups.of(source, records_of(c, VERSION)), target)
    assert keys_of(t) == [b"", b"h", b"\xff\xfe"]
    assert same_state(state(c, VERSION), state(t, VERSION)) == []


def test_seed_defect_11_12_extra_fields_go_and_equal_hashes_stay(backups: Backups, pair: Any) -> None:
    source, c, target, t = pair
    many = [word for number in range(600) for word in (f"f{number}", number)]
    for one, order in ((c, 1), (t, -1)):
        one.execute_command("HSET", "same", *many[::order] if order > 0 else _swapped(many[::-1]))
        one.execute_command("SADD", "same set", *many[::order])
        one.execute_command("HSET", "h", "a", 1)
    t.execute_command("HSET", "h", "extra", 2)

    report = backups.restore(backups.of(source, records_of(c, VERSION)), target)

    assert t.execute_command("HGETALL", "h") == [b"a", b"1"]
    assert (report.databases[0].kept, report.databases[0].written) == (2, 1)


def test_seed_defect_13_an_equal_stream_keeps_the_groups_of_the_target(backups: Backups, pair: Any) -> None:
    source, c, target, t = pair
    for one in (c, t):
        one.execute_command("XADD", "s", "1-1", "f", "v")
        one.execute_command("XADD", "s", "3-1", "f", "v")
        one.execute_command("XGROUP", "CREATE", "s", "g", "0")
        one.execute_command("XADD", "emptied", "5-1", "f", "v")
        one.execute_command("XDEL", "emptied", "5-1")
    made = backups.of(source, records_of(c, VERSION))
    assert backups.restore(made, target).databases[0].kept == 2

    t.execute_command("FLUSHALL")
    backups.restore(made, target)
    assert same_state(state(c, VERSION), state(t, VERSION)) == []
    assert [group[1] for group in t.execute_command("XINFO", "GROUPS", "s")] == [b"g"]


def test_seed_defect_14_a_key_of_another_type_is_replaced(backups: Backups, pair: Any) -> None:
    source, c, target, t = pair
    c.execute_command("SET", "k", "string")
    t.execute_command("HSET", "k", "f", "v")
    assert backups.restore(backups.of(source, records_of(c, VERSION)), target).databases[0].written == 1
    assert t.execute_command("GET", "k") == b"string"


def test_seed_defect_15_restored_twice_a_list_has_its_elements_once(backups: Backups, pair: Any) -> None:
    source, c, target, t = pair
    c.execute_command("RPUSH", "l", 1, 2, 3)
    made = backups.of(source, records_of(c, VERSION))
    for _ in range(2):
        backups.restore(made, target)
    t.execute_command("RPUSH", "l", 4)
    backups.restore(made, target)
    assert t.execute_command("LRANGE", "l", 0, -1) == [b"1", b"2", b"3"]


def test_keys_that_the_backup_does_not_know_stay_unless_they_are_to_go(
    backups: Backups, pair: Any, client: Callable[..., Any]
) -> None:
    source, c, target, t = pair
    c.execute_command("MSET", "a", "1", "b", "2")
    other = raw(client(target, 4))
    for number in range(1300):
        t.execute_command("SET", b"extra:%d" % number, "x")
    other.execute_command("SET", "far", "x")
    made = backups.of(source, records_of(c, VERSION))

    assert backups.restore(made, target).databases[0].deleted == 0
    assert len(keys_of(t)) == 1302
    dry = backups.restore(made, target, delete_extra=True, dry_run=True)
    assert (dry.databases[0].deleted, dry.databases[4].deleted) == (1300, 1)
    assert len(keys_of(t)) == 1302
    some = backups.restore(made, target, delete_extra=True, match=b"extra:1*", databases=frozenset((0,)))
    assert some.databases[0].deleted == 1 + 10 + 100 + 300
    report = backups.restore(made, target, delete_extra=True)
    assert (report.databases[0].deleted, report.databases[4].deleted) == (1300 - 411, 1)
    assert (keys_of(t), keys_of(other)) == ([b"a", b"b"], [])


def test_a_dry_run_writes_nothing_and_tells_the_same_numbers(backups: Backups, pair: Any) -> None:
    source, c, target, t = pair
    fill_all_types(c, VERSION)
    t.execute_command("SET", "string", "value")
    t.execute_command("SET", "list:many", "of another type")
    made = backups.of(source, records_of(c, VERSION))
    before = state(t, VERSION)
    dry = backups.restore(made, target, dry_run=True)
    assert same_state(before, state(t, VERSION)) == []
    real = backups.restore(made, target)
    assert dry.databases == real.databases
    assert (dry.dry_run, real.dry_run) == (True, False)


def test_databases_and_a_glob_choose_what_is_restored(backups: Backups, pair: Any, client: Callable[..., Any]) -> None:
    source, c, target, t = pair
    second = raw(client(source, 2))
    for one in (c, second):
        one.execute_command("MSET", "user:1", "a", "user:2", "b", "session:1", "c")
    made = backups.of(source, records_of(c, VERSION) + records_of(second, VERSION, 2))
    report = backups.restore(made, target, databases=frozenset((2,)), match=b"user:[2-9]")
    assert (keys_of(t), keys_of(raw(client(target, 2)))) == ([], [b"user:2"])
    assert list(report.databases) == [2]


def test_functions_come_back_and_foreign_libraries_stay(backups: Backups, pair: Any) -> None:
    source, c, target, t = pair

    def load(one: Any, name: str, value: int) -> None:
        code = f"#!lua name={name}\nredis.register_function('{name}_f', function() return {value} end)"
        one.execute_command("FUNCTION", "LOAD", "REPLACE", code)

    load(c, "ours", 1)
    load(t, "ours", 2)
    load(t, "theirs", 3)
    made = backups.of(source, [], functions=c.execute_command("FUNCTION", "DUMP"))
    assert backups.restore(made, target).functions == "written"
    assert (t.execute_command("FCALL", "ours_f", 0), t.execute_command("FCALL", "theirs_f", 0)) == (1, 3)
    assert backups.restore(made, target).functions == "kept"
    assert backups.restore(made, target, delete_extra=True).functions == "written"
    assert len(t.execute_command("FUNCTION", "LIST")) == 1


def test_large_values_are_restored_in_steps_and_compared_in_pages(backups: Backups, pair: Any) -> None:
    source, c, target, t = pair
    for number in range(0, 60_000, 1000):
        words = [word for at in range(number, number + 1000) for word in (b"field:%d" % at, NOISE[at % 900 :][:180])]
        c.execute_command("HSET", "big", *words)
    c.execute_command("PEXPIREAT", "big", FUTURE_MS)
    c.execute_command("SET", "big string", NOISE * 600)
    records = records_of(c, VERSION)
    assert len(records[0].payload) > 8 << 20
    made = backups.of(source, records)
    t.execute_command("SET", "big", "small")

    assert backups.restore(made, target).databases[0].written == 2
    assert same_state(state(c, VERSION), state(t, VERSION)) == []
    assert backups.restore(made, target).databases[0].kept == 2
    t.execute_command("HSET", "big", "field:777", "changed")
    assert backups.restore(made, target).databases[0].written == 1
    assert same_state(state(c, VERSION), state(t, VERSION)) == []


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


def test_a_backup_of_some_keys_deletes_no_others(backups: Backups, pair: Any) -> None:
    source, c, target, t = pair
    c.execute_command("SET", "user:1", "v")
    t.execute_command("SET", "other", "v")
    of_some = backups.of(source, records_of(c, VERSION), options={"match": "user:*"})
    with pytest.raises(RemoteError, match=r"has only keys that match user:\*"):
        backups.restore(of_some, target, delete_extra=True)
    of_one = backups.of(source, records_of(c, VERSION), options={"databases": [3]})
    with pytest.raises(RemoteError, match="the backup has only database 3; add --db 3"):
        backups.restore(of_one, target, delete_extra=True)
    assert keys_of(t) == [b"other"]


def test_a_database_that_the_target_does_not_have_is_refused_by_name(
    backups: Backups, pair: Any, start_server: Callable[..., Any], client: Callable[..., Any]
) -> None:
    source, c, _, _ = pair
    small = start_server(VERSION, "--databases", "4")
    c.execute_command("SET", "k", "v")
    far = raw(client(source, 12))
    far.execute_command("SET", BINARY, "v")
    report = backups.restore(backups.of(source, records_of(c, VERSION) + records_of(far, VERSION, 12)), small)
    assert report.databases[0].written == 1
    assert report.refused == ((12, BINARY, "the target has 4 databases, and none with the number 12"),)
    assert not report.complete


def writes_of(c: Any) -> int:
    """How many times the server was asked to RESTORE."""
    found = c.execute_command("INFO", "commandstats").split(b"cmdstat_restore:calls=")
    return int(found[1].split(b",")[0]) if len(found) > 1 else 0


def _swapped(words: list[Any]) -> list[Any]:
    return [word for at in range(0, len(words), 2) for word in (words[at + 1], words[at])]
