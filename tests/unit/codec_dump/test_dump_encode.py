"""What is encoded decodes to the same, for any value; and values too big for objects are built from pages."""

from __future__ import annotations

import random
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from payloads import Sample, samples

from cachekeep.codec.dump import (
    Checksum,
    Consumer,
    HashValue,
    IllegalValue,
    ListValue,
    ModuleValue,
    PayloadBuilder,
    Pending,
    SetValue,
    SortedSetValue,
    StreamEntry,
    StreamGroup,
    StreamId,
    StreamValue,
    StringValue,
    Unrepresentable,
    Value,
    canonical,
    crc64,
    decode,
    encode,
    least_version,
    rdb_version,
)

SAMPLES = samples()
U64 = st.integers(0, 2**64 - 1)
MOMENTS = st.integers(0, 2**62)
# Sizes around every change of layout: 6, 14, 32 bits of length, 6 and 12 bits in a listpack.
words = st.binary(max_size=9) | st.sampled_from([63, 64, 4095, 4096, 16383, 16384]).map(lambda size: b"w" * size)
ids = st.builds(StreamId, U64 | st.integers(0, 300), U64 | st.integers(0, 300))


@st.composite
def streams(draw: st.DrawFn) -> StreamValue:
    fields = st.lists(st.tuples(words, words), min_size=1, max_size=3).map(tuple)
    shared = draw(fields)
    found = sorted(draw(st.sets(ids, max_size=8)))
    entries = tuple(StreamEntry(one, draw(st.just(shared) | fields)) for one in found)
    last_id = max([draw(ids), *found])
    groups = tuple(draw(groups_named(name)) for name in draw(st.sets(words, max_size=2)))
    return StreamValue(entries, last_id, draw(ids), draw(st.integers(0, 2**63)), groups)


@st.composite
def groups_named(draw: st.DrawFn, name: bytes) -> StreamGroup:
    consumers = tuple(
        Consumer(consumer, draw(MOMENTS), draw(st.none() | MOMENTS)) for consumer in draw(st.sets(words, max_size=3))
    )
    pending = tuple(
        Pending(one, draw(st.sampled_from(consumers)).name, draw(MOMENTS), draw(U64))
        for one in sorted(draw(st.sets(ids, max_size=5 if consumers else 0)))
    )
    return StreamGroup(name, draw(ids), draw(st.none() | st.integers(0, 2**62)), pending, consumers)


values: st.SearchStrategy[Value] = st.one_of(
    words.map(StringValue),
    st.lists(words, min_size=1).map(tuple).map(ListValue),
    st.frozensets(words, min_size=1).map(SetValue),
    st.dictionaries(words, st.floats(allow_nan=False), min_size=1).map(lambda one: SortedSetValue(tuple(one.items()))),
    st.dictionaries(words, st.tuples(words, st.none() | MOMENTS), min_size=1).map(
        lambda one: HashValue(tuple((name, *rest) for name, rest in one.items()))
    ),
    streams(),
)


@given(values)
@settings(max_examples=80, deadline=None)
def test_a_value_decodes_to_itself(value: Value) -> None:
    for version in {least_version(value), 80}:
        payload = encode(value, version)
        assert rdb_version(payload) == version
        assert canonical(decode(payload)) == canonical(value)


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
def test_what_a_server_dumped_is_encoded_without_loss(sample: Sample) -> None:
    value = decode(sample.payload)
    assert decode(encode(value, least_version(value))) == value
    assert decode(encode(value, 80)) == value


def test_types_are_those_that_the_version_knows() -> None:
    stream = StreamValue((), StreamId(5, 1), StreamId(0, 0), 0, ())
    assert [encode(stream, version)[0] for version in (9, 10, 11, 80)] == [15, 19, 21, 21]
    kinds: list[Value] = [
        StringValue(b""),
        ListValue((b"a",)),
        SetValue(frozenset([b"a"])),
        SortedSetValue(((b"a", 1.0),)),
        HashValue(((b"a", b"b", None),)),
    ]
    assert [encode(value, 9)[0] for value in kinds] == [0, 1, 2, 5, 4]


def test_fields_that_expire_need_rdb_80() -> None:
    value = HashValue(((b"a", b"1", None), (b"b", b"2", 5)))
    assert least_version(value) == 80
    assert encode(value, 80)[0] == 22
    with pytest.raises(Unrepresentable, match="80 is the first"):
        encode(value, 11)


@pytest.mark.parametrize("value", [StringValue(b"a"), ListValue((b"a",)), HashValue(((b"a", b"", None),))])
def test_versions_before_9_are_not_written(value: Value) -> None:
    with pytest.raises(Unrepresentable, match="version 8 is too old"):
        encode(value, 8)


@pytest.mark.parametrize("counters", [(0, 3), (9, 1)])
def test_a_stream_needs_rdb_10_when_its_counters_cannot_be_derived(counters: tuple[int, int]) -> None:
    entry = StreamEntry(StreamId(3, 0), ((b"f", b"v"),))
    assert least_version(StreamValue((entry,), StreamId(3, 0), StreamId(0, 0), 1, ())) == 9
    deleted, added = counters
    assert least_version(StreamValue((entry,), StreamId(3, 0), StreamId(deleted, 0), added, ())) == 10
    active = StreamGroup(b"g", StreamId(0, 0), 0, (), (Consumer(b"c", 5, 5),))
    assert least_version(StreamValue((entry,), StreamId(3, 0), StreamId(0, 0), 1, (active,))) == 11


def test_values_of_modules_are_kept_bit_by_bit() -> None:
    parts = ((1, -5), (2, 2**64 - 1), (3, struct.pack("<f", 1.5)), (4, struct.pack("<d", 2.5)), (5, b"text"))
    value = ModuleValue(0x1234567890ABCDEF, parts)
    assert decode(encode(value, 9)) == value


@given(st.lists(st.tuples(words, words, st.none() | MOMENTS), min_size=1), st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_the_first_of_two_equal_names_counts(fields: list[tuple[bytes, bytes, int | None]], page: int) -> None:
    first: dict[bytes, tuple[bytes, int | None]] = {}
    for name, content, expire_ms in fields:
        first.setdefault(name, (content, expire_ms))
    builder = PayloadBuilder("hash")
    for start in range(0, len(fields), page):
        builder.add(fields[start : start + page])
    assert builder.count == len(first)
    expected = HashValue(tuple((name, *rest) for name, rest in first.items()))
    assert decode(builder.payload(80)) == expected
    members, scores = PayloadBuilder("set"), PayloadBuilder("zset")
    members.add(name for name, _, _ in fields)
    scores.add((name, float(number)) for number, (name, _, _) in enumerate(fields))
    assert decode(members.payload(9)) == SetValue(frozenset(first))
    found = decode(scores.payload(9))
    assert isinstance(found, SortedSetValue)
    assert [name for name, _ in found.items] == list(first)


def test_lists_keep_equal_elements_and_strings_are_joined() -> None:
    items, text = PayloadBuilder("list"), PayloadBuilder("string")
    items.add([b"a", b"a"])
    items.add([b"b", b"a"])
    text.add([b"x" * 20_000])
    text.add([b"", b"y"])
    assert (items.count, text.count) == (4, 20_001)
    assert decode(items.payload(9)) == ListValue((b"a", b"a", b"b", b"a"))
    assert decode(text.payload(9)) == StringValue(b"x" * 20_000 + b"y")
    assert decode(PayloadBuilder("string").payload(9)) == StringValue(b"")


@pytest.mark.parametrize("kind", ["list", "set", "zset", "hash"])
def test_a_collection_without_elements_is_not_built(kind: str) -> None:
    with pytest.raises(IllegalValue, match="without elements"):
        PayloadBuilder(kind).payload(9)  # type: ignore[arg-type]


def test_a_score_that_is_not_a_number_is_refused() -> None:
    with pytest.raises(IllegalValue, match="not a number"):
        PayloadBuilder("zset").add([(b"a", float("nan"))])


def test_many_fields_are_built_from_pages() -> None:
    builder = PayloadBuilder("hash")
    for page in range(0, 100_000, 1000):
        builder.add([(b"field:%d" % number, b"%015d" % number) for number in range(page, page + 1000)])
    builder.add([(b"field:7", b"again")])
    payload = builder.payload(9)
    assert builder.count == 100_000
    assert payload[:6] == b"\x04\x80" + (100_000).to_bytes(4, "big")
    assert int.from_bytes(payload[-8:], "little") == crc64(payload[:-8])


def test_a_checksum_in_parts_is_the_checksum() -> None:
    chance = random.Random(7)
    for size in (0, 1, 7, 8, 9, 131_071, 131_072, 131_079, 131_080, 400_001):
        data, at, checksum = chance.randbytes(size), 0, Checksum()
        while at < size:
            part = chance.choice((1, 5, 100, 70_000, 131_072, 200_000))
            checksum.update(memoryview(data)[at : at + part])
            at += part
        assert checksum.value() == crc64(data)
        assert checksum.value() == crc64(data), "asking twice changes nothing"
