"""A stage for every operation: one of each kind of resource, as they are once everything is carried out.

Not a test. Used by the conformance tests, which spoil the requests of happy_requests in every way that AWS's model
knows of. It is built once; what a test changes, it changes in a `scene`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from botocore.serialize import create_serializer
from desk import _MODEL, _PARSER, SERVICE, Catalogue, Desk, open_desk
from happy_requests import AWAY, BUCKET, GLOBAL, HOME, OFFERING, SOURCE, UPDATE

from cachekeep.api.context import Call, Services
from cachekeep.api.operations import OPERATIONS
from cachekeep.api.rehearsal import rehearsal_store
from cachekeep.api.service_updates import begin
from cachekeep.codec.query import decode_request
from cachekeep.codec.xml import encode_response
from cachekeep.domain.cache_cluster import CacheCluster, NodeStatus, Status
from cachekeep.domain.engine import Engine
from cachekeep.domain.faults import Fault
from cachekeep.domain.migration import Migration, MigrationPhase, Way
from cachekeep.domain.nodes import Address
from cachekeep.domain.prices import Price, PriceList, PriceModel
from cachekeep.domain.replication_group import ReplicationGroup
from cachekeep.domain.serverless import ServerlessCache, ServerlessStatus
from cachekeep.domain.snapshot import Snapshot, SnapshotStatus
from cachekeep.domain.users import UserGroup, UserStatus
from cachekeep.plan.placement import Machine
from cachekeep.store.sqlite import _KINDS
from cachekeep.upkeep.updates import UpdateKeeper, UpkeepWorld

MODEL = _MODEL
# What any operation may answer. Source: ElastiCache API reference, "Common Errors".
COMMON = frozenset({"InvalidParameterCombination", "InvalidParameterValue", "MissingParameter", "MalformedQueryString"})
_SERIALIZER = create_serializer("query", include_validation=False)
LARGE = "cache.m5.large"
LONGEST_MESSAGE = 1500


@dataclass(frozen=True)
class Stage:
    """names: what {offering} and {update} stand for."""

    services: Services
    names: Mapping[str, str]

    def fields(self, operation: str, params: Mapping[str, Any]) -> dict[str, str]:
        """What stock clients send."""
        body = _SERIALIZER.serialize_to_request(dict(params), MODEL.operation_model(operation))["body"]
        return {field: self.names.get(value, str(value)) for field, value in body.items()}

    def ask(self, operation: str, params: Mapping[str, Any], region: str = HOME) -> dict[str, Any]:
        return self.send(self.fields(operation, params), region)

    def send(self, fields: Mapping[str, str], region: str = HOME) -> dict[str, Any]:
        """The answer to exactly these fields, as botocore reads it. Raises Fault."""
        operation, params = decode_request(SERVICE, fields)
        result = OPERATIONS[operation.name].handler(Call(self.services, operation.name, region, params))
        body = encode_response(SERVICE, operation, result, "id")
        shape: Any = MODEL.operation_model(operation.name).output_shape
        return {} if shape is None else _PARSER.parse({"status_code": 200, "headers": {}, "body": body}, shape)

    def refusal(self, fields: Mapping[str, str], region: str = HOME) -> tuple[str, str]:
        """Code and message, ("", "") for an answer; a fault that the model does not declare, or a 5xx, is a bug."""
        try:
            self.send(fields, region)
        except Fault as refused:
            fault = refused
        else:
            return "", ""
        assert fault.code in {*SERVICE.operations[fields["Action"]].faults, *COMMON}, (fault, fields)
        assert 400 <= fault.status < 500, (fault, fields)
        assert len(fault.message) <= LONGEST_MESSAGE, (len(fault.message), fields)
        return fault.code, fault.message

    def everything(self) -> list[object]:
        return [resource for kind in _KINDS for resource in self.services.store.all(kind)]

    def put(self, kind: Any, name: str, region: str = HOME, **changes: Any) -> None:
        """Change what is stored, as control would."""
        with self.services.store.transaction() as work:
            old = work.get(kind, region, name)
            assert old is not None, (kind, name)
            work.replace(old, replace(old, **changes))

    @contextmanager
    def scene(self, **services: Any) -> Iterator[Stage]:
        """The same stage, and whatever is done there is undone at the end. services: others than its own."""
        with rehearsal_store(self.services.store) as store:
            yield Stage(replace(self.services, store=store, **services), self.names)


@contextmanager
def open_stage(folder: Path) -> Iterator[Stage]:
    """In an empty folder."""
    with open_desk(folder) as desk:
        _furnish(desk)
        stage = Stage(desk.services, {})
        _caches(desk, stage)
        _users(stage)
        _snapshots(desk, stage)
        _small_things(stage)
        _global_datastore(desk, stage)
        migration = Migration(Address(SOURCE[0]["Address"], 6379), MigrationPhase.FOLLOWING, desk.clock.now())
        stage.put(ReplicationGroup, "mig", status=Status.MIGRATING, migration=migration)
        copied = replace(migration, way=Way.CAPTURE)
        stage.put(ReplicationGroup, "serverless--scm", status=Status.MIGRATING, migration=copied)
        world = UpkeepWorld(desk.store, desk.catalogue, desk.clock, lambda u, r: begin(desk.services, u, r))
        UpdateKeeper(world).look()
        offers = stage.ask("DescribeReservedCacheNodesOfferings", {})["ReservedCacheNodesOfferings"]
        updates = stage.ask("DescribeServiceUpdates", {})["ServiceUpdates"]
        update = next(u for u in updates if u["Engine"] == "valkey")
        names = {OFFERING: offers[0]["ReservedCacheNodesOfferingId"], UPDATE: update["ServiceUpdateName"]}
        yield Stage(desk.services, names)


def _furnish(desk: Desk) -> None:
    """Beside what is stored. An older Valkey, so that one can be updated."""
    desk.catalogue.found.insert(1, Catalogue._install(Engine.VALKEY, 9, 0, 1))
    prices = PriceList([Price(LARGE, HOME, Engine.VALKEY, PriceModel.RESERVED_1_NONE, Decimal("0.1"), Decimal(0), "x")])
    desk.services = replace(
        desk.services,
        buckets={BUCKET: "/nowhere"},
        auth_without_tls=True,
        prices=lambda: prices,
        machine=Machine(1 << 40, 1.0),
    )


def _caches(desk: Desk, stage: Stage) -> None:
    failover = {"NumCacheClusters": 2, "AutomaticFailoverEnabled": True, "MultiAZEnabled": True, "CacheNodeType": LARGE}
    desk.create_group("g", **failover, Tags=[{"Key": "k", "Value": "v"}])
    desk.create_group("mig", **failover)
    desk.create_group("old", **failover, EngineVersion="9.0")
    desk.create_group("gc", NumNodeGroups=2, ReplicasPerNodeGroup=1, AutomaticFailoverEnabled=True)
    desk.create_cluster("c")
    desk.create_cluster("m", Engine="memcached", NumCacheNodes=2)
    for cache in ("sc", "scm"):
        stage.ask("CreateServerlessCache", {"ServerlessCacheName": cache, "Engine": "valkey"})
        desk.settle(f"serverless--{cache}")
        stage.put(ServerlessCache, cache, status=ServerlessStatus.AVAILABLE)


def _users(stage: Stage) -> None:
    for name, called in (("u", "u"), ("w", "w"), ("d", "default")):
        wish = {"UserId": name, "UserName": called, "Engine": "valkey", "AccessString": "on ~* +@all"}
        stage.ask("CreateUser", {**wish, "Passwords": ["a-password-of-20-char"]})
    stage.ask("CreateUserGroup", {"UserGroupId": "ug", "Engine": "valkey", "UserIds": ["u", "d"]})
    stage.put(UserGroup, "ug", status=UserStatus.ACTIVE)


def _snapshots(desk: Desk, stage: Stage) -> None:
    stage.ask("CreateSnapshot", {"SnapshotName": "sn", "ReplicationGroupId": "g"})
    stage.ask("CreateServerlessCacheSnapshot", {"ServerlessCacheSnapshotName": "ss", "ServerlessCacheName": "sc"})
    for kept in desk.store.all(Snapshot):
        shards = tuple(
            replace(s, lane=f"lane{s.id}", used_bytes=5 << 20, taken_at=desk.clock.now()) for s in kept.shards
        )
        done: dict[str, Any] = {
            "status": SnapshotStatus.AVAILABLE,
            "method": "psync",
            "rdb_version": 80,
            "generation": "g",
        }
        stage.put(Snapshot, kept.name, shards=shards, **done)
    desk.settle("g")
    desk.settle("serverless--sc")


def _small_things(stage: Stage) -> None:
    stage.ask(
        "CreateCacheParameterGroup",
        {"CacheParameterGroupName": "p", "CacheParameterGroupFamily": "valkey9", "Description": "x"},
    )
    subnets = {"CacheSubnetGroupName": "sub", "CacheSubnetGroupDescription": "x", "SubnetIds": ["subnet-1"]}
    stage.ask("CreateCacheSubnetGroup", subnets)
    stage.ask("CreateCacheSecurityGroup", {"CacheSecurityGroupName": "csg", "Description": "x"})
    ec2 = {"EC2SecurityGroupName": "default", "EC2SecurityGroupOwnerId": "123456789012"}
    stage.ask("AuthorizeCacheSecurityGroupIngress", {"CacheSecurityGroupName": "csg", **ec2})
    offers = stage.ask("DescribeReservedCacheNodesOfferings", {})["ReservedCacheNodesOfferings"]
    offer = offers[0]["ReservedCacheNodesOfferingId"]
    wish = {"ReservedCacheNodesOfferingId": offer, "ReservedCacheNodeId": "r"}
    stage.ask("PurchaseReservedCacheNodesOffering", wish)


def _global_datastore(desk: Desk, stage: Stage) -> None:
    for suffix, primary in (("shop", "gp"), ("lone", "gl")):
        desk.create_group(primary, CacheNodeType=LARGE)
        wish = {"GlobalReplicationGroupIdSuffix": suffix, "PrimaryReplicationGroupId": primary}
        stage.ask("CreateGlobalReplicationGroup", wish)
    desk.create_group("gw", CacheNodeType=LARGE, NumNodeGroups=2, ReplicasPerNodeGroup=1, AutomaticFailoverEnabled=True)
    wide = {"GlobalReplicationGroupIdSuffix": "wide", "PrimaryReplicationGroupId": "gw"}
    stage.ask("CreateGlobalReplicationGroup", wide)
    second = {"ReplicationGroupId": "gs", "ReplicationGroupDescription": "x", "GlobalReplicationGroupId": GLOBAL}
    stage.ask("CreateReplicationGroup", second, AWAY)
    stage.put(ReplicationGroup, "gs", AWAY, status=Status.AVAILABLE)
    for member in desk.store.all(CacheCluster, AWAY):
        nodes = tuple(replace(node, status=NodeStatus.AVAILABLE, process="1:1") for node in member.nodes)
        stage.put(CacheCluster, member.id, AWAY, status=Status.AVAILABLE, nodes=nodes)
