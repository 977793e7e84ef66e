"""The beginning of an RDB file, and which engine loads it."""

from __future__ import annotations

import pytest

from cachekeep.codec.dump import DumpError
from cachekeep.codec.rdb_head import RdbHead, read_rdb_head, why_not_loaded
from cachekeep.domain.engine import Engine, EngineVersion

_AUX = b"\xfa\x0avalkey-ver\x059.1.2\xfa\x05ctime\xc2\x00\x00\x00\x00"


def test_tells_who_wrote_it_and_how_many_keys_its_first_database_has() -> None:
    head = read_rdb_head(b"VALKEY080" + _AUX + b"\xf5\x03lib\xfe\x02\xfb\x41\x00\x05key")
    assert head == RdbHead(80, (Engine.VALKEY, EngineVersion((9, 1, 2))), 2, 256)


def test_an_empty_file_has_no_database() -> None:
    assert read_rdb_head(b"REDIS0009\xff12345678") == RdbHead(9)


@pytest.mark.parametrize("cut", range(9, 9 + len(_AUX) + 5))
def test_what_is_cut_off_is_not_known(cut: int) -> None:
    head = read_rdb_head((b"REDIS0011" + _AUX + b"\xfe\x00\xfb\x07\x00")[:cut])
    assert head.rdb_version == 11
    assert head.keys in (None, 7)


@pytest.mark.parametrize("data", [b"", b"REDIS", b"REDIS00x1", b"valkey080", b"PK\x03\x04 archive"])
def test_what_is_no_rdb_file_is_refused(data: bytes) -> None:
    with pytest.raises(DumpError, match="no RDB file"):
        read_rdb_head(data)


@pytest.mark.parametrize(
    ("engine", "version", "writer", "rdb", "words"),
    [
        (Engine.VALKEY, "9.1.2", Engine.VALKEY, 80, None),
        (Engine.VALKEY, "9.1.2", Engine.REDIS, 10, None),
        (Engine.REDIS, "8.2", Engine.VALKEY, 11, None),
        (Engine.REDIS, "8.2", Engine.REDIS, 12, None),
        (Engine.VALKEY, "8.1.8", Engine.VALKEY, 80, "loads at most 11"),
        (Engine.VALKEY, "9.1.2", Engine.REDIS, 12, "Redis's own"),
        (Engine.REDIS, "6.2", Engine.REDIS, 10, "loads at most 9"),
        (Engine.REDIS, "2.8", Engine.REDIS, 6, "too old"),
    ],
)
def test_which_engine_loads_which_file(engine: Engine, version: str, writer: Engine, rdb: int, words: str) -> None:
    reason = why_not_loaded(engine, EngineVersion.parse(version), writer, rdb)
    assert reason is None if words is None else words in (reason or "")
