"""Commands, targets and meanings, without a server."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from payloads import samples

from cachekeep.codec.dump import (
    HashValue,
    ListValue,
    SetValue,
    SortedSetValue,
    StreamEntry,
    StreamGroup,
    StreamId,
    StreamValue,
    StringValue,
    Target,
    Unrepresentable,
    canonical,
    commands,
    decode,
    digest,
    loadable,
    rdb_version_of,
)
from cachekeep.domain.engine import Engine, EngineVersion


def target(engine: str, version: str) -> Target:
    return Target(Engine(engine), EngineVersion.parse(version))


REDIS62, REDIS70, VALKEY81, VALKEY91 = (
    target("redis", "6.2.5"),
    target("redis", "7.0.15"),
    target("valkey", "8.1"),
    target("valkey", "9.1.2"),
)
VOLATILE = HashValue(((b"a", b"1", 5), (b"b", b"2", None), (b"c", b"3", 5)))


@pytest.mark.parametrize(
    ("server", "version"),
    [
        (target("redis", "4.0.14"), 8),
        (target("redis", "6.0"), 9),
        (REDIS62, 9),
        (REDIS70, 10),
        (target("redis", "7.2"), 11),
        (target("redis", "8.2"), 11),
        (target("valkey", "7.2"), 11),
        (VALKEY81, 11),
        (target("valkey", "9.0"), 80),
        (VALKEY91, 80),
    ],
)
def test_rdb_version_of_a_target(server: Target, version: int) -> None:
    assert rdb_version_of(server) == version


def test_too_old_a_target() -> None:
    with pytest.raises(Unrepresentable, match="too old"):
        rdb_version_of(target("redis", "3.2"))
    with pytest.raises(Unrepresentable, match=r"streams are not written to Redis 5\.0"):
        commands(b"k", StreamValue((), StreamId(0, 0), StreamId(0, 0), 0, ()), target("redis", "5.0"))
    with pytest.raises(ValueError, match="no DUMP"):
        target("memcached", "1.6")


@pytest.mark.parametrize(
    ("server", "types"),
    [
        (REDIS62, {*range(6), 7, *range(9, 16)}),
        (REDIS70, {*range(6), 7, *range(9, 20)}),
        (VALKEY81, {*range(6), 7, *range(9, 22)}),
        (VALKEY91, {*range(6), 7, *range(9, 23)}),
        (target("redis", "8.0"), {*range(6), 7, *range(9, 22)}),
    ],
)
def test_loadable_types(server: Target, types: set[int]) -> None:
    assert {rdb_type for rdb_type in range(256) if loadable(rdb_type, server)} == types


def test_fields_that_expire() -> None:
    made = [
        [b"HSET", b"k", b"a", b"1", b"b", b"2", b"c", b"3"],
        [b"HPEXPIREAT", b"k", b"5", b"FIELDS", b"2", b"a", b"c"],
    ]
    assert commands(b"k", VOLATILE, VALKEY91) == made
    assert commands(b"k", VOLATILE, target("redis", "7.4")) == made
    for old in (REDIS62, REDIS70, VALKEY81):
        with pytest.raises(Unrepresentable, match="has no fields that expire"):
            commands(b"k", VOLATILE, old)


def test_a_modules_value_is_refused_by_name() -> None:
    value = decode(next(s.payload for s in samples() if s.payload[0] == 7))
    with pytest.raises(Unrepresentable, match="ReJSON-RL"):
        commands(b"k", value, VALKEY91)


def test_scores_are_written_exactly() -> None:
    value = SortedSetValue(((b"a", 0.1), (b"b", float("-inf")), (b"c", 5e-324), (b"d", -0.0)))
    assert commands(b"k", value, REDIS62) == [
        [b"ZADD", b"k", b"0.1", b"a", b"-inf", b"b", b"5e-324", b"c", b"-0.0", b"d"]
    ]


@pytest.mark.parametrize("size", [1, 1998, 1999, 3993, 3994, 3996, 3997, 9000])
def test_long_values_are_written_in_chunks(size: int) -> None:
    names = [b"%d" % i for i in range(size)]
    volatile = HashValue(tuple((name, b"", 7) for name in names))
    for value in (ListValue(tuple(names)), SetValue(frozenset(names)), volatile):
        made = commands(b"k", value, VALKEY91)
        assert all(len(command) <= 3998 for command in made)
    assert [word for command in commands(b"k", ListValue(tuple(names)), REDIS62) for word in command[2:]] == names
    fields = [word for command in commands(b"k", volatile, VALKEY91) if command[0] == b"HSET" for word in command[2::2]]
    expiring = [
        word for command in commands(b"k", volatile, VALKEY91) if command[0] == b"HPEXPIREAT" for word in command[5:]
    ]
    assert fields == expiring == names


def test_large_items_are_written_in_commands_of_a_bounded_size() -> None:
    value = ListValue((b"x" * (3 << 20),) * 3 + (b"y",))
    assert [len(command) for command in commands(b"k", value, REDIS62)] == [3, 3, 4]


def test_an_empty_stream_is_made_by_a_group_whose_name_is_free() -> None:
    group = StreamGroup(b"cachekeep", StreamId(1, 1), None, (), ())
    value = StreamValue((), StreamId(7, 7), StreamId(5, 0), 3, (group,))
    assert commands(b"k", value, REDIS70) == [
        [b"XGROUP", b"CREATE", b"k", b"cachekeep'", b"0", b"MKSTREAM"],
        [b"XGROUP", b"DESTROY", b"k", b"cachekeep'"],
        [b"XSETID", b"k", b"7-7", b"ENTRIESADDED", b"3", b"MAXDELETEDID", b"5-0"],
        [b"XGROUP", b"CREATE", b"k", b"cachekeep", b"1-1"],
    ]
    assert commands(b"k", value, REDIS62)[2] == [b"XSETID", b"k", b"7-7"]


def test_entries_that_no_command_adds() -> None:
    for entry in (StreamEntry(StreamId(1, 1), ()), StreamEntry(StreamId(0, 0), ((b"f", b"v"),))):
        with pytest.raises(Unrepresentable, match="no command adds"):
            commands(b"k", StreamValue((entry,), StreamId(9, 9), StreamId(0, 0), 1, ()), VALKEY91)


def test_meaning_ignores_order_where_there_is_none() -> None:
    assert canonical(HashValue(VOLATILE.fields[::-1])) == canonical(VOLATILE)
    one, other = SortedSetValue(((b"a", 0.0), (b"b", 1.0))), SortedSetValue(((b"b", 1.0), (b"a", -0.0)))
    assert canonical(one) == canonical(other)
    assert digest(one) == digest(other)


stream = next(decode(s.payload) for s in samples() if s.name.startswith("type 21: stream:groups"))
assert isinstance(stream, StreamValue)
GROUP = stream.groups[0]


@pytest.mark.parametrize(
    "changed",
    [
        replace(stream, last_id=StreamId(stream.last_id.ms, stream.last_id.seq + 1)),
        replace(stream, entries_added=99),
        replace(stream, entries=stream.entries[:-1]),
        replace(stream, max_deleted_id=StreamId(11_000, 3)),
        replace(stream, groups=stream.groups[1:]),
        replace(stream, groups=(replace(GROUP, last_id=StreamId(1, 2)), *stream.groups[1:])),
        replace(stream, groups=(replace(GROUP, entries_read=99), *stream.groups[1:])),
        replace(stream, groups=(replace(GROUP, pending=GROUP.pending[1:]), *stream.groups[1:])),
    ],
)
def test_every_part_of_a_stream_is_part_of_its_meaning(changed: StreamValue) -> None:
    assert digest(changed) != digest(stream)


def test_when_a_consumer_was_seen_is_not_part_of_the_meaning() -> None:
    consumers = tuple(consumer._replace(seen_ms=1, active_ms=None) for consumer in GROUP.consumers)
    assert digest(replace(stream, groups=(replace(GROUP, consumers=consumers), *stream.groups[1:]))) == digest(stream)


def test_different_values_never_share_a_canonical_form() -> None:
    values = [
        StringValue(b"1:a"),
        ListValue((b"a",)),
        ListValue((b"a", b"1:a")),
        ListValue((b"a1:a",)),
        ListValue((b"b", b"a")),
        ListValue((b"a", b"b")),
        SetValue(frozenset((b"a", b"b"))),
        SortedSetValue(((b"a", 1.0),)),
        SortedSetValue(((b"a", 1.0000000000000002),)),
        HashValue(((b"a", b"1", None),)),
        HashValue(((b"a", b"1", 1),)),
    ]
    assert len({canonical(value) for value in values}) == len(values)


@given(st.lists(st.binary(max_size=3), min_size=1), st.lists(st.binary(max_size=3), min_size=1))
def test_lists_are_equal_in_meaning_only_when_equal(one: list[bytes], other: list[bytes]) -> None:
    assert (canonical(ListValue(tuple(one))) == canonical(ListValue(tuple(other)))) == (one == other)
