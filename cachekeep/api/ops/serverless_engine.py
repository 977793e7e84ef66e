"""ModifyServerlessCache, Engine and MajorEngineVersion: the group behind the cache changes as any group does."""

from __future__ import annotations

from dataclasses import replace

from cachekeep.api.context import Call, engine_named
from cachekeep.api.ops.engine_versions import asked_change, claim_second_instances
from cachekeep.api.ops.members import members_of
from cachekeep.domain.cache_cluster import CacheCluster, Pending, Status
from cachekeep.domain.engine import EngineVersion, with_tls
from cachekeep.domain.events import Event, SourceType
from cachekeep.domain.faults import Fault, invalid_combination, invalid_value
from cachekeep.domain.ports import Transaction
from cachekeep.domain.replication_group import ReplicationGroup
from cachekeep.domain.serverless import ServerlessCache
from cachekeep.domain.transit import Transit
from cachekeep.plan.transit import with_transit
from cachekeep.plan.upgrades import begin


def change_engine(call: Call, work: Transaction, cache: ServerlessCache) -> None:
    """Begin the change that the request asks for, if it asks for another engine or version than what runs.

    Raises InvalidParameterValue, InvalidParameterCombination, and the faults of a group that cannot change now.
    """
    if _is_same(call, cache):
        return
    group = work.get(ReplicationGroup, call.region, cache.backing_id)
    if group is None:
        raise invalid_combination(f"The engine and version of a {cache.engine.label} cache cannot be changed.")
    if group.status is not Status.AVAILABLE:
        text = f"Serverless cache {cache.name} is being scaled: change its engine once that is done."
        raise Fault("InvalidServerlessCacheStateFault", text)
    members = members_of(work, group)
    group, members = _without_tls_where_needed(call, work, cache, group, members)
    asked = {"Engine": call.text("Engine"), "EngineVersion": call.text("MajorEngineVersion")}
    change = asked_change(replace(call, params=asked), group, members)
    if change is None:
        return
    waiting = replace(group, pending=change.waiting(group.pending))
    waiters = claim_second_instances(call, work, waiting, members, at_once=True)
    begun = begin(waiting, waiters, call.services.clock.now())
    work.release(begun.released)
    work.replace(group, replace(begun.group, pending=Pending(), status=Status.MODIFYING))
    for old, new in zip(members, begun.members, strict=True):
        work.replace(old, new)


def _without_tls_where_needed(
    call: Call, work: Transaction, cache: ServerlessCache, group: ReplicationGroup, members: list[CacheCluster]
) -> tuple[ReplicationGroup, list[CacheCluster]]:
    """The group and its members on their way to plain TCP alone, where the engine to come has no TLS.

    Encryption that is preferred never stands in the way of an engine: it is what the one that was found could do.
    Raises InvalidParameterCombination where users guard the cache, whose passwords would be heard.
    """
    text = call.text("Engine")
    engine = group.engine if text is None else engine_named(text)
    version = call.text("MajorEngineVersion")
    wanted = None if version is None else EngineVersion.parse(version)
    installs = call.services.catalogue.installs()
    if group.transit is not Transit.PREFERRED or with_tls(installs, engine, wanted) is not None:
        return group, members
    if group.user_group_ids and not call.services.auth_without_tls:
        raise invalid_combination(
            f"Serverless cache {cache.name} is guarded by users, who need TLS, and no {engine.label} with TLS is here; "
            "the setting auth_without_tls lets them guard a cache that listens on this machine only."
        )
    told = f"Serverless cache {cache.name} speaks TLS no more: the {engine.label} of this machine was built without"
    now = call.services.clock.now()
    work.add_event(Event(now, cache.region, SourceType.SERVERLESS_CACHE, cache.name, told))
    plain, changed = with_transit(group, members, Transit.OFF)
    work.replace(group, plain)
    for old, new in zip(members, changed, strict=True):
        work.replace(old, new)
    return plain, list(changed)


def _is_same(call: Call, cache: ServerlessCache) -> bool:
    engine, version = call.text("Engine"), call.text("MajorEngineVersion")
    try:
        same = version is None or EngineVersion.parse(version).covers(cache.version)
    except ValueError:
        raise invalid_value(f"Invalid engine version {version!r:.40} for {cache.engine.value}.") from None
    return same and (engine is None or engine_named(engine) is cache.engine)
