"""Every state that a resource can be in is shown without an error: an answer is encoded after its change is stored,
so that whatever cannot be encoded would be done and yet look failed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import cycle, product
from typing import Any, cast

import pytest
from botocore.loaders import Loader
from botocore.model import ServiceModel
from botocore.parsers import create_parser

from cachekeep.api import present, present_group
from cachekeep.api.context import Call, Services
from cachekeep.codec.aws_model import load_service
from cachekeep.codec.xml import encode_response
from cachekeep.data.load import families, node_types
from cachekeep.domain.cache_cluster import CacheCluster, CacheNode, NodeStatus, ParameterStatus, Pending, Status, Upkeep
from cachekeep.domain.engine import Engine, EngineVersion
from cachekeep.domain.nodes import Address
from cachekeep.domain.parameters import ParameterGroup
from cachekeep.domain.replication_group import ClusterMode, HandOver, NodeGroup, ReplicationGroup
from cachekeep.domain.slots import parse_slots
from cachekeep.domain.subnet_group import SubnetGroup

SERVICE = load_service("elasticache")
MODEL = ServiceModel(Loader().load_service_model("elasticache", "service-2", api_version="2015-02-02"))
PARSER = create_parser("query")
MOMENT = 1_790_000_000.123
UPKEEP = Upkeep("sun:05:00-sun:06:00", "03:00-04:00")


class _Services:
    """All that presenting reads of the services."""

    account_id = "000000000000"


CALL = Call(cast(Services, _Services()), "Describe", "eu-west-1", {})


def shown(operation: str, result: Mapping[str, Any]) -> dict[str, Any]:
    """What a client reads of a result: encoded as the service does, parsed as botocore does."""
    body = encode_response(SERVICE, SERVICE.operations[operation], result, "id")
    output: Any = MODEL.operation_model(operation).output_shape
    return dict(PARSER.parse({"status_code": 200, "headers": {}, "body": body}, output))


def node(number: int = 1, **changes: Any) -> CacheNode:
    return replace(CacheNode(f"{number:04d}", Address(f"127.64.0.{number}", 6379), "eu-west-1a", MOMENT), **changes)


def cluster(engine: Engine = Engine.VALKEY, **changes: Any) -> CacheCluster:
    made = CacheCluster(
        region="eu-west-1",
        id="a-001",
        engine=engine,
        version=EngineVersion((9, 1)),
        node_type="cache.t4g.micro",
        port=6379,
        parameter_group="default.valkey9",
        subnet_group="default",
        upkeep=UPKEEP,
        created_at=MOMENT,
        nodes=(node(),),
    )
    return replace(made, **changes)


def group(**changes: Any) -> ReplicationGroup:
    made = ReplicationGroup(
        region="eu-west-1",
        id="a",
        description='<x> & "y" \x01 é',
        engine=Engine.VALKEY,
        version=EngineVersion((9, 1)),
        node_type="cache.t4g.micro",
        port=6379,
        parameter_group="default.valkey9",
        subnet_group="default",
        upkeep=UPKEEP,
        created_at=MOMENT,
        node_groups=(NodeGroup("0001", ("a-001", "a-002"), "a-001"),),
        primary_endpoint=Address("127.64.0.8", 6379),
        reader_endpoint=Address("127.64.0.9", 6379),
    )
    return replace(made, **changes)


UPKEEPS = [
    UPKEEP,
    replace(UPKEEP, notification_topic="arn:aws:sns:eu-west-1:000000000000:t", notification_active=False),
    replace(UPKEEP, security_group_ids=("sg-1", "sg-2")),
]
PENDING = [
    Pending(),
    Pending(node_type="cache.t4g.small"),
    Pending(nodes_to_add=(node(8), node(9))),
    Pending(node_ids_to_remove=("0001",)),
    Pending(automatic_failover=True),
    Pending("cache.t4g.small", (node(8),), ("0001",), False),
]
SUBSTITUTES: list[dict[str, Any]] = [
    {},
    {"engine": Engine.REDIS, "substitute": Engine.VALKEY, "substitute_version": EngineVersion((9, 1, 2))},
]


@pytest.mark.parametrize("status", Status)
@pytest.mark.parametrize("engine", Engine)
def test_every_state_of_a_cluster(status: Status, engine: Engine) -> None:
    end = None if engine.speaks_resp else Address("127.64.0.7", 11211)
    stand_ins = SUBSTITUTES if engine is Engine.REDIS else SUBSTITUTES[:1]
    # Both statuses of a node vary together, and so do what waits and the upkeep: none of them looks at the other.
    node_statuses = list(zip(NodeStatus, cycle(ParameterStatus), strict=False))
    for (pending, upkeep), (node_status, parameters), owner, stand_in in product(
        zip(PENDING, cycle(UPKEEPS), strict=False), node_statuses, (None, "a"), stand_ins
    ):
        nodes = (node(1, status=node_status, parameters=parameters), node(2, zone="eu-west-1b"))
        made = cluster(
            status=status,
            pending=pending,
            upkeep=upkeep,
            nodes=nodes if not engine.speaks_resp else nodes[:1],
            configuration_endpoint=end,
            replication_group_id=owner,
            **{"engine": engine, **stand_in},
        )
        result = {"CacheCluster": present.cache_cluster(CALL, made, nodes=True)}
        answer = shown("ModifyCacheCluster", result)["CacheCluster"]
        assert answer["CacheClusterStatus"] == status.value
        assert answer["Engine"] == engine.value
        assert answer["ARN"] == "arn:aws:elasticache:eu-west-1:000000000000:cluster:a-001"
        assert answer["CacheParameterGroup"]["ParameterApplyStatus"] == parameters.value
        for found in answer["CacheNodes"]:
            assert found["CacheNodeCreateTime"].timestamp() == MOMENT
            assert found["ParameterGroupStatus"]
            assert found["CustomerAvailabilityZone"]
            assert ("Endpoint" in found) == (status not in (Status.CREATING, Status.CREATE_FAILED))


def test_what_waits_is_shown() -> None:
    def waiting(engine: Engine, pending: Pending) -> Any:
        made = cluster(engine, pending=pending, nodes=(node(1), node(2)) if engine is Engine.MEMCACHED else (node(1),))
        result = {"CacheClusters": [present.cache_cluster(CALL, made, nodes=False)]}
        return shown("DescribeCacheClusters", result)["CacheClusters"][0]["PendingModifiedValues"]

    assert waiting(Engine.VALKEY, Pending()) == {}
    assert waiting(Engine.VALKEY, PENDING[1]) == {"CacheNodeType": "cache.t4g.small"}
    assert waiting(Engine.MEMCACHED, PENDING[2]) == {"NumCacheNodes": 4}
    assert waiting(Engine.MEMCACHED, PENDING[3]) == {"NumCacheNodes": 1, "CacheNodeIdsToRemove": ["0001"]}


GROUP_STATUSES = [s for s in Status if s is not Status.REBOOTING]


@pytest.mark.parametrize("status", GROUP_STATUSES)
def test_every_state_of_a_group(status: Status) -> None:
    variants: list[tuple[dict[str, Any], bool]] = [
        (SUBSTITUTES[0], True),
        (SUBSTITUTES[1], False),
        ({"primary_endpoint": None, "reader_endpoint": None}, True),
    ]
    for pending, member_status, here, (different, failover) in product(PENDING, Status, (0, 1, 2), variants):
        made = group(
            status=status,
            pending=pending,
            automatic_failover=failover,
            multi_az=failover,
            **different,
        )
        names = made.member_ids[:here]
        members = {name: cluster(id=name, status=member_status, replication_group_id="a") for name in names}
        result = {"ReplicationGroup": present_group.replication_group(CALL, made, members)}
        answer = shown("DeleteReplicationGroup", result)["ReplicationGroup"]
        assert answer["Status"] == status.value
        assert answer["MemberClusters"] == list(names)
        assert answer["NodeGroups"][0]["Status"] in ("creating", "available", "modifying", "deleting")
        assert answer["ARN"] == "arn:aws:elasticache:eu-west-1:000000000000:replicationgroup:a"
        if status is Status.AVAILABLE and here:
            assert answer["NodeGroups"][0]["PrimaryEndpoint"]["Port"] == 6379
            assert answer["NodeGroups"][0]["ReaderEndpoint"]["Address"]
        failover_waits = pending.automatic_failover is not None
        assert ("AutomaticFailoverStatus" in answer["PendingModifiedValues"]) == failover_waits


@pytest.mark.parametrize("status", GROUP_STATUSES)
def test_every_state_of_a_group_with_cluster_mode(status: Status) -> None:
    """Two shards, one of which leaves or hands over, with and without an endpoint of the group's own."""
    marks: list[dict[str, Any]] = [{}, {"leaving": True, "slots": ()}, {"hand_over": HandOver(to="a-0002-002")}]
    changes: list[dict[str, Any]] = [{}, {"resharding": 12.5}, {"mode_before": ClusterMode.COMPATIBLE}]
    for mark, change, member_status, end in product(marks, changes, Status, (Address("127.64.0.7", 6379), None)):
        shards = (
            NodeGroup("0001", ("a-0001-001",), "a-0001-001", parse_slots("0-99,101-16383")),
            replace(NodeGroup("0002", ("a-0002-001", "a-0002-002"), "a-0002-001", parse_slots("100")), **mark),
        )
        made = group(
            status=status, node_groups=shards, cluster_mode=ClusterMode.ENABLED, configuration_endpoint=end, **change
        )
        made = replace(made, primary_endpoint=None, reader_endpoint=None)
        members = {n: cluster(id=n, status=member_status, replication_group_id="a") for n in made.member_ids}
        result = {"ReplicationGroup": present_group.replication_group(CALL, made, members)}
        answer = shown("TestFailover", result)["ReplicationGroup"]
        assert answer["ClusterEnabled"] is True
        assert answer["NodeGroups"][0]["Slots"] == "0-99,101-16383"
        assert ("Slots" in answer["NodeGroups"][1]) == (mark.get("slots") != ())
        assert {s["Status"] for s in answer["NodeGroups"]} <= {"creating", "available", "modifying", "deleting"}
        assert ("ConfigurationEndpoint" in answer) == (
            status not in (Status.CREATING, Status.CREATE_FAILED)
            and (end is not None or member_status not in (Status.CREATING, Status.DELETING))
        )
        waits = answer["PendingModifiedValues"]
        assert ("Resharding" in waits, "ClusterMode" in waits) == ("resharding" in change, "mode_before" in change)
        assert waits.get("PrimaryClusterId") == ("a-0002-002" if "hand_over" in mark else None)


def test_what_callers_wrote_comes_back_as_far_as_xml_can_carry_it() -> None:
    result = {"ReplicationGroups": [present_group.replication_group(CALL, group(), {})]}
    (answer,) = shown("DescribeReplicationGroups", result)["ReplicationGroups"]
    assert answer["Description"] == '<x> & "y" \ufffd é'


@pytest.mark.parametrize("family", sorted(families()))
def test_parameters_of_every_family(family: str) -> None:
    names = sorted(families()[family].parameters)
    given = ParameterGroup("eu-west-1", "own", family, "x", {names[0]: "é", names[-1]: ""})
    for source in (None, "user", "system"):
        result = present.parameters(given, families()[family], source, node_types())
        answer = shown("DescribeCacheParameters", {"Marker": None, **result})
        found = answer["Parameters"] + answer["CacheNodeTypeSpecificParameters"]
        assert len(found) == {None: len(names), "user": 2, "system": len(names) - 2}[source]
        assert all(p["DataType"] and p["Source"] and "IsModifiable" in p for p in found)


def test_the_other_resources() -> None:
    own = ParameterGroup("eu-west-1", "own", "valkey9", "x")
    answer = shown("CreateCacheParameterGroup", {"CacheParameterGroup": present.parameter_group(CALL, own)})
    assert answer["CacheParameterGroup"]["ARN"].endswith(":parametergroup:own")
    nets = SubnetGroup("eu-west-1", "nets", "x", tuple(f"subnet-{n}" for n in range(20)))
    answer = shown("CreateCacheSubnetGroup", {"CacheSubnetGroup": present.subnet_group(CALL, nets)})
    assert len(answer["CacheSubnetGroup"]["Subnets"]) == 20
    assert answer["CacheSubnetGroup"]["VpcId"]
    answer = shown("ListTagsForResource", {"TagList": present.tag_list({"b": "", "a": "1"})})
    assert answer["TagList"] == [{"Key": "a", "Value": "1"}, {"Key": "b", "Value": ""}]
