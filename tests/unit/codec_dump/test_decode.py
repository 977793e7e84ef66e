"""The decoder on payloads as servers wrote them, and on all that is almost one."""

from __future__ import annotations

import random
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from payloads import Sample, samples

from cachekeep.codec.dump import (
    DumpError,
    HashValue,
    IllegalValue,
    ListValue,
    ModuleValue,
    SetValue,
    SortedSetValue,
    StreamValue,
    canonical,
    decode,
    digest,
    rdb_version,
    with_version,
)
from cachekeep.codec.dump.decode import _DECODERS
from cachekeep.codec.dump.footer import sealed

SAMPLES = samples()
each_sample = pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)


def flips(body: bytes) -> list[int]:
    """Which bits to flip: all, or of a long payload every fifth, which are all places within a byte in turn."""
    return list(range(0, len(body) * 8, 1 if len(body) < 100 else 5))


def value_or_error(payload: bytes) -> object:
    """Decode; the only exception that may come is DumpError."""
    try:
        value = decode(payload)
    except DumpError:
        return None
    assert canonical(value)
    return value


def test_there_is_a_sample_of_every_type() -> None:
    assert {sample.payload[0] for sample in SAMPLES} == set(_DECODERS)


@each_sample
def test_the_meaning_of_a_payload_does_not_change_between_versions_of_this_code(sample: Sample) -> None:
    assert digest(decode(sample.payload)) == sample.digest


def test_one_value_has_one_digest_in_all_encodings() -> None:
    digests: dict[str, set[bytes]] = {}
    for sample in SAMPLES:
        key = sample.name.split(": ")[1].split(" of ")[0]
        if not key.startswith("stream:"):  # the clock is in them
            digests.setdefault(key, set()).add(digest(decode(sample.payload)))
    assert {key: len(found) for key, found in digests.items() if len(found) != 1} == {}


@each_sample
def test_a_payload_cut_off_anywhere_is_refused(sample: Sample) -> None:
    body = sample.payload[:-10]
    for end in range(len(sample.payload)):
        with pytest.raises(DumpError):
            decode(sample.payload[:end])
    for end in range(1, len(body)):
        found = value_or_error(sealed(body[:end], 80))
        assert found is None or sample.payload[0] == 6  # the module's own business: it has no inner end


@each_sample
def test_bytes_after_the_value_are_refused(sample: Sample) -> None:
    if sample.payload[0] != 6:
        with pytest.raises(DumpError):
            decode(sealed(sample.payload[:-10] + b"\0", 80))


@each_sample
def test_every_flipped_bit_is_found_by_the_checksum(sample: Sample) -> None:
    for at in flips(sample.payload):
        flipped = bytearray(sample.payload)
        flipped[at // 8] ^= 1 << at % 8
        with pytest.raises(DumpError):
            decode(bytes(flipped))


@each_sample
def test_flipped_bits_under_a_right_checksum_are_a_value_or_an_error(sample: Sample) -> None:
    body = sample.payload[:-10]
    for at in flips(body):
        flipped = bytearray(body)
        flipped[at // 8] ^= 1 << at % 8
        value_or_error(sealed(bytes(flipped), 80))


@each_sample
def test_random_damage_under_a_right_checksum_is_a_value_or_an_error(sample: Sample) -> None:
    chance = random.Random(sample.name)
    for _ in range(60):
        body = bytearray(sample.payload[:-10])
        for _ in range(chance.randint(1, 4)):
            at = chance.randrange(len(body))
            match chance.randrange(3):
                case 0:
                    body[at] = chance.choice((0, 1, 0x3F, 0x40, 0x80, 0x81, 0xC3, 0xF0, 0xF4, 0xFE, 0xFF))
                case 1:
                    del body[at : at + chance.randint(1, 3)]
                case _:
                    body[at:at] = chance.randbytes(chance.randint(1, 9))
            body = body or bytearray(b"\0")
        value_or_error(sealed(bytes(body), 80))


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(_DECODERS)), st.binary(max_size=120))
def test_random_bytes_of_every_type_are_a_value_or_an_error(rdb_type: int, rest: bytes) -> None:
    value_or_error(sealed(bytes([rdb_type]) + rest, 80))


@given(st.binary(max_size=60))
def test_random_bytes_are_an_error(payload: bytes) -> None:
    with pytest.raises(DumpError):
        decode(payload)


@pytest.mark.parametrize("rdb_type", sorted(_DECODERS))
@pytest.mark.parametrize(
    "lie",
    [
        b"\x81" + b"\xff" * 8,
        b"\x81\x7f" + b"\xff" * 7,
        b"\x80\xff\xff\xff\xff",
        b"\xc3\x80\x20\x00\x00\x00\x80\x20\x00\x00\x00",
        b"\xc3\x05\x80\x1f\xff\xff\xff\x00a\xe0\xff\x00",
        b"\x01\x80\xff\xff\xff\xf0",
    ],
)
def test_a_lie_about_size_costs_no_memory(rdb_type: int, lie: bytes) -> None:
    payload = sealed(bytes([rdb_type]) + lie + b"\x01" * 100, 80)
    tracemalloc.start()
    try:
        value_or_error(payload)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


def test_a_type_above_21_means_another_thing_to_redis() -> None:
    body = b"\x16\x01\x01a\x01b" + b"\xff" * 8
    assert decode(sealed(body, 80)) == HashValue(((b"a", b"b", None),))
    with pytest.raises(DumpError, match="type 22 of RDB version 12"):
        decode(sealed(body, 12))


@pytest.mark.parametrize(
    "body",
    [
        b"\x01\x00",
        b"\x02\x00",
        b"\x02\x02\x01a\x01a",
        b"\x05\x01\x01a" + b"\0" * 6 + b"\xf8\x7f",
        b"\x03\x01\x01a\xfd",
        b"\x03\x01\x01a\x031_0",
        b"\x04\x02\x01a\x01b\x01a\x01c",
        b"\x16\x01\x01a\x01b" + b"\xfe" + b"\xff" * 7,
    ],
    ids=[
        "an empty list",
        "an empty set",
        "a member twice",
        "a score that is no number",
        "the same as text",
        "a score only Python reads",
        "a field twice",
        "an expiry below -1",
    ],
)
def test_what_no_server_holds_is_refused(body: bytes) -> None:
    with pytest.raises(DumpError):
        decode(sealed(body, 80))


def test_a_module_keeps_its_name_and_parts() -> None:
    value = decode(next(s.payload for s in SAMPLES if s.payload[0] == 7))
    assert isinstance(value, ModuleValue)
    assert (value.name, value.encoding_version) == ("ReJSON-RL", 3)
    assert value.parts == ((1, -7), (2, 7), (3, b"\0\0\x80?"), (4, b"\0\0\0\0\0\0\xf0?"), (5, b"{}"))


def test_footer_patch() -> None:
    payload = SAMPLES[0].payload
    patched = with_version(payload, 80)
    assert rdb_version(patched) == 80
    assert digest(decode(patched)) == SAMPLES[0].digest
    assert with_version(patched, rdb_version(payload)) == payload
    with pytest.raises(DumpError, match="checksum"):
        with_version(b"\x01" + payload[1:], 11)
    assert decode(b"\0\x01a" + bytes(10), verify_checksum=False)


def test_illegal_values_cannot_be_built() -> None:
    for build in (
        lambda: ListValue(()),
        lambda: SetValue(frozenset()),
        lambda: SortedSetValue(((b"a", float("nan")),)),
        lambda: HashValue(((b"a", b"", None), (b"a", b"", None))),
    ):
        with pytest.raises(IllegalValue):
            build()


def test_a_stream_as_it_was_written() -> None:
    value = decode(next(s.payload for s in SAMPLES if s.name.startswith("type 21: stream:groups")))
    assert isinstance(value, StreamValue)
    group = {group.name: group for group in value.groups}[b"readers"]
    assert [bytes(ghost) for ghost in value.ghosts] == [b"1000-1", b"4000-1", b"8000-2"]
    assert bytes(value.max_deleted_id) == b"11000-2"
    assert bytes(value.entries[-1].id) == b"18446744073709551000-7"
    assert (value.entries_added, len(value.entries)) == (14, 10)
    assert [(bytes(p.id), p.consumer, p.delivered_ms, p.delivery_count) for p in group.pending if p.id.ms == 2000] == [
        (b"2000-2", b"two", 1234567890123, 9)
    ]
    assert {consumer.name for consumer in group.consumers} == {b"one", b"two", b"never"}
