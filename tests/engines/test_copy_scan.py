"""Copies by SCAN on real servers: what they hold, whatever happens meanwhile."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from copying import FAR_MS, alike, contents, copied, fill_everything, logged, once

from cachekeep.backup.pacing import Pace
from cachekeep.codec.dump import StringValue, decode

AWS = (
    "user default on nopass ~* &* +@all -bgrewriteaof -bgsave -config -debug -migrate -replicaof -save -slaveof"
    " -shutdown -sync -psync -client|no-evict\n"
)
FROM_SERVERLESS = "user default on nopass ~* &* +@all -psync -sync -memory -object -eval -evalsha -script -function\n"


@pytest.mark.parametrize(
    ("version", "users"),
    [
        ("9.1", None),
        ("7.0", None),
        ("6.2", None),
        ("7.0", AWS),
        ("9.1", FROM_SERVERLESS),
        pytest.param("8.1", None, marks=pytest.mark.slow),
        pytest.param("6.2", "user default on nopass ~* &* +@all -eval -evalsha\n", marks=pytest.mark.slow),
    ],
)
def test_every_type_and_name_is_copied_byte_for_byte(
    start_server: Any, client: Any, tmp_path: Path, version: str, users: str | None
) -> None:
    server = start_server(version, users=users)
    filler = client(server)
    fill_everything(filler, version)
    report, repository = copied(server.url, tmp_path / "repository")
    held = contents(repository, report.generation)
    names = set(filler.scan_iter(count=1000))
    assert {key for _, key in held} == names
    assert not [key for (_, key), (payload, _) in held.items() if not alike(payload, filler.dump(key))]
    exact = version != "6.2" or users is None
    for at in range(200):
        expires_ms = held[0, b"expiring:%d" % at][1]
        assert expires_ms == FAR_MS + at if exact else abs(expires_ms - FAR_MS - at) < 1000
    assert held[0, b""][1] == -1
    assert report.keys == {0: len(names)}
    if users == FROM_SERVERLESS:
        assert report.verdict == "gaps"
        assert [gap.reason.partition(":")[0] for gap in report.gaps] == ["functions were not copied"]
    else:
        assert report.verdict == "complete"


def test_seed_defect_19_all_databases_are_copied_those_above_fifteen_too(
    start_server: Any, client: Any, tmp_path: Path
) -> None:
    server = start_server("7.0", "--databases", "40")
    for db in (0, 3, 16, 39):
        client(server, db).set("name", db)
    report, repository = copied(server.url, tmp_path / "all")
    held = contents(repository, report.generation)
    assert {db: decode(payload) for (db, _), (payload, _) in held.items()} == {
        db: StringValue(b"%d" % db) for db in (0, 3, 16, 39)
    }
    report, repository = copied(server.url, tmp_path / "some", databases=frozenset({3, 7, 39}), match=b"n*")
    assert report.keys == {3: 1, 39: 1}
    report, _ = copied(server.url, tmp_path / "none", match=b"x*")
    assert sum(report.keys.values()) == 0


def test_functions_are_copied(start_server: Any, client: Any, tmp_path: Path) -> None:
    from cachekeep.backup.reader import GenerationReader

    server = start_server("7.0")
    client(server).execute_command(
        "FUNCTION", "LOAD", "#!lua name=mine\nredis.register_function('one', function() return 1 end)"
    )
    report, repository = copied(server.url, tmp_path / "repository")
    records = list(GenerationReader.open(repository, report.generation).records(("functions",)))
    assert [record.payload for record in records] == [client(server).execute_command("FUNCTION", "DUMP")]


def test_a_key_that_exists_throughout_is_never_missed(start_server: Any, client: Any, tmp_path: Path) -> None:
    server = start_server("9.1")
    filler = client(server)
    filler.mset({f"stays:{at}": at for at in range(3000)})
    over = threading.Event()

    def churn() -> None:
        with_own = client(server)
        at = 0
        while not over.is_set():
            with_own.mset({f"comes:{at}:{one}": "x" for one in range(500)})
            if at:
                with_own.delete(*(f"comes:{at - 1}:{one}" for one in range(500)))
            at += 1

    churning = threading.Thread(target=churn)
    churning.start()
    try:
        report, repository = copied(server.url, tmp_path / "repository", max_keys_per_s=10_000)
    finally:
        over.set()
        churning.join()
    held = contents(repository, report.generation)
    assert [at for at in range(3000) if (0, b"stays:%d" % at) not in held] == []


@pytest.mark.parametrize("version", ["9.1", "6.2", pytest.param("7.0", marks=pytest.mark.slow)])
def test_seed_defect_23_value_and_expiry_are_of_one_moment(
    start_server: Any, client: Any, tmp_path: Path, version: str
) -> None:
    server = start_server(version)
    names = [b"pair:%d" % at for at in range(400)]

    def write(to: Any, turn: int) -> None:
        pipe = to.pipeline(transaction=False)
        for name in names:
            pipe.set(name, turn, pxat=FAR_MS + turn)
        pipe.execute()

    write(client(server), 0)
    over = threading.Event()

    def flip() -> None:
        own, turn = client(server), 0
        while not over.is_set():
            turn += 1
            write(own, turn)

    flipping = threading.Thread(target=flip)
    flipping.start()
    try:
        reports = [copied(server.url, tmp_path / "repository", count=13) for _ in range(4)]
    finally:
        over.set()
        flipping.join()
    turns = set()
    for report, repository in reports:
        held = contents(repository, report.generation)
        assert len(held) == len(names)
        for payload, expires_ms in held.values():
            value = decode(payload)
            assert isinstance(value, StringValue)
            assert expires_ms - FAR_MS == int(value.data)
            turns.add(int(value.data))
    assert len(turns) > 1, "the writer did write meanwhile"


def test_seed_defect_16_a_lost_connection_is_logged_and_the_scan_goes_on_in_its_own_database(
    start_server: Any, client: Any, tmp_path: Path
) -> None:
    server = start_server("7.0")
    client(server, 0).mset({f"zero:{at}": at for at in range(300)})
    client(server, 3).mset({f"three:{at}": at for at in range(1500)})
    killer = client(server)

    def kill() -> None:
        for one in killer.client_list(_type="normal"):
            if one["db"] == "3" and one["cmd"] not in ("mset", "client|list"):
                killer.client_kill_filter(_id=one["id"])

    progress = once(lambda keys: keys > 900, kill)
    report, repository = copied(server.url, tmp_path / "r", progress=progress, max_keys_per_s=1500, count=20)
    held = contents(repository, report.generation)
    assert {key for db, key in held if db == 3} == {b"three:%d" % at for at in range(1500)}
    assert {key for db, key in held if db == 0} == {b"zero:%d" % at for at in range(300)}
    assert report.verdict == "complete"
    lines = logged(repository, report, "interruption")
    assert report.interruptions == len(lines) == 1
    assert lines[0]["start_ms"] <= lines[0]["end_ms"]
    assert lines[0]["lane"] == "only"


def test_keys_that_may_not_be_read_are_named_and_make_a_gap(start_server: Any, client: Any, tmp_path: Path) -> None:
    users = "user default on nopass ~* &* +@all\nuser copier on >secret ~open:* &* +@all\n"
    server = start_server("7.0", users=users)
    client(server).mset({f"open:{at}": at for at in range(50)})
    client(server).mset({"closed:1": 1, b"closed:\xff": 2})
    url = server.url.replace("redis://", "redis://copier:secret@")
    report, repository = copied(url, tmp_path / "repository")
    held = contents(repository, report.generation)
    assert {key for _, key in held} == {b"open:%d" % at for at in range(50)}
    assert report.verdict == "gaps"
    assert sum(report.skipped.values()) == 2
    assert "2 keys skipped: NOPERM" in report.gaps[0].reason
    names = [(line.get("key"), line.get("key_b64")) for line in logged(repository, report, "skipped")]
    assert sorted(names, key=str) == sorted([("closed:1", None), (None, "Y2xvc2VkOv8=")], key=str)
    assert "secret" not in str(report)


def test_a_rate_is_kept_over_any_number_of_threads() -> None:
    clock = [100.0]

    def wait(seconds: float) -> None:
        clock[0] += seconds

    pace = Pace(1000, wait, lambda: clock[0])
    for _ in range(50):
        pace.take(100)
    assert 4.8 <= clock[0] - 100 <= 5.0
    clock[0] += 1000  # a pause is not saved up
    began = clock[0]
    for _ in range(50):
        pace.take(100)
    assert 4.8 <= clock[0] - began <= 5.0
