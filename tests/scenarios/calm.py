"""A service in which nothing changes by itself, and what a refusal must be like. Used by the tests of bad input."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from ipaddress import IPv4Network
from typing import Any

import pytest
from botocore import xform_name
from botocore.exceptions import ClientError

from cachekeep.domain.engine import Engine
from cachekeep.host.installs import MachineCatalogue

from .conftest import Service, cluster_status, group_status, wait_for
from .test_refusals import unchecked_client

VALUE, COMBINATION, CLUSTER_STATE = "InvalidParameterValue", "InvalidParameterCombination", "InvalidCacheClusterState"
# Codes that every operation may answer with. Source: ElastiCache API reference, "Common Errors".
COMMON = {
    "IncompleteSignature",
    "InvalidAction",
    "InvalidParameterCombination",
    "InvalidParameterValue",
    "MalformedQueryString",
    "MissingAction",
    "MissingParameter",
}


@pytest.fixture(scope="module")
def calm(
    tmp_path_factory: pytest.TempPathFactory, loopback_range: IPv4Network, catalogue: MachineCatalogue
) -> Iterator[Service]:
    """A service of this module's own, in which nothing changes by itself: a group, two clusters, and what they use."""
    network = list(loopback_range.subnets(new_prefix=27))[7]
    service = Service(tmp_path_factory.mktemp("calm") / "state", network)
    try:
        service.start()
        _furnish(service.client(), memcached=catalogue.best(Engine.MEMCACHED, None) is not None)
        yield service
        assert "level='error'" not in service.log.read_text()
        assert "Traceback" not in service.log.read_text()
    finally:
        service.dispose()


def _furnish(ec: Any, *, memcached: bool) -> None:
    ec.create_cache_parameter_group(
        CacheParameterGroupName="own", CacheParameterGroupFamily="valkey9", Description="own"
    )
    more = [{"ParameterName": "databases", "ParameterValue": "20"}]
    ec.modify_cache_parameter_group(CacheParameterGroupName="own", ParameterNameValues=more)
    ec.create_cache_parameter_group(
        CacheParameterGroupName="other", CacheParameterGroupFamily="redis7", Description="other"
    )
    ec.create_cache_subnet_group(
        CacheSubnetGroupName="nets", CacheSubnetGroupDescription="nets", SubnetIds=["subnet-1"]
    )
    ec.create_replication_group(
        ReplicationGroupId="grp",
        ReplicationGroupDescription="x",
        NumCacheClusters=2,
        AutomaticFailoverEnabled=True,
        CacheParameterGroupName="own",
        CacheSubnetGroupName="nets",
        Tags=[{"Key": "team", "Value": "a"}],
    )
    ec.create_cache_cluster(CacheClusterId="one", Engine="valkey")
    ec.create_cache_cluster(CacheClusterId="two-001", Engine="valkey")
    if memcached:
        ec.create_cache_cluster(CacheClusterId="mem", Engine="memcached", NumCacheNodes=2)
        wait_for(lambda: cluster_status(ec, "mem") == "available")
    wait_for(lambda: {cluster_status(ec, "one"), cluster_status(ec, "two-001")} == {"available"})
    wait_for(lambda: group_status(ec, "grp") == "available")


def everything(service: Service) -> dict[str, Any]:
    """All that is stored, on disk and running, to be compared."""
    with closing(sqlite3.connect(f"file:{service.state_dir / 'store.sqlite'}?mode=ro", uri=True)) as store:
        tables = [name for (name,) in store.execute("SELECT name FROM sqlite_master WHERE type='table'")]
        rows = {name: sorted(map(repr, store.execute(f'SELECT * FROM "{name}"'))) for name in tables}  # noqa: S608
    return {
        **rows,
        "engines": sorted(service.engines()),
        "folders": sorted(str(path) for path in service.nodes_root.glob("*/*/*")),
    }


@pytest.fixture(scope="module")
def unchecked(calm: Service) -> Any:
    return unchecked_client(calm)


@pytest.fixture
def unchanged(calm: Service) -> Iterator[Service]:
    """The service, which must be the same after the test in all that it shows."""
    before = everything(calm)
    assert before["resource"]
    assert before["engines"]
    yield calm
    assert everything(calm) == before


def refused(ec: Any, operation: str, **params: Any) -> tuple[str, str]:
    """Code and message of a refusal, which must be one that AWS declares, and never the service's fault."""
    with pytest.raises(ClientError) as caught:
        getattr(ec, xform_name(operation))(**params)
    answer = caught.value.response
    model = ec.meta.service_model.operation_model(operation)
    declared = {shape.metadata.get("error", {}).get("code", shape.name) for shape in model.error_shapes}
    code, message = answer["Error"]["Code"], answer["Error"]["Message"]
    assert code in declared | COMMON, f"{operation}: {code}"
    assert 400 <= answer["ResponseMetadata"]["HTTPStatusCode"] < 500
    assert message
    assert "Traceback" not in message
    return code, message
