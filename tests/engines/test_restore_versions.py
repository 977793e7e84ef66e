"""Restores between versions: upgrades, downgrades, and what an older target cannot hold. Real servers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from backup_samples import (
    FUTURE_MS,
    backup_of,
    fill_all_types,
    keys_of,
    number_of,
    raw,
    records_of,
    same_state,
    state,
    upsert,
)

from cachekeep.backup.contents import open_generation
from cachekeep.backup.restore import RestoreOptions, RestoreReport, restore
from cachekeep.backup.survey import survey
from cachekeep.codec.dump.footer import sealed
from cachekeep.host.installs import MachineCatalogue
from cachekeep.host.scratch import LocalScratch
from cachekeep.remote.open import open_remote, open_socket

VERSIONS = ("6.2", "7.0", "8.1", "9.1")
SAMPLE = {("9.1", "6.2"), ("9.1", "7.0"), ("9.1", "8.1"), ("6.2", "9.1"), ("7.0", "6.2"), ("6.2", "6.2")}
MATRIX = [
    pytest.param(one, other, marks=() if (one, other) in SAMPLE else pytest.mark.slow)
    for one in VERSIONS
    for other in VERSIONS
]


@pytest.fixture
def put_back(tmp_path: Path, catalogue: MachineCatalogue) -> Callable[..., RestoreReport]:
    """Call it with a server, its records and a target, again and again."""
    scratch = LocalScratch(catalogue, open_socket)

    def put(source: Any, records: list[Any], target: Any, *, functions: bytes | None = None) -> RestoreReport:
        remote = open_remote(target.url)
        made = backup_of(tmp_path, survey(open_remote(source.url)), records, functions=functions)
        with open_generation(*made, scratch) as contents:
            return restore(contents, remote, survey(remote), RestoreOptions())

    return put


@pytest.mark.parametrize(("source_version", "target_version"), MATRIX)
def test_every_type_survives(
    put_back: Callable[..., RestoreReport],
    start_server: Callable[..., Any],
    client: Callable[..., Any],
    source_version: str,
    target_version: str,
) -> None:
    source, target = start_server(source_version), start_server(target_version)
    c, t = raw(client(source)), raw(client(target))
    fill_all_types(c, source_version)
    records = records_of(c, source_version)
    refused = {b"hash:volatile"} if number_of(target_version) < (9, 0) <= number_of(source_version) else set()
    counters = number_of(source_version) >= (7, 0) <= number_of(target_version)
    tolerance_ms = 0 if min(number_of(source_version), number_of(target_version)) >= (7, 0) else 4

    first, second = put_back(source, records, target), put_back(source, records, target)

    expected = state(c, source_version, counters=counters)
    there = state(t, target_version, counters=counters)
    for key in refused:
        del expected[key]
    assert same_state(_without_read(expected), _without_read(there), tolerance_ms=tolerance_ms) == []
    assert first.databases[0].written == len(expected)
    assert {key for _, key, _ in first.refused} == refused
    assert all("has no fields that expire" in why for _, _, why in first.refused)
    assert second.databases[0].kept == len(expected), second


def _without_read(found: dict[bytes, Any]) -> dict[bytes, Any]:
    """A server derives how much a group has read where it was not told."""
    for kind, value, _ in found.values():
        if kind == b"stream" and value["counted"] is None:
            for group in value["groups"].values():
                group["read"] = None
    return found


@pytest.mark.parametrize("target_version", ["7.0", "9.1"])
def test_functions_go_to_an_older_version_and_are_refused_where_there_are_none(
    put_back: Callable[..., RestoreReport],
    start_server: Callable[..., Any],
    client: Callable[..., Any],
    target_version: str,
) -> None:
    source, target, old = start_server("9.1"), start_server(target_version), start_server("6.2")
    c, t = raw(client(source)), raw(client(target))
    c.execute_command("FUNCTION", "LOAD", "#!lua name=lib\nredis.register_function('f', function() return 7 end)")
    payload = c.execute_command("FUNCTION", "DUMP")
    assert put_back(source, [], target, functions=payload).functions == "written"
    assert t.execute_command("FCALL", "f", 0) == 7
    assert put_back(source, [], target, functions=payload).functions == "kept"
    refused = put_back(source, [], old, functions=payload)
    assert refused.functions == "refused: Redis 6.2 has no functions: 7.0 is the first"
    assert not refused.complete


def test_a_hash_whose_fields_have_expired_by_now_fits_an_older_version(
    put_back: Callable[..., RestoreReport], start_server: Callable[..., Any], client: Callable[..., Any]
) -> None:
    source, old, new = start_server("9.1"), start_server("7.0"), start_server("9.1")
    c, t = raw(client(source)), raw(client(old))
    c.execute_command("HSET", "some", "a", "1", "stays", "2")
    c.execute_command("HSET", "all", "a", "1")
    for key in ("some", "all"):
        now_ms = int(c.execute_command("TIME")[0]) * 1000
        c.execute_command("HPEXPIREAT", key, now_ms + 3000, "FIELDS", 1, "a")
    records = records_of(c, "9.1")
    while c.execute_command("HLEN", "some") > 1 or c.execute_command("EXISTS", "all"):
        pass
    for target, version in ((t, "7.0"), (raw(client(new)), "9.1")):
        report = put_back(source, records, old if version == "7.0" else new)
        assert (report.databases[0].written, report.databases[0].expired) == (1, 1)
        assert keys_of(target) == [b"some"]
        assert target.execute_command("HGETALL", "some") == [b"stays", b"2"]
        again = put_back(source, records, old if version == "7.0" else new)
        assert (again.databases[0].kept, again.databases[0].expired) == (1, 1)


def test_a_payload_that_no_server_loads_is_refused_with_its_words_and_the_rest_is_restored(
    put_back: Callable[..., RestoreReport], start_server: Callable[..., Any], client: Callable[..., Any]
) -> None:
    source = start_server("9.1")
    c = raw(client(source))
    c.execute_command("SET", "good", "1")
    (good,) = records_of(c, "9.1")
    module = sealed(b"\x07\x81\x00\x00\x00\x00\x00\x00\x04\x01\x00", 11)
    records = [upsert(b"broken", b"\x00\x05abc" + good.payload[-10:]), good, upsert(b"module", module)]
    report = put_back(source, records, source)
    assert {key for _, key, _ in report.refused} == {b"broken", b"module"}
    assert keys_of(c) == [b"good"]
    assert report.databases[0].kept == 1


def test_expiry_of_6_2_is_restored_from_it_and_into_it(
    put_back: Callable[..., RestoreReport], start_server: Callable[..., Any], client: Callable[..., Any]
) -> None:
    source, target = start_server("7.0"), start_server("6.2")
    c, t = raw(client(source)), raw(client(target))
    c.execute_command("SET", "k", "v", "PXAT", FUTURE_MS + 7)
    put_back(source, records_of(c, "7.0"), target)
    left = int(t.execute_command("PTTL", "k"))
    seconds, micros = t.execute_command("TIME")
    assert abs(int(seconds) * 1000 + int(micros) // 1000 + left - (FUTURE_MS + 7)) <= 4
    assert put_back(source, records_of(c, "7.0"), target).databases[0].kept == 1
