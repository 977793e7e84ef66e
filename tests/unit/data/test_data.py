"""The package data is complete, well formed, and agrees with AWS's own sample outputs."""

from __future__ import annotations

import json
from collections import Counter
from importlib.resources import files
from typing import Any

import botocore
import pytest

from cachekeep.data import load
from cachekeep.domain.engine import Engine, EngineVersion
from cachekeep.domain.parameters import ChangeType, Family
from cachekeep.plan.parameters import FIXED_IN_USE, RECORDED_ONLY, why_not_allowed

ALL = {
    Engine.MEMCACHED: ["memcached1.4", "memcached1.5", "memcached1.6"],
    Engine.REDIS: ["redis2.6", "redis2.8", "redis3.2", "redis4.0", "redis5.0", "redis6.x", "redis7"],
    Engine.VALKEY: ["valkey7", "valkey8", "valkey9"],
}


def test_all_families_are_there() -> None:
    found = load.families()
    assert {e: [n for n, f in found.items() if f.engine is e] for e in Engine} == ALL


@pytest.mark.parametrize("family", load.families().values(), ids=lambda f: f.name)
def test_every_default_is_an_allowed_value(family: Family) -> None:
    for p in family.parameters.values():
        # An empty default stands for "by node type" or "nothing"; cluster-databases shows 0, which cannot be set.
        if p.modifiable and p.default and p.name != "cluster-databases":
            assert why_not_allowed(p, p.default) is None, p
        assert p.description.endswith(".")
        assert EngineVersion.parse(p.minimum_engine_version)
        assert not p.by_node_type or (not p.modifiable and not p.default)


def test_memcached_changes_only_by_a_reboot() -> None:
    changes = {
        p.change for f in load.families().values() if f.engine is Engine.MEMCACHED for p in f.parameters.values()
    }
    assert changes == {ChangeType.REQUIRES_REBOOT}


def test_every_family_file_names_source_and_date() -> None:
    for path in (files("cachekeep.data") / "families").iterdir():
        raw = json.loads(path.read_text("utf-8"))
        assert raw["source"]
        assert raw["as_of"] == "2026-11-22"


def test_guesses_are_named() -> None:
    for family, names in load.guesses().items():
        assert set(names) <= set(load.families()[family].parameters)
        assert all(names.values())


def test_persistence_is_ours_from_redis_6_on() -> None:
    names = {"appendonly", "appendfsync", "save", "auto-aof-rewrite-percentage", "auto-aof-rewrite-min-size"}
    names |= {"aof-load-truncated", "no-appendfsync-on-rewrite"}
    assert load.ours().keys() == {"redis6.x", "redis7", "valkey7", "valkey8", "valkey9"}
    for family, reasons in load.ours().items():
        assert reasons.keys() - {"latency-tracking"} == names
        parameters = load.families()[family].parameters
        assert all(parameters[name].modifiable for name in names)
        assert all(parameters[name].change is ChangeType.IMMEDIATE for name in names)
        assert (parameters["appendonly"].default, parameters["save"].default) == ("no", "")
    assert not load.families()["redis5.0"].parameters["appendonly"].modifiable


def test_latencies_of_commands_are_kept_unless_a_group_says_no() -> None:
    for family in ("redis7", "valkey7", "valkey8", "valkey9"):
        assert load.families()[family].parameters["latency-tracking"].default == "yes"
        assert "SuccessfulReadRequestLatency" in load.ours()[family]["latency-tracking"]


def test_recorded_and_fixed_names_exist() -> None:
    names = {name for family in load.families().values() for name in family.parameters}
    assert names >= RECORDED_ONLY
    assert names >= FIXED_IN_USE


def _sample(operation: str) -> list[dict[str, Any]]:
    text = (files(botocore) / "data/elasticache/2015-02-02/examples-1.json").read_text("utf-8")
    output = json.loads(text)["examples"][operation][0]["output"]
    found: list[dict[str, Any]] = output["Parameters"]
    return found


def test_redis28_is_what_aws_prints_in_its_sample() -> None:
    ours = load.families()["redis2.8"].parameters
    sample = _sample("DescribeCacheParameters")
    assert [p["ParameterName"] for p in sample] == [n for n, p in ours.items() if not p.by_node_type]
    for shown in sample:
        p = ours[shown["ParameterName"]]
        assert (p.default, p.data_type, p.allowed, p.modifiable) == (
            shown.get("ParameterValue", ""),
            shown["DataType"],
            shown.get("AllowedValues", ""),
            shown["IsModifiable"],
        )
        assert (p.minimum_engine_version, p.change) == (shown["MinimumEngineVersion"], shown["ChangeType"])


def test_default_groups() -> None:
    groups = load.default_groups()
    assert ("default.valkey9", "valkey9", False) in groups
    assert ("default.valkey9.cluster.on", "valkey9", True) in groups
    assert Counter(g.cluster_on for g in groups) == {False: 13, True: 8}
    assert not any(g.cluster_on for g in groups if g.family in ("redis2.6", "redis2.8") or "memcached" in g.family)


@pytest.mark.parametrize(
    ("engine", "version", "family"),
    [
        ("valkey", "7.2", "valkey7"),
        ("valkey", "8.1.8", "valkey8"),
        ("valkey", "9.1", "valkey9"),
        ("valkey", "10.0", None),
        ("redis", "7.1", "redis7"),
        ("redis", "6.2.6", "redis6.x"),
        ("redis", "5.0.6", "redis5.0"),
        ("redis", "2.8.24", "redis2.8"),
        ("redis", "8.0", None),
        ("redis", "3.0", None),
        ("memcached", "1.6.18", "memcached1.6"),
        ("memcached", "1.4.34", "memcached1.4"),
        ("memcached", "1.7.0", None),
    ],
)
def test_family_of_a_version(engine: str, version: str, family: str | None) -> None:
    assert load.family_of(Engine(engine), EngineVersion.parse(version)) == family


def test_node_types_have_memory_and_threads() -> None:
    types = load.node_types()
    assert len(types) == 94
    micro = types["cache.t4g.micro"]
    assert (micro.maxmemory_bytes, micro.memcached_bytes, micro.maxclients) == (536870912, 512 * 2**20, 20000)
    assert types["cache.m5.large"].maxmemory_bytes == 6854542746
    assert types["cache.r6gd.xlarge"].memcached_bytes == 0
    for t in types.values():
        assert t.maxmemory_bytes > 0
        assert t.vcpu > 0
        assert t.memcached_threads > 0
        # Rule seen in the table: maxmemory is the listed memory, within a tenth.
        assert 0.9 < t.maxmemory_bytes / (t.memory_gib * 2**30) < 1.1, t


@pytest.mark.parametrize(
    "broken",
    [
        {"remove": ["absent"]},
        {"rename": {"absent": "new"}},
        {"change": {"absent": {"default": "1"}}},
        {"add": {"x": {"default": 1, "type": "string", "allowed": "", "description": "D.", "modifiable": True}}},
        {"add": {"x": {"default": "1", "type": "number", "allowed": "", "description": "D.", "modifiable": True}}},
        {"add": {"x": {"default": "1", "type": "string"}}},
        {
            "add": {
                "x": {
                    "default": "",
                    "type": "string",
                    "allowed": "",
                    "description": "D.",
                    "modifiable": True,
                    "ours": "",
                }
            }
        },
        {"source": ""},
        {"base_version": "seven"},
        {"engine": "other"},
    ],
)
def test_a_malformed_family_is_refused(broken: dict[str, Any]) -> None:
    good = {"family": "f", "engine": "valkey", "description": "d", "source": "s", "as_of": "d", "base_version": "1.0"}
    assert load.build_family("f", good, {}).family.name == "f"
    with pytest.raises((KeyError, TypeError, ValueError)):
        load.build_family("f", {**good, **broken}, {})
