"""The token bucket of the API: how many requests at once, how soon again, for whom."""

from __future__ import annotations

import pytest

from cachekeep.api.throttle import Throttle
from cachekeep.domain.faults import Fault


class Watch:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def passes(throttle: Throttle, key: str = "k", region: str = "us-east-1") -> bool:
    try:
        throttle.check(key, region)
    except Fault:
        return False
    return True


def test_the_fault_is_one_that_clients_retry() -> None:
    throttle = Throttle(0.1, Watch())
    throttle.check("k", "us-east-1")
    with pytest.raises(Fault) as caught:
        throttle.check("k", "us-east-1")
    assert (caught.value.code, caught.value.message, caught.value.status) == ("Throttling", "Rate exceeded", 400)


def test_two_seconds_worth_at_once_then_the_rate() -> None:
    watch = Watch()
    throttle = Throttle(5.0, watch)
    assert [passes(throttle) for _ in range(12)] == [True] * 10 + [False] * 2
    watch.now += 0.2
    assert [passes(throttle) for _ in range(2)] == [True, False]
    watch.now += 1000.0
    assert [passes(throttle) for _ in range(12)] == [True] * 10 + [False] * 2


def test_each_key_and_region_by_itself() -> None:
    throttle = Throttle(0.5, Watch())
    assert passes(throttle)
    assert not passes(throttle)
    assert passes(throttle, key="other")
    assert passes(throttle, region="eu-west-1")


def test_a_rate_must_be_above_zero() -> None:
    with pytest.raises(ValueError, match="above 0"):
        Throttle(0.0)
