"""Restores put back exactly what differs, whatever the target has. Real servers."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from backup_samples import (
    BINARY,
    FUTURE_MS,
    NOISE,
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
from restoring import Backups

from cachekeep.backup.restore import restore
from cachekeep.backup.survey import survey
from cachekeep.domain.remote import RemoteError
from cachekeep.host.scratch import LocalScratch
from cachekeep.remote.open import open_remote

VERSION = "9.1"


@pytest.fixture
def backups(tmp_path: Path, scratch: LocalScratch) -> Backups:
    return Backups(tmp_path / "backups", scratch)


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
