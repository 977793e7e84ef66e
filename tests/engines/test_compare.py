"""Judging one key: what is the same, what is not, and what counts once. Payloads are those of real servers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from backup_samples import BINARY, NOISE, fill_all_types, keys_of, raw, records_of, tombstone, upsert
from hypothesis import given
from hypothesis import strategies as st

from cachekeep.backup.compare import Judge, Verdict
from cachekeep.backup.ledger import Ledger
from cachekeep.backup.tables import same_table
from cachekeep.codec.dump import Target, decode
from cachekeep.codec.dump.footer import sealed
from cachekeep.codec.record import NO_EXPIRY
from cachekeep.domain.engine import Engine, EngineVersion
from cachekeep.domain.remote import Refusal

NOW_MS = 1_800_000_000_000
JUDGE = Judge(Target(Engine.VALKEY, EngineVersion.parse("9.1.2")))
ONE, OTHER, LIST = sealed(b"\x00\x011", 11), sealed(b"\x00\x012", 11), sealed(b"\x01\x01\x011", 11)


@pytest.mark.parametrize(
    ("expires_ms", "theirs", "their_expiry", "verdict"),
    [
        (NO_EXPIRY, ONE, NO_EXPIRY, Verdict.SAME),
        (NO_EXPIRY, sealed(ONE[:-10], 9), NO_EXPIRY, Verdict.SAME),
        (NO_EXPIRY, OTHER, NO_EXPIRY, Verdict.VALUE),
        (NO_EXPIRY, LIST, NO_EXPIRY, Verdict.TYPE),
        (NO_EXPIRY, ONE, NOW_MS + 9, Verdict.EXPIRY),
        (NOW_MS + 9, ONE, NO_EXPIRY, Verdict.EXPIRY),
        (NOW_MS + 9, ONE, NOW_MS + 10, Verdict.EXPIRY),
        (NOW_MS + 9, ONE, NOW_MS + 9, Verdict.SAME),
        (NO_EXPIRY, None, -2, Verdict.MISSING),
        (NOW_MS, None, -2, Verdict.EXPIRED),
        (NOW_MS, ONE, NO_EXPIRY, Verdict.OUTLIVED),
        (NO_EXPIRY, Refusal("NOPERM no"), -2, Verdict.UNREAD),
    ],
)
def test_verdicts(expires_ms: int, theirs: Any, their_expiry: int, verdict: Verdict) -> None:
    assert JUDGE.verdict(upsert(b"k", ONE, expires_ms=expires_ms), theirs, their_expiry, NOW_MS) is verdict


def test_a_tombstone_is_no_key() -> None:
    assert JUDGE.verdict(tombstone(b"k"), ONE, NO_EXPIRY, NOW_MS) is Verdict.ABSENT


def test_a_tolerance_is_never_one_between_never_and_a_moment() -> None:
    judge = Judge(JUDGE.target, tolerance_ms=50)
    record = upsert(b"k", ONE, expires_ms=NOW_MS + 100)
    assert judge.verdict(record, ONE, NOW_MS + 150, NOW_MS) is Verdict.SAME
    assert judge.verdict(record, ONE, NOW_MS + 151, NOW_MS) is Verdict.EXPIRY
    assert judge.verdict(record, ONE, NO_EXPIRY, NOW_MS) is Verdict.EXPIRY


def test_every_value_is_the_same_on_another_server_and_not_after_any_change(
    start_server: Callable[..., Any], client: Callable[..., Any]
) -> None:
    one, other = raw(client(start_server("9.1"))), raw(client(start_server("9.1")))
    for c in (one, other):
        fill_all_types(c, "9.1")
    ours = {record.key: record for record in records_of(one, "9.1")}
    changes = {
        b"string": "APPEND",
        b"list": "RPUSH",
        b"set": "SADD",
        b"zset": "ZADD",
        b"hash": "HSET",
        b"stream": "XADD",
    }
    words = {
        "APPEND": ("!",),
        "RPUSH": ("!",),
        "SADD": ("!",),
        "ZADD": (7, "!"),
        "HSET": ("!", 1),
        "XADD": ("*", "!", 1),
    }
    times = {b"stream"}  # pending entries carry the moment of their delivery
    for key in keys_of(other):
        theirs = other.execute_command("DUMP", key)
        assert JUDGE.same_value(ours[key].payload, theirs, NOW_MS) or key in times, key
        command = changes[other.execute_command("TYPE", key)]
        other.execute_command(command, key, *words[command])
        assert not JUDGE.same_value(ours[key].payload, other.execute_command("DUMP", key), NOW_MS), key


def _encoded(elements: list[bytes], kind: int) -> bytes:
    count = len(elements) // (2 if kind == 4 else 1)
    body = b"".join(_string(element) for element in elements)
    return sealed(
        bytes((kind,)) + (bytes((count,)) if count < 64 else bytes((64 | count >> 8, count & 255))) + body, 10
    )


def _string(data: bytes) -> bytes:
    size = len(data)
    return (bytes((size,)) if size < 64 else bytes((64 | size >> 8, size & 255))) + data


elements = st.lists(st.binary(max_size=100), min_size=1, max_size=90, unique=True)


@given(elements, elements, st.randoms())
def test_the_short_way_for_tables_says_yes_only_to_equal_ones(one: list[bytes], other: list[bytes], order: Any) -> None:
    shuffled = order.sample(one, len(one))
    assert same_table(_encoded(one, 2), _encoded(shuffled, 2))
    pairs = [(field, field[::-1]) for field in one]
    mixed = order.sample(pairs, len(pairs))
    flat, flat_mixed = ([word for pair in some for word in pair] for some in (pairs, mixed))
    assert same_table(_encoded(flat, 4), _encoded(flat_mixed, 4))
    assert same_table(_encoded(one, 2), _encoded(other, 2)) == (set(one) == set(other))


def test_pairs_of_a_hash_are_not_torn_apart() -> None:
    one, other = _encoded([b"a", b"1", b"b", b"2"], 4), _encoded([b"a", b"2", b"b", b"1"], 4)
    assert decode(one) != decode(other)
    assert not same_table(one, other)


@given(st.binary(max_size=60), st.binary(max_size=60))
def test_the_short_way_takes_any_bytes(one: bytes, other: bytes) -> None:
    payloads = [b"\x02" + body + bytes(12) for body in (one, other)]
    try:
        same = same_table(payloads[0], payloads[1])
    except IndexError:
        pytest.fail("it reads beyond the end")
    assert not same or sorted(one) == sorted(other)


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 5)), max_size=200))
def test_a_ledger_counts_each_key_once_by_its_last_verdict(notes: list[tuple[int, int]]) -> None:
    ledger, last = Ledger(absent=(5,)), dict[bytes, int]()
    for start in range(0, len(notes), 7):
        part = notes[start : start + 7]
        ledger.note([b"key:%d" % key for key, _ in part], bytes(verdict for _, verdict in part))
        last |= {b"key:%d" % key: verdict for key, verdict in part}
    assert ledger.settled() == {verdict: list(last.values()).count(verdict) for verdict in set(last.values())}
    asked = [b"key:%d" % key for key in range(41)] + [BINARY, NOISE]
    assert ledger.knows(asked) == [last.get(key, 5) != 5 for key in asked]
    ledger.note([BINARY], b"\x01")
    assert ledger.knows([BINARY]) == [True]


def test_a_ledger_of_many_keys_counts_as_a_set_does() -> None:
    ledger = Ledger()
    for start in range(0, 300_000, 1000):
        ledger.note([b"%d" % (number % 250_000) for number in range(start, start + 1000)], bytes(1000))
    assert ledger.settled() == {0: 250_000}
    assert ledger.knows([b"249999", b"250000"]) == [True, False]
