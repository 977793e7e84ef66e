"""The parts of a guard that need no server: what a key that differs is, how long an outage took, what is doubtful."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cachekeep.backup.catalog_objects import Gap
from cachekeep.backup.coverage import Stretch
from cachekeep.cli.backup.guard import _show
from cachekeep.codec.dump import SetValue, StringValue, encode
from cachekeep.codec.record import NO_EXPIRY, Kind, Record
from cachekeep.follow.guard import _verdict
from cachekeep.follow.guard_compare import Seen, classes
from cachekeep.follow.guard_herald import Heard
from cachekeep.follow.guard_meaning import GONE, meaning
from cachekeep.follow.guard_past import Past, emptied, restorable
from cachekeep.follow.guard_restore import _without_replace
from cachekeep.follow.guard_types import Findings, GuardReport, Outage, downtime_of
from cachekeep.follow.types import Choice

NOW_MS = 1_000_000


def payload(text: str) -> bytes:
    return encode(StringValue(text.encode()), 10)


def older(key: bytes, text: str, expires_ms: int = NO_EXPIRY) -> Record:
    return Record(int(Kind.UPSERT), 0, expires_ms, NOW_MS, key, payload(text))


def seen(text: str | None, *, expected: bool = True, same_value: bool = False, expires_ms: int = NO_EXPIRY) -> Seen:
    return Seen(None if text is None else meaning(payload(text), NOW_MS), expires_ms, expected, same_value)


def test_a_key_that_is_not_there_is_lost_and_one_with_an_older_value_went_back() -> None:
    there = {(0, b"lost"): seen(None), (0, b"back"): seen("old"), (0, b"new"): seen("unheard of")}
    history = [[older(b"lost", "old"), older(b"back", "older")], [older(b"back", "old"), older(b"new", "old")]]
    assert classes(there, history) == {
        "lost": {(0, b"lost")},
        "went back": {(0, b"back")},
        "changed": {(0, b"new")},
    }


def test_a_value_of_another_key_or_database_is_no_older_one() -> None:
    there = {(0, b"a"): seen("old"), (1, b"b"): seen("old")}
    assert classes(there, [[older(b"b", "old")]])["changed"] == {(0, b"a"), (1, b"b")}


def test_an_expiry_went_back_only_if_it_was_the_same_before() -> None:
    there = {
        (0, b"back"): seen("value", same_value=True, expires_ms=5),
        (0, b"new"): seen("value", same_value=True, expires_ms=6),
    }
    history = [[older(b"back", "value", 5), older(b"new", "value", 5)]]
    assert classes(there, history)["went back"] == {(0, b"back")}


def test_a_deleted_key_with_a_value_that_nobody_knows_is_not_removed() -> None:
    there = {(0, b"deleted"): seen("old", expected=False), (0, b"created"): seen("new", expected=False)}
    history = [[older(b"deleted", "old"), older(b"created", "old")]]
    found = classes(there, history)
    assert (found["went back"], found["changed"]) == ({(0, b"deleted")}, {(0, b"created")})


def test_what_was_written_meanwhile_is_left_out() -> None:
    there = {(0, b"a"): seen(None), (0, b"b"): seen("x")}
    found = classes(there, [[older(b"b", "x")]], frozenset(there))
    assert not any(found.values())


def test_meaning_does_not_depend_on_the_version_or_the_order_of_a_set() -> None:
    one = encode(SetValue(frozenset((b"a", b"b", b"c"))), 9)
    other = encode(SetValue(frozenset((b"c", b"b", b"a"))), 80)
    assert meaning(one, NOW_MS) == meaning(other, NOW_MS) != meaning(payload("abc"), NOW_MS)
    assert GONE not in (meaning(one, NOW_MS), meaning(payload(""), NOW_MS))


def test_bytes_that_are_no_value_are_told_apart_by_themselves() -> None:
    assert meaning(b"\x07module-a" + bytes(10), NOW_MS) != meaning(b"\x07module-b" + bytes(10), NOW_MS)


@pytest.mark.parametrize(
    ("outages", "downtime_ms"),
    [([], 0), ([(10, 30)], 20), ([(10, 30), (20, 50)], 40), ([(50, 60), (10, 30), (12, 14)], 30), ([(10, None)], 0)],
)
def test_time_in_which_two_nodes_were_away_counts_once(outages: list[tuple[int, int | None]], downtime_ms: int) -> None:
    assert downtime_of(tuple(Outage(start, end, "gone") for start, end in outages)) == downtime_ms


def findings(lost: int) -> Findings:
    keys = frozenset((0, b"%d" % number) for number in range(lost))
    return Findings(100, {"lost": keys, "went back": frozenset(), "changed": frozenset()}, 0, {})


@pytest.mark.parametrize(("unseen", "lost", "doubtful"), [(3, 2, True), (3, 3, True), (3, 4, False), (0, 1, False)])
def test_few_missing_keys_may_be_deletions_that_nobody_heard(unseen: int, lost: int, doubtful: bool) -> None:
    past = Past(Stretch(0, 10_000, 1), (Outage(10_500, 11_000, "gone"),), (Gap(start_ms=0, end_ms=1, reason=""),))
    doubts = list(past.doubts_of("tracking", findings(lost), Heard(unseen=unseen)))
    assert any("may be what they deleted" in one for one in doubts) == doubtful


PAST = Past(Stretch(0, 10_000, 1), (Outage(10_500, 11_000, "gone"),), ())


def test_where_nobody_counts_what_was_written_unheard_every_missing_key_is_a_doubt() -> None:
    assert "had begun before the old one was gone" in next(PAST.doubts_of("tracking", findings(1), Heard(unseen=None)))
    assert list(PAST.doubts_of("tracking", findings(0), Heard(unseen=None))) == []


def test_a_database_that_was_emptied_is_a_doubt_even_where_nothing_is_missing() -> None:
    assert "was lost" in next(PAST.doubts_of("tracking", findings(0), Heard(unseen=0, everything=True, flushed=True)))
    assert "database 0, 3 was emptied" in next(emptied({3, 0}))
    assert list(emptied(set())) == []


@pytest.mark.parametrize(
    ("unseen", "lost", "back"), [(0, 5, 1), (None, 5, 0), (4, 5, 0), (5, 0, 0)], ids=["none", "nobody knows", "4", "5"]
)
def test_a_key_that_is_there_is_written_only_if_no_client_wrote_unheard(
    unseen: int | None, lost: int, back: int
) -> None:
    found = replace(findings(5), classes={**findings(5).classes, "went back": frozenset({(0, b"flag")})})
    offered = restorable(found, Heard(unseen=unseen))
    assert (len(offered["lost"]), len(offered["went back"])) == (lost, back)


def test_older_data_is_told_of_only_where_there_was_some() -> None:
    (told,) = PAST.notes(findings(9), Heard(unseen=0), 7)
    assert "7 keys were written by clients after the endpoint was back: they are kept" in told


def test_doubts_leave_it_unproved_although_nothing_is_missing() -> None:
    assert [_verdict(findings(0), Choice("tracking", ""), doubts) for doubts in ([], ["why"])] == ["proved", "unproved"]


def report_of(left: Findings, later: int, only_here: int) -> GuardReport:
    return GuardReport(
        generation="one",
        method="tracking",
        why_method="",
        covered_since_ms=0,
        covered_until_ms=1000,
        clock_ahead_ms=0,
        command=None,
        outages=(),
        downtime_ms=0,
        before="old",
        after="new",
        found=left,
        left=left,
        restored=None,
        written_since=0,
        later=later,
        only_here=only_here,
        verdict="different",
        why=(),
        notes=(),
        seconds=1.0,
    )


def test_the_report_says_what_the_printed_restore_cannot_put_back(capsys: pytest.CaptureFixture[str]) -> None:
    _show(report_of(findings(3), later=4, only_here=2), "redis://host:1", "place", as_json=False)
    told = capsys.readouterr().out
    assert "is known; 4 keys changed after that and were captured too" in told
    assert "2 of these keys changed after that moment" in told
    assert "cachekeep backup restore place redis://host:1 --id one --at 1970-01-01T00:00:01.000Z" in told


def test_a_key_heard_without_its_database_is_meant_in_every_database() -> None:
    heard = Heard(frozenset({(None, b"a"), (2, b"b")}))
    assert (heard.has((7, b"a")), heard.has((2, b"b")), heard.has((1, b"b"))) == (True, True, False)


def test_restore_without_replace_keeps_all_but_that_word() -> None:
    packed = b"*6\r\n$7\r\nRESTORE\r\n$1\r\nk\r\n$1\r\n0\r\n$1\r\np\r\n$7\r\nREPLACE\r\n$6\r\nABSTTL\r\n"
    assert _without_replace(packed) == b"*5\r\n$7\r\nRESTORE\r\n$1\r\nk\r\n$1\r\n0\r\n$1\r\np\r\n$6\r\nABSTTL\r\n"
