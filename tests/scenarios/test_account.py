"""What concerns the whole account: identity, engine versions, node types, tags, subnet groups, paging."""

from __future__ import annotations

from typing import Any

import pytest

from cachekeep.host.installs import MachineCatalogue

from .conftest import Service, create_cluster, create_group

Created = list[tuple[str, str]]


def test_caller_identity(service: Service) -> None:
    identity = service.client("sts").get_caller_identity()
    assert identity["Account"] == "000000000000"
    assert identity["Arn"] == "arn:aws:iam::000000000000:root"


def test_engine_versions_are_those_of_this_machine(ec: Any, catalogue: MachineCatalogue) -> None:
    shown = {(v["Engine"], v["EngineVersion"]) for v in ec.describe_cache_engine_versions()["CacheEngineVersions"]}
    assert shown == {(i.engine.value, str(i.version)) for i in catalogue.installs()}
    (newest,) = ec.describe_cache_engine_versions(Engine="valkey", DefaultOnly=True)["CacheEngineVersions"]
    assert newest["EngineVersion"].startswith("9.1.")
    assert newest["CacheParameterGroupFamily"] == "valkey9"
    assert ec.describe_cache_engine_versions(EngineVersion="3.2")["CacheEngineVersions"] == []


def test_node_type_modifications(ec: Any, created: Created, name: str) -> None:
    create_group(ec, created, name, NumCacheClusters=1, CacheNodeType="cache.t4g.small")
    answer = ec.list_allowed_node_type_modifications(ReplicationGroupId=name)
    assert "cache.t4g.medium" in answer["ScaleUpModifications"]
    assert "cache.t4g.micro" in answer["ScaleDownModifications"]
    assert "cache.t4g.small" not in answer["ScaleUpModifications"] + answer["ScaleDownModifications"]


def test_tags_by_arn(ec: Any, created: Created, name: str) -> None:
    cluster = create_cluster(ec, created, name, Tags=[{"Key": "team", "Value": "a"}])
    arn = cluster["ARN"]
    assert ec.list_tags_for_resource(ResourceName=arn)["TagList"] == [{"Key": "team", "Value": "a"}]
    ec.add_tags_to_resource(ResourceName=arn, Tags=[{"Key": "env", "Value": "test"}])
    ec.remove_tags_from_resource(ResourceName=arn, TagKeys=["team"])
    assert ec.list_tags_for_resource(ResourceName=arn)["TagList"] == [{"Key": "env", "Value": "test"}]
    with pytest.raises(ec.exceptions.TagNotFoundFault):
        ec.remove_tags_from_resource(ResourceName=arn, TagKeys=["team"])
    with pytest.raises(ec.exceptions.InvalidARNFault):
        ec.list_tags_for_resource(ResourceName="arn:aws:s3:::bucket")
    with pytest.raises(ec.exceptions.CacheClusterNotFoundFault):
        ec.list_tags_for_resource(ResourceName=arn.replace(name, "nobody"))
    with pytest.raises(ec.exceptions.TagQuotaPerResourceExceeded):
        ec.add_tags_to_resource(ResourceName=arn, Tags=[{"Key": f"k{n}", "Value": ""} for n in range(50)])


def test_subnet_groups(ec: Any, created: Created, name: str) -> None:
    group = ec.create_cache_subnet_group(
        CacheSubnetGroupName=name, CacheSubnetGroupDescription="x", SubnetIds=["subnet-1", "subnet-2"]
    )["CacheSubnetGroup"]
    assert [s["SubnetIdentifier"] for s in group["Subnets"]] == ["subnet-1", "subnet-2"]
    with pytest.raises(ec.exceptions.CacheSubnetGroupAlreadyExistsFault):
        ec.create_cache_subnet_group(CacheSubnetGroupName=name, CacheSubnetGroupDescription="x", SubnetIds=["subnet-1"])
    ec.modify_cache_subnet_group(CacheSubnetGroupName=name, SubnetIds=["subnet-3"])
    (shown,) = ec.describe_cache_subnet_groups(CacheSubnetGroupName=name)["CacheSubnetGroups"]
    assert [s["SubnetIdentifier"] for s in shown["Subnets"]] == ["subnet-3"]
    cluster = create_cluster(ec, created, name, CacheSubnetGroupName=name)
    assert cluster["CacheSubnetGroupName"] == name
    with pytest.raises(ec.exceptions.CacheSubnetGroupInUse):
        ec.delete_cache_subnet_group(CacheSubnetGroupName=name)
    with pytest.raises(ec.exceptions.CacheSubnetGroupNotFoundFault):
        ec.describe_cache_subnet_groups(CacheSubnetGroupName="nobody")


def test_pages_neither_repeat_nor_hide(ec: Any, name: str) -> None:
    names = [f"{name}-{n:02d}" for n in range(45)]
    for group in names:
        ec.create_cache_subnet_group(
            CacheSubnetGroupName=group, CacheSubnetGroupDescription="x", SubnetIds=["subnet-1"]
        )
    pages = list(ec.get_paginator("describe_cache_subnet_groups").paginate(PaginationConfig={"PageSize": 20}))
    assert len(pages) >= 3
    seen = [g["CacheSubnetGroupName"] for page in pages for g in page["CacheSubnetGroups"]]
    assert [s for s in seen if s in names] == names
    assert len(seen) == len(set(seen))
    with pytest.raises(ec.exceptions.InvalidParameterValueException):
        ec.describe_cache_subnet_groups(MaxRecords=7)
    with pytest.raises(ec.exceptions.ClientError, match="Invalid marker"):
        ec.describe_cache_subnet_groups(Marker="%%%")
