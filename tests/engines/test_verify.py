"""What verify proves, and what it does not let pass. Real servers and scratch engines."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from backup_samples import backup_of, fill_all_types, keys_of, raw, records_of, upsert

from cachekeep.backup.catalog import Repository, Status
from cachekeep.backup.catalog_objects import Gap
from cachekeep.backup.survey import survey
from cachekeep.backup.verify import VerifyReport, verify
from cachekeep.codec.dump.footer import sealed
from cachekeep.host.installs import MachineCatalogue
from cachekeep.host.scratch import LocalScratch
from cachekeep.remote.open import open_remote, open_socket

PAST_MS = 1_700_000_000_000


@pytest.fixture
def check(catalogue: MachineCatalogue) -> Callable[..., VerifyReport]:
    def verified(made: tuple[Repository, str], *, against: Any = None, deep: bool = False) -> VerifyReport:
        remote = open_remote(against.url) if against else None
        living = (remote, survey(remote)) if remote else None
        return verify(*made, against=living, deep=deep, scratch=LocalScratch(catalogue, open_socket))

    return verified


@pytest.fixture
def source(start_server: Callable[..., Any], client: Callable[..., Any]) -> tuple[Any, Any]:
    server = start_server("9.1")
    return server, raw(client(server))


def backup(folder: Path, server: Any, records: list[Any], **more: Any) -> tuple[Repository, str]:
    return backup_of(folder, survey(open_remote(server.url)), records, **more)


def test_a_faithful_backup_is_proved_by_digests_engine_and_endpoint(
    source: Any, client: Callable[..., Any], tmp_path: Path, check: Callable[..., VerifyReport]
) -> None:
    server, c = source
    fill_all_types(c, "9.1")
    far = raw(client(server, 20 - 6))
    far.execute_command("SET", "far", 1)
    c.execute_command("FUNCTION", "LOAD", "#!lua name=lib\nredis.register_function('f', function() return 7 end)")
    functions = c.execute_command("FUNCTION", "DUMP")
    made = backup(tmp_path, server, records_of(c, "9.1") + records_of(far, "9.1", 14), functions=functions)

    report = check(made, against=server, deep=True)

    assert report.proved
    assert report.findings == ()
    assert report.deep is not None
    assert report.deep.keys == {0: len(keys_of(c)), 14: 1}
    assert report.deep.differences.functions == "same"
    assert report.against is not None
    assert report.against.differences == 0
    assert [row.explanation() for row in report.keyspace] == ["as many as INFO counted"] * 2


def test_keys_that_have_expired_since_are_proved_too_and_explain_the_difference_from_info(
    source: Any, tmp_path: Path, check: Callable[..., VerifyReport]
) -> None:
    server, c = source
    c.execute_command("MSET", "a", 1, "b", 2)
    records = [upsert(one.key, one.payload, expires_ms=PAST_MS) for one in records_of(c, "9.1")]
    c.execute_command("DEL", "a", "b")
    report = check(backup(tmp_path, server, records[:1]), deep=True, against=server)
    assert report.proved
    assert report.deep is not None
    assert report.deep.keys == {0: 1}
    assert report.against is not None
    assert report.against.databases[0].expired == 1


def test_fewer_keys_than_info_counted_are_explained(
    source: Any, tmp_path: Path, check: Callable[..., VerifyReport]
) -> None:
    server, c = source
    c.execute_command("MSET", "a", 1, "b", 2)
    report = check(backup(tmp_path, server, records_of(c, "9.1", keys=[b"a"])))
    (row,) = report.keyspace
    assert (row.info_ended, row.keys) == (2, 1)
    assert row.explanation().startswith("INFO counted 1 more: keys that had expired and were not removed yet")
    assert report.proved, "a number proves nothing, for or against"


def test_a_flipped_byte_is_found_and_nothing_is_called_proved(
    source: Any, tmp_path: Path, check: Callable[..., VerifyReport]
) -> None:
    server, c = source
    c.execute_command("SET", "k", "v" * 500)
    made = backup(tmp_path, server, records_of(c, "9.1"))
    (segment,) = tmp_path.glob("*/*.seg")
    data = bytearray(segment.read_bytes())
    data[-5] ^= 1
    segment.write_bytes(bytes(data))
    report = check(made, deep=True, against=server)
    assert not report.proved
    assert not report.intact
    assert (report.deep, report.against) == (None, None)
    assert report.notes == ("it is damaged, so what is still whole of it was neither loaded nor compared",)


def test_a_value_that_was_wrong_before_it_was_written_is_found_by_the_endpoint_not_by_digests(
    source: Any, tmp_path: Path, check: Callable[..., VerifyReport]
) -> None:
    server, c = source
    c.execute_command("MSET", "a", 1, "b", 2, "c", 3)
    a, b, _ = records_of(c, "9.1")
    made = backup(tmp_path, server, [a, upsert(b"b", a.payload), upsert(b"d", b.payload)])
    assert check(made, deep=True).proved
    report = check(made, against=server)
    assert report.intact
    assert not report.proved
    assert report.against is not None
    assert {(key, what) for _, key, what in report.against.named} == {
        (b"b", "value"),
        (b"c", "only on the right"),
        (b"d", "only on the left"),
    }


def test_a_payload_that_no_engine_loads_is_found_by_loading(
    source: Any, tmp_path: Path, check: Callable[..., VerifyReport]
) -> None:
    server, c = source
    c.execute_command("SET", "good", 1)
    made = backup(tmp_path, server, [*records_of(c, "9.1"), upsert(b"bad", sealed(b"\x10\x03abc", 80))])
    assert check(made).intact
    report = check(made, deep=True)
    assert not report.proved
    assert report.deep is not None
    assert [key for _, key, _ in report.deep.loaded.refused] == [b"bad"]


@pytest.mark.parametrize("how", ["unfinished", "gaps"])
def test_a_backup_that_is_not_complete_is_intact_and_not_proved(
    source: Any, tmp_path: Path, check: Callable[..., VerifyReport], how: str
) -> None:
    server, c = source
    c.execute_command("SET", "k", 1)
    gaps = (Gap(start_ms=1, end_ms=2, reason="the source was away"),) if how == "gaps" else ()
    made = backup(tmp_path, server, records_of(c, "9.1"), gaps=gaps, finish=how == "gaps")
    report = check(made, against=server)
    assert (report.intact, report.proved) == (True, False)
    assert report.status is (Status.GAPS if how == "gaps" else Status.UNFINISHED)
    assert report.against is not None
    assert not report.against.differs


def test_a_backup_of_some_keys_is_held_against_those_only(
    source: Any, tmp_path: Path, check: Callable[..., VerifyReport]
) -> None:
    server, c = source
    c.execute_command("MSET", "user:1", 1, "other", 2)
    some = records_of(c, "9.1", keys=[b"user:1"])
    made = backup(tmp_path, server, some, options={"match": "user:*", "databases": [0]})
    assert check(made, against=server).proved
