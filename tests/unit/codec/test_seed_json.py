"""The seed's JSON files: nothing is lost on the way there and back, and what the seed's script wrote is understood."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cachekeep.codec.dump import (
    Consumer,
    DumpError,
    HashValue,
    ListValue,
    ModuleValue,
    Pending,
    SetValue,
    SortedSetValue,
    StreamEntry,
    StreamGroup,
    StreamId,
    StreamValue,
    StringValue,
    Value,
    canonical,
    decode,
    encode,
)
from cachekeep.codec.dump.footer import sealed
from cachekeep.codec.seed_json import (
    NO_EXPIRY,
    Found,
    Part,
    SeedFileError,
    in_order,
    read_chunk,
    read_entries,
    read_manifest,
    write_chunk,
    write_entry,
    write_manifest,
)
from cachekeep.codec.seed_values import FIELD_PREFIX, KEY_PREFIX, read_name, spelled_name

GENERATED = "2026-11-22T21:00:00Z"
GENERATED_MS = 1_795_381_200_000
PART = Part(3, 1)
INF = float("inf")
names = st.binary(max_size=9) | st.sampled_from(
    [
        b"",
        b"\xff\xfe",
        b"__b64_key__",
        b"__b64_key__//4=",
        b"__b64_field__/w==",
        b"__b64_key__aGVsbG8=",
        "käse".encode(),
    ]
)
moments = st.integers(0, 2**53)
VALUES: dict[str, Value] = {
    "string": StringValue(b"\x00\xffbinary"),
    "list": ListValue((b"a", b"a", b"\xff", b"")),
    "set": SetValue(frozenset([b"a", b"\xff", b""])),
    "zset": SortedSetValue(((b"a", 1.5), (b"b", INF), (b"c", -INF), (b"d", 0.1 + 0.2), (b"e", 1e300), (b"f", -0.0))),
    "hash": HashValue(((b"a", b"1", None), (b"\xff", b"2", 1_795_381_299_999), (b"", b"", None))),
    "stream": StreamValue(
        (
            StreamEntry(StreamId(1, 0), ((b"z", b"1"), (b"a", b"2"))),
            StreamEntry(StreamId(2, 0), ((b"a", b"1"), (b"a", b"2"), (b"\xff", b"\xfe"))),
            StreamEntry(StreamId(2**64 - 1, 7), ((b"", b""),)),
        ),
        StreamId(2**64 - 1, 9),
        StreamId(1, 5),
        17,
        (
            StreamGroup(
                b"g\xff",
                StreamId(2, 0),
                None,
                (Pending(StreamId(1, 0), b"c", 99, 3), Pending(StreamId(1, 5), b"\xff", 98, 1)),
                (Consumer(b"c", 100, 101), Consumer(b"\xff", 100, None)),
            ),
            StreamGroup(b"empty", StreamId(0, 0), 0, (), ()),
        ),
    ),
    "empty stream": StreamValue((), StreamId(5, 1), StreamId(5, 1), 3, ()),
    "module": ModuleValue(0x1234567890ABCDEF, ((2, 7), (5, b"\xff"))),
}


def chunk_of(keys: dict[bytes, tuple[int, bytes]], part: Part = PART, now_ms: int = GENERATED_MS) -> bytes:
    entries = [write_entry(key, part.db, expires_ms, payload, now_ms) for key, (expires_ms, payload) in keys.items()]
    return b"".join(write_chunk(part, entries, now_ms))


def read(data: bytes, part: Part = PART) -> list[Found]:
    return list(read_entries(read_chunk(data, part)))


def seed_chunk(data: dict[str, Any], part: Part = PART, **meta: Any) -> bytes:
    """As the seed's script writes it."""
    told = {"generated_at": GENERATED, "db": part.db, "chunk_number": part.number, "keys_in_chunk": len(data)}
    return json.dumps({"_meta": told | meta, "data": data}, indent=2, ensure_ascii=False).encode()


def text(value: str) -> dict[str, str]:
    return {"_t": "str", "v": value}


def entry(kind: str, value: Any, ttl: Any = -1) -> dict[str, Any]:
    return {"type": kind, "db": PART.db, "value": value, "ttl": ttl}


def one(data: dict[str, Any], key: bytes = b"k") -> Value:
    found = read(seed_chunk(data))
    assert [item.key for item in found] == [key]
    assert found[0].payload is not None
    return decode(found[0].payload)


def only(kind: str, value: Any, ttl: Any = -1) -> Found:
    (found,) = read(seed_chunk({"k": entry(kind, value, ttl)}))
    return found


@pytest.mark.parametrize("name", VALUES)
def test_a_value_comes_back_as_it_was(name: str) -> None:
    payload = encode(VALUES[name], 80)
    ((key, expires_ms, back, reason),) = read(chunk_of({b"k\xff": (GENERATED_MS + 1, payload)}))
    assert (key, expires_ms, reason) == (b"k\xff", GENERATED_MS + 1, None)
    assert back is not None
    assert canonical(decode(back)) == canonical(VALUES[name])
    if name == "stream":
        assert decode(back) == VALUES[name], "when consumers were seen is kept as well"


@given(st.dictionaries(names, st.tuples(st.none() | moments, names), max_size=6))
@settings(deadline=None)
def test_keys_and_expiries_come_back_as_they_were(keys: dict[bytes, tuple[int | None, bytes]]) -> None:
    written = {key: (NO_EXPIRY if at is None else at, encode(StringValue(data), 9)) for key, (at, data) in keys.items()}
    found = read(chunk_of(written))
    assert {item.key: (item.expires_ms, item.payload) for item in found} == written


@given(names, st.sampled_from([KEY_PREFIX, FIELD_PREFIX]))
def test_every_name_has_one_spelling(name: bytes, prefix: str) -> None:
    assert read_name(spelled_name(name, prefix), prefix) == name


@pytest.mark.parametrize(
    ("key", "name"),
    [
        (b"", ""),
        (b"\xff\xfe", "__b64_key__//4="),
        (b"__b64_key__", "__b64_key__"),
        (b"__b64_key__mine!", "__b64_key__mine!"),
        (b"__b64_key__//4=", "__b64_key__X19iNjRfa2V5X18vLzQ9"),
    ],
)
def test_a_text_key_that_begins_like_a_binary_one_is_not_confused(key: bytes, name: str) -> None:
    assert spelled_name(key, KEY_PREFIX) == name


def test_what_the_format_lacks_a_type_for_is_kept_as_dump() -> None:
    unknown = sealed(b"\x63whatever", 80)
    data = chunk_of({b"k": (NO_EXPIRY, unknown)})
    assert json.loads(data)["data"]["k"]["type"] == "unknown"
    assert [item.payload for item in read(data)] == [unknown]


def test_a_payload_that_is_damaged_is_not_written() -> None:
    with pytest.raises(DumpError, match="checksum"):
        write_entry(b"k", 0, NO_EXPIRY, b"\x00\x01a" + bytes(10), GENERATED_MS)


@pytest.mark.parametrize(
    ("left_ms", "ttl"), [(1, 1), (400, 1), (1000, 1), (1001, 2), (-5, 1), (-90_000, 1), (3_600_000, 3600)]
)
def test_seed_defect_07_a_key_that_is_about_to_expire_is_never_written_as_ttl_0(left_ms: int, ttl: int) -> None:
    data = chunk_of({b"k": (GENERATED_MS + left_ms, encode(StringValue(b"v"), 9))}, now_ms=GENERATED_MS + 999)
    assert json.loads(data)["data"]["k"]["ttl"] == ttl
    assert [item.expires_ms for item in read(data)] == [GENERATED_MS + left_ms]


def test_seed_defect_07_ttl_0_in_a_file_is_less_than_a_second_not_forever() -> None:
    assert only("string", text("v"), 0).expires_ms == GENERATED_MS + 1000


def test_seed_defect_08_expiry_is_absolute_from_the_moment_of_the_file() -> None:
    assert only("string", text("v"), 100).expires_ms == GENERATED_MS + 100_000


@pytest.mark.parametrize(
    "entries", [{"k": {"type": "string", "value": text("v")}}, {"k": entry("string", text("v"), None)}]
)
def test_a_key_without_ttl_does_not_expire(entries: dict[str, Any]) -> None:
    (found,) = read(seed_chunk(entries))
    assert found.expires_ms == NO_EXPIRY


def test_seed_defect_03_parts_are_read_in_numeric_order() -> None:
    files = [f"redis_backup_db{db}_part_{number}.json" for db in (0, 10, 2) for number in (12, 9, 1, 100)]
    found = in_order([*files, "redis_backup_db0_part_1.json.tmp", "redis_backup_db0_part_01.json", "other.json"])
    assert found == [Part(db, number) for db in (0, 2, 10) for number in (1, 9, 12, 100)]
    assert [part.file for part in found[:2]] == ["redis_backup_db0_part_1.json", "redis_backup_db0_part_9.json"]


def test_seed_defect_10_binary_keys_and_fields_are_decoded() -> None:
    value = one({"__b64_key__//4=": entry("hash", {"__b64_field__/w==": {"_t": "b64", "v": "/w=="}})}, b"\xff\xfe")
    assert value == HashValue(((b"\xff", b"\xff", None),))


def test_seed_defect_12_names_of_fields_are_bytes_as_in_the_server() -> None:
    assert one({"k": entry("hash", {"käse": text("1")})}) == HashValue((("käse".encode(), b"1", None),))


def test_seed_defect_13_a_stream_without_our_members_gets_what_its_entries_tell() -> None:
    value = one({"k": entry("stream", [["1-0", {"f": text("v")}], ["3-1", {"__b64_field__/w==": text("")}]])})
    entries = (StreamEntry(StreamId(1, 0), ((b"f", b"v"),)), StreamEntry(StreamId(3, 1), ((b"\xff", b""),)))
    assert value == StreamValue(entries, StreamId(3, 1), StreamId(0, 0), 2, ())
    assert one({"k": entry("stream", [])}) == StreamValue((), StreamId(0, 0), StreamId(0, 0), 0, ())


def test_seed_defect_18_a_key_that_was_gone_when_it_was_read_is_absent() -> None:
    assert only("string", text(""), -2) == Found(b"k", NO_EXPIRY, None, None)


@pytest.mark.parametrize("scores", [[1, -2.5, INF, -INF], [1, -2.5, "inf", "-inf"]])
def test_seed_defect_20_infinite_scores_are_read_in_both_spellings(scores: list[Any]) -> None:
    value = one({"k": entry("zset", [[text(str(number)), score] for number, score in enumerate(scores)])})
    assert value == SortedSetValue(((b"0", 1.0), (b"1", -2.5), (b"2", INF), (b"3", -INF)))


def test_seed_defect_20_what_is_written_is_json_that_every_parser_reads() -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    data = chunk_of({name.encode(): (NO_EXPIRY, encode(value, 80)) for name, value in VALUES.items()})
    keys = json.loads(data, parse_constant=refuse)["data"]
    assert [score for _, score in keys["zset"]["value"]][:3] == [1.5, "inf", "-inf"]


@pytest.mark.parametrize(
    ("kind", "value", "reason"),
    [
        ("string", None, "null"),
        ("ReJSON-RL", None, "ReJSON-RL"),
        ("hash", {}, "every hash as empty"),
        ("list", [], "without elements"),
        ("list", {"a": text("1")}, "another type"),
        ("string", ["a"], "another type"),
        ("unheard", text("a"), "no dump"),
        (["list"], text("a"), "no dump"),
    ],
)
def test_a_key_without_a_value_is_skipped_with_a_reason(kind: Any, value: Any, reason: str) -> None:
    found = only(kind, value, 5)
    assert found.payload is None
    assert reason in (found.reason or "")


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("string", {"_t": "hex", "v": "00"}),
        ("string", {"_t": "b64", "v": "%"}),
        ("string", {"_t": "str", "v": "\ud800"}),
        ("list", [1]),
        ("zset", [[text("a"), "nan"]]),
        ("zset", [[text("a"), float("nan")]]),
        ("zset", [[text("a"), True]]),
        ("zset", [[text("a")]]),
        ("zset", ["a"]),
        ("hash", {"a": "b"}),
        ("stream", [["1", {}]]),
        ("stream", [["2-0", {}], ["1-0", {}]]),
        ("stream", [["18446744073709551616-0", {}]]),
        ("stream", [["1-0", []]]),
        ("stream", [7]),
    ],
)
def test_a_value_of_no_sense_is_an_error_that_names_file_and_key(kind: str, value: Any) -> None:
    data = {"_meta": {"generated_at": GENERATED}, "data": {"k": entry(kind, value)}}
    with pytest.raises(SeedFileError, match=r"redis_backup_db3_part_1\.json, key 'k'"):
        read(json.dumps(data).encode())


@pytest.mark.parametrize(
    "members", [{"ttl": -7}, {"ttl": "5"}, {"ttl": True}, {"expires_ms": -5}, {"dump": "AAAA"}, {"db": 4}]
)
def test_a_member_of_no_sense_is_an_error(members: dict[str, Any]) -> None:
    with pytest.raises(SeedFileError, match="key 'k'"):
        read(seed_chunk({"k": entry("string", text("v")) | members}))


STREAM_MEMBERS = {"last_id": "1-0", "max_deleted_id": "0-0", "entries_added": 1, "groups": [], "repeated": {}}


@pytest.mark.parametrize(
    "members",
    [
        {"last_id": "0-1"},
        {"entries_added": -1},
        {"groups": [{"name": text("g")}]},
        {"groups": 5},
        {"repeated": {"1-0": [5]}},
        {"max_deleted_id": None},
    ],
)
def test_members_of_a_stream_of_no_sense_are_an_error(members: dict[str, Any]) -> None:
    stream = entry("stream", [["1-0", {"f": text("v")}]]) | {"stream": STREAM_MEMBERS | members}
    with pytest.raises(SeedFileError, match="key 'k'"):
        read(seed_chunk({"k": stream}))


def test_a_file_cut_off_anywhere_is_an_error_that_names_it() -> None:
    data = seed_chunk({"k": entry("string", text("v"))}).rstrip()
    for end in range(len(data)):
        with pytest.raises(SeedFileError, match=r"redis_backup_db3_part_1\.json"):
            read_chunk(data[:end], PART)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"[]", "not an object"),
        (b"\xff\xfe{", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'{"data": {}}', "no _meta"),
        (b'{"_meta": {"generated_at": "yesterday"}, "data": {}}', "when it was made"),
        (b'{"_meta": {}, "data": {}}', "when it was made"),
        (seed_chunk({}, keys_in_chunk=3), "has 0"),
        (seed_chunk({}, db=4), "renamed"),
    ],
)
def test_what_is_no_chunk_is_an_error_that_names_the_file(data: bytes, what: str) -> None:
    with pytest.raises(SeedFileError, match=rf"redis_backup_db3_part_1\.json.*{what}"):
        read_chunk(data, PART)


def test_unknown_members_are_ignored() -> None:
    data = {"k": entry("string", text("v")) | {"size": 5}}
    assert [item.key for item in read(seed_chunk(data, tool="x"))] == [b"k"]


def test_the_manifest_tells_files_and_functions() -> None:
    functions = sealed(b"\xf5\x03lua", 11)
    for held in (None, functions, sealed(b"", 11)):
        assert read_manifest(write_manifest(GENERATED_MS, {"a": 1}, held)) == ({"a": 1}, held)
    damaged = base64.b64encode(functions[:-1] + b"\0").decode()
    for text_ in ('{"files": 1}', '{"files": {}, "format": "other"}', json.dumps({"files": {}, "functions": damaged})):
        with pytest.raises(SeedFileError, match=r"cachekeep_export\.json"):
            read_manifest(text_.encode())
