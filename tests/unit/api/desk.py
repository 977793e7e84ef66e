"""A desk at which requests are answered without any engine: a real store, and a machine that is made up.

Nothing carries out what is stored; `settle` stands for control and writes down what it would have seen.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from botocore.loaders import Loader
from botocore.model import ServiceModel
from botocore.parsers import create_parser

from cachekeep.api.context import Call, Services
from cachekeep.api.operations import OPERATIONS
from cachekeep.app import catalog
from cachekeep.codec.aws_model import load_service
from cachekeep.codec.xml import encode_response
from cachekeep.domain.cache_cluster import CacheCluster, NodeStatus, Spare, Status
from cachekeep.domain.engine import Engine, EngineInstall, EngineVersion
from cachekeep.domain.faults import Fault
from cachekeep.domain.nodes import Address, NodeFacts, NodeKey, ObservedNode, Process
from cachekeep.domain.replication_group import ReplicationGroup
from cachekeep.plan.placement import Machine
from cachekeep.store.sqlite import SqliteStore

REGION = "eu-west-1"
SERVICE = load_service("elasticache")
_MODEL = ServiceModel(Loader().load_service_model("elasticache", "service-2", api_version="2015-02-02"))
_PARSER = create_parser("query")
# What every operation may answer. Source: ElastiCache API reference, "Common Errors".
_COMMON = {"InvalidParameterCombination", "InvalidParameterValue"}


class Clock:
    def __init__(self) -> None:
        self.time = 1_790_000_000.0

    def now(self) -> float:
        return self.time


class Pool:
    """Addresses without an end."""

    def __init__(self) -> None:
        self.movable = True

    def pick(self, port: int, count: int, taken: Collection[Address], after: Address | None) -> list[Address]:
        hosts = (str(IPv4Address("127.64.0.1") + n) for n in range(65_000))
        free = (Address(host, port) for host in hosts if Address(host, port) not in taken)
        return [next(free) for _ in range(count)]


class Catalogue:
    """Engines of a machine that is made up, newest first."""

    def __init__(self) -> None:
        self.found = [
            self._install(Engine.VALKEY, 9, 1, 2),
            self._install(Engine.VALKEY, 8, 1, 8),
            self._install(Engine.REDIS, 7, 0, 15),
            self._install(Engine.REDIS, 6, 2, 5),
            self._install(Engine.MEMCACHED, 1, 6, 40),
            self._install(Engine.MEMCACHED, 1, 6, 18),
        ]

    @staticmethod
    def _install(engine: Engine, *numbers: int) -> EngineInstall:
        return EngineInstall(engine, EngineVersion(numbers), "/bin/engine", "made up", cluster=engine.speaks_resp)

    def installs(self) -> list[EngineInstall]:
        return self.found

    def best(self, engine: Engine, wanted: EngineVersion | None) -> EngineInstall | None:
        fitting = (i for i in self.found if i.engine is engine and (wanted is None or wanted.covers(i.version)))
        return next(fitting, None)


@dataclass
class Desk:
    services: Services
    store: SqliteStore
    clock: Clock
    pool: Pool
    catalogue: Catalogue
    seen: dict[NodeKey, ObservedNode]

    def ask(self, operation: str, **params: Any) -> dict[str, Any]:
        """What a client reads of the answer: encoded as the service does, parsed as botocore does."""
        call = Call(self.services, operation, REGION, params)
        body = encode_response(SERVICE, SERVICE.operations[operation], OPERATIONS[operation].handler(call), "id")
        shape: Any = _MODEL.operation_model(operation).output_shape
        return dict(_PARSER.parse({"status_code": 200, "headers": {}, "body": body}, shape))

    def ask_group(self, operation: str, name: str = "g", **params: Any) -> dict[str, Any]:
        return dict(self.ask(operation, ReplicationGroupId=name, **params)["ReplicationGroup"])

    def refused(self, operation: str, **params: Any) -> tuple[str, str]:
        """Code and message of a refusal, which AWS must declare, and after which nothing is different."""
        before = self.everything()
        with pytest.raises(Fault) as caught:
            self.ask(operation, **params)
        assert caught.value.code in {*SERVICE.operations[operation].faults, *_COMMON}, caught.value
        assert self.everything() == before
        return caught.value.code, caught.value.message

    def everything(self) -> tuple[object, ...]:
        with self.store.transaction() as work:
            taken = work.addresses()
        groups, clusters = self.store.all(ReplicationGroup), self.store.all(CacheCluster)
        events = self.store.events(REGION, since=0, until=2e9, source_type=None, source_id=None)
        return groups, clusters, taken, events

    def create_group(self, name: str = "g", **params: Any) -> ReplicationGroup:
        """A group that is available."""
        self.ask_group("CreateReplicationGroup", name, ReplicationGroupDescription="x", **params)
        return self.settle(name)

    def create_cluster(self, name: str = "c", **params: Any) -> CacheCluster:
        self.ask("CreateCacheCluster", CacheClusterId=name, **{"Engine": "valkey", **params})
        with self.store.transaction() as work:
            cluster = self.cluster(name)
            work.replace(cluster, _settled(cluster))
        return self.cluster(name)

    def group(self, name: str = "g") -> ReplicationGroup:
        group = self.store.get(ReplicationGroup, REGION, name)
        assert group is not None
        return group

    def cluster(self, name: str) -> CacheCluster:
        cluster = self.store.get(CacheCluster, REGION, name)
        assert cluster is not None
        return cluster

    def settle(self, name: str = "g", **changes: Any) -> ReplicationGroup:
        """Everything asked for is there: `available`, those on their way out gone; changes: of the group, beside."""
        with self.store.transaction() as work:
            old = group = self.group(name)
            for member in [self.cluster(m) for m in group.member_ids]:
                shard = group.shard_of(member.id)
                assert shard is not None
                if shard.leaving or member.status is Status.DELETING:
                    work.delete(member)
                    group = group.with_shard(
                        replace(shard, member_ids=tuple(m for m in shard.member_ids if m != member.id))
                    )
                else:
                    work.replace(member, _settled(member))
            shards = tuple(replace(s, hand_over=None) for s in group.node_groups if not s.leaving)
            plain = {"status": Status.AVAILABLE, "mode_before": None, "resharding": None, "node_groups": shards}
            work.replace(old, replace(group, **{**plain, **changes}))
        return self.group(name)

    def upgraded(self, name: str = "g") -> ReplicationGroup:
        """The change of engine is done: the coming instances are the nodes, the former ones stay for a rollback."""
        group = self.group(name)
        change = group.engine_change
        assert change is not None
        with self.store.transaction() as work:
            for member in [self.cluster(m) for m in group.member_ids]:
                assert member.spare is not None
                former = Spare(member.nodes[0], member.engine, member.version, member.parameter_group, former=True)
                new = replace(
                    member,
                    engine=change.engine,
                    version=change.version,
                    parameter_group=change.parameter_group,
                    nodes=(replace(member.spare.node, published=member.nodes[0].address),),
                    spare=former,
                )
                work.replace(member, new)
        return self.settle(
            name,
            engine=change.engine,
            version=change.version,
            parameter_group=change.parameter_group,
            engine_change=replace(change, done_at=self.clock.now()),
        )

    def see(self, member: str, **facts: Any) -> None:
        """The next looks at this node tell these facts."""
        cluster = self.cluster(member)
        key = cluster.key(cluster.nodes[0])
        self.seen[key] = ObservedNode(Process(1, "1"), NodeFacts(str(cluster.version), **facts), folder=True)

    def events(self, name: str = "g") -> list[str]:
        found = self.store.events(REGION, since=0, until=2e9, source_type=None, source_id=name)
        return [event.message for event in found]

    def free(self, address: Address) -> bool:
        with self.store.transaction() as work:
            return address not in work.addresses()


def _settled(cluster: CacheCluster) -> CacheCluster:
    nodes = tuple(replace(n, status=NodeStatus.AVAILABLE, process="1:1", reboot_from=None) for n in cluster.nodes)
    return replace(cluster, status=Status.AVAILABLE, nodes=nodes)


@contextmanager
def open_desk(folder: Path) -> Iterator[Desk]:
    store, clock, pool, catalogue = SqliteStore(folder / "store.sqlite"), Clock(), Pool(), Catalogue()
    seen: dict[NodeKey, ObservedNode] = {}
    services = Services(
        store=store,
        pool=pool,
        catalogue=catalogue,
        clock=clock,
        catalog=catalog(),
        machine=Machine(64 << 30, 1.0),
        account_id="000000000000",
        seen=lambda: seen,
    )
    try:
        yield Desk(services, store, clock, pool, catalogue, seen)
    finally:
        store.close()
