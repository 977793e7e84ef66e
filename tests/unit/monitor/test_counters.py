"""Increases of a minute, across restarts, resets and silences."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from cachekeep.monitor.counters import Counters


def see(counters: Counters, at: float, value: float, run: str = "a", up_s: float = 1e6) -> None:
    counters.see(at, run, up_s, lambda: {"hits": value})


def test_a_minute_has_the_increase_within_it() -> None:
    counters = Counters()
    see(counters, 30, 500)
    assert counters.close(60) is None, "not watched as a whole: 30 s of silence before the first look"
    see(counters, 61, 510)
    see(counters, 119.5, 530)
    assert counters.close(120) is None, "the look before the minute was 30 s old"
    see(counters, 179.5, 545)
    assert counters.close(180) == {"hits": 15}


def test_a_restart_costs_neither_a_negative_nor_a_giant_step() -> None:
    counters = Counters()
    see(counters, 59.5, 1_000_000)
    counters.close(60)
    see(counters, 80, 1_000_007)
    see(counters, 82, 3, run="b", up_s=1)
    see(counters, 119.5, 5, run="b", up_s=38)
    assert counters.close(120) == {"hits": 12}


def test_another_engine_that_is_old_already_starts_from_where_it_is() -> None:
    counters = Counters()
    see(counters, 59.5, 10)
    counters.close(60)
    see(counters, 80, 9_000_000, run="b", up_s=86400)
    see(counters, 119.5, 9_000_001, run="b", up_s=86440)
    assert counters.close(120) is None
    see(counters, 179.5, 9_000_004, run="b", up_s=86500)
    assert counters.close(180) == {"hits": 3}


def test_counters_that_were_set_back_count_from_zero() -> None:
    counters = Counters()
    see(counters, 59.5, 100)
    counters.close(60)
    see(counters, 119.5, 4)
    assert counters.close(120) == {"hits": 4}


def test_what_came_during_a_silence_belongs_to_no_minute() -> None:
    counters = Counters()
    see(counters, 59.5, 100)
    counters.close(60)
    see(counters, 70, 110)
    assert counters.close(120) is None
    assert counters.close(180) is None
    see(counters, 200, 10_000)
    see(counters, 239.5, 10_010)
    assert counters.close(240) is None
    see(counters, 299.5, 10_020)
    assert counters.close(300) == {"hits": 10}


def test_an_engine_born_within_the_minute_is_counted_from_its_first_command() -> None:
    counters = Counters()
    see(counters, 70, 2, up_s=3)
    see(counters, 119.5, 9, up_s=52)
    assert counters.close(120) == {"hits": 9}


@given(st.lists(st.tuples(st.integers(0, 50), st.booleans()), min_size=61, max_size=400))
def test_increases_add_up_to_what_happened(seconds: Sequence[tuple[int, bool]]) -> None:
    """Every second some hits, and now and then a restart: nothing is counted twice, nothing below zero."""
    counters, run, born, value, happened, told = Counters(), 0, 0, 0, 0, 0.0
    for second, (hits, restarts) in enumerate(seconds):
        if restarts and second % 7 == 3:
            run, born, value = run + 1, second, 0
        value += hits
        happened += hits
        see(counters, second + 0.5, value, run=str(run), up_s=float(second - born))
        if second % 60 == 59:
            increases = counters.close(second + 1.0)
            assert increases is not None
            assert increases["hits"] >= 0
            told += increases["hits"]
            assert told == happened


def test_totals_go_on_over_restarts_resets_and_silences() -> None:
    counters = Counters()
    told = []

    def look(at: float, value: float, run: str = "a", up_s: float = 1e6) -> None:
        see(counters, at, value, run, up_s)
        told.append(counters.totals()["hits"])

    look(30, 500)
    look(31, 510)
    counters.close(60)  # the minute is not whole, its increase was seen all the same
    look(100, 517)
    counters.close(120)  # nobody looked for its last seconds
    look(130, 520)
    look(140, 2, "b", 1)  # restarted
    look(141, 5, "b", 2)
    counters.close(180)
    assert told == [0, 10, 17, 20, 22, 25]


@given(st.lists(st.tuples(st.floats(0.1, 90), st.integers(0, 1000), st.sampled_from("ab")), min_size=1))
def test_totals_never_decrease(looks: Sequence[tuple[float, int, str]]) -> None:
    counters, at, before = Counters(), 0.0, 0.0
    for step, value, run in looks:
        if (at + step) // 60 > at // 60:
            counters.close((at + step) // 60 * 60)
        at += step
        see(counters, at, value, run, up_s=step)
        total = counters.totals()["hits"]
        assert total >= before
        before = total
