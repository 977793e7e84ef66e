"""The report of a group: worst nodes, tiers, likely causes from evidence, exit codes."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

import pytest

from cachekeep.domain.metric_ports import SampledKey
from cachekeep.domain.verdicts import Level, read_thresholds
from cachekeep.plan.causes import CommandTime, Evidence, command_times, of_users
from cachekeep.plan.health import EXIT_CODES, NodeReading, assemble
from cachekeep.plan.verdict import Context, Past

MIB = 1048576
THRESHOLDS = read_thresholds(json.loads((files("cachekeep.data") / "thresholds.json").read_text("utf-8")))
WELL = {"CPUUtilization": 10.0, "EngineCPUUtilization": 5.0, "DatabaseMemoryUsagePercentage": 20.0, "SwapUsage": 0.0}


def node(name: str, evidence: Evidence | None = None, trouble: str | None = None, **values: float) -> NodeReading:
    context = Context(1e9, {**WELL, **values}, "primary", trouble=trouble)
    past = {name: Past(recent=value) for name, value in context.values.items()}
    return NodeReading(name, context, past, evidence or Evidence())


def report(*nodes: NodeReading) -> dict[str, Any]:
    return assemble("demo", "us-east-1", 1e9, nodes, THRESHOLDS)


def metric(name: str, *nodes: NodeReading) -> dict[str, Any]:
    (found,) = [m for tier in report(*nodes)["tiers"] for m in tier["metrics"] if m["metric"] == name]
    return dict(found)


def test_the_worst_node_stands_for_the_group() -> None:
    nodes = [node("a-001", CPUUtilization=85), node("a-002", CPUUtilization=95), node("a-003")]
    found = metric("CPUUtilization", *nodes)
    assert (found["node"], found["level"], found["value"]) == ("a-002", "risk", "95 %")
    assert [each["level"] for each in found["nodes"]] == ["risk", "risk", "safe"]
    whole = report(*nodes)
    assert (whole["level"], whole["exit_code"], whole["sentence"]) == ("risk", 2, "risk: CPU Utilization")
    assert [tier["level"] for tier in whole["tiers"]] == ["risk", "unknown", "unknown"]
    assert [each["level"] for each in whole["nodes"]] == ["risk", "risk", "safe"]


def test_the_lowest_is_the_worst_where_low_is_bad() -> None:
    found = metric("CacheHitRate", node("a", CacheHitRate=70), node("b", CacheHitRate=40), node("c"))
    assert (found["node"], found["value"]) == ("b", "40 %")


def test_a_report_is_plain_json() -> None:
    whole = report(node("a", CPUUtilization=85), node("b", trouble="cannot reach it"))
    assert json.loads(json.dumps(whole, allow_nan=False)) == whole


def test_a_silent_node_is_told_and_hides_nothing() -> None:
    whole = report(node("a"), node("b", trouble="cannot reach it"))
    assert (whole["level"], whole["exit_code"]) == ("unknown", 3)
    assert whole["sentence"] == "no numbers from b: cannot reach it"
    whole = report(node("a", CPUUtilization=70), node("b", trouble="no"))
    assert (whole["level"], whole["exit_code"]) == ("warning", 1)
    assert whole["sentence"] == "warning: CPU Utilization; no numbers from b: no"
    whole = report(*[node(name, trouble="no") for name in "abcde"])
    assert whole["sentence"].endswith("no numbers from c: no; and 2 more nodes")


def test_a_group_without_nodes_is_unknown() -> None:
    whole = report()
    assert (whole["level"], whole["exit_code"], whole["sentence"]) == ("unknown", 3, "nothing is known yet")


def test_the_exit_code_is_that_of_the_worst_verdict() -> None:
    assert EXIT_CODES == {Level.SAFE: 0, Level.WARNING: 1, Level.RISK: 2, Level.UNKNOWN: 3}
    # A metric that is unknown among others changes nothing; when nothing is known, that cannot be told.
    codes = [report(node("a", **values))["exit_code"] for values in ({}, {"CPUUtilization": 70}, {"SwapUsage": 1e9})]
    assert codes == [0, 1, 2]
    assert report(NodeReading("new", Context(1e9)))["exit_code"] == 3


@pytest.mark.parametrize(
    ("command", "cause", "following"),
    [
        ("keys", "KEYS takes 90% of the time of all commands; it walks the whole keyspace", "Replace KEYS by SCAN"),
        ("smembers", "SMEMBERS takes 90% of the time", "instead of all with SMEMBERS"),
        ("evalsha", "EVALSHA takes 90% of the time of all commands; no other command runs", "Make scripts shorter"),
        ("config|get", "CONFIG GET takes 90% of the time", "Make the commands that take most time cheaper"),
    ],
)
def test_a_busy_engine_is_traced_to_the_command_that_takes_the_time(command: str, cause: str, following: str) -> None:
    evidence = Evidence(commands=[CommandTime(command, 9, 9000), CommandTime("get", 100, 1000)])
    found = metric("EngineCPUUtilization", node("a", evidence, EngineCPUUtilization=90))
    assert cause in found["cause"]
    assert following in found["next"]
    assert found["evidence"][1] == "GET: 10% of the time of commands, 100 calls since the engine's start"


def test_a_busy_host_with_an_idle_engine_is_not_blamed_on_commands() -> None:
    evidence = Evidence(commands=[CommandTime("keys", 9, 9000)])
    found = metric("CPUUtilization", node("a", evidence, CPUUtilization=90, EngineCPUUtilization=5))
    assert "not what is busy" in found["cause"]


def test_many_cheap_calls_are_told_from_few_heavy_ones() -> None:
    evidence = Evidence(commands=[CommandTime("get", 1_000_000, 2_000_000)])
    found = metric("EngineCPUUtilization", node("a", evidence, EngineCPUUtilization=90))
    assert "each call is cheap, there are many" in found["cause"]


def test_full_memory_is_traced_to_a_big_key_or_to_keys_that_stay_for_ever() -> None:
    keys = [SampledKey("huge", 0, "hash", 80 * MIB), *(SampledKey(f"k{n}", 0, "string", 60) for n in range(9))]
    found = metric("DatabaseMemoryUsagePercentage", node("a", Evidence(keys=keys), DatabaseMemoryUsagePercentage=90))
    assert found["cause"] == "big keys: 'huge' (hash, 80.0 MiB, database 0)"
    forever = {"DatabaseMemoryUsagePercentage": 90.0, "CurrItems": 100.0, "CurrVolatileItems": 10.0}
    assert metric("DatabaseMemoryUsagePercentage", node("a", **forever))["cause"] == "90% of the keys never expire"


def test_connections_are_traced_to_an_address() -> None:
    evidence = Evidence(clients={"10.0.0.7": 90, "10.0.0.8": 10})
    found = metric("ConnectionsUsagePercentage", node("a", evidence, ConnectionsUsagePercentage=95))
    assert found["cause"] == "90 of 100 connections come from 10.0.0.7"
    assert found["evidence"] == ["90 connections from 10.0.0.7", "10 connections from 10.0.0.8"]


def test_a_low_hit_rate_is_traced_to_evictions() -> None:
    found = metric("CacheHitRate", node("a", Evidence(evictions=1234), CacheHitRate=50))
    assert found["cause"] == "keys are evicted: 1,234 in the last minute"


def test_fragmentation_gets_the_advice_of_its_side() -> None:
    low = metric("MemoryFragmentationRatio", node("a", MemoryFragmentationRatio=0.8))
    high = metric("MemoryFragmentationRatio", node("a", MemoryFragmentationRatio=1.8))
    assert low["cause"] == "part of the engine's memory is in swap"
    assert low["next"] == "Give the host more memory, part of the data is in swap."
    assert high["next"].startswith("Turn on active defragmentation")


def test_without_evidence_the_usual_causes_are_named_as_such() -> None:
    found = metric("SwapUsage", node("a", SwapUsage=80.0 * MIB))
    assert found["cause"].startswith("usual causes: ")
    assert found["next"]


def test_what_is_safe_has_no_cause() -> None:
    found = metric("SwapUsage", node("a", Evidence(evictions=9)))
    assert (found["cause"], found["next"], found["evidence"]) == ("", "", [])


def test_the_time_of_commands_is_what_was_added_between_two_readings() -> None:
    before = {"cmdstat_get": "calls=10,usec=100,usec_per_call=10.00", "cmdstat_set": "calls=50,usec=500"}
    after = {
        "cmdstat_get": "calls=15,usec=130,usec_per_call=10.00",
        "cmdstat_set": "calls=2,usec=7",  # reset meanwhile
        "cmdstat_keys": "calls=1,usec=900,usec_per_call=900.00,rejected_calls=0,failed_calls=0",
        "cmdstat_odd": "nonsense",
        "used_memory": "5",
    }
    expected = (CommandTime("keys", 1, 900), CommandTime("get", 5, 30), CommandTime("set", 2, 7))
    assert command_times(before, after) == expected


def test_our_own_questions_are_no_evidence_unless_they_are_too_many_to_be_ours() -> None:
    ours = [CommandTime("info", 20, 90), CommandTime("latency|histogram", 1, 9), CommandTime("replconf", 10, 5)]
    theirs = [CommandTime("get", 1, 1), CommandTime("config|get", 500, 9)]
    assert of_users([*ours, *theirs], 10) == tuple(theirs)
    assert of_users([CommandTime("info", 500, 9)], 1000) == ()
    assert of_users([CommandTime("info", 500, 9)], float("inf")) == ()


def test_the_keys_that_were_sampled_count_only_where_no_look_was_taken_meanwhile() -> None:
    sampled = [CommandTime("randomkey", 1000, 90), CommandTime("object|idletime", 1000, 9)]
    assert of_users(sampled, 10, with_looks=True) == ()
    assert of_users(sampled, 10) == tuple(sampled)
