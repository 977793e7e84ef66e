"""Create, Describe, Modify and Delete ServerlessCache: stored as wanted, with the group or cluster that runs it.

What it holds at most and over how many shards follows its use: that is the scaler's (cachekeep.serverless), which also
says when a cache is available or gone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

from cachekeep.api import begin_serverless, capacity, choose, transit
from cachekeep.api.begin_serverless import FirstShard
from cachekeep.api.context import Call, engine_named, pick_addresses
from cachekeep.api.entry import Entry, Truth
from cachekeep.api.ops.create_group import with_endpoints
from cachekeep.api.ops.members import insert_members, leaving, member_name, members_of
from cachekeep.api.ops.serverless_engine import change_engine
from cachekeep.api.ops.serverless_found import find_cache, wrong_state
from cachekeep.api.ops.serverless_guard import asked_group, change_guard, guarded
from cachekeep.api.ops.serverless_limits import choose_limits, choose_snapshots, refuse_not_yet
from cachekeep.api.ops.serverless_snapshots import final_snapshot, require_no_snapshot
from cachekeep.api.paging import page_by_token
from cachekeep.api.present import Shape
from cachekeep.api.present_serverless import serverless_cache
from cachekeep.domain.cache_cluster import CacheCluster, CacheNode, Status, Upkeep
from cachekeep.domain.events import Event, SourceType
from cachekeep.domain.faults import Fault, invalid_combination
from cachekeep.domain.ids import resource_id
from cachekeep.domain.ports import Transaction
from cachekeep.domain.replication_group import ClusterMode, NodeGroup, ReplicationGroup
from cachekeep.domain.serverless import GB, ServerlessCache, ServerlessStatus
from cachekeep.domain.transit import Transit
from cachekeep.plan import windows
from cachekeep.plan.placement import spread

LONGEST_NAME = 40
MOST_CACHES = 40
"""Of one region. Source: ElastiCache guide, "Quotas"."""
# Threads, connections (65000, as AWS has) and replica buffers of a node; its memory is the cache's own.
NODE_TYPE = "cache.r7g.large"
# One primary and one replica.
MEMBERS = 2
# What Memcached may hold where no maximum says more: its memory cannot follow use without a restart.
_MEMCACHED_BYTES = 4 * GB


def create_serverless_cache(call: Call) -> Shape:
    """The cache as `CREATING`, and what runs it: one shard with a replica, or one Memcached node."""
    name = resource_id("ServerlessCacheName", call.params["ServerlessCacheName"], LONGEST_NAME)
    if call.services.store.get(ServerlessCache, call.region, name) is not None:
        raise Fault("ServerlessCacheAlreadyExistsFault", f"Serverless cache {name} already exists.")
    refuse_not_yet(call)
    engine = engine_named(call.params["Engine"])
    begins = begin_serverless.asked(call, engine)
    call = begins.call
    asked = transit.of_serverless(call, engine)
    choice = choose.choose_engine(call, engine, call.text("MajorEngineVersion"), tls=asked is Transit.REQUIRED)
    encrypted = transit.as_found(call, choice.engine, choice.version) if asked is None else asked
    cache = _asked_cache(call, name, choice)
    mode = ClusterMode.ENABLED if engine.speaks_resp else ClusterMode.DISABLED
    choose.check_cluster_mode(call, choice, mode, engine.default_port)
    parameters = choose.choose_parameter_group(call, choice, mode)
    shards = begin_serverless.first_shards(begins, cache, call.services.scaling)
    backing: ReplicationGroup | CacheCluster = _cluster(cache, parameters.name, encrypted)
    if engine.speaks_resp:
        restore = begins.restore(choice, parameters, None, [shard.place for shard in shards])
        group = _group(cache, parameters.name, choice, encrypted)
        backing = replace(guarded(call, group), restore=restore)
    with _declared(), call.services.store.transaction() as work:
        if len(work.all(ServerlessCache, call.region)) >= MOST_CACHES:
            text = f"There can be at most {MOST_CACHES} serverless caches in a region."
            raise Fault("ServerlessCacheQuotaForCustomerExceededFault", text)
        if isinstance(backing, ReplicationGroup):
            _insert_group(call, work, backing, shards)
        else:
            _insert_cluster(call, work, cache, backing)
        begins.mark(work)
        work.insert(cache)
        plain = "" if encrypted.encrypted else ", without TLS"
        work.add_event(_event(call, cache, f"Serverless cache {name} is being created{plain}"))
        return {"ServerlessCache": serverless_cache(call, work, cache)}


def _asked_cache(call: Call, name: str, choice: choose.EngineChoice) -> ServerlessCache:
    """Raises InvalidParameterValue, InvalidParameterCombination, TagQuotaPerResourceExceeded."""
    retention, daily = choose_snapshots(call, choice.engine)
    return ServerlessCache(
        region=call.region,
        name=name,
        engine=choice.engine,
        version=choice.version,
        created_at=call.services.clock.now(),
        description=call.text("Description") or " ",
        limits=choose_limits(call),
        kms_key_id=call.text("KmsKeyId"),
        security_group_ids=call.texts("SecurityGroupIds"),
        subnet_ids=call.texts("SubnetIds"),
        user_group_id=asked_group(call, choice.engine),
        snapshot_retention_days=retention,
        daily_snapshot_time=daily,
        tags=choose.choose_tags(call),
    )


def describe_serverless_caches(call: Call) -> Shape:
    store, wanted = call.services.store, call.text("ServerlessCacheName")
    there = store.all(ServerlessCache, call.region) if wanted is None else [find_cache(call, wanted)]
    caches, token = page_by_token(call, there, lambda c: c.name)
    return {"NextToken": token, "ServerlessCaches": [serverless_cache(call, store, c) for c in caches]}


def modify_serverless_cache(call: Call) -> Shape:
    """`MODIFYING` until its nodes have the memory that the new limits ask for."""
    cache = find_cache(call, call.params["ServerlessCacheName"])
    refuse_not_yet(call)
    if cache.status is not ServerlessStatus.AVAILABLE:
        raise wrong_state(cache, "modified")
    limits = choose_limits(call, cache.limits)
    if not cache.engine.speaks_resp and limits.storage_most_gb != cache.limits.storage_most_gb:
        raise invalid_combination(
            "The data storage of a Memcached cache cannot change: its engine would lose what it holds."
        )
    retention, daily = choose_snapshots(call, cache.engine, cache)
    user_group = asked_group(call, cache.engine)
    description = call.text("Description")
    new = replace(
        cache,
        status=ServerlessStatus.MODIFYING,
        description=cache.description if description is None else description,
        limits=limits,
        security_group_ids=call.texts("SecurityGroupIds") or cache.security_group_ids,
        user_group_id=user_group or (None if call.flag("RemoveUserGroup") else cache.user_group_id),
        snapshot_retention_days=retention,
        daily_snapshot_time=daily,
        trouble="",
    )
    with _declared(), call.services.store.transaction() as work:
        change_guard(call, work, cache)
        change_engine(call, work, cache)
        _apply_upkeep(work, new)
        work.replace(cache, new)
        return {"ServerlessCache": serverless_cache(call, work, new)}


def delete_serverless_cache(call: Call) -> Shape:
    """Possible whatever is being done with the cache, but for a snapshot of it: what else is under way is given up.

    With FinalSnapshotName it serves until that is available, and stays when it fails.
    """
    cache = find_cache(call, call.params["ServerlessCacheName"])
    refuse_not_yet(call)
    if cache.status is ServerlessStatus.DELETING:
        raise wrong_state(cache, "deleted")
    new = replace(cache, status=ServerlessStatus.DELETING)
    with call.services.store.transaction() as work:
        group = work.get(ReplicationGroup, call.region, cache.backing_id)
        cluster = work.get(CacheCluster, call.region, cache.backing_id)
        require_no_snapshot(cache, group)
        if call.text("FinalSnapshotName") is not None:
            final_snapshot(call, work, cache, group)
            work.replace(cache, new)
            return {"ServerlessCache": serverless_cache(call, work, new)}
        if group is not None:
            shards = tuple(replace(shard, hand_over=None) for shard in group.node_groups)
            work.replace(group, replace(group, status=Status.DELETING, node_groups=shards))
        for member in [cluster] if cluster is not None else members_of(work, group) if group is not None else []:
            work.replace(member, leaving(member))
        work.replace(cache, new)
        return {"ServerlessCache": serverless_cache(call, work, new)}


def _group(
    cache: ServerlessCache, parameters: str, choice: choose.EngineChoice, encrypted: Transit
) -> ReplicationGroup:
    return ReplicationGroup(
        region=cache.region,
        id=cache.backing_id,
        description=f"runs the serverless cache {cache.name}",
        engine=cache.engine,
        version=cache.version,
        node_type=NODE_TYPE,
        port=cache.engine.default_port,
        parameter_group=parameters,
        subnet_group="default",
        upkeep=_upkeep(cache),
        created_at=cache.created_at,
        node_groups=(),
        automatic_failover=True,
        multi_az=True,
        tags=cache.tags,
        substitute=choice.substitute,
        substitute_version=choice.substitute_version,
        cluster_mode=ClusterMode.ENABLED,
        transit=encrypted,
        transit_moves=encrypted is Transit.PREFERRED,
        serverless=cache.name,
    )


def _insert_group(call: Call, work: Transaction, group: ReplicationGroup, shards: Sequence[FirstShard]) -> None:
    _check_memory(call, sum(shard.memory_bytes for shard in shards) * MEMBERS)
    group = with_endpoints(call, work, group)
    if call.services.pool.movable:
        (reader,) = pick_addresses(call, work, group.port, 1)
        work.claim(group.id, [reader])
        group = replace(group, reader_endpoint=reader)
    zones = spread(call.region, MEMBERS, (), several=True)
    for shard in shards:
        names = tuple(member_name(group, shard.id, number + 1) for number in range(MEMBERS))
        group = replace(group, node_groups=(*group.node_groups, NodeGroup(shard.id, names, names[0], shard.slots)))
        for member in insert_members(call, work, group, list(zip(names, zones, strict=True))):
            work.replace(member, replace(member, memory_bytes=shard.memory_bytes))
    work.insert(group)


def _cluster(cache: ServerlessCache, parameters: str, encrypted: Transit) -> CacheCluster:
    return CacheCluster(
        region=cache.region,
        id=cache.backing_id,
        engine=cache.engine,
        version=cache.version,
        node_type=NODE_TYPE,
        port=cache.engine.default_port,
        parameter_group=parameters,
        subnet_group="default",
        upkeep=_upkeep(cache),
        created_at=cache.created_at,
        nodes=(),
        tags=cache.tags,
        transit=encrypted,
        serverless=cache.name,
        memory_bytes=max(cache.least_bytes, cache.most_bytes or _MEMCACHED_BYTES),
    )


def _insert_cluster(call: Call, work: Transaction, cache: ServerlessCache, cluster: CacheCluster) -> None:
    _check_memory(call, cluster.memory_bytes or 0)
    addresses = pick_addresses(call, work, cluster.port, 1)
    work.claim(cluster.id, addresses)
    zone = spread(call.region, 1, (), several=False)[0]
    work.insert(replace(cluster, nodes=(CacheNode("0001", addresses[0], zone, cache.created_at),)))


def _upkeep(cache: ServerlessCache) -> Upkeep:
    """Nothing waits for a maintenance window: a serverless cache has none. Snapshots are taken as of any group."""
    return Upkeep(
        maintenance_window=windows.default_maintenance_window(cache.region, cache.name),
        snapshot_window=windows.daily_window(cache.region, cache.name, cache.daily_snapshot_time),
        snapshot_retention=cache.snapshot_retention_days,
    )


def _apply_upkeep(work: Transaction, cache: ServerlessCache) -> None:
    group = work.get(ReplicationGroup, cache.region, cache.backing_id)
    if group is not None and group.upkeep != _upkeep(cache):
        work.replace(group, replace(group, upkeep=_upkeep(cache)))


def _check_memory(call: Call, more_bytes: int) -> None:
    """Raises InvalidParameterCombination: the model has no fault for a machine that is full."""
    if not capacity.could_promise(call, more_bytes):
        raise invalid_combination(
            f"This machine cannot promise another {more_bytes / GB:.2f} GiB. Lower CacheUsageLimits, delete a cache, "
            "or raise the overcommit setting."
        )


@contextmanager
def _declared() -> Iterator[None]:
    """Faults of the group behind it that these operations do not have become those that they have."""
    try:
        yield
    except Fault as fault:
        match fault.code:
            case "InsufficientCacheClusterCapacity":
                raise invalid_combination(fault.message) from fault
            case "InvalidReplicationGroupState":
                raise Fault("InvalidServerlessCacheStateFault", fault.message) from fault
        raise


def _event(call: Call, cache: ServerlessCache, text: str) -> Event:
    return Event(call.services.clock.now(), cache.region, SourceType.SERVERLESS_CACHE, cache.name, text)


_PROOF = "tests/scenarios/test_serverless.py::"
OPERATIONS: Mapping[str, Entry] = {
    "CreateServerlessCache": Entry(
        create_serverless_cache,
        Truth.REAL,
        _PROOF + "test_a_serverless_cache_serves_plain_and_cluster_clients",
        "Valkey and Redis as one shard with a replica that grows by itself, Memcached as one node. Storage limits are "
        "real; ECPU limits are measured and told, never throttled. KmsKeyId, subnets and security groups are recorded; "
        "TLS shares the port with plain TCP where the engine has it (setting serverless_tls); without, user groups "
        "need the setting auth_without_tls. Public connections and integrations are refused. Daily snapshots, "
        "and one snapshot or RDB file to begin with, are real.",
    ),
    "DeleteServerlessCache": Entry(
        delete_serverless_cache,
        Truth.REAL,
        _PROOF + "test_delete_leaves_no_process_and_no_folder",
        "A final snapshot is real, and the cache stays when it fails. Refused while a snapshot is being taken.",
    ),
    "DescribeServerlessCaches": Entry(
        describe_serverless_caches,
        Truth.REAL,
        _PROOF + "test_a_serverless_cache_serves_plain_and_cluster_clients",
        "ReaderEndpoint has an address of its own (AWS: another port of the same host).",
    ),
    "ModifyServerlessCache": Entry(
        modify_serverless_cache,
        Truth.REAL,
        _PROOF + "test_limits_are_changed_without_a_restart",
        "Storage limits, engine, version and user group of Valkey and Redis are real; ECPU limits are told, never "
        "throttled; description and security groups are recorded. Daily snapshots are real.",
    ),
}
