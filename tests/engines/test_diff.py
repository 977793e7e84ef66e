"""Differences between a backup or an endpoint and an endpoint: whole counts, names, and no false ones. Real servers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from backup_samples import (
    FUTURE_MS,
    NOISE,
    backup_of,
    fill_all_types,
    keys_of,
    raw,
    records_of,
    upsert,
)

from cachekeep.backup.contents import contents_of, open_generation
from cachekeep.backup.diff import DiffReport, diff
from cachekeep.backup.progress import Progress
from cachekeep.backup.restore import restore
from cachekeep.backup.survey import survey
from cachekeep.host.installs import MachineCatalogue
from cachekeep.host.scratch import LocalScratch
from cachekeep.remote.open import open_remote, open_socket


@pytest.fixture
def pair(start_server: Callable[..., Any], client: Callable[..., Any]) -> Iterator[tuple[Any, Any, Any, Any]]:
    left, right = start_server("9.1"), start_server("9.1")
    return left, raw(client(left)), right, raw(client(right))


def compare(left: Any, right: Any, **how: Any) -> DiffReport:
    one, other = open_remote(left.url), open_remote(right.url)
    return diff(contents_of(one, survey(one)), other, survey(other), **how)


def test_faithful_copies_do_not_differ_though_their_bytes_do(
    pair: Any, tmp_path: Path, catalogue: MachineCatalogue
) -> None:
    left, c, right, t = pair
    fill_all_types(c, "9.1")
    made = backup_of(tmp_path, survey(open_remote(left.url)), records_of(c, "9.1"))
    remote = open_remote(right.url)
    with open_generation(*made, LocalScratch(catalogue, open_socket)) as contents:
        restore(contents, remote, survey(remote))
        report = diff(contents, remote, survey(remote))
    payloads = [{record.key: record.payload for record in records_of(one, "9.1")} for one in (c, t)]
    assert payloads[0] != payloads[1], "tables of hashes differ in order"
    for one in (report, compare(left, right)):
        assert not one.differs
        assert one.databases[0].same == len(keys_of(c))
        assert one.databases[0].left == len(keys_of(c))


def test_every_kind_of_difference_is_counted_and_named(pair: Any, client: Callable[..., Any]) -> None:
    left, c, right, t = pair
    for one in (c, t):
        one.execute_command("MSET", "same", 1, "value", 1, "expiry", 1, "never", 1, "type", 1)
        one.execute_command("PEXPIREAT", "expiry", FUTURE_MS)
    t.execute_command("SET", "value", 2)
    t.execute_command("PEXPIREAT", "expiry", FUTURE_MS + 1)
    t.execute_command("PEXPIREAT", "never", FUTURE_MS)
    t.execute_command("DEL", "type")
    t.execute_command("RPUSH", "type", 1)
    c.execute_command("SET", b"left \xff", 1)
    t.execute_command("SET", b"right \xff", 1)
    raw(client(right, 3)).execute_command("SET", "far", 1)
    raw(client(left, 7)).execute_command("SET", "near", 1)

    report = compare(left, right)

    counts = report.databases[0]
    assert (counts.same, counts.only_left, counts.only_right) == (1, 1, 1)
    assert counts.different == {"value": 1, "expiry": 2, "type": 1}
    assert (report.databases[3].only_right, report.databases[7].only_left) == (1, 1)
    assert {(db, key): what for db, key, what in report.named} == {
        (0, b"value"): "value",
        (0, b"expiry"): "expiry",
        (0, b"never"): "expiry",
        (0, b"type"): "type",
        (0, b"left \xff"): "only on the left",
        (0, b"right \xff"): "only on the right",
        (3, b"far"): "only on the right",
        (7, b"near"): "only on the left",
    }
    assert report.differs
    assert report.differences == 8
    assert not compare(left, right, match=b"same").differs
    assert list(compare(left, right, databases=frozenset((3,))).databases) == [3]


def test_counts_are_whole_where_names_are_not(pair: Any) -> None:
    left, c, right, t = pair
    for number in range(2500):
        c.execute_command("SET", b"l:%d" % number, number)
        t.execute_command("SET", b"r:%d" % number, number)
    report = compare(left, right)
    assert (report.databases[0].only_left, report.databases[0].only_right) == (2500, 2500)
    assert len(report.named) == 1000


def test_what_is_written_on_both_sides_during_the_comparison_is_no_difference(pair: Any) -> None:
    left, c, right, t = pair
    for number in range(3000):
        for one in (c, t):
            one.execute_command("SET", b"k:%d" % number, NOISE[number:][:50])

    def churn(progress: Progress) -> None:
        for number in range(0, 3000, 7):
            for one in (t, c):
                one.execute_command("SET", b"k:%d" % number, progress.keys)
        t.execute_command("DEL", b"new:%d" % (progress.keys - 500))

    assert compare(left, right, progress=churn).differences == 0


def test_a_key_that_expired_since_the_backup_is_no_difference_unless_it_lives_on(
    pair: Any, tmp_path: Path, catalogue: MachineCatalogue
) -> None:
    left, c, right, t = pair
    c.execute_command("MSET", "gone", 1, "lives", 1)
    payloads = {record.key: record.payload for record in records_of(c, "9.1")}
    past = [upsert(key, payload, expires_ms=1_700_000_000_000) for key, payload in payloads.items()]
    t.execute_command("SET", "lives", 1)
    made = backup_of(tmp_path, survey(open_remote(left.url)), past)
    remote = open_remote(right.url)
    with open_generation(*made, LocalScratch(catalogue, open_socket)) as contents:
        report = diff(contents, remote, survey(remote))
    assert report.databases[0].expired == 1
    assert report.named == ((0, b"lives", "expired on the left, and there on the right"),)


def test_functions_that_differ_are_told(pair: Any) -> None:
    left, c, right, t = pair
    code = "#!lua name=lib\nredis.register_function('f', function() return {} end)"
    c.execute_command("FUNCTION", "LOAD", code.replace("{}", "1"))
    assert compare(left, right).functions == "different"
    t.execute_command("FUNCTION", "LOAD", code.replace("{}", "1"))
    assert compare(left, right).functions == "same"


def test_versions_do_not_make_a_difference(start_server: Callable[..., Any], client: Callable[..., Any]) -> None:
    old, new = start_server("6.2"), start_server("9.1")
    for server in (old, new):
        c = raw(client(server))
        c.execute_command("SADD", "s", *range(40), "text")
        c.execute_command("HSET", "h", *(word for n in range(600) for word in (f"f{n}", n)))
        c.execute_command("ZADD", "z", 1, "a", "-inf", "b")
        c.execute_command("XADD", "x", "1-1", "f", "v")
        c.execute_command("RPUSH", "l", *range(300))
        c.execute_command("PEXPIREAT", "l", FUTURE_MS)
    for one, other in ((old, new), (new, old)):
        report = compare(one, other, expiry_tolerance_ms=4)
        assert (report.databases[0].same, report.differences) == (5, 0), report.named
