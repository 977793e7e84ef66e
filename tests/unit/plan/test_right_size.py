"""Right-sizing: what holds a load, at what price, and why the cheaper ones do not."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from io import StringIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from cachekeep.cli.console import console
from cachekeep.cli.right_size import exit_code, show_right_size
from cachekeep.data.prices import node_specs, package_prices
from cachekeep.domain.engine import Engine
from cachekeep.plan.right_size import Confidence, RightSize, as_json, right_size
from cachekeep.plan.right_size_shapes import GIB, Goal, Load, Observed, why_not

REGION = "us-east-1"
SPECS = {name: node_specs()[name] for name in [*list(node_specs())[:16], "cache.r6g.large", "cache.r7g.xlarge"]}
CALM = Observed(Engine.VALKEY, "cache.m5.large", 1, 1, 1.0 * GIB, 0.0, 1.1, 1000.0, 10.0, 100.0, 1e6, 1e6, 8 * 86400.0)


def size(observed: Observed, goal: Goal | None = None) -> RightSize:
    return right_size(observed, SPECS, package_prices(), REGION, goal)


def test_the_cheapest_type_that_holds_the_peak_comes_first_with_the_reason_for_a_cheaper_one() -> None:
    result = size(CALM)
    two = result.candidates[0]
    one = next(shape for shape in result.candidates if shape.shards == 1)
    assert (two.node_type, two.shards, two.replicas, two.usd_month) == ("cache.t4g.small", 2, 1, Decimal("74.7520"))
    assert (one.node_type, one.shards, one.replicas, one.usd_month) == ("cache.t4g.medium", 1, 1, Decimal("75.9200"))
    reasons = [shape.why_not for shape in result.rejected]
    assert "(1 + 1) x cache.t4g.small: 1.370 GiB x 0.75 usable = 1.028 GiB < 1.250 GiB needed" in reasons
    assert result.confidence is Confidence.HIGH
    assert "less than the present (1 + 1) x cache.m5.large" in result.answer


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"engine_cpu_pct": 70.0}, "one core would be 88 % busy > 75 %"),
        ({"connections": 60000.0}, "65000 connections allowed < 75000 needed"),
        ({"bytes_out_per_s": 5e8}, "network baseline 0.75 Gbps < 5 Gbps needed"),
        ({"used_bytes": 3.5 * GIB, "fragmentation_ratio": 1.6}, "6.384 GiB < 7.000 GiB resident"),
        ({"used_bytes": 2.0 * GIB, "growth_bytes_per_day": GIB / 30}, "6.384 GiB x 0.75 usable"),
    ],
)
def test_each_demand_that_the_present_node_does_not_meet_is_named(change: dict[str, float], reason: str) -> None:
    present = size(replace(CALM, **change)).present  # type: ignore[arg-type]
    assert present is not None
    assert reason in present.why_not


def test_a_busy_engine_gets_more_shards_and_is_told_of_cluster_mode() -> None:
    best = size(replace(CALM, engine_cpu_pct=95.0)).candidates[0]
    assert best.shards == 2
    assert any("cluster mode" in note for note in best.notes)


def test_a_burstable_type_above_its_baseline_is_flagged() -> None:
    small = next(s for s in size(replace(CALM, engine_cpu_pct=50.0)).candidates if s.node_type == "cache.t4g.medium")
    assert any("above its baseline of 0.40" in note for note in small.notes)
    calm = next(s for s in size(CALM).candidates if s.node_type == "cache.t4g.medium")
    assert not any("burstable" in note for note in calm.notes)


def test_without_a_known_memory_no_size_is_named() -> None:
    result = size(replace(CALM, used_bytes=None))
    assert result.candidates == ()
    assert result.confidence is Confidence.LOW
    assert "unknown" in result.answer
    assert exit_code(as_json(result)) == 1


def test_unknowns_are_named_and_lower_the_confidence() -> None:
    result = size(replace(CALM, connections=None, growth_bytes_per_day=None))
    assert result.unknown == ("growth (taken as none)", "connections")
    assert result.confidence is Confidence.MEDIUM
    assert size(replace(CALM, window_s=60.0)).confidence is Confidence.LOW


def test_redis_is_offered_valkey_beside_it() -> None:
    best = size(replace(CALM, engine=Engine.REDIS)).candidates[0]
    assert best.engine is Engine.VALKEY
    assert "Valkey instead of Redis" in best.notes


def test_redis_is_told_each_shape_once_with_both_prices() -> None:
    result = size(replace(CALM, engine=Engine.REDIS, used_bytes=9.0 * GIB))
    for shapes in (result.candidates, result.rejected):
        told = [(shape.node_type, shape.shards, shape.replicas) for shape in shapes]
        assert len(told) == len(set(told)) > 1
    assert all(dict(shape.usd_by_engine).keys() == {Engine.VALKEY, Engine.REDIS} for shape in result.candidates)


@pytest.mark.parametrize("width", [80, 60, 40])
def test_a_narrow_terminal_cuts_no_price_of_a_shape(width: int) -> None:
    page = as_json(size(replace(CALM, engine=Engine.REDIS, used_bytes=9.0 * GIB)))
    page |= {"history": {"from": None, "to": None}, "notes": []}
    out = StringIO()
    show_right_size(Console(file=out, width=width, highlight=False), page)
    text = out.getvalue()
    for shape in page["candidates"][:8]:
        for usd in shape["usd_month_by_engine"].values():
            assert f"{usd:,.2f}" in text
    assert "…" not in text
    assert "all of these: Valkey instead of Redis" in text
    table = text[text.index("Node type") : text.index("all of these")].splitlines()
    assert max(map(len, table)) <= width
    assert "Engine" not in table[0]


def test_fewer_replicas_are_offered_down_to_one_and_said_in_the_answer() -> None:
    result = size(replace(CALM, replicas=3))
    assert {shape.replicas for shape in result.candidates} == {1, 3}
    assert "with 1 instead of 3 replicas" in result.answer


def test_memcached_with_unknown_prices_is_sized_and_its_price_said_to_be_unknown() -> None:
    result = size(replace(CALM, engine=Engine.MEMCACHED, replicas=0, used_bytes=20.0 * GIB))
    assert {s.usd_month is None for s in result.candidates} == {True, False}
    assert result.candidates[0].node_type == "cache.m4.large"
    assert result.candidates[-1].usd_month is None


def test_no_more_memcached_nodes_are_offered_than_a_cluster_may_have() -> None:
    result = size(replace(CALM, engine=Engine.MEMCACHED, replicas=0, used_bytes=30.0 * GIB))
    assert 1 < max(shape.shards for shape in result.candidates) <= 40
    huge = size(replace(CALM, engine=Engine.MEMCACHED, replicas=0, used_bytes=8000.0 * GIB))
    assert huge.answer == "no node type holds this load with at most 40 nodes"


def test_a_smaller_type_whose_price_is_unknown_is_named_beside_the_cheapest_known_one() -> None:
    result = size(replace(CALM, engine=Engine.MEMCACHED, node_type="", replicas=0, used_bytes=GIB / 8))
    assert "(1 x cache.t3.micro is smaller, at a price that is unknown)" in result.answer
    unpriced = [s.usable_bytes for s in result.candidates if s.usd_month is None]
    assert unpriced == sorted(unpriced)


def test_prices_of_the_engines_that_could_run_it_stand_side_by_side() -> None:
    best = as_json(size(CALM))["candidates"][0]
    assert best["usd_month_by_engine"] == {"valkey": best["usd_month"], "redis": 93.44}


def test_what_no_shape_holds_is_said_with_reasons() -> None:
    result = size(replace(CALM, used_bytes=1e15))
    assert result.candidates == ()
    assert "no node type" in result.answer
    assert result.rejected


@pytest.mark.parametrize("change", [{"used_bytes": -1.0}, {"connections": float("nan")}, {"shards": 0}])
def test_an_absurd_observation_is_refused(change: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"must be a number|at least one shard"):
        replace(CALM, **change)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="margin"):
        Goal(margin=float("nan"))


def test_the_page_is_shown_with_answer_reasons_and_confidence(capsys: pytest.CaptureFixture[str]) -> None:
    page = as_json(size(CALM)) | {
        "history": {"from": 1_780_000_000, "to": 1_780_600_000},
        "notes": ["[keys] were evicted"],
    }
    show_right_size(console(), page)
    shown = capsys.readouterr().out
    assert exit_code(page) == 0
    for text in (
        "without cluster mode (1 + 1) x cache.t4g.medium for 75.92",
        "Cheaper, but:",
        "1.250 GiB needed",
        "Valkey",
        "Redis",
        "at its peak: 1.0 GiB of memory, 10 % of a core, 1,000 commands/s, 100 connections",
        "[keys] were evicted",
        "Confidence high",
        "assumed:",
    ):
        assert text in shown


LOADS = st.builds(
    Observed,
    engine=st.sampled_from([Engine.VALKEY, Engine.REDIS]),
    node_type=st.sampled_from(["", "cache.m5.large", "cache.r6g.large"]),
    shards=st.integers(1, 4),
    replicas=st.integers(0, 3),
    used_bytes=st.floats(1e6, 2e11),
    growth_bytes_per_day=st.none() | st.floats(-1e8, 1e9),
    fragmentation_ratio=st.none() | st.floats(0.5, 3),
    engine_cpu_pct=st.none() | st.floats(0, 100),
    connections=st.none() | st.floats(0, 50_000),
    bytes_out_per_s=st.none() | st.floats(0, 1e9),
)


@settings(max_examples=20, deadline=None)
@given(LOADS)
def test_candidates_hold_what_is_needed_and_cheaper_rejected_ones_really_fail(observed: Observed) -> None:
    result = size(observed)
    assert result.need_bytes is not None
    for shape in result.candidates:
        assert shape.usable_bytes >= result.need_bytes
        assert shape.replicas >= min(1, observed.replicas)
    load = Load(observed, Goal())
    for shape in result.rejected:
        reason = why_not(SPECS[shape.node_type], shape.engine, shape.shards, shape.replicas, load)
        assert reason is not None
        assert shape.why_not.endswith(reason)
        if result.candidates and result.candidates[0].usd_month is not None:
            assert shape.usd_month is not None
            assert shape.usd_month < result.candidates[0].usd_month


@settings(max_examples=20, deadline=None)
@given(LOADS, st.sampled_from(["used_bytes", "engine_cpu_pct", "connections", "bytes_out_per_s"]), st.floats(1, 3))
def test_a_larger_load_never_costs_less(observed: Observed, name: str, factor: float) -> None:
    value = getattr(observed, name)
    if value is None:
        return
    light, heavy = size(observed), size(replace(observed, **{name: value * factor}))
    if heavy.candidates and heavy.candidates[0].usd_month is not None:
        assert light.candidates[0].usd_month is not None
        assert light.candidates[0].usd_month <= heavy.candidates[0].usd_month
