"""Windows: what is accepted, what is refused and how, and when a window is open."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cachekeep.domain.faults import Fault
from cachekeep.plan.windows import (
    default_maintenance_window,
    default_snapshot_window,
    is_open,
    maintenance_window,
    snapshot_window,
)

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
MONDAY = datetime(2025, 6, 16, tzinfo=UTC)
WEEK_M = 7 * 1440
STEADY = settings(derandomize=True, deadline=None)


def _at(day: int, hour: int, minute: int = 0, second: float = 0.0) -> float:
    return (MONDAY + timedelta(days=day, hours=hour, minutes=minute, seconds=second)).timestamp()


def _window(start: int, length: int) -> str:
    def moment(minute: int) -> str:
        minute %= WEEK_M
        return f"{DAYS[minute // 1440]}:{minute % 1440 // 60:02d}:{minute % 60:02d}"

    return f"{moment(start)}-{moment(start + length)}"


@pytest.mark.parametrize(
    ("window", "open_at", "closed_at"),
    [
        ("mon:03:00-mon:04:00", [_at(0, 3), _at(0, 3, 59, 59.9), _at(7, 3)], [_at(0, 2, 59, 59.9), _at(0, 4)]),
        ("mon:23:30-tue:00:30", [_at(0, 23, 30), _at(1, 0), _at(1, 0, 29)], [_at(0, 23, 29), _at(1, 0, 30)]),
        ("sun:23:30-mon:01:00", [_at(6, 23, 30), _at(0, 0), _at(0, 0, 59), _at(7, 0)], [_at(6, 23), _at(0, 1)]),
        ("sat:12:00-sun:12:00", [_at(5, 12), _at(6, 0), _at(6, 11, 59)], [_at(5, 11, 59), _at(6, 12)]),
    ],
)
def test_open_from_its_first_minute_to_before_its_last(
    window: str, open_at: list[float], closed_at: list[float]
) -> None:
    assert maintenance_window(window) == window
    assert all(is_open(window, now) for now in open_at)
    assert not any(is_open(window, now) for now in closed_at)


@STEADY
@given(st.integers(0, WEEK_M - 1), st.integers(60, 1440), st.floats(0, 4e9))
def test_open_exactly_as_long_as_it_says(start: int, length: int, now: float) -> None:
    """Against a simple way to say it: the minutes since the window last opened are fewer than its length."""
    window = _window(start, length)
    assert maintenance_window(window) == window
    opened = MONDAY.timestamp() + start * 60
    assert is_open(window, now) == ((now - opened) // 60 % WEEK_M < length)


@STEADY
@given(st.integers(0, WEEK_M - 1), st.integers(0, WEEK_M - 1))
def test_only_lengths_of_an_hour_to_a_day_are_accepted(start: int, length: int) -> None:
    window = _window(start, length)
    if 60 <= length <= 1440:
        assert maintenance_window(window.upper()) == window
    else:
        _refused(maintenance_window, window)


@STEADY
@given(st.integers(0, 1439), st.integers(0, 1439))
def test_snapshot_windows_wrap_around_midnight(start: int, length: int) -> None:
    end = (start + length) % 1440
    window = f"{start // 60:02d}:{start % 60:02d}-{end // 60:02d}:{end % 60:02d}"
    if length >= 60:
        assert snapshot_window(window) == window
    else:
        _refused(snapshot_window, window)


BAD_MAINTENANCE = [
    "", "mon", "mon:03:00", "mon:03:00-", "03:00-04:00", "mon:3:00-mon:4:00", "mon:03:00-mon:04:00 ",
    " mon:03:00-mon:04:00", "mon:03:00-mon:04:00\n", "mon:24:00-tue:01:00", "mon:03:60-mon:05:00",
    "foo:03:00-mon:04:00", "mon:03:00-bar:04:00", "mon:03:00-mon:03:59", "mon:03:00-mon:03:00",
    "mon:03:00-tue:03:01", "mon:-3:00-mon:04:00",
    "mon:03:00-mon:04:00-tue:05:00", "mon:٠٣:٠٠-mon:٠٤:٠٠", "mon:03:00–mon:04:00", "x" * 5000,
]  # fmt: skip
BAD_DAILY = [
    "", "05:00", "05:00-", "5:00-6:00", "05:00-06:00 ", "05:00-06:00\n", "24:00-01:00", "05:60-07:00", "05:00-05:59",
    "05:00-05:00", "mon:05:00-mon:06:00", "٠٥:٠٠-٠٦:٠٠", "x" * 5000,
]  # fmt: skip


def _refused(check: object, text: str) -> str:
    assert callable(check)
    with pytest.raises(Fault) as caught:
        check(text)
    assert (caught.value.code, caught.value.status) == ("InvalidParameterValue", 400)
    assert len(caught.value.message) < 300
    return caught.value.message


@pytest.mark.parametrize("text", BAD_MAINTENANCE)
def test_a_bad_maintenance_window_is_an_invalid_value(text: str) -> None:
    _refused(maintenance_window, text)


@pytest.mark.parametrize("text", BAD_DAILY)
def test_a_bad_snapshot_window_is_an_invalid_value(text: str) -> None:
    _refused(snapshot_window, text)


@STEADY
@given(st.text() | st.from_regex(r"[a-z]{3}:\d\d:\d\d-[a-z]{3}:\d\d:\d\d") | st.from_regex(r"\d\d:\d\d-\d\d:\d\d"))
def test_any_text_is_accepted_or_an_invalid_value(text: str) -> None:
    for check in (maintenance_window, snapshot_window):
        try:
            accepted = check(text)
        except Fault:
            _refused(check, text)
        else:
            assert accepted == text.lower()
            assert accepted.isascii()


@STEADY
@given(st.sampled_from(["us-east-1", "eu-west-2", "ap-southeast-1", "mars-north-1"]), st.text(max_size=20))
def test_defaults_are_valid_the_same_each_time_and_an_hour_long(region: str, name: str) -> None:
    weekly, daily = default_maintenance_window(region, name), default_snapshot_window(region, name)
    assert maintenance_window(weekly) == weekly
    assert snapshot_window(daily) == daily
    assert (weekly, daily) == (default_maintenance_window(region, name), default_snapshot_window(region, name))
    assert sum(is_open(weekly, MONDAY.timestamp() + minute * 60) for minute in range(0, WEEK_M, 30)) == 2


def test_default_windows_lie_in_the_block_of_their_region() -> None:
    hours = {int(default_maintenance_window("us-east-1", f"n-{n}")[4:6]) for n in range(400)}
    assert hours == set(range(3, 10))
    assert len({default_maintenance_window("us-east-1", f"n-{n}")[:3] for n in range(400)}) == 7


@pytest.mark.parametrize(
    ("region", "block"),
    [
        # The guide's table, "Managing maintenance".
        ("ap-northeast-1", "13:00-21:00"),
        ("ap-northeast-3", "12:00-20:00"),
        ("ap-south-1", "17:30-01:30"),
        ("cn-north-1", "14:00-22:00"),
        ("ap-east-1", "13:00-21:00"),
        ("eu-west-3", "23:59-07:29"),
        ("af-south-1", "13:00-21:00"),
        ("eu-south-1", "21:00-05:00"),
        ("me-south-1", "13:00-21:00"),
        ("us-gov-west-1", "06:00-14:00"),
    ],
)
def test_default_windows_lie_in_the_guides_block(region: str, block: str) -> None:
    for number in range(60):
        for window in (
            default_maintenance_window(region, f"n-{number}")[4:],
            default_snapshot_window(region, f"n-{number}"),
        ):
            start, end = window[:5], window[-5:]
            first = _minutes(block[:5])
            length = (_minutes(block[-5:]) - first) % 1440
            assert 0 <= (_minutes(start) - first) % 1440 < (_minutes(end) - first) % 1440 <= length


def _minutes(text: str) -> int:
    return int(text[:2]) * 60 + int(text[3:])
