"""Tags by ARN: of each kind of resource, of a group and its members, and of what has none; and what a retry sees."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

from .conftest import Service, create_cluster, create_group, gone, wait_for

Created = list[tuple[str, str]]
ARN = "arn:aws:elasticache:us-east-1:000000000000"


def tags(ec: Any, arn: str) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in ec.list_tags_for_resource(ResourceName=arn)["TagList"]}


def code_of(ec: Any, arn: str) -> str:
    with pytest.raises(ClientError) as refused:
        ec.list_tags_for_resource(ResourceName=arn)
    return str(refused.value.response["Error"]["Code"])


def test_tags_of_a_group_reach_its_members(ec: Any, created: Created, name: str) -> None:
    group = create_group(ec, created, name, NumCacheClusters=2)
    member = f"{ARN}:cluster:{name}-002"
    ec.add_tags_to_resource(ResourceName=member, Tags=[{"Key": "own", "Value": "1"}, {"Key": "team", "Value": "b"}])
    ec.add_tags_to_resource(ResourceName=group["ARN"], Tags=[{"Key": "team", "Value": "a"}])
    assert tags(ec, member) == {"own": "1", "team": "a"}
    assert tags(ec, f"{ARN}:cluster:{name}-001") == {"team": "a"}
    ec.remove_tags_from_resource(ResourceName=group["ARN"], TagKeys=["team"])
    assert (tags(ec, group["ARN"]), tags(ec, member)) == ({}, {"own": "1"})
    # 50 are allowed; a member that would have 51 stops the whole request.
    ec.add_tags_to_resource(ResourceName=member, Tags=[{"Key": f"k{n}", "Value": ""} for n in range(49)])
    assert len(tags(ec, member)) == 50
    with pytest.raises(ec.exceptions.TagQuotaPerResourceExceeded):
        ec.add_tags_to_resource(ResourceName=group["ARN"], Tags=[{"Key": "team", "Value": "a"}])
    assert tags(ec, group["ARN"]) == tags(ec, f"{ARN}:cluster:{name}-001") == {}


def test_each_kind_has_its_own_fault(ec: Any) -> None:
    missing = {
        "cluster": "CacheClusterNotFound",
        "replicationgroup": "ReplicationGroupNotFoundFault",
        "parametergroup": "CacheParameterGroupNotFound",
        "subnetgroup": "CacheSubnetGroupNotFoundFault",
        "securitygroup": "CacheSecurityGroupNotFound",
        "snapshot": "SnapshotNotFoundFault",
        "user": "UserNotFound",
        "usergroup": "UserGroupNotFound",
        "reserved-instance": "ReservedCacheNodeNotFound",
        "reservedinstance": "ReservedCacheNodeNotFound",
        "serverlesscache": "ServerlessCacheNotFoundFault",
        "serverlesscachesnapshot": "ServerlessCacheSnapshotNotFoundFault",
    }
    assert {kind: code_of(ec, f"{ARN}:{kind}:nobody") for kind in missing} == missing
    nowhere = "arn:aws:elasticache::000000000000:globalreplicationgroup:nobody"
    assert code_of(ec, nowhere) == "GlobalReplicationGroupNotFoundFault"
    for arn in (
        "arn:aws:elasticache:eu-west-1:000000000000:cluster:a",
        "arn:aws:elasticache:us-east-1:111111111111:cluster:a",
        "arn:aws:elasticache::000000000000:cluster:a",
        "arn:aws:rds:us-east-1:000000000000:cluster:a",
        f"{ARN}:nothing:a",
        f"{ARN}:cluster:",
        f"{ARN}:Cluster:a",
        "cluster",
        " ",
    ):
        assert code_of(ec, arn) == "InvalidARN", arn


def test_default_groups_have_no_tags_and_get_none(ec: Any) -> None:
    """A tool that reads the tags of all that is there finds nothing that fails."""
    groups = ec.describe_cache_parameter_groups()["CacheParameterGroups"]
    default = next(g for g in groups if g["CacheParameterGroupName"] == "default.valkey9")
    subnets = ec.describe_cache_subnet_groups(CacheSubnetGroupName="default")["CacheSubnetGroups"]
    for arn in (default["ARN"], subnets[0]["ARN"]):
        assert tags(ec, arn) == {}
        with pytest.raises(ec.exceptions.InvalidParameterValueException):
            ec.add_tags_to_resource(ResourceName=arn, Tags=[{"Key": "a", "Value": "b"}])
        with pytest.raises(ec.exceptions.TagNotFoundFault):
            ec.remove_tags_from_resource(ResourceName=arn, TagKeys=["a"])


def test_a_request_that_is_sent_again(ec: Any, created: Created, name: str) -> None:
    """What a client sees that lost the first answer and asks once more."""
    cluster = create_cluster(ec, created, name)
    with pytest.raises(ec.exceptions.CacheClusterAlreadyExistsFault):
        ec.create_cache_cluster(CacheClusterId=name, Engine="valkey")
    one = [{"Key": "a", "Value": "b"}]
    assert [ec.add_tags_to_resource(ResourceName=cluster["ARN"], Tags=one)["TagList"] for _ in range(2)] == [one, one]
    same = {"CacheClusterId": name, "SnapshotWindow": "03:00-04:00", "ApplyImmediately": True}
    for _ in range(2):
        assert ec.modify_cache_cluster(**same)["CacheCluster"]["SnapshotWindow"] == "03:00-04:00"
    ec.delete_cache_cluster(CacheClusterId=name)
    with pytest.raises((ec.exceptions.InvalidCacheClusterStateFault, ec.exceptions.CacheClusterNotFoundFault)):
        ec.delete_cache_cluster(CacheClusterId=name)
    wait_for(lambda: gone(ec, "cluster", name))
    with pytest.raises(ec.exceptions.CacheClusterNotFoundFault):
        ec.delete_cache_cluster(CacheClusterId=name)


def test_events_of_every_source(ec: Any, service: Service, name: str) -> None:
    asked = {"CacheSubnetGroupName": name, "CacheSubnetGroupDescription": "x", "SubnetIds": ["subnet-1"]}
    ec.create_cache_subnet_group(**asked)
    (event,) = ec.describe_events(SourceType="cache-subnet-group", SourceIdentifier=name.upper())["Events"]
    assert (event["SourceIdentifier"], event["Message"]) == (name, f"Created subnet group {name}")
    words = ec.meta.service_model.shape_for("SourceType").enum
    assert len(words) == 9
    for word in words:
        assert ec.describe_events(SourceType=word, SourceIdentifier="nobody")["Events"] == []
    assert service.client(region="sa-east-1").describe_events(Duration=20160)["Events"] == []
    at = event["Date"]
    assert ec.describe_events(SourceType="cache-subnet-group", SourceIdentifier=name, StartTime=at, Duration=1)[
        "Events"
    ] == [event]
    assert (
        ec.describe_events(SourceType="cache-subnet-group", SourceIdentifier=name, EndTime=at.replace(year=2020))[
            "Events"
        ]
        == []
    )
    refused = ec.exceptions
    for wrong in ({"Duration": 0}, {"Duration": 20161}, {"MaxRecords": 19}, {"Marker": "%"}):
        with pytest.raises(refused.InvalidParameterValueException):
            ec.describe_events(**wrong)
    for wrong in ({"SourceIdentifier": name}, {"StartTime": at, "EndTime": at.replace(year=2020)}):
        with pytest.raises(refused.InvalidParameterCombinationException):
            ec.describe_events(**wrong)


def test_engine_versions_by_every_filter(ec: Any) -> None:
    everything = ec.describe_cache_engine_versions()["CacheEngineVersions"]
    one = everything[-1]

    def found(**filters: Any) -> list[dict[str, Any]]:
        return list(ec.describe_cache_engine_versions(**filters)["CacheEngineVersions"])

    family = one["CacheParameterGroupFamily"]
    of_family = [v for v in everything if v["CacheParameterGroupFamily"] == family]
    assert found(CacheParameterGroupFamily=family) == of_family
    assert found(Engine=one["Engine"], EngineVersion=one["EngineVersion"]) == [one]
    assert found(Engine="memcached", CacheParameterGroupFamily=family) == [
        v for v in of_family if v["Engine"] == "memcached"
    ]
    assert found(CacheParameterGroupFamily="valkey7.9") == []
    newest = found(DefaultOnly=True)
    assert [v["Engine"] for v in newest] == sorted({v["Engine"] for v in everything})
    older = found(DefaultOnly=True, Engine="valkey", EngineVersion="8")
    assert [v["EngineVersion"].split(".")[0] for v in older] == ["8"] * len(older)
    with pytest.raises(ClientError, match="Unrecognized engine"):
        found(Engine="postgres")
    with pytest.raises(ClientError, match="MaxRecords"):
        found(MaxRecords=101)


def test_default_parameters_page_by_page(ec: Any) -> None:
    """Their marker stands within EngineDefaults."""
    pager = ec.get_paginator("describe_engine_default_parameters")
    pages = list(pager.paginate(CacheParameterGroupFamily="valkey8", PaginationConfig={"PageSize": 20}))
    assert len(pages) > 2
    assert all("Marker" not in page for page in pages)
    assert [bool(page["EngineDefaults"].get("Marker")) for page in pages] == [True] * (len(pages) - 1) + [False]
    names = [p["ParameterName"] for page in pages for p in page["EngineDefaults"]["Parameters"]]
    assert names == sorted(set(names))
