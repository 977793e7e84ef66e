"""Parameter groups: what is set there, engines really run with."""

from __future__ import annotations

from typing import Any

import pytest

from .conftest import cluster_status, connect, create_cluster, create_group, group_status, messages, wait_for

Created = list[tuple[str, str]]


def make(ec: Any, name: str, family: str = "valkey9") -> None:
    ec.create_cache_parameter_group(
        CacheParameterGroupName=name, CacheParameterGroupFamily=family, Description="for a test"
    )


def change(ec: Any, name: str, **values: str) -> None:
    ec.modify_cache_parameter_group(
        CacheParameterGroupName=name,
        ParameterNameValues=[{"ParameterName": n.replace("_", "-"), "ParameterValue": v} for n, v in values.items()],
    )


def value_of(ec: Any, group: str, parameter: str) -> dict[str, Any]:
    pages = ec.get_paginator("describe_cache_parameters").paginate(CacheParameterGroupName=group)
    found = [p for page in pages for p in page["Parameters"] if p["ParameterName"] == parameter]
    return dict(found[0])


def parameter_status(ec: Any, name: str) -> str:
    cluster = ec.describe_cache_clusters(CacheClusterId=name, ShowCacheNodeInfo=True)["CacheClusters"][0]
    return str(cluster["CacheNodes"][0]["ParameterGroupStatus"])


def test_values_reach_the_engine(ec: Any, created: Created, name: str) -> None:
    make(ec, name)
    change(ec, name, maxmemory_policy="allkeys-lfu")
    group = create_group(ec, created, name, CacheParameterGroupName=name)
    members = [connect(m["ReadEndpoint"]) for m in group["NodeGroups"][0]["NodeGroupMembers"]]
    assert [m.config_get("maxmemory-policy")["maxmemory-policy"] for m in members] == ["allkeys-lfu"] * 2
    change(ec, name, notify_keyspace_events="KEA", timeout="40", reserved_memory_percent="50")
    wait_for(lambda: all(m.config_get("timeout")["timeout"] == "40" for m in members))
    assert set(members[1].config_get("notify-keyspace-events")["notify-keyspace-events"]) == set("AKE")
    assert int(members[0].config_get("maxmemory")["maxmemory"]) == 536870912 // 2
    shown = value_of(ec, name, "timeout")
    assert (shown["ParameterValue"], shown["Source"]) == ("40", "user")
    wait_for(lambda: parameter_status(ec, f"{name}-001") == "in-sync")


def test_reset_takes_values_back(ec: Any, created: Created, name: str) -> None:
    make(ec, name)
    change(ec, name, timeout="40", maxmemory_policy="noeviction")
    cluster = create_cluster(ec, created, name, CacheParameterGroupName=name)
    engine = connect(cluster["CacheNodes"][0]["Endpoint"])
    ec.reset_cache_parameter_group(CacheParameterGroupName=name, ParameterNameValues=[{"ParameterName": "timeout"}])
    wait_for(lambda: engine.config_get("timeout")["timeout"] == "0")
    assert engine.config_get("maxmemory-policy")["maxmemory-policy"] == "noeviction"
    ec.reset_cache_parameter_group(CacheParameterGroupName=name, ResetAllParameters=True)
    wait_for(lambda: engine.config_get("maxmemory-policy")["maxmemory-policy"] == "volatile-lru")


def test_another_group_is_applied_to_a_running_group(ec: Any, created: Created, name: str) -> None:
    group = create_group(ec, created, name)
    engine = connect(group["NodeGroups"][0]["PrimaryEndpoint"])
    make(ec, name)
    change(ec, name, slowlog_max_len="77")
    ec.modify_replication_group(ReplicationGroupId=name, CacheParameterGroupName=name, ApplyImmediately=True)
    wait_for(lambda: group_status(ec, name) == "available")
    assert engine.config_get("slowlog-max-len")["slowlog-max-len"] == "77"
    member = ec.describe_cache_clusters(CacheClusterId=f"{name}-002")["CacheClusters"][0]
    assert member["CacheParameterGroup"]["CacheParameterGroupName"] == name


def test_what_needs_a_restart_waits_for_a_reboot(ec: Any, created: Created, name: str) -> None:
    make(ec, name)
    cluster = create_cluster(ec, created, name, CacheParameterGroupName=name)
    at = cluster["CacheNodes"][0]["Endpoint"]
    connect(at).set("kept", "yes")
    change(ec, name, databases="20")
    wait_for(lambda: parameter_status(ec, name) == "pending-reboot")
    assert connect(at).config_get("databases")["databases"] == "16"
    ec.reboot_cache_cluster(CacheClusterId=name, CacheNodeIdsToReboot=["0001"])
    wait_for(lambda: cluster_status(ec, name) == "available")
    assert connect(at).config_get("databases")["databases"] == "20"
    assert connect(at).get("kept") == "yes"
    wait_for(lambda: parameter_status(ec, name) == "in-sync")


def test_a_group_in_use_is_kept(ec: Any, created: Created, name: str) -> None:
    make(ec, name)
    create_cluster(ec, created, name, CacheParameterGroupName=name)
    with pytest.raises(ec.exceptions.InvalidCacheParameterGroupStateFault, match="in use"):
        ec.delete_cache_parameter_group(CacheParameterGroupName=name)
    make(ec, f"{name}-unused")
    ec.delete_cache_parameter_group(CacheParameterGroupName=f"{name}-unused")
    with pytest.raises(ec.exceptions.CacheParameterGroupNotFoundFault):
        ec.describe_cache_parameter_groups(CacheParameterGroupName=f"{name}-unused")
    assert messages(ec, "cache-parameter-group", f"{name}-unused") == [
        f"Created parameter group {name}-unused",
        f"Deleted parameter group {name}-unused",
    ]


def test_default_groups(ec: Any) -> None:
    pages = ec.get_paginator("describe_cache_parameter_groups").paginate(PaginationConfig={"PageSize": 20})
    groups = {g["CacheParameterGroupName"]: g for page in pages for g in page["CacheParameterGroups"]}
    families = "memcached1.4 memcached1.5 memcached1.6 redis2.6 redis2.8 redis3.2 redis4.0 redis5.0 redis6.x redis7"
    for family in [*families.split(), "valkey7", "valkey8", "valkey9"]:
        assert groups[f"default.{family}"]["CacheParameterGroupFamily"] == family
    assert groups["default.valkey9.cluster.on"]
    with pytest.raises(ec.exceptions.InvalidParameterValueException, match="cannot be modified"):
        change(ec, "default.valkey9", timeout="40")
    defaults = ec.describe_engine_default_parameters(CacheParameterGroupFamily="valkey9")["EngineDefaults"]
    assert defaults["CacheParameterGroupFamily"] == "valkey9"
    by_type = {p["ParameterName"]: p for p in defaults["CacheNodeTypeSpecificParameters"]}
    sizes = {v["CacheNodeType"]: v["Value"] for v in by_type["maxmemory"]["CacheNodeTypeSpecificValues"]}
    assert sizes["cache.m5.large"] == "6854542746"


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("no-such-parameter", "1"),
        ("maxmemory-policy", "whatever"),
        ("timeout", "5"),
        ("timeout", "many"),
        ("maxmemory", "1"),
        ("save", "900"),
        ("timeout", "20\r\nrequirepass x"),
    ],
)
def test_what_is_not_allowed_changes_nothing(ec: Any, name: str, parameter: str, value: str) -> None:
    make(ec, name)
    with pytest.raises(ec.exceptions.InvalidParameterValueException):
        ec.modify_cache_parameter_group(
            CacheParameterGroupName=name,
            ParameterNameValues=[
                {"ParameterName": "maxmemory-samples", "ParameterValue": "9"},
                {"ParameterName": parameter, "ParameterValue": value},
            ],
        )
    assert value_of(ec, name, "maxmemory-samples")["Source"] == "system"


def test_a_group_of_another_family_is_refused(ec: Any, name: str) -> None:
    make(ec, name, "redis7")
    with pytest.raises(ec.exceptions.InvalidParameterCombinationException, match="family valkey9"):
        ec.create_cache_cluster(CacheClusterId=name, Engine="valkey", CacheParameterGroupName=name)
