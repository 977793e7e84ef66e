"""RDB files, byte by byte. That real servers load them: tests/engines/test_exchange.py."""

from __future__ import annotations

import pytest

from cachekeep.codec.dump import (
    DumpError,
    HashValue,
    SetValue,
    StreamId,
    StreamValue,
    StringValue,
    Target,
    Unrepresentable,
    crc64,
    decode,
    encode,
)
from cachekeep.codec.dump.footer import sealed
from cachekeep.codec.rdb_file import NO_EXPIRY, RdbFile
from cachekeep.domain.engine import Engine, EngineVersion

STRING = encode(StringValue(b"v"), 9)
REDIS62 = Target(Engine.REDIS, EngineVersion.parse("6.2.5"))
FUNCTIONS = sealed(b"\xf5\x03lua", 11)


@pytest.mark.parametrize(("version", "header"), [(9, b"REDIS0009"), (11, b"REDIS0011"), (80, b"VALKEY080")])
def test_the_header_is_the_one_of_the_version(version: int, header: bytes) -> None:
    assert RdbFile(version).begin({"ctime": "5"}) == header + b"\xfa\x05ctime\x015"


def test_a_file_is_header_records_and_checksum() -> None:
    rdb = RdbFile(9)
    parts = [
        rdb.begin({}),
        rdb.record(0, b"a", NO_EXPIRY, STRING),
        rdb.record(0, b"", 258, STRING),
        rdb.record(300, b"b", NO_EXPIRY, STRING),
        rdb.record(0, b"c", NO_EXPIRY, STRING),
        rdb.end(),
    ]
    assert parts[1:-1] == [
        b"\xfe\x00" + b"\x00\x01a\x01v",
        b"\xfc\x02\x01\0\0\0\0\0\0" + b"\x00\x00\x01v",
        b"\xfe\x41\x2c" + b"\x00\x01b\x01v",
        b"\xfe\x00" + b"\x00\x01c\x01v",
    ]
    data = b"".join(parts)
    assert data[-9:-8] == b"\xff"
    assert int.from_bytes(data[-8:], "little") == crc64(data[:-8])


def test_a_value_that_the_target_cannot_load_is_encoded_anew() -> None:
    stream = encode(StreamValue((), StreamId(5, 1), StreamId(0, 0), 0, ()), 11)
    rdb = RdbFile(9, REDIS62)
    for payload, rdb_type in ((stream, 15), (sealed(b"\x00\x01v", 80), 0)):
        assert bytes([rdb_type]) + b"\x01k" in rdb.record(0, b"k", NO_EXPIRY, payload)


def test_a_value_that_the_target_cannot_hold_leaves_nothing_in_the_file() -> None:
    rdb = RdbFile(9, REDIS62)
    begun = rdb.begin({})
    with pytest.raises(Unrepresentable, match="fields that expire"):
        rdb.record(7, b"k", 5, encode(HashValue(((b"a", b"1", 5),)), 80))
    data = begun + rdb.record(7, b"j", NO_EXPIRY, STRING) + rdb.end()
    assert data == begun + b"\xfe\x07\x00\x01j\x01v\xff" + crc64(data[:-8]).to_bytes(8, "little")


def test_a_damaged_payload_is_refused() -> None:
    with pytest.raises(DumpError, match="checksum"):
        RdbFile(80).record(0, b"k", NO_EXPIRY, STRING[:-1] + b"\0")


def test_types_of_redis_alone_do_not_get_into_a_file_of_valkey() -> None:
    with pytest.raises(DumpError, match="not known"):
        RdbFile(80).record(0, b"k", NO_EXPIRY, sealed(b"\x19whatever", 12))
    same = encode(SetValue(frozenset([b"a"])), 12)
    assert decode(same) == SetValue(frozenset([b"a"]))
    assert RdbFile(80).record(0, b"k", NO_EXPIRY, same).endswith(b"\x02\x01k\x01\x01a")


def test_functions_stand_without_their_footer() -> None:
    assert RdbFile(10).functions(FUNCTIONS) == b"\xf5\x03lua"
    assert RdbFile(9).functions(sealed(b"", 11)) == b""
    with pytest.raises(Unrepresentable, match="no functions"):
        RdbFile(9).functions(FUNCTIONS)
    with pytest.raises(DumpError, match="not functions"):
        RdbFile(11).functions(STRING)
