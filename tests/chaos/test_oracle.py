"""The oracle itself: it finds what is planted, and blames a death only for what that death can explain."""

from __future__ import annotations

from cachekeep.codec.slots import slot_of

from .oracle import Death, Kind, Record, judge


def _log(*acknowledged: tuple[int, float], attempted: int | None = None) -> Record:
    return Record(Kind.LOG, attempted or max(number for number, _ in acknowledged), list(acknowledged))


def test_what_was_acknowledged_and_is_there_is_right() -> None:
    verdict = judge({"a": _log((1, 10.0), (2, 11.0), attempted=3)}, {"a": [1, 2, 3]}, [])
    assert (verdict.acknowledged, verdict.lost, verdict.wrong) == (2, 0, [])


def test_a_loss_without_a_death_is_wrong() -> None:
    verdict = judge({"a": _log((1, 10.0), (2, 11.0), (3, 12.0))}, {"a": [1, 3]}, [])
    assert (verdict.lost, verdict.lost_for_nothing) == (1, 1)
    assert "numbers 2-2" in verdict.wrong[0]


def test_a_death_explains_only_what_was_acknowledged_just_before_it() -> None:
    records = {"a": _log((1, 10.0), (2, 19.5), (3, 25.0))}
    verdict = judge(records, {"a": []}, [Death(20.0, 19.0, "kill a-001")])
    assert (verdict.lost, verdict.lost_for_nothing) == (3, 2)


def test_a_death_explains_only_what_its_primary_owned() -> None:
    other = Death(20.0, 19.0, "kill a-001", frozenset(range(16384)) - {slot_of(b"a")})
    assert judge({"a": _log((1, 19.5))}, {}, [other]).lost_for_nothing == 1
    own = Death(20.0, 19.0, "kill a-001", frozenset({slot_of(b"a")}))
    assert judge({"a": _log((1, 19.5))}, {}, [own]).lost_for_nothing == 0


def test_a_counter_must_have_its_last_number_or_a_later_one() -> None:
    record = Record(Kind.COUNTER, 5, [(3, 1.0), (4, 2.0)])
    assert judge({"c": record}, {"c": [4]}, []).lost == 0
    assert judge({"c": record}, {"c": [5]}, []).lost == 0
    assert judge({"c": record}, {"c": [3]}, []).lost == 1
    assert judge({"c": record}, {}, []).lost == 2


def test_what_nobody_wrote_is_wrong() -> None:
    assert "nobody ever wrote" in judge({}, {"x": [1]}, []).wrong[0]
    assert "2 was the last" in judge({"a": _log((1, 1.0), (2, 2.0))}, {"a": [1, 2, 7]}, []).wrong[0]


def test_what_was_deleted_stays_away() -> None:
    record = Record(Kind.LOG, 2, [(1, 1.0), (2, 2.0)], deleted_at=3.0)
    assert judge({"a": record}, {}, []).wrong == []
    assert "is there again" in judge({"a": record}, {"a": [1, 2]}, []).wrong[0]
    assert judge({"a": record}, {"a": [1, 2]}, [Death(3.5, 2.5, "kill a-001")]).wrong == []


def test_nothing_is_expected_of_a_deletion_that_was_not_answered() -> None:
    record = Record(Kind.LOG, 2, [(1, 1.0), (2, 2.0)], doubtful=True)
    assert judge({"a": record}, {}, []).wrong == []
    assert judge({"a": record}, {"a": [1, 2]}, []).wrong == []
