import pytest

from cachekeep.codec.latency_histogram import parse_latencies


def test_cumulative_counts_become_counts_per_bucket() -> None:
    reply = [b"get", [b"calls", 9, b"histogram_usec", [1, 2, 4, 7, 33, 9]], b"config|get", [b"histogram_usec", []]]
    assert parse_latencies(reply) == {"get": ((1.0, 2.0), (4.0, 5.0), (33.0, 2.0)), "config|get": ()}


_TABLE = [b"histogram_usec", [1, 2]]


@pytest.mark.parametrize(
    "reply",
    [
        *([b"get"], [b"get", 3], [b"get", [b"calls", 1]], 7, [1 << 60, _TABLE], [None, _TABLE]),
        *([b"get", [b"histogram_usec", table]] for table in ([1, float("nan")], [float("inf"), 2], [1, 5, 2, 3])),
        [b"get", [b"histogram_usec", [10**400, 1]]],
    ],
)
def test_any_other_shape_is_a_value_error(reply: list[object]) -> None:
    with pytest.raises(ValueError, match=r"argument|LATENCY HISTOGRAM"):
        parse_latencies(reply)
